//! Sticky groups of a generated configuration, made of what is generated anyhow.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::model::{Config, Family, StaticSticky, Sticky, StickyAddress, StickyGroup, Vserver};

/// `sticky` of a virtual server, before it is known who shares its group.
pub(super) fn rule((minutes, group, (bits, bits6)): (u16, u8, (u8, u8))) -> Sticky {
    Sticky { minutes, group, bits, bits6, address: StickyAddress::Source }
}

/// Lets some groups go by the destination, gives some a section, and policies theirs.
pub(super) fn put(config: &mut Config) {
    let shared = |vserver: &Vserver| vserver.sticky.map_or(0, |sticky| sticky.group);
    let groups: BTreeSet<u8> = config.vservers.iter().map(shared).collect();
    for number in groups {
        let ftp = config
            .vservers
            .iter()
            .any(|user| shared(user) == number && user.virtual_server.is_some_and(|to| to.follows()));
        let section = number != 0 && number & 4 != 0;
        let address = match number & 0b1010 {
            0b0010 if !ftp => StickyAddress::Destination,
            0b1010 if !ftp => StickyAddress::Both,
            _ => StickyAddress::Source,
        };
        let users = config.vservers.iter_mut().filter(|user| shared(user) == number);
        for sticky in users.filter_map(|user| user.sticky.as_mut()) {
            // What has a section says it there.
            *sticky = match section {
                true => rule((sticky.minutes, number, (32, 128))),
                false => Sticky { address, bits6: part(address, sticky.bits6), ..*sticky },
            };
        }
        if section {
            let group = group(config, number, address, !ftp);
            config.sticky_groups.push(group);
        }
    }
    for (number, policy) in (0_u8..).zip(&mut config.policies).filter(|(_, policy)| policy.dscp.is_none()) {
        policy.sticky_group = Some(254 + number);
    }
    for number in [254, 255].into_iter().take(config.policies.len()) {
        if config.sticky_group(number).is_none() {
            let group = group(config, number, StickyAddress::Source, true);
            config.sticky_groups.push(group);
        }
    }
    reverse(config);
}

/// Has every other virtual server enter its connections in a group that neither it nor a policy of it sticks by, and so those policies
/// that write nothing into packets.
fn reverse(config: &mut Config) {
    let numbers: Vec<u8> = config.sticky_groups.iter().map(|group| group.number).collect();
    for index in (0..config.vservers.len()).step_by(2) {
        let vserver = &config.vservers[index];
        let own: Vec<u8> =
            config.faces(vserver).filter_map(|face| Some(face.vserver.sticky?.group)).collect();
        config.vservers[index].reverse_sticky = numbers.iter().copied().find(|number| !own.contains(number));
    }
    let of = |number| if number == 254 { 255 } else { 254 };
    for policy in &mut config.policies {
        policy.reverse_sticky = policy.sticky_group.map(of).filter(|number| numbers.contains(number));
    }
}

/// Of both addresses no more than 64 bits may be written.
fn part(address: StickyAddress, bits6: u8) -> u8 {
    if address == StickyAddress::Both && bits6 < 128 { bits6.min(64) } else { bits6 }
}

/// Group `number`, whose users are of IPv4 if that is even: so are the reals of farms.
fn group(config: &Config, number: u8, address: StickyAddress, fixes: bool) -> StickyGroup {
    let family = if number.is_multiple_of(2) { Family::V4 } else { Family::V6 };
    let reals = config.serverfarms.iter().flat_map(|farm| &farm.reals);
    let reals = reals.filter(|real| Family::of(real.address) == family && real.name.is_none());
    let client = |last: u8| -> IpAddr {
        match family {
            Family::V4 => [10, 7, last, 1].into(),
            Family::V6 => [0xfd07, 0, last.into(), 0, 0, 0, 0, 1].into(),
        }
    };
    let line = |(last, real): (u8, &crate::model::Real)| StaticSticky {
        destination: (address == StickyAddress::Both).then(|| client(last + 100)),
        address,
        client: client(last),
        real: real.address,
        port: real.port,
    };
    StickyGroup {
        bits: if family == Family::V4 { 24 } else { 32 },
        bits6: if family == Family::V4 { 128 } else { 48 },
        address,
        minutes: u16::from(number) * 8,
        statics: (0..).zip(reals.take(3)).filter(|_| fixes).map(line).collect(),
        ..StickyGroup::new(number)
    }
}
