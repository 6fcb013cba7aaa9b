//! The veth pairs by which the kernel takes part in the VLANs of trunks: made at start, removed at the end. A pair that
//! a killed csmd left is taken over as it is.

use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};

use super::netlink::{Link, Netlink};
use super::offload;

/// A pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The program's end.
    pub inner: Link,
    /// The kernel's end.
    pub outer: Link,
}

/// The pairs of this node; dropping it removes them.
#[derive(Debug)]
pub struct Pairs {
    netlink: Netlink,
    /// Index of the kernel's end of each, and whether it was made here.
    made: Vec<(u32, bool)>,
    kept: bool,
}

impl Pairs {
    /// # Errors
    /// If netlink cannot be had.
    pub fn new() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()?, made: Vec::new(), kept: false })
    }

    /// Sees that there is a pair, both ends up, whose kernel's end is called `outer` and has `mac`; frames up to `mtu`.
    ///
    /// # Errors
    /// Of the requests; `AlreadyExists` if one of the names is another's.
    pub fn ensure(&mut self, outer: &str, inner: &str, mac: [u8; 6], mtu: u32) -> io::Result<Pair> {
        let fresh = match self.netlink.link(outer)? {
            Some(_) => false,
            None => {
                self.netlink.add_veth(outer, inner)?;
                true
            }
        };
        let missing = |name: &str| {
            io::Error::new(io::ErrorKind::NotFound, format!("there is no {name}: remove the other end"))
        };
        let there = self.netlink.link(outer)?.ok_or_else(|| missing(outer))?;
        self.made.push((there.ifindex, fresh));
        let here = self.netlink.link(inner)?.ok_or_else(|| missing(inner))?;
        // The program's end is no host's: without this the kernel would speak IPv6 there.
        let _without = std::fs::write(format!("/proc/sys/net/ipv6/conf/{inner}/disable_ipv6"), "1");
        self.netlink.set_link(here.ifindex, None, mtu)?;
        self.netlink.set_link(there.ifindex, Some(mac), mtu)?;
        offload::for_program(outer)?;
        for ifindex in [here.ifindex, there.ifindex] {
            self.netlink.set_up(ifindex)?;
        }
        Ok(Pair { inner: here, outer: Link { mac, mtu, ..there } })
    }

    /// From now on they are this node's, also those that were found: before, they may be another csmd's.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        for (ifindex, fresh) in self.made.drain(..) {
            if !fresh && !self.kept {
                continue;
            }
            if let Err(error) = self.netlink.remove_link(ifindex) {
                tracing::warn!(ifindex, %error, "a veth pair of this node stays");
            }
        }
    }
}

impl Netlink {
    fn add_veth(&mut self, name: &str, peer: &str) -> io::Result<()> {
        let mut other = LinkMessage::default();
        other.attributes.push(LinkAttribute::IfName(peer.to_owned()));
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
        ]));
        let request = RouteNetlinkMessage::NewLink(message);
        self.request(request, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    pub(super) fn remove_link(&mut self, ifindex: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        self.request(RouteNetlinkMessage::DelLink(message), NLM_F_ACK).map(drop)
    }

    pub(super) fn set_link(&mut self, ifindex: u32, mac: Option<[u8; 6]>, mtu: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.attributes.push(LinkAttribute::Mtu(mtu));
        message.attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(drop)
    }
}
