//! What is replicated, and the table it is replicated from and into. Pure.
//!
//! A record names its virtual server and real by [`StableId`]; a node's own indices, interface numbers and next hops
//! never leave it. The dataplane implements [`ReplicaTable`] on the kernel's maps; nothing in this feature knows them.

use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;

use crate::model::StableId;

/// What identifies a connection on both nodes: the client → server direction at ingress. All addresses of a connection are of
/// one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnKey {
    /// IP protocol number.
    pub proto: u8,
    /// VLAN the client's packets come in on.
    pub client_vlan: u16,
    /// The client.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// Address the client speaks to.
    pub virtual_address: IpAddr,
    /// Port the client speaks to.
    pub virtual_port: u16,
}

/// State of a replicated connection. Half-open ones are not replicated, finished ones are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnState {
    /// Proven by both sides.
    Established,
    /// One side sent FIN.
    Closing,
}

/// A connection as it crosses the FT VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnRecord {
    /// Which connection.
    pub key: ConnKey,
    /// The real server's address.
    pub real: IpAddr,
    /// Port on the real server.
    pub real_port: u16,
    /// What the real sees as the client's address: another one with `nat client`.
    pub source: IpAddr,
    /// What the real sees as the client's port.
    pub source_port: u16,
    /// VLAN the server's packets come in on.
    pub server_vlan: u16,
    /// The virtual server; [`StableId::NONE`] for a connection that a server opened to none.
    pub vserver: StableId,
    /// The real; [`StableId::NONE`] for a connection that is only routed.
    pub real_id: StableId,
    /// Where the connection stands; not part of the digest, for it moves without an event.
    pub state: ConnState,
    /// The real by which the client's packets came in, where that is the way back (`reverse-sticky`); [`StableId::NONE`]: that goes by the
    /// routes. Not part of the digest: it never changes.
    pub via: StableId,
    /// Orders successive connections with equal keys, see [`newer`]. The table stores it with the entry.
    pub generation: u32,
    /// Whole seconds since the last packet when the record was made; not part of the digest.
    pub idle_s: u32,
}

/// A handshake under way that a successor could not finish by what client and server say, as it crosses the FT VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handshake {
    /// The connection that it becomes.
    pub becomes: ConnRecord,
    /// The server's SYN-ACK was seen.
    pub answered: bool,
    /// The number that the client's next segment proves it by: of its acknowledgement if `answered`, else its sequence number.
    pub expect: u32,
}

/// A connection that ended or expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnGone {
    /// Which connection.
    pub key: ConnKey,
    /// The one that ended; a newer connection under the same key stays.
    pub generation: u32,
}

/// `left` is a later connection than `right` under the same key: serial numbers, RFC 1982 section 3.2, 32 bit.
///
/// Generations of one node grow; of two nodes they compare by chance. So order by generation only guards the short
/// time in which an event may trail a scan of the same table, and whatever it decides wrongly the digest finds.
#[must_use]
pub const fn newer(left: u32, right: u32) -> bool {
    left.wrapping_sub(right).cast_signed() > 0
}

/// Sticky group as both nodes know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StickyGroup {
    /// `group G`, 1–255.
    Shared(u8),
    /// `group 0`: private to this virtual server. In the map it is 256 + a node's own vserver number.
    Private(StableId),
}

/// What identifies a sticky entry on both nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StickyKey {
    /// Group.
    pub group: StickyGroup,
    /// Client address after the mask.
    pub client: IpAddr,
}

/// A sticky entry as it crosses the FT VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StickyRecord {
    /// Which entry.
    pub key: StickyKey,
    /// The real the client is bound to.
    pub real_id: StableId,
    /// Life without use, seconds.
    pub life_s: u32,
    /// Whole seconds since the last use; not part of the digest.
    pub idle_s: u32,
}

/// Why the receiver could not make an entry usable. The sender never counts such an entry as held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// The virtual server is not configured here, or has no address.
    #[error("unknown virtual server")]
    UnknownVserver,
    /// The real is not configured here.
    #[error("unknown real")]
    UnknownReal,
    /// No next hop towards the real or the client could be assigned.
    #[error("no next hop")]
    NoNextHop,
    /// The map is full.
    #[error("table full")]
    TableFull,
    /// [`Conflict::Keep`] found an entry, or another connection holds the return direction's key.
    #[error("exists")]
    Exists,
    /// [`Conflict::KeepNewer`] found a newer generation under this key.
    #[error("superseded")]
    Superseded,
    /// A map operation failed.
    #[error("map error")]
    Internal,
}

impl Refusal {
    /// All reasons in the order of their wire numbers (from 1).
    pub const ALL: [Self; 7] = [
        Self::UnknownVserver,
        Self::UnknownReal,
        Self::NoNextHop,
        Self::TableFull,
        Self::Exists,
        Self::Superseded,
        Self::Internal,
    ];

    /// Position in [`Refusal::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What an upsert does with an entry that already stands under the record's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Conflict {
    /// A snapshot or repair speaks for the whole bucket: replace the entry, both directions, whatever its generation.
    Replace,
    /// A delta: replace it unless its generation is [`newer`] than the record's ([`Refusal::Superseded`]). An equal
    /// generation is a refresh and succeeds. Sticky entries have no generation and are replaced.
    KeepNewer,
    /// This node is active and its own entries win: what it made or used stays ([`Refusal::Exists`]); a connection with
    /// equal content counts as inserted. A replica that no packet here has used is treated as with
    /// [`Conflict::KeepNewer`], for the peer said it before and knows better; but sticky entries do not tell whether they were
    /// used, and stay.
    Keep,
}

/// The kernel's connection and sticky tables, as replication needs them. Called from blocking threads only, from
/// several at once; a call may take as long as its map operations do.
///
/// *Replicated* is an entry whose virtual server has `replicate csrp connection` (or `sticky`) on now, whenever it was made,
/// and every entry that was inserted through this trait and that no packet here has used. Connections in the table of half-open ones, and finished ones that are only kept
/// for late segments, are not replicated.
///
/// An entry learned through this trait is not expired by a node that is not active: its idle time is the active's to
/// judge, which sends the deletion.
pub trait ReplicaTable: Send + Sync {
    /// Inserts each record with both directions, keeping its generation. `Ok` at the record's position means that
    /// both entries stand in the kernel's map and that virtual server, real and next hops are known here.
    fn upsert_connections(&self, records: &[ConnRecord], conflict: Conflict) -> Vec<Result<(), Refusal>>;

    /// Enters each handshake among the half-open, which evict, unless a connection stands that is proven or later; with
    /// [`Conflict::Keep`] unless any stands. How many stand now: nothing more is promised of them, and nobody waits for it.
    fn enter_handshakes(&self, handshakes: &[Handshake], conflict: Conflict) -> usize;

    /// Removes both directions of each connection, unless the entry's generation is [`newer`] than the one named. With
    /// [`Conflict::Keep`] only if it is a replica that no packet on this node has used.
    fn delete_connections(&self, gone: &[ConnGone], conflict: Conflict);

    /// As [`ReplicaTable::upsert_connections`], for sticky entries.
    fn upsert_sticky(&self, records: &[StickyRecord], conflict: Conflict) -> Vec<Result<(), Refusal>>;

    /// Removes sticky entries.
    fn delete_sticky(&self, keys: &[StickyKey]);

    /// Walks the replicated connections of the kernel's map, never of a mirror, in chunks of the implementor's choice
    /// (some hundred to some thousand) until the end or until `visit` breaks; an entry that is neither made nor
    /// deleted meanwhile is seen exactly once. `visit` may block for as long as the peer is slow.
    ///
    /// # Errors
    /// The walk could not be completed: its result must not be used to delete anything.
    fn visit_connections(&self, visit: &mut dyn FnMut(&[ConnRecord]) -> ControlFlow<()>) -> io::Result<()>;

    /// As [`ReplicaTable::visit_connections`], for sticky entries.
    ///
    /// # Errors
    /// As there.
    fn visit_sticky(&self, visit: &mut dyn FnMut(&[StickyRecord]) -> ControlFlow<()>) -> io::Result<()>;
}

/// What the ring-buffer thread and the expiry tell of replicated entries of this node's own dataplane. Entries whose
/// virtual server does not replicate are never told; changes made through [`ReplicaTable`] are never told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaEvent {
    /// A connection was proven by both sides, or changed.
    ConnectionUp(ConnRecord),
    /// A connection ended, expired, or was removed.
    ConnectionClosed(ConnGone),
    /// A sticky entry was made or used.
    Sticky(StickyRecord),
    /// A sticky entry expired or was removed.
    StickyGone(StickyKey),
    /// A handshake is under way that a successor could not finish by what client and server say. No entry is told of: what is lost
    /// of these is not repaired.
    Handshake(Handshake),
    /// So many handshakes were not told of.
    HandshakesLeftOut(u64),
    /// So many events were lost before this one (ring buffer or channel full).
    Lost(u64),
    /// The answer to [`super::task::ReplOptions::flush`]: all that happened before it was asked for has been told.
    Flushed,
    /// The configuration says of entries that stand that they are replicated from now on, or no more.
    Rescoped,
}

#[cfg(test)]
mod tests {
    use super::{Refusal, newer};

    #[test]
    fn generations_are_serial_numbers() {
        assert!(newer(2, 1));
        assert!(!newer(1, 1));
        assert!(!newer(1, 2));
        assert!(newer(3, u32::MAX - 3));
        assert!(!newer(u32::MAX - 3, 3));
    }

    #[test]
    fn refusals_are_numbered_in_order() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal.index(), index);
        }
    }
}
