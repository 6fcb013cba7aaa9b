//! Keys of the FT group: set and changed while the pair works; nobody else is believed.

use std::io::Write;
use std::net::UdpSocket;
use std::process::Stdio;
use std::time::Duration;

use csm_tests::figure::Timers;
use csm_tests::lab::{Lab, Options};
use csm_tests::node::Node;
use csm_tests::programs::Programs;
use csm_tests::topology::Side;
use csm_tests::wait;
use csm_user::ft::election::{Election, Params};
use csm_user::ft::envelope::{self, PATHS_MAX};
use csm_user::ft::keyring::Keyring;
use csm_user::ft::wire::{Kind, Message};
use csm_user::ft::{State, task};
use csm_user::model::{FtKeys, Secret};
use serde_json::Value;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(10);

fn configure(node: &Node, lines: &str) {
    let mut child = node
        .csm()
        .args(["configure", "terminal"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("csm");
    let text = format!("module csm 5\n ft group 1 vlan 9\n{lines}");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success(), "{lines}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Terms, once both boxes hear each other on all three VLANs by `key`.
fn settled(lab: &Lab, key: &str) -> [Value; 2] {
    wait::until("both boxes heard by the key", LIMIT, Duration::from_millis(20), || {
        let shown = [lab.nodes[0].show("ft")?, lab.nodes[1].show("ft")?];
        let good = shown.iter().all(|ft| {
            let paths = ft["paths"].as_array().map(Vec::as_slice).unwrap_or_default();
            let heard = paths.iter().filter(|path| path["heard"] == true && path["hears_us"] == true).count();
            ft["authenticated"] == key && heard == 3
        });
        Ok(good.then(|| shown.each_ref().map(|ft| ft["term"].clone())))
    })
    .expect("both boxes hear each other")
}

#[test]
fn keys_are_set_and_changed_while_the_pair_works_and_nobody_else_is_believed() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let mut lab = Lab::build(Options::small(programs, out("keys"))).expect("a lab");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let before = settled(&lab, "key agreed over the FT VLAN");
    let steps = [
        ("  authentication accept key-string one\n", "configured key, not required yet"),
        ("  authentication key-string one\n  no authentication accept key-string\n", "configured key"),
        ("  authentication accept key-string two\n", "configured key"),
        ("  authentication key-string two\n  authentication accept key-string one\n", "configured key"),
        ("  no authentication accept key-string\n", "configured key"),
    ];
    for (lines, key) in steps {
        lab.nodes.iter().for_each(|node| configure(node, lines));
        assert_eq!(settled(&lab, key), before, "{lines}");
    }
    for shown in lab.nodes.each_ref().map(|node| node.command("show running-config").expect("shown")) {
        assert!(
            shown.contains("authentication key-string 7 ") && !shown.contains("key-string two"),
            "{shown}"
        );
    }

    wait::until("replication is sealed", LIMIT, Duration::from_millis(20), || {
        let shown = [lab.nodes[0].show("ft")?, lab.nodes[1].show("ft")?];
        Ok(shown.iter().all(|ft| ft["encrypted"] == true && ft["readiness"]["ready"] == true).then_some(()))
    })
    .expect("both streams stand, with the key");
    let synced = lab.node(active).command("hw-module csm 5 standby config-sync").expect("synchronized");
    assert!(synced.contains("Manual bulk sync completed"), "{synced}");

    let refused = |lab: &Lab| {
        let detail = lab.nodes[0].show("ft detail").expect("shown");
        detail["counters"]["packets"]["checksum_failed"].as_u64().expect("a number")
    };
    let already = refused(&lab);
    let [address, _] = Side::A.addresses();
    let sent = lab.topology.router.within(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_ttl(255)?;
        for key in [None, Some("one")] {
            socket.send_to(&rival(key), (address, task::PORT))?;
        }
        Ok::<_, std::io::Error>(2)
    });
    let sent = sent.expect("in the router").expect("sent");
    wait::until("both counted", LIMIT, Duration::from_millis(20), || {
        Ok((refused(&lab) >= already + sent).then_some(()))
    })
    .expect("a key that is over, and none, are refused");
    assert_eq!(settled(&lab, "configured key"), before);
    assert_eq!(lab.wait_for_active(LIMIT).expect("an active node"), active);
    finish(lab);
}

/// What a stranger says who would be active, in a term that nobody can have reached.
fn rival(key: Option<&str>) -> Vec<u8> {
    let timers = Timers::FAST;
    let own = Election::new(Params {
        group: 1,
        node: 77,
        nonce: 77,
        priority: 254,
        preempt: true,
        heartbeat: timers.heartbeat,
        failover: timers.failover,
        lease: timers.heartbeat * 2,
        hold: Duration::ZERO,
        proven_only: false,
        witness: false,
        damping: Duration::ZERO,
        mac: [2, 0, 0, 0, 0, 7],
        config_checksum: 0,
        software_checksum: 0,
    });
    let message = Message { state: State::Active, term: 1_000, sequence: 1, ..own.message(Kind::Coup) };
    let keys = FtKeys { sign: key.map(Secret::new), accept: None };
    envelope::seal(&message, [0; PATHS_MAX], &Keyring::new(&keys, [7; 32])).to_vec()
}
