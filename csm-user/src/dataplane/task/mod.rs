//! The dataplane's own threads.

pub mod fragments;
pub mod nudge;
pub mod router;
pub mod trace;
