//! Bounds-checked access to the frame, and the view of it that later stages work on.
//!
//! In a plain packet (no options, no fragment) every header stands at a fixed offset, and a bounds check is one compare;
//! `rare` walks the others. A frame may be in several buffers: its headers must stand in the first one, which is all
//! that is touched.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use csm_common::address::Address;
use csm_common::counter::Reason;
use csm_common::flow::FlowKey;

use crate::family::Family;

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800u16.to_be();
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86ddu16.to_be();
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806u16.to_be();
pub(crate) const ETHERTYPE_VLAN: u16 = 0x8100u16.to_be();

pub(crate) const PROTO_ICMP: u8 = 1;
pub(crate) const PROTO_TCP: u8 = 6;
pub(crate) const PROTO_UDP: u8 = 17;
pub(crate) const PROTO_ICMPV6: u8 = 58;

pub(crate) const TCP_FIN: u8 = 0x01;
pub(crate) const TCP_SYN: u8 = 0x02;
pub(crate) const TCP_RST: u8 = 0x04;
pub(crate) const TCP_ACK: u8 = 0x10;

pub(crate) const ICMP_ECHO_REPLY: u8 = 0;
pub(crate) const ICMP_UNREACHABLE: u8 = 3;
pub(crate) const ICMP_ECHO_REQUEST: u8 = 8;
pub(crate) const ICMP_TIME_EXCEEDED: u8 = 11;
pub(crate) const ICMP_PARAMETER_PROBLEM: u8 = 12;

/// Where the network header stands.
pub(crate) const L3: usize = size_of::<Ethernet>();
/// [`L3`], as lengths of frames are counted.
pub(crate) const LINK_HEADER: u32 = 14;
const _: () = assert!(LINK_HEADER as usize == L3);
/// Where the transport header of a packet without options stands.
pub(crate) const L4: usize = L3 + size_of::<Ipv4>();

/// More fragments, or an offset.
pub(crate) const FRAGMENT_BITS: u16 = 0x3fff_u16.to_be();
/// More fragments.
pub(crate) const MORE_FRAGMENTS_BE: u16 = 0x2000_u16.to_be();
/// Offset in units of eight octets.
pub(crate) const FRAGMENT_OFFSET: u16 = 0x1fff;
/// Version 4, five words.
pub(crate) const VERSION_IHL: u8 = 0x45;

/// A MAC address as three aligned halfwords: XDP frames start at an even address, and the compiler must not fall back
/// to single bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Mac([u16; 3]);

impl Mac {
    /// The address that stands at an even place of a map's value.
    ///
    /// # Safety
    /// `bytes` must be live and stand at an even address.
    #[inline(always)]
    pub(crate) unsafe fn at(bytes: *const [u8; 6]) -> Self {
        // SAFETY: by the contract; any bytes are an address.
        unsafe { bytes.cast::<Self>().read() }
    }

    #[inline(always)]
    pub(crate) const fn of(bytes: &[u8; 6]) -> Self {
        let [a, b, c, d, e, f] = *bytes;
        Self([u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]), u16::from_ne_bytes([e, f])])
    }

    #[inline(always)]
    pub(crate) const fn bytes(self) -> [u8; 6] {
        let [x, y, z] = self.0;
        let ([a, b], [c, d], [e, f]) = (x.to_ne_bytes(), y.to_ne_bytes(), z.to_ne_bytes());
        [a, b, c, d, e, f]
    }
}

// Headers are packed to 2: the network header stands at offset 14, so nothing wider is aligned.

#[repr(C, packed(2))]
pub(crate) struct Ethernet {
    pub(crate) dst: Mac,
    pub(crate) src: Mac,
    pub(crate) kind_be: u16,
}

#[repr(C, packed(2))]
pub(crate) struct Ipv4 {
    pub(crate) version_ihl: u8,
    pub(crate) tos: u8,
    pub(crate) total_length_be: u16,
    pub(crate) id_be: u16,
    pub(crate) fragment_be: u16,
    pub(crate) ttl: u8,
    pub(crate) proto: u8,
    pub(crate) checksum_be: u16,
    pub(crate) src_be: u32,
    pub(crate) dst_be: u32,
}

/// What TCP and UDP begin with.
#[repr(C, packed(2))]
pub(crate) struct Ports {
    pub(crate) sport_be: u16,
    pub(crate) dport_be: u16,
}

/// Octets of the transport header that an ICMP error quotes at least (RFC 792).
pub(crate) const TRANSPORT_QUOTED: usize = 8;

#[repr(C, packed(2))]
pub(crate) struct Tcp {
    pub(crate) sport_be: u16,
    pub(crate) dport_be: u16,
    pub(crate) seq_be: u32,
    pub(crate) ack_be: u32,
    pub(crate) offset: u8,
    pub(crate) flags: u8,
    pub(crate) window_be: u16,
    pub(crate) checksum_be: u16,
    pub(crate) urgent_be: u16,
}

#[repr(C, packed(2))]
pub(crate) struct Udp {
    pub(crate) sport_be: u16,
    pub(crate) dport_be: u16,
    pub(crate) length_be: u16,
    pub(crate) checksum_be: u16,
}

/// ICMP, with what stands before the quoted packet in an error.
#[repr(C, packed(2))]
pub(crate) struct Icmp {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) checksum_be: u16,
    pub(crate) unused_be: u16,
    /// "Fragmentation needed" (RFC 1191).
    pub(crate) mtu_be: u16,
}

#[repr(C, packed(2))]
pub(crate) struct Echo {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) checksum_be: u16,
    pub(crate) id_be: u16,
    pub(crate) sequence_be: u16,
}

/// Header `T` at `offset`, if the frame reaches that far.
#[inline(always)]
pub(crate) fn header<T>(ctx: &XdpContext, offset: usize) -> Result<*mut T, Reason> {
    let start = ctx.data();
    if start + offset + size_of::<T>() > ctx.data_end() {
        return Err(Reason::DropMalformed);
    }
    Ok((start + offset) as *mut T)
}

/// Where a packet came in.
#[derive(Clone, Copy)]
pub(crate) struct Ingress {
    /// Number in `TX_PORTS`.
    pub(crate) port: u32,
    pub(crate) vlan: u16,
    /// One of the `PORT_*` roles.
    pub(crate) role: u8,
    /// Frames leave `port` with the tag of `vlan`.
    pub(crate) tagged: bool,
    /// Came over the FT VLAN from the predecessor, which had it from `vlan`.
    pub(crate) relayed: bool,
}

/// A packet for the group.
#[derive(Clone, Copy)]
pub(crate) struct Packet<A: Address = u32> {
    pub(crate) key: FlowKey<A>,
    /// CLOCK_MONOTONIC.
    pub(crate) now_ns: u64,
    pub(crate) ingress: Ingress,
    /// Bytes of the frame.
    pub(crate) length: u32,
    /// Octets of the IP packet.
    pub(crate) total: u32,
    /// TCP, host order; 0 otherwise.
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    /// TCP flags; 0 otherwise.
    pub(crate) flags: u8,
    /// ICMP type; 0 otherwise.
    pub(crate) icmp: u8,
    pub(crate) ttl: u8,
    /// Flags and offset of a fragment, as IPv4 has them on the wire, and the datagram's identification.
    pub(crate) fragment_be: u16,
    pub(crate) id_be: u32,
}

impl<A: Family> Packet<A> {
    /// One of which nothing but its arrival is known.
    #[inline(always)]
    pub(crate) const fn new(ingress: Ingress, now_ns: u64, length: u32) -> Self {
        Self {
            key: FlowKey {
                src_be: A::UNSPECIFIED,
                dst_be: A::UNSPECIFIED,
                sport_be: 0,
                dport_be: 0,
                vlan: ingress.vlan,
                proto: 0,
                pad: 0,
            },
            now_ns,
            ingress,
            length,
            total: 0,
            seq: 0,
            ack: 0,
            flags: 0,
            icmp: 0,
            ttl: 0,
            fragment_be: 0,
            id_be: 0,
        }
    }

    /// Whether it may open a connection: a SYN and nothing but, a datagram, an echo request.
    #[inline(always)]
    pub(crate) const fn opens(&self) -> bool {
        match self.key.proto {
            PROTO_TCP => self.flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN) == TCP_SYN,
            proto if proto == A::ICMP => self.icmp == A::ECHO_REQUEST,
            _ => true,
        }
    }

    /// Whether more fragments of its datagram follow.
    #[inline(always)]
    pub(crate) const fn has_more(&self) -> bool {
        self.fragment_be & MORE_FRAGMENTS_BE != 0
    }

    /// Whether it is a fragment with others before it.
    #[inline(always)]
    pub(crate) const fn is_later(&self) -> bool {
        u16::from_be(self.fragment_be) & FRAGMENT_OFFSET != 0
    }

    /// Whether it is an ICMP error that is translated.
    #[inline(always)]
    pub(crate) fn is_icmp_error(&self) -> bool {
        A::is_icmp_error(self.icmp)
    }
}

/// Source quench is none of them: nobody is to heed it any more (RFC 6633).
#[inline(always)]
pub(crate) const fn is_icmp_error(kind: u8) -> bool {
    matches!(kind, ICMP_UNREACHABLE | ICMP_TIME_EXCEEDED | ICMP_PARAMETER_PROBLEM)
}

/// Bytes of the frame over all its buffers.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "32 bits in the kernel")]
pub(crate) fn length(ctx: &XdpContext) -> u32 {
    // SAFETY: the program's own context.
    unsafe { bpf_xdp_get_buff_len(ctx.as_ptr().cast()) as u32 }
}

/// Whether the packet is IPv4 without options and no fragment.
#[inline(always)]
pub(crate) fn is_plain(ctx: &XdpContext) -> Result<bool, Reason> {
    let ip = header::<Ipv4>(ctx, L3)?;
    // SAFETY: `header` checked the bounds.
    Ok(unsafe { (*ip).version_ihl == VERSION_IHL && (*ip).fragment_be & FRAGMENT_BITS == 0 })
}

/// Reads the IP header into `packet`, and gives the place of what follows it.
///
/// What [`is_plain`] and the stages after it judged is read once more: the verifier knows values that a branch depended
/// on, and would walk all that follows once for each of them.
#[inline(always)]
pub(crate) fn parse_ip(ctx: &XdpContext, packet: &mut Packet) -> Result<usize, Reason> {
    let ip = header::<Ipv4>(ctx, L3)?;
    // SAFETY: `header` checked the bounds; no reference into the frame is made.
    let words = unsafe {
        packet.total = u32::from(u16::from_be((*ip).total_length_be));
        packet.id_be = u32::from((*ip).id_be);
        packet.fragment_be = (&raw const (*ip).fragment_be).read_volatile();
        packet.ttl = (*ip).ttl;
        packet.key.proto = (*ip).proto;
        packet.key.src_be = (*ip).src_be;
        packet.key.dst_be = (*ip).dst_be;
        usize::from((&raw const (*ip).version_ihl).read_volatile() & 0xf)
    };
    if LINK_HEADER + packet.total > packet.length || packet.key.src_be == packet.key.dst_be {
        return Err(Reason::DropMalformed);
    }
    Ok(L3 + words * 4)
}

/// Parses and checks all headers of a packet that is no later fragment, and gives the place of its transport header.
/// Checksums are not verified: they are updated by difference, so a wrong one stays wrong and the receiver finds it.
#[inline(always)]
pub(crate) fn parse(ctx: &XdpContext, packet: &mut Packet) -> Result<usize, Reason> {
    let l4 = parse_ip(ctx, packet)?;
    parse_transport(ctx, l4, packet)?;
    Ok(l4)
}

/// Parses and checks the transport header at `l4`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "below 256")]
pub(crate) fn parse_transport<A: Family>(
    ctx: &XdpContext,
    l4: usize,
    packet: &mut Packet<A>,
) -> Result<(), Reason> {
    match packet.key.proto {
        PROTO_TCP => parse_tcp(ctx, l4, packet)?,
        PROTO_UDP => parse_udp(ctx, l4, packet)?,
        proto if proto == A::ICMP => parse_icmp(ctx, l4, packet)?,
        // Without ports: the addresses tell its connections apart. It ends behind its IP header, at least (RFC 1812, 5.2.2);
        // the others look further.
        _ if (LINK_HEADER + packet.total) < l4 as u32 => return Err(Reason::DropMalformed),
        _ => {}
    }
    if packet.has_more() && (packet.is_icmp_error() || !payload(packet, l4).is_multiple_of(8)) {
        return Err(Reason::DropFragment);
    }
    Ok(())
}

/// Length of header `T` as lengths of packets are counted.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "some dozens")]
const fn octets<T>() -> u32 {
    size_of::<T>() as u32
}

/// Octets of the packet behind its IP header; the header's own, if there are none.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "below 256")]
pub(crate) const fn payload<A: Address>(packet: &Packet<A>, l4: usize) -> u32 {
    packet.total.saturating_sub((l4 - L3) as u32)
}

#[inline(always)]
fn parse_tcp<A: Family>(ctx: &XdpContext, l4: usize, packet: &mut Packet<A>) -> Result<(), Reason> {
    let tcp = header::<Tcp>(ctx, l4)?;
    // SAFETY: as in `parse`.
    let words = unsafe {
        packet.key.sport_be = (*tcp).sport_be;
        packet.key.dport_be = (*tcp).dport_be;
        packet.seq = u32::from_be((*tcp).seq_be);
        packet.ack = u32::from_be((*tcp).ack_be);
        packet.flags = (*tcp).flags;
        u32::from((*tcp).offset >> 4)
    };
    let header = words * 4;
    if header < octets::<Tcp>() || header > payload(packet, l4) {
        return Err(Reason::DropMalformed);
    }
    Ok(())
}

#[inline(always)]
fn parse_udp<A: Family>(ctx: &XdpContext, l4: usize, packet: &mut Packet<A>) -> Result<(), Reason> {
    let udp = header::<Udp>(ctx, l4)?;
    // SAFETY: as in `parse`.
    let length = unsafe {
        packet.key.sport_be = (*udp).sport_be;
        packet.key.dport_be = (*udp).dport_be;
        u32::from(u16::from_be((*udp).length_be))
    };
    let here = payload(packet, l4);
    // Of a datagram in pieces not all of it is here.
    if length < octets::<Udp>() || here < octets::<Udp>() || (length > here && !packet.has_more()) {
        return Err(Reason::DropMalformed);
    }
    Ok(())
}

#[inline(always)]
fn parse_icmp<A: Family>(ctx: &XdpContext, l4: usize, packet: &mut Packet<A>) -> Result<(), Reason> {
    let echo = header::<Echo>(ctx, l4)?;
    // SAFETY: as in `parse`.
    let (kind, code, id_be) = unsafe { ((*echo).kind, (*echo).code, (*echo).id_be) };
    if payload(packet, l4) < octets::<Echo>() {
        return Err(Reason::DropMalformed);
    }
    packet.icmp = kind;
    if A::is_icmp_error(kind) {
        return Ok(());
    }
    if code != 0 || (kind != A::ECHO_REQUEST && kind != A::ECHO_REPLY) {
        return Err(Reason::DropProtocol);
    }
    packet.key.sport_be = id_be;
    packet.key.dport_be = id_be;
    Ok(())
}

/// Copies `length` octets of the frame from `offset` on; `false` if they are none, more than `room`, or not there.
///
/// # Safety
/// `into` points to `room` octets that may be written.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "lengths of headers, and what was 32 bits before")]
pub(crate) unsafe fn load(ctx: &XdpContext, offset: usize, into: *mut u8, length: u32, room: u32) -> bool {
    // One comparison for both bounds, of a number that is one less: the verifier of Linux 6.1 learns no lower bound from
    // "is not 0". In 64 bits to the end: of the lower 32 alone it does not know what was compared.
    let last = opaque(u64::from(length).wrapping_sub(1));
    if last >= u64::from(room) {
        return false;
    }
    let length = opaque(last + 1);
    // SAFETY: the program's own context, and room for at least that length.
    unsafe { bpf_xdp_load_bytes(ctx.as_ptr().cast(), offset as u32, into.cast(), length as u32) == 0 }
}

/// `value`, of which the compiler forgets what it knew.
#[inline(always)]
pub(crate) fn opaque(mut value: u64) -> u64 {
    // SAFETY: a register moved onto itself.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack, preserves_flags));
    };
    value
}
