//! HSRP with a speaker that is not ours: scapy talks to the machine on the other end of a cable, and tshark reads what
//! was said.

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use csm_tests::link;
use csm_tests::netns::{LabId, Netns};
use csm_tests::wait;
use csm_user::hsrp::machine::Params;
use csm_user::hsrp::task::{GroupOptions, HsrpHandle, Wish, spawn};
use csm_user::hsrp::wire::{AUTHENTICATION, State, Version};

use crate::out;

const LIMIT: Duration = Duration::from_secs(20);
const PACE: Duration = Duration::from_millis(20);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 6, 0, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 6, 0, 1);

/// A router made of scapy: one command a line, each answered by a line.
const SCAPY: &str = r#"
import sys, threading, time, warnings, logging
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
    scapy: Child,
    answers: BufReader<ChildStdout>,
    runtime: tokio::runtime::Runtime,
    directory: PathBuf,
    // Last: what runs inside ends before it.
    _theirs: Netns,
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ended = self.scapy.kill();
        let _reaped = self.scapy.wait();
        let _removed = std::fs::remove_dir_all(&self.directory);
    }
}

impl Cable {
    fn new() -> Self {
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
        let directory = out("hsrp-wire");
        std::fs::create_dir_all(&directory).expect("a directory");
        // Debian's own interpreter has Debian's scapy.
        let mut command = theirs.command("/usr/bin/python3").expect("python");
        command.args(["-c", SCAPY]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut scapy = command.spawn().expect("scapy starts");
        let answers = BufReader::new(scapy.stdout.take().expect("its output"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        Self { ours, scapy, answers, runtime, directory, _theirs: theirs }
    }

    fn scapy(&mut self, command: &str) -> String {
        let input = self.scapy.stdin.as_mut().expect("its input");
        writeln!(input, "{command}").expect("a command");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("an answer");
        answer.trim_end().to_owned()
    }

    /// Our machine as a router of `group`.
    fn speak(&self, version: Version, group: u16) -> HsrpHandle {
        let start = || {
            let _context = self.runtime.enter();
            let wish = Wish { up: true, priority: 100 };
            let params = Params {
                group,
                version,
                own: OWN,
                mac: [2, 0, 0, 0, 0, 2],
                address: Some(ADDRESS),
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
    let mut cable = Cable::new();
    assert_eq!(cable.scapy("hello 16 110"), "done");
    let router = cable.speak(Version::V1, 1);
    wait_for(&router, State::Standby);
    let active = router.status()[0].active.expect("scapy's router").router;
    assert_eq!((active.address, active.priority), (Ipv4Addr::new(10, 6, 0, 3), 110));

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
