//! A pair with a witness: parted on every VLAN, and with one box or the witness dead.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use csm_tests::lab::{Lab, Options};
use csm_tests::link::{self, Cut};
use csm_tests::netns::Netns;
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::status::Role;
use csm_tests::topology::Side;
use csm_tests::wait;
use serde_json::Value;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(20);
const PACE: Duration = Duration::from_millis(20);
/// Several times what a takeover takes.
const LONG: Duration = Duration::from_millis(1_200);

/// The third host, linked to both nodes by cables of its own.
struct Witness {
    host: Netns,
    csmd: Child,
}

impl Witness {
    fn start(lab: &Lab) -> Self {
        let host = Netns::create(&lab.id, "witness").expect("a namespace");
        let mut csmd = Self::csmd(lab, &host);
        for (number, side) in (1..).zip(Side::BOTH) {
            let node = lab.topology.node(side);
            let lines = [
                format!("link add w{number} type veth peer name witness netns {}", node.name()),
                format!("addr add 10.9.{number}.1/24 dev w{number}"),
                format!("link set w{number} up"),
            ];
            host.ip(&lines).expect("a cable");
            let lines = [
                format!("addr add 10.9.{number}.2/24 dev witness"),
                "link set witness up".to_owned(),
                format!("route add 10.9.0.9/32 via 10.9.{number}.1"),
            ];
            node.ip(&lines).expect("its other end");
        }
        host.ip(&["addr add 10.9.0.9/32 dev lo".to_owned()]).expect("an address");
        assert!(csmd.try_wait().expect("its state").is_none(), "it runs");
        Self { host, csmd }
    }

    fn csmd(lab: &Lab, host: &Netns) -> Child {
        let log = lab.out("witness.log");
        let mut command = host.command(&lab.options.programs.csmd.path).expect("csmd");
        command.arg("--witness").arg("--config").arg(lab.out("node-a.cfg")).arg("--log").arg(log);
        command.stdin(Stdio::null()).spawn().expect("the witness starts")
    }

    /// The cable to a node.
    fn cable(&self, side: Side, state: &str) {
        let number = if side == Side::A { 1 } else { 2 };
        self.host.ip(&[format!("link set w{number} {state}")]).expect("a cable");
    }

    fn stop(&mut self) {
        self.csmd.kill().expect("it runs");
        self.csmd.wait().expect("its end");
    }
}

fn gates(lab: &mut Lab) -> [String; 2] {
    Side::BOTH.map(|side| {
        let shown = lab.node(side).show("ft detail");
        shown.map_or_else(
            |_| "closed".to_owned(),
            |ft| ft["lease"]["gate"].as_str().expect("a gate").to_owned(),
        )
    })
}

/// For a while: of this side the gate is open, of the other it is not.
fn stays(lab: &mut Lab, active: Side) {
    let end = Instant::now() + LONG;
    while Instant::now() < end {
        let gates = gates(lab);
        let [own, other] = if active == Side::A { [&gates[0], &gates[1]] } else { [&gates[1], &gates[0]] };
        assert_eq!((own.as_str(), other.as_str()), ("open", "closed"), "{active:?}");
    }
}

fn waits_for(lab: &mut Lab, side: Side, role: Role) {
    let node = lab.node(side);
    let last = || node.command("show module csm 5 ft explain");
    let found =
        wait::until("a role", LIMIT, PACE, || Ok(node.status().ok().filter(|status| status.role == role)));
    assert!(found.is_ok(), "{side:?} {role:?}: {:?}", last());
}

/// The last entry of this kind in a node's recorder.
fn recorded(lab: &mut Lab, side: Side, action: &str) -> Value {
    let ft = lab.node(side).show("ft detail").expect("an answer");
    let entries = ft["recorder"].as_array().expect("a recorder").clone();
    entries.into_iter().rfind(|entry| entry["action"] == action).expect("an entry")
}

fn says(lab: &mut Lab, side: Side, words: &str, sentence: &str) {
    let mut last = String::new();
    let said = wait::until("a sentence", LIMIT, PACE, || {
        let asked = lab.node(side).csm().args(words.split(' ')).output()?;
        last = String::from_utf8_lossy(&asked.stdout).into_owned() + &String::from_utf8_lossy(&asked.stderr);
        Ok(last.contains(sentence).then_some(()))
    });
    assert!(said.is_ok(), "{side:?}, `{words}`: {sentence}: {last}");
}

#[test]
fn with_a_witness_exactly_one_box_forwards_whatever_is_parted() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let group = "  authentication key-string OneOfThree\n  witness 10.9.0.9\n".to_owned();
    let options = Options { group: [group.clone(), group], ..Options::small(programs, out("witness")) };
    let mut lab = Lab::build(options).expect("a lab");
    let mut witness = Witness::start(&lab);
    let active = lab.start(LIMIT).expect("a pair");
    let standby = active.peer();
    for side in Side::BOTH {
        says(&mut lab, side, "show module csm 5 ft readiness", "the witness answers both boxes");
    }
    let role = if active == Side::A { "this box" } else { "another box" };
    says(&mut lab, Side::A, "show module csm 5 ft", &format!(" and grants the role to {role}\n"));

    // Parted on every VLAN, the witness in reach of both.
    let ports: Vec<_> = (1..=3).map(|interface| active.port(interface)).collect();
    ports.iter().for_each(|port| link::cut(&lab.topology.switch, port, Cut::Both).expect("a cut"));
    says(
        &mut lab,
        standby,
        "show module csm 5 ft explain",
        "the witness has not granted the role to this box",
    );
    stays(&mut lab, active);
    // Now of the standby only.
    witness.cable(active, "down");
    waits_for(&mut lab, standby, Role::Active);
    stays(&mut lab, standby);
    let [fenced, claimed] = [recorded(&mut lab, active, "fence"), recorded(&mut lab, standby, "claim")];
    assert_eq!(fenced["reason"], "lease expired");
    assert!(claimed["at_unix_ms"].as_u64() >= fenced["at_unix_ms"].as_u64(), "{claimed} {fenced}");
    witness.cable(active, "up");
    stays(&mut lab, standby);
    ports.iter().for_each(|port| link::mend(&lab.topology.switch, port).expect("mended"));
    waits_for(&mut lab, active, Role::Standby);
    says(&mut lab, standby, "show module csm 5 ft readiness", "yes: ");

    // A box dies: the other one has the role as soon as without a witness.
    lab.fail(standby, Fault::Kill).expect("a kill");
    waits_for(&mut lab, active, Role::Active);
    let claimed = recorded(&mut lab, active, "claim");
    let silence = claimed["peer_heard_ms_ago"].as_u64().expect("it was heard");
    println!("took the role {silence} ms after the last word of the peer");
    // The waiting time is 150 ms. How much later a thread is on a loaded machine is no test's matter.
    assert!((150..1_000).contains(&silence), "{claimed}");
    // Alone it lives by the witness's grants, also over a restart of the witness.
    witness.stop();
    witness.csmd = Witness::csmd(&lab, &witness.host);
    lab.restore(standby).expect("a start");
    waits_for(&mut lab, standby, Role::Standby);

    // Without the witness the pair goes on, and says that it would not survive a death.
    witness.stop();
    let found = "witness 10.9.0.9 does not answer";
    says(&mut lab, active, "show module csm 5 ft readiness", &format!("{found} the peer"));
    says(&mut lab, standby, "show module csm 5 ft readiness", &format!("{found} this box"));
    says(
        &mut lab,
        standby,
        "show module csm 5 ft",
        "without it this box does not take the role from a peer that is silent",
    );
    says(&mut lab, standby, "show module csm 5 ft explain", "nobody takes the role");
    stays(&mut lab, active);
    lab.fail(active, Fault::Kill).expect("a kill");
    says(
        &mut lab,
        standby,
        "show module csm 5 ft explain",
        "nothing is heard of the peer, and the witness has not granted",
    );
    let end = Instant::now() + LONG;
    while Instant::now() < end {
        assert_eq!(gates(&mut lab)[usize::from(standby == Side::B)], "closed");
    }
    drop(witness);
    finish(lab);
}
