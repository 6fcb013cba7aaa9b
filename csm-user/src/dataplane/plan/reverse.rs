//! `reverse-sticky`: among which reals the sender of a connection is looked for, and how what is found is entered. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use csm_common::limits::REVERSE_REALS_MAX;
use csm_common::service::{Reverse, VSERVER_STICKY_BOTH, VSERVER_STICKY_DESTINATION, VSERVER_STICKY_STATICS};

use super::vserver::mask;
use super::{Contents, Desired};
use crate::dataplane::family::Wire;
use crate::model::{Config, StableId, StickyAddress, Vserver, counted_bits6};

/// Each group that is named by a `reverse-sticky` of family `A`, whose virtual servers are all that `config` has.
pub(super) fn plan<A: Wire>(
    config: &Config,
    desired: &Desired,
    contents: &Contents<A>,
) -> BTreeMap<u32, Reverse<A>> {
    let faces = config.vservers.iter().flat_map(|vserver| config.faces(vserver));
    let groups: BTreeSet<u8> = faces.filter_map(|face| face.vserver.reverse_sticky).collect();
    if groups.is_empty() {
        return BTreeMap::new();
    }
    let numbers: HashMap<StableId, u32> =
        desired.reals.iter().map(|(&number, known)| (known.id, number)).collect();
    groups
        .into_iter()
        .filter_map(|group| Some((group.into(), of(config, &numbers, contents, group)?)))
        .collect()
}

fn of<A: Wire>(
    config: &Config,
    numbers: &HashMap<StableId, u32>,
    contents: &Contents<A>,
    group: u8,
) -> Option<Reverse<A>> {
    let rule = config.reverse_in_force(group)?;
    let fixed = config.sticky_group(group).is_some_and(|group| !group.statics.is_empty());
    let users: Vec<_> = config.users_of_sticky(group).collect();
    let mut names: Vec<_> = users.iter().flat_map(Vserver::sticky_farms).collect();
    names.sort_unstable();
    names.dedup();
    let reals = names.into_iter().filter_map(|name| config.serverfarm(name)).flat_map(|farm| {
        farm.reals.iter().map(|real| StableId::of_real(&farm.name, real.address, real.port))
    });
    // What nothing reaches has no next hop, and sends nothing.
    let reached = |number: &u32| contents.reals.get(number).is_some_and(|real| real.nexthop != 0);
    let reals = reals.filter_map(|id| numbers.get(&id).copied()).filter(reached);
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    let mut reverse = Reverse {
        mask_be: mask(rule.bits, counted_bits6(rule.address, rule.bits6)),
        flags: flag(rule.address == StickyAddress::Destination, VSERVER_STICKY_DESTINATION)
            | flag(rule.address == StickyAddress::Both, VSERVER_STICKY_BOTH)
            | flag(fixed, VSERVER_STICKY_STATICS),
        life_s: u32::from(rule.minutes) * 60,
        count: 0,
        reals: [0; REVERSE_REALS_MAX as usize],
    };
    for (slot, number) in reverse.reals.iter_mut().zip(reals) {
        *slot = number;
        reverse.count += 1;
    }
    Some(reverse)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{figure_7_1, hops, name};
    use super::super::{Assignments, HealthView, plan as whole};
    use super::*;
    use crate::model::{Policy, StickyGroup};

    fn reverses(config: &Config) -> BTreeMap<u32, Reverse> {
        let hops = hops(config);
        whole(config, &HealthView::default(), &hops, &mut Assignments::default()).unwrap().contents.reverses
    }

    /// VIP1 enters its connections in group 20, by which VIP2 with the same farm is sticky.
    fn turned() -> Config {
        let mut config = figure_7_1();
        let mut other = config.vservers[0].clone();
        other.name = name("VIP2");
        other.virtual_server.as_mut().unwrap().port = 8080;
        let sticky = other.sticky.as_mut().unwrap();
        (sticky.group, sticky.minutes) = (20, 7);
        config.vservers[0].reverse_sticky = Some(20);
        config.vservers.push(other);
        config.sticky_groups =
            vec![StickyGroup { bits: 24, address: StickyAddress::Destination, ..StickyGroup::new(20) }];
        config
    }

    #[test]
    fn a_group_has_the_reals_and_the_rule_of_those_who_stick_by_it() {
        let config = turned();
        let planned = reverses(&config);
        let [(20, reverse)] =
            planned.iter().map(|(group, reverse)| (*group, *reverse)).collect::<Vec<_>>()[..]
        else {
            panic!("{planned:?}")
        };
        assert_eq!((reverse.count, reverse.life_s), (3, 420), "the minutes of who uses the group");
        assert_eq!(reverse.reals[..3].iter().collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(reverse.flags, VSERVER_STICKY_DESTINATION);
        assert_eq!(reverse.mask_be.to_ne_bytes(), [255, 255, 255, 0]);
        let desired =
            whole(&config, &HealthView::default(), &hops(&config), &mut Assignments::default()).unwrap();
        let groups: Vec<u32> = desired.contents.vservers.values().map(|vserver| vserver.reverse).collect();
        assert_eq!(groups, [20, 0]);
    }

    #[test]
    fn a_policy_has_its_own_or_that_of_its_virtual_server() {
        let mut config = turned();
        let policy = |text: &str, reverse_sticky| Policy {
            serverfarm: Some(name("WEB")),
            reverse_sticky,
            ..Policy::new(name(text))
        };
        config.policies = vec![policy("OWN", Some(21)), policy("NONE", None)];
        config.vservers[0].policies = vec![name("OWN"), name("NONE")];
        config.sticky_groups.push(StickyGroup::new(21));
        let planned = reverses(&config);
        assert_eq!(planned.keys().copied().collect::<Vec<_>>(), [20, 21]);
        assert_eq!((planned[&21].count, planned[&21].life_s), (0, 86_400), "nobody sticks by it");
    }

    #[test]
    fn without_reverse_sticky_there_is_nothing_and_a_real_that_nothing_reaches_is_left_out() {
        assert!(reverses(&figure_7_1()).is_empty());
        let config = turned();
        let mut some = hops(&config);
        let gone = config.serverfarms[0].reals[1].address;
        some.retain(|host, _| host.address != gone);
        let planned = whole(&config, &HealthView::default(), &some, &mut Assignments::default()).unwrap();
        assert_eq!(planned.contents.reverses[&20].count, 2);
    }
}
