//! Whose virtual servers are.

use super::{Config, Name, Vserver};

/// `owner NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Name.
    pub name: Name,
    /// `contact-info TEXT`: 1–255 characters.
    pub contact: Option<String>,
    /// `billing-info TEXT`: the same.
    pub billing: Option<String>,
    /// `maxconns N`: connections at once of all its virtual servers together, half-open ones included; default 0, no limit.
    pub max_conns: u32,
}

impl Owner {
    /// One that nothing is known of.
    #[must_use]
    pub const fn new(name: Name) -> Self {
        Self { name, contact: None, billing: None, max_conns: 0 }
    }
}

impl Config {
    /// The owner of `vserver`.
    #[must_use]
    pub fn owner_of(&self, vserver: &Vserver) -> Option<&Owner> {
        self.owners.iter().find(|owner| Some(&owner.name) == vserver.owner.as_ref())
    }
}
