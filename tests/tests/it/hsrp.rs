//! HSRP with a speaker that is not ours: scapy talks to the machine on the other end of a cable, and tshark reads what
//! was said.

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use csm_tests::link;
use csm_tests::netns::{LabId, Netns, run};
use csm_tests::programs::Programs;
use csm_tests::wait;
use csm_user::hsrp::machine::{Learns, Params};
use csm_user::hsrp::task::{GroupOptions, HsrpHandle, Wish, spawn};
use csm_user::hsrp::wire::{AUTHENTICATION, State, Version};
use serde_json::Value;

use crate::out;

const LIMIT: Duration = Duration::from_secs(20);
const PACE: Duration = Duration::from_millis(20);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 6, 0, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 6, 0, 1);

/// A router made of scapy: one command a line, each answered by a line.
const SCAPY: &str = r#"
import os, random, struct, sys, threading, time, warnings, logging
logging.getLogger("scapy").setLevel(logging.ERROR)
warnings.simplefilter("ignore")
from scapy.all import AsyncSniffer, Ether, IP, Raw, UDP, conf, fuzz, sendp, wrpcap
from scapy.layers.hsrp import HSRP

frame = Ether(dst="01:00:5e:00:00:02") / IP(src="10.6.0.3", dst="224.0.0.2", ttl=1) / UDP(sport=1985, dport=1985)
socket = conf.L2socket(iface="eth0")
heard = []
sniffer = AsyncSniffer(iface="eth0", prn=heard.append, lfilter=lambda p: IP in p and p[IP].src == "10.6.0.2" and UDP in p)
hello = None

def message(op, state, priority):
    return frame / HSRP(opcode=op, state=state, hellotime=1, holdtime=3, priority=priority, group=1, virtualIP="10.6.0.1")

def keep_saying():
    while True:
        if hello is not None:
            socket.send(hello)
        time.sleep(0.2)

def noise():
    """Nothing of this may change anything: broken headers of both versions, and good ones of others."""
    v1 = bytes(HSRP(opcode=1, state=16, hellotime=1, holdtime=3, priority=255, group=1, virtualIP="10.6.0.1"))
    state = struct.pack("!BBBBBBH6sIII16s", 1, 40, 2, 1, 6, 4, 1, b"\2\0\0\0\0\3", 255, 1000, 3000, bytes([10, 6, 0, 1]))
    v2 = state + b"\3\10cisco\0\0\0"
    wide = Ether(dst="01:00:5e:00:00:66") / IP(src="10.6.0.3", dst="224.0.0.102", ttl=255) / UDP(sport=1985, dport=1985)
    payloads = []
    for good in (v1, v2):
        payloads += [good[:length] for length in range(len(good)) if good is v1 or length < 42]
    for byte in range(256):
        payloads.append(bytes([byte if byte else 3]) + v1[1:])
        payloads.append(v1[:1] + bytes([byte if byte > 2 else 3]) + v1[2:])
        payloads.append(v1[:2] + bytes([byte if byte not in (0, 1, 2, 4, 8, 16) else 3]) + v1[3:])
    # Another group, text, address; no time at all; a hold time not above the hello time; version 2 where 1 is spoken.
    payloads += [v1[:6] + b"\2" + v1[7:], v1[:8] + b"another!" + v1[16:], v1[:16] + bytes([10, 6, 0, 9])]
    payloads += [v1[:3] + b"\0\3" + v1[5:], v1[:3] + b"\3\3" + v1[5:], v2, v2[:3] + b"\7" + v2[4:]]
    payloads += [os.urandom(random.randrange(1, 64)) for _ in range(300)]
    for payload in payloads:
        for packet in (frame, wide):
            socket.send(packet / Raw(payload))
        # The same from other ports, and cut short below IP's own length.
        socket.send(Ether(bytes(frame / Raw(payload))[:random.randrange(14, 42)]))
    return len(payloads)

sniffer.start()
threading.Thread(target=keep_saying, daemon=True).start()
for line in sys.stdin:
    words = line.split()
    answer = "done"
    if words[0] == "hello":
        hello = message(0, int(words[1]), int(words[2]))
    elif words[0] == "silence":
        hello = None
    elif words[0] == "say":
        socket.send(message(int(words[1]), int(words[2]), int(words[3])))
    elif words[0] == "fuzz":
        for _ in range(int(words[1])):
            # Any fields, but a text that is not the group's; then any bytes.
            socket.send(frame / fuzz(HSRP(auth=b"foreign!")))
            socket.send(frame / fuzz(Raw()))
    elif words[0] == "noise":
        answer = str(noise())
    elif words[0] == "heard":
        said = [(p[HSRP].opcode, p[HSRP].state, p[HSRP].priority, p[HSRP].group, p[HSRP].virtualIP, p[HSRP].auth.rstrip(b"\0").decode(), p[IP].ttl)
                for p in heard if HSRP in p and p[IP].dst == "224.0.0.2"]
        answer = " ".join(sorted({",".join(map(str, one)) for one in said}))
    elif words[0] == "save":
        sniffer.stop()
        wrpcap(words[1], heard)
    print(answer, flush=True)
"#;

/// A cable with a namespace on either end.
struct Cable {
    ours: Netns,
    talk: Talk,
    runtime: tokio::runtime::Runtime,
    directory: PathBuf,
    // Last: what runs inside ends before it.
    _theirs: Netns,
}

/// The router made of scapy.
struct Talk {
    scapy: Child,
    answers: BufReader<ChildStdout>,
}

impl Talk {
    fn say(&mut self, command: &str) -> String {
        let input = self.scapy.stdin.as_mut().expect("its input");
        writeln!(input, "{command}").expect("a command");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("an answer");
        answer.trim_end().to_owned()
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ended = self.scapy.kill();
        let _reaped = self.scapy.wait();
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.directory);
    }
}

impl Cable {
    fn new(test: &str) -> Self {
        let lab = LabId::unique();
        let [ours, theirs] = ["ours", "theirs"].map(|role| {
            let netns = Netns::create(&lab, role).expect("a namespace");
            for scope in ["all", "default"] {
                netns.sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "1").expect("sysctl");
            }
            netns
        });
        ours.ip(&[
            format!("link add name eth0 type veth peer name eth0 netns {}", theirs.name()),
            format!("addr add {OWN}/16 dev eth0"),
            "link set dev eth0 up".to_owned(),
        ])
        .expect("a cable");
        theirs.ip(&["link set dev eth0 up".to_owned()]).expect("up");
        link::offloads(&ours, &["eth0".to_owned()], false).expect("offloads");
        let directory = out(test);
        std::fs::create_dir_all(&directory).expect("a directory");
        // Debian's own interpreter has Debian's scapy.
        let mut command = theirs.command("/usr/bin/python3").expect("python");
        command.args(["-c", SCAPY]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut scapy = command.spawn().expect("scapy starts");
        let answers = BufReader::new(scapy.stdout.take().expect("its output"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        Self { ours, talk: Talk { scapy, answers }, runtime, directory, _theirs: theirs }
    }

    fn scapy(&mut self, command: &str) -> String {
        self.talk.say(command)
    }

    /// Our machine as a router of `group`.
    fn speak(&self, version: Version, group: u16) -> HsrpHandle {
        let start = || {
            let _context = self.runtime.enter();
            let wish = Wish { up: true, priority: 100 };
            let params = Params {
                group,
                version,
                own: OWN.into(),
                mac: [2, 0, 0, 0, 0, 2],
                address: Some(ADDRESS.into()),
                learns: Learns::default(),
                priority: 100,
                preempt: true,
                preempt_delay: Duration::ZERO,
                timers: Some((Duration::from_millis(200), Duration::from_millis(600))),
                authentication: AUTHENTICATION,
                listen_only: false,
            };
            let ifindex = nix::net::if_::if_nametoindex("eth0").expect("eth0");
            spawn(vec![GroupOptions { interface: "eth0".to_owned(), ifindex, params, port: None, wish }])
                .expect("a speaker")
        };
        self.ours.within(start).expect("a thread inside")
    }
}

fn wait_for(router: &HsrpHandle, state: State) {
    let came = wait::until(&format!("state {state}"), LIMIT, PACE, || {
        Ok((router.status()[0].state == state).then_some(()))
    });
    came.unwrap_or_else(|error| panic!("{error:#}: {:?}", router.status()));
}

fn tshark(words: &[&str]) -> String {
    let output = Command::new("tshark").args(words).output().expect("tshark");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn scapy_and_the_machine_elect_each_other_and_tshark_has_no_complaint() {
    let mut cable = Cable::new("hsrp-wire");
    assert_eq!(cable.scapy("hello 16 110"), "done");
    let router = cable.speak(Version::V1, 1);
    wait_for(&router, State::Standby);
    let active = router.status()[0].active.expect("scapy's router").router;
    assert_eq!((active.address, active.priority), (Ipv4Addr::new(10, 6, 0, 3).into(), 110));

    let before = router.status()[0].clone();
    assert_eq!(cable.scapy("fuzz 150"), "done");
    let seen = wait::until("the noise", LIMIT, PACE, || {
        let counts = router.status()[0].counts;
        Ok((counts.malformed >= 150).then_some(()))
    });
    seen.unwrap_or_else(|error| panic!("{error:#}: {:?}", router.status()));
    let after = router.status()[0].clone();
    assert_eq!((after.state, after.changes, after.address), (State::Standby, before.changes, before.address));

    cable.scapy("silence");
    cable.scapy("say 2 16 110");
    wait_for(&router, State::Active);
    cable.scapy("say 1 4 120");
    wait_for(&router, State::Speak);
    let heard = wait::until("a resignation", LIMIT, PACE, || {
        let heard = cable.scapy("heard");
        Ok(heard.contains("2,16,100").then_some(heard))
    });
    let heard = heard.expect("a resignation");
    let of_group = "100,1,10.6.0.1,cisco,1";
    for said in ["0,4", "0,8", "0,16", "2,16"] {
        assert!(heard.split(' ').any(|one| one == format!("{said},{of_group}")), "{said}: {heard}");
    }

    let second = cable.speak(Version::V2, 300);
    wait_for(&second, State::Active);
    cable.runtime.block_on(second.leave());
    let file = cable.directory.join("hsrp.pcap").display().to_string();
    cable.scapy(&format!("save {file}"));
    assert_eq!(tshark(&["-r", &file, "-Y", "udp.port == 1985 && (_ws.malformed || _ws.expert)"]), "");
    let of = |filter: &str, fields: &[&str]| {
        let fields = fields.iter().flat_map(|field| ["-e", field]);
        let words: Vec<_> = ["-r", &file, "-Y", filter, "-T", "fields"].into_iter().chain(fields).collect();
        let mut lines: Vec<_> = tshark(&words).lines().map(str::to_owned).collect();
        lines.sort();
        lines.dedup();
        lines
    };
    let v2 = of(
        "hsrp2.version",
        &[
            "hsrp2.state",
            "hsrp2.opcode",
            "hsrp2.group",
            "hsrp2.hellotime",
            "hsrp2.holdtime",
            "hsrp2.virt_ip",
            "ip.dst",
        ],
    );
    let rest = "300\t200\t600\t10.6.0.1\t224.0.0.102";
    // Alone it is standby for no time at all.
    for said in ["4\t0", "6\t0", "6\t2"] {
        assert!(v2.contains(&format!("{said}\t{rest}")), "{said}: {v2:?}");
    }
    let v1 = of("hsrp.version", &["hsrp.state", "hsrp.opcode", "hsrp.group", "hsrp.virt_ip"]);
    assert!(v1.contains(&"16\t0\t1\t10.6.0.1".to_owned()), "{v1:?}");
}

/// csmd as a router on the cable, with a module that has nothing to do with it.
struct Router<'a> {
    directory: &'a Path,
    programs: Programs,
    socket: PathBuf,
    child: Child,
}

impl<'a> Router<'a> {
    fn start(netns: &Netns, directory: &'a Path) -> Self {
        let lines =
            ["eth1", "eth2"].map(|name| format!("link add name {name} type veth peer name {name}-end"));
        let up = ["eth1", "eth2", "eth1-end", "eth2-end"].map(|name| format!("link set dev {name} up"));
        netns.ip(&lines).expect("ports");
        netns.ip(&up).expect("ports");
        let programs = Programs::beside_this_one().expect("csmd and csm");
        let [configuration, socket, log] =
            ["cfg", "sock", "log"].map(|suffix| directory.join(format!("router.{suffix}")));
        std::fs::write(&configuration, CONFIGURATION).expect("a file");
        let words = std::fs::File::create(&log).expect("a file");
        let mut command = netns.command(&programs.csmd.path).expect("csmd");
        command.args(&programs.csmd.leading).arg("--config").arg(&configuration).arg("--socket").arg(&socket);
        command.args(["--connections", "4096"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(words);
        let child = command.spawn().expect("csmd");
        Self { directory, programs, socket, child }
    }

    fn csm(&self, words: &str) -> anyhow::Result<String> {
        let mut command = Command::new(&self.programs.csm.path);
        command.args(&self.programs.csm.leading).arg("--socket").arg(&self.socket);
        run(command.args(words.split(' ')))
    }

    /// The group as `show standby` has it.
    fn group(&self) -> anyhow::Result<Value> {
        let mut groups: Value = serde_json::from_str(&self.csm("--json show standby")?)?;
        Ok(groups[0].take())
    }

    #[track_caller]
    fn wait_for(&self, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        let came = wait::until(what, LIMIT, PACE, || Ok(self.group().ok().filter(|group| good(group))));
        came.unwrap_or_else(|error| {
            let log = std::fs::read_to_string(self.directory.join("router.log")).unwrap_or_default();
            panic!("{error:#}: {:?}\n{log}", self.group())
        })
    }

    #[track_caller]
    fn wait_for_state(&self, state: &str) -> Value {
        self.wait_for(state, |group| group["state"] == state)
    }
}

impl Drop for Router<'_> {
    fn drop(&mut self) {
        let _gone = (self.child.kill(), self.child.wait());
        // What outlives a csmd that was killed.
        let mut withdraw = Command::new(&self.programs.csmd.path);
        withdraw.args(&self.programs.csmd.leading).arg("--withdraw").arg("--socket").arg(&self.socket);
        let _withdrawn = withdraw.status();
    }
}

const CONFIGURATION: &str = "interface eth0
 ip address 10.6.0.2 255.255.0.0
 standby 1 priority 100 preempt
 standby 1 timers 1 3
 standby 1 ip 10.6.0.1
interface eth1
 switchport access vlan 2
interface eth2
 switchport access vlan 3
module csm 5
 vlan 2 client
  ip address 192.158.38.10 255.255.255.0
 vlan 3 server
  ip address 192.158.39.10 255.255.255.0
 serverfarm WEB
  real 192.158.39.101
   inservice
 vserver VIP1
  virtual 192.158.38.30 tcp www
  serverfarm WEB
  inservice
";

/// What neither fuzz nor noise may touch.
fn settled(group: &Value) -> [Value; 6] {
    ["state", "changes", "virtual_address", "hello_ms", "hold_ms", "virtual_mac"]
        .map(|key| group[key].clone())
}

#[test]
fn csmd_and_scapy_elect_each_other_and_no_noise_moves_csmd() {
    let mut cable = Cable::new("hsrp-router");
    assert_eq!(cable.scapy("hello 16 110"), "done");
    let Cable { ours, talk: scapy, directory, .. } = &mut cable;
    let router = Router::start(ours, directory);

    // A stronger one is active: standby.
    let standby = router.wait_for_state("standby");
    assert_eq!(
        (&standby["active"]["address"], &standby["active"]["priority"]),
        (&"10.6.0.3".into(), &110.into())
    );
    let counted = |group: &Value| group["malformed"].as_u64().unwrap_or(0);
    let noise: u64 = scapy.say("noise").parse().expect("a number");
    scapy.say("fuzz 150");
    let after = router.wait_for("the noise", |group| counted(group) >= counted(&standby) + noise / 2);
    assert_eq!(settled(&after), settled(&standby), "{after}");

    // It resigns: active. A weaker one, which believes that it is active, is overruled by a coup.
    scapy.say("silence");
    scapy.say("say 2 16 110");
    let active = router.wait_for_state("active");
    let noise: u64 = scapy.say("noise").parse().expect("a number");
    let after = router.wait_for("the noise", |group| counted(group) >= counted(&active) + noise / 2);
    assert_eq!(settled(&after), settled(&active), "{after}");
    // A stronger one claims by a coup: it gives way, and resigns.
    scapy.say("hello 16 120");
    scapy.say("say 1 4 120");
    router.wait_for_state("standby");
    // It falls silent: the hold time, and active again.
    scapy.say("silence");
    router.wait_for_state("active");
    // A stronger one again, then one that is weaker and active: taken over from, since csmd preempts.
    scapy.say("hello 16 120");
    router.wait_for_state("standby");
    scapy.say("hello 16 90");
    router.wait_for_state("active");
    let heard = wait::until("a coup", LIMIT, PACE, || {
        let heard = scapy.say("heard");
        Ok(heard.contains("1,16,100,1").then_some(heard))
    });
    let heard = heard.expect("a coup");
    let of_group = "100,1,10.6.0.1,cisco,1";
    for said in ["0,4", "0,8", "0,16", "1,16", "2,16"] {
        assert!(heard.split(' ').any(|one| one == format!("{said},{of_group}")), "{said}: {heard}");
    }
    let file = directory.join("router.pcap").display().to_string();
    scapy.say(&format!("save {file}"));
    assert_eq!(tshark(&["-r", &file, "-Y", "udp.port == 1985 && (_ws.malformed || _ws.expert)"]), "");
    // The active router's hellos come from the group's MAC address.
    let sources =
        tshark(&["-r", &file, "-Y", "hsrp.state == 16 && hsrp.opcode == 0", "-T", "fields", "-e", "eth.src"]);
    assert!(sources.lines().all(|mac| mac == "00:00:0c:07:ac:01") && !sources.is_empty(), "{sources}");
}
