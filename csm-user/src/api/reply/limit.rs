//! Limits of virtual servers, and who stands in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A backup farm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupReply {
    /// Its name.
    pub serverfarm: String,
    /// Clients stick to its reals, too.
    pub sticky: bool,
    /// It has a real in rotation, and the virtual server's own farm has none.
    pub serving: bool,
}

/// A rate of new connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RateLimitReply {
    /// Connections a second.
    pub per_second: u32,
    /// How many may come at once.
    pub burst: u32,
    /// Leading bits of an address that make a client; `None`: the rate is of all clients together.
    pub prefix_length: Option<u8>,
}

/// First packets that a virtual server refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedReply {
    /// Beyond the rate of all clients.
    pub rate_limit: u64,
    /// Beyond the rate of one client.
    pub client_rate_limit: u64,
    /// No real in rotation, or all of them at their `maxconns`, and no backup farm to go to.
    pub no_real: u64,
    /// At its `max-conns`.
    #[serde(default)]
    pub max_conns: u64,
    /// Its owner at its `maxconns`.
    #[serde(default)]
    pub owner_max_conns: u64,
}

/// Whose a virtual server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OwnerReply {
    /// The owner's name.
    pub name: String,
    /// Its `maxconns`, of all its virtual servers together.
    pub max_conns: Option<MaxConnsReply>,
}

/// Whether routing daemons of this host are to tell of a virtual server's network, and can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdvertiseReply {
    /// Only while it is operational.
    pub only_active: bool,
    /// Its route stands in the kernel's table, as was read last.
    pub announced: bool,
}

/// How many connections a virtual server, or an owner, may have at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MaxConnsReply {
    /// The limit.
    pub limit: u32,
    /// Those that it has, half-open ones included.
    pub connections: u64,
}
