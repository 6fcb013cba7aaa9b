//! The XDP program as userspace sees it: plan, load, maps, events.

pub mod adopt;
pub mod bpf;
pub mod capacity;
pub mod clear;
pub mod counted;
pub mod covered;
pub mod diff;
pub mod expiry;
pub mod family;
pub mod judge;
pub mod load;
pub mod loads;
pub mod maps;
pub mod plan;
pub mod port;
pub mod predictor;
pub mod refusal;
pub mod ring;
pub mod routes;
pub mod selection;
pub mod shares;
pub mod snapshot;
pub mod table;
pub mod task;
pub mod trace;
pub mod waiting;
