//! Reals that the module names, reals that stand in for others, and what becomes of the connections of failed ones.

use std::net::IpAddr;

use super::Name;

/// `real NAME` of the module: an address with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedReal {
    /// Name.
    pub name: Name,
    /// `address A`; `None` until given, and then no farm may have it.
    pub address: Option<IpAddr>,
}

/// `backup real A [PORT]`, or `backup real name NAME [PORT]`: another real of the same farm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReal {
    /// Its address.
    pub address: IpAddr,
    /// Its port; `None`: the virtual server's.
    pub port: Option<u16>,
    /// `name NAME`: it has the address of that real of the module.
    pub name: Option<Name>,
}

/// `failaction ...`: what becomes of the connections of a real that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failaction {
    /// `purge`: they are reset.
    Purge,
    /// `reassign`: they go on at another real, where that can be: without resets for UDP and other protocols, and for TCP in dispatch
    /// mode. TCP with server NAT is reset.
    Reassign,
}
