use proptest::prelude::*;

use super::*;
use crate::model::{ProbeKind, Question};

const FAIL: Verdict = Verdict::Fail(FailReason::Refused);
const LATE: Verdict = Verdict::Unknown(UnknownReason::Late);

fn probe(retries: u16, recover: u16) -> Probe {
    Probe {
        name: Name::new("tcp").expect("a good name"),
        kind: ProbeKind::Tcp,
        interval: Duration::from_secs(5),
        retries,
        failed: Duration::from_secs(300),
        receive: Duration::from_secs(10),
        open: Duration::from_secs(10),
        recover,
        port: None,
        address: None,
        question: Question::default(),
    }
}

fn after(probe: &Probe, verdicts: &[Verdict]) -> Monitor {
    let mut monitor = Monitor::default();
    for &verdict in verdicts {
        monitor.observe(verdict, probe);
    }
    monitor
}

#[test]
fn the_first_pass_makes_a_tested_server_operational_whatever_recover_says() {
    assert_eq!(after(&probe(3, 5), &[Verdict::Pass]).state(), State::Operational);
}

#[test]
fn only_consecutive_failures_count() {
    let probe = probe(3, 1);
    let up = after(&probe, &[Verdict::Pass, FAIL, FAIL, Verdict::Pass, FAIL, FAIL]);
    assert_eq!(up.state(), State::Operational);
    let down = after(&probe, &[Verdict::Pass, FAIL, FAIL, FAIL]);
    assert_eq!(down.state(), State::Failed(FailReason::Refused));
}

#[test]
fn only_consecutive_passes_bring_back() {
    let probe = probe(1, 2);
    let down = after(&probe, &[FAIL, Verdict::Pass, FAIL, Verdict::Pass]);
    assert_eq!(down.state(), State::Failed(FailReason::Refused));
    assert_eq!(after(&probe, &[FAIL, Verdict::Pass, Verdict::Pass]).state(), State::Operational);
}

#[test]
fn a_late_check_neither_fails_nor_clears() {
    let probe = probe(2, 1);
    assert_eq!(after(&probe, &[Verdict::Pass, LATE, LATE, LATE]).state(), State::Operational);
    assert_eq!(after(&probe, &[Verdict::Pass, FAIL, LATE, FAIL]).state(), State::Failed(FailReason::Refused));
}

#[test]
fn retries_of_zero_need_one_failure() {
    let probe = probe(0, 1);
    assert_eq!(after(&probe, &[]).state(), State::Testing);
    assert_eq!(after(&probe, &[FAIL]).state(), State::Failed(FailReason::Refused));
}

#[test]
fn another_reason_is_a_change_and_the_same_is_not() {
    let probe = probe(1, 1);
    let mut monitor = after(&probe, &[FAIL]);
    assert!(!monitor.observe(FAIL, &probe));
    assert!(monitor.observe(Verdict::Fail(FailReason::OpenTimeout), &probe));
    assert_eq!(monitor.state(), State::Failed(FailReason::OpenTimeout));
}

#[test]
fn the_pause_is_longer_while_failed() {
    let probe = probe(1, 1);
    assert_eq!(after(&probe, &[]).pause(&probe), probe.interval);
    assert_eq!(after(&probe, &[FAIL]).pause(&probe), probe.failed);
}

#[test]
fn a_timeout_that_fired_late_is_unknown() {
    let allowed = Duration::from_secs(10);
    assert_eq!(timed_out(FailReason::OpenTimeout, allowed, allowed), Verdict::Fail(FailReason::OpenTimeout));
    let starved = allowed + LATENESS_MAX + Duration::from_millis(1);
    assert_eq!(timed_out(FailReason::OpenTimeout, starved, allowed), LATE);
}

#[test]
fn a_reason_names_probe_port_and_cause() {
    let failed = |port, reason| RealHealth::ProbeFailed { probe: probe(1, 1).name, port, reason };
    let reasons = [
        RealHealth::Operational.reason(),
        failed(Some(80), FailReason::Refused).reason(),
        failed(None, FailReason::ReceiveTimeout).reason(),
    ];
    let expected = [None, Some("probe TCP port 80: connection refused"), Some("probe TCP: receive timeout")];
    assert_eq!(reasons, expected.map(|text| text.map(str::to_owned)));
}

#[test]
fn all_checks_of_a_real_must_pass() {
    let real = RealKey {
        farm: Name::new("web").expect("a good name"),
        address: std::net::Ipv4Addr::new(192, 158, 39, 101).into(),
        port: None,
    };
    let (icmp, tcp) = (Name::new("icmp").expect("a good name"), Name::new("tcp").expect("a good name"));
    let of = |states: &[(&Name, State)]| {
        let mut health = Health::default();
        for (name, state) in states {
            health.add(&real, name, None, *state);
        }
        health.of(&real).clone()
    };
    assert_eq!(of(&[]), RealHealth::Operational);
    assert_eq!(of(&[(&icmp, State::Operational), (&tcp, State::Operational)]), RealHealth::Operational);
    assert_eq!(of(&[(&icmp, State::Testing), (&tcp, State::Operational)]), RealHealth::Testing);
    let failed = RealHealth::ProbeFailed { probe: tcp.clone(), port: None, reason: FailReason::Refused };
    for other in [State::Operational, State::Testing] {
        assert_eq!(of(&[(&icmp, other), (&tcp, State::Failed(FailReason::Refused))]), failed);
        assert_eq!(of(&[(&tcp, State::Failed(FailReason::Refused)), (&icmp, other)]), failed);
    }
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(Verdict::Pass), Just(FAIL), Just(LATE)]
}

proptest! {
    /// The machine agrees with a model that looks at the whole history at each step.
    #[test]
    fn a_state_follows_from_the_trailing_run(
        verdicts in prop::collection::vec(any_verdict(), 0..40), retries in 0u16..4, recover in 1u16..4,
    ) {
        let probe = probe(retries, recover);
        let mut monitor = Monitor::default();
        let (mut known, mut model) = (Vec::new(), State::Testing);
        for verdict in verdicts {
            monitor.observe(verdict, &probe);
            if verdict != LATE {
                known.push(verdict);
            }
            let run = known.iter().rev().take_while(|&&v| Some(&v) == known.last()).count();
            model = match (model, known.last()) {
                (State::Testing, Some(Verdict::Pass)) => State::Operational,
                (State::Failed(_), Some(Verdict::Pass)) if run >= usize::from(recover) => State::Operational,
                (_, Some(Verdict::Fail(reason))) if run >= usize::from(retries.max(1)) => State::Failed(*reason),
                (same, _) => same,
            };
            prop_assert_eq!(monitor.state(), model);
        }
    }
}
