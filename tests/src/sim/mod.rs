//! Seeded simulation of the election: two nodes with drifting clocks, a bad link, and faults, on one virtual clock.
//!
//! The nodes are [`csm_user::ft::session::Session`], the code that the daemon's real-time thread runs. A run is a pure
//! function of its [`plan::Plan`], which is a pure function of its seed; [`check`] watches every instant of it.

pub mod check;
pub mod node;
pub mod plan;
pub mod rng;
mod unequal;
pub mod world;
