//! Tests that need root: packet fixtures and the lab.

mod dataplane;
mod network;
mod soon;
mod tables;
