//! Reals that stand in for others, thresholds, what becomes of connections, and known neighbours, in a configuration that is made up.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;

use crate::model::{BackupReal, Config, Failaction, Predictor, RealAdmin, StaticArp, Threshold};

/// What decides, for farms, reals and virtual servers in turn.
pub(super) fn choices() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..12)
}

/// Gives some of the farms and virtual servers of `config` such lines.
pub(super) fn furnish(config: &mut Config, choices: &[u8]) {
    let mut choices = choices.iter().copied().cycle();
    let mut next = move |below: u8| choices.next().unwrap_or(0) % below;
    for farm in &mut config.serverfarms {
        farm.failaction = [None, Some(Failaction::Purge), Some(Failaction::Reassign)][usize::from(next(3))];
        let reals = farm.reals.clone();
        for (at, real) in farm.reals.iter_mut().enumerate() {
            if real.admin == RealAdmin::OutOfService && next(2) == 0 {
                real.admin = RealAdmin::Standby;
            }
            let other = &reals[usize::from(next(4)) % reals.len()];
            if (other.address, other.port) != (reals[at].address, reals[at].port) {
                let (address, port, name) = (other.address, other.port, other.name.clone());
                real.backup = Some(BackupReal { address, port, name });
            }
        }
    }
    if next(2) == 0 {
        config.variables.gratuitous = Duration::from_secs(10 + u64::from(next(250)));
    }
    if next(2) == 0 {
        config.variables.advertised = Duration::from_secs(1 + u64::from(next(250)));
    }
    config.variables.reply_out_of_service = next(2) == 0;
    for number in 0..next(3) {
        let (mac, vlan) = ([2, next(250), 0, 0xab, 0, number], config.vlans[usize::from(next(2))].id);
        let net = vlan.get().to_be_bytes()[1];
        let address = match next(2) {
            0 => Ipv4Addr::new(10, net, 9, number + 1).into(),
            _ => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 9, number.into()).into(),
        };
        config.arps.push(StaticArp { address, mac, vlan });
    }
    for vserver in &mut config.vservers {
        let farm = vserver.serverfarm.as_ref();
        let farm = farm.and_then(|name| config.serverfarms.iter().find(|farm| farm.name == *name));
        if farm.is_some_and(|farm| farm.predictor != Predictor::Forward) && next(2) == 0 {
            let outservice = u16::from(next(9)) + 1;
            vserver.threshold = Some(Threshold { outservice, inservice: outservice + u16::from(next(3)) });
        }
    }
}
