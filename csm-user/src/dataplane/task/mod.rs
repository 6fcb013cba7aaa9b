//! The dataplane's own threads.

pub mod adopted;
pub mod copy;
pub mod fragments;
pub mod gate;
pub mod identities;
pub mod link;
pub mod nudge;
pub mod pins;
pub mod router;
pub mod trace;
