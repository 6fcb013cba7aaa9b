//! `SHARES`: what may still be proven in a crowded connection table.

use std::collections::BTreeMap;
use std::io;

use csm_common::names;

use super::MapSource;
use crate::dataplane::bpf::{BpfMap, Update};

/// The map, by [`csm_common::service::share_slot`].
#[derive(Debug)]
pub struct ShareMap(BpfMap<u32, u64>);

impl ShareMap {
    /// # Errors
    /// If the map is missing or of another shape.
    pub fn open(source: &impl MapSource) -> io::Result<Self> {
        BpfMap::new(source.descriptor(names::SHARES)?).map(Self)
    }

    /// What stands in `slots`.
    ///
    /// # Errors
    /// Of a system call.
    pub fn read(&self, slots: impl Iterator<Item = u32>) -> io::Result<BTreeMap<u32, u64>> {
        slots.map(|slot| Ok((slot, self.0.get(&slot)?.unwrap_or(0)))).collect()
    }

    /// Writes `words`.
    ///
    /// # Errors
    /// Of a system call.
    pub fn write(&self, words: impl Iterator<Item = (u32, u64)>) -> io::Result<()> {
        words.into_iter().try_for_each(|(slot, word)| self.0.set(&slot, &word, Update::Any))
    }
}
