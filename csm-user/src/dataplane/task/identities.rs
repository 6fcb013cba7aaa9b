//! Who has which number, kept where the tables are: whoever comes after this process finds its connections' virtual servers
//! and reals by it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use csm_common::names;

use crate::dataplane::bpf::{BpfMap, Update};
use crate::dataplane::maps::MapSource;
use crate::dataplane::plan::Assignments;
use crate::model::StableId;
use crate::numbers::Numbers;

/// `VSERVER_IDS` and `REAL_IDS`.
#[derive(Debug)]
pub struct Identities {
    vservers: Ids,
    reals: Ids,
}

#[derive(Debug)]
struct Ids {
    map: BpfMap<u32, u64>,
    written: Mutex<BTreeMap<u32, u64>>,
}

impl Identities {
    /// Reads what is there.
    ///
    /// # Errors
    /// If a map is missing, of another shape, or cannot be read.
    pub fn open(source: &impl MapSource) -> io::Result<Self> {
        Ok(Self {
            vservers: Ids::open(source, names::VSERVER_IDS)?,
            reals: Ids::open(source, names::REAL_IDS)?,
        })
    }

    /// The numbers as the one before gave them out.
    #[must_use]
    pub fn assignments(&self) -> Assignments {
        Assignments::restored(self.vservers.list(), self.reals.list())
    }

    /// Writes who has which number now. To be done before anything else names the numbers.
    ///
    /// # Errors
    /// Of a system call.
    pub fn write(&self, numbers: &Assignments) -> io::Result<()> {
        self.vservers.write(&numbers.vservers)?;
        self.reals.write(&numbers.reals)
    }
}

impl Ids {
    fn open(source: &impl MapSource, name: &str) -> io::Result<Self> {
        let map: BpfMap<u32, u64> = BpfMap::new(source.descriptor(name)?)?;
        let written = map.elements()?.into_iter().filter(|(_, id)| *id != 0).collect();
        Ok(Self { map, written: Mutex::new(written) })
    }

    fn list(&self) -> Vec<(u32, StableId)> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.iter().map(|(number, id)| (*number, StableId(*id))).collect()
    }

    fn write(&self, numbers: &Numbers<StableId>) -> io::Result<()> {
        let wanted: BTreeMap<u32, u64> = numbers.iter().map(|(number, id)| (number, id.0)).collect();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, id) in wanted.iter().filter(|(number, id)| written.get(number) != Some(id)) {
            self.map.set(number, id, Update::Any)?;
        }
        for number in written.keys().filter(|number| !wanted.contains_key(number)) {
            self.map.set(number, &0, Update::Any)?;
        }
        *written = wanted;
        Ok(())
    }
}
