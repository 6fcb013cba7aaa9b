//! Owners of a generated configuration, made of what is generated anyhow.

use super::name;
use crate::model::{Config, Owner};

/// Gives `config` up to two owners, and some of its virtual servers to them.
pub(super) fn put(config: &mut Config) {
    let slot = usize::from(config.slot);
    let text =
        |number| Some(format!("desk {number}, 555-01{slot:02} \"day\" a!b")).filter(|_| slot % 3 > number);
    config.owners = (0..slot % 3)
        .map(|number| Owner {
            contact: text(number),
            billing: text(1 - number),
            max_conns: u32::try_from(slot % 2 * (slot * 1000 + number)).expect("a small number"),
            ..Owner::new(name('O', number))
        })
        .collect();
    let count = config.owners.len();
    for (number, vserver) in config.vservers.iter_mut().enumerate() {
        vserver.owner = (number % 3 < count).then(|| name('O', number % 3));
    }
}
