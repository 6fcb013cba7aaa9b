//! The state directory, and restarts from it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `working` or `certified`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateDirectory {
    /// What `write memory` wrote last.
    Working,
    /// What `copy working certified` copied last.
    Certified,
}

/// What stands in one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SavedReply {
    /// Checksum of what was saved.
    pub checksum: String,
    /// The certified copy is the same.
    pub certified: bool,
}

/// `copy working certified`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CertifyRequest {
    /// On the peer, too, with the addresses exchanged.
    pub flash_synchro: bool,
}

/// `reload`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReloadRequest {
    /// From which copy; `null`: as any start chooses.
    pub directory: Option<StateDirectory>,
    /// Seconds to wait before; `null`: now.
    pub in_s: Option<u32>,
    /// Seconds after the start in which it has to be said that it stays, else `certified` is started; `null`: it stays.
    pub rollback_s: Option<u32>,
    /// Even if the peer could not take over from this box now.
    pub force: bool,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageReply {
    /// SHA-256 of its octets.
    pub checksum: String,
    /// How many.
    pub octets: u64,
    /// What it says of itself.
    pub version: String,
}

/// What one directory holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopyReply {
    /// Checksum of what both boxes should have alike of its configuration; `null`: nothing whole stands there.
    pub shared_checksum: Option<String>,
    /// Its program; `null`: the one that is installed.
    pub image: Option<ImageReply>,
}

/// What the peer says of its directories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerDirectoryReply {
    /// The program that runs there, as it describes itself.
    pub running: String,
    /// What it was started from; `null`: the initial configuration.
    pub booted: Option<String>,
    /// The configuration in force is its working copy.
    pub saved: bool,
    /// Its working copy.
    pub working_copy: CopyReply,
    /// Its certified copy.
    pub certified_copy: CopyReply,
}

/// `show running-directory`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// The program that runs, as it describes itself.
    pub running: String,
    /// What the working copy holds.
    pub working_copy: CopyReply,
    /// What the certified copy holds.
    pub certified_copy: CopyReply,
    /// The peer's directories; `null` where it does not say.
    pub peer: Option<PeerDirectoryReply>,
    /// What the directories of both boxes do not have alike, in words; `null` where the peer does not say.
    pub differing: Option<Vec<String>>,
    /// Seconds until a reload that was planned.
    pub reload_in_s: Option<u64>,
    /// Seconds until this start is taken back.
    pub rollback_in_s: Option<u64>,
}
