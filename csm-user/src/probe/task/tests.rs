use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::model::{Name, Probe, Question};
use crate::probe::health::{RealHealth, RealKey, UnknownReason};

/// Longest wait for anything; reached only by a failure.
const DEADLINE: Duration = Duration::from_secs(20);

fn probe(kind: ProbeKind) -> Probe {
    let beat = Duration::from_millis(20);
    let second = Duration::from_secs(1);
    let name = Name::new("p").expect("a good name");
    Probe {
        name,
        kind,
        interval: beat,
        retries: 2,
        failed: beat,
        receive: second,
        open: second,
        recover: 2,
        port: None,
        address: None,
        question: Question::default(),
    }
}

fn target(kind: ProbeKind, address: impl Into<IpAddr>, port: Option<u16>) -> Target {
    let address = address.into();
    let source = match address {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let farm = Name::new("web").expect("a good name");
    Target {
        real: RealKey { farm, address, port: None },
        port,
        destination: address,
        probe: probe(kind),
        source: Some(source),
        interface: Some("lo".to_owned()),
    }
}

async fn within<T>(wait: impl Future<Output = T>) -> T {
    timeout(DEADLINE, wait).await.expect("it happens before the deadline")
}

async fn until(health: &mut watch::Receiver<Arc<Health>>, real: &RealKey, wanted: &RealHealth) {
    within(health.wait_for(|health| health.of(real) == wanted)).await.expect("the probes run");
}

fn port_of(listener: &TcpListener) -> u16 {
    let address: SocketAddr = listener.local_addr().expect("a bound listener");
    address.port()
}

#[tokio::test]
async fn a_listener_that_goes_away_fails_and_is_taken_back() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = port_of(&listener);
    let target = target(ProbeKind::Tcp, Ipv4Addr::LOCALHOST, Some(port));
    let real = target.real.clone();
    let probes = spawn(vec![target.clone()], 5, &BTreeSet::new());
    let mut health = probes.health();
    assert_eq!(*health.borrow().of(&real), RealHealth::Testing);
    until(&mut health, &real, &RealHealth::Operational).await;

    drop(listener);
    let probe = target.probe.name.clone();
    let refused = RealHealth::ProbeFailed { probe, port: Some(port), reason: FailReason::Refused };
    until(&mut health, &real, &refused).await;

    let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the same port");
    until(&mut health, &real, &RealHealth::Operational).await;
}

#[tokio::test]
async fn a_check_that_connected_is_closed_by_a_reset() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let _probes = spawn(
        vec![target(ProbeKind::Tcp, Ipv4Addr::LOCALHOST, Some(port_of(&listener)))],
        5,
        &BTreeSet::new(),
    );
    let (mut stream, _) = within(listener.accept()).await.expect("a check");
    let error = within(stream.read(&mut [0; 1])).await.expect_err("not an orderly end");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn more_targets_than_may_be_in_flight_are_all_checked() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = port_of(&listener);
    // All of 127/8 is this host; the listener is bound to one address of it only, so the others refuse.
    let count = u16::try_from(IN_FLIGHT_MAX + 50).expect("fits");
    let targets = (0..count).map(|index| {
        let [high, low] = index.to_be_bytes();
        target(ProbeKind::Tcp, Ipv4Addr::new(127, 7, high, low), Some(port))
    });
    let probes = spawn(targets.collect(), 5, &BTreeSet::new());
    let mut health = probes.health();
    let all_failed = |health: &Arc<Health>| {
        health.iter().filter(|(_, health)| matches!(health, RealHealth::ProbeFailed { .. })).count()
            == usize::from(count)
    };
    within(health.wait_for(all_failed)).await.expect("the probes run");
}

#[tokio::test]
async fn a_reload_keeps_the_state_and_adds_what_is_new() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = port_of(&listener);
    let mut kept = target(ProbeKind::Tcp, Ipv4Addr::LOCALHOST, Some(port));
    kept.probe.interval = Duration::from_secs(3600);
    let probes = spawn(vec![kept.clone()], 5, &BTreeSet::new());
    let mut health = probes.health();
    until(&mut health, &kept.real, &RealHealth::Operational).await;

    drop(listener);
    let added = target(ProbeKind::Tcp, Ipv4Addr::new(127, 0, 0, 2), Some(port));
    probes.reloads().reload(vec![kept.clone(), added.clone()]).await;
    let probe = added.probe.name.clone();
    let refused = RealHealth::ProbeFailed { probe, port: Some(port), reason: FailReason::Refused };
    until(&mut health, &added.real, &refused).await;
    assert_eq!(
        *health.borrow().of(&kept.real),
        RealHealth::Operational,
        "not checked again: an hour has not passed"
    );
}

#[tokio::test]
async fn a_source_address_that_is_not_ours_says_nothing_about_the_server() {
    let mut foreign = target(ProbeKind::Tcp, Ipv4Addr::LOCALHOST, Some(1));
    foreign.source = Some(Ipv4Addr::new(192, 0, 2, 1).into());
    assert_eq!(check(&foreign, 1).await, Verdict::Unknown(UnknownReason::Local(libc::EADDRNOTAVAIL)));
}

#[tokio::test]
async fn a_listener_of_ipv6_passes_and_a_closed_port_is_refused() {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.expect("a free port");
    let target = target(ProbeKind::Tcp, Ipv6Addr::LOCALHOST, Some(port_of(&listener)));
    assert_eq!(within(check(&target, 1)).await, Verdict::Pass);
    drop(listener);
    assert_eq!(within(check(&target, 2)).await, Verdict::Fail(FailReason::Refused));
}

#[tokio::test]
async fn an_echo_to_the_loopback_passes_and_one_to_nowhere_times_out() {
    if let Err(error) = icmp_socket(Ipv4Addr::LOCALHOST.into()) {
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        eprintln!("skipped: neither raw nor ping sockets are permitted here");
        return;
    }
    let mut here = target(ProbeKind::Icmp, Ipv4Addr::LOCALHOST, None);
    assert_eq!(within(check(&here, 0x1_2345_6789)).await, Verdict::Pass);
    here.source = None;
    here.interface = None;
    assert_eq!(within(check(&here, 2)).await, Verdict::Pass);
    let here = target(ProbeKind::Icmp, Ipv6Addr::LOCALHOST, None);
    assert_eq!(within(check(&here, 0x2_3456_789a)).await, Verdict::Pass);

    // TEST-NET-1 through the loopback device: delivered to nobody.
    let mut nowhere = target(ProbeKind::Icmp, Ipv4Addr::new(192, 0, 2, 7), None);
    nowhere.probe.receive = Duration::from_millis(30);
    let verdict = within(check(&nowhere, 3)).await;
    let expected = [
        Verdict::Fail(FailReason::ReceiveTimeout),
        Verdict::Fail(FailReason::Unreachable),
        Verdict::Unknown(UnknownReason::Late),
    ];
    assert!(expected.contains(&verdict), "{verdict:?}");
}
