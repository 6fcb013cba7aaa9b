//! What goes together is of one family: nothing is translated between IPv4 and IPv6.

use super::super::command::Id;
use super::super::parse::Section;
use super::Checker;
use crate::model::{Family, Predictor, Serverfarm, Virtual, Vserver};

pub(super) const REMEDY: &str = "nothing is translated between IPv4 and IPv6: use addresses of one family";

/// The family of `farm`: its first real's, or its pool's; `None` as long as it has neither.
pub(super) fn family_of(checker: &Checker<'_>, farm: &Serverfarm) -> Option<Family> {
    let real = farm.reals.first().map(|real| Family::of(real.address));
    let pool = checker.config.pool_of(farm);
    real.or(pool.map(crate::model::Natpool::family))
}

/// The reals and the pool of a farm, and what it hashes.
pub(super) fn farm(checker: &mut Checker<'_>, farm: &Serverfarm) {
    let Some(family) = family_of(checker, farm) else { return };
    for real in farm.reals.iter().filter(|real| Family::of(real.address) != family) {
        let section = Section::of_real(farm, real);
        let place = checker.tree.place(&section, Id::Real, "ADDRESS");
        let message = format!("farm {} has {family} reals, and {}", farm.name, real.address);
        checker.error(place, message, REMEDY);
    }
    let section = Section::Serverfarm(farm.name.clone());
    let pool = checker.config.pool_of(farm);
    if let Some(pool) = pool.filter(|pool| pool.family() != family) {
        let place = checker.tree.place(&section, Id::NatClient, "NAME");
        let message =
            format!("farm {} has {family} reals, pool {} {} addresses", farm.name, pool.name, pool.family());
        checker.error(place, message, REMEDY);
    }
    if let Predictor::Hash { bits, bits6, .. } = farm.predictor {
        part(checker, &section, Id::Predictor, family, (bits, bits6));
    }
}

/// A virtual server, its farm, its clients, and the part of their addresses that is sticky.
pub(super) fn vserver(checker: &mut Checker<'_>, vserver: &Vserver, section: &Section, to: &Virtual) {
    let family = Family::of(to.address());
    let farm = vserver.serverfarm.as_ref().and_then(|name| checker.serverfarm(name));
    if let Some((farm, other)) = farm.and_then(|farm| Some((farm, family_of(checker, farm)?)))
        && other != family
    {
        let place = checker.tree.place(section, Id::VserverFarm, "NAME");
        let message =
            format!("virtual server {} is {family}, its farm {} is {other}", vserver.name, farm.name);
        checker.error(place, message, REMEDY);
    }
    if let Some(range) = vserver.clients.iter().find(|range| Family::of(range.network.addr()) != family) {
        let place = checker.tree.place(section, Id::Client, "ADDRESS");
        let message =
            format!("virtual server {} is {family}, its clients {} are not", vserver.name, range.network);
        checker.error(place, message, REMEDY);
    }
    if let Some(sticky) = vserver.sticky {
        part(checker, section, Id::Sticky, family, (sticky.bits, sticky.bits6));
    }
}

/// A mask belongs to IPv4, a prefix length to IPv6.
pub(super) fn part(
    checker: &mut Checker<'_>,
    section: &Section,
    id: Id,
    family: Family,
    (bits, bits6): (u8, u8),
) {
    let (slot, message, remedy) = match family {
        Family::V4 if bits6 != 128 => {
            ("LENGTH", "a prefix length says nothing of IPv4 addresses", "write a mask in its place")
        }
        Family::V6 if bits != 32 => {
            ("MASK", "a mask says nothing of IPv6 addresses", "write `prefix-length LENGTH` in its place")
        }
        _ => return,
    };
    let place = checker.tree.place(section, id, slot);
    checker.error(place, message, remedy);
}
