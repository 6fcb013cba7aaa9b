//! What leads a first packet to its virtual server: by address and port, where that is shared by VLAN and client. Pure.

use std::collections::{BTreeMap, BTreeSet};

use csm_common::flow::NONE;
use csm_common::limits;
use csm_common::service::{ClientKey, ClientPrefix, MATCH_FTP, Match, Networks, VserverKey};
use ipnet::IpNet;

use crate::dataplane::family::{Wire, wire};
use crate::model::{AccessLine, Protocol, Virtual, VlanId, Vserver};

use super::{Contents, PlanError, fits};

/// A virtual server with its numbers.
pub(super) struct Numbered<'a> {
    /// Of what no policy is for.
    pub(super) number: u32,
    /// The virtual server.
    pub(super) vserver: &'a Vserver,
    /// Of each policy in their order, with the lines of its client group; `None`: it is for all clients.
    pub(super) policies: Vec<(u32, Option<&'a [AccessLine]>)>,
}

impl Numbered<'_> {
    /// Networks of which something is said: its own ranges, and those of its client groups.
    fn networks(&self) -> impl Iterator<Item = IpNet> {
        let ranges = self.vserver.client_ranges().into_iter().map(|range| range.network);
        let groups = self.policies.iter().filter_map(|(_, clients)| *clients).flatten();
        ranges.chain(groups.map(|line| line.network))
    }

    /// The number for clients of `prefix`, as far as no smaller network says otherwise: that of the first policy whose group holds
    /// them, where the first line that speaks of them decides.
    fn serves(&self, prefix: IpNet) -> u32 {
        let is_for = |clients: Option<&[AccessLine]>| {
            clients.is_none_or(|lines| {
                lines.iter().find(|line| line.network.contains(&prefix)).is_some_and(|line| line.permit)
            })
        };
        let first = self.policies.iter().find(|(_, clients)| is_for(*clients));
        first.map_or(self.number, |(number, _)| *number)
    }
}

/// Key of what `to` matches.
pub(super) fn key<A: Wire>(to: &Virtual) -> VserverKey<A> {
    let proto = match to.protocol {
        Protocol::Any => 0,
        Protocol::Number(number) => number,
    };
    let kind = to.network.max_prefix_len() - to.network.prefix_len();
    VserverKey { ip_be: wire(to.address()), port_be: to.port.to_be(), proto, kind }
}

/// Fills `VSERVER_KEYS`, `NETWORKS` and `CLIENTS`.
///
/// # Errors
/// If one of them is too small.
pub(super) fn plan<A: Wire>(vservers: &[Numbered<'_>], contents: &mut Contents<A>) -> Result<(), PlanError> {
    let mut services: BTreeMap<VserverKey<A>, Vec<&Numbered<'_>>> = BTreeMap::new();
    let mut networks: BTreeSet<IpNet> = BTreeSet::new();
    for numbered in vservers {
        let &Numbered { number, vserver, .. } = numbered;
        let Some(to) = vserver.virtual_server else { continue };
        services.entry(key(&to)).or_default().push(numbered);
        if !to.is_address() {
            networks.insert(to.network);
        }
        if let Some(protocol) = to.service.data().filter(|_| vserver.is_operational()) {
            let data = VserverKey { port_be: 0, kind: MATCH_FTP, ..key(&Virtual { protocol, ..to }) };
            contents.vserver_keys.entry(data).or_insert(Match { vserver: number, rules: 0 });
        }
    }
    for (key, mut sharing) in services {
        // One out of service is matched only if no other could be, so that its packets get their reason.
        if sharing.iter().any(|of| of.vserver.is_operational()) {
            sharing.retain(|of| of.vserver.is_operational());
        }
        let found = service(&sharing, contents);
        contents.vserver_keys.insert(key, found);
    }
    for network in &networks {
        contents.networks.insert(*network, around(network, &networks));
    }
    fits(contents.vserver_keys.len(), "addresses and ports of virtual servers", 2 * limits::VSERVERS_MAX)?;
    fits(contents.networks.len(), "virtual networks", limits::NETWORKS_MAX)?;
    fits(contents.clients.len(), "networks of clients", limits::CLIENTS_MAX)
}

/// What an address and port lead to.
fn service<A: Wire>(sharing: &[&Numbered<'_>], contents: &mut Contents<A>) -> Match {
    if let [Numbered { number, vserver, policies }] = sharing
        && vserver.vlan.is_none()
        && vserver.clients.is_empty()
        && policies.is_empty()
    {
        return Match { vserver: *number, rules: 0 };
    }
    let first = sharing.iter().map(|of| of.number).min().unwrap_or_default();
    // Rules are numbered after a virtual server that is nowhere else, so that no other service ever has the same.
    let rules = u16::try_from(first + 1).unwrap_or(u16::MAX);
    let vlans: BTreeSet<Option<VlanId>> = sharing.iter().map(|of| of.vserver.vlan).collect();
    for vlan in vlans {
        let of_vlan: Vec<_> = sharing.iter().copied().filter(|of| of.vserver.vlan == vlan).collect();
        let prefixes: BTreeSet<IpNet> = of_vlan.iter().flat_map(|of| of.networks()).collect();
        for prefix in prefixes {
            let of =
                ClientKey { rules, vlan: vlan.map_or(0, VlanId::get), client_be: wire(prefix.network()) };
            let number = best(prefix, &of_vlan).unwrap_or(NONE);
            contents.clients.insert(ClientPrefix { bits: 32 + u32::from(prefix.prefix_len()), of }, number);
        }
    }
    Match { vserver: first, rules: u32::from(rules) }
}

/// Who serves the clients of `prefix`, as far as no smaller prefix says otherwise: of those whose own longest range around
/// it does not exclude them, the one whose range is longest; of its policies the one that is for them.
fn best(prefix: IpNet, sharing: &[&Numbered<'_>]) -> Option<u32> {
    let longest = |vserver: &Vserver| {
        let around = vserver.client_ranges().into_iter().filter(|range| range.network.contains(&prefix));
        around.max_by_key(|range| range.network.prefix_len())
    };
    let serving = sharing.iter().filter_map(|of| {
        let range = longest(of.vserver).filter(|range| !range.exclude)?;
        Some((range.network.prefix_len(), *of))
    });
    // Of equals, which the check refuses, the first.
    serving.rev().max_by_key(|&(length, _)| length).map(|(_, of)| of.serves(prefix))
}

/// `network` and the virtual networks around it, smallest first.
fn around(network: &IpNet, all: &BTreeSet<IpNet>) -> Networks {
    let mut lengths: Vec<u8> =
        all.iter().filter(|other| other.contains(network)).map(IpNet::prefix_len).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let mut networks = Networks::default();
    for (slot, length) in networks.host_bits.iter_mut().zip(lengths) {
        *slot = network.max_prefix_len() - length;
    }
    networks
}

#[cfg(test)]
mod tests;
