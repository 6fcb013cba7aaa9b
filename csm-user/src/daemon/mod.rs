//! The composition root: starts the features and routes events between them.
//!
//! ```text
//!  probes ──health──▶ planner ──▶ maps            ring thread ──deltas──▶ replication ──▶ peer
//!  netlink ──links──▶ ┐                                │hints
//!  FT thread ─events─▶│ event loop ──commands──▶ FT    ▼
//!  signals ──────────▶┘              neighbours, announcements
//! ```
//!
//! Invariant: nothing that a takeover needs passes through here. The real-time thread opens the gate, adopts the table
//! and announces by itself; what the loop adds (repeats, roles of replication and expiry) may be late.

pub mod actions;
mod adopted;
mod advertise;
pub mod apply;
pub mod backend;
mod clear;
mod conns;
mod counts;
mod directory;
pub mod host;
pub mod images;
mod inband;
mod lease;
pub mod node;
mod pair;
pub mod planner;
mod policies;
mod ports;
mod ready;
pub mod reloads;
mod repeat;
pub mod replica;
mod replies;
mod restart;
mod route;
mod router;
pub mod saved;
mod shares;
mod sole;
pub mod standby;
pub mod startup;
mod sync;
mod trace;
pub mod tracking;
mod vmac;
mod witness;

pub use images::identify;
pub use restart::{Handed, Restarting, handed, installed};
pub use startup::{Ended, Failure, Options, run};
pub use witness::witness;
