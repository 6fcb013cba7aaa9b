//! Announcements: gratuitous ARP and neighbour advertisements for alias and virtual addresses.

pub mod announcer;
pub mod findings;
pub mod frame;
pub mod owner;
pub mod task;
pub mod trial;
