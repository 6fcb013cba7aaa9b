//! Other boxes that use the group's addresses.

use std::time::{Duration, Instant};

use crate::model::Host;

/// Between two log lines about boxes that use the group's addresses.
const RIVALS_EVERY: Duration = Duration::from_secs(10);

/// Tells of boxes that use the group's addresses, however many frames they send.
#[derive(Default)]
pub(super) struct Rivals {
    told: Option<Instant>,
    untold: u64,
}

impl Rivals {
    /// A frame with `mac` came from there, which names an address of the group as its own.
    pub(super) fn seen(&mut self, slot: u8, host: Host, mac: [u8; 6]) {
        self.untold += 1;
        if self.told.is_some_and(|told| told.elapsed() < RIVALS_EVERY) {
            return;
        }
        let (address, vlan, frames) = (host.address, host.vlan, self.untold);
        let mac = crate::daemon::replies::mac(mac);
        tracing::warn!(
            "%CSM_SLB-4-REDUNDANCY_WARN: Module {slot} FT warning: {mac} uses {address} on vlan {vlan}, an address of \
             this group: announcing it again ({frames} frames)"
        );
        *self = Self { told: Some(Instant::now()), untold: 0 };
    }
}
