//! Sends the segments that make the ends of a cleared connection speak, each out of the port that its connection's packets
//! leave by.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use csm_common::address::{Address, V6};
use csm_common::names;
use csm_common::net::{NEXTHOP_RESOLVED, NEXTHOP_TAGGED, NEXTHOP_TUNNEL, NextHop};
use etherparse::{IpHeaders, IpNumber, Ipv4Header, Ipv6Header, PacketBuilder, VlanId};
use socket2::{Domain, Socket, Type};

use crate::dataplane::bpf::BpfMap;
use crate::dataplane::clear::Nudge;
use crate::dataplane::maps::MapSource;

const HOP_LIMIT: u8 = 64;

/// Sends nudges; one that cannot be sent is left out: its end is reset when it next speaks.
#[derive(Debug)]
pub struct Nudger {
    hops: BpfMap<u32, NextHop>,
    hops6: BpfMap<u32, NextHop<V6>>,
    /// Interface indices by port number.
    ports: Vec<u32>,
    socket: Socket,
}

/// Where a nudge leaves.
#[derive(Clone, Copy, Debug)]
struct Way {
    src_mac: [u8; 6],
    dst_mac: [u8; 6],
    port: u32,
    /// VLAN of the tag; 0: none.
    tag: u16,
}

impl Way {
    fn of<A: Address>(hop: &NextHop<A>) -> Option<Self> {
        let tag = if hop.flags & NEXTHOP_TAGGED == 0 { 0 } else { hop.vlan };
        // The far end of a tunnel is told when it next speaks.
        let resolved = hop.flags & (NEXTHOP_RESOLVED | NEXTHOP_TUNNEL) == NEXTHOP_RESOLVED;
        resolved.then_some(Self { src_mac: hop.src_mac, dst_mac: hop.dst_mac, port: hop.port, tag })
    }
}

impl Nudger {
    /// `ports`: their interface indices, in the order of their numbers.
    ///
    /// # Errors
    /// Without the maps or a packet socket.
    pub fn new(source: &impl MapSource, ports: Vec<u32>) -> io::Result<Self> {
        // Of no protocol: it receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            hops: BpfMap::new(source.descriptor(names::NEXTHOPS)?)?,
            hops6: BpfMap::new(source.descriptor(names::NEXTHOPS6)?)?,
            ports,
            socket,
        })
    }

    /// Sends `nudge`.
    pub fn send(&self, nudge: &Nudge) {
        let sent = self.way(nudge).and_then(|way| {
            let Some(way) = way else { return Ok(()) };
            let Some(&ifindex) = self.ports.get(way.port as usize) else { return Ok(()) };
            self.put(ifindex, &frame(nudge, way)?)
        });
        if let Err(error) = sent {
            tracing::debug!(%error, "an end of a cleared connection is not told at once");
        }
    }

    fn way(&self, nudge: &Nudge) -> io::Result<Option<Way>> {
        let number = &nudge.nexthop;
        Ok(match nudge.to {
            SocketAddr::V4(_) => self.hops.get(number)?.as_ref().and_then(Way::of),
            SocketAddr::V6(_) => self.hops6.get(number)?.as_ref().and_then(Way::of),
        })
    }

    fn put(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        // SAFETY: all zero is a valid `sockaddr_ll`.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
        to.sll_ifindex = i32::try_from(ifindex).map_err(io::Error::other)?;
        let length = libc::socklen_t::try_from(size_of_val(&to)).map_err(io::Error::other)?;
        // SAFETY: `frame` and `to` are as long as said and live through the call, which only reads them.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                std::ptr::from_ref(&to).cast(),
                length,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// An acknowledgement of nothing with an old sequence number, without window or data.
fn frame(nudge: &Nudge, way: Way) -> io::Result<Vec<u8>> {
    let headers = match (nudge.from.ip(), nudge.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = Ipv4Header::new(0, HOP_LIMIT, IpNumber::TCP, from.octets(), to.octets());
            IpHeaders::Ipv4(header.map_err(io::Error::other)?, Default::default())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let (source, destination) = (from.octets(), to.octets());
            let header = Ipv6Header { source, destination, hop_limit: HOP_LIMIT, ..Default::default() };
            IpHeaders::Ipv6(header, Default::default())
        }
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let ethernet = PacketBuilder::ethernet2(way.src_mac, way.dst_mac);
    let ip = match way.tag {
        0 => ethernet.ip(headers),
        tag => ethernet.single_vlan(VlanId::try_new(tag).map_err(io::Error::other)?).ip(headers),
    };
    let segment = ip.tcp(nudge.from.port(), nudge.to.port(), nudge.seq, 0).ack(0);
    let mut frame = Vec::with_capacity(segment.size(0));
    segment.write(&mut frame, &[]).map_err(io::Error::other)?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    #[test]
    fn it_comes_from_the_other_end_as_its_receiver_knows_that() {
        let way = Way { src_mac: [0, 1, 0x64, 0xf9, 0x1a, 1], dst_mac: [2, 0, 0, 0, 0, 1], port: 0, tag: 0 };
        for (from, to) in [("10.0.0.1:1000", "192.158.39.101:80"), ("[fd00:1::1]:1000", "[fd00:3::101]:80")] {
            let nudge = Nudge { from: from.parse().unwrap(), to: to.parse().unwrap(), nexthop: 1, seq: 77 };
            for (tag, vlan) in [(0, None), (3, Some(3))] {
                let frame = frame(&nudge, Way { tag, ..way }).expect("a frame");
                assert_eq!((&frame[..6], &frame[6..12]), (&way.dst_mac[..], &way.src_mac[..]));
                let packet = SlicedPacket::from_ethernet(&frame).expect("a packet");
                assert_eq!(packet.vlan_ids().first().map(|id| id.value()), vlan);
                let addresses = match &packet.net {
                    Some(NetSlice::Ipv4(ip)) => {
                        (ip.header().source_addr().into(), ip.header().destination_addr().into())
                    }
                    Some(NetSlice::Ipv6(ip)) => {
                        (ip.header().source_addr().into(), ip.header().destination_addr().into())
                    }
                    _ => panic!("IP"),
                };
                assert_eq!(addresses, (nudge.from.ip(), nudge.to.ip()));
                let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("TCP") };
                assert_eq!((tcp.source_port(), tcp.destination_port()), (1000, 80));
                assert!(tcp.sequence_number() == 77 && tcp.ack() && !tcp.rst() && !tcp.syn() && !tcp.fin());
            }
        }
    }
}
