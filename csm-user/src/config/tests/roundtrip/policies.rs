//! Policies and access lists of a generated configuration, made of what is generated anyhow.

use ipnet::IpNet;

use super::name;
use crate::model::{
    AccessLine, AccessList, Backup, Config, Family, Name, Policy, Predictor, Serverfarm, Vserver,
};

/// Gives `config` a list of each kind, a policy of each family, and those to some virtual servers.
pub(super) fn put(config: &mut Config) {
    config.access_lists = lists(config);
    config.policies = (0..config.serverfarms.len().min(2)).map(|number| policy(config, number)).collect();
    let count = config.policies.len();
    for (number, vserver) in config.vservers.iter_mut().enumerate() {
        if takes_policies(vserver) && number % 2 < count {
            vserver.policies = vec![name('Y', number % 2)];
        }
    }
}

fn takes_policies(vserver: &Vserver) -> bool {
    let shares = vserver.sticky.is_some_and(|sticky| sticky.group != 0);
    vserver.idle.as_secs().is_multiple_of(2)
        && !shares
        && vserver.virtual_server.is_some_and(|to| !to.follows())
}

/// A policy for farm `number`, which is of IPv4 if that is even.
fn policy(config: &Config, number: usize) -> Policy {
    let farm = &config.serverfarms[number];
    let bound = farm.reals.is_empty() || farm.predictor == Predictor::Forward;
    let slot = usize::from(config.slot);
    let groups = [Name::new("7"), Name::new("LOCALS")];
    Policy {
        client_group: groups[number].clone().filter(|_| !slot.is_multiple_of(3)),
        serverfarm: (!bound || slot.is_multiple_of(2)).then(|| farm.name.clone()),
        dscp: u8::try_from(slot * 5 % 64).ok().filter(|_| slot > 4),
        ..Policy::new(name('Y', number))
    }
}

/// A numbered one, one with a name, and one of IPv6; their lines follow from the virtual servers' clients.
fn lists(config: &Config) -> Vec<AccessList> {
    let of = |family: Family, label: &str, more: &[&str]| {
        let ranges = config.vservers.iter().flat_map(|vserver| &vserver.clients);
        let own = ranges.filter(|range| Family::of(range.network.addr()) == family);
        let own = own.map(|range| AccessLine { permit: !range.exclude, network: range.network });
        let more = more.iter().map(|net| AccessLine { permit: true, network: net.parse().expect("a net") });
        let mut lines: Vec<AccessLine> = Vec::new();
        for line in own.chain(more) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        AccessList { name: Name::new(label).expect("a name"), family, lines }
    };
    let all = |family: Family| IpNet::to_string(&family.all());
    vec![
        of(Family::V4, "7", &["10.9.8.7/32", "10.8.0.0/13"]),
        of(Family::V4, "LOCALS", &[&all(Family::V4)]),
        of(Family::V6, "LOCALS", &["fd09::1/128", "fd08::/24", &all(Family::V6)]),
    ]
}

/// Farm 2, where it can stand in for the virtual server's own.
pub(super) fn backup(farms: &[Serverfarm], vserver: &Vserver) -> Option<Backup> {
    let [first, _, backup] = farms else { return None };
    let forwards = [first, backup].iter().any(|farm| farm.predictor == Predictor::Forward);
    let fits = vserver.serverfarm.as_ref() == Some(&first.name) && first.nat_server == backup.nat_server;
    (fits && !forwards).then(|| Backup { farm: backup.name.clone(), sticky: vserver.inservice })
}
