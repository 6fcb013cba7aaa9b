//! Hosts whose MAC address the configuration knows: never asked, never forgotten. Pure.

use std::collections::HashMap;
use std::mem;

use super::{Effect, NeighbourTable};
use crate::model::Host;

impl NeighbourTable {
    /// These hosts have these MAC addresses, and no others are known. A host on a VLAN without a port is left out. One that is not
    /// known any more is asked for, and stays like any other, as [`want`](NeighbourTable::want) says.
    pub fn fix(&mut self, fixed: &HashMap<Host, [u8; 6]>) -> Vec<Effect> {
        let mut effects = Vec::new();
        let before = mem::replace(&mut self.fixed, fixed.clone());
        for key in before.keys().filter(|key| !fixed.contains_key(key)) {
            // The kernel takes it for found until it is told otherwise.
            effects.extend(self.ports.get(&key.vlan).map(|port| Effect::Release(port.ifindex, key.address)));
            effects.extend(self.ask(key));
        }
        for (key, mac) in fixed.iter().filter(|(key, mac)| before.get(key) != Some(mac)) {
            self.take_side(*key, &mut effects);
            let known = self.hosts.get(key).is_some_and(|host| host.wanted);
            if self.enter(*key, true, &mut effects).is_none() {
                continue;
            }
            if known {
                effects.extend(self.ask(key));
            }
            if let Some(host) = self.hosts.get_mut(key) {
                host.failed = false;
            }
            self.resolved(*key, *mac, &mut effects);
        }
        effects
    }

    /// The configuration knows on which side of a bridge group `key` is: a host of its address that traffic alone has put on the other
    /// side leaves.
    fn take_side(&mut self, key: Host, effects: &mut Vec<Effect>) {
        let other = self.ports.get(&key.vlan).and_then(|port| port.bridge);
        let there = other.map(|vlan| Host { vlan, ..key });
        if let Some(there) = there.filter(|there| self.hosts.get(there).is_some_and(|host| !host.wanted)) {
            self.leave(there, effects);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::IpAddr;

    use super::*;
    use crate::neigh::table::{Discovery, HopPort};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn table() -> NeighbourTable {
        let port = HopPort {
            number: 0,
            vlan: 3,
            ifindex: 13,
            mtu: 1500,
            tagged: false,
            bridge: None,
            networks: [Some("192.158.39.10/24".parse().unwrap()), None],
        };
        NeighbourTable::new([0, 1, 0x64, 0xf9, 0x1a, 1], &[port])
    }

    fn mac_of(table: &NeighbourTable, host: Host) -> Option<[u8; 6]> {
        table.iter().find(|(key, ..)| *key == host).and_then(|(_, _, mac)| mac)
    }

    #[test]
    fn a_fixed_host_is_not_asked_and_nothing_else_is_believed_of_it() {
        let mut table = table();
        let address: IpAddr = "192.158.39.101".parse().unwrap();
        let host = Host::on(address, 3);
        let effects = table.fix(&HashMap::from([(host, MAC)]));
        assert!(effects.contains(&Effect::Pin(13, address, MAC)), "{effects:?}");
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Resolve { .. })));
        assert!(matches!(effects.last(), Some(Effect::SetNeighbour(..))));
        assert_eq!(table.discovered(13, address, Discovery::Failed), []);
        assert_eq!(table.discovered(13, address, Discovery::Known(OTHER)), []);
        assert_eq!(table.heard(host, OTHER), []);
        // Nor does it leave because nobody else names it, or because the table is asked for anew.
        let (numbers, effects) = table.want(&HashSet::from([host]));
        assert!(numbers.contains_key(&host) && effects.is_empty());
        table.want(&HashSet::new());
        assert_eq!(table.resolve_all(), [Effect::Pin(13, address, MAC)]);
        assert_eq!((mac_of(&table, host), table.silent().count()), (Some(MAC), 0));
    }

    #[test]
    fn one_that_was_silent_is_found_and_one_that_is_fixed_no_more_is_asked() {
        let mut table = table();
        let address: IpAddr = "192.158.39.101".parse().unwrap();
        let host = Host::on(address, 3);
        table.want(&HashSet::from([host]));
        table.discovered(13, address, Discovery::Failed);
        assert_eq!(table.silent().count(), 1);
        let effects = table.fix(&HashMap::from([(host, MAC)]));
        assert!(effects.contains(&Effect::Pin(13, address, MAC)) && table.silent().count() == 0);
        assert_eq!(table.fix(&HashMap::from([(host, MAC)])), [], "nothing new");
        table.fix(&HashMap::from([(host, OTHER)]));
        assert_eq!(mac_of(&table, host), Some(OTHER));
        let asked = Effect::Resolve { ifindex: 13, address, managed: true };
        assert_eq!(table.fix(&HashMap::new()), [Effect::Release(13, address), asked]);
        assert_eq!(mac_of(&table, host), Some(OTHER), "good until another is heard of");
        table.discovered(13, address, Discovery::Known(MAC));
        assert_eq!(mac_of(&table, host), Some(MAC));
    }

    #[test]
    fn on_a_bridge_group_the_side_that_is_configured_counts_and_not_where_it_was_heard() {
        let port = |vlan, other| HopPort {
            number: u32::from(vlan),
            vlan,
            ifindex: 13,
            mtu: 1500,
            tagged: false,
            bridge: Some(other),
            networks: [Some("192.158.39.10/24".parse().unwrap()), None],
        };
        let address: IpAddr = "192.158.39.101".parse().unwrap();
        let [left, right] = [2, 3].map(|vlan| Host::on(address, vlan));
        let bridged = || NeighbourTable::new([0, 1, 0x64, 0xf9, 0x1a, 1], &[port(2, 3), port(3, 2)]);
        let mut table = bridged();
        table.heard(left, OTHER);
        assert_eq!(mac_of(&table, left), Some(OTHER));
        let effects = table.fix(&HashMap::from([(right, MAC)]));
        assert_eq!((table.number(&left), mac_of(&table, right)), (None, Some(MAC)));
        // Both sides have one interface: what the kernel knows is let go before it is told.
        let at = |wanted: Effect| effects.iter().position(|effect| *effect == wanted);
        let (gone, pinned) = (at(Effect::Release(13, address)), at(Effect::Pin(13, address, MAC)));
        assert!(gone.is_some() && gone < pinned, "{effects:?}");
        assert!(at(Effect::RemoveNeighbour(left)).is_some(), "{effects:?}");
        assert_eq!(table.heard(left, OTHER), [], "and it stays there");
        // What the configuration itself has on the other side is not put away.
        let mut table = bridged();
        table.want(&HashSet::from([left]));
        table.fix(&HashMap::from([(right, MAC)]));
        assert!(table.number(&left).is_some() && table.number(&right).is_none());
    }
}
