//! What came in by each port, for the API.

use super::backend::reason_reply;
use super::node::Node;
use crate::api::reply::PortCounters;
use crate::dataplane::maps::PortCounts;

/// The counts of the ports, with their names; what counted nothing and is no port is left out.
pub(super) fn ports(node: &Node, ports: Vec<PortCounts>) -> Vec<PortCounters> {
    ports.into_iter().filter_map(|port| one(node, port)).collect()
}

fn one(node: &Node, (ifindex, counts): PortCounts) -> Option<PortCounters> {
    let name = ifindex.and_then(|ifindex| name(node, ifindex));
    let counted = counts.into_iter().filter(|(_, count)| count.packets != 0);
    let reasons: Vec<_> = counted.map(reason_reply).collect();
    if name.is_none() && reasons.is_empty() {
        return None;
    }
    Some(PortCounters {
        interface: name.or_else(|| Some(ifindex?.to_string())),
        packets: reasons.iter().map(|reason| reason.packets).sum(),
        bytes: reasons.iter().map(|reason| reason.bytes).sum(),
        reasons,
    })
}

/// The interface with that index, if the program is attached to it.
fn name(node: &Node, ifindex: u32) -> Option<String> {
    node.ports.iter().find_map(|port| {
        let spec = &port.spec;
        let veth = spec.veth.as_ref().filter(|veth| veth.inner == ifindex);
        let inner = veth.map(|veth| veth.inner_name.clone());
        let member = spec.members.iter().find(|(member, _)| *member == ifindex).map(|(_, name)| name.clone());
        if spec.ifindex == ifindex { Some(spec.name.clone()) } else { inner.or(member) }
    })
}
