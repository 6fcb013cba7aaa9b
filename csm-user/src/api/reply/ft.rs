//! The FT group: election, lease, replication, and how late the real-time thread has been.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::track::TrackReply;

/// State of this node or its peer (MIB: SlbFtState).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FtState {
    /// Listening before anything is claimed.
    Initializing,
    /// Ready to take over.
    Standby,
    /// Forwards for the group.
    Active,
}

/// The gate of the dataplane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    /// Drops what comes for the virtual MAC.
    Closed,
    /// Successor in a planned move.
    RelayIn,
    /// Forwards.
    Open,
    /// Predecessor in a planned move.
    RelayOut,
}

/// An FT group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FtReply {
    /// Group number.
    pub group: u8,
    /// FT VLAN.
    pub vlan: u16,
    /// Its Linux interface.
    pub interface: String,
    /// State of this node, in the CSM's words.
    pub state: FtState,
    /// State of the election machine, e.g. `candidate` or `relay-out`.
    pub machine: String,
    /// Why it is in it.
    pub reason: String,
    /// Since when: wall clock, milliseconds since 1970 UTC.
    pub changed_unix_ms: u64,
    /// The highest term known.
    pub term: u64,
    /// Own priority.
    pub priority: u8,
    /// The peer's, for config-sync.
    pub alternate_priority: Option<u8>,
    /// `preempt`.
    pub preempt: bool,
    /// Preemption waits, because `clear module csm N ft active` was given here.
    pub preempt_held: bool,
    /// Preemption waits for so many milliseconds yet, because the role has come back too often; `None`: it does not.
    pub preempt_damped_ms: Option<u64>,
    /// How often the role came back to this node by preemption lately.
    pub returns: u8,
    /// Heartbeat interval, milliseconds.
    pub heartbeat_ms: u32,
    /// Failover time, milliseconds.
    pub failover_ms: u32,
    /// Whether both nodes' configurations agree; `None`: no peer is heard.
    pub config_in_sync: Option<bool>,
    /// Whether both nodes run the same software; `None`: no peer is heard.
    pub software_in_sync: Option<bool>,
    /// Whether both nodes have the same heartbeat and failover times; `None`: no peer is heard.
    pub timers_in_sync: Option<bool>,
    /// By which key heartbeats are authenticated; `None`: by none.
    pub authenticated: Option<String>,
    /// Replication's streams are encrypted and authenticated with the group's key.
    pub encrypted: bool,
    /// The ways to the other node, the FT VLAN first.
    pub paths: Vec<PathReply>,
    /// Which MAC address the group's frames carry, by VLAN; not of bridged ones, nor where this host is a router.
    #[serde(default)]
    pub macs: Vec<MacReply>,
    /// Who else speaks the FT protocol on them, and is not believed.
    pub foreign: Vec<ForeignReply>,
    /// The third host that is asked before the role is taken from a silent peer; `None`: there is none.
    pub witness: Option<WitnessReply>,
    /// The other node; `None`: not heard.
    pub peer: Option<PeerReply>,
    /// What is tracked; `None`: nothing.
    pub tracking: Option<TrackReply>,
    /// What would happen if the active failed now.
    pub readiness: ReadinessReply,
    /// Replication.
    pub replication: ReplicationReply,
    /// Lease and gate.
    pub lease: LeaseReply,
    /// The real-time thread.
    pub lateness: LatenessReply,
    /// Messages and packets.
    pub counters: FtCounters,
    /// How often two active nodes heard each other.
    pub overlaps: u64,
    /// How long both were active the last time, at most, microseconds.
    pub overlap_last_us: u64,
    /// Latest claims and fences, oldest first.
    pub recorder: Vec<RecorderEntry>,
}

/// A way to the other node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathReply {
    /// Its VLAN.
    pub vlan: u16,
    /// The other node was heard here within the failover time.
    pub heard: bool,
    /// Milliseconds since; `None`: never.
    pub heard_ms_ago: Option<u64>,
    /// The other node says that it hears this one here.
    pub hears_us: bool,
    /// Datagrams handed to the kernel.
    pub sent: u64,
    /// Not taken by it.
    pub send_errors: u64,
    /// The other node's datagrams that came this way.
    pub received: u64,
    /// Those that did not.
    pub missing: u64,
}

impl PathReply {
    /// Something was sent here: there is a key to prove it by.
    #[must_use]
    pub const fn used(&self) -> bool {
        self.sent > 0
    }
}

/// The MAC address of the group's frames on a VLAN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MacReply {
    /// The VLAN.
    pub vlan: u16,
    /// `vmac`.
    pub configured: MacMode,
    /// This box's port's own is used there, not the virtual one.
    pub own: bool,
    /// What became of frames with a MAC address that is not the port's.
    pub trial: MacTrial,
}

/// `vmac`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MacMode {
    /// The virtual one, unless frames with it are lost.
    Auto,
    /// The virtual one.
    On,
    /// The port's own.
    Off,
}

/// Whether frames with a MAC address that is not the port's get to the peer and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MacTrial {
    /// Nobody has answered yet, or nothing is tried.
    Unknown,
    /// They do.
    Passes,
    /// The peer does not get them.
    LostOnTheWay,
    /// The peer gets them, and what it sends to such an address does not come.
    NotDelivered,
}

/// The witness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WitnessReply {
    /// Its address.
    pub address: String,
    /// Its UDP port.
    pub port: u16,
    /// It answered within the failover time.
    pub answers: bool,
    /// Milliseconds since it did; `None`: never.
    pub answered_ms_ago: Option<u64>,
    /// To whom it has granted the role, by its last answer.
    pub holder: GrantHolder,
    /// How long this node's grant lasts yet, microseconds; `None`: it has none.
    pub granted_us: Option<u64>,
    /// How long this node's gate may stay open by the peer's word, microseconds; `None`: it may not.
    pub spoken_for_us: Option<u64>,
    /// The peer has a witness too; `None`: no peer is heard.
    pub peer_has_one: Option<bool>,
    /// Requests handed to the kernel.
    pub sent: u64,
    /// Not taken by it.
    pub send_errors: u64,
    /// Answers.
    pub received: u64,
    /// Of these, refusals.
    pub refused: u64,
    /// What came and was no answer: late, of another, or without the group's key.
    pub dropped: u64,
}

/// To whom a witness has granted the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantHolder {
    /// Nobody, or it has not answered.
    Nobody,
    /// This node.
    ThisBox,
    /// The other one.
    Another,
}

/// The other node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerReply {
    /// Its identity, 16 hexadecimal digits.
    pub node: String,
    /// Its address on the FT VLAN.
    pub address: String,
    /// Its state, as last heard.
    pub state: FtState,
    /// Its priority.
    pub priority: u8,
    /// It can forward.
    pub forwardable: bool,
    /// Its tracking has nothing against it.
    pub eligible: bool,
    /// Its replica is complete.
    pub replica_complete: bool,
    /// It hears this node: a one-way link is a fault.
    pub hears_us: bool,
    /// Milliseconds since its last message.
    pub heard_ms_ago: u64,
    /// Its heartbeat interval, milliseconds.
    pub heartbeat_ms: u32,
    /// Its failover time, milliseconds.
    pub failover_ms: u32,
}

/// A box that speaks the FT protocol on a VLAN of this one and is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForeignReply {
    /// VLAN.
    pub vlan: u16,
    /// Its address there.
    pub address: String,
    /// The group that it names.
    pub group: u8,
    /// Why it is not believed.
    pub why: ForeignWhy,
    /// Its messages.
    pub count: u64,
    /// Milliseconds since the last one.
    pub heard_ms_ago: u64,
}

/// Why a box is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForeignWhy {
    /// It is of another group.
    OtherGroup,
    /// It has another key.
    OtherKey,
    /// It has no key, where one is required.
    NoKey,
    /// A third box of this group.
    ThirdBox,
    /// It has this box's own identity: configured alike, or a loop.
    OwnIdentity,
}

/// What would happen if the active failed now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReadinessReply {
    /// A takeover now would keep every replicated connection.
    pub ready: bool,
    /// This node can forward (ports up, program attached).
    pub forwardable: bool,
    /// Tracking has nothing against this node.
    pub eligible: bool,
    /// What stands against a takeover, one clause each.
    pub obstacles: Vec<String>,
}

/// State of the joiner's snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotState {
    /// No stream to or from the peer.
    None,
    /// Under way.
    Running,
    /// Applied, and the standby refuses some entries.
    Partial,
    /// Applied; deltas follow.
    Complete,
}

/// What the standby holds of what the active has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// Held, usable, by the standby.
    pub held: u64,
    /// Known to the active and to be replicated.
    pub known: u64,
}

/// Contents of a node's own tables, replicated or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableReply {
    /// Proven connections.
    pub connections: u64,
    /// Sticky entries.
    pub sticky: u64,
    /// Milliseconds since they were counted.
    pub walked_ms_ago: u64,
}

/// A repair of what differed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RepairReply {
    /// Milliseconds since it was acknowledged.
    pub ms_ago: u64,
    /// Buckets rewritten.
    pub buckets: u32,
    /// Entries in them.
    pub entries: u64,
}

/// Entries of one kind that the standby refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusalReply {
    /// Why, e.g. `unknown virtual server`.
    pub reason: String,
    /// How often, on this stream.
    pub count: u64,
}

/// Replication of connections and sticky entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicationReply {
    /// The stream is up.
    pub connected: bool,
    /// Why the last stream ended; `None`: none has.
    pub last_close: Option<String>,
    /// Snapshot.
    pub snapshot: SnapshotState,
    /// Connections, as the active node compares them; `None`: not known to this node.
    pub connections: Option<Coverage>,
    /// Sticky entries, likewise.
    pub sticky: Option<Coverage>,
    /// What stands in this node's own tables; `None`: they have not been walked yet.
    pub table: Option<TableReply>,
    /// Age of the oldest change without acknowledgement, milliseconds; `None`: no stream.
    pub lag_ms: Option<u32>,
    /// Entries the standby refused, each as often as it did, on this stream.
    pub refused: u64,
    /// The same by reason.
    pub refusals: Vec<RefusalReply>,
    /// Changes lost before they were sent, which wait for repair.
    pub lost: u64,
    /// Handshakes under way that the peer was told of, or, on a standby, told of: those that a successor could not make anew.
    #[serde(default)]
    pub handshakes: u64,
    /// Those that the peer was not told of, being too many: a takeover in that moment loses them.
    #[serde(default)]
    pub handshakes_left_out: u64,
    /// Milliseconds since both kernels' maps were compared last; `None`: never on this stream.
    pub compared_ms_ago: Option<u64>,
    /// The last repair on this stream.
    pub last_repair: Option<RepairReply>,
}

/// Authority to forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseReply {
    /// The gate as the dataplane sees it now.
    pub gate: GateState,
    /// Until it closes by itself, microseconds; `None`: it is closed.
    pub remaining_us: Option<u64>,
    /// Length of this node's lease, microseconds.
    pub length_us: u64,
    /// Length of the peer's lease, as its heartbeats say, microseconds.
    pub peer_length_us: Option<u64>,
}

/// How late the real-time thread woke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LatenessReply {
    /// It runs under SCHED_FIFO.
    pub realtime: bool,
    /// Its memory is locked.
    pub locked: bool,
    /// The worst since the start, microseconds.
    pub worst_us: u64,
    /// Wakings later than half the failover time, which are not acted on.
    pub too_late: u64,
    /// Wakings by lateness.
    pub histogram: Vec<LatenessBucket>,
}

/// Wakings that were later than the bucket before says, and at most this late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LatenessBucket {
    /// Upper bound, microseconds; `None`: whatever is later.
    pub up_to_us: Option<u64>,
    /// Wakings.
    pub count: u64,
}

/// Sent and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Messages {
    /// Sent.
    pub sent: Option<u64>,
    /// Received.
    pub received: Option<u64>,
}

/// Sticky updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpdateCounters {
    /// Sent.
    pub sent: Option<u64>,
    /// Received.
    pub received: Option<u64>,
    /// Made usable here.
    pub committed: Option<u64>,
}

/// Packets on the FT VLAN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PacketCounters {
    /// Received in all.
    pub received: Option<u64>,
    /// Of these, without effect.
    pub dropped: Option<u64>,
    /// Seen before.
    pub duplicates: Option<u64>,
    /// Checksum or key wrong, or no authentication.
    pub checksum_failed: Option<u64>,
    /// Malformed, of another group or version.
    pub dumped: Option<u64>,
    /// Found no buffer (the socket's receive queue was full).
    pub buffer_unavailable: Option<u64>,
}

/// Counters of `show ft detail`, in the CSM's order (MIB: cslbxFt…). `None`: not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FtCounters {
    /// Changes that the replication queue has room for.
    pub total_buffers: Option<u64>,
    /// Events that had no meaning in the state they came in.
    pub illegal_transitions: Option<u64>,
    /// Changes received and not applied yet.
    pub receive_uncommitted: Option<u64>,
    /// Changes sent and not acknowledged yet.
    pub send_uncommitted: Option<u64>,
    /// Sticky updates.
    pub updates: UpdateCounters,
    /// Master override.
    pub coup: Messages,
    /// Master election.
    pub election: Messages,
    /// Heartbeats.
    pub heartbeat: Messages,
    /// Planned moves.
    pub relinquish: Messages,
    /// Connections.
    pub conn_replicate: Messages,
    /// Connections said again (snapshot, repair).
    pub conn_refresh: Messages,
    /// Ends of connections.
    pub conn_reset: Messages,
    /// Replication messages lost.
    pub messages_lost: Option<u64>,
    /// Replication messages rejected.
    pub messages_rejected: Option<u64>,
    /// Packets.
    pub packets: PacketCounters,
    /// Sticky updates in each of the last eight transfers, the latest first.
    pub last_transfers: Option<[u32; 8]>,
}

/// What the node did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecorderAction {
    /// Opened its gate.
    Claim,
    /// Closed it, or turned it to relaying.
    Fence,
}

/// A claim or a fence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecorderEntry {
    /// Wall clock, milliseconds since 1970 UTC.
    pub at_unix_ms: u64,
    /// Which.
    pub action: RecorderAction,
    /// Term claimed or given up.
    pub term: u64,
    /// Why.
    pub reason: String,
    /// Milliseconds since the peer was heard; `None`: never.
    pub peer_heard_ms_ago: Option<u64>,
    /// How late the thread was at that moment, microseconds.
    pub lateness_us: u64,
}
