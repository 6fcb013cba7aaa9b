//! What the FT group tracks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `track mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrackModeReply {
    /// Anything down counts.
    Any,
    /// Something down in each class counts.
    All,
}

/// State of what is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrackState {
    /// As it should be.
    Up,
    /// Not so.
    Down,
    /// Not known yet; counts as down.
    Unknown,
}

/// Tracking of the FT group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrackReply {
    /// `track mode`.
    pub mode: TrackModeReply,
    /// The verdict: nothing tracked stands against this node.
    pub eligible: bool,
    /// `track hold-down`, milliseconds.
    pub hold_down_ms: u64,
    /// What is left of it, milliseconds; `None`: it does not run.
    pub hold_down_left_ms: Option<u64>,
    /// `track interval`, milliseconds.
    pub interval_ms: u64,
    /// `track retries`.
    pub retries: u8,
    /// What is tracked.
    pub objects: Vec<TrackObjectReply>,
    /// Latest changes, oldest first.
    pub changes: Vec<TrackChangeReply>,
}

/// Something tracked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrackObjectReply {
    /// As `track` names it, e.g. `gateway 192.158.38.20`.
    pub object: String,
    /// Its state.
    pub state: TrackState,
    /// Since when: wall clock, milliseconds since 1970 UTC.
    pub since_unix_ms: u64,
    /// How a gateway is asked, or why an interface or VRRP group is down.
    pub note: Option<String>,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrackChangeReply {
    /// Wall clock, milliseconds since 1970 UTC.
    pub at_unix_ms: u64,
    /// E.g. `gateway 192.158.38.20 is down`.
    pub what: String,
}
