//! Reals that the module names.

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
