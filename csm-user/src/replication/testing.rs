//! A table in memory that keeps the contract of [`ReplicaTable`], and small records for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard};

use super::record::{
    Conflict, ConnGone, ConnKey, ConnRecord, ConnState, Handshake, Refusal, ReplicaTable, StickyGroup,
    StickyKey, StickyRecord, newer,
};
use crate::model::StableId;

#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) connections: BTreeMap<ConnKey, ConnRecord>,
    pub(super) sticky: BTreeMap<StickyKey, StickyRecord>,
    pub(super) handshakes: BTreeMap<ConnKey, Handshake>,
    /// Connections that this node's own dataplane made or used.
    pub(super) own: BTreeSet<ConnKey>,
    /// Virtual servers this node does not know.
    pub(super) unknown: BTreeSet<StableId>,
    /// The next so many walks fail.
    pub(super) failing_walks: u32,
}

#[derive(Debug, Default)]
pub(super) struct MemoryTable(Mutex<Content>);

impl MemoryTable {
    pub(super) fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().expect("no test panics while it holds the table")
    }

    fn start_walk(&self) -> io::Result<MutexGuard<'_, Content>> {
        let mut content = self.content();
        if content.failing_walks > 0 {
            content.failing_walks -= 1;
            return Err(io::Error::other("walk made to fail"));
        }
        Ok(content)
    }
}

fn judge(
    old: Option<&ConnRecord>,
    own: bool,
    record: &ConnRecord,
    conflict: Conflict,
) -> Result<(), Refusal> {
    let conflict = if conflict == Conflict::Keep && !own { Conflict::KeepNewer } else { conflict };
    match (conflict, old) {
        (_, None) | (Conflict::Replace, _) => Ok(()),
        (Conflict::KeepNewer, Some(old)) if newer(old.generation, record.generation) => {
            Err(Refusal::Superseded)
        }
        (Conflict::KeepNewer, Some(_)) => Ok(()),
        (Conflict::Keep, Some(old)) if old == record => Ok(()),
        (Conflict::Keep, Some(_)) => Err(Refusal::Exists),
    }
}

impl ReplicaTable for MemoryTable {
    fn upsert_connections(&self, records: &[ConnRecord], conflict: Conflict) -> Vec<Result<(), Refusal>> {
        let mut content = self.content();
        let mut put = |record: &ConnRecord| {
            if content.unknown.contains(&record.vserver) {
                return Err(Refusal::UnknownVserver);
            }
            let own = content.own.contains(&record.key);
            judge(content.connections.get(&record.key), own, record, conflict)?;
            if content.connections.insert(record.key, *record) != Some(*record) {
                content.own.remove(&record.key);
            }
            Ok(())
        };
        records.iter().map(&mut put).collect()
    }

    fn enter_handshakes(&self, handshakes: &[Handshake], conflict: Conflict) -> usize {
        let mut content = self.content();
        let mut enter = |handshake: &Handshake| {
            let key = handshake.becomes.key;
            let later = content.handshakes.get(&key).is_some_and(|standing| {
                conflict == Conflict::Keep || newer(standing.becomes.generation, handshake.becomes.generation)
            });
            if later || content.connections.contains_key(&key) {
                return false;
            }
            content.handshakes.insert(key, *handshake);
            true
        };
        handshakes.iter().filter(|handshake| enter(handshake)).count()
    }

    fn delete_connections(&self, gone: &[ConnGone], conflict: Conflict) {
        let mut content = self.content();
        for gone in gone {
            let own = content.own.contains(&gone.key);
            let stays = conflict == Conflict::Keep && own;
            let goes = |old: &ConnRecord| !stays && !newer(old.generation, gone.generation);
            if content.connections.get(&gone.key).is_some_and(goes) {
                content.connections.remove(&gone.key);
            }
        }
    }

    fn upsert_sticky(&self, records: &[StickyRecord], conflict: Conflict) -> Vec<Result<(), Refusal>> {
        let mut content = self.content();
        let mut put = |record: &StickyRecord| match content.sticky.get(&record.key) {
            Some(old) if conflict == Conflict::Keep && old != record => Err(Refusal::Exists),
            _ => {
                content.sticky.insert(record.key, *record);
                Ok(())
            }
        };
        records.iter().map(&mut put).collect()
    }

    fn delete_sticky(&self, keys: &[StickyKey]) {
        let mut content = self.content();
        for key in keys {
            content.sticky.remove(key);
        }
    }

    fn visit_connections(&self, visit: &mut dyn FnMut(&[ConnRecord]) -> ControlFlow<()>) -> io::Result<()> {
        let all: Vec<ConnRecord> = self.start_walk()?.connections.values().copied().collect();
        for chunk in all.chunks(1000) {
            if visit(chunk).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn visit_sticky(&self, visit: &mut dyn FnMut(&[StickyRecord]) -> ControlFlow<()>) -> io::Result<()> {
        let all: Vec<StickyRecord> = self.start_walk()?.sticky.values().copied().collect();
        for chunk in all.chunks(1000) {
            if visit(chunk).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Host `host` of network `network`: of IPv6, if `v6`.
fn address(v6: bool, network: [u8; 3], host: u8) -> IpAddr {
    let [a, b, c] = network;
    if v6 {
        return Ipv6Addr::new(0xfd00, a.into(), b.into(), c.into(), 0, 0, 0, host.into()).into();
    }
    Ipv4Addr::new(a, b, c, host).into()
}

/// Connection number `number` with its real and generation; odd ones are of IPv6.
pub(super) fn connection(number: u32, real: u8, generation: u32) -> ConnRecord {
    let [_, high, middle, low] = number.to_be_bytes();
    let v6 = number % 2 == 1;
    let client = address(v6, [10, high, middle], low);
    ConnRecord {
        key: ConnKey {
            proto: 6,
            client_vlan: 2,
            client,
            client_port: 40_000,
            virtual_address: address(v6, [192, 158, 38], 30),
            virtual_port: 80,
        },
        real: address(v6, [192, 158, 39], real),
        real_port: 80,
        source: client,
        source_port: 40_000,
        server_vlan: 3,
        vserver: StableId(u64::from(number % 7)),
        real_id: StableId(u64::from(real)),
        via: StableId::NONE,
        state: ConnState::Established,
        generation,
        idle_s: 0,
    }
}

/// Connection number `number` before its client has acknowledged anything.
pub(super) fn handshake(number: u32, real: u8, generation: u32) -> Handshake {
    Handshake { becomes: connection(number, real, generation), answered: true, expect: generation ^ number }
}

/// Sticky entry number `number`, bound to `real`; one in three is of IPv6.
pub(super) fn sticky(number: u8, real: u8) -> StickyRecord {
    let group =
        if number.is_multiple_of(2) { StickyGroup::Shared(10) } else { StickyGroup::Private(StableId(5)) };
    StickyRecord {
        key: StickyKey { group, client: address(number % 3 == 2, [10, 0, 0], number) },
        real_id: StableId(u64::from(real)),
        life_s: 1800,
        idle_s: 0,
    }
}
