//! Sends the segments that make the ends of a cleared connection speak, each out of the port that its connection's packets
//! leave by.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use csm_common::names;
use csm_common::net::{NEXTHOP_RESOLVED, NEXTHOP_TAGGED, NextHop};
use etherparse::{PacketBuilder, PacketBuilderStep, TcpHeader, VlanId};
use socket2::{Domain, Socket, Type};

use crate::dataplane::bpf::BpfMap;
use crate::dataplane::clear::Nudge;
use crate::dataplane::maps::MapSource;

const HOP_LIMIT: u8 = 64;

/// Sends nudges; one that cannot be sent is left out: its end is reset when it next speaks.
#[derive(Debug)]
pub struct Nudger {
    hops: BpfMap<u32, NextHop>,
    /// Interface indices by port number.
    ports: Vec<u32>,
    socket: Socket,
}

impl Nudger {
    /// `ports`: their interface indices, in the order of their numbers.
    ///
    /// # Errors
    /// Without the map or a packet socket.
    pub fn new(source: &impl MapSource, ports: Vec<u32>) -> io::Result<Self> {
        let hops = BpfMap::new(source.descriptor(names::NEXTHOPS)?)?;
        // Of no protocol: it receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        Ok(Self { hops, ports, socket })
    }

    /// Sends `nudge`.
    pub fn send(&self, nudge: &Nudge) {
        let Ok(Some(hop)) = self.hops.get(&nudge.nexthop) else { return };
        let Some(&ifindex) = self.ports.get(hop.port as usize) else { return };
        if hop.flags & NEXTHOP_RESOLVED == 0 {
            return;
        }
        if let Err(error) = frame(nudge, &hop).and_then(|frame| self.put(ifindex, &frame)) {
            tracing::debug!(%error, "an end of a cleared connection is not told at once");
        }
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
fn frame(nudge: &Nudge, hop: &NextHop) -> io::Result<Vec<u8>> {
    let key = &nudge.receiver;
    let address = |be: u32| Ipv4Addr::from(be.to_ne_bytes()).octets();
    let ethernet = PacketBuilder::ethernet2(hop.src_mac, hop.dst_mac);
    let (src, dst) = (address(key.dst_be), address(key.src_be));
    let ip = if hop.flags & NEXTHOP_TAGGED == 0 {
        ethernet.ipv4(src, dst, HOP_LIMIT)
    } else {
        ethernet.single_vlan(VlanId::try_new(hop.vlan).map_err(io::Error::other)?).ipv4(src, dst, HOP_LIMIT)
    };
    let (sport, dport) = (u16::from_be(key.dport_be), u16::from_be(key.sport_be));
    let segment: PacketBuilderStep<TcpHeader> = ip.tcp(sport, dport, nudge.seq, 0).ack(0);
    let mut frame = Vec::with_capacity(segment.size(0));
    segment.write(&mut frame, &[]).map_err(io::Error::other)?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::table::tests::connection;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    #[test]
    fn it_comes_from_the_other_end_as_its_receiver_knows_that() {
        let receiver = connection(1000, 1).return_key();
        let nudge = Nudge { receiver, nexthop: 1, seq: 77 };
        let hop = NextHop {
            dst_mac: [2, 0, 0, 0, 0, 1],
            src_mac: [0, 1, 0x64, 0xf9, 0x1a, 1],
            port: 0,
            vlan: 3,
            flags: NEXTHOP_RESOLVED,
            ip_be: 0,
            mtu: 1500,
            pad: 0,
        };
        for (flags, vlan) in [(0, None), (NEXTHOP_TAGGED, Some(3))] {
            let frame = frame(&nudge, &NextHop { flags, ..hop }).expect("a frame");
            let packet = SlicedPacket::from_ethernet(&frame).expect("a packet");
            assert_eq!(packet.vlan_ids().first().map(|id| id.value()), vlan);
            let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("IPv4") };
            let addresses = (ip.header().source_addr(), ip.header().destination_addr());
            assert_eq!(addresses, (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(192, 158, 39, 101)));
            let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("TCP") };
            assert_eq!((tcp.source_port(), tcp.destination_port(), tcp.sequence_number()), (1000, 80, 77));
            assert!(tcp.ack() && !tcp.rst() && !tcp.syn() && !tcp.fin());
        }
    }
}
