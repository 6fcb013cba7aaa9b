//! Reals by name: each has an address, and no farm has one twice.

use std::collections::HashSet;
use std::net::IpAddr;

use super::Checker;
use crate::config::build::NOWHERE;
use crate::config::command::Id;
use crate::config::parse::Section;

pub(super) fn check(checker: &mut Checker<'_>) {
    let config = checker.config;
    for real in &config.named_reals {
        let place = checker.tree.place(&Section::NamedReal(real.name.clone()), Id::NamedReal, "NAME");
        if real.name.as_str().parse::<IpAddr>().is_ok() {
            let message = format!("{} is an address, and no name", real.name);
            checker.error(place, message, "a real by its address stands in a `serverfarm`");
        } else if real.address.is_none() {
            let message = format!("real {} has no address: no farm can have it yet", real.name);
            checker.warning(place, message, "add `address ADDRESS` below it");
        }
    }
    for farm in &config.serverfarms {
        let mut known = HashSet::new();
        for real in &farm.reals {
            let section = Section::of_real(farm, real);
            if let Some(name) = real.name.as_ref().filter(|_| real.address == NOWHERE) {
                let place = checker.tree.place(&section, Id::Real, "NAME");
                let (message, remedy) = match config.named_reals.iter().any(|known| known.name == *name) {
                    true => (
                        format!("real {name} has no address"),
                        format!("add `address ADDRESS` below `real {name}`"),
                    ),
                    false => (
                        format!("there is no real {name}"),
                        format!("add `real {name}` with its `address` to the module"),
                    ),
                };
                checker.error(place, message, remedy);
            } else if !known.insert((real.address, real.port)) {
                let place = checker.tree.place(&section, Id::Real, "real");
                let message = format!("{} is in farm {} already", real.address, farm.name);
                checker.error(place, message, "keep one of the two");
            }
        }
    }
}
