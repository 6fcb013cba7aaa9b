//! The XDP program as userspace sees it: plan, load, maps, events.

pub mod diff;
pub mod plan;
pub mod predictor;
pub mod routes;
