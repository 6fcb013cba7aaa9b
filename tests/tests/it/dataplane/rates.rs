//! `rate-limit`: what a bucket gives, to whom, and what costs nothing.
//!
//! The buckets are moved back in the map where time is to pass: the program reads the real clock.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use csm_common::counter::Reason;
use csm_common::names;
use csm_common::rate::{Rate, RateKey, Refused};
use csm_tests::rig::{DNS, FAR_CLIENT, Host, Rig, SMALL, Side, VIP, WEB, be, now_ns};
use csm_user::dataplane::load::Capacity;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::frames::{ACK, CLIENT_ISN, Frame, L4, SYN, handshake};

const SECOND_NS: u64 = 1_000_000_000;
const OPEN: L4 = L4::Tcp { flags: SYN, seq: 1, ack: 0 };

/// One connection in 4.3 seconds, the least that there is: none comes back while a short test runs.
pub(super) fn slow(burst: u32) -> Rate {
    Rate { interval_ns: u32::MAX, burst }
}

fn open(rig: &mut Rig, client: &Host, port: u16) -> Reason {
    rig.run(Side::Client, &Frame::from(client, port, (VIP, 80), OPEN).bytes()).reason
}

fn client(last: u8) -> Host {
    Host { ip: Ipv4Addr::new(10, 1, 1, last), ..FAR_CLIENT }
}

pub(super) fn refused(rig: &Rig, vserver: u32) -> (u64, u64) {
    let map: PerCpuArray<MapData, Refused> = rig.map(names::REFUSED);
    let counts = map.get(&vserver, 0).expect("REFUSED");
    (counts.iter().map(|count| count.rate).sum(), counts.iter().map(|count| count.client_rate).sum())
}

/// As if `intervals` of the vserver's rate had passed.
fn pass(rig: &Rig, vserver: u32, intervals: u64) {
    rig.change(names::RATES, vserver, |due_ns: &mut u64| *due_ns -= intervals * u64::from(u32::MAX));
}

#[test]
fn a_virtual_server_takes_its_burst_and_then_its_rate() {
    let mut rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| vserver.rate = slow(3));
    for port in 1..=3 {
        assert_eq!(open(&mut rig, &client(1), port), Reason::ForwardedNew);
    }
    assert_eq!(open(&mut rig, &client(2), 4), Reason::DropRate);
    assert_eq!(rig.flows(names::EMBRYONIC).len(), 6, "a refusal leaves nothing behind");
    // Sent again, it is no new connection.
    assert_eq!(open(&mut rig, &client(1), 2), Reason::ForwardedFlow);
    pass(&rig, WEB, 2);
    assert_eq!(open(&mut rig, &client(2), 4), Reason::ForwardedNew);
    assert_eq!(open(&mut rig, &client(2), 5), Reason::ForwardedNew);
    assert_eq!(open(&mut rig, &client(2), 6), Reason::DropRate);
    assert_eq!((refused(&rig, WEB), refused(&rig, DNS)), ((2, 0), (0, 0)));
    // Another virtual server is not concerned; datagrams count as well.
    let question = |port| Frame::from(&FAR_CLIENT, port, (VIP, 53), L4::Udp).bytes();
    assert_eq!(rig.run(Side::Client, &question(7)).reason, Reason::ForwardedNew);
    rig.vserver(DNS, |vserver| vserver.rate = slow(1));
    assert_eq!(rig.run(Side::Client, &question(8)).reason, Reason::ForwardedNew);
    assert_eq!(rig.run(Side::Client, &question(9)).reason, Reason::DropRate);
    assert_eq!(rig.run(Side::Client, &question(8)).reason, Reason::ForwardedFlow);
}

#[test]
fn a_connection_goes_on_whatever_the_rate() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    rig.vserver(WEB, |vserver| vserver.rate = slow(1));
    assert_eq!(open(&mut rig, &client(2), 1), Reason::ForwardedNew);
    assert_eq!(open(&mut rig, &client(2), 2), Reason::DropRate);
    let segment = Frame::client(ACK, CLIENT_ISN + 1, 0).bytes();
    assert_eq!(rig.run(Side::Client, &segment).reason, Reason::ForwardedFlow);
}

#[test]
fn each_client_has_its_own_rate_and_takes_nothing_from_the_others() {
    let mut rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| {
        (vserver.rate, vserver.client_rate) = (slow(4), slow(2));
        vserver.client_rate_mask_be = be(Ipv4Addr::BROADCAST);
    });
    let got: Vec<Reason> = (1..=5).map(|port| open(&mut rig, &client(1), port)).collect();
    let (new, own) = (Reason::ForwardedNew, Reason::DropClientRate);
    assert_eq!(got, [new, new, own, own, own]);
    assert_eq!(open(&mut rig, &client(2), 1), new);
    assert_eq!(open(&mut rig, &client(3), 1), new, "what was refused took nothing from the whole");
    // The whole is spent: nobody's own bucket is touched.
    assert_eq!(open(&mut rig, &client(4), 1), Reason::DropRate);
    assert_eq!(refused(&rig, WEB), (1, 3));
    let mut clients: HashMap<MapData, RateKey, u64> = rig.map(names::CLIENT_RATES);
    let key = |host: &Host| RateKey { vserver: WEB, client_be: be(host.ip) };
    assert_eq!(clients.iter().count(), 3);
    assert!(clients.get(&key(&client(4)), 0).is_err());
    // Four intervals later.
    pass(&rig, WEB, 4);
    let due_ns = clients.get(&key(&client(1)), 0).expect("its bucket") - u64::from(u32::MAX);
    clients.insert(key(&client(1)), due_ns, 0).expect("CLIENT_RATES");
    assert_eq!([6, 7].map(|port| open(&mut rig, &client(1), port)), [new, own]);
}

#[test]
fn a_client_may_be_a_network() {
    let mut rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| {
        vserver.client_rate = slow(2);
        vserver.client_rate_mask_be = be(Ipv4Addr::new(255, 255, 255, 0));
    });
    let got = [1, 2, 3].map(|last| open(&mut rig, &client(last), 1));
    assert_eq!(got, [Reason::ForwardedNew, Reason::ForwardedNew, Reason::DropClientRate]);
    let elsewhere = Host { ip: Ipv4Addr::new(10, 1, 2, 1), ..FAR_CLIENT };
    assert_eq!(open(&mut rig, &elsewhere, 1), Reason::ForwardedNew);
}

#[test]
fn by_the_clock_a_rate_is_kept_over_any_time() {
    let mut rig = Rig::new().expect("the rig");
    let (rate, burst) = (Rate::new(50, 5), 5);
    rig.vserver(WEB, |vserver| vserver.rate = rate);
    let (started, from_ns) = (Instant::now(), now_ns());
    let (mut port, mut taken) = (0, 0_u64);
    while started.elapsed() < Duration::from_millis(300) {
        port += 1;
        taken += u64::from(open(&mut rig, &client(1), port) == Reason::ForwardedNew);
    }
    let most = burst + (now_ns() - from_ns) * 50 / SECOND_NS;
    assert!(taken <= most, "{taken} of at most {most}");
    assert!(taken >= burst + 300 * 50 / 1000 - 1, "{taken}: it comes back");
    let bucket: Array<MapData, u64> = rig.map(names::RATES);
    assert!(bucket.get(&WEB, 0).expect("its bucket") >= now_ns() - SECOND_NS);
}

/// Opens connections to the virtual server from two CPUs at once, each from `count` ports of its own client.
pub(super) fn open_on_two_cpus(rig: &Rig, count: u16) {
    let ifindex = rig.ports()[Side::Client as usize].ifindex;
    std::thread::scope(|scope| {
        for cpu in 0..2_u8 {
            let runner = rig.dataplane.runner().expect("the program");
            scope.spawn(move || {
                let mut one = CpuSet::new();
                one.set(usize::from(cpu)).expect("a CPU");
                sched_setaffinity(Pid::from_raw(0), &one).expect("two CPUs");
                for port in 1..=count {
                    let frame = Frame::from(&client(cpu), port, (VIP, 80), OPEN).bytes();
                    runner.receive(ifindex, &frame).expect("a frame received");
                }
            });
        }
    });
}

#[test]
fn two_cpus_never_take_more_than_there_is() {
    let rig = Rig::with_capacity(Capacity { embryonic: 1 << 14, ..SMALL }).expect("the rig");
    rig.vserver(WEB, |vserver| {
        (vserver.rate, vserver.client_rate) = (slow(3000), slow(2000));
        vserver.client_rate_mask_be = be(Ipv4Addr::new(255, 255, 255, 0));
    });
    let begun = Instant::now();
    open_on_two_cpus(&rig, 4000);
    // What a busy machine takes gives some back.
    let back =
        |begun: Instant| usize::try_from(begun.elapsed().as_nanos() / u128::from(u32::MAX)).unwrap() + 1;
    let made = rig.flows(names::EMBRYONIC).len() / 2;
    assert!((2000..=2000 + back(begun)).contains(&made), "both clients are of one network: {made}");
    assert_eq!(refused(&rig, WEB), (0, 8000 - made as u64));
    rig.vserver(WEB, |vserver| vserver.client_rate = slow(1_000_000));
    open_on_two_cpus(&rig, 4000);
    // What stands already is sent again and costs nothing; a race lost four times in a row refuses.
    let made = rig.flows(names::EMBRYONIC).len() / 2;
    assert!((2990..=3000 + back(begun)).contains(&made), "{made}");
}
