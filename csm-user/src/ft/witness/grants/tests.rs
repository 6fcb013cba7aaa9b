use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const LEASE: Duration = Duration::from_secs(2);
/// A guard is a fifth of the lease and 2 ms.
const FREE: u64 = 2_402_000_000;

/// A witness that started long ago.
fn settled() -> Grants {
    let mut grants = Grants::new(7, LEASE_MAX, 0);
    grants.settled = 0;
    grants
}

fn word(kind: Kind, node: u64, number: u64) -> Word {
    let (group, holds, witness, lease, holder) = (1, false, 7, LEASE, 0);
    Word { kind, group, holds, node, nonce: 10 * node, number, witness, lease, holder, term: 3 }
}

fn kind(grants: &mut Grants, request: &Word, now: u64) -> Option<Kind> {
    grants.answer(request, now).0.map(|answer| answer.kind)
}

#[test]
fn one_at_a_time_until_the_lease_is_outwaited_or_given_up() {
    let mut grants = settled();
    assert_eq!(kind(&mut grants, &word(Kind::Ask, 1, 1), SECOND), Some(Kind::Grant));
    let refusal = grants.answer(&word(Kind::Ask, 2, 1), 2 * SECOND).0.unwrap();
    assert_eq!((refusal.kind, refusal.holder), (Kind::Refusal, 1));
    assert_eq!(refusal.lease, Duration::from_nanos(FREE - SECOND), "when to ask again");
    // Renewed, and then outwaited.
    assert_eq!(kind(&mut grants, &word(Kind::Ask, 1, 2), 2 * SECOND), Some(Kind::Grant));
    assert_eq!(kind(&mut grants, &word(Kind::Ask, 2, 2), 2 * SECOND + FREE - 1), Some(Kind::Refusal));
    assert_eq!(kind(&mut grants, &word(Kind::Ask, 2, 3), 2 * SECOND + FREE), Some(Kind::Grant));
    // Given up by another boot of the holder is not given up: its gate may be open still.
    let other_boot = Word { nonce: 21, ..word(Kind::Query, 2, 9) };
    assert_eq!(kind(&mut grants, &other_boot, 5 * SECOND), Some(Kind::State));
    assert_eq!(kind(&mut grants, &word(Kind::Ask, 1, 3), 5 * SECOND), Some(Kind::Refusal));
    let mut grants = settled();
    assert_eq!(kind(&mut grants, &word(Kind::Ask, 1, 1), SECOND), Some(Kind::Grant));
    assert_eq!(grants.answer(&word(Kind::Query, 1, 2), SECOND).1, Outcome::Released);
    assert_eq!(kind(&mut grants, &word(Kind::Ask, 2, 1), SECOND), Some(Kind::Grant));
    assert_eq!((grants.holder(1, SECOND), grants.holder(2, SECOND)), (Some(2), None));
}

#[test]
fn what_was_recorded_earlier_counts_for_nothing() {
    let mut grants = settled();
    assert_eq!(kind(&mut grants, &word(Kind::Ask, 1, 5), SECOND), Some(Kind::Grant));
    for number in [5, 4] {
        assert_eq!(grants.answer(&word(Kind::Query, 1, number), SECOND), (None, Outcome::Replayed));
    }
    // An earlier boot of the node, once a later one was heard; and what was said to another boot of the witness.
    let later = Word { nonce: 11, ..word(Kind::Query, 1, 1) };
    assert_eq!(kind(&mut grants, &later, SECOND), Some(Kind::State));
    assert_eq!(grants.answer(&word(Kind::Query, 1, 6), SECOND), (None, Outcome::Replayed));
    let (answer, outcome) = grants.answer(&Word { witness: 6, ..word(Kind::Query, 1, 7) }, SECOND);
    assert_eq!(outcome, Outcome::Introduced);
    assert_eq!(answer.map(|answer| (answer.kind, answer.witness)), Some((Kind::Refusal, 7)));
    assert_eq!(grants.holder(1, SECOND), Some(1));
}

#[test]
fn after_a_start_only_one_that_still_holds_a_grant_gets_one() {
    let mut grants = Grants::new(7, LEASE_MAX, 0);
    assert_eq!(kind(&mut grants, &word(Kind::Ask, 2, 1), SECOND), Some(Kind::Refusal));
    let holds = Word { holds: true, ..word(Kind::Ask, 1, 1) };
    assert_eq!(kind(&mut grants, &holds, SECOND), Some(Kind::Grant));
    // That another says so too cannot be; whoever came first has it.
    assert_eq!(
        kind(&mut grants, &Word { holds: true, ..word(Kind::Ask, 2, 2) }, SECOND),
        Some(Kind::Refusal)
    );
    let mut grants = Grants::new(7, LEASE_MAX, 0);
    let end = 12_002_000_000;
    assert_eq!(kind(&mut grants, &word(Kind::Ask, 2, 1), end - 1), Some(Kind::Refusal));
    assert_eq!(kind(&mut grants, &word(Kind::Ask, 2, 2), end), Some(Kind::Grant));
}

#[test]
fn whoever_is_granted_the_role_claims_a_higher_term_than_the_one_before() {
    let mut grants = settled();
    let ask = |grants: &mut Grants, node, number, now| {
        grants.answer(&word(Kind::Ask, node, number), now).0.unwrap()
    };
    assert_eq!(ask(&mut grants, 1, 1, 0).term, 3, "it claims 4");
    assert_eq!(ask(&mut grants, 1, 2, 1).term, 4);
    assert_eq!(ask(&mut grants, 2, 1, 9 * SECOND).term, 4, "it claims 5, though it knows only of 3");
}

#[test]
fn no_lease_is_longer_than_what_a_start_waits_for() {
    let mut grants = settled();
    let long = Word { lease: Duration::from_secs(60), ..word(Kind::Ask, 1, 1) };
    assert_eq!(grants.answer(&long, 0).0.unwrap().lease, LEASE_MAX);
    assert_eq!(kind(&mut grants, &word(Kind::Ask, 2, 1), 12_002_000_000), Some(Kind::Grant));
}

proptest! {
    /// Whatever is asked, and however often the witness is restarted: what it has granted to two nodes never overlaps, as the
    /// nodes' clocks have it, which are wrong by up to a tenth.
    #[test]
    fn two_grants_never_overlap(
        steps in prop::collection::vec((0..2_u64, 0..6_u8, 1..SECOND, 0..300_000_000_u64), 1..60),
        fast in 90..=110_u64,
    ) {
        let (mut grants, mut now, mut nonce, mut number) = (Grants::new(7, LEASE, 0), 0, 7, 0);
        // Until when each node's grant lasts, true time.
        let mut until = [0; 2];
        for (node, action, pause, way) in steps {
            now += pause;
            number += 1;
            let asked = now;
            let holds = until[usize::try_from(node).unwrap()] > now;
            let kind = if action < 4 { Kind::Ask } else { Kind::Query };
            let request = Word { witness: nonce, holds, ..word(kind, node + 1, number) };
            if action == 5 {
                nonce += 1;
                grants = Grants::new(nonce, LEASE, now);
                continue;
            }
            if kind == Kind::Query {
                until[usize::try_from(node).unwrap()] = 0;
            }
            now += way;
            let answer = grants.answer(&request, now).0.expect("new");
            if answer.kind == Kind::Grant {
                let lease = u64::try_from(answer.lease.as_nanos()).unwrap() * fast / 100;
                until[usize::try_from(node).unwrap()] = asked + lease;
                prop_assert!(until[usize::from(node == 0)] <= now, "{until:?} at {now}");
            }
        }
    }
}

#[test]
fn no_boot_is_forgotten_for_a_new_one() {
    let mut grants = settled();
    let boot = |nonce| Word { nonce, ..word(Kind::Query, 1, 1) };
    let most = u64::try_from(BOOTS_MAX).unwrap();
    for nonce in 1..=most {
        assert_eq!(kind(&mut grants, &boot(nonce), SECOND), Some(Kind::State), "boot {nonce}");
    }
    for nonce in [most + 1, most + 2, 1, most] {
        assert_eq!(grants.answer(&boot(nonce), SECOND), (None, Outcome::Replayed), "boot {nonce}");
    }
    // The last that was believed goes on, and other groups do.
    let next = Word { number: 2, ..boot(most) };
    assert_eq!(kind(&mut grants, &next, SECOND), Some(Kind::State));
    assert_eq!(kind(&mut grants, &Word { group: 2, ..boot(most + 1) }, SECOND), Some(Kind::State));
}
