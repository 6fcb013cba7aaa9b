//! The short way: a segment or datagram of a proven connection, whose headers are plain. Nearly all packets are.
//!
//! It does what the stages would do with such a packet, in one piece: each header is checked once, read in wide loads and
//! written in wide stores, and nothing of it stands on the stack but the key. Whatever is unusual about the packet, its
//! connection or the node leaves this way before anything was changed or counted, and is walked from its start.

use core::mem::offset_of;

use aya_ebpf::programs::XdpContext;
use csm_common::address::{Address, V6};
use csm_common::checksum;
use csm_common::counter::Reason;
use csm_common::flow::{FLAG_REPLICA, FlowEntry, NONE, WideKey};
use csm_common::gate::GateState;
use csm_common::net::{NEXTHOP_RESOLVED, NEXTHOP_TAGGED, NextHop, PORT_CLIENT, PORT_SERVER, Port};

use crate::conn::TOUCH_NS;
use crate::family::Family;
use crate::packet::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, FRAGMENT_BITS, Ipv4, L3, LINK_HEADER, PROTO_TCP, PROTO_UDP, TCP_FIN,
    TCP_RST, TCP_SYN, Tcp, Udp, VERSION_IHL,
};
use crate::rewrite::TTL_DELTA;
use crate::wide::{load32, load64, store32, store64};
use crate::{counter, gate, maps, own, transition};

/// Where the type stands in a frame without a tag, and the tag in one that has it.
const KIND: usize = 12;
/// Octets of a MAC address's word of 8 that belong to the next one.
const NOT_MAC: u32 = 16;

/// What a plain network header says.
pub(crate) struct Plain {
    /// Octets of the IP packet.
    total: u32,
    /// Octets behind the network header; not below 0 only if `total` is not below its length.
    payload: u32,
    proto: u8,
    ttl: u8,
}

/// A family's own part. `ip` is where its header stands, which is within the frame.
pub(crate) trait Short: Family {
    /// What the header says; `None`: it has options or extensions, is of a fragment, or wrong.
    ///
    /// # Safety
    /// The header must be within the frame.
    unsafe fn read(ip: usize) -> Option<Plain>;
    /// The entry of the established table.
    ///
    /// # Safety
    /// As for [`Self::read`].
    unsafe fn entry(ip: usize, ports: u32, vlan: u16, proto: u8) -> Option<*mut FlowEntry<Self>>;
    /// Writes addresses, a hop limit that is one less, and what checksum the header has.
    ///
    /// # Safety
    /// As for [`Self::read`].
    unsafe fn readdress(ip: usize, entry: &FlowEntry<Self>);
}

impl Short for u32 {
    #[inline(always)]
    unsafe fn read(ip: usize) -> Option<Plain> {
        let header = ip as *const Ipv4;
        // SAFETY: by the contract; no reference into the frame is made, here and below.
        let (version_ihl, fragment_be, total_be, proto, ttl, addresses) = unsafe {
            (
                (*header).version_ihl,
                (*header).fragment_be,
                (*header).total_length_be,
                (*header).proto,
                (*header).ttl,
                load64::<12>(ip),
            )
        };
        let same = addresses >> 32 == addresses & 0xffff_ffff;
        if version_ihl != VERSION_IHL || fragment_be & FRAGMENT_BITS != 0 || same {
            return None;
        }
        let total = u32::from(u16::from_be(total_be));
        Some(Plain { total, payload: total.wrapping_sub(20), proto, ttl })
    }

    #[inline(always)]
    unsafe fn entry(ip: usize, ports: u32, vlan: u16, proto: u8) -> Option<*mut FlowEntry> {
        // SAFETY: by the contract.
        let addresses = unsafe { load64::<12>(ip) };
        maps::FLOWS.get_ptr_mut(WideKey::new(addresses, ports, vlan, proto))
    }

    #[inline(always)]
    unsafe fn readdress(ip: usize, entry: &FlowEntry) {
        let header = ip as *mut Ipv4;
        let from = (&raw const *entry).cast::<u64>();
        // SAFETY: by the contract; source and destination stand one behind the other in the entry, aligned to 8.
        unsafe {
            store64::<12>(ip, from.add(1).read());
            (*header).ttl -= 1;
            let sum = u32::from(!(*header).checksum_be) + u32::from(entry.ip_delta) + TTL_DELTA;
            (*header).checksum_be = !checksum::fold(sum);
        }
    }
}
const _: () = assert!(offset_of!(Ipv4, src_be) == 12 && offset_of!(Ipv4, dst_be) == 16);
const _: () = assert!(offset_of!(FlowEntry, new_src_be) == 8 && offset_of!(FlowEntry, new_dst_be) == 12);

impl Short for V6 {
    #[inline(always)]
    unsafe fn read(ip: usize) -> Option<Plain> {
        // SAFETY: by the contract.
        let (version, payload_be, proto, ttl, same) = unsafe {
            (
                *(ip as *const u8) >> 4,
                *((ip + 4) as *const u16),
                *((ip + 6) as *const u8),
                *((ip + 7) as *const u8),
                load64::<8>(ip) == load64::<24>(ip) && load64::<16>(ip) == load64::<32>(ip),
            )
        };
        if version != 6 || same {
            return None;
        }
        let payload = u32::from(u16::from_be(payload_be));
        Some(Plain { total: payload + 40, payload, proto, ttl })
    }

    #[inline(always)]
    unsafe fn entry(ip: usize, ports: u32, vlan: u16, proto: u8) -> Option<*mut FlowEntry<Self>> {
        // The stack has no room for it.
        let key = maps::KEY6.get_ptr_mut(0)?;
        // SAFETY: this CPU's element, which has the size of a key; the program does not nest. The header by the contract.
        unsafe {
            (*key)[0] = load64::<8>(ip);
            (*key)[1] = load64::<16>(ip);
            (*key)[2] = load64::<24>(ip);
            (*key)[3] = load64::<32>(ip);
            (*key)[4] = WideKey::ports(ports, vlan, proto);
            maps::FLOWS6.get_ptr_mut(&*key.cast())
        }
    }

    #[inline(always)]
    unsafe fn readdress(ip: usize, entry: &FlowEntry<Self>) {
        let from = (&raw const *entry).cast::<u64>();
        // SAFETY: as for IPv4.
        unsafe {
            store64::<8>(ip, from.add(1).read());
            store64::<16>(ip, from.add(2).read());
            store64::<24>(ip, from.add(3).read());
            store64::<32>(ip, from.add(4).read());
            *((ip + 7) as *mut u8) -= 1;
        }
    }
}
const _: () =
    assert!(offset_of!(FlowEntry<V6>, new_src_be) == 8 && offset_of!(FlowEntry<V6>, new_dst_be) == 24);

/// Sends on a frame of `bytes` in all, with a tag of `TAG` octets, that came in by `port`; `None`: it must take the long way.
#[inline(always)]
pub(crate) fn forward<const TAG: usize>(ctx: &XdpContext, port: &Port, bytes: u32) -> Option<Reason> {
    if port.role != PORT_CLIENT && port.role != PORT_SERVER {
        return None;
    }
    let settings = maps::SETTINGS.get(0)?;
    let start = ctx.data();
    if start + KIND + TAG + size_of::<u16>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the bounds were just checked; and the virtual MAC address stands first in the map's value.
    let (dst, ours, kind_be) = unsafe {
        (
            load64::<0>(start),
            own::word(port, load64::<0>((&raw const *settings) as usize)),
            *((start + KIND + TAG) as *const u16),
        )
    };
    // What is for the node itself is no proven connection's.
    if (dst ^ ours).to_le() << NOT_MAC != 0 {
        return None;
    }
    match kind_be {
        ETHERTYPE_IPV4 => family::<u32, TAG>(ctx, port, bytes),
        ETHERTYPE_IPV6 => family::<V6, TAG>(ctx, port, bytes),
        _ => None,
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "0 or 4")]
fn family<A: Short, const TAG: usize>(ctx: &XdpContext, port: &Port, bytes: u32) -> Option<Reason> {
    let length = bytes - TAG as u32;
    let start = ctx.data();
    let (ip, l4) = (start + TAG + L3, start + TAG + L3 + A::HEADER);
    // Of a datagram only 8 octets are its header; a frame is hardly ever so short that the rest is not there.
    if l4 + size_of::<Tcp>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the bounds were just checked, here and below.
    let Plain { total, payload, proto, ttl } = unsafe { A::read(ip) }?;
    if ttl <= 1 || LINK_HEADER + total > length {
        return None;
    }
    // SAFETY: as above.
    let (flags, ack) = unsafe { transport(l4, proto, payload) }?;
    let (state, now_ns) = gate::read();
    if !matches!(state, GateState::Open) {
        return None;
    }
    // SAFETY: as above.
    let entry = unsafe { A::entry(ip, load32::<0>(l4), port.vlan, proto) }?;
    // SAFETY: as in `conn::deliver`.
    let entry = unsafe { &mut *entry };
    // Once a second, and with the first on a replica, it is noted that the connection is in use. Few are marked.
    let long = u32::from(entry.flags & FLAG_REPLICA) | u32::from(entry.mark);
    if now_ns > entry.last_seen_ns + TOUCH_NS || long != 0 {
        return None;
    }
    let hop = A::next_hops().get(entry.nexthop)?;
    let wanted = if TAG == 0 { NEXTHOP_RESOLVED } else { NEXTHOP_RESOLVED | NEXTHOP_TAGGED };
    // No tunnel, no router on this host.
    if hop.flags != wanted || total > u32::from(hop.mtu) {
        return None;
    }
    transition::acknowledged(flags, ack, entry);
    // SAFETY: as above.
    unsafe {
        address::<A, TAG>(start, hop);
        A::readdress(ip, entry);
        translate(l4, proto, entry);
    }
    let (vserver, real, from_client) = counter::of(entry);
    if maps::TX_PORTS.redirect(hop.port, 0).is_err() {
        return Some(Reason::DropInternal);
    }
    counter::service(vserver, real, from_client, length);
    Some(if vserver == NONE { Reason::ForwardedRouted } else { Reason::ForwardedFlow })
}

/// Flags and acknowledgement number (UDP: zeros), if the header at `l4` is good and begins or ends nothing.
///
/// # Safety
/// It must be within the frame.
#[inline(always)]
unsafe fn transport(l4: usize, proto: u8, payload: u32) -> Option<(u8, u32)> {
    // More than a packet has is a number below 0.
    if payload > u32::from(u16::MAX) {
        return None;
    }
    match proto {
        PROTO_TCP => {
            let tcp = l4 as *const Tcp;
            // SAFETY: by the contract.
            let (offset, flags, ack_be) = unsafe { ((*tcp).offset, (*tcp).flags, load32::<8>(l4)) };
            let header = u32::from(offset >> 4) * 4;
            let whole = header >= 20 && header <= payload;
            (whole && flags & (TCP_SYN | TCP_FIN | TCP_RST) == 0).then_some((flags, u32::from_be(ack_be)))
        }
        PROTO_UDP => {
            // SAFETY: by the contract.
            let length = u32::from(u16::from_be(unsafe { (*(l4 as *const Udp)).length_be }));
            (length >= 8 && length <= payload).then_some((0, 0))
        }
        _ => None,
    }
}
const _: () = assert!(offset_of!(Tcp, ack_be) == 8);

/// Rewrites ports and checksum of the header at `l4`.
///
/// # Safety
/// It must be within the frame.
#[inline(always)]
unsafe fn translate<A: Family>(l4: usize, proto: u8, entry: &FlowEntry<A>) {
    let ports = (&raw const entry.new_sport_be).cast::<u32>();
    // SAFETY: by the contract; both ports stand one behind the other in the entry, aligned to 4.
    unsafe {
        store32::<0>(l4, ports.read());
        if proto == PROTO_TCP {
            let tcp = l4 as *mut Tcp;
            (*tcp).checksum_be = checksum::apply((*tcp).checksum_be, entry.l4_delta);
        } else {
            let udp = l4 as *mut Udp;
            (*udp).checksum_be = checksum::apply_udp((*udp).checksum_be, entry.l4_delta);
        }
    }
}
const _: () = assert!(offset_of!(FlowEntry, new_sport_be) == 16 && offset_of!(FlowEntry, new_dport_be) == 18);
const _: () =
    assert!(offset_of!(FlowEntry<V6>, new_sport_be) == 40 && offset_of!(FlowEntry<V6>, new_dport_be) == 42);

/// Writes the MAC addresses, and into a tag its VLAN.
///
/// # Safety
/// The frame must have a whole header.
#[inline(always)]
unsafe fn address<A: Address, const TAG: usize>(start: usize, hop: &NextHop<A>) {
    let from = (&raw const *hop) as usize;
    // SAFETY: by the contract; both addresses stand first in the map's value.
    unsafe {
        store64::<0>(start, load64::<0>(from));
        store32::<8>(start, load32::<8>(from));
        if TAG != 0 {
            *((start + KIND + 2) as *mut u16) = hop.vlan.to_be();
        }
    }
}
const _: () = assert!(offset_of!(NextHop, dst_mac) == 0 && offset_of!(NextHop, src_mac) == 6);
const _: () = assert!(offset_of!(NextHop<V6>, dst_mac) == 0 && offset_of!(NextHop<V6>, src_mac) == 6);
