//! Neighbours, own addresses and links over netlink.

pub mod bond;
pub mod groups;
pub mod membership;
pub mod netlink;
pub mod offload;
pub mod own;
pub mod routes;
pub mod table;
pub mod task;
pub mod tun;
pub mod veth;
