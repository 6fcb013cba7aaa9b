use expect_test::{Expect, expect};

use super::*;
use crate::api::testing::{Dir, Served};

async fn csm(socket: PathBuf, words: &str, json: bool) -> Output {
    let args: Vec<_> = words.split(' ').map(str::to_owned).collect();
    run(&args, &Options { socket, json, part: None }).await
}

async fn good(served: &Served, words: &str, json: bool, expected: &Expect) {
    let output = csm(served.dir.socket(), words, json).await;
    assert_eq!((output.stderr.as_str(), output.status), ("", OK), "{words}");
    expected.assert_eq(&output.stdout);
}

async fn bad(served: &Served, words: &str, status: u8, expected: &Expect) {
    let output = csm(served.dir.socket(), words, false).await;
    assert_eq!((output.stdout.as_str(), output.status), ("", status), "{words}");
    expected.assert_eq(&output.stderr);
}

#[tokio::test]
async fn commands_ask_the_daemon_and_print_its_answer() {
    let served = Served::start();
    good(
        &served,
        "sh mod csm 5 real",
        false,
        &expect![[r#"
        real                  server farm      weight  state          conns/hits
        ------------------------------------------------------------------------
        192.158.39.101        WEB              0       PROBE_FAILED   3
                              probe TCP port 80: connection refused
    "#]],
    )
    .await;
    good(
        &served,
        "sh mod csm 5 real d",
        false,
        &expect![[r#"
        192.158.39.101, WEB, state = PROBE_FAILED
          reason = probe TCP port 80: connection refused
          conns = 3, maxconns = 4294967295, minconns = 0
          weight = 0, weight(admin) = 8
          total conns established = 4
          client pkts = 5, server pkts = 6
    "#]],
    )
    .await;
    good(
        &served,
        "sh mod csm 5 conn vs web detail",
        false,
        &expect![[r#"
                prot vlan source                destination           state
            ----------------------------------------------------------------------
            In  TCP  2    100.100.100.2:1754    192.158.38.30:80      ESTAB
            Out TCP  3    100.100.100.2:1754    192.158.39.101:80     ESTAB
                vs = WEB, ftp = No, csrp = True
                idle = 4, learned from peer = False
            In  TCP  2    100.100.100.2:1754    192.158.38.30:80      ESTAB
            Out TCP  3    100.100.100.2:1754    192.158.39.101:80     ESTAB
                vs = WEB, ftp = No, csrp = True
                idle = 4, learned from peer = False
        "#]],
    )
    .await;
    good(
        &served,
        "sh mod csm 5 ft",
        false,
        &expect![[r#"
        FT group is not configured
    "#]],
    )
    .await;
    good(
        &served,
        "sh run",
        false,
        &expect![[r#"
        module csm 5
         vlan 2 client
    "#]],
    )
    .await;
}

#[tokio::test]
async fn json_has_the_same_facts() {
    let served = Served::start();
    good(
        &served,
        "show module csm 5 reals | json",
        false,
        &expect![[r#"
            [
              {
                "address": "192.158.39.101",
                "port": null,
                "serverfarm": "WEB",
                "weight": 0,
                "admin_weight": 8,
                "state": "probe_failed",
                "max_connections": null,
                "min_connections": null,
                "reason": "probe TCP port 80: connection refused",
                "connections": 3,
                "total_connections": 4,
                "client_packets": 5,
                "server_packets": 6
              }
            ]
        "#]],
    )
    .await;
    good(
        &served,
        "show module csm 5 ft",
        true,
        &expect![[r#"
        null
    "#]],
    )
    .await;
}

#[tokio::test]
async fn a_command_that_worked_says_nothing() {
    let served = Served::start();
    served.backend.peer.store(true, std::sync::atomic::Ordering::Relaxed);
    good(&served, "clear module csm 5 ft active", false, &expect![[""]]).await;
    assert!(served.backend.forced.load(std::sync::atomic::Ordering::Relaxed));
}

#[tokio::test]
async fn refusals_faults_and_bad_input_differ_in_their_status() {
    let served = Served::start();
    bad(
        &served,
        "clear module csm 5 ft active",
        FAILED,
        &expect![[r#"
        % no peer is heard
          remedy: start the other node
    "#]],
    )
    .await;
    bad(
        &served,
        "show module csm 5 vservers",
        FAILED,
        &expect![[r#"
        % map VSERVER_COUNTS cannot be read
    "#]],
    )
    .await;
    bad(
        &served,
        "show module csm 4 ft",
        BAD_INPUT,
        &expect![[r#"
        % there is no module csm 4 here: this node is module csm 5
    "#]],
    )
    .await;
    bad(
        &served,
        "clear module csm 4 ft active",
        BAD_INPUT,
        &expect![[r#"
        % there is no module csm 4 here: this node is module csm 5
    "#]],
    )
    .await;
    bad(
        &served,
        "show module csm 5 ft please",
        BAD_INPUT,
        &expect![[r#"
            show module csm 5 ft please
                                 ^
            % invalid word "please"; possible here:
              <cr>
              detail           all about each
              explain          why this box has its role, what would change it
              readiness        whether a box may be lost now, exit status 0 or 1
              track            what must be up for this box to have the role
        "#]],
    )
    .await;
}

#[tokio::test]
async fn without_a_daemon_a_sentence_says_so() {
    let dir = Dir::new();
    let output = csm(dir.socket(), "show module csm 5 ft", false).await;
    let stderr = output.stderr.replace(&dir.socket().display().to_string(), "SOCKET");
    assert_eq!(output.status, FAILED);
    expect![[r#"
        % csmd is not running (no socket at SOCKET)
          remedy: start csmd, or name its socket with --socket
    "#]]
    .assert_eq(&stderr);
}

#[tokio::test]
async fn a_question_mark_needs_no_daemon() {
    let output = csm(Dir::new().socket(), "clear module ?", false).await;
    assert_eq!(
        output,
        Output { stdout: "  csm              Content Switching Module\n".to_owned(), ..Output::default() }
    );
}
