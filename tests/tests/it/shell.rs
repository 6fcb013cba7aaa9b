//! The interactive shell, on a terminal.

use std::process::Command;

use csm_tests::terminal::Terminal;
use nix::sys::signal::Signal;

use crate::operator::{Host, SINGLE};

const CTRL_C: &str = "\x03";
const CTRL_U: &str = "\x15";
const CTRL_Z: &str = "\x1a";

#[test]
fn an_operator_is_helped_at_every_key_and_each_line_acts_at_once() {
    let host = Host::new();
    let mut csmd = host.start(SINGLE, "shell");
    let mut csm = Command::new(&host.programs.csm.path);
    csm.arg("--socket").arg(&csmd.socket).args(["--hostname", "Router"]);
    let mut terminal = Terminal::run(&csm).expect("a terminal");
    let mut type_and_wait = |keys: &str, text: &str| {
        terminal.strike(keys).expect("it reads");
        terminal.wait_for(text).unwrap_or_else(|error| panic!("{keys:?}: {error:#}"))
    };
    type_and_wait("", "Router#");

    // Help in the middle of a word, and the line goes on where it was.
    let help = type_and_wait("show module csm 5 v?", "Router#");
    assert!(help.contains("v?") && help.contains("  vlan") && help.contains("  vservers"), "{help}");
    type_and_wait("s\t", "vservers ");
    type_and_wait("\r", "VIP1");
    type_and_wait("", "Router#");

    // A typo has its caret below it.
    let fault = type_and_wait("show modul csm 5 fx\r", "Router#");
    assert!(fault.contains("\n                        ^\r\n% invalid word \"fx\""), "{fault:?}");

    // Modes, and a change that acts at once; a faulty line changes nothing and leaves the mode.
    type_and_wait("conf t\r", "Router(config)#");
    type_and_wait("mod csm 5\r", "Router(config-module-csm)#");
    type_and_wait("vserver VIP1\r", "Router(config-slb-vserver)#");
    type_and_wait("idle 77\r", "Router(config-slb-vserver)#");
    let running = || csmd.csm("show running-config").expect("an answer");
    assert!(running().contains("\n  idle 77\n"), "{}", running());
    let fault = type_and_wait("idle 99999999\r", "Router(config-slb-vserver)#");
    assert!(fault.contains("% seconds is 0-13500000, not 99999999"), "{fault:?}");
    let fault = type_and_wait("serverfarm GONE\r", "Router(config-slb-vserver)#");
    assert!(fault.contains("GONE") && running().contains("\n  serverfarm WEB\n"), "{fault:?}");
    let shown = type_and_wait("do show running-config | include idle\r", "Router(config-slb-vserver)#");
    assert!(shown.contains("\n  idle 77\r\n"), "{shown:?}");
    type_and_wait("rep\t", "replicate ");

    // Ctrl-C gives up what was typed and leaves nothing half done; Ctrl-Z carries the line out and leaves the modes.
    type_and_wait(CTRL_C, "Router#");
    type_and_wait("conf t\r", "Router(config)#");
    type_and_wait("vserver VIP1\r", "Router(config-slb-vserver)#");
    type_and_wait(&format!("no idle{CTRL_Z}"), "Router#");
    assert!(!running().contains("idle"), "{}", running());
    assert!(!running().contains("replicate"), "{}", running());

    // A listing that does not fit stops, and goes on as told; history brings lines back.
    type_and_wait("terminal length 5\r", "Router#");
    let page = type_and_wait("show running-config\r", " --More-- ");
    assert_eq!(page.matches('\n').count(), 6, "the line itself and a page: {page:?}");
    type_and_wait(" ", " --More-- ");
    type_and_wait("q", "Router#");
    type_and_wait("terminal length 0\r", "Router#");
    let whole = type_and_wait("\x1b[A\x1b[A\r", "  inservice\r\nRouter#");
    assert!(whole.contains("interface eth1") && whole.contains("vserver VIP1"), "{whole:?}");

    // A listing pasted with its prompts.
    type_and_wait(CTRL_U, "");
    let pasted = "Router(config)# module csm 5\rRouter(config-module-csm)# vserver VIP1\rRouter(config-slb-vserver)# idle 88\r";
    type_and_wait(pasted, "idle 88\r\n");
    type_and_wait("", "Router(config-slb-vserver)#");
    assert!(running().contains("\n  idle 88\n"), "{}", running());
    type_and_wait("end\r", "Router#");
    terminal.strike("exit\r").expect("it reads");
    assert!(terminal.end().expect("its end").success());
    assert_eq!(csmd.end(Signal::SIGTERM), Some(0), "{}", csmd.log());
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
