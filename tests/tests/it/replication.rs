//! Replication over a link of its own: two nodes in two network namespaces, link-local addresses, sockets bound to the
//! FT interface. Needs root.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use csm_user::model::StableId;
use csm_user::replication::record::{
    Conflict, ConnGone, ConnKey, ConnRecord, ConnState, DeltaEvent, Handshake, Refusal, ReplicaTable,
    StickyKey, StickyRecord,
};
use csm_user::replication::role::Role;
use csm_user::replication::sender;
use csm_user::replication::task::{PORT, PeerAddr, ReplHandle, ReplOptions, spawn};
use csm_user::secure::Keys;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

/// Connections only; the stream is what is tested here.
#[derive(Default)]
struct Table(Mutex<BTreeMap<ConnKey, ConnRecord>>);

impl Table {
    fn content(&self) -> BTreeMap<ConnKey, ConnRecord> {
        self.0.lock().expect("no holder panics").clone()
    }
}

impl ReplicaTable for Table {
    fn upsert_connections(&self, records: &[ConnRecord], _: Conflict) -> Vec<Result<(), Refusal>> {
        self.0.lock().expect("no holder panics").extend(records.iter().map(|record| (record.key, *record)));
        vec![Ok(()); records.len()]
    }

    fn enter_handshakes(&self, _: &[Handshake], _: Conflict) -> usize {
        0
    }

    fn delete_connections(&self, gone: &[ConnGone], _: Conflict) {
        self.0.lock().expect("no holder panics").retain(|key, _| gone.iter().all(|gone| gone.key != *key));
    }

    fn upsert_sticky(&self, records: &[StickyRecord], _: Conflict) -> Vec<Result<(), Refusal>> {
        vec![Err(Refusal::TableFull); records.len()]
    }

    fn delete_sticky(&self, _: &[StickyKey]) {}

    fn visit_connections(&self, visit: &mut dyn FnMut(&[ConnRecord]) -> ControlFlow<()>) -> io::Result<()> {
        // Whether the visitor had enough makes no difference after a single chunk.
        let _enough = visit(&self.content().into_values().collect::<Vec<_>>());
        Ok(())
    }

    fn visit_sticky(&self, _: &mut dyn FnMut(&[StickyRecord]) -> ControlFlow<()>) -> io::Result<()> {
        Ok(())
    }
}

fn connection(number: u16) -> ConnRecord {
    ConnRecord {
        key: ConnKey {
            proto: 6,
            client_vlan: 2,
            client: Ipv4Addr::new(10, 0, 0, 1).into(),
            client_port: number,
            virtual_address: Ipv4Addr::new(192, 158, 38, 30).into(),
            virtual_port: 80,
        },
        real: Ipv4Addr::new(192, 158, 39, 101).into(),
        real_port: 80,
        source: Ipv4Addr::new(10, 0, 0, 1).into(),
        source_port: number,
        server_vlan: 3,
        vserver: StableId(1),
        real_id: StableId(2),
        via: StableId::NONE,
        state: ConnState::Established,
        generation: 1,
        idle_s: 0,
    }
}

fn ip(arguments: &str) {
    let status =
        Command::new("ip").args(arguments.split_whitespace()).status().expect("iproute2 is installed");
    assert!(status.success(), "ip {arguments}");
}

/// A thread in a network namespace of its own, which goes with it; it runs what it is sent.
struct Host {
    tid: i32,
    jobs: Sender<Box<dyn FnOnce() + Send>>,
}

impl Host {
    fn new() -> Self {
        let (jobs, queue): (_, Receiver<Box<dyn FnOnce() + Send>>) = channel();
        let (tid, told) = channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("tests that make namespaces run as root");
            tid.send(gettid().as_raw()).expect("the test waits for it");
            queue.into_iter().for_each(|job| job());
        });
        Self { tid: told.recv().expect("the namespace was made"), jobs }
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (result, told) = channel();
        let job = move || result.send(job()).unwrap_or_else(|_| unreachable!("the test waits for it"));
        self.jobs.send(Box::new(job)).expect("the host's thread runs");
        told.recv().expect("the job does not panic")
    }
}

struct Node {
    host: Host,
    runtime: tokio::runtime::Runtime,
    handle: ReplHandle,
    table: Arc<Table>,
    events: crossbeam::channel::Sender<DeltaEvent>,
}

impl Node {
    /// On `host`, whose FT interface is up. All its sockets are made by the host's own thread or its children.
    fn start(host: Host, interface: &'static str, nonce: u64) -> Self {
        let table = Arc::new(Table::default());
        let (events, source) = crossbeam::channel::bounded(1000);
        let events_for_flush = events.clone();
        let for_node = Arc::<Table>::clone(&table);
        let (runtime, handle) = host.run(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .expect("threads can be made");
            let options = ReplOptions {
                group: 1,
                nonce,
                interface: Some(interface.into()),
                listen: SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, PORT, 0, 0),
                keys: Keys::default(),
                versions: csm_user::replication::wire::VERSIONS,
                failover: Duration::from_millis(150),
                sender: sender::Options::default(),
                table: for_node,
                events: source,
                flush: Box::new(move || {
                    events_for_flush.send(DeltaEvent::Flushed).expect("replication runs");
                }),
            };
            let handle = {
                let _inside = runtime.enter();
                spawn(options).expect("the interface is there")
            };
            (runtime, handle)
        });
        Self { host, runtime, handle, table, events }
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "not within half a minute: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn replication_runs_on_the_ft_link_and_survives_its_loss() {
    let (left, right) = (Host::new(), Host::new());
    let right_tid = right.tid;
    left.run(move || {
        ip(&format!("link add ft0 type veth peer name ft1 netns {right_tid}"));
        ip("link set ft0 addrgenmode none up");
        ip("address add fe80::a/64 dev ft0 nodad");
    });
    let bring_up = || {
        ip("link set ft1 addrgenmode none up");
        ip("address add fe80::b/64 dev ft1 nodad");
    };
    right.run(bring_up);
    let scope =
        |interface: &'static str| move || nix::net::if_::if_nametoindex(interface).expect("it was made");
    let (left_scope, right_scope) = (left.run(scope("ft0")), right.run(scope("ft1")));
    let active = Node::start(left, "ft0", 1);
    let standby = Node::start(right, "ft1", 2);
    let peer = |host: u16, scope, nonce| {
        let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host);
        Some(PeerAddr { addr: SocketAddrV6::new(address, PORT, 0, scope), nonce })
    };

    let records = (1..=2000).map(connection);
    active.table.0.lock().expect("no holder panics").extend(records.map(|record| (record.key, record)));
    active.handle.role(Role::Active, 1);
    active.handle.peer(peer(0xb, left_scope, 2));
    standby.handle.peer(peer(0xa, right_scope, 1));
    let complete = || standby.handle.completeness().borrow().complete;
    until("the standby is complete", complete);
    assert_eq!(standby.table.content(), active.table.content());

    standby.host.run(|| ip("link set ft1 down"));
    until("both streams are given up", || {
        active.handle.status().outgoing.is_none() && standby.handle.status().incoming.is_none()
    });
    assert!(!complete());
    let late = connection(3000);
    active.table.0.lock().expect("no holder panics").insert(late.key, late);
    active.events.send(DeltaEvent::ConnectionUp(late)).expect("replication runs");
    standby.host.run(bring_up);
    until("the standby is complete again", complete);
    assert_eq!(standby.table.content(), active.table.content());

    for node in [active, standby] {
        drop(node.handle);
        node.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}
