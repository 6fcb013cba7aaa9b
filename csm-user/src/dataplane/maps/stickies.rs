//! The entries of `STICKY` that are of the configuration, among those that connections made.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::Pod;
use csm_common::service::{StickyEntry, StickyKey};

use super::MapSource;
use crate::dataplane::bpf::{BpfMap, Update, Walk};
use crate::dataplane::family::Wire;

/// Entries read at a time.
const SLICE: usize = 4096;

/// Them in the map of one family.
#[derive(Debug)]
pub(super) struct Stickies<A: Wire> {
    map: BpfMap<StickyKey<A>, StickyEntry>,
    /// Where there may be one; `None` before the map was looked through, which an earlier controller may have filled.
    known: Mutex<Option<HashSet<StickyKey<A>>>>,
}

impl<A: Wire> Stickies<A>
where
    StickyKey<A>: Pod,
{
    /// # Errors
    /// If the map is missing or of another shape.
    pub(super) fn open(source: &impl MapSource) -> io::Result<Self> {
        Ok(Self { map: BpfMap::new(source.descriptor(A::NAMES.sticky)?)?, known: Mutex::new(None) })
    }

    /// What there is, with their reals.
    ///
    /// # Errors
    /// Of a system call.
    pub(super) fn read_back(&self) -> io::Result<HashMap<StickyKey<A>, u32>> {
        let mut known = self.known();
        let found = match &*known {
            None => self.look_through()?,
            Some(keys) => {
                let mut found = HashMap::new();
                for key in keys {
                    if let Some(entry) = self.map.get(key)?.filter(StickyEntry::is_fixed) {
                        found.insert(*key, entry.real);
                    }
                }
                found
            }
        };
        *known = Some(found.keys().copied().collect());
        Ok(found)
    }

    fn look_through(&self) -> io::Result<HashMap<StickyKey<A>, u32>> {
        let (mut found, mut walk) = (HashMap::new(), Walk::new(SLICE));
        loop {
            let (entries, last) = walk.next(&self.map)?;
            found
                .extend(entries.filter(|(_, entry)| entry.is_fixed()).map(|(key, entry)| (*key, entry.real)));
            if last {
                return Ok(found);
            }
        }
    }

    /// Gives `key` its real, whatever a connection has made of it.
    ///
    /// # Errors
    /// Of the system call.
    pub(super) fn set(&self, key: StickyKey<A>, real: u32) -> io::Result<()> {
        self.map.set(&key, &StickyEntry::fixed(real), Update::Any)?;
        self.known().get_or_insert_default().insert(key);
        Ok(())
    }

    /// Takes its real from `key`.
    ///
    /// # Errors
    /// Of a system call.
    pub(super) fn remove(&self, key: StickyKey<A>) -> io::Result<()> {
        if self.map.get(&key)?.is_some_and(|entry| entry.is_fixed()) {
            self.map.delete(&key)?;
        }
        if let Some(known) = &mut *self.known() {
            known.remove(&key);
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Option<HashSet<StickyKey<A>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
