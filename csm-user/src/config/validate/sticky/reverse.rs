//! `reverse-sticky`: whose entries it makes, and among how many reals it looks.

use csm_common::limits::REVERSE_REALS_MAX;

use super::super::super::command::Id;
use super::super::super::parse::Section;
use super::super::super::token::Span;
use super::super::Checker;
use crate::model::{Name, StickyAddress, Vserver};

/// Checks all who name a group by it.
pub(super) fn check(checker: &mut Checker<'_>) {
    let config = checker.config;
    for vserver in &config.vservers {
        for face in config.faces(vserver) {
            // A policy that names none has its virtual server's.
            let own = face.policy.filter(|policy| policy.reverse_sticky.is_some());
            let (section, id) = match own {
                Some(policy) => (Section::Policy(policy.name.clone()), Id::PolicyReverse),
                None => (Section::Vserver(vserver.name.clone()), Id::ReverseSticky),
            };
            if let Some(number) = face.vserver.reverse_sticky {
                let place = checker.tree.place(&section, id, "GROUP");
                group(checker, place, number, &face.vserver);
            }
        }
    }
    for policy in &config.policies {
        let used = config.vservers.iter().any(|vserver| vserver.policies.contains(&policy.name));
        if let Some(number) = policy.reverse_sticky.filter(|_| !used) {
            let place = checker.tree.place(&Section::Policy(policy.name.clone()), Id::PolicyReverse, "GROUP");
            exists(checker, place, number);
        }
    }
}

/// Whether there is a group `number`.
fn exists(checker: &mut Checker<'_>, place: Span, number: u8) -> bool {
    let exists = checker.config.reverse_in_force(number).is_some();
    if !exists {
        let message = format!("there is no sticky group {number}");
        let remedy = format!(
            "add `sticky MINUTES group {number} destination` to the virtual server whose reals are the firewalls"
        );
        checker.error(place, message, remedy);
    }
    exists
}

/// `vserver`, as its clients meet it, enters its connections in group `number`.
fn group(checker: &mut Checker<'_>, place: Span, number: u8, vserver: &Vserver) {
    if !exists(checker, place, number) {
        return;
    }
    if vserver.sticky.is_some_and(|sticky| sticky.group == number) {
        let message =
            format!("its own clients stick by group {number}: they would be sent to where they come from");
        checker.error(place, message, "name the group of the virtual server of the other direction");
        return;
    }
    let config = checker.config;
    let family = vserver.family();
    let users: Vec<Vserver> = config
        .users_of_sticky(number)
        .filter(|user| user.virtual_server.is_some() && user.family() == family)
        .collect();
    let mut farms: Vec<&Name> = users.iter().flat_map(Vserver::sticky_farms).collect();
    farms.sort_unstable();
    farms.dedup();
    let reals: usize =
        farms.into_iter().filter_map(|name| checker.serverfarm(name)).map(|farm| farm.reals.len()).sum();
    if reals == 0 {
        let message = format!(
            "no virtual server with reals is sticky by group {number}: nobody would go by its entries"
        );
        let remedy =
            format!("add `sticky MINUTES group {number}` to the virtual server of the other direction");
        checker.warning(place, message, remedy);
    } else if reals > REVERSE_REALS_MAX as usize {
        let message = format!(
            "clients of group {number} have {reals} reals; who sent a packet is looked for among {REVERSE_REALS_MAX} at most"
        );
        checker.error(place, message, "use the group with a smaller farm, of the firewalls alone");
    }
    if config.reverse_in_force(number).is_some_and(|sticky| sticky.address == StickyAddress::Source) {
        let message = format!(
            "sticky group {number} goes by the source: what a server opens goes out by the firewall of its latest client, whoever it speaks to"
        );
        checker.warning(place, message, "let the group go by `destination`, or by `both`");
    }
}
