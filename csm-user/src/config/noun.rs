//! What has a name of its own in a configuration: what the words are that a slot for a name may be completed to. Pure.

use crate::model::{Config, Family, Name};

/// Sections with names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noun {
    /// `ip access-list`, `ipv6 access-list`, `access-list N`.
    AccessList,
    /// Of these, those of IPv4.
    AccessList4,
    /// Those of IPv6.
    AccessList6,
    /// `real NAME` of the module.
    NamedReal,
    /// `natpool NAME`.
    Natpool,
    /// `owner NAME`.
    Owner,
    /// `policy NAME`.
    Policy,
    /// `probe NAME`.
    Probe,
    /// `serverfarm NAME`.
    Serverfarm,
    /// `vserver NAME`.
    Vserver,
}

impl Noun {
    /// Those that `config` has, in alphabetical order.
    #[must_use]
    pub fn names(self, config: &Config) -> Vec<String> {
        let lists = |family: Option<Family>| -> Vec<&Name> {
            let of = config.access_lists.iter().filter(|list| family.is_none_or(|of| list.family == of));
            of.map(|list| &list.name).collect()
        };
        let names: Vec<&Name> = match self {
            Self::AccessList => lists(None),
            Self::AccessList4 => lists(Some(Family::V4)),
            Self::AccessList6 => lists(Some(Family::V6)),
            Self::NamedReal => config.named_reals.iter().map(|real| &real.name).collect(),
            Self::Natpool => config.natpools.iter().map(|pool| &pool.name).collect(),
            Self::Owner => config.owners.iter().map(|owner| &owner.name).collect(),
            Self::Policy => config.policies.iter().map(|policy| &policy.name).collect(),
            Self::Probe => config.probes.iter().map(|probe| &probe.name).collect(),
            Self::Serverfarm => config.serverfarms.iter().map(|farm| &farm.name).collect(),
            Self::Vserver => config.vservers.iter().map(|vserver| &vserver.name).collect(),
        };
        let mut names: Vec<String> = names.into_iter().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    }
}
