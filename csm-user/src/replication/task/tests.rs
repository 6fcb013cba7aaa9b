//! Two nodes over the loopback address, with tables in memory.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use crossbeam::channel;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::{PeerAddr, ReplHandle, ReplOptions, spawn};
use crate::model::{FtKeys, Secret, StableId};
use crate::replication::record::{ConnGone, ConnKey, ConnRecord, DeltaEvent};
use crate::replication::role::Role;
use crate::replication::sender;
use crate::replication::testing::{MemoryTable, connection, sticky};
use crate::secure::Keys;

struct Node {
    handle: ReplHandle,
    table: Arc<MemoryTable>,
    events: channel::Sender<DeltaEvent>,
    nonce: u64,
}

const LOOPBACK: SocketAddrV6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, 0);

impl Node {
    fn start(nonce: u64) -> Self {
        Self::with_keys(nonce, Keys::default())
    }

    fn with_keys(nonce: u64, keys: Keys) -> Self {
        let table = Arc::new(MemoryTable::default());
        let (events, source) = channel::bounded(10_000);
        let told = events.clone();
        let options = ReplOptions {
            group: 1,
            nonce,
            interface: None,
            listen: LOOPBACK,
            keys,
            versions: crate::replication::wire::VERSIONS,
            failover: Duration::from_millis(150),
            sender: sender::Options::default(),
            table: Arc::<MemoryTable>::clone(&table),
            events: source,
            // Nothing is on its way but what is in the channel.
            flush: Box::new(move || told.send(DeltaEvent::Flushed).expect("replication runs")),
        };
        Self { handle: spawn(options).expect("the loopback address is there"), table, events, nonce }
    }

    /// As the election tells it, with the present time.
    fn role(&self, role: Role) {
        self.handle.role(role, clock());
    }

    fn address(&self) -> PeerAddr {
        PeerAddr { addr: self.handle.local_addr(), nonce: self.nonce }
    }

    fn fill(&self, count: u32) {
        let mut content = self.table.content();
        content.connections =
            (0..count).map(|number| connection(number, 101, number)).map(|c| (c.key, c)).collect();
        let sticks = (0..50).map(|number| sticky(number, 3));
        content.sticky = sticks.map(|record| (record.key, record)).collect();
    }

    fn open(&self, record: ConnRecord) {
        self.table.content().connections.insert(record.key, record);
        self.events.send(DeltaEvent::ConnectionUp(record)).expect("replication runs");
    }

    fn connections(&self) -> BTreeMap<ConnKey, ConnRecord> {
        self.table.content().connections.clone()
    }

    fn is_complete(&self) -> bool {
        self.handle.completeness().borrow().complete
    }
}

fn clock() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).expect("no test takes centuries")
}

fn introduce(one: &Node, other: &Node) {
    one.handle.peer(Some(other.address()));
    other.handle.peer(Some(one.address()));
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_gets_a_snapshot_and_then_each_change() {
    let (one, other) = (Node::start(1), Node::start(2));
    one.fill(100_000);
    one.role(Role::Active);
    introduce(&one, &other);
    until("the standby says complete", || other.is_complete()).await;
    assert_eq!(other.connections(), one.connections());
    assert_eq!(other.table.content().sticky, one.table.content().sticky);
    assert!(one.handle.completeness().borrow().peer_complete);

    for number in 0..50 {
        let record = connection(200_000 + number, 102, 1);
        one.open(record);
        until("a change is there", || other.table.content().connections.contains_key(&record.key)).await;
    }
    let gone = connection(200_000, 102, 1);
    one.table.content().connections.remove(&gone.key);
    let event = DeltaEvent::ConnectionClosed(ConnGone { key: gone.key, generation: 1 });
    one.events.send(event).expect("replication runs");
    until("a deletion is there", || !other.table.content().connections.contains_key(&gone.key)).await;

    until("the maps were compared", || {
        let status = one.handle.status().outgoing;
        status.and_then(|status| status.coverage).is_some_and(|(_, coverage)| {
            (coverage.connections_held, coverage.connections_known) == (100_049, 100_049)
                && coverage.buckets_differing == 0
        })
    })
    .await;
    let status = one.handle.status();
    assert!(!status.encrypted());
    let outgoing = status.outgoing.expect("the stream stands");
    println!("worst delta {:?}, last {:?}", outgoing.worst_ack, outgoing.last_ack);
    assert_eq!(outgoing.unacked, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_change_and_the_replica_goes_the_other_way() {
    let (one, other) = (Node::start(1), Node::start(2));
    one.fill(2_000);
    one.role(Role::Active);
    introduce(&one, &other);
    until("the standby says complete", || other.is_complete()).await;

    one.role(Role::Yielding);
    assert!(!one.is_complete(), "what it holds was its own and is no replica yet");
    other.role(Role::Active);
    assert!(other.is_complete(), "its table is the original now");
    other.table.content().connections.pop_first();
    other.open(connection(5_000, 103, 1));
    until("the former active says complete", || one.is_complete()).await;
    until("its table is the new active's", || one.connections() == other.connections()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_move_loses_nothing_that_was_still_on_its_way() {
    let (one, other) = (Node::start(1), Node::start(2));
    one.fill(2_000);
    one.role(Role::Active);
    introduce(&one, &other);
    until("the standby says complete", || other.is_complete()).await;

    // Told in one burst, most of it after the roles have changed, and one record that comes only when asked for.
    for number in 10_000..15_000 {
        one.open(connection(number, 102, number));
    }
    other.role(Role::Active);
    one.role(Role::Yielding);
    other.open(connection(20_000, 103, 1));
    tokio::time::timeout(Duration::from_secs(30), one.handle.handed_over()).await.expect("it has its bounds");
    assert_eq!(other.connections().len(), 7_001, "acknowledged means held");
    until("the former active says complete", || one.is_complete()).await;
    until("both tables are equal", || one.connections() == other.connections()).await;
    assert_eq!(one.connections().len(), 7_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rivalry_both_have_what_either_had() {
    let (one, other) = (Node::start(1), Node::start(2));
    for (node, first) in [(&one, 0), (&other, 5_000)] {
        node.role(Role::Active);
        (first..first + 10_000).for_each(|number| node.open(connection(number, 101, number)));
    }
    until("both events queues were read", || one.events.is_empty() && other.events.is_empty()).await;
    // Ended at the winner; the loser has it still.
    let gone = connection(7_000, 101, 7_000);
    other.table.content().connections.remove(&gone.key);
    let event = DeltaEvent::ConnectionClosed(ConnGone { key: gone.key, generation: gone.generation });
    other.events.send(event).expect("replication runs");
    until("it was heard", || other.handle.status().discarded_events == 10_001).await;
    one.role(Role::Lost);
    introduce(&one, &other);
    tokio::time::timeout(Duration::from_secs(30), one.handle.handed_over()).await.expect("it has its bounds");
    assert_eq!(other.connections().len(), 14_999);
    assert!(!other.connections().contains_key(&gone.key));
    until("the loser says complete", || one.is_complete()).await;
    until("both tables are equal", || one.connections() == other.connections()).await;
    assert_eq!(one.connections().len(), 14_999);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_predecessor_that_left_is_heard_to_the_end() {
    let (one, other) = (Node::start(1), Node::start(2));
    one.role(Role::Active);
    introduce(&one, &other);
    until("the standby says complete", || other.is_complete()).await;
    other.role(Role::Active);
    other.handle.peer(None);
    one.role(Role::Yielding);
    one.open(connection(1, 101, 1));
    one.handle.handed_over().await;
    assert_eq!(other.connections().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_source_lost_is_repaired() {
    let (one, other) = (Node::start(1), Node::start(2));
    one.role(Role::Active);
    introduce(&one, &other);
    until("the standby says complete", || other.is_complete()).await;
    one.fill(300);
    one.events.send(DeltaEvent::Lost(350)).expect("replication runs");
    until("the tables are equal", || other.connections().len() == 300).await;
    until("the standby says complete again", || other.is_complete()).await;
    let outgoing = || one.handle.status().outgoing.expect("the stream stands");
    until("the repair is shown", || outgoing().last_repair.is_some()).await;
    assert_eq!(outgoing().lost_events, 350);
    assert_eq!(outgoing().last_repair.map(|repair| (repair.buckets, repair.entries)), Some((256, 350)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_entry_is_shown_and_offered_again() {
    let (one, other) = (Node::start(1), Node::start(2));
    other.table.content().unknown.insert(StableId(3));
    one.fill(70);
    one.role(Role::Active);
    introduce(&one, &other);
    let refused = || one.handle.status().outgoing.map_or(0, |outgoing| outgoing.refused_buckets);
    until("refusals are shown", || refused() > 0).await;
    assert_eq!(other.connections().len(), 60);
    other.table.content().unknown.clear();
    until("the tables are equal", || other.connections().len() == 70).await;
    until("nothing is refused", || refused() == 0).await;
    until("the standby says complete", || other.is_complete()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_boot_or_an_unknown_node_is_turned_away() {
    let (one, other) = (Node::start(1), Node::start(2));
    one.role(Role::Active);
    one.fill(10);
    one.handle.peer(Some(other.address()));
    until("an unknown node is turned away", || other.handle.status().rejected > 0).await;
    let rejected = other.handle.status().rejected;
    other.handle.peer(Some(PeerAddr { nonce: 99, ..one.address() }));
    until("another boot is turned away", || other.handle.status().rejected > rejected).await;
    assert!(other.connections().is_empty());
    other.handle.peer(Some(one.address()));
    until("the right one is not", || other.is_complete()).await;
    other.handle.peer(None);
    until("a peer that is gone has no stream", || other.handle.status().incoming.is_none()).await;
    assert!(!other.is_complete());
}

/// Carries one connection after the other to `target`, cutting each after the next number of octets from `limits`.
async fn cutting_proxy(listener: TcpListener, target: SocketAddrV6, mut limits: mpsc::Receiver<usize>) {
    while let Some(limit) = limits.recv().await {
        let Ok((mut client, _)) = listener.accept().await else { return };
        let mut server = TcpStream::connect(target).await.expect("the target listens");
        let (mut forward, mut back) = (vec![0; 4096], vec![0; 4096]);
        let mut left = limit;
        while left > 0 {
            let wanted = left.min(forward.len());
            let carried = tokio::select! {
                read = client.read(&mut forward[..wanted]) => match read {
                    Ok(octets) if octets > 0 => {
                        left -= octets;
                        server.write_all(&forward[..octets]).await
                    }
                    _ => break,
                },
                read = server.read(&mut back) => match read {
                    Ok(octets) if octets > 0 => client.write_all(&back[..octets]).await,
                    _ => break,
                },
            };
            if carried.is_err() {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_cut_within_the_snapshot_begins_anew() {
    let (one, other) = (Node::start(1), Node::start(2));
    one.fill(20_000);
    one.role(Role::Active);
    let listener = TcpListener::bind(LOOPBACK).await.expect("the loopback address is there");
    let SocketAddr::V6(addr) = listener.local_addr().expect("it is bound") else { panic!("not IPv6") };
    let (limits, receiver) = mpsc::channel(8);
    let proxy = tokio::spawn(cutting_proxy(listener, other.handle.local_addr(), receiver));
    // Within the hello, within the begin, and three times within the chunks: one connection is 49 octets.
    for limit in [10, 60, 5_000, 123_457, 600_000] {
        limits.send(limit).await.expect("the proxy runs");
    }
    other.handle.peer(Some(one.address()));
    one.handle.peer(Some(PeerAddr { addr, nonce: 2 }));
    until("five streams were cut", || limits.capacity() == 8 && one.handle.status().connects >= 3).await;
    assert!(!other.is_complete());
    limits.send(usize::MAX).await.expect("the proxy runs");
    until("the standby says complete", || other.is_complete()).await;
    assert_eq!(other.connections(), one.connections());
    proxy.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_handle_frees_the_port() {
    let (one, other) = (Node::start(1), Node::start(2));
    introduce(&one, &other);
    until("both streams stand", || {
        let status = one.handle.status();
        status.incoming.is_some() && status.outgoing.is_some()
    })
    .await;
    let address = one.handle.local_addr();
    drop(one);
    until("the port is free", || std::net::TcpListener::bind(address).is_ok()).await;
    until("the other has no stream", || other.handle.status().incoming.is_none()).await;
}

fn keys(sign: Option<&str>, accept: Option<&str>) -> Keys {
    Keys::from(&FtKeys { sign: sign.map(Secret::new), accept: accept.map(Secret::new) })
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_nothing_can_be_read_on_the_way() {
    let one = Node::with_keys(1, keys(Some("one"), None));
    let other = Node::with_keys(2, keys(Some("two"), Some("one")));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind(LOOPBACK).await.expect("the loopback address is there");
    let SocketAddr::V6(tap) = listener.local_addr().expect("it is bound") else { panic!("not by IPv6") };
    let tapped = tokio::spawn(tapping_proxy(listener, other.handle.local_addr(), Arc::clone(&heard)));
    one.fill(5_000);
    one.role(Role::Active);
    other.handle.peer(Some(one.address()));
    one.handle.peer(Some(PeerAddr { addr: tap, nonce: other.nonce }));
    until("the standby says complete", || other.is_complete()).await;
    assert_eq!(other.connections(), one.connections());
    assert!(one.handle.status().outgoing_sealed && other.handle.status().incoming_sealed);
    let heard = std::mem::take(&mut *heard.lock().expect("no panic"));
    assert!(heard.len() > 5_000 * 40, "{} octets came by", heard.len());
    // A hello begins with the magic, and each connection of IPv4 has the virtual address.
    for plain in [*b"CSMR", [192, 158, 38, 30]] {
        assert!(!heard.windows(plain.len()).any(|window| window == plain), "{plain:?} came by");
    }
    tapped.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_the_key_gets_nothing_and_a_key_ends_what_is_in_the_clear() {
    let (one, other) = (Node::start(1), Node::start(2));
    one.fill(10);
    one.role(Role::Active);
    introduce(&one, &other);
    until("the standby says complete", || other.is_complete()).await;
    // One box requires a key that the other has not: no stream either way, and both say why.
    one.handle.keys(keys(Some("one"), None));
    until("the stream in the clear is over", || {
        let (here, there) = (one.handle.status(), other.handle.status());
        here.outgoing.is_none() && here.incoming.is_none() && there.outgoing.is_none()
    })
    .await;
    until("both say why", || {
        let says =
            |node: &Node, why: &str| node.handle.status().last_close.is_some_and(|close| close.contains(why));
        says(&one, "it has no key, and this box requires one")
            && says(&other, "it requires a key, and this box has none")
    })
    .await;
    other.handle.keys(keys(Some("one"), None));
    until("the stream is sealed", || {
        other.is_complete() && one.handle.status().encrypted() && other.handle.status().encrypted()
    })
    .await;
    assert_eq!(other.connections(), one.connections());
    // A change of keys is nothing to a stream that stands.
    let connects = one.handle.status().connects;
    one.handle.keys(keys(Some("one"), Some("two")));
    other.handle.keys(keys(Some("two"), Some("one")));
    let record = connection(300_000, 102, 1);
    one.open(record);
    until("a change is there", || other.table.content().connections.contains_key(&record.key)).await;
    assert_eq!(one.handle.status().connects, connects);
}

async fn tapping_proxy(listener: TcpListener, target: SocketAddrV6, heard: Arc<Mutex<Vec<u8>>>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let mut server = TcpStream::connect(target).await.expect("the target listens");
        let heard = Arc::clone(&heard);
        tokio::spawn(async move {
            let (mut from_client, mut to_client) = client.split();
            let (mut from_server, mut to_server) = server.split();
            let there = async {
                let mut octets = vec![0; 16 * 1024];
                while let Ok(count) = from_client.read(&mut octets).await
                    && count > 0
                {
                    heard.lock().expect("no panic").extend_from_slice(&octets[..count]);
                    to_server.write_all(&octets[..count]).await.expect("the target reads");
                }
            };
            let back = async { tokio::io::copy(&mut from_server, &mut to_client).await };
            tokio::join!(there, back)
        });
    }
}
