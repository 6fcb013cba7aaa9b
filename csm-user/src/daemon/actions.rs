//! What a takeover does at once, on the real-time thread: adopt the table, announce the addresses.

use std::sync::Arc;

use crate::arp::announcer::Announcer;
use crate::dataplane::maps::{Promises, SettingsCell};
use crate::ft::TakeoverActions;
use crate::replication::role::Tenure;

/// [`TakeoverActions`] on the dataplane's settings and the prepared announcements.
pub struct Actions {
    settings: Arc<SettingsCell>,
    announcer: Arc<Announcer>,
    tenure: Arc<Tenure>,
    promises: Promises,
}

impl Actions {
    /// On `settings`, `announcer` and `promises`; `tenure` is replication's.
    #[must_use]
    pub fn new(
        settings: Arc<SettingsCell>,
        announcer: Arc<Announcer>,
        tenure: Arc<Tenure>,
        promises: Promises,
    ) -> Self {
        Self { settings, announcer, tenure, promises }
    }
}

impl TakeoverActions for Actions {
    fn adopt(&self, now_ns: u64) {
        // Before the gate opens: from here on the peer's stream cannot delete or replace what packets make.
        self.tenure.adopt(now_ns);
        // A failure leaves replicas with the idle times that the peer told: connections may expire early, none is lost now.
        if let Err(error) = self.settings.adopt(now_ns) {
            tracing::error!(%error, "the replicated table could not be adopted");
        }
    }

    fn announce(&self) {
        self.announcer.announce_now();
    }

    fn set_peer_mac(&self, mac: [u8; 6]) {
        if let Err(error) = self.settings.set_peer_mac(mac) {
            tracing::error!(%error, "the peer's MAC address could not be set: strays are not relayed");
        }
    }

    fn promise(&self, until_ns: u64) {
        if let Err(error) = self.promises.set(until_ns) {
            tracing::error!(%error, "what the peer was promised is forgotten if csmd ends now");
        }
    }
}
