//! Two real-time threads over a veth pair: election, forced switchover, a stopped controller, leaving.

use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use csm_common::gate::{Gate, GateState};
use csm_user::ft::{
    Controls, FtCommand, FtHandle, FtOptions, GateCell, Reason, State, TakeoverActions, task,
};
use csm_user::model::{FtGroup, FtKeys, VlanId};
use nix::sched::{CloneFlags, setns};
use nix::time::{ClockId, clock_gettime};

const HEARTBEAT: Duration = Duration::from_millis(50);
const FAILOVER: Duration = Duration::from_millis(150);
/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

fn now_ns() -> u64 {
    u64::try_from(nix::sys::time::TimeValLike::num_nanoseconds(
        &clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock"),
    ))
    .expect("after boot")
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split_whitespace()).status().expect("ip runs");
    assert!(done.success(), "ip {arguments}");
}

/// Two namespaces, joined by a veth pair; gone when dropped.
struct Link {
    names: [String; 2],
}

impl Link {
    fn new() -> Self {
        let names = ["a", "b"].map(|end| format!("csmft-{end}-{}", std::process::id()));
        for name in &names {
            ip(&format!("netns add {name}"));
            // Without this the first link-local address is tentative for more than a second.
            let sysctl = ["all", "default"].map(|which| format!("net.ipv6.conf.{which}.accept_dad=0"));
            ip(&format!("netns exec {name} sysctl -q -w {} {}", sysctl[0], sysctl[1]));
        }
        let [a, b] = &names;
        ip(&format!("-n {a} link add name ft0 index 100 type veth peer name ft0 index 200 netns {b}"));
        names.iter().for_each(|name| ip(&format!("-n {name} link set ft0 up")));
        Self { names }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for name in &self.names {
            // Best effort: the test may have failed before it was made.
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// A gate that keeps what was stored and when, and can hold up the thread that stores, as SIGSTOP would.
#[derive(Default)]
struct Recorder {
    stores: Mutex<Vec<(u64, Gate)>>,
    frozen: Mutex<bool>,
    thawed: Condvar,
}

impl Recorder {
    fn freeze(&self, frozen: bool) {
        *self.frozen.lock().expect("not poisoned") = frozen;
        self.thawed.notify_all();
    }

    fn state(&self) -> GateState {
        self.load().state_at(now_ns())
    }

    /// From when to when the gate was open.
    fn open(&self) -> Vec<(u64, u64)> {
        let stores = self.stores.lock().expect("not poisoned");
        let ends = stores.iter().skip(1).map(|&(at, _)| at).chain([u64::MAX]);
        let spans = stores.iter().zip(ends).map(|(&(at, gate), end)| (gate, at, end.min(gate.deadline_ns())));
        spans
            .filter(|&(gate, at, _)| gate.state_at(at) == GateState::Open)
            .map(|(_, at, end)| (at, end))
            .collect()
    }
}

impl GateCell for Recorder {
    fn store(&self, gate: Gate) {
        let frozen = self.frozen.lock().expect("not poisoned");
        drop(self.thawed.wait_while(frozen, |frozen| *frozen).expect("not poisoned"));
        self.stores.lock().expect("not poisoned").push((now_ns(), gate));
    }

    fn load(&self) -> Gate {
        self.stores.lock().expect("not poisoned").last().map_or(Gate::CLOSED, |&(_, gate)| gate)
    }
}

#[derive(Default)]
struct Actions {
    announced: Mutex<u32>,
    peer_mac: Mutex<Option<[u8; 6]>>,
}

impl TakeoverActions for Actions {
    fn adopt(&self, _: u64) {}

    fn announce(&self) {
        *self.announced.lock().expect("not poisoned") += 1;
    }

    fn set_peer_mac(&self, mac: [u8; 6]) {
        *self.peer_mac.lock().expect("not poisoned") = Some(mac);
    }

    fn promise(&self, _: u64) {}
}

struct Node {
    handle: FtHandle,
    gate: Arc<Recorder>,
    actions: Arc<Actions>,
}

impl Node {
    fn start(namespace: &str, number: u8, ifindex: u32) -> Self {
        let (gate, actions) = (Arc::new(Recorder::default()), Arc::new(Actions::default()));
        let options = FtOptions {
            group: FtGroup {
                group: 1,
                vlan: VlanId::new(9).expect("a VLAN"),
                priority: 10 * number,
                alt_priority: None,
                preempt: false,
                sync_auto: false,
                takeover_synchronized: false,
                heartbeat: HEARTBEAT,
                failover: FAILOVER,
                keys: FtKeys::default(),
                witness: None,
                track: csm_user::model::Tracking::default(),
            },
            interface: "ft0".into(),
            ifindex,
            mac: [2, 0, 0, 0, 0, number],
            node: u64::from(number),
            nonce: now_ns(),
            secret: [number; 32],
            paths: Vec::new(),
            gate: Arc::clone(&gate) as Arc<dyn GateCell>,
            actions: Arc::clone(&actions) as Arc<dyn TakeoverActions>,
            config_checksum: 7,
            software_checksum: 7,
            promised_ns: 0,
            peer_lease: None,
            resumed: None,
            restraint: None,
            controls: Controls::default(),
        };
        let path = format!("/var/run/netns/{namespace}");
        let entered = thread::spawn(move || {
            let namespace = std::fs::File::open(path).expect("the namespace");
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root");
            task::spawn(options).expect("the thread starts")
        });
        Self { handle: entered.join().expect("no panic"), gate, actions }
    }

    fn state(&self) -> State {
        self.handle.status().state
    }

    /// What a healthy daemon keeps saying.
    fn keep_alive(&self) {
        for command in
            [FtCommand::Alive, FtCommand::Forwardable(true), FtCommand::Replica { complete: true, lag_ms: 0 }]
        {
            // A thread that is held up takes none; the next round comes soon.
            let _ = self.handle.command(command);
        }
    }
}

fn wait(nodes: &[&Node], what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        let states: Vec<_> = nodes.iter().map(|node| (node.state(), node.gate.state())).collect();
        assert!(Instant::now() < end, "{what}: {states:?}");
        nodes.iter().for_each(|node| node.keep_alive());
        thread::park_timeout(Duration::from_millis(5));
    }
}

fn roles(one: &Node, other: &Node) -> (State, GateState, State) {
    (one.state(), one.gate.state(), other.state())
}

#[test]
fn two_threads_elect_move_the_role_survive_a_stop_and_leave() {
    let link = Link::new();
    let low = Node::start(&link.names[0], 1, 100);
    let high = Node::start(&link.names[1], 2, 200);
    let both = [&low, &high];
    wait(&both, "election by rank", || {
        roles(&high, &low) == (State::Active, GateState::Open, State::Standby)
    });
    wait(&both, "each knows its peer's port", || {
        let macs = both.map(|node| *node.actions.peer_mac.lock().expect("not poisoned"));
        macs == [Some([2, 0, 0, 0, 0, 2]), Some([2, 0, 0, 0, 0, 1])]
    });
    wait(&both, "replica", || {
        high.handle.status().peer.is_some_and(|peer| peer.replica_complete && peer.hears_us)
    });

    let (reply, answer) = tokio::sync::oneshot::channel();
    high.handle.command(FtCommand::ForceStandby(reply)).expect("taken");
    assert_eq!(answer.blocking_recv().expect("an answer"), Ok(()));
    wait(&both, "forced switchover", || {
        roles(&low, &high) == (State::Active, GateState::Open, State::RelayOut)
    });
    assert_eq!(high.gate.state(), GateState::RelayOut);
    assert_eq!(low.handle.status().reason, Reason::Offered);

    low.gate.freeze(true);
    wait(&both, "takeover from a stopped controller", || high.gate.state() == GateState::Open);
    assert_eq!(low.gate.state(), GateState::Closed, "its lease is over though it could not say so");
    low.gate.freeze(false);
    wait(&both, "the woken node is standby", || {
        roles(&high, &low) == (State::Active, GateState::Open, State::Standby)
    });
    let woken = low.handle.status();
    assert_eq!(woken.flights.last().map(|flight| flight.reason), Some(Reason::LeaseExpired));

    high.handle.command(FtCommand::Leave).expect("taken");
    wait(&both, "leave", || roles(&low, &high) == (State::Active, GateState::Open, State::Left));
    assert!(*low.actions.announced.lock().expect("not poisoned") >= 2, "announced at each takeover");
    let counters = low.handle.status().counters;
    assert_eq!((counters.decode.total(), counters.hop_limit, counters.send_errors), (0, 0, 0));
    let spans = [low.gate.open(), high.gate.open()];
    for one in &spans[0] {
        for other in &spans[1] {
            assert!(one.1 <= other.0 || other.1 <= one.0, "two active: {one:?} {other:?}");
        }
    }
    high.handle.join().expect("no panic");
    // Without a peer it fences and ends.
    low.handle.command(FtCommand::Leave).expect("taken");
    low.handle.join().expect("no panic");
    assert_eq!(low.gate.load(), Gate::CLOSED);
}
