//! `csm trace`: walks of packets.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnState, Endpoint, Protocol, Verdict};

/// Whose packets are told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceQuery {
    /// The client.
    pub client: IpAddr,
    /// Of this virtual server only.
    pub vserver: Option<String>,
    /// How long to wait for a packet, up to [`WAIT_MAX_MS`]; `None`: not at all.
    pub wait_ms: Option<u64>,
}

/// Longest wait for a packet in one request, ms.
pub const WAIT_MAX_MS: u64 = 2000;

/// Addresses of a packet; of ARP the sender's and the target's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PacketReply {
    /// Protocol; `None`: ARP.
    pub protocol: Option<Protocol>,
    /// Source; port 0 where there is none.
    pub source: Endpoint,
    /// Destination.
    pub destination: Endpoint,
}

/// A connection's entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntryReply {
    /// In the table of proven connections, not of half-open ones.
    pub proven: bool,
    /// State.
    pub state: Option<ConnState>,
    /// Virtual server; `None`: server-initiated, or removed meanwhile.
    pub vserver: Option<String>,
    /// Real server.
    pub real: Option<Endpoint>,
}

/// The walk of one frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WalkReply {
    /// CLOCK_MONOTONIC, ns; 0: known from its end only, as an answer to a client whose address is translated.
    pub at_ns: u64,
    /// VLAN it came in on.
    pub vlan: Option<u16>,
    /// Octets of the frame as it came, without a tag.
    pub octets: u32,
    /// As it came.
    pub came: Option<PacketReply>,
    /// The connection it belonged to when it came.
    pub before: Option<EntryReply>,
    /// The connection it belongs to now.
    pub after: Option<EntryReply>,
    /// As it left, if it did.
    pub left: Option<PacketReply>,
    /// MAC address it was sent to.
    pub to_mac: Option<String>,
    /// What ended it, as in `stats`.
    pub reason: String,
    /// What became of it.
    pub verdict: Verdict,
}
