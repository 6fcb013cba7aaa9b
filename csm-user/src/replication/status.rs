//! Plain facts for `show` and for the election. Pure.

use std::net::SocketAddrV6;
use std::time::Duration;

use super::digest::Coverage;
use super::record::Refusal;

/// A snapshot or repair under way at the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Number of the transfer on this stream.
    pub epoch: u64,
    /// A snapshot, speaking for everything; else a repair.
    pub full: bool,
    /// Entries sent so far.
    pub entries: u64,
}

/// The last repair of buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repair {
    /// When it was acknowledged, on the clock that the machine is fed with.
    pub at: Duration,
    /// Buckets rewritten, 1–256.
    pub buckets: u32,
    /// Entries in them.
    pub entries: u64,
}

/// The sending side of the stream to the peer.
#[derive(Clone, Debug, PartialEq)]
pub struct SenderStatus {
    /// This node is active and tells its changes.
    pub active: bool,
    /// It was, and tells what the peer has not acknowledged yet.
    pub handing_over: bool,
    /// Last snapshot that the peer acknowledged; 0: none on this stream.
    pub snapshot_epoch: u64,
    /// Transfer under way.
    pub transfer: Option<Progress>,
    /// By what this node knows the peer's replica is complete.
    pub peer_complete: bool,
    /// Age of the oldest change that is not acknowledged.
    pub lag: Duration,
    /// Changes that wait to be sent.
    pub queued: usize,
    /// Items sent and not acknowledged.
    pub unacked: usize,
    /// Changes and entries sent.
    pub sent: u64,
    /// Of these, carried out: usable at the peer.
    pub held: u64,
    /// Events that were lost before or in the queue.
    pub lost_events: u64,
    /// Handshakes under way that the peer was told of.
    pub handshakes_told: u64,
    /// Those that it was not told of, being too many: a takeover loses them, if nothing else tells of them.
    pub handshakes_left_out: u64,
    /// Entries the peer refused, by [`Refusal::index`].
    pub refused: [u64; Refusal::ALL.len()],
    /// Buckets with entries that the peer still refuses: the replica is partial.
    pub refused_buckets: u32,
    /// Buckets known to be wrong that wait for repair.
    pub broken_buckets: u32,
    /// From event to acknowledgement, the latest delta.
    pub last_ack: Duration,
    /// The worst delta of this stream.
    pub worst_ack: Duration,
    /// Age of the last comparison of both kernels' maps, and its result.
    pub coverage: Option<(Duration, Coverage)>,
    /// Last repair.
    pub last_repair: Option<Repair>,
}

/// The receiving side of the stream from the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiverStatus {
    /// Transfer under way, and whether it speaks for everything.
    pub transfer: Option<Progress>,
    /// Last full transfer that was carried out entirely; 0: none on this stream.
    pub snapshot_epoch: u64,
    /// The sender's last heartbeat says that the replica is complete, for the epoch carried out here.
    pub complete: bool,
    /// The sender's last word on the age of its oldest unacknowledged change, milliseconds.
    pub lag_ms: u32,
    /// Entries made usable here.
    pub applied: u64,
    /// Entries deleted on the sender's word.
    pub deleted: u64,
    /// Handshakes under way that the peer told of, and that were entered here.
    pub handshakes: u64,
    /// Entries refused here, by [`Refusal::index`].
    pub refused: [u64; Refusal::ALL.len()],
}

/// What the election needs of replication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Completeness {
    /// On a standby: its replica is complete (promise P4), and false without a stream from the peer. On an active node
    /// always true: its table is the original.
    pub complete: bool,
    /// On an active node: the peer's replica is complete by what it acknowledged.
    pub peer_complete: bool,
    /// Standby: the sender's lag; active: its own. Milliseconds.
    pub lag_ms: u32,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplStatus {
    /// This node's role as replication was told.
    pub active: bool,
    /// The outgoing stream, while it stands, is sealed with the group's key.
    pub outgoing_sealed: bool,
    /// The same of the incoming one.
    pub incoming_sealed: bool,
    /// The peer that replication was told of.
    pub peer: Option<SocketAddrV6>,
    /// Our stream to the peer, while it stands.
    pub outgoing: Option<SenderStatus>,
    /// The peer's stream to us, while it stands.
    pub incoming: Option<ReceiverStatus>,
    /// Outgoing streams that were opened, counted from start.
    pub connects: u64,
    /// Incoming connections that were turned away: unknown peer, wrong nonce, wrong group, no common version.
    pub rejected: u64,
    /// Why the last stream ended, either direction.
    pub last_close: Option<String>,
    /// Events discarded because this node is not active or has no stream; a snapshot makes up for them.
    pub discarded_events: u64,
}

impl ReplStatus {
    /// There is a stream, and none in the clear.
    #[must_use]
    pub const fn encrypted(&self) -> bool {
        (self.outgoing.is_some() || self.incoming.is_some())
            && (self.outgoing.is_none() || self.outgoing_sealed)
            && (self.incoming.is_none() || self.incoming_sealed)
    }
}
