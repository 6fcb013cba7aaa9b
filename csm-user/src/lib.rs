//! The controller `csmd` and the command line `csm`.
//!
//! Pure files (machines, wire formats, planners, parsers) hold no socket, clock, task or file; shells around them are
//! called `task.rs`, `load.rs`, `store.rs`, `server.rs`. Features never import one another: [`daemon`] routes.

pub mod api;
pub mod arp;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dataplane;
pub mod ft;
pub mod host;
pub mod hsrp;
pub mod model;
pub mod neigh;
pub mod numbers;
pub mod probe;
pub mod readiness;
pub mod replication;
pub mod secure;
pub mod state;
pub mod sync;
pub mod track;
