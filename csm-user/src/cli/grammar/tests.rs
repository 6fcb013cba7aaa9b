use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::api::reply::{ReloadRequest, StateDirectory};

fn args(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn command(line: &str) -> (Request, bool) {
    match parse(&args(&[line])) {
        Ok(Meaning::Command { request, json, .. }) => (request, json),
        other => panic!("{line}: {other:?}"),
    }
}

fn shows(what: Show) -> (Request, bool) {
    (Request::Show { slot: Some(5), what }, false)
}

#[test]
fn every_command_in_full_and_as_short_as_possible() {
    let conns = |vserver: Option<&str>, client: Option<[u8; 4]>, detail| Show::Conns {
        filter: ConnFilter {
            vserver: vserver.map(str::to_owned),
            client: client.map(IpAddr::from),
            ..ConnFilter::default()
        },
        detail,
    };
    for (full, short, what) in [
        ("show module csm 5 ft", "sh m c 5 f", Show::Ft { detail: false }),
        ("show module csm 5 ft detail", "sh mod csm 5 ft de", Show::Ft { detail: true }),
        ("show module csm 5 vservers", "s m c 5 vs", Show::Vservers { detail: false }),
        ("show module csm 5 vservers detail", "s m c 5 vs d", Show::Vservers { detail: true }),
        ("show module csm 5 reals", "s m c 5 r", Show::Reals { detail: false }),
        ("show module csm 5 reals detail", "SHOW MOD CSM 5 REAL DET", Show::Reals { detail: true }),
        ("show module csm 5 serverfarms", "s m c 5 se", Show::Serverfarms),
        ("show module csm 5 conns", "s m c 5 conn", conns(None, None, false)),
        ("show module csm 5 conns detail", "s m c 5 c d", conns(None, None, true)),
        ("show module csm 5 conns vserver vip1", "s m c 5 c v VIP1", conns(Some("VIP1"), None, false)),
        (
            "show module csm 5 conns vserver detail detail",
            "s m c 5 c v detail d",
            conns(Some("DETAIL"), None, true),
        ),
        (
            "show module csm 5 conns client 10.0.0.1",
            "s m c 5 c c 10.0.0.1",
            conns(None, Some([10, 0, 0, 1]), false),
        ),
        ("show module csm 5 sticky", "s m c 5 stic", Show::Sticky),
        ("show module csm 5 vlan", "s m c 5 vl", Show::Vlan),
        ("show module csm 5 arp", "s m c 5 ar", Show::Arp),
        ("show module csm 5 stats", "s m c 5 stats", Show::Stats),
        ("show module csm 5 all", "s m c 5 al", Show::All),
    ] {
        let wanted = shows(what);
        assert_eq!(command(full), wanted, "{full}");
        assert_eq!(command(short), wanted, "{short}");
    }
    assert_eq!(command("show module csm all").0, Request::Show { slot: None, what: Show::All });
    assert_eq!(command("sh run").0, Request::RunningConfig);
    assert_eq!(command("sh run d a.cfg").0, Request::Difference { file: Some("a.cfg".to_owned()) });
    assert_eq!(command("sh run d start").0, Request::Difference { file: None });
    let working = Some(StateDirectory::Working);
    for (words, action) in [
        ("wr m", Action::Write),
        ("copy run start", Action::Write),
        ("copy working certified", Action::Certify { flash_synchro: false }),
        ("copy working certified flash-synchro", Action::Certify { flash_synchro: true }),
        ("copy work cert flash-syncro", Action::Certify { flash_synchro: true }),
        ("show running-d", Action::Directory),
        ("sh start", Action::Startup),
        // As the stack's guide misprints it.
        ("show running-configuration", Action::Directory),
        ("reload", Action::Reload(ReloadRequest::default())),
        ("reload w", Action::Reload(ReloadRequest { directory: working, ..ReloadRequest::default() })),
        (
            "reload work in 2 rollb 3 force",
            Action::Reload(ReloadRequest {
                directory: working,
                in_s: Some(120),
                rollback_s: Some(180),
                force: true,
            }),
        ),
        ("reload cancel", Action::CancelReload),
        ("delete working image", Action::DropImage),
    ] {
        assert_eq!(command(words).0, Request::State(action), "{words}");
    }
    let image = Request::SetImage { file: "csmd-2".to_owned() };
    assert_eq!(command("copy csmd-2 work image").0, image);
    assert_eq!(command("copy a.cfg start").0, Request::SetStartup { file: "a.cfg".to_owned() });
    let configure = |change, revert_s| Request::Configure { change, revert_s };
    assert_eq!(command("conf t").0, configure(Change::Terminal, None));
    assert_eq!(command("conf t revert timer 2").0, configure(Change::Terminal, Some(120)));
    let replace = Change::Replace("a.cfg".to_owned());
    assert_eq!(command("configure replace a.cfg rev ti sec 5").0, configure(replace, Some(5)));
    assert_eq!(command("configure confirm").0, Request::Confirm);
    assert_eq!(command("clear module csm 5 ft active").0, Request::ForceStandby { slot: 5 });
    let of_real = |port| ConnFilter { real: Some([10, 0, 0, 1].into()), port, ..ConnFilter::default() };
    for (words, filter, detail) in [
        ("show module csm 5 conns real 10.0.0.1", of_real(None), false),
        ("s m c 5 c r 10.0.0.1 8080", of_real(Some(8080)), false),
        ("s m c 5 c r 10.0.0.1 8080 d", of_real(Some(8080)), true),
        ("s m c 5 c r 10.0.0.1 d", of_real(None), true),
    ] {
        assert_eq!(command(words), shows(Show::Conns { filter, detail }), "{words}");
    }
    for (words, filter) in [
        ("clear module csm 5 connections", ConnFilter::default()),
        ("cl m c 5 conn r 10.0.0.1 8080", of_real(Some(8080))),
        ("cl m c 5 conn v web", ConnFilter { vserver: Some("WEB".to_owned()), ..ConnFilter::default() }),
        ("cl m c 5 conn c 10.0.0.1", ConnFilter { client: of_real(None).real, ..ConnFilter::default() }),
    ] {
        assert_eq!(command(words).0, Request::ClearConns { slot: 5, filter }, "{words}");
    }
    assert_eq!(command("check pair.cfg").0, Request::Check { file: "pair.cfg".to_owned() });
}

#[test]
fn json_is_asked_for_in_one_argument_or_several() {
    for words in [
        &["show module csm 5 ft | json"][..],
        &["show", "module", "csm", "5", "ft", "|", "json"],
        &["show", "module", "csm", "5", "ft", "| json"],
        &["show module csm 5", "ft|j"],
    ] {
        let Ok(Meaning::Command { request, json, .. }) = parse(&args(words)) else { panic!("{words:?}") };
        assert_eq!((request, json), (shows(Show::Ft { detail: false }).0, true));
    }
}

#[test]
fn a_file_that_is_an_argument_of_its_own_may_hold_anything() {
    let Ok(Meaning::Command { request, json, .. }) = parse(&args(&["check", "a | b.cfg", "|", "json"]))
    else {
        panic!("a command");
    };
    assert_eq!((request, json), (Request::Check { file: "a | b.cfg".to_owned() }, true));
}

fn wrong(line: &str, expected: &Expect) {
    match parse(&args(&[line])) {
        Err(error) => expected.assert_eq(&error.to_string()),
        Ok(meaning) => panic!("{line}: {meaning:?}"),
    }
}

#[test]
fn an_unknown_word_gets_a_caret_and_what_could_stand_there() {
    wrong(
        "show modul csm 5 fx detail",
        &expect![[r#"
            show modul csm 5 fx detail
                             ^
            % invalid word "fx"; possible here:
              all              everything but connections and sticky entries
              arp              addresses answered for, and next hops
              conns            connections
              ft               fault tolerance
              natpool          pools of client NAT
              owner            whose virtual servers are
              policy           what virtual servers do with a client
              probe            health probes
              reals            real servers
              serverfarms      server farms
              static           connections that servers open
              stats            counters
              status           the module
              sticky           sticky entries
              tech-support     everything for somebody far away, keys left out
              variable         what `variable` lines set
              vlan             VLANs and the ports that carry them
              vservers         virtual servers"#]],
    );
    wrong(
        "shw",
        &expect![[r#"
            shw
            ^
            % invalid word "shw"; possible here:
              check            a configuration file or this host, without a daemon
              clear            reset functions
              configure        change the configuration in force
              copy             startup configurations
              delete           what a directory holds
              ft               fault tolerance
              hw-module        a module's other half
              import           a CSM's show running-config, without a daemon
              reload           execute csmd anew, while what it forwards goes on
              show             the state of the system
              trace            the walk of a client's packets through the XDP program
              write            save"#]],
    );
}

#[test]
fn a_parameter_out_of_range_is_an_unknown_word() {
    wrong(
        "show module csm 0 ft",
        &expect![[r#"
        show module csm 0 ft
                        ^
        % invalid word "0"; possible here:
          SLOT             number of the module, 1-255
          all              everything but connections and sticky entries"#]],
    );
    wrong(
        "show module csm 5 conns client 10.0.0",
        &expect![[r#"
        show module csm 5 conns client 10.0.0
                                       ^
        % invalid word "10.0.0"; possible here:
          ADDRESS          IPv4 or IPv6 address"#]],
    );
}

#[test]
fn an_ambiguous_word_lists_what_it_could_be() {
    wrong(
        "show module csm 5 s",
        &expect![[r#"
            show module csm 5 s
                              ^
            % ambiguous word "s"; possible here:
              serverfarms      server farms
              static           connections that servers open
              stats            counters
              status           the module
              sticky           sticky entries"#]],
    );
}

#[test]
fn an_incomplete_command_lists_how_it_can_go_on() {
    wrong(
        "clear module csm 5",
        &expect![[r#"
            clear module csm 5
                               ^
            % incomplete command; possible here:
              arp-cache        ask for all next hops again
              connections      reset connections at both ends
              counters         count from 0 again
              ft               fault tolerance
              sticky           sticky entries"#]],
    );
    wrong(
        "",
        &expect![[r#"

            ^
            % incomplete command; possible here:
              check            a configuration file or this host, without a daemon
              clear            reset functions
              configure        change the configuration in force
              copy             startup configurations
              delete           what a directory holds
              ft               fault tolerance
              hw-module        a module's other half
              import           a CSM's show running-config, without a daemon
              reload           execute csmd anew, while what it forwards goes on
              show             the state of the system
              trace            the walk of a client's packets through the XDP program
              write            save"#]],
    );
}

#[test]
fn words_after_the_end_are_refused() {
    wrong(
        "show running-config please",
        &expect![[r#"
            show running-config please
                                ^
            % invalid word "please"; possible here:
              <cr>
              diff             - only in the file, + only in force"#]],
    );
}

#[test]
fn what_may_follow_a_bar_is_offered() {
    wrong(
        "show running-config | select vlan",
        &expect![[r#"
        show running-config | select vlan
                              ^
        % unknown output form "select"; possible here:
          begin            from the first line that matches
          count            how many lines match
          exclude          lines that do not match
          include          lines that match
          json             the same facts for programs
          section          lines that match, and what is indented below them"#]],
    );
    for (line, column, problem) in [
        ("show running-config |", 22, "incomplete command"),
        ("sh run | inc", 13, "incomplete command: a regular expression is missing"),
        ("sh run | inc a(", 13, "\"a(\" is not a regular expression"),
    ] {
        let error = parse(&args(&[line])).expect_err(line);
        assert_eq!((error.column(), error.problem.as_str()), (column, problem), "{line}");
    }
}

#[test]
fn bars_are_taken_one_behind_the_other_and_one_within_a_pattern_belongs_to_it() {
    let stages = |line: &str| match parse(&args(&[line])) {
        Ok(Meaning::Command { json, stages, .. }) => {
            (json, stages.into_iter().map(|s| (s.keep, s.pattern.to_string())).collect::<Vec<_>>())
        }
        other => panic!("{line}: {other:?}"),
    };
    let one = |keep, pattern: &str| (keep, pattern.to_owned());
    assert_eq!(stages("sh run | i vlan|alias"), (false, vec![one(Keep::Include, "vlan|alias")]));
    assert_eq!(
        stages("sh run | sec vserver WEB | ex idle"),
        (false, vec![one(Keep::Section, "vserver WEB"), one(Keep::Exclude, "idle")])
    );
    assert_eq!(stages("sh mod csm 5 ft | json | c state"), (true, vec![one(Keep::Count, "state")]));
}

#[test]
fn what_the_shell_alone_knows_is_found_by_it_and_told_so_elsewhere() {
    let typed = |line: &str| parse_typed(line).expect(line);
    let is = |shell| Meaning::Command { request: Request::Shell(shell), json: false, stages: Vec::new() };
    assert_eq!(typed("terminal length 0"), is(Shell::Length(0)));
    assert_eq!(typed("exit"), is(Shell::Leave));
    assert!(parse(&args(&["exit"])).is_err());
    assert_eq!(parse_all(&args(&["exit"])), Ok(is(Shell::Leave)));
    let words =
        |before: &[&str], partial| choices(before, partial).into_iter().map(|c| c.word).collect::<Vec<_>>();
    assert_eq!(words(&["show"], "run"), ["running-config", "running-configuration", "running-directory"]);
    assert_eq!(words(&["show", "running-config", "|"], "e"), ["exclude"]);
    assert_eq!(words(&["nothing"], ""), Vec::<&str>::new());
}

#[test]
fn a_question_mark_lists_what_can_stand_there() {
    let Ok(Meaning::Help(words)) = parse(&args(&["show", "module", "csm", "5", "conns", "?"])) else {
        panic!("help");
    };
    let words: Vec<_> = words.iter().map(|continuation| continuation.word).collect();
    assert_eq!(words, ["<cr>", "client", "detail", "real", "vserver"]);
}

#[test]
fn every_word_of_the_table_has_a_help() {
    for token in COMMANDS.iter().chain(SHELL).flat_map(|command| command.syntax.split(' ')) {
        assert_ne!(continuation(token).help, "", "{token}");
    }
}

proptest! {
    #[test]
    fn no_line_panics(words in prop::collection::vec("[ -~äé|]{0,8}|show|module|csm|5|check", 0..8)) {
        if let Err(error) = parse(&words) {
            prop_assert!(error.to_string().contains('^'));
        }
    }
}
