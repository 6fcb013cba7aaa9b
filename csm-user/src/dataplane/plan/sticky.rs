//! Sticky entries of the configuration. Pure.

use std::collections::HashMap;
use std::net::IpAddr;

use csm_common::address::V6;
use csm_common::service::{self, StickyKey};

use super::Desired;
use super::vserver::mask;
use crate::dataplane::family::Wire;
use crate::model::{
    Config, Real, Serverfarm, StableId, StaticSticky, StickyAddress, StickyGroup, Vserver, counted_bits6,
};

/// Each with the number of its real; without those whose real is in no farm that its group is used with.
pub(super) fn plan<A: Wire>(config: &Config, desired: &Desired) -> HashMap<StickyKey<A>, u32> {
    let mut planned = HashMap::new();
    if config.sticky_groups.iter().all(|group| group.statics.is_empty()) {
        return planned;
    }
    let numbers: HashMap<StableId, u32> =
        desired.reals.iter().map(|(&number, known)| (known.id, number)).collect();
    for group in &config.sticky_groups {
        let users: Vec<Vserver> = config.users_of_sticky(group.number).collect();
        let farms: Vec<&Serverfarm> =
            users.iter().flat_map(Vserver::sticky_farms).filter_map(|name| config.serverfarm(name)).collect();
        for line in &group.statics {
            let real = farms.iter().find_map(|farm| Some((farm, real_of(farm, line)?)));
            let id = real.map(|(farm, real)| StableId::of_real(&farm.name, real.address, real.port));
            if let (Some(&number), Some(key)) = (id.and_then(|id| numbers.get(&id)), key(group, line)) {
                planned.insert(key, number);
            }
        }
    }
    planned
}

/// The key of `line` in the tables of that family; `None`: it stands in those of the other.
fn key<A: Wire>(group: &StickyGroup, line: &StaticSticky) -> Option<StickyKey<A>> {
    let number = group.number.into();
    let Some(destination) = line.destination else {
        let client_be = A::of(line.client)?.masked(mask(group.bits, group.bits6));
        return Some(StickyKey { group: number, client_be });
    };
    let bits6 = counted_bits6(StickyAddress::Both, group.bits6);
    let ends = (line.client, destination);
    let pair = pair::<u32>(number, ends, mask(group.bits, bits6))
        .or_else(|| pair::<V6>(number, ends, mask(group.bits, bits6)))?;
    // Those of both families stand in the tables of IPv6.
    Some(StickyKey { group: number, client_be: A::of(pair.client_be.ip())? })
}

fn pair<A: Wire>(group: u32, (client, to): (IpAddr, IpAddr), mask_be: A) -> Option<StickyKey<V6>> {
    Some(service::pair(group, A::of(client)?, A::of(to)?, mask_be))
}

/// The real of `farm` that `line` names.
fn real_of<'a>(farm: &'a Serverfarm, line: &StaticSticky) -> Option<&'a Real> {
    let meant = |real: &&Real| real.address == line.real;
    let exact = farm.reals.iter().filter(meant).find(|real| real.port == line.port);
    exact.or_else(|| farm.reals.iter().find(meant).filter(|_| line.port.is_none()))
}

#[cfg(test)]
mod tests {
    use csm_common::service::{VSERVER_STICKY_BOTH, VSERVER_STICKY_DESTINATION, VSERVER_STICKY_STATICS};

    use super::super::tests::{dual_stack, figure_7_1, hops, name};
    use super::super::{Assignments, HealthView, plan};
    use super::*;
    use crate::dataplane::family::wire;
    use crate::model::Policy;

    fn planned(config: &Config) -> Desired {
        plan(config, &HealthView::default(), &hops(config), &mut Assignments::default()).unwrap()
    }

    fn line(client: &str, real: &str, port: Option<u16>) -> StaticSticky {
        let [client, real]: [IpAddr; 2] = [client, real].map(|text| text.parse().unwrap());
        StaticSticky { address: StickyAddress::Source, client, destination: None, real, port }
    }

    #[test]
    fn what_a_group_fixes_is_planned_with_its_real_for_each_family_under_its_mask() {
        let mut config = dual_stack();
        let four = [line("10.1.1.7", "192.158.39.102", None), line("10.1.2.7", "192.158.39.99", None)];
        let six = [line("fd00:1:2:3::7", "fd00:39::101", None)];
        config.sticky_groups = vec![
            StickyGroup { bits: 24, statics: four.to_vec(), ..StickyGroup::new(10) },
            StickyGroup {
                bits6: 48,
                address: StickyAddress::Destination,
                statics: six.to_vec(),
                ..StickyGroup::new(11)
            },
            StickyGroup { statics: four.to_vec(), ..StickyGroup::new(12) },
        ];
        let Desired { contents, contents6, .. } = planned(&config);
        let key = StickyKey { group: 10, client_be: wire("10.1.1.0".parse().unwrap()) };
        assert_eq!(contents.stickies, HashMap::from([(key, 1)]), "nobody uses group 12");
        let key = StickyKey { group: 11, client_be: wire("fd00:1:2::".parse().unwrap()) };
        assert_eq!(contents6.stickies, HashMap::from([(key, 3)]));
        let bits = VSERVER_STICKY_DESTINATION | VSERVER_STICKY_STATICS;
        let (vserver, vserver6) = (contents.vservers[&0], contents6.vservers[&1]);
        assert_eq!((vserver.flags & bits, vserver6.flags & bits), (VSERVER_STICKY_STATICS, bits));
        assert_eq!(vserver.sticky_mask_be, wire::<u32>("255.255.255.0".parse().unwrap()));
        assert_eq!(vserver6.sticky_mask_be, wire("ffff:ffff:ffff::".parse().unwrap()));
        assert_eq!((vserver.sticky_s, vserver.sticky_group), (1800, 10), "the virtual server's own minutes");
        config.serverfarms[0].reals.remove(1);
        assert_eq!(planned(&config).contents.stickies, HashMap::new());
    }

    #[test]
    fn by_both_addresses_an_entry_of_either_family_stands_in_the_tables_of_ipv6() {
        let mut config = dual_stack();
        let to = |line: StaticSticky, to: &str| StaticSticky {
            address: StickyAddress::Both,
            destination: Some(to.parse().unwrap()),
            ..line
        };
        let four = to(line("10.1.1.7", "192.158.39.102", None), "10.9.0.9");
        let six = to(line("fd00:1:2:3::7", "fd00:39::101", None), "fd00:38::30");
        let by_both = |number, bits, line| StickyGroup {
            bits,
            address: StickyAddress::Both,
            statics: vec![line],
            ..StickyGroup::new(number)
        };
        config.sticky_groups = vec![by_both(10, 24, four), by_both(11, 32, six)];
        let Desired { contents, contents6, .. } = planned(&config);
        assert_eq!(contents.stickies, HashMap::new());
        let keys = [(10, "100::a01:100:a09:0", 1), (11, "fd00:1:2:3:fd00:38::", 3)];
        let key = |group, text: &str| StickyKey { group, client_be: wire(text.parse().unwrap()) };
        let wanted = keys.map(|(group, text, real)| (key(group, text), real));
        assert_eq!(contents6.stickies, HashMap::from(wanted));
        let bits = VSERVER_STICKY_BOTH | VSERVER_STICKY_DESTINATION;
        let (vserver, vserver6) = (contents.vservers[&0], contents6.vservers[&1]);
        assert_eq!([vserver.flags & bits, vserver6.flags & bits], [VSERVER_STICKY_BOTH; 2]);
        assert_eq!(vserver6.sticky_mask_be, wire("ffff:ffff:ffff:ffff::".parse().unwrap()));
    }

    #[test]
    fn of_reals_with_one_address_the_port_decides_and_without_one_the_first() {
        let mut config = figure_7_1();
        let of =
            |port, real: &Real| Real { address: "192.158.39.101".parse().unwrap(), port, ..real.clone() };
        for (ports, wanted, number) in [
            ([Some(80), Some(81), None], Some(81), Some(1)),
            ([Some(80), Some(81), None], None, Some(2)),
            ([Some(80), Some(81), Some(82)], None, Some(0)),
            ([Some(80), Some(81), None], Some(90), None),
        ] {
            let reals = config.serverfarms[0].reals.clone();
            config.serverfarms[0].reals =
                ports.iter().zip(&reals).map(|(port, real)| of(*port, real)).collect();
            let statics = vec![line("10.1.1.7", "192.158.39.101", wanted)];
            config.sticky_groups = vec![StickyGroup { statics, ..StickyGroup::new(10) }];
            let planned = planned(&config).contents.stickies;
            assert_eq!(planned.values().copied().next(), number, "{ports:?} {wanted:?}");
        }
    }

    #[test]
    fn a_policy_goes_by_its_group_and_its_time_and_others_by_the_virtual_server() {
        let mut config = figure_7_1();
        let statics = vec![line("10.1.1.7", "192.158.39.103", None)];
        config.sticky_groups = vec![StickyGroup { bits: 16, minutes: 5, statics, ..StickyGroup::new(20) }];
        let policy = |text: &str, sticky_group| Policy {
            serverfarm: Some(name("WEB")),
            sticky_group,
            ..Policy::new(name(text))
        };
        config.policies = vec![policy("FIRST", Some(20)), policy("SECOND", None)];
        config.vservers[0].policies = vec![name("FIRST"), name("SECOND")];
        config.vservers[0].sticky.as_mut().unwrap().group = 0;
        let contents = planned(&config).contents;
        let sticky = |number| {
            let entry = contents.vservers[&number];
            (entry.sticky_s, entry.sticky_group, entry.flags & VSERVER_STICKY_STATICS)
        };
        // Elements in the order in which they were numbered: the virtual server, its policies.
        assert_eq!(sticky(0), (1800, 256, 0));
        assert_eq!(sticky(1), (300, 20, VSERVER_STICKY_STATICS));
        assert_eq!(sticky(2), (1800, 258, 0));
        let key = StickyKey { group: 20, client_be: wire("10.1.0.0".parse().unwrap()) };
        assert_eq!(contents.stickies, HashMap::from([(key, 2)]));
    }
}
