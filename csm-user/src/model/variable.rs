//! `variable NAME VALUE`: what the CSM sets by environment variables and this product does, too.

use std::time::Duration;

/// `variable` lines of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variables {
    /// `ARP_GRATUITOUS_INTERVAL`: between two announcements of an active node's addresses, 10–31,536,000 s, default 15.
    pub gratuitous: Duration,
    /// `ADVERTISE_RHI_FREQ`: between two looks at whether the kernel has the advertised routes still, 1–65,535 s, default 10.
    pub advertised: Duration,
    /// `ARP_REPLY_FOR_NO_INSERVICE_VIP`: addresses of virtual servers that are out of service are answered for; default no.
    pub reply_out_of_service: bool,
}

impl Default for Variables {
    fn default() -> Self {
        Self {
            gratuitous: Duration::from_secs(15),
            advertised: Duration::from_secs(10),
            reply_out_of_service: false,
        }
    }
}
