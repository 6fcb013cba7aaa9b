//! Neighbours, own addresses and announcements in a network namespace.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use csm_user::arp::announcer;
use csm_user::arp::task::AnnounceThread;
use csm_user::model::Host;
use csm_user::neigh::groups::Groups;
use csm_user::neigh::membership::{Accepts, Membership};
use csm_user::neigh::netlink::{Netlink, Notice};
use csm_user::neigh::own::OwnAddresses;
use csm_user::neigh::table::{Discovery, Hop, HopPort, NeighbourTable};
use csm_user::neigh::task::{HopSink, LinkEvent, Neighbours};

use super::soon::soon;

/// Runs `body` on a thread in a network namespace of its own, with a veth `near` whose other end `far` is in a second
/// one; both disappear with the threads that hold them.
fn with_veth(body: impl FnOnce(&dyn Fn(&str)) + Send) {
    let (tell, told) = std::sync::mpsc::channel();
    let commands = Mutex::new(None::<std::sync::mpsc::Sender<String>>);
    std::thread::scope(|scope| {
        let (order, orders) = std::sync::mpsc::channel::<String>();
        let (done, finished) = std::sync::mpsc::channel();
        scope.spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(nix::unistd::gettid()).unwrap();
            for order in orders {
                ip(&order);
                done.send(()).unwrap();
            }
        });
        let far = told.recv().unwrap();
        *commands.lock().unwrap() = Some(order);
        let run_far = |line: &str| {
            commands.lock().unwrap().as_ref().unwrap().send(line.to_owned()).unwrap();
            finished.recv().unwrap();
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            ip(&format!("link add near index 101 type veth peer name far index 102 netns {far}"));
            run_far("link set far up");
            body(&run_far);
        }));
        commands.lock().unwrap().take();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

fn ip(line: &str) {
    let status = std::process::Command::new("ip").args(line.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {line}");
}

type HopTables = (HashMap<u32, Hop>, HashMap<Host, u32>);

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<HopTables>>);

impl Sink {
    /// The MAC that packets to `host` are sent to.
    fn mac(&self, host: &Host) -> Option<[u8; 6]> {
        let maps = self.0.lock().unwrap();
        maps.0[maps.1.get(host)?].mac
    }
}

impl HopSink for Sink {
    fn set_nexthop(&self, number: u32, hop: &Hop) -> std::io::Result<()> {
        self.0.lock().unwrap().0.insert(number, *hop);
        Ok(())
    }

    fn set_neighbour(&self, host: &Host, number: Option<u32>) -> std::io::Result<()> {
        let neighbours = &mut self.0.lock().unwrap().1;
        match number {
            Some(number) => drop(neighbours.insert(*host, number)),
            None => drop(neighbours.remove(host)),
        }
        Ok(())
    }
}

const VIRTUAL_MAC: [u8; 6] = csm_common::net::virtual_mac(1);

#[test]
fn neighbours_are_found_lost_and_found_again() {
    found_lost_and_found("192.158.39.", 24);
}

#[test]
fn ipv6_neighbours_are_found_lost_and_found_again() {
    found_lost_and_found("fd00:39::", 64);
}

/// Of a network of prefix length `length` whose hosts' addresses begin with `prefix`.
fn found_lost_and_found(prefix: &str, length: u8) {
    // IPv6's own check for duplicates takes a second.
    let nodad = if length == 64 { " nodad" } else { "" };
    let held = |last: u8| format!("{prefix}{last}/{length} dev far{nodad}");
    with_veth(|far| {
        let mut netlink = Netlink::open().unwrap();
        let near = netlink.link("near").unwrap().expect("the veth");
        assert_eq!(near.ifindex, 101);
        assert_eq!(netlink.link("nowhere").unwrap(), None);
        let own: ipnet::IpNet = format!("{prefix}10/{length}").parse().unwrap();
        let mut addresses = OwnAddresses::new().unwrap();
        addresses.ensure(near.ifindex, own).unwrap();
        far(&format!("addr add {}", held(101)));
        far("link set far address 02:00:00:00:00:65");

        let port = HopPort {
            number: 1,
            vlan: 3,
            ifindex: near.ifindex,
            mtu: near.ip_mtu(),
            tagged: false,
            bridge: None,
            networks: [Some(own), None],
        };
        let sink = Sink::default();
        let links = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&links);
        let neighbours = Neighbours::spawn(
            NeighbourTable::new(VIRTUAL_MAC, &[port]),
            Box::new(sink.clone()),
            move |event| seen.lock().unwrap().push(event),
        )
        .unwrap();
        let key = |last: u8| Host::on(format!("{prefix}{last}").parse::<std::net::IpAddr>().unwrap(), 3);
        let numbers = neighbours.want(&HashSet::from([key(101)]));
        let mac = soon("the real's MAC", || sink.mac(&key(101)));
        assert_eq!(mac, [2, 0, 0, 0, 0, 0x65]);

        far(&format!("addr add {}", held(77)));
        let client = neighbours.number(key(77)).unwrap();
        assert_ne!(client, numbers[&key(101)]);
        soon("a learned host's MAC", || sink.mac(&key(77)));

        far("link set far address 02:00:00:00:00:66");
        ip(&format!("neigh del {prefix}101 dev near"));
        soon("the new MAC", || sink.mac(&key(101)).filter(|mac| mac[5] == 0x66));

        far("link set far down");
        soon("the link's end", || {
            let links = links.lock().unwrap();
            links
                .iter()
                .any(
                    |event| matches!(event, LinkEvent::Changed(link) if link.ifindex == 101 && !link.carrier),
                )
                .then_some(())
        });
        far("link set far up");
        // A link that goes down takes IPv6 addresses with it.
        if length == 24 {
            far(&format!("addr del {}", held(101)));
        }
        // Still one that the kernel asks for by itself, as after questions without an answer.
        ip(&format!("neigh replace {prefix}101 dev near nud failed managed"));
        soon("the real's failure", || sink.mac(&key(101)).is_none().then_some(()));
        far(&format!("addr add {}", held(101)));
        soon("the real's return", || sink.mac(&key(101)));
        drop(neighbours);
        let left = netlink.neighbours().unwrap();
        let managed = |notice: &Notice| matches!(notice, Notice::Neighbour(_, address, Discovery::Known(_)) if *address == key(101).address);
        assert!(!left.iter().any(managed), "nothing is left that the kernel keeps asking for");
    });
}

#[test]
fn own_addresses_are_added_once_and_only_what_was_added_is_taken_back() {
    with_veth(|_far| {
        let mut netlink = Netlink::open().unwrap();
        let near = netlink.link("near").unwrap().unwrap();
        assert!(!near.up);
        ip("addr add 192.158.38.10/24 dev near");
        let [own, other, third]: [ipnet::IpNet; 3] =
            ["192.158.38.10/24", "192.158.39.10/24", "fd00:39::10/64"].map(|net| net.parse().unwrap());
        let mut addresses = OwnAddresses::new().unwrap();
        for address in [own, other, other, third, third] {
            addresses.ensure(near.ifindex, address).unwrap();
        }
        let local = addresses.ensure_link_local(near.ifindex, near.mac).unwrap();
        assert!(local.is_unicast_link_local());
        let held = netlink.addresses(near.ifindex).unwrap();
        assert!([own, other, third].iter().all(|net| held.contains(net)), "{held:?}");
        assert!(held.iter().any(|net| net.addr() == std::net::IpAddr::V6(local)));
        assert!(netlink.link("near").unwrap().unwrap().up);
        drop(addresses);
        let held = netlink.addresses(near.ifindex).unwrap();
        assert!(held.contains(&own), "it was there before");
        assert!(!held.contains(&other) && !held.contains(&third));
    });
}

#[test]
fn the_virtual_mac_is_accepted_as_long_as_it_is_held() {
    with_veth(|_far| {
        let filter = || {
            let output =
                std::process::Command::new("bridge").args(["fdb", "show", "dev", "near"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().contains("00:01:64:f9:1a:01")
        };
        ip("link set near up");
        assert!(!filter());
        let membership = Membership::new(101, VIRTUAL_MAC).unwrap();
        assert_eq!(membership.accepts, Accepts::Unicast);
        assert!(filter());
        drop(membership);
        assert!(!filter());
    });
}

#[test]
fn groups_are_joined_and_routers_ignored_as_long_as_they_are_held() {
    with_veth(|_far| {
        ip("link set near up");
        let member = || {
            let groups = std::fs::read_to_string("/proc/thread-self/net/igmp6").unwrap();
            groups
                .lines()
                .any(|line| line.contains("near") && line.contains("ff0200000000000000000001ff000030"))
        };
        let address: std::net::Ipv6Addr = "fd00:38::30".parse().unwrap();
        let others = (256..400_u16).map(|last| std::net::Ipv6Addr::new(0xfd00, 0x39, 0, 0, 0, 0, 1, last));
        let mut groups = Groups::default();
        groups.set(others.clone().chain([address]).map(|address| (101, address))).unwrap();
        assert!(member(), "more groups than one socket has");
        groups.set(others.map(|address| (101, address))).unwrap();
        assert!(!member());
        let accepts = || std::fs::read_to_string("/proc/sys/net/ipv6/conf/near/accept_ra").unwrap();
        let before = accepts();
        let mut addresses = OwnAddresses::new().unwrap();
        addresses.ignore_routers("near").unwrap();
        assert_eq!(accepts().trim(), "0");
        drop(addresses);
        assert_eq!(accepts(), before);
    });
}

#[test]
fn announcements_reach_the_wire_at_once_and_are_repeated_until_stopped() {
    with_veth(|_far| {
        ip("link set near up");
        // The near end's own copies of what it sends are as good as the far end's.
        let capture = socket2::Socket::new(
            socket2::Domain::PACKET,
            socket2::Type::RAW,
            Some(socket2::Protocol::from(i32::from(0x0003_u16.to_be()))),
        )
        .unwrap();
        capture.set_nonblocking(true).unwrap();
        let addresses: Vec<std::net::IpAddr> =
            ["192.158.38.30", "192.158.38.31"].map(|address| address.parse().unwrap()).to_vec();
        let ports = [announcer::Port { ifindex: 101, tag: 0, mac: None, addresses: addresses.clone() }];
        let announcer = Arc::new(announcer::Announcer::new(VIRTUAL_MAC, &ports).unwrap());
        assert_eq!(announcer.announce_now(), announcer::Sent { frames: 4, left: 0 });
        let next = || {
            let mut frame = [std::mem::MaybeUninit::uninit(); 2048];
            let length = capture.recv(&mut frame).ok()?;
            // SAFETY: `recv` has written that many bytes.
            let frame: Vec<u8> = frame[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
            let packet = etherparse::SlicedPacket::from_ethernet(&frame).ok()?;
            let ethernet = packet.link.as_ref()?.to_header()?.ethernet2()?;
            let Some(etherparse::NetSlice::Arp(arp)) = packet.net else { return None };
            assert_eq!((frame.len(), ethernet.source, ethernet.destination), (60, VIRTUAL_MAC, [0xff; 6]));
            let sender: [u8; 4] = arp.sender_protocol_addr().try_into().unwrap();
            Some((std::net::IpAddr::from(sender), arp.operation().0))
        };
        let burst: Vec<_> = (0..4).map(|_| soon("an announcement", next)).collect();
        let expected: Vec<_> = addresses.iter().flat_map(|&address| [(address, 1), (address, 2)]).collect();
        assert_eq!(burst, expected);

        let silent = AnnounceThread::spawn(Arc::clone(&announcer), || false).unwrap();
        silent.announce();
        let counters = Arc::clone(&silent.counters);
        // Ends once it has taken what it was told.
        drop(silent);
        assert_eq!(counters.frames.load(Ordering::Relaxed), 0);

        announcer.set_refresh(std::time::Duration::from_secs(60));
        let thread = AnnounceThread::spawn(Arc::clone(&announcer), || true).unwrap();
        thread.announce();
        // The sequence is through.
        for _ in 0..20 {
            soon("a repeat", next);
        }
        announcer.set_refresh(std::time::Duration::from_secs(1));
        thread.refreshed();
        for _ in 0..4 {
            soon("a refresh after the shorter time", next);
        }
        thread.stop();
        let counters = Arc::clone(&thread.counters);
        drop(thread);
        let sent = counters.frames.load(Ordering::Relaxed);
        assert!(sent >= 8 && sent.is_multiple_of(4), "{sent}");
    });
}
