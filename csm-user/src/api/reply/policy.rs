//! Policies of virtual servers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limit::{BackupReply, RefusedReply};

/// What clients of a policy met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyReply {
    /// Name; `None`: what no policy is for.
    pub name: Option<String>,
    /// Its number in the dataplane's tables, if it has one.
    pub index: Option<u32>,
    /// Access list that says whom it is for; `None`: all clients.
    pub client_group: Option<String>,
    /// Farm; `None`: its clients are refused.
    pub serverfarm: Option<String>,
    /// Its backup farm.
    pub backup: Option<BackupReply>,
    /// Its sticky group; `None`: as its virtual server has it.
    pub sticky_group: Option<u8>,
    /// `reverse-sticky`, its own or its virtual server's.
    #[serde(default)]
    pub reverse_sticky: Option<u8>,
    /// Code point that is written into its clients' packets.
    pub dscp: Option<u8>,
    /// First packets that were refused since the start of this node.
    pub refused: RefusedReply,
    /// Proven connections in this node's table, by the last walk over it; `None`: not walked yet.
    pub connections: Option<u64>,
    /// Connections proven by this node since its start.
    pub total_matches: u64,
    /// Packets from clients.
    pub client_packets: u64,
    /// Their octets.
    pub client_octets: u64,
    /// Packets from servers.
    pub server_packets: u64,
    /// Their octets.
    pub server_octets: u64,
}
