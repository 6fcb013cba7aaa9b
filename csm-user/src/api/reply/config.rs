//! The configuration in force, and changes of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunningConfigReply {
    /// In canonical form, ends in a line feed.
    pub text: String,
}

/// What a text is to the configuration in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeMode {
    /// All of the new one: `configure replace`.
    Replace,
    /// Lines on top of it, as typed in `configure terminal`.
    Edit,
}

/// A change. It is made as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeRequest {
    /// What `text` is.
    pub mode: ChangeMode,
    /// What findings call it: a file's name, or `terminal`.
    pub name: String,
    /// The lines.
    pub text: String,
    /// Seconds after which the change is taken back unless it is confirmed; `null`: it stays.
    pub revert_s: Option<u32>,
}

/// A change was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeReply {
    /// Warnings and notes about the text, ready to print; empty without any.
    pub findings: String,
    /// What changed.
    pub differences: Vec<DifferenceReply>,
    /// Seconds until it is taken back unless it is confirmed.
    pub revert_in_s: Option<u64>,
}

/// A line that one of two configurations has and the other has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DifferenceReply {
    /// The lines that open its section, outermost first.
    pub section: Vec<String>,
    /// The line.
    pub line: String,
    /// Which has it.
    pub side: DifferenceSide,
}

/// `hw-module csm N standby config-sync`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncReply {
    /// The CSM's messages.
    pub messages: Vec<String>,
    /// The peer starts anew, as something in the configuration cannot change while it runs.
    pub peer_reloads: bool,
}

/// Which of two configurations has a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceSide {
    /// It was removed, or the peer has it.
    Removed,
    /// It was added, or this node has it.
    Added,
}
