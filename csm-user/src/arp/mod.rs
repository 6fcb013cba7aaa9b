//! Announcements: gratuitous ARP for alias and virtual addresses.

pub mod announcer;
pub mod frame;
pub mod owner;
pub mod task;
