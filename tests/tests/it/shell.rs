//! The interactive shell, on a terminal.

use std::process::Command;

use csm_tests::terminal::Terminal;
use nix::sys::signal::Signal;

use crate::operator::{Host, SINGLE};

const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";

#[test]
fn an_operator_is_helped_at_every_key_and_each_line_acts_at_once() {
    let host = Host::new();
    let mut csmd = host.start(SINGLE, "shell");
    let mut csm = Command::new(&host.programs.csm.path);
    csm.arg("--socket").arg(&csmd.socket).args(["--hostname", "Router"]);
    let mut terminal = Terminal::run(&csm).expect("a terminal");
    // Strikes keys and waits for each text in turn; returns what stood before the last.
    let mut step = |keys: &str, texts: &[&str]| {
        terminal.strike(keys).expect("it reads");
        let wait =
            |text: &&str| terminal.wait_for(text).unwrap_or_else(|error| panic!("{keys:?}: {error:#}"));
        texts.iter().map(wait).last().unwrap_or_default()
    };
    let running = || csmd.csm("show running-config").expect("an answer");
    step("", &["Router#"]);

    // Help in the middle of a word, and the line goes on where it was.
    step("show module csm 5 v?", &["show module csm 5 v?", "  vlan ", "  vservers ", "show module csm 5 v"]);
    step("s\t", &["vservers "]);
    step("\r", &["vserver         type", "VIP1", "Router#"]);

    // A typo has its caret below it.
    let fault = step("show modul csm 5 fx\r", &["^\r\n% invalid word \"fx\""]);
    assert!(fault.ends_with(&" ".repeat("Router#show modul csm 5 ".len())), "{fault:?}");
    step("", &["vservers ", "Router#"]);

    // Modes, and a change that acts at once; a faulty line changes nothing and leaves the mode as it is.
    step("conf t\r", &["CNTL/Z.", "Router(config)#"]);
    step("mod csm 5\r", &["Router(config-module-csm)#"]);
    step("vserver VIP1\r", &["Router(config-slb-vserver)#"]);
    step("idle 77\r", &["Router(config-slb-vserver)#"]);
    assert!(running().contains("\n  idle 77\n"), "{}", running());
    step("idle 99999999\r", &["% seconds is 0-13500000, not 99999999", "Router(config-slb-vserver)#"]);
    step("serverfarm GONE\r", &["% ", "GONE", "Router(config-slb-vserver)#"]);
    assert!(running().contains("\n  serverfarm WEB\n"), "{}", running());
    step("do show running-config | include idle\r", &["\n  idle 77\r\n", "Router(config-slb-vserver)#"]);

    // Names that there are; between several Tab decides nothing.
    step("do show module csm 5 vservers vi\t", &["vservers VIP1 "]);
    step(CTRL_C, &["Router#"]);
    step("conf t\r", &["Router(config)#"]);
    step("mod csm 5\r", &["Router(config-module-csm)#"]);
    step("serverfarm WAP\r", &["Router(config-slb-sfarm)#"]);
    step("vserver v\t\r", &["vserver VIP1 ", "Router(config-slb-vserver)#"]);
    step("serverfarm ?", &["  NAME ", "\r\n  WAP\r\n  WEB\r\n", "#serverfarm "]);
    step("w\t", &["w"]);
    step("\t", &["WAP", "WEB", "serverfarm w"]);
    step("e\t", &["serverfarm WEB "]);
    step("\r", &["Router(config-slb-vserver)#"]);
    step("no serverfarm wa\t\x01\x0b", &["no serverfarm WAP "]);
    step("exit\r", &["Router(config-module-csm)#"]);
    step("no serverfarm wa\t\r", &["no serverfarm WAP ", "Router(config-module-csm)#"]);
    assert!(running().contains("  serverfarm WEB\n") && !running().contains("WAP"), "{}", running());
    assert_eq!(running().matches("vserver").count(), 1, "{}", running());
    step("vserver VIP1\r", &["Router(config-slb-vserver)#"]);

    // Ctrl-C gives up what was typed and leaves nothing half done; Ctrl-Z carries the line out and leaves the modes.
    step("rep\t", &["replicate "]);
    step(CTRL_C, &["Router#"]);
    step("conf t\r", &["Router(config)#"]);
    step("vserver VIP1\r", &["Router(config-slb-vserver)#"]);
    step(&format!("no idle{CTRL_Z}"), &["Router#"]);
    assert!(!running().contains("idle") && !running().contains("replicate"), "{}", running());

    // A listing that does not fit stops, and goes on as told; history brings lines back.
    step("terminal length 5\r", &["Router#"]);
    let page = step("show running-config\r", &["interface eth1", " --More-- "]);
    assert_eq!(page.matches('\n').count(), 5, "{page:?}");
    step(" ", &["vlan 3 server", " --More-- "]);
    step("q", &["Router#"]);
    step("terminal length 0\r", &["Router#"]);
    step("\x1b[A\x1b[A\r", &["interface eth1", "vserver VIP1", "  inservice\r\n", "Router#"]);

    // A listing pasted with its prompts.
    step("Router(config)# module csm 5\r", &["Router(config-module-csm)#"]);
    step("Router(config-module-csm)# vserver VIP1\r", &["Router(config-slb-vserver)#"]);
    step("Router(config-slb-vserver)# idle 88\r", &["idle 88", "Router(config-slb-vserver)#"]);
    assert!(running().contains("\n  idle 88\n"), "{}", running());
    step("end\r", &["Router#"]);

    // Without csmd Tab and `?` do what the tables say.
    assert_eq!(csmd.end(Signal::SIGTERM), Some(0), "{}", csmd.log());
    step("sh\t", &["show "]);
    step("module csm 5 vservers v\t?", &["vservers v?", "  NAME ", "vservers v"]);
    step(CTRL_C, &["Router#"]);
    terminal.strike("exit\r").expect("it reads");
    assert!(terminal.end().expect("its end").success());
}

#[test]
fn lines_of_a_pipe_are_carried_out_one_after_the_other() {
    use std::io::Write as _;
    use std::process::Stdio;

    let host = Host::new();
    let mut csmd = host.start(SINGLE, "piped");
    let mut csm = Command::new(&host.programs.csm.path);
    csm.arg("--socket").arg(&csmd.socket).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = csm.spawn().expect("csm starts");
    let lines = "conf t\nvserver VIP1\nidle 55\nfrobnicate\nend\nshow running-config | count vserver\n";
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("its end");
    let (said, faults) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}{faults}");
    assert!(said.ends_with("Number of lines which match regexp = 1\n"), "{said}");
    assert!(faults.contains("unknown command `frobnicate`"), "{faults}");
    assert!(csmd.csm("show running-config").expect("an answer").contains("\n  idle 55\n"));
    assert_eq!(csmd.end(Signal::SIGTERM), Some(0), "{}", csmd.log());
}
