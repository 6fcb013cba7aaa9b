//! Bounds-checked access to the frame, and the view of it that later stages work on.
//!
//! Options in the IPv4 header are refused, so every header stands at a fixed offset and a bounds check is one compare.
//! A frame is in one piece: the program does not claim multi-buffer frames (BPF_F_XDP_HAS_FRAGS), so drivers refuse it
//! at an MTU beyond a page.

use aya_ebpf::programs::XdpContext;
use csm_common::counter::Reason;
use csm_common::flow::FlowKey;

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800u16.to_be();
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806u16.to_be();
pub(crate) const ETHERTYPE_VLAN: u16 = 0x8100u16.to_be();

pub(crate) const PROTO_ICMP: u8 = 1;
pub(crate) const PROTO_TCP: u8 = 6;
pub(crate) const PROTO_UDP: u8 = 17;

pub(crate) const TCP_FIN: u8 = 0x01;
pub(crate) const TCP_SYN: u8 = 0x02;
pub(crate) const TCP_RST: u8 = 0x04;
pub(crate) const TCP_ACK: u8 = 0x10;

pub(crate) const ICMP_ECHO_REPLY: u8 = 0;
pub(crate) const ICMP_ECHO_REQUEST: u8 = 8;

/// Where the network header stands.
pub(crate) const L3: usize = size_of::<Ethernet>();
/// Where the transport header stands.
pub(crate) const L4: usize = L3 + size_of::<Ipv4>();

/// More fragments, or an offset.
const FRAGMENT_BITS: u16 = 0x3fff_u16.to_be();
/// Version 4, five words.
const VERSION_IHL: u8 = 0x45;

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

/// An IPv4 packet for the group.
pub(crate) struct Packet {
    pub(crate) key: FlowKey,
    /// CLOCK_MONOTONIC.
    pub(crate) now_ns: u64,
    pub(crate) ingress: Ingress,
    /// Bytes of the frame.
    pub(crate) length: u32,
    /// TCP, host order; 0 otherwise.
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    /// TCP flags; 0 otherwise.
    pub(crate) flags: u8,
    /// ICMP type; 0 otherwise.
    pub(crate) icmp: u8,
    pub(crate) ttl: u8,
}

impl Packet {
    /// Whether it may open a connection: a SYN and nothing but, a datagram, an echo request.
    #[inline(always)]
    pub(crate) const fn opens(&self) -> bool {
        match self.key.proto {
            PROTO_TCP => self.flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN) == TCP_SYN,
            PROTO_ICMP => self.icmp == ICMP_ECHO_REQUEST,
            _ => true,
        }
    }
}

/// Parses and checks all headers. Checksums are not verified: they are updated by difference, so a wrong one stays
/// wrong and the receiver finds it.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a frame in one piece is shorter than a page")]
pub(crate) fn parse(ctx: &XdpContext, ingress: Ingress, now_ns: u64) -> Result<Packet, Reason> {
    let frame_length = ctx.data_end() - ctx.data();
    let ip = header::<Ipv4>(ctx, L3)?;
    // SAFETY: `header` checked the bounds; no reference into the frame is made.
    let (version_ihl, total_length, fragment_be, ttl, proto, src_be, dst_be) = unsafe {
        (
            (*ip).version_ihl,
            u16::from_be((*ip).total_length_be) as usize,
            (*ip).fragment_be,
            (*ip).ttl,
            (*ip).proto,
            (*ip).src_be,
            (*ip).dst_be,
        )
    };
    if version_ihl != VERSION_IHL {
        let options = version_ihl >> 4 == 4 && version_ihl & 0xf > 5;
        return Err(if options { Reason::DropProtocol } else { Reason::DropMalformed });
    }
    if L3 + total_length > frame_length || src_be == dst_be {
        return Err(Reason::DropMalformed);
    }
    if fragment_be & FRAGMENT_BITS != 0 {
        return Err(Reason::DropFragment);
    }
    let mut packet = Packet {
        key: FlowKey { src_be, dst_be, sport_be: 0, dport_be: 0, vlan: ingress.vlan, proto, pad: 0 },
        now_ns,
        ingress,
        length: frame_length as u32,
        seq: 0,
        ack: 0,
        flags: 0,
        icmp: 0,
        ttl,
    };
    match proto {
        PROTO_TCP => parse_tcp(ctx, &mut packet, total_length)?,
        PROTO_UDP => parse_udp(ctx, &mut packet, total_length)?,
        PROTO_ICMP => parse_echo(ctx, &mut packet, total_length)?,
        _ => return Err(Reason::DropProtocol),
    }
    Ok(packet)
}

#[inline(always)]
fn parse_tcp(ctx: &XdpContext, packet: &mut Packet, total_length: usize) -> Result<(), Reason> {
    let tcp = header::<Tcp>(ctx, L4)?;
    // SAFETY: as in `parse`.
    let words = unsafe {
        packet.key.sport_be = (*tcp).sport_be;
        packet.key.dport_be = (*tcp).dport_be;
        packet.seq = u32::from_be((*tcp).seq_be);
        packet.ack = u32::from_be((*tcp).ack_be);
        packet.flags = (*tcp).flags;
        usize::from((*tcp).offset >> 4)
    };
    let header = words * 4;
    if header < size_of::<Tcp>() || size_of::<Ipv4>() + header > total_length {
        return Err(Reason::DropMalformed);
    }
    Ok(())
}

#[inline(always)]
fn parse_udp(ctx: &XdpContext, packet: &mut Packet, total_length: usize) -> Result<(), Reason> {
    let udp = header::<Udp>(ctx, L4)?;
    // SAFETY: as in `parse`.
    let length = unsafe {
        packet.key.sport_be = (*udp).sport_be;
        packet.key.dport_be = (*udp).dport_be;
        u16::from_be((*udp).length_be) as usize
    };
    if length < size_of::<Udp>() || size_of::<Ipv4>() + length > total_length {
        return Err(Reason::DropMalformed);
    }
    Ok(())
}

#[inline(always)]
fn parse_echo(ctx: &XdpContext, packet: &mut Packet, total_length: usize) -> Result<(), Reason> {
    let echo = header::<Echo>(ctx, L4)?;
    // SAFETY: as in `parse`.
    let (kind, code, id_be) = unsafe { ((*echo).kind, (*echo).code, (*echo).id_be) };
    if size_of::<Ipv4>() + size_of::<Echo>() > total_length {
        return Err(Reason::DropMalformed);
    }
    if code != 0 || (kind != ICMP_ECHO_REQUEST && kind != ICMP_ECHO_REPLY) {
        return Err(Reason::DropProtocol);
    }
    packet.icmp = kind;
    packet.key.sport_be = id_be;
    packet.key.dport_be = id_be;
    Ok(())
}
