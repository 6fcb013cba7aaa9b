//! Answers of `csm trace`: walks with names in the place of numbers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::backend::verdict;
use super::node::Node;
use crate::api::backend::Fault;
use crate::api::reply::{
    ConnState, Endpoint, EntryReply, PacketReply, Protocol, TraceQuery, Verdict, WAIT_MAX_MS, WalkReply,
};
use crate::dataplane::plan::Desired;
use crate::dataplane::trace::{Found, Header, Walk};

/// ARP, in the place of an IP protocol.
const ARP: u8 = 0;

/// The walks that `query` asks for.
pub(super) fn walks(
    node: &Node,
    names: &BTreeMap<u32, String>,
    desired: &Desired,
    query: &TraceQuery,
) -> Result<Vec<WalkReply>, Fault> {
    let tracer = node.tracer.as_ref().map_err(|error| Fault::Refused {
        error: format!("this kernel does not take the traced form of the XDP program: {error}"),
        remedy: None,
    })?;
    let client = query.client;
    if client.is_ipv6() && !tracer.has_ipv6() {
        return Err(Fault::Refused {
            error: "csmd was started without IPv6: its packets are the kernel's".to_owned(),
            remedy: Some("configure an IPv6 address, and start csmd again".to_owned()),
        });
    }
    let wait = Duration::from_millis(query.wait_ms.unwrap_or(0).min(WAIT_MAX_MS));
    let walks = tracer
        .walks(client, wait)
        .map_err(|error| Fault::Internal(format!("packets cannot be traced: {error}")))?
        .map_err(|busy| Fault::Refused {
            error: busy.to_string(),
            remedy: Some("end that trace, or wait 5 s after it has ended".to_owned()),
        })?;
    let replies = walks.iter().map(|walk| reply(walk, names, desired));
    let wanted = |reply: &WalkReply| query.vserver.is_none() || belongs(reply) == query.vserver.as_deref();
    Ok(replies.filter(wanted).collect())
}

/// The virtual server of the packet's connection.
fn belongs(reply: &WalkReply) -> Option<&str> {
    reply.after.as_ref().or(reply.before.as_ref())?.vserver.as_deref()
}

fn reply(walk: &Walk, names: &BTreeMap<u32, String>, desired: &Desired) -> WalkReply {
    let entry = |found: &Found| EntryReply {
        proven: found.proven,
        state: ConnState::from_flow(found.state),
        vserver: found.vserver.and_then(|number| names.get(&number).cloned()),
        real: found
            .real
            .and_then(|number| desired.reals.get(&number))
            .map(|real| Endpoint { address: real.key.address, port: real.key.port.unwrap_or(0) }),
    };
    let sent = verdict(walk.reason) == Verdict::Forward;
    WalkReply {
        at_ns: walk.at_ns,
        vlan: walk.vlan,
        octets: walk.octets,
        came: walk.came.as_ref().map(packet),
        before: walk.before.as_ref().map(entry),
        after: walk.after.as_ref().map(entry),
        left: walk.left.as_ref().filter(|_| sent).map(packet),
        to_mac: walk.ethernet.as_ref().filter(|_| sent).map(|(to, _)| to.clone()),
        reason: walk.reason.name().to_owned(),
        verdict: verdict(walk.reason),
    }
}

fn packet(header: &Header) -> PacketReply {
    let end = |(address, port): (IpAddr, u16)| Endpoint { address, port };
    PacketReply {
        protocol: (header.protocol != ARP).then(|| Protocol::of(header.protocol)),
        source: end(header.source),
        destination: end(header.destination),
    }
}
