mod walk;

use super::*;

fn session() -> Session {
    Session::new("Router".to_owned(), 5)
}

/// After lines that all succeed.
fn after(lines: &[&str]) -> Session {
    let mut session = session();
    for line in lines {
        if let Act::Change(..) = session.line(line) {
            assert_eq!(session.changed(true, ""), "");
        }
    }
    session
}

fn words(session: &Session, typed: &str) -> Vec<String> {
    session.hints(typed).1.into_iter().map(|hint| hint.word).collect()
}

#[test]
fn prompts_follow_the_modes_in_and_out() {
    for (lines, prompt) in [
        (&[][..], "Router#"),
        (&["conf t"], "Router(config)#"),
        (&["conf t", "mod csm 5"], "Router(config-module-csm)#"),
        (&["conf t", "mod csm 5", "vserver web"], "Router(config-slb-vserver)#"),
        (&["conf t", "mod csm 5", "vserver web", "exit"], "Router(config-module-csm)#"),
        (&["conf t", "mod csm 5", "vserver web", "end"], "Router#"),
        (&["conf t", "exit"], "Router#"),
        (&["conf t", "vlan 2 client", "vlan 3 server"], "Router(config-slb-vlan-server)#"),
    ] {
        assert_eq!(after(lines).prompt(), prompt, "{lines:?}");
    }
}

#[test]
fn a_line_of_the_configuration_is_a_change_of_its_own() {
    let mut session = after(&["conf t rev ti sec 60", "mod csm 5", "vserver web"]);
    let Act::Change(request, said) = session.line("idle 7") else { panic!("a change") };
    assert_eq!(request.text, "mod csm 5\nvserver web\nidle 7\n");
    assert_eq!((request.revert_s, said.as_str()), (Some(60), ""));
    assert_eq!(session.changed(false, "terminal:3:1: error: no\n idle 7\n"), "% no\n idle 7\n");
    // Refused, a section is not entered, and what is pasted below it does not go into the one before.
    assert!(matches!(session.line("vserver other"), Act::Change(..)));
    assert_eq!(session.changed(false, "% busy\n"), "% busy\n");
    assert!(matches!(session.line("idle 8"), Act::Say(said) if said.contains("`vserver other` above it")));
    assert!(matches!(session.line("vserver web"), Act::Change(..)));
    session.changed(true, "");
    assert!(
        matches!(session.line("idle 8"), Act::Change(request, _) if request.text.contains("vserver web\n"))
    );
}

#[test]
fn what_is_wrong_has_its_caret_below_the_typed_word() {
    let mut session = after(&["conf t", "mod csm 5", "vserver web"]);
    let Act::Say(said) = session.line("sticky 70000") else { panic!("a fault") };
    //       Router(config-slb-vserver)#sticky 70000
    let expected = "                                  ^\n% minutes is 1-65535, not 70000\n";
    assert_eq!(said, expected);
    let Act::Say(said) = after(&[]).line("shw ft") else { panic!("a fault") };
    assert!(said.starts_with("       ^\n% invalid word \"shw\"; possible here:\n"), "{said}");
}

#[test]
fn commands_of_the_privileged_mode_run_from_any_mode() {
    let run = |line: &str| Act::Run(line.to_owned(), None);
    assert_eq!(after(&[]).line("show module csm 5 ft"), run("show module csm 5 ft"));
    let mut session = after(&["conf t", "mod csm 5"]);
    assert_eq!(session.line("do show module csm 5 ft"), run("show module csm 5 ft"));
    assert_eq!(session.line("sh run"), run("sh run"));
    assert_eq!(session.prompt(), "Router(config-module-csm)#");
    assert!(matches!(after(&[]).line("reload working"), Act::Run(_, Some(_))));
    assert_eq!(after(&[]).line("exit"), Act::Leave);
    assert_eq!(after(&[]).line("term len 0"), Act::Length(0));
    assert_eq!(after(&[]).line("! a remark"), Act::Nothing);
}

#[test]
fn the_word_at_the_cursor_is_completed_from_both_tables() {
    assert_eq!(words(&after(&[]), "sh"), ["show"]);
    assert_eq!(words(&after(&[]), "show module csm 5 v"), ["variable", "vlan", "vservers"]);
    assert_eq!(words(&after(&[]), "show running-config | inc"), ["include"]);
    let session = after(&["conf t", "mod csm 5", "vserver web"]);
    assert_eq!(words(&session, "rep"), ["replicate"]);
    assert_eq!(words(&session, "replicate csrp "), ["connection", "sticky"]);
    assert_eq!(words(&session, "do sh"), ["show"]);
    assert_eq!(session.hints("replicate csrp con").0, 3);
    assert!(words(&session, "").contains(&"do".to_owned()));
    assert_eq!(words(&session, "nothing "), Vec::<String>::new());
    assert_eq!(session.help("replicate c"), "  csrp             By the replication protocol\n");
}
