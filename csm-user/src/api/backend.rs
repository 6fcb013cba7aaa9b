//! What the daemon answers. The server calls it on blocking threads, so an answer may read maps and take locks.

use super::reply::{
    CertifyRequest, DifferenceReply, DirectoryReply, ImageReply, ReloadRequest, SavedReply, SyncReply,
};
use super::reply::{
    ChangeReply, ChangeRequest, ClearedReply, ConnFilter, ConnsReply, CountersReply, ExplainReply, FtReply,
    NeighbourReply, ReadyReply, RealReply, RunningConfigReply, ServerfarmReply, StandbyReply, StickiesReply,
    StickyFilter, SystemReply, TraceQuery, VlanReply, VserverReply, WalkReply,
};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Asked for what cannot be done now.
    #[error("{error}")]
    Refused {
        /// One sentence.
        error: String,
        /// What the user can do.
        remedy: Option<String>,
    },
    /// A configuration with faults; nothing was changed.
    #[error("the configuration has faults: {errors}")]
    Rejected {
        /// How many.
        errors: usize,
        /// Each with its line and a caret.
        report: String,
    },
    /// The daemon's own failure, e.g. a map that cannot be read.
    #[error("{0}")]
    Internal(String),
}

/// The daemon as the API sees it. Nothing is cached: each answer is read when asked for.
pub trait Backend: ConfigBackend + StateBackend + SyncBackend + ClearBackend {
    /// The process and its configuration.
    fn system(&self) -> Result<SystemReply, Fault>;
    /// The FT group; `None` if none is configured.
    fn ft(&self) -> Result<Option<FtReply>, Fault>;
    /// Whether a box may be lost now; asks the peer.
    fn readiness(&self) -> Result<ReadyReply, Fault>;
    /// Why this node is what it is; `None` without an FT group.
    fn explain(&self) -> Result<Option<ExplainReply>, Fault>;
    /// Hands the active role to the peer.
    fn force_standby(&self) -> Result<(), Fault>;
    /// Virtual servers in the order of the configuration.
    fn vservers(&self) -> Result<Vec<VserverReply>, Fault>;
    /// Reals in the order of the configuration.
    fn reals(&self) -> Result<Vec<RealReply>, Fault>;
    /// Farms in the order of the configuration.
    fn serverfarms(&self) -> Result<Vec<ServerfarmReply>, Fault>;
    /// Connections that `filter` lets through: the page after `after`, the first one for `None`.
    fn conns(&self, filter: &ConnFilter, after: Option<&str>) -> Result<ConnsReply, Fault>;
    /// Ends the connections that `filter` lets through.
    fn clear_conns(&self, filter: &ConnFilter) -> Result<ClearedReply, Fault>;
    /// Sticky entries, at most [`ROWS_MAX`](super::reply::ROWS_MAX).
    fn sticky(&self) -> Result<StickiesReply, Fault>;
    /// HSRP groups that are listened to.
    fn standby(&self) -> Result<Vec<StandbyReply>, Fault>;
    /// VLANs in the order of the configuration, the FT VLAN last.
    fn vlans(&self) -> Result<Vec<VlanReply>, Fault>;
    /// Addresses answered for, and next hops.
    fn neighbours(&self) -> Result<Vec<NeighbourReply>, Fault>;
    /// Counters of the dataplane.
    fn counters(&self) -> Result<CountersReply, Fault>;
    /// Walks of packets: those since the last question, or that come within its time.
    fn trace(&self, query: &TraceQuery) -> Result<Vec<WalkReply>, Fault>;
}

/// What is cleared.
pub trait ClearBackend: Send + Sync + 'static {
    /// Starts all counters of the dataplane anew.
    fn clear_counters(&self) -> Result<(), Fault>;
    /// Deletes the sticky entries that `filter` lets through, on the peer, too.
    fn clear_sticky(&self, filter: &StickyFilter) -> Result<ClearedReply, Fault>;
    /// Asks for all next hops again.
    fn clear_neighbours(&self) -> Result<(), Fault>;
}

/// The peer's configuration as the API sees it.
pub trait SyncBackend: Send + Sync + 'static {
    /// Puts this node's configuration in force on the peer.
    fn sync_config(&self) -> Result<SyncReply, Fault>;
    /// The commands that one of the pair has and the other has not.
    fn sync_differences(&self) -> Result<Vec<DifferenceReply>, Fault>;
}

/// The state directory as the API sees it.
pub trait StateBackend: Send + Sync + 'static {
    /// Saves the configuration in force as the working copy.
    fn write_memory(&self) -> Result<SavedReply, Fault>;
    /// Saves another configuration, which must be without faults, as the working copy.
    fn set_startup(&self, request: &ChangeRequest) -> Result<SavedReply, Fault>;
    /// Makes the working copy the certified one.
    fn certify(&self, request: CertifyRequest) -> Result<SavedReply, Fault>;
    /// Makes these octets the program of the working copy.
    fn set_image(&self, octets: &[u8]) -> Result<ImageReply, Fault>;
    /// The working copy names no program any more.
    fn drop_image(&self) -> Result<SavedReply, Fault>;
    /// What stands where.
    fn directory(&self) -> Result<DirectoryReply, Fault>;
    /// The copy that a start would take.
    fn startup_config(&self) -> Result<RunningConfigReply, Fault>;
    /// Starts anew, now or later.
    fn reload(&self, request: ReloadRequest) -> Result<(), Fault>;
    /// No planned reload, and this start stays.
    fn cancel_reload(&self) -> Result<(), Fault>;
}

/// The configuration as the API sees it.
pub trait ConfigBackend: Send + Sync + 'static {
    /// The configuration in force.
    fn running_config(&self) -> Result<RunningConfigReply, Fault>;
    /// Puts another one in force.
    fn change_config(&self, request: &ChangeRequest) -> Result<ChangeReply, Fault>;
    /// The last change stays, though it was to be taken back.
    fn confirm_config(&self) -> Result<(), Fault>;
}
