//! The lab.

pub mod rig;
