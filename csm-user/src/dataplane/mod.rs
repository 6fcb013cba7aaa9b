//! The XDP program as userspace sees it: plan, load, maps, events.

pub mod load;
