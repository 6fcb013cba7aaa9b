//! Virtual servers, reals, the predictor ring, sticky entries and settings.

/// What a first packet is matched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct VserverKey {
    /// Virtual address, network order.
    pub ip_be: u32,
    /// Port, network order; 0 matches any port (looked up second).
    pub port_be: u16,
    /// IP protocol.
    pub proto: u8,
    /// Must be 0.
    pub pad: u8,
}
crate::map_type!(VserverKey, 8);

/// Value of `VSERVERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Vserver {
    /// `VSERVER_*` bits.
    pub flags: u32,
    /// Slots in use in this vserver's ring; 0 while no real is in rotation.
    pub ring_len: u32,
    /// Idle time of a proven connection, seconds; 0: never.
    pub idle_s: u32,
    /// Life of a half-open connection, seconds.
    pub pending_s: u32,
    /// Sticky life, seconds; 0: not sticky.
    pub sticky_s: u32,
    /// Mask on the client's address before the sticky look-up, network order.
    pub sticky_mask_be: u32,
    /// Sticky group; a private group (configured as 0) is 256 + vserver number.
    pub sticky_group: u32,
    /// Ingress VLAN that is matched; 0: any.
    pub vlan: u32,
    /// Its farm, as in [`Real::farm`].
    pub farm: u32,
}
crate::map_type!(Vserver, 36);

/// In service: configured so and has a farm.
pub const VSERVER_INSERVICE: u32 = 1;
/// `replicate csrp connection`.
pub const VSERVER_REPLICATE: u32 = 2;
/// `replicate csrp sticky`.
pub const VSERVER_REPLICATE_STICKY: u32 = 4;

/// Value of `REALS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Real {
    /// Address, network order.
    pub ip_be: u32,
    /// Port, network order; 0: the virtual server's.
    pub port_be: u16,
    /// VLAN it is on.
    pub vlan: u16,
    /// Next-hop number.
    pub nexthop: u32,
    /// `REAL_*` bits.
    pub flags: u32,
    /// Its farm: a sticky group may span virtual servers of several farms, a client is only sent within its own.
    pub farm: u32,
}
crate::map_type!(Real, 20);

/// In service and healthy: new connections may be sent to it (the ring holds only such reals).
pub const REAL_USABLE: u32 = 1;
/// In service and healthy, perhaps of weight 0: sticky clients keep coming.
pub const REAL_STICKY: u32 = 2;

/// Value of `ORIGINS`, whose key is a [`VserverKey`] with address and port of a real: the one virtual server that a packet
/// from there can belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Origin {
    /// Virtual address, network order.
    pub virtual_be: u32,
    /// Virtual port, network order.
    pub port_be: u16,
    /// Must be 0.
    pub pad: u16,
    /// Number of the virtual server.
    pub vserver: u32,
    /// Number of the real.
    pub real: u32,
}
crate::map_type!(Origin, 16);

/// Slot `slot` of vserver `vserver` in `RINGS`, a flat array.
#[inline(always)]
#[must_use]
pub const fn ring_slot(vserver: u32, slot: u32) -> u32 {
    vserver * crate::limits::RING_SLOTS + slot
}

/// Key of `STICKY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct StickyKey {
    /// See [`Vserver::sticky_group`].
    pub group: u32,
    /// Client address after masking, network order.
    pub client_be: u32,
}
crate::map_type!(StickyKey, 8);

/// Value of `STICKY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StickyEntry {
    /// CLOCK_MONOTONIC ns of the last use; the timer runs from here.
    pub last_used_ns: u64,
    /// Life in seconds.
    pub life_s: u32,
    /// Real server number.
    pub real: u32,
}
crate::map_type!(StickyEntry, 16);

/// One entry: what is the same for every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// The group's virtual MAC.
    pub virtual_mac: [u8; 6],
    /// The peer's MAC on the FT VLAN, where strays are relayed to; zero while unknown.
    pub peer_mac: [u8; 6],
    /// Number of the FT port in `TX_PORTS`.
    pub ft_port: u16,
    /// VLAN of the tag with which frames leave by the FT port; 0: without one.
    pub ft_tag: u16,
    /// CLOCK_MONOTONIC ns of the last takeover: replicated entries count as seen then, without touching each.
    pub adopted_ns: u64,
}
crate::map_type!(Settings, 24);
