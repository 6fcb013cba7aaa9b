use std::time::Duration;

use proptest::prelude::*;

use super::{
    BucketSet, Compare, Digests, STALE, STALE_PER_ROUND, Verdict, connection_hash, empty, scan, sticky_hash,
};
use crate::replication::delta::Key;
use crate::replication::record::Conflict;
use crate::replication::record::{ConnState, ReplicaTable};
use crate::replication::testing::{MemoryTable, connection, sticky};

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn differing(buckets: &[u8]) -> Digests {
    let mut digests = empty();
    buckets.iter().for_each(|&bucket| digests[usize::from(bucket)].sum = 1);
    digests
}

fn round(compare: &mut Compare, now: Duration, touched: &[u8], wrong: &[u8]) -> Verdict {
    let number = compare.start(BucketSet::EMPTY);
    touched.iter().for_each(|&bucket| compare.touch(bucket));
    assert_eq!(compare.theirs(now, number, empty()), None);
    compare.ours(now, number, differing(wrong)).expect("both sides are in")
}

#[test]
fn a_bucket_is_wrong_after_two_quiet_rounds_on_end() {
    let mut compare = Compare::new(s(0));
    assert!(round(&mut compare, s(1), &[], &[5]).wrong.is_empty());
    assert!(round(&mut compare, s(2), &[5], &[5]).wrong.is_empty(), "a change was under way");
    assert!(round(&mut compare, s(3), &[], &[5]).wrong.contains(5));
    assert!(round(&mut compare, s(4), &[], &[]).wrong.is_empty());
    assert!(round(&mut compare, s(5), &[], &[5]).wrong.is_empty(), "equal in between");
}

#[test]
fn a_bucket_that_is_never_quiet_is_rewritten_a_few_at_a_time() {
    let mut compare = Compare::new(s(0));
    let all: Vec<u8> = (0..=255).collect();
    assert!(round(&mut compare, STALE - s(1), &all, &all).stale.is_empty());
    let stale = round(&mut compare, STALE, &all, &all).stale;
    assert_eq!(stale.len(), STALE_PER_ROUND);
    compare.rewritten(STALE, &stale);
    let next = round(&mut compare, STALE, &all, &all).stale;
    assert_eq!(next.union(&stale).len(), 2 * STALE_PER_ROUND, "others are next");
}

#[test]
fn digests_of_another_round_are_ignored() {
    let mut compare = Compare::new(s(0));
    let old = compare.start(BucketSet::EMPTY);
    compare.cancel();
    let new = compare.start(BucketSet::EMPTY);
    assert_eq!(compare.ours(s(0), new, empty()), None);
    assert_eq!(compare.theirs(s(0), old, empty()), None);
    assert!(compare.theirs(s(0), new, empty()).is_some());
}

#[test]
fn state_and_age_do_not_count() {
    let record = connection(1, 101, 1);
    let mut later = record;
    (later.state, later.idle_s) = (ConnState::Closing, 99);
    assert_eq!(connection_hash(&record), connection_hash(&later));
    assert_ne!(connection_hash(&record), connection_hash(&connection(1, 101, 2)));
    assert_ne!(connection_hash(&record), connection_hash(&connection(1, 102, 1)));
}

#[test]
fn keys_spread_over_the_buckets() {
    let mut counts = [0u32; 256];
    for number in 0..25_600 {
        counts[usize::from(Key::Connection(connection(number, 1, 1).key).bucket())] += 1;
    }
    assert!(counts.iter().all(|count| (50..=160).contains(count)), "{counts:?}");
}

proptest! {
    #[test]
    fn equal_content_gives_equal_digests_in_any_order(mut numbers in prop::collection::hash_set(0u32..5000, 1..60), sticks in prop::collection::hash_set(any::<u8>(), 0..20)) {
        let (one, other) = (MemoryTable::default(), MemoryTable::default());
        let forward: Vec<_> = numbers.iter().map(|&number| connection(number, 1, number)).collect();
        let backward: Vec<_> = forward.iter().rev().copied().collect();
        let sticks: Vec<_> = sticks.into_iter().map(|number| sticky(number, 3)).collect();
        one.upsert_connections(&forward, Conflict::Replace);
        other.upsert_connections(&backward, Conflict::Replace);
        one.upsert_sticky(&sticks, Conflict::Replace);
        prop_assert_eq!(scan(&one).ok() == scan(&other).ok(), sticks.is_empty());
        other.upsert_sticky(&sticks, Conflict::Replace);
        prop_assert_eq!(scan(&one).ok(), scan(&other).ok());
        let first = numbers.drain().next().expect("at least one");
        other.upsert_connections(&[connection(first, 2, first)], Conflict::Replace);
        prop_assert_ne!(scan(&one).ok(), scan(&other).ok());
    }
}

#[test]
fn hashes_stand_as_documented() {
    // Octets as in docs/replication.md, of both families, hashed by the reader's own FNV-1a and fmix64.
    let documented = |octets: &[u8]| {
        let fnv = octets.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
        });
        let mixed = (fnv ^ fnv >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let mixed = (mixed ^ mixed >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        mixed ^ mixed >> 33
    };
    let octets = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    };
    for (number, tag, length) in [(2, 1, 50), (3, 4, 98)] {
        let record = connection(number, 101, 7);
        let client = octets(record.key.client);
        let key =
            [&[tag, 6, 0, 2], &client[..], &[0x9c, 0x40], &octets(record.key.virtual_address), &[0, 80]]
                .concat();
        let rest = [
            &octets(record.real)[..],
            &[0, 80, 0, 3],
            &record.vserver.0.to_be_bytes(),
            &record.real_id.0.to_be_bytes(),
            &[0, 0, 0, 7],
            &client,
            &[0x9c, 0x40],
        ]
        .concat();
        let whole = [key.clone(), rest].concat();
        assert_eq!(whole.len(), length);
        assert_eq!(connection_hash(&record), documented(&whole));
        assert_eq!(Key::Connection(record.key).bucket(), documented(&key).to_be_bytes()[0]);
    }
    for (number, tag) in [(4, 2), (3, 3), (2, 5), (5, 6)] {
        let record = sticky(number, 1);
        let group = if tag % 3 == 2 { 10_u64 } else { 5 };
        let key = [&[tag], &group.to_be_bytes()[..], &octets(record.key.client), &[0; 3]].concat();
        let whole = [key, 1_u64.to_be_bytes().to_vec(), 1800_u32.to_be_bytes().to_vec()].concat();
        assert_eq!(sticky_hash(&record), documented(&whole), "{number}");
    }
}
