//! What becomes of the source address of connections that servers open. Pure.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Family, Name};

/// `static ...` with its `real` lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Static {
    /// What is done.
    pub action: StaticAction,
    /// `real A [M]`: to whose connections; of several sections' networks that hold a host the longest mask counts.
    pub hosts: Vec<IpNet>,
}

/// What `static` does to a connection that a host opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StaticAction {
    /// `drop`.
    Drop,
    /// `nat virtual`: its source becomes the address of the virtual server that the host serves.
    NatVirtual,
    /// `nat A`.
    Nat(IpAddr),
}

impl StaticAction {
    /// Family of the address that it names.
    #[must_use]
    pub const fn family(self) -> Option<Family> {
        match self {
            Self::Nat(address) => Some(Family::of(address)),
            Self::Drop | Self::NatVirtual => None,
        }
    }
}

/// As a configuration writes it.
impl fmt::Display for StaticAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop => f.write_str("static drop"),
            Self::NatVirtual => f.write_str("static nat virtual"),
            Self::Nat(address) => write!(f, "static nat {address}"),
        }
    }
}

/// `nat client ...` of a farm.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NatClient {
    /// `nat client NAME`: an address and port of this pool.
    Pool(Name),
    /// `nat client static`: as the `static` sections say of the client.
    Static,
}

impl NatClient {
    /// Its pool.
    #[must_use]
    pub const fn pool(&self) -> Option<&Name> {
        match self {
            Self::Pool(name) => Some(name),
            Self::Static => None,
        }
    }
}

/// As a configuration writes it.
impl fmt::Display for NatClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(name) => f.pad(name.as_str()),
            Self::Static => f.pad("static"),
        }
    }
}
