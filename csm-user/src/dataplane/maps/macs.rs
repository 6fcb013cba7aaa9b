//! Which MAC address the group's frames carry on a VLAN, in the entries of its ports.

use std::io;

use csm_common::names;
use csm_common::net::{PORT_SPEAKS_OWN, PORT_TAKES_OWN, Port, PortSlot, TagKey};

use super::MapSource;
use crate::dataplane::bpf::{BpfMap, Update};

/// The maps in which the program finds its ports.
#[derive(Debug)]
pub struct PortMaps {
    by_index: BpfMap<u32, Port>,
    slots: BpfMap<u32, PortSlot>,
    by_tag: BpfMap<TagKey, Port>,
    by_vlan: BpfMap<u32, Port>,
}

impl PortMaps {
    /// # Errors
    /// If a map is missing or of another shape.
    pub fn open(source: &impl MapSource) -> io::Result<Self> {
        Ok(Self {
            by_index: BpfMap::new(source.descriptor(names::PORTS)?)?,
            slots: BpfMap::new(source.descriptor(names::PORT_SLOTS)?)?,
            by_tag: BpfMap::new(source.descriptor(names::TAGGED)?)?,
            by_vlan: BpfMap::new(source.descriptor(names::VLANS)?)?,
        })
    }

    /// The group's frames on `vlan` carry the port's own MAC address from now on, or the virtual one. What comes for the
    /// port's own is taken for as long as the program lives once it was used: hosts forget it only with time.
    ///
    /// # Errors
    /// Of the system calls; what was done before stays.
    pub fn set_own_mac(&self, vlan: u16, own: bool) -> io::Result<()> {
        let change = |port: Port| {
            let flags = port.flags & !PORT_SPEAKS_OWN;
            let flags = if own { flags | PORT_TAKES_OWN | PORT_SPEAKS_OWN } else { flags };
            (port.vlan == vlan).then_some(Port { flags, ..port })
        };
        if let Some(port) = self.by_vlan.get(&u32::from(vlan))?.and_then(change) {
            self.by_vlan.set(&u32::from(vlan), &port, Update::Any)?;
        }
        for (key, port) in self.by_tag.entries()? {
            change(port).map_or(Ok(()), |port| self.by_tag.set(&key, &port, Update::Any))?;
        }
        for (key, port) in self.by_index.entries()? {
            change(port).map_or(Ok(()), |port| self.by_index.set(&key, &port, Update::Any))?;
        }
        for (key, PortSlot { ifindex, port }) in self.slots.elements()? {
            let changed = change(port).filter(|_| ifindex != 0);
            changed.map_or(Ok(()), |port| self.slots.set(&key, &PortSlot { ifindex, port }, Update::Any))?;
        }
        Ok(())
    }
}
