//! The lab.

pub mod sim;
