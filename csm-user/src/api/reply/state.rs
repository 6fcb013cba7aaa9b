//! The state directory, and restarts from it.

use serde::{Deserialize, Serialize};

/// `working` or `certified`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateDirectory {
    /// What `write memory` wrote last.
    Working,
    /// What `copy working certified` copied last.
    Certified,
}

/// What stands in one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyState {
    /// Nothing.
    Absent,
    /// A file whose checksum is wrong.
    Damaged,
    /// A whole configuration.
    Whole,
}

/// Something was saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedReply {
    /// Checksum of what was saved.
    pub checksum: String,
    /// The certified copy is the same.
    pub certified: bool,
}

/// `copy working certified`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifyRequest {
    /// On the peer, too, with the addresses exchanged.
    pub flash_synchro: bool,
}

/// `reload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadRequest {
    /// From which copy; `null`: as any start chooses.
    pub directory: Option<StateDirectory>,
}

/// `show running-directory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryReply {
    /// `module csm N`.
    pub module: u8,
    /// This box is active.
    pub primary: bool,
    /// It belongs to a pair.
    pub pair: bool,
    /// What it was started from; `null`: the initial configuration.
    pub booted: Option<StateDirectory>,
    /// The working copy.
    pub working: CopyState,
    /// The certified copy.
    pub certified: CopyState,
    /// The working copy is not certified: the next start takes the other.
    pub certify_needed: bool,
    /// The configuration in force is the working copy.
    pub saved: bool,
    /// The peer's configuration in force is this node's; `null` without a peer.
    pub peer_in_sync: Option<bool>,
}
