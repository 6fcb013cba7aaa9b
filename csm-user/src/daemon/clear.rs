//! `clear module csm N counters | sticky | arp-cache` within the daemon.

use std::io;
use std::ops::ControlFlow;

use csm_common::counter::Reason;
use csm_common::gate::GateState;
use csm_common::service::StickyKey;

use super::node::Node;
use super::saved::refused;
use crate::api::backend::{ClearBackend, Fault};
use crate::api::reply::{ClearedReply, StickyFilter};
use crate::dataplane::ring::Change;
use crate::dataplane::snapshot::StickyGroup;
use crate::dataplane::table::family::TableFamily;
use crate::dataplane::table::{Table, monotonic_ns};

impl ClearBackend for Node {
    fn clear_counters(&self) -> Result<(), Fault> {
        let desired = self.desired();
        for &reason in Reason::ALL {
            self.counters.clear_reason(reason)?;
        }
        for &number in desired.vservers.keys() {
            self.counters.clear_vserver(number)?;
        }
        for &number in desired.reals.keys() {
            self.counters.clear_real(number)?;
        }
        self.walked.forget_ended();
        Ok(())
    }

    fn clear_sticky(&self, filter: &StickyFilter) -> Result<ClearedReply, Fault> {
        if self.gate.load().state_at(monotonic_ns()) != GateState::Open {
            return Err(refused("this box is not active", "give the command on the active box"));
        }
        let mut cleared = self.forget_clients(&self.table, filter)?;
        if let Some(table) = &self.table6 {
            cleared += self.forget_clients(table, filter)?;
        }
        Ok(ClearedReply { cleared })
    }

    fn clear_neighbours(&self) -> Result<(), Fault> {
        self.neighbours.resolve_all();
        Ok(())
    }
}

impl Node {
    /// Deletes the sticky entries of one family that `filter` lets through, and tells the peer. Those of the configuration stay.
    fn forget_clients<A: TableFamily>(&self, table: &Table<A>, filter: &StickyFilter) -> io::Result<u64> {
        let directory = self.directory.get();
        let meant = |key: &StickyKey<A>| {
            let group = directory.sticky_group(key.group).map(|group| match group {
                StickyGroup::Shared(group) => group,
                StickyGroup::Private(_) => 0,
            });
            filter.group.is_none_or(|wanted| group == Some(wanted))
                && filter.client.is_none_or(|wanted| {
                    directory.sticky_addresses(key.group, key.client_be.ip()).0 == wanted
                })
        };
        let mut keys = Vec::new();
        table.visit_sticky(&mut |chunk| {
            keys.extend(
                chunk.iter().filter(|(_, entry)| !entry.is_fixed()).map(|(key, _)| *key).filter(meant),
            );
            ControlFlow::Continue(())
        })?;
        let cleared = table.delete_sticky(&keys)?;
        for key in keys.into_iter().filter(|key| directory.replicates_sticky(key.group)) {
            (self.deltas)(A::delta(Change::StickyGone(key)));
        }
        Ok(u64::try_from(cleared).unwrap_or(u64::MAX))
    }
}
