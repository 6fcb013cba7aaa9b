//! Changes of the configuration while connections go on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use csm_tests::wait;
use nix::sys::signal::Signal;

use crate::operator::{Host, PACE, PATIENCE, Running, SINGLE};

/// A server that names itself, then sends back what it gets, in threads that end with the test.
fn echo(host: &Host, address: &'static str) {
    let listener = host.server.within(|| TcpListener::bind(address)).expect("inside").expect("a free port");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut stream = stream;
                stream.write_all(format!("{address:<20}").as_bytes())?;
                let mut octet = [0];
                while stream.read(&mut octet)? == 1 {
                    stream.write_all(&octet)?;
                }
                Ok(())
            });
        }
    });
}

/// A client's connection, and the server that has it.
struct Session {
    stream: TcpStream,
    server: String,
}

impl Session {
    /// Keeps trying for [`PATIENCE`]: the first packets may wait for ARP.
    fn open(host: &Host, to: &str) -> Self {
        wait::until("a connection", PATIENCE, PACE, || Ok(Self::try_open(host, to).ok())).expect("balanced")
    }

    fn try_open(host: &Host, to: &str) -> std::io::Result<Self> {
        let to: SocketAddr = to.parse().expect("an address");
        let mut stream = host
            .client
            .within(|| TcpStream::connect_timeout(&to, Duration::from_millis(500)))
            .expect("inside")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut name = [0; 20];
        stream.read_exact(&mut name)?;
        Ok(Self { stream, server: String::from_utf8_lossy(&name).trim().to_owned() })
    }

    fn is_alive(&mut self) -> bool {
        let mut octet = [0];
        self.stream.write_all(b"x").is_ok() && self.stream.read_exact(&mut octet).is_ok() && octet == *b"x"
    }
}

/// Runs `csm configure terminal` with `lines` on its standard input: status, standard output, standard error.
fn terminal(csmd: &Running<'_>, host: &Host, words: &str, lines: &str) -> (i32, String, String) {
    let mut csm = Command::new(&host.programs.csm.path)
        .arg("--socket")
        .arg(&csmd.socket)
        .args(words.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("csm starts");
    csm.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("it reads");
    let output = csm.wait_with_output().expect("its end");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("it ends by itself"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_change_is_made_at_once_and_connections_stay() {
    let host = Host::new();
    host.server.ip(&["addr add 192.158.39.102/24 dev peer2".to_owned()]).expect("a second server");
    for address in ["192.158.39.101:80", "192.158.39.102:80", "192.158.39.102:53"] {
        echo(&host, address);
    }
    let mut csmd = host.start(SINGLE, "live");
    let quiet = (0, String::new(), String::new());
    let configure = |lines: &str| terminal(&csmd, &host, "configure terminal", lines);
    let mut first = Session::open(&host, "192.158.38.30:80");
    assert_eq!(first.server, "192.158.39.101:80");

    // A new virtual address, of a second farm, is answered for; what was there notices nothing.
    let second = "serverfarm DNS\n real 192.158.39.102\n  inservice\n exit\nexit\nvserver VIP2\n virtual 192.158.38.31 \
                  tcp 53\n serverfarm DNS\n inservice\n";
    assert_eq!(configure(second), quiet);
    let mut dns = Session::open(&host, "192.158.38.31:53");
    assert_eq!(dns.server, "192.158.39.102:53");
    assert!(first.is_alive());

    // A real is exchanged: its connection drains, new ones go to the other.
    let exchange = "serverfarm WEB\n no real 192.158.39.101\n real 192.158.39.102\n  inservice\n";
    assert_eq!(configure(exchange), quiet);
    let mut next = Session::open(&host, "192.158.38.30:80");
    assert_eq!(next.server, "192.158.39.102:80");
    assert!(first.is_alive() && dns.is_alive() && next.is_alive());
    let reals = csmd.csm("show module csm 5 reals").expect("an answer");
    assert!(!reals.contains("192.158.39.101") && reals.contains("192.158.39.102"), "{reals}");

    // A neighbour's MAC address that is said is used, here by the kernel, too, until it is said no more.
    let arp = "arp 192.158.39.102 0200.0000.0099 vlan 3\n";
    assert_eq!(configure(arp), quiet);
    let shown = |row: &str| Ok(csmd.csm("show module csm 5 arp")?.contains(row).then_some(()));
    let row = "192.158.39.102    02-00-00-00-00-99   3     STATIC    up";
    wait::until("the row of the neighbour", PATIENCE, PACE, || shown(row)).expect("it is shown");
    let pinned = || {
        let mut ip = host.node.command("ip")?;
        let told = csm_tests::netns::run(ip.args(["neigh", "show", "192.158.39.102"]))?;
        Ok((told.contains("02:00:00:00:00:99") && told.contains("PERMANENT")).then_some(()))
    };
    wait::until("the kernel's own neighbour", PATIENCE, PACE, pinned).expect("it is told");
    assert_eq!(configure(&format!("no {arp}")), quiet);
    assert!(first.is_alive() && dns.is_alive() && next.is_alive(), "its own address was found again");
    assert!(shown("STATIC").expect("an answer").is_none());

    // A faulty line among good ones changes nothing, and is shown with its place.
    let before = csmd.csm("show running-config").expect("an answer");
    let (status, _, words) = configure("vserver VIP1\n idle 60\n frobnicate\n");
    assert_eq!(status, 2, "{words}");
    assert!(words.contains("terminal:3:2: error: ") && words.contains("\n frobnicate\n ^\n"), "{words}");
    assert!(words.ends_with("% the configuration has faults: 1: nothing was changed\n"), "{words}");
    // What cannot change while it runs is named, all at once.
    let (status, _, words) =
        configure("module csm 6\n vlan 2 client\n  ip address 192.158.38.11 255.255.255.0\n");
    assert_eq!(status, 1, "{words}");
    let sentence = "% cannot be changed while csmd runs: module csm 6, `ip address` of vlan 2\n  remedy: ";
    assert!(words.starts_with(sentence), "{words}");
    assert_eq!(csmd.csm("show running-config").expect("an answer"), before);

    // Without a word of confirmation a change is taken back; a whole file replaces all of it.
    let reduced = host.write("reduced.cfg", &SINGLE.replace("  inservice\n", "  no inservice\n"));
    let difference = csmd.csm(&format!("show running-config diff {}", reduced.display())).expect("an answer");
    assert!(
        difference.contains("+   inservice\n") && difference.contains("+  vserver VIP2\n"),
        "{difference}"
    );
    let replace = format!("configure replace {} revert timer sec 1", reduced.display());
    let (status, said, _) = terminal(&csmd, &host, &replace, "");
    assert_eq!(status, 0);
    assert!(said.starts_with("This change is taken back in "), "{said}");
    assert!(Session::try_open(&host, "192.158.38.30:80").is_err(), "it is out of service");
    wait::until("the old configuration", PATIENCE, PACE, || {
        Ok((csmd.csm("show running-config")? == before).then_some(()))
    })
    .expect("taken back");
    assert_eq!(Session::open(&host, "192.158.38.30:80").server, "192.158.39.102:80");
    assert!(first.is_alive() && dns.is_alive() && next.is_alive());

    // What is confirmed stays.
    let (status, ..) = terminal(&csmd, &host, "configure terminal revert timer sec 600", "no vserver VIP2\n");
    assert_eq!(status, 0);
    assert!(csmd.csm("configure confirm").is_ok());
    let refused = csmd.csm("configure confirm").expect_err("nothing waits").to_string();
    assert!(refused.contains("no change waits to be confirmed"), "{refused}");
    assert!(dns.is_alive(), "a removed virtual server drains");
    assert!(Session::try_open(&host, "192.158.38.31:53").is_err(), "nobody answers for its address");
    assert_eq!(csmd.end(Signal::SIGTERM), Some(0), "{}", csmd.log());
}

#[test]
fn what_is_saved_survives_a_crash_and_what_was_never_certified_is_not_started_from() {
    let host = Host::new();
    let state = host.directory.join("state");
    let start = || host.start_with(SINGLE, "saved", &["--state", state.to_str().expect("text")]);
    let idle = |csmd: &Running<'_>| {
        let text = csmd.csm("show running-config").expect("an answer");
        text.lines().find_map(|line| line.trim().strip_prefix("idle ").map(str::to_owned))
    };
    let set_idle = |csmd: &Running<'_>, seconds: u32| {
        let lines = format!("vserver VIP1\n idle {seconds}\n");
        assert_eq!(terminal(csmd, &host, "configure terminal", &lines).0, 0);
    };
    let says = |csmd: &Running<'_>, sentence: &str| {
        let shown = csmd.csm("show running-directory").expect("an answer");
        assert!(shown.contains(sentence), "{sentence} is not in\n{shown}");
    };

    let mut csmd = start();
    says(&csmd, "Running configuration    : INITIAL FILE,\nCertify/Restore Status   : NOTHING SAVED,\n");
    set_idle(&csmd, 60);
    assert!(csmd.csm("write memory").expect("saved").starts_with("[OK] saved in `working`"));
    set_idle(&csmd, 61);
    says(&csmd, "Running Changes          : NOT SAVED,\n");
    let difference = csmd.csm("show running-config diff startup-config").expect("an answer");
    assert!(difference.contains("-   idle 60\n+   idle 61\n"), "{difference}");
    assert_eq!(csmd.end(Signal::SIGKILL), None);

    let mut csmd = start();
    assert_eq!(idle(&csmd).as_deref(), Some("60"), "the working copy, while it is the only one");
    assert_eq!(csmd.csm("copy working certified").expect("certified"), "[OK]\n");
    set_idle(&csmd, 90);
    csmd.csm("write memory").expect("saved");
    says(&csmd, "Running configuration    : WORKING,\nCertify/Restore Status   : CERTIFY NEEDED,\n");
    assert_eq!(csmd.end(Signal::SIGKILL), None);

    let mut csmd = start();
    assert_eq!(idle(&csmd).as_deref(), Some("60"), "the certified copy, as they differ");
    says(&csmd, "Running configuration    : CERTIFIED,\nCertify/Restore Status   : CERTIFY NEEDED,\n");
    csmd.csm("reload working").expect("it goes");
    wait::until("the working copy in force", PATIENCE, PACE, || {
        Ok((idle_of(&csmd) == Some(90)).then_some(()))
    })
    .expect("reloaded");
    assert!(csmd.child.try_wait().expect("a child").is_none(), "the same process");

    // What cannot change while it runs can be saved and reloaded.
    let moved = host.write("moved.cfg", &SINGLE.replace("192.158.39.10 ", "192.158.39.11 "));
    csmd.csm(&format!("copy {} startup-config", moved.display())).expect("saved");
    csmd.csm("reload working").expect("it goes");
    wait::until("the new address", PATIENCE, PACE, || {
        Ok(csmd
            .csm("show module csm 5 vlan")
            .is_ok_and(|shown| shown.contains("192.158.39.11 "))
            .then_some(()))
    })
    .expect("reloaded");
    assert!(host.ports().to_string().contains("192.158.39.11"));
    assert!(!host.ports().to_string().contains("192.158.39.10\""));
    assert_eq!(csmd.end(Signal::SIGTERM), Some(0), "{}", csmd.log());
}

fn idle_of(csmd: &Running<'_>) -> Option<u32> {
    // Nobody answers while it reloads.
    let text = csmd.csm("show running-config").ok()?;
    text.lines().find_map(|line| line.trim().strip_prefix("idle ")?.parse().ok())
}
