//! Which source the connections of servers get. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use csm_common::flow::NONE;
use csm_common::limits::{POOLS_MAX, STATICS_MAX};
use csm_common::service::Pool;
use ipnet::IpNet;

use crate::dataplane::family::{Wire, wire};
use crate::model::{Config, Predictor, Static, StaticAction, Virtual};

use super::nat::Ports;
use super::{PlanError, fits};

/// `STATICS`. Each address that is translated to is a pool of its own, put into `pools` behind those that are there.
pub(super) fn plan<A: Wire>(
    config: &Config,
    (port_first, ports): Ports,
    pools: &mut BTreeMap<u32, Pool<A>>,
) -> Result<BTreeMap<IpNet, u32>, PlanError> {
    let next = pools.last_key_value().map_or(1, |(number, _)| number + 1);
    let mut numbers: BTreeMap<IpAddr, u32> = BTreeMap::new();
    for address in config.statics.iter().flat_map(|rule| translations(config, rule)).filter_map(|(_, to)| to)
    {
        numbers.insert(address, 0);
    }
    for ((address, number), at) in numbers.iter_mut().zip(next..) {
        *number = at;
        pools.insert(at, Pool { first_be: wire(*address), addresses: 1, port_first, ports });
    }
    fits(pools.len() + 1, "pools and translated addresses", POOLS_MAX)?;
    let mut statics = BTreeMap::new();
    // A network that is named by itself counts before what another one entered for its servers.
    for rule in &config.statics {
        for (net, to) in translations(config, rule) {
            let number = to.and_then(|address| numbers.get(&address).copied());
            let kept = if rule.action == StaticAction::Drop { NONE } else { 0 };
            if rule.hosts.contains(&net) {
                statics.insert(net, number.unwrap_or(kept));
            } else {
                statics.entry(net).or_insert(number.unwrap_or(kept));
            }
        }
    }
    fits(statics.len(), "hosts of `static` sections", STATICS_MAX)?;
    Ok(statics)
}

/// What `rule` enters, and what it translates to: its hosts and networks, and with `nat virtual` each server in them for
/// which no longer mask of another rule counts.
fn translations(config: &Config, rule: &Static) -> Vec<(IpNet, Option<IpAddr>)> {
    match rule.action {
        StaticAction::Drop => rule.hosts.iter().map(|&net| (net, None)).collect(),
        StaticAction::Nat(address) => rule.hosts.iter().map(|&net| (net, Some(address))).collect(),
        StaticAction::NatVirtual => {
            let mut entered: BTreeMap<IpNet, Option<IpAddr>> =
                rule.hosts.iter().map(|&net| (net, None)).collect();
            for (real, address) in virtual_addresses(config) {
                if decides(config, rule, real) {
                    entered.insert(IpNet::from(real), Some(address));
                }
            }
            entered.into_iter().collect()
        }
    }
}

/// Whether it is `rule` that counts for `host`.
fn decides(config: &Config, rule: &Static, host: IpAddr) -> bool {
    let longest =
        |rule: &Static| rule.hosts.iter().filter(|net| net.contains(&host)).map(IpNet::prefix_len).max();
    let best = config.statics.iter().filter_map(longest).max();
    best.is_some() && longest(rule) == best
}

/// The virtual address of each real: that of the first virtual server in service, in the order of the configuration, whose
/// farm it is in.
fn virtual_addresses(config: &Config) -> BTreeMap<IpAddr, IpAddr> {
    let mut of_real = BTreeMap::new();
    for vserver in config.vservers.iter().filter(|vserver| vserver.is_operational()) {
        let Some(to) = vserver.virtual_server.filter(Virtual::is_address) else { continue };
        let farms = config.farms_of(vserver).filter(|farm| farm.predictor != Predictor::Forward);
        for real in farms.flat_map(|farm| &farm.reals) {
            of_real.entry(real.address).or_insert(to.address());
        }
    }
    of_real
}

#[cfg(test)]
mod tests {
    use csm_common::flow::NONE;
    use ipnet::IpNet;

    use crate::dataplane::family::Wire;
    use crate::dataplane::plan::tests::{figure_7_1, hops};
    use crate::dataplane::plan::{Assignments, Contents, HealthView, plan};
    use crate::model::{Config, Static, StaticAction};

    fn planned(config: &Config) -> Contents {
        plan(config, &HealthView::default(), &hops(config), &mut Assignments::default()).unwrap().contents
    }

    /// What becomes of connections of `host`, by the longest mask: as the program looks it up.
    fn fate(contents: &Contents, host: &str) -> String {
        let host: std::net::IpAddr = host.parse().unwrap();
        let found = contents.statics.iter().filter(|(net, _)| net.contains(&host));
        match found.max_by_key(|(net, _)| net.prefix_len()).map(|(_, number)| *number) {
            None | Some(0) => "kept".to_owned(),
            Some(NONE) => "dropped".to_owned(),
            Some(number) => {
                let pool = contents.pools[&number];
                assert_eq!(pool.addresses, 1);
                pool.first_be.ip().to_string()
            }
        }
    }

    fn rule(action: StaticAction, hosts: &[&str]) -> Static {
        let net = |text: &&str| text.parse::<IpNet>().unwrap();
        Static { action, hosts: hosts.iter().map(net).collect() }
    }

    #[test]
    fn the_longest_mask_counts_over_all_sections_and_servers_get_their_virtual_address() {
        let mut config = figure_7_1();
        let to = StaticAction::Nat("192.158.38.77".parse().unwrap());
        config.statics = vec![
            rule(StaticAction::NatVirtual, &["192.158.39.0/24"]),
            rule(to, &["192.158.39.102/32", "10.0.0.0/8"]),
            rule(StaticAction::Drop, &["192.158.39.96/29"]),
        ];
        let contents = planned(&config);
        for (host, wanted) in [
            ("192.158.39.104", "kept"),
            ("192.158.39.102", "192.158.38.77"),
            ("192.158.39.101", "dropped"),
            ("192.158.39.200", "kept"),
            ("10.9.9.9", "192.158.38.77"),
            ("172.16.0.1", "kept"),
        ] {
            assert_eq!(fate(&contents, host), wanted, "{host}");
        }
        config.statics.pop();
        let contents = planned(&config);
        assert_eq!(fate(&contents, "192.158.39.101"), "192.158.38.30", "the address of its virtual server");
        assert_eq!(fate(&contents, "192.158.39.102"), "192.158.38.77");
        assert!(contents.addresses.keys().any(|key| key.ip_be.ip().to_string() == "192.158.38.77"));
        config.vservers[0].inservice = false;
        assert_eq!(fate(&planned(&config), "192.158.39.101"), "kept", "nothing answers for that address");
    }
}
