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
    session.hints(typed, |_| Vec::new()).1.into_iter().map(|hint| hint.word).collect()
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
    assert_eq!(session.hints("replicate csrp con", |_| Vec::new()).0, 3);
    assert!(words(&session, "").contains(&"do".to_owned()));
    assert_eq!(words(&session, "nothing "), Vec::<String>::new());
    let help = session.help("replicate c", |_| panic!("no name stands there"));
    assert_eq!(help, "  csrp             By the replication protocol\n");
}

const NAMED: &str = "module csm 5\n natpool POOL 10.0.0.1 10.0.0.1 netmask 255.255.255.0\n probe PING icmp\n owner SHOP\n \
                     serverfarm WEB\n serverfarm WAP\n policy WEST\n  serverfarm WEB\n vserver DAY\n vserver DAWN\n vserver NIGHT\n";

/// What Tab offers: keywords, and the names of [`NAMED`].
fn offered(lines: &[&str], typed: &str) -> Vec<String> {
    let outcome = crate::config::check("named.cfg", NAMED, &crate::config::HostFacts::default());
    let config = outcome.config.unwrap_or_else(|| panic!("{:?}", outcome.diagnostics));
    let (_, hints) = after(lines).hints(typed, |noun| noun.names(&config));
    hints.into_iter().filter(|hint| hint.keyword).map(|hint| hint.word).collect()
}

#[test]
fn names_that_are_configured_are_offered_where_one_can_stand() {
    let module = &["conf t", "mod csm 5"][..];
    let vserver = &["conf t", "mod csm 5", "vserver DAY"][..];
    let farm = &["conf t", "mod csm 5", "serverfarm WEB"][..];
    for (lines, typed, expected) in [
        (module, "vserver ", &["DAWN", "DAY", "NIGHT"][..]),
        (module, "vserver n", &["NIGHT"]),
        (module, "vserver da", &["DAWN", "DAY"]),
        (module, "vserver NEW", &[]),
        (module, "no serverfarm W", &["WAP", "WEB"]),
        (module, "owner ", &["SHOP"]),
        (vserver, "serverfarm we", &["WEB"]),
        (vserver, "serverfarm WEB backup ", &["WAP", "WEB"]),
        (vserver, "slb-policy ", &["WEST"]),
        (vserver, "natpool ", &["POOL"]),
        (farm, "probe ", &["PING"]),
        (farm, "nat client P", &["POOL"]),
        (farm, "nat client s", &["static"]),
        (farm, "do show module csm 5 vservers D", &["detail", "DAWN", "DAY"]),
        (&[], "show module csm 5 vservers N", &["NIGHT"]),
        (&[], "show module csm 5 vservers d", &["detail", "DAWN", "DAY"]),
        (&[], "show module csm 5 serverfarms wa", &["WAP"]),
        (&[], "show module csm 5 reals sfarm ", &["WAP", "WEB"]),
        (&[], "show module csm 5 policy w", &["WEST"]),
        (&[], "show module csm 5 owner s", &["SHOP"]),
        (&[], "show module csm 5 natpool p", &["POOL"]),
        (&[], "show module csm 5 probe pi", &["PING"]),
        (&[], "clear module csm 5 connections vserver ni", &["NIGHT"]),
        (&[], "show module csm 5 vlan ", &["client", "detail", "ft", "server"]),
    ] {
        let mut found = offered(lines, typed);
        let mut expected = expected.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{lines:?} {typed:?}");
    }
    let session = after(module);
    let help = session.help("no policy ", |_| vec!["EAST".to_owned(), "WEST".to_owned()]);
    assert_eq!(help, "  NAME             Name\n  EAST\n  WEST\n");
}
