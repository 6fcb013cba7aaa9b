//! Pools for client NAT, and which of their ports are this node's. Pure.

use std::collections::{BTreeMap, HashMap};

use csm_common::limits::POOL_PORT_FIRST;
use csm_common::service::Pool;

use crate::dataplane::family::{Wire, wire};
use crate::model::{Config, Family, Name};

/// Numbers of the pools, from 1 in the order of the configuration.
pub(super) fn numbers(config: &Config) -> HashMap<&Name, u32> {
    config.natpools.iter().map(|pool| &pool.name).zip(1..).collect()
}

/// `POOLS`.
pub(super) fn pools<A: Wire>(config: &Config, (port_first, ports): Ports) -> BTreeMap<u32, Pool<A>> {
    let pool = |pool: &crate::model::Natpool| Pool {
        first_be: wire(pool.first),
        addresses: u32::try_from(pool.count()).unwrap_or(0),
        port_first,
        ports,
    };
    (1..).zip(config.natpools.iter().map(pool)).collect()
}

/// First port and number of ports that a node gives away.
pub(super) type Ports = (u16, u16);

/// Those of this node: all, or, of a pair, its half. The node whose own address on the first VLAN with both addresses is
/// lower has the lower half: what one node gave away the other, after it took over, never gives away again, even if it has
/// not heard of that connection. `config` is that of both families, so that they agree.
pub(super) fn ports(config: &Config) -> Ports {
    let all = u16::MAX - POOL_PORT_FIRST + 1;
    let side = |family: Family| {
        let vlans = &config.vlans;
        vlans.iter().find_map(|vlan| Some((vlan.own(family)?.addr(), vlan.peer(family)?.addr())))
    };
    let sides = Family::ALL.into_iter().find_map(side);
    match sides.filter(|_| config.ft.is_some()) {
        None => (POOL_PORT_FIRST, all),
        Some((own, peer)) if own < peer => (POOL_PORT_FIRST, all / 2),
        Some(_) => (POOL_PORT_FIRST + all / 2, all / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::ports;
    use crate::dataplane::plan::tests::{figure_7_1, name};
    use crate::model::{FtGroup, Natpool};
    use std::time::Duration;

    fn pool(config: &crate::model::Config) -> csm_common::service::Pool {
        super::pools(config, ports(config))[&1]
    }

    #[test]
    fn a_pairs_nodes_give_away_different_ports_and_a_single_node_all() {
        let mut config = figure_7_1();
        config.natpools.push(Natpool {
            name: name("POOL"),
            first: "192.158.39.50".parse().unwrap(),
            last: "192.158.39.53".parse().unwrap(),
            bits: 24,
        });
        let alone = pool(&config);
        assert_eq!((alone.addresses, alone.port_first, alone.ports), (4, 1024, 64_512));
        config.ft = Some(FtGroup {
            group: 1,
            vlan: crate::dataplane::plan::tests::vlan(9),
            priority: 10,
            alt_priority: None,
            preempt: false,
            sync_auto: false,
            takeover_synchronized: false,
            heartbeat: Duration::from_secs(1),
            failover: Duration::from_secs(3),
            keys: crate::model::FtKeys::default(),
            witness: None,
            track: crate::model::Tracking::default(),
        });
        config.vlans[1].alt_address = Some("192.158.39.40/24".parse().unwrap());
        let lower = pool(&config);
        let vlan = &mut config.vlans[1];
        std::mem::swap(&mut vlan.address, &mut vlan.alt_address);
        let upper = pool(&config);
        assert_eq!((lower.port_first, lower.ports), (1024, 32_256));
        assert_eq!((upper.port_first, upper.ports), (1024 + 32_256, 32_256));
        assert_eq!(u32::from(upper.port_first) + u32::from(upper.ports), 65_536);
    }
}
