//! Policies: which farm serves which clients of a virtual server. Pure.

use ipnet::IpNet;

use super::{Backup, Config, Family, Name, Serverfarm, StickyGroup, Vserver};

/// Highest number of a numbered access list.
pub const NUMBERED_MAX: u64 = 99;

/// `policy NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Name.
    pub name: Name,
    /// `client-group LIST`: the access list that permits its clients; `None`: it is for all.
    pub client_group: Option<Name>,
    /// `serverfarm NAME`; `None`: its clients are refused.
    pub serverfarm: Option<Name>,
    /// `serverfarm NAME backup NAME [sticky]`.
    pub backup: Option<Backup>,
    /// `sticky-group N`: 1–255, a section of that number; `None`: as its virtual server says.
    pub sticky_group: Option<u8>,
    /// `reverse-sticky N`: 1–255; `None`: as its virtual server says.
    pub reverse_sticky: Option<u8>,
    /// `set ip dscp N`: 0–63, written into its clients' packets.
    pub dscp: Option<u8>,
}

impl Policy {
    /// One that is for all clients, and refuses them.
    #[must_use]
    pub const fn new(name: Name) -> Self {
        Self {
            name,
            client_group: None,
            serverfarm: None,
            backup: None,
            sticky_group: None,
            reverse_sticky: None,
            dscp: None,
        }
    }
}

/// `access-list N ...`, `ip access-list standard NAME` or `ipv6 access-list NAME`: addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessList {
    /// Its name, or its number from 1 to [`NUMBERED_MAX`].
    pub name: Name,
    /// Of its addresses.
    pub family: Family,
    /// In this order.
    pub lines: Vec<AccessLine>,
}

impl AccessList {
    /// Whether it is written by its number, a line at a time.
    #[must_use]
    pub fn is_numbered(&self) -> bool {
        let name = self.name.as_str();
        let is_number = |number: u64| (1..=NUMBERED_MAX).contains(&number) && number.to_string() == name;
        self.family == Family::V4 && name.parse().is_ok_and(is_number)
    }

    /// Whether it permits all of `network`, as far as no line speaks of a part of that: the first line that holds it decides, and
    /// without one it is denied.
    #[must_use]
    pub fn permits(&self, network: IpNet) -> bool {
        let first = self.lines.iter().find(|line| line.network.contains(&network));
        first.is_some_and(|line| line.permit)
    }
}

/// A line of an access list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessLine {
    /// `permit`, else `deny`.
    pub permit: bool,
    /// The addresses that it speaks of.
    pub network: IpNet,
}

/// A virtual server as some of its clients meet it.
#[derive(Clone, Debug)]
pub struct Face<'a> {
    /// By this policy; `None`: by no policy.
    pub policy: Option<&'a Policy>,
    /// With the farms that serve them.
    pub vserver: Vserver,
}

impl Config {
    /// The policy called `name`.
    #[must_use]
    pub fn policy(&self, name: &Name) -> Option<&Policy> {
        self.policies.iter().find(|policy| policy.name == *name)
    }

    /// The access list of `family` called `name`.
    #[must_use]
    pub fn access_list(&self, family: Family, name: &Name) -> Option<&AccessList> {
        self.access_lists.iter().find(|list| list.family == family && list.name == *name)
    }

    /// `vserver` as clients of each of its policies meet it, in their order, and last as all others do.
    pub fn faces<'a>(&'a self, vserver: &'a Vserver) -> impl Iterator<Item = Face<'a>> {
        let policies = vserver.policies.iter().filter_map(|name| self.policy(name));
        let own = vserver.sticky.map(|sticky| self.sticky_in_force(sticky));
        let named = |policy: &Policy| policy.sticky_group.and_then(|number| self.sticky_group(number));
        let of = move |policy: &'a Policy| Face {
            policy: Some(policy),
            vserver: Vserver {
                serverfarm: policy.serverfarm.clone(),
                backup: policy.backup.clone(),
                threshold: None,
                sticky: named(policy).map(StickyGroup::rule).or(own),
                reverse_sticky: policy.reverse_sticky.or(vserver.reverse_sticky),
                ..vserver.clone()
            },
        };
        let alone = move || Face { policy: None, vserver: Vserver { sticky: own, ..vserver.clone() } };
        policies.map(of).chain(std::iter::once_with(alone))
    }

    /// The farms of `vserver` and of its policies, those that stand in included; some more than once.
    pub fn farms_of<'a>(&'a self, vserver: &'a Vserver) -> impl Iterator<Item = &'a Serverfarm> {
        self.farm_names_of(vserver).filter_map(|name| self.serverfarm(name))
    }

    /// Their names, also of such as are not there: to be compared with another, which needs no look-up.
    pub fn farm_names_of<'a>(&'a self, vserver: &'a Vserver) -> impl Iterator<Item = &'a Name> {
        self.farm_pairs_of(vserver).flatten().flatten()
    }

    /// The names of the farm and of its backup, of `vserver` itself and of each of its policies.
    pub fn farm_pairs_of<'a>(&'a self, vserver: &'a Vserver) -> impl Iterator<Item = [Option<&'a Name>; 2]> {
        let pair = |farm: &'a Option<Name>, backup: &'a Option<Backup>| {
            [farm.as_ref(), backup.as_ref().map(|backup| &backup.farm)]
        };
        let policies = vserver.policies.iter().filter_map(|name| self.policy(name));
        std::iter::once(pair(&vserver.serverfarm, &vserver.backup))
            .chain(policies.map(move |policy| pair(&policy.serverfarm, &policy.backup)))
    }
}

#[cfg(test)]
mod tests {
    use super::{AccessLine, AccessList};
    use crate::model::{Family, Name};

    #[test]
    fn the_first_line_that_holds_an_address_decides_and_without_one_it_is_denied() {
        let line = |permit, network: &str| AccessLine { permit, network: network.parse().expect("a net") };
        let list = AccessList {
            name: Name::new("10").expect("a name"),
            family: Family::V4,
            lines: vec![
                line(false, "10.0.0.5/32"),
                line(true, "10.0.0.0/24"),
                line(false, "10.0.0.0/25"),
                line(true, "11.0.0.0/8"),
            ],
        };
        let permits = |network: &str| list.permits(network.parse().expect("a net"));
        assert!(list.is_numbered());
        assert!(!permits("10.0.0.5/32") && permits("10.0.0.6/32") && permits("10.0.0.0/25"));
        assert!(permits("11.2.0.0/16") && !permits("12.0.0.0/8") && !permits("0.0.0.0/0"));
    }
}
