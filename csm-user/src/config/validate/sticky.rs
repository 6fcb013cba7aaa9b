//! Stickiness: who shares a group, and what is said of it where.

use std::collections::HashMap;
use std::net::IpAddr;

mod reverse;

use super::super::build::NOWHERE;
use super::super::command::Id;
use super::super::parse::{Section, Statement};
use super::super::token::Span;
use super::{Checker, family};
use crate::model::{
    Face, Family, Name, PAIRED_BITS6, StaticSticky, Sticky, StickyAddress, StickyGroup, Vserver,
    counted_bits6, prefix_mask, prefix_mask6,
};

/// Checks groups, and all who use one.
pub(super) fn check(checker: &mut Checker<'_>) {
    let config = checker.config;
    groups_are_shared_alike(checker);
    for group in &config.sticky_groups {
        section(checker, group);
    }
    for vserver in &config.vservers {
        own(checker, vserver);
    }
    reverse::check(checker);
    for policy in &config.policies {
        let Some(number) = policy.sticky_group.filter(|number| config.sticky_group(*number).is_none()) else {
            continue;
        };
        let place = checker.tree.place(&Section::Policy(policy.name.clone()), Id::PolicySticky, "GROUP");
        let remedy = format!("add `sticky {number} netmask 255.255.255.255` before this policy");
        checker.error(place, format!("there is no sticky group {number}"), remedy);
    }
}

/// Who uses a group, with the farm that its clients have their reals in.
struct User {
    place: Span,
    policy: bool,
    name: Name,
    farm: Name,
    address: StickyAddress,
}

impl User {
    /// That of `face`, unless its group is private, or not said where its farm is.
    fn of(checker: &Checker<'_>, face: &Face<'_>) -> Option<(u8, Self)> {
        let (farm, sticky) = (face.vserver.serverfarm.clone()?, face.vserver.sticky?);
        let (section, id, name) = match face.policy {
            // A policy that names no group has its virtual server's, which is refused there.
            Some(policy) => {
                policy.sticky_group?;
                (Section::Policy(policy.name.clone()), Id::PolicySticky, &policy.name)
            }
            None => (Section::Vserver(face.vserver.name.clone()), Id::Sticky, &face.vserver.name),
        };
        let place = checker.tree.place(&section, id, "GROUP");
        let user =
            Self { place, policy: face.policy.is_some(), name: name.clone(), farm, address: sticky.address };
        (sticky.group != 0).then_some((sticky.group, user))
    }

    fn kind(&self) -> &'static str {
        if self.policy { "policy" } else { "virtual server" }
    }
}

/// An entry of a shared group names a real; a virtual server of another farm would send its clients there. And an address of
/// one kind is not looked up among those of the other.
fn groups_are_shared_alike(checker: &mut Checker<'_>) {
    let config = checker.config;
    let mut first_of: HashMap<u8, User> = HashMap::new();
    for face in config.vservers.iter().flat_map(|vserver| config.faces(vserver)) {
        let Some((group, user)) = User::of(checker, &face) else { continue };
        let Some(first) = first_of.get(&group) else {
            first_of.insert(group, user);
            continue;
        };
        let line = checker.line(first.place);
        let User { name, farm, .. } = &user;
        let (other, its_farm) = (&first.name, &first.farm);
        if its_farm != farm {
            let both = if user.policy || first.policy {
                let (kind, its_kind) = (user.kind(), first.kind());
                format!("{kind} {name} (farm {farm}) and {its_kind} {other}")
            } else {
                format!("virtual servers {name} (farm {farm}) and {other}")
            };
            let message = format!(
                "sticky group {group} is shared by {both} (farm {its_farm}, {line}): clients of one would be sent to reals of the \
                 other"
            );
            checker.error(
                user.place,
                message,
                "one farm per shared group: give one of the two another group",
            );
        } else if user.address != first.address {
            let [here, there] = [user.address, first.address].map(named);
            let message =
                format!("sticky group {group} goes by {here} here, and by {there} for {other} ({line})");
            checker.error(
                user.place,
                message,
                "one address per shared group: give one of the two another group",
            );
        }
    }
}

/// For a message.
const fn named(address: StickyAddress) -> &'static str {
    match address {
        StickyAddress::Source => "the source",
        StickyAddress::Destination => "the destination",
        StickyAddress::Both => "both addresses",
    }
}

/// The word that stands for it; without one it is the source.
const fn word(address: StickyAddress) -> &'static str {
    match address {
        StickyAddress::Source => "source",
        StickyAddress::Destination => "destination",
        StickyAddress::Both => "both",
    }
}

/// Of two IPv6 addresses no more counts than their networks.
fn paired_part(checker: &mut Checker<'_>, section: &Section, id: Id, address: StickyAddress, bits6: u8) {
    if address == StickyAddress::Both && bits6 > PAIRED_BITS6 && bits6 < 128 {
        let place = checker.tree.place(section, id, "LENGTH");
        let message = format!("of both addresses no more than {PAIRED_BITS6} bits of each count");
        checker.error(
            place,
            message,
            format!("write `prefix-length {PAIRED_BITS6}` or less, or go by one address"),
        );
    }
}

/// What the line of a virtual server says beside its group's section, and what goes with FTP and RTSP.
fn own(checker: &mut Checker<'_>, vserver: &Vserver) {
    let Some(said) = vserver.sticky else { return };
    let section = Section::Vserver(vserver.name.clone());
    let group = checker.config.sticky_group(said.group);
    if let Some(group) = group {
        let parts =
            (said.bits, said.bits6) != (32, 128) && (said.bits, said.bits6) != (group.bits, group.bits6);
        let slot = if said.bits == 32 { "LENGTH" } else { "MASK" };
        let other = said.address != StickyAddress::Source && said.address != group.address;
        for slot in [(parts, slot), (other, word(said.address))]
            .into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, slot)| slot)
        {
            let place = checker.tree.place(&section, Id::Sticky, slot);
            let message = format!("section `sticky {}` says otherwise", group.number);
            checker.error(
                place,
                message,
                format!("leave it out: `sticky {} group {}`", said.minutes, said.group),
            );
        }
    }
    paired_part(checker, &section, Id::Sticky, said.address, said.bits6);
    let Sticky { address, .. } = checker.config.sticky_in_force(said);
    let fixed = group.is_some_and(|group| !group.statics.is_empty());
    if vserver.virtual_server.is_some_and(|to| to.follows()) && (address != StickyAddress::Source || fixed) {
        let place = checker.tree.place(&section, Id::Sticky, "MINUTES");
        let word = vserver.virtual_server.and_then(|to| to.service.word()).unwrap_or_default();
        let message = format!(
            "with `service {word}` what sticks is a client that has a control connection, and lasts as long as that"
        );
        checker.error(place, message, "go by the source, in a group without `static`");
    }
}

fn section(checker: &mut Checker<'_>, group: &StickyGroup) {
    let section = Section::StickyGroup(group.number);
    let users: Vec<Vserver> = checker.config.users_of_sticky(group.number).collect();
    if users.is_empty() {
        let place = checker.tree.place(&section, Id::StickyGroup, "GROUP");
        let message = format!("nothing uses sticky group {}", group.number);
        let number = group.number;
        let remedy = format!(
            "add `sticky MINUTES group {number}` to a virtual server, or `sticky-group {number}` to a policy"
        );
        checker.warning(place, message, remedy);
    }
    paired_part(checker, &section, Id::StickyGroup, group.address, group.bits6);
    // Without an address it is of neither yet.
    let is_of = |user: &Vserver, of| user.virtual_server.is_some() && user.family() == of;
    for of in Family::ALL.into_iter().filter(|of| users.iter().any(|user| is_of(user, *of))) {
        family::part(checker, &section, Id::StickyGroup, of, (group.bits, group.bits6));
    }
    let mut seen: HashMap<(IpAddr, Option<IpAddr>), Span> = HashMap::new();
    for line in &group.statics {
        let place = fixed(checker, group, line, &users);
        let key = (masked(group, line.client), line.destination.map(|address| masked(group, address)));
        let before = seen.insert(key, place);
        if let Some(before) = before {
            let message =
                format!("the group's mask makes {} one with that of {}", line.client, checker.line(before));
            checker.error(place, message, "keep one of the lines");
        }
    }
}

/// Checks a line of `group`; returns its place.
fn fixed(checker: &mut Checker<'_>, group: &StickyGroup, line: &StaticSticky, users: &[Vserver]) -> Span {
    let section = Section::StickyGroup(group.number);
    let meant = |statement: &Statement| {
        let of = |slot| statement.arg(slot).map(|_| statement.address(slot));
        (of("ADDRESS"), of("DESTINATION")) == (Some(Some(line.client)), line.destination.map(Some))
    };
    let place = checker.tree.place_where(&section, Id::StaticSticky, "ADDRESS", meant);
    if line.address != group.address {
        let message =
            format!("sticky group {} goes by {} of a connection", group.number, named(group.address));
        let remedy = match group.address {
            StickyAddress::Source => "write `source ADDRESS` alone",
            StickyAddress::Destination => "write `destination ADDRESS` alone",
            StickyAddress::Both => "write `source ADDRESS destination ADDRESS`",
        };
        checker.error(place, message, remedy);
    }
    if let Some(destination) = line.destination.filter(|to| Family::of(*to) != Family::of(line.client)) {
        let message = format!("{destination} is of another family than {}", line.client);
        checker.error(place, message, family::REMEDY);
        return place;
    }
    if Family::of(line.client) != Family::of(line.real) {
        checker.error(
            place,
            format!("{} is of another family than {}", line.real, line.client),
            family::REMEDY,
        );
        return place;
    }
    let is_it = |real: &crate::model::Real| {
        real.address == line.real && (line.port.is_none() || line.port == real.port)
    };
    let names = users.iter().flat_map(Vserver::farms);
    let farms: Vec<_> = names.filter_map(|name| checker.serverfarm(name)).collect();
    // Where a real's name is unknown, that is said there.
    let known = |real: &&crate::model::Real| real.address != NOWHERE;
    if !farms.is_empty() && !farms.iter().flat_map(|farm| &farm.reals).filter(known).any(is_it) {
        let port = line.port.map_or(String::new(), |port| format!(" {port}"));
        let message =
            format!("no farm that sticky group {} is used with has a real {}{port}", group.number, line.real);
        checker.warning(place, message, "add the real: until then this line does nothing");
    }
    place
}

/// What of `address` counts in `group`.
fn masked(group: &StickyGroup, address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => (address & prefix_mask(group.bits)).into(),
        IpAddr::V6(address) => (address & prefix_mask6(counted_bits6(group.address, group.bits6))).into(),
    }
}
