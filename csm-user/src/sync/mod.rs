//! Configuration synchronization: the active node's configuration, as it is to be on its peer, over the FT VLAN.
//!
//! Pure: [`exchange`] (what the peer gets, what it makes of it, what both should have alike), [`directory`] (the same of
//! what is saved) and [`wire`]. Shell:
//! [`task`]. One TCP connection an exchange: a request, a reply. Like replication's streams it is
//! sealed if the group has a key ([`crate::secure`]), and only the address and the boot of the peer that the election knows
//! are talked to.

pub mod directory;
pub mod exchange;
pub mod task;
pub mod wire;
