//! Neighbours, own addresses and links over netlink.

pub mod membership;
pub mod netlink;
pub mod own;
pub mod table;
pub mod task;
