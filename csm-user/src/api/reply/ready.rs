//! Whether a box may be lost, and why the node is what it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FtState;

/// `show module csm N ft readiness`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReadyReply {
    /// Either box could be lost now without a client noticing.
    pub ready: bool,
    /// All that was looked at.
    pub checks: Vec<CheckReply>,
}

/// How a thing that was looked at stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckGrade {
    /// As it should be.
    Good,
    /// No client would notice, and yet.
    Remark,
    /// Clients might notice.
    Missing,
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckReply {
    /// How it stands.
    pub grade: CheckGrade,
    /// What was looked at, one word, e.g. `replica`.
    pub about: String,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// `show module csm N ft explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainReply {
    /// State of this node, as the CSM calls it.
    pub state: FtState,
    /// State of the machine.
    pub machine: String,
    /// Since when, milliseconds since 1970 UTC.
    pub since_unix_ms: u64,
    /// Highest term known.
    pub term: u64,
    /// The machine's reason, one word or two.
    pub reason: String,
    /// The same in a sentence.
    pub why: String,
    /// When and why it gave up the role, if it had it and has it no more.
    pub fenced: Option<FencedReply>,
    /// What the ranks of both are made of, the weightiest first.
    pub ranks: Vec<RankReply>,
    /// What would move the role, or keeps it from moving.
    pub changes: Vec<String>,
}

/// The role was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FencedReply {
    /// When, milliseconds since 1970 UTC.
    pub at_unix_ms: u64,
    /// Why.
    pub reason: String,
}

/// A part of the ranks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RankReply {
    /// Which.
    pub what: String,
    /// This node's.
    pub own: String,
    /// The peer's; `null`: none is heard.
    pub peer: Option<String>,
    /// The first part in which the nodes differ.
    pub decides: bool,
}
