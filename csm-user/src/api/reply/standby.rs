//! HSRP groups.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// State of this node in a group (RFC 2281).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StandbyState {
    /// HSRP does not run.
    Init,
    /// The virtual address is not learned yet.
    Learn,
    /// Listens to the active and the standby router.
    Listen,
    /// Takes part in the election.
    Speak,
    /// The next one.
    Standby,
    /// Forwards.
    Active,
}

/// An HSRP group on an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StandbyReply {
    /// Linux interface.
    pub interface: String,
    /// Group.
    pub group: u16,
    /// Version of HSRP.
    pub version: u8,
    /// State of this node.
    pub state: StandbyState,
    /// This node only listens.
    pub listen_only: bool,
    /// Changes of the state.
    pub changes: u32,
    /// Milliseconds since the last one.
    pub changed_ms_ago: u64,
    /// Virtual address; `None`: not learned yet.
    pub virtual_address: Option<IpAddr>,
    /// It is made of the group's MAC address (IPv6).
    #[serde(default)]
    pub autoconfigured: bool,
    /// It was learned from the active router.
    #[serde(default)]
    pub learned: bool,
    /// Global addresses beside it, with their prefix lengths (IPv6).
    #[serde(default)]
    pub global: Vec<String>,
    /// MAC address of the active router for it.
    pub virtual_mac: String,
    /// Priority, less what tracking takes from it; of a group that is only listened to, `null`, as all that is configured.
    pub priority: Option<u8>,
    /// Priority as configured.
    pub configured_priority: Option<u8>,
    /// Takes the role from an active router of lower priority.
    pub preempt: bool,
    /// For how long after the start it does not, seconds.
    pub preempt_delay_s: u64,
    /// `name`.
    pub name: Option<String>,
    /// Interfaces that lower the priority while they are down.
    pub track: Vec<StandbyTrackReply>,
    /// Until the next hello, milliseconds; `None`: it does not speak.
    pub next_hello_ms: Option<u64>,
    /// Hello time, milliseconds.
    pub hello_ms: u64,
    /// Hold time, milliseconds.
    pub hold_ms: u64,
    /// The active router.
    pub active: Option<StandbyRouterReply>,
    /// The standby router.
    pub standby: Option<StandbyRouterReply>,
    /// Messages accepted.
    pub received: u64,
    /// Messages that are none.
    pub malformed: u64,
    /// Messages with another text.
    pub authentication_failed: u64,
    /// Messages with another virtual address, or from this node's own.
    pub conflicting: u64,
}

/// An interface that an HSRP group tracks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StandbyTrackReply {
    /// Its name.
    pub interface: String,
    /// By how much it lowers the priority while it is down.
    pub decrement: u8,
    /// It is up.
    pub up: bool,
}

/// A router of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StandbyRouterReply {
    /// Its own address.
    pub address: IpAddr,
    /// Its priority.
    pub priority: u8,
    /// It is this node.
    pub local: bool,
    /// Until it counts as silent, milliseconds; `None`: it is this node.
    pub expires_ms: Option<u64>,
}
