//! Identities that both nodes of a pair derive alike. Pure.

use std::net::IpAddr;

use super::{Name, Virtual};

/// Identity of a vserver or a real that both nodes of a pair derive alike from the configuration (64-bit FNV-1a of its
/// description), so that replicas carry no node's indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StableId(pub u64);

impl StableId {
    /// No real, or no virtual server.
    pub const NONE: Self = Self(0);

    /// Of a virtual server: its name and what it matches.
    #[must_use]
    pub fn of_vserver(name: &Name, virtual_server: &Virtual) -> Self {
        let Virtual { network, protocol, port, service: _ } = virtual_server;
        Self(fnv1a(format!("vserver {name} {network} {protocol} {port}").as_bytes()))
    }

    /// Of a virtual server as clients of a policy meet it.
    #[must_use]
    pub fn of_policy(name: &Name, virtual_server: &Virtual, policy: &Name) -> Self {
        let Self(vserver) = Self::of_vserver(name, virtual_server);
        Self(fnv1a(format!("policy {vserver} {policy}").as_bytes()))
    }

    /// Of its choice among its backup farm.
    #[must_use]
    pub fn backup_of(self) -> Self {
        Self(fnv1a(format!("backup {}", self.0).as_bytes()))
    }

    /// Of an owner.
    #[must_use]
    pub fn of_owner(name: &Name) -> Self {
        Self(fnv1a(format!("owner {name}").as_bytes()))
    }

    /// Of a real: its farm, address and port (0: the virtual server's).
    #[must_use]
    pub fn of_real(farm: &Name, address: IpAddr, port: Option<u16>) -> Self {
        Self(fnv1a(format!("real {farm} {address} {}", port.unwrap_or(0)).as_bytes()))
    }
}

/// FNV-1a, 64 bit.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
