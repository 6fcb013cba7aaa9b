//! Keeps the shares of the connection tables, walk by walk.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::planner::Planner;
use crate::dataplane::maps::{MapSource, ShareMap};
use crate::dataplane::shares::Room;
use crate::model::Family;

/// Slots of what is everybody's, by family.
const EVERYBODYS: [(Family, u32); 2] = [(Family::V4, 0), (Family::V6, 1)];

/// What the program was told, and by what.
pub(super) struct Shares {
    map: ShareMap,
    planner: Arc<Planner>,
    /// Connections that a family's table can hold.
    connections: u64,
    /// The words as they were written last.
    told: Mutex<BTreeMap<u32, u64>>,
}

impl Shares {
    /// Of the virtual servers of `planner`'s plans, in tables of so many `connections`.
    ///
    /// # Errors
    /// If the map is missing.
    pub(super) fn open(
        source: &impl MapSource,
        planner: &Arc<Planner>,
        connections: u32,
    ) -> io::Result<Self> {
        let (map, planner) = (ShareMap::open(source)?, Arc::clone(planner));
        Ok(Self { map, planner, connections: connections.into(), told: Mutex::default() })
    }

    /// A walk has ended that found so many connections of each virtual server, by family.
    pub(super) fn walk_ended(&self, held: &BTreeMap<Family, BTreeMap<u32, u64>>) {
        if let Err(error) = self.tell(held) {
            tracing::warn!(%error, "the shares of the connection table could not be written");
        }
    }

    fn tell(&self, held: &BTreeMap<Family, BTreeMap<u32, u64>>) -> io::Result<()> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.map.read(told.iter().filter(|(_, word)| **word > 0).map(|(slot, _)| *slot))?;
        let taken = |slot| {
            let before = told.get(&slot).copied().unwrap_or(0);
            before.saturating_sub(now.get(&slot).copied().unwrap_or(before))
        };
        let desired = self.planner.desired();
        let own = |number: &&u32| !desired.bare.contains_key(number);
        let of = |family| -> Vec<u32> {
            match family {
                Family::V4 => desired.contents.vservers.keys().filter(own).copied().collect(),
                Family::V6 => desired.contents6.vservers.keys().filter(own).copied().collect(),
            }
        };
        let (nobodys, mut words) = (BTreeMap::new(), BTreeMap::new());
        for (family, slot) in EVERYBODYS {
            let (held, vservers) = (held.get(&family).unwrap_or(&nobodys), of(family));
            let room = Room { slot, connections: self.connections, held, vservers: &vservers };
            let room = room.words(taken);
            let is_out = |words: &BTreeMap<u32, u64>| words.get(&slot) == Some(&1);
            match (is_out(&told), is_out(&room)) {
                (false, true) => tracing::warn!(
                    %family,
                    "the table of connections is full but for what is kept for each virtual server"
                ),
                (true, false) => {
                    tracing::info!(%family, "the table of connections has room for every virtual server again");
                }
                (true, true) | (false, false) => {}
            }
            words.extend(room);
        }
        let changed = words.iter().filter(|(slot, word)| now.get(slot).or(told.get(slot)) != Some(*word));
        self.map.write(changed.map(|(slot, word)| (*slot, *word)))?;
        *told = words;
        Ok(())
    }
}
