//! The daemon's API: JSON over HTTP on a unix socket.
//!
//! [`reply`] holds the types of both sides, [`backend`] what the daemon has to answer, [`server`] and [`client`] the two
//! shells. The command line uses nothing else, so a program can do whatever the command line can. The endpoints, with
//! examples, are in `docs/api.md`, and for programs in `docs/openapi.json`, which [`openapi`] makes.

pub mod backend;
pub mod client;
pub mod openapi;
pub mod reply;
pub mod server;
#[cfg(test)]
pub(crate) mod testing;

/// Where `csmd` listens unless told otherwise.
pub const SOCKET: &str = "/run/csm/csmd.sock";

/// Paths of the endpoints.
pub mod path {
    /// GET [`SystemReply`](super::reply::SystemReply).
    pub const SYSTEM: &str = "/v1/system";
    /// GET [`FtReply`](super::reply::FtReply), or null without an FT group.
    pub const FT: &str = "/v1/ft";
    /// GET [`ReadyReply`](super::reply::ReadyReply): whether a box may be lost.
    pub const READINESS: &str = "/v1/ft/readiness";
    /// GET [`ExplainReply`](super::reply::ExplainReply), or null without an FT group.
    pub const EXPLAIN: &str = "/v1/ft/explain";
    /// POST: `clear module csm N ft active`. [`Done`](super::reply::Done).
    pub const FORCE_STANDBY: &str = "/v1/ft/force-standby";
    /// GET a list of [`VserverReply`](super::reply::VserverReply).
    pub const VSERVERS: &str = "/v1/vservers";
    /// GET a list of [`RealReply`](super::reply::RealReply).
    pub const REALS: &str = "/v1/reals";
    /// GET a list of [`ServerfarmReply`](super::reply::ServerfarmReply).
    pub const SERVERFARMS: &str = "/v1/serverfarms";
    /// GET [`ConnsReply`](super::reply::ConnsReply); query [`ConnFilter`](super::reply::ConnFilter), and `after`.
    pub const CONNS: &str = "/v1/conns";
    /// POST: `clear module csm N connections`. [`ClearedReply`](super::reply::ClearedReply); query
    /// [`ConnFilter`](super::reply::ConnFilter).
    pub const CLEAR_CONNS: &str = "/v1/conns/clear";
    /// GET [`StickiesReply`](super::reply::StickiesReply).
    pub const STICKY: &str = "/v1/sticky";
    /// POST: `clear module csm N sticky`. [`ClearedReply`](super::reply::ClearedReply); query
    /// [`StickyFilter`](super::reply::StickyFilter).
    pub const CLEAR_STICKY: &str = "/v1/sticky/clear";
    /// POST: `clear module csm N arp-cache`. [`Done`](super::reply::Done).
    pub const CLEAR_NEIGHBOURS: &str = "/v1/arp/clear";
    /// POST: `clear module csm N counters`. [`Done`](super::reply::Done).
    pub const CLEAR_COUNTERS: &str = "/v1/counters/clear";
    /// GET a list of [`StandbyReply`](super::reply::StandbyReply).
    pub const STANDBY: &str = "/v1/standby";
    /// GET a list of [`VlanReply`](super::reply::VlanReply).
    pub const VLANS: &str = "/v1/vlans";
    /// GET a list of [`NeighbourReply`](super::reply::NeighbourReply).
    pub const NEIGHBOURS: &str = "/v1/arp";
    /// GET [`CountersReply`](super::reply::CountersReply).
    pub const COUNTERS: &str = "/v1/counters";
    /// POST: walks of a client's packets from now on, a list of [`WalkReply`](super::reply::WalkReply); query
    /// [`TraceQuery`](super::reply::TraceQuery).
    pub const TRACE: &str = "/v1/trace";
    /// GET [`RunningConfigReply`](super::reply::RunningConfigReply).
    pub const RUNNING_CONFIG: &str = "/v1/running-config";
    /// POST [`ChangeRequest`](super::reply::ChangeRequest): `configure …`. [`ChangeReply`](super::reply::ChangeReply).
    pub const CONFIGURE: &str = "/v1/configure";
    /// POST: `configure confirm`. [`Done`](super::reply::Done).
    pub const CONFIRM: &str = "/v1/configure/confirm";
    /// GET [`RunningConfigReply`](super::reply::RunningConfigReply): the copy that a start would take. POST
    /// [`ChangeRequest`](super::reply::ChangeRequest): saved as the working copy, not put in force;
    /// [`SavedReply`](super::reply::SavedReply).
    pub const STARTUP_CONFIG: &str = "/v1/startup-config";
    /// POST: `write memory`. [`SavedReply`](super::reply::SavedReply).
    pub const WRITE_MEMORY: &str = "/v1/write-memory";
    /// POST [`CertifyRequest`](super::reply::CertifyRequest). [`SavedReply`](super::reply::SavedReply).
    pub const CERTIFY: &str = "/v1/certify";
    /// GET [`DirectoryReply`](super::reply::DirectoryReply).
    pub const DIRECTORY: &str = "/v1/directory";
    /// POST: `hw-module csm N standby config-sync`. [`SyncReply`](super::reply::SyncReply).
    pub const SYNC: &str = "/v1/sync";
    /// GET a list of [`DifferenceReply`](super::reply::DifferenceReply): this node has what is `added`, its peer what is
    /// `removed`.
    pub const SYNC_DIFFERENCES: &str = "/v1/sync/differences";
    /// POST [`ReloadRequest`](super::reply::ReloadRequest). [`Done`](super::reply::Done).
    pub const RELOAD: &str = "/v1/reload";
    /// POST: `copy FILE working image`, the body is the file. [`ImageReply`](super::reply::ImageReply). DELETE: `delete working
    /// image`. [`SavedReply`](super::reply::SavedReply).
    pub const IMAGE: &str = "/v1/image";
    /// POST: `reload cancel`. [`Done`](super::reply::Done).
    pub const RELOAD_CANCEL: &str = "/v1/reload/cancel";
}
