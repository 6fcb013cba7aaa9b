//! Replication of connections and sticky entries to the peer.
//!
//! ```text
//! active node                                                       standby
//! ring buffer ─ DeltaEvent ─▶ sender ─ window ──── frames ────▶ apply ─▶ ReplicaTable (kernel maps)
//! ReplicaTable ─ walk ──────▶   │  ▲ ◀── acks, digests ─────────  │
//!                               └ digest compare ◀── scan ────────┘
//! ```
//!
//! Pure: [`record`] (entries and the table's trait), [`delta`] (operations, buckets), [`wire`] (frames), [`window`]
//! (queue and unacknowledged frames), [`snapshot`] (transfers), [`digest`] (comparison), [`role`] and [`ended`] (whose
//! entries win), [`sender`] and [`apply`] (the two machines), [`status`]. The shell is [`task`]. `docs/replication.md` is the protocol's description.

pub mod apply;
pub mod delta;
pub mod digest;
pub mod ended;
pub mod record;
pub mod role;
pub mod sender;
pub mod snapshot;
pub mod status;
pub mod task;
pub mod window;
pub mod wire;

#[cfg(test)]
mod pair_tests;
#[cfg(test)]
mod testing;
