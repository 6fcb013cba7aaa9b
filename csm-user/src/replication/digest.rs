//! Digests of the tables by bucket, and what a comparison of two of them calls for. Pure.
//!
//! Both sides compute a digest by walking their kernel maps ([`scan`]); the sum does not depend on the order of the
//! walk. Entries change while both walk, so a bucket is judged only by rounds in which no change of it was under way:
//! differing in two such rounds on end, it is repaired. Under load a small bucket may never be that quiet; a bucket
//! that was neither proven equal nor rewritten for [`STALE`] is rewritten anyway.

use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use super::delta::{BUCKETS, BucketSet, Key};
use super::record::{ConnKey, ConnRecord, ReplicaTable, StickyGroup, StickyKey, StickyRecord};
use crate::model::fnv1a;

/// A bucket unproven for so long is rewritten.
pub const STALE: Duration = Duration::from_secs(60);
/// Stale buckets that one round may rewrite. Each rewriting costs both sides a walk of the whole table, however few
/// buckets it is for, so there are few of them: four for all buckets.
pub const STALE_PER_ROUND: u32 = 64;

/// What one node holds in one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Connections.
    pub connections: u32,
    /// Sticky entries.
    pub sticky: u32,
    /// Sum of the content hashes of all of them, modulo 2⁶⁴.
    pub sum: u64,
}

/// What one node holds, by bucket.
pub type Digests = Box<[Bucket; BUCKETS]>;

/// Empty digests.
#[must_use]
pub fn empty() -> Digests {
    Box::new([Bucket::default(); BUCKETS])
}

/// Finishing mix of MurmurHash3 (fmix64, public domain): FNV's high octet alone spreads short keys badly.
const fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

/// What is hashed, written one field after the other.
struct Octets {
    /// Room for the longest: a connection of IPv6.
    bytes: [u8; 98],
    length: usize,
}

impl Octets {
    const fn new() -> Self {
        Self { bytes: [0; 98], length: 0 }
    }

    fn put(mut self, field: &[u8]) -> Self {
        self.bytes[self.length..self.length + field.len()].copy_from_slice(field);
        self.length += field.len();
        self
    }

    fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.put(&address.octets()),
            IpAddr::V6(address) => self.put(&address.octets()),
        }
    }

    fn hash(&self) -> u64 {
        mix(fnv1a(&self.bytes[..self.length]))
    }
}

fn conn_key_octets(key: &ConnKey) -> Octets {
    let ConnKey { proto, client_vlan, client, client_port, virtual_address, virtual_port } = key;
    Octets::new()
        .put(&[if client.is_ipv6() { 4 } else { 1 }, *proto])
        .put(&client_vlan.to_be_bytes())
        .address(*client)
        .put(&client_port.to_be_bytes())
        .address(*virtual_address)
        .put(&virtual_port.to_be_bytes())
}

fn sticky_key_octets(key: &StickyKey) -> Octets {
    let (tag, group) = match key.group {
        StickyGroup::Shared(group) => (2, u64::from(group)),
        StickyGroup::Private(vserver) => (3, vserver.0),
    };
    let tag = if key.client.is_ipv6() { tag + 3 } else { tag };
    Octets::new().put(&[tag]).put(&group.to_be_bytes()).address(key.client).put(&[0; 3])
}

/// 64-bit hash of a key, the same on both nodes.
#[must_use]
pub fn key_hash(key: &Key) -> u64 {
    match key {
        Key::Connection(key) => conn_key_octets(key),
        Key::Sticky(key) => sticky_key_octets(key),
    }
    .hash()
}

/// Hash of all that must be equal on both nodes: the key, the real, the source, the ids and the generation; state and age move
/// without an event and are left out.
#[must_use]
pub fn connection_hash(record: &ConnRecord) -> u64 {
    let ConnRecord {
        key,
        real,
        real_port,
        source,
        source_port,
        server_vlan,
        vserver,
        real_id,
        via: _,
        state: _,
        generation,
        idle_s: _,
    } = record;
    conn_key_octets(key)
        .address(*real)
        .put(&real_port.to_be_bytes())
        .put(&server_vlan.to_be_bytes())
        .put(&vserver.0.to_be_bytes())
        .put(&real_id.0.to_be_bytes())
        .put(&generation.to_be_bytes())
        .address(*source)
        .put(&source_port.to_be_bytes())
        .hash()
}

/// As [`connection_hash`]: the key, the real and the life.
#[must_use]
pub fn sticky_hash(record: &StickyRecord) -> u64 {
    let StickyRecord { key, real_id, life_s, idle_s: _ } = record;
    sticky_key_octets(key).put(&real_id.0.to_be_bytes()).put(&life_s.to_be_bytes()).hash()
}

/// Walks both tables. May take as long as that does; holds 4 KiB.
///
/// # Errors
/// A walk failed.
pub fn scan(table: &dyn ReplicaTable) -> io::Result<Digests> {
    let mut digests = empty();
    table.visit_connections(&mut |chunk| {
        for record in chunk {
            let bucket = &mut digests[usize::from(Key::Connection(record.key).bucket())];
            bucket.connections += 1;
            bucket.sum = bucket.sum.wrapping_add(connection_hash(record));
        }
        ControlFlow::Continue(())
    })?;
    table.visit_sticky(&mut |chunk| {
        for record in chunk {
            let bucket = &mut digests[usize::from(Key::Sticky(record.key).bucket())];
            bucket.sticky += 1;
            bucket.sum = bucket.sum.wrapping_add(sticky_hash(record));
        }
        ControlFlow::Continue(())
    })?;
    Ok(digests)
}

/// How much of what the sender knows the receiver holds, by the last completed round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Connections in the sender's map.
    pub connections_known: u64,
    /// Of these, in the receiver's map; in a bucket that differs, the smaller of both counts.
    pub connections_held: u64,
    /// Sticky entries in the sender's map.
    pub sticky_known: u64,
    /// Of these, in the receiver's map.
    pub sticky_held: u64,
    /// Buckets whose content was not equal; with traffic flowing some always are, for a moment.
    pub buckets_differing: u32,
}

/// What a completed round calls for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Measured coverage.
    pub coverage: Coverage,
    /// Differed in two quiet rounds on end: wrong.
    pub wrong: BucketSet,
    /// Unproven for [`STALE`], at most [`STALE_PER_ROUND`].
    pub stale: BucketSet,
}

/// Compares rounds of digests.
#[derive(Debug)]
pub struct Compare {
    round: u64,
    running: Option<Running>,
    suspects: BucketSet,
    proven_at: [Duration; BUCKETS],
}

#[derive(Debug, Default)]
struct Running {
    ours: Option<Digests>,
    theirs: Option<Digests>,
    touched: BucketSet,
}

impl Compare {
    /// Nothing compared yet; every bucket counts as proven at `now`.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self { round: 0, running: None, suspects: BucketSet::EMPTY, proven_at: [now; BUCKETS] }
    }

    /// A round is under way.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Starts a round; `under_way` are the buckets of changes not yet acknowledged. Returns the round's number.
    pub fn start(&mut self, under_way: BucketSet) -> u64 {
        self.round += 1;
        self.running = Some(Running { touched: under_way, ..Running::default() });
        self.round
    }

    /// Gives the round up; late digests of it are ignored.
    pub fn cancel(&mut self) {
        self.running = None;
    }

    /// A change of `bucket` was told of.
    pub fn touch(&mut self, bucket: u8) {
        if let Some(running) = &mut self.running {
            running.touched.insert(bucket);
        }
    }

    /// `buckets` were rewritten by a snapshot or repair that completed at `now`.
    pub fn rewritten(&mut self, now: Duration, buckets: &BucketSet) {
        self.suspects = self.suspects.minus(buckets);
        for bucket in (0..=u8::MAX).filter(|&bucket| buckets.contains(bucket)) {
            self.proven_at[usize::from(bucket)] = now;
        }
    }

    /// Our digest of `round`.
    pub fn ours(&mut self, now: Duration, round: u64, digests: Digests) -> Option<Verdict> {
        self.running.as_mut().filter(|_| round == self.round)?.ours = Some(digests);
        self.finish(now)
    }

    /// The receiver's digest of `round`.
    pub fn theirs(&mut self, now: Duration, round: u64, digests: Digests) -> Option<Verdict> {
        self.running.as_mut().filter(|_| round == self.round)?.theirs = Some(digests);
        self.finish(now)
    }

    fn finish(&mut self, now: Duration) -> Option<Verdict> {
        let Some(Running { ours: Some(_), theirs: Some(_), .. }) = &self.running else { return None };
        let Running { ours: Some(ours), theirs: Some(theirs), touched } = self.running.take()? else {
            return None;
        };
        let mut verdict = Verdict::default();
        for bucket in 0..=u8::MAX {
            let index = usize::from(bucket);
            verdict.coverage.add(&ours[index], &theirs[index]);
            if ours[index] == theirs[index] {
                self.suspects.remove(bucket);
                self.proven_at[index] = now;
            } else if touched.contains(bucket) {
                if now.saturating_sub(self.proven_at[index]) >= STALE && verdict.stale.len() < STALE_PER_ROUND
                {
                    verdict.stale.insert(bucket);
                }
            } else if self.suspects.contains(bucket) {
                verdict.wrong.insert(bucket);
            } else {
                self.suspects.insert(bucket);
            }
        }
        Some(verdict)
    }
}

impl Coverage {
    fn add(&mut self, ours: &Bucket, theirs: &Bucket) {
        self.connections_known += u64::from(ours.connections);
        self.connections_held += u64::from(ours.connections.min(theirs.connections));
        self.sticky_known += u64::from(ours.sticky);
        self.sticky_held += u64::from(ours.sticky.min(theirs.sticky));
        self.buckets_differing += u32::from(ours != theirs);
    }
}

#[cfg(test)]
mod tests;
