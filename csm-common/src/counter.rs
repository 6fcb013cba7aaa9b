//! Counters: one reason for each drop, each pass and each forward.

/// Packets and bytes, one per CPU and reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Count {
    /// Frames.
    pub packets: u64,
    /// Bytes of the frames, link header included.
    pub bytes: u64,
}
crate::map_type!(Count, 16);

/// Frames of no interface that has a slot of its own.
pub const NOT_COUNTED: u32 = 0;

/// Index in `COUNTERS` of what came in by the interface of slot `counted` and ended for `reason`.
#[inline(always)]
#[must_use]
pub const fn index(counted: u32, reason: Reason) -> u32 {
    counted * crate::limits::REASONS_MAX + reason as u32
}

/// Per vserver and per real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ServiceCount {
    /// Connections made.
    pub connections: u64,
    /// Packets from clients.
    pub client_packets: u64,
    /// Packets from servers.
    pub server_packets: u64,
    /// Bytes from clients.
    pub client_bytes: u64,
    /// Bytes from servers.
    pub server_bytes: u64,
}
crate::map_type!(ServiceCount, 40);

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $verdict:ident;)+) => {
        /// Why a frame ended as it did. The number is the place among an interface's in `COUNTERS`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Reason { $($(#[doc = $doc])+ $name),+ }

        impl Reason {
            /// All reasons in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Name in `show`, JSON and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $(Self::$name => $text),+ } }

            /// What became of the frame.
            #[inline(always)]
            #[must_use]
            pub const fn verdict(self) -> Verdict { match self { $(Self::$name => Verdict::$verdict),+ } }
        }
    };
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Sent on.
    Forward,
    /// Given to the kernel.
    Pass,
    /// Dropped.
    Drop,
    /// Kept by the controller; comes again, and is counted again, or is dropped by time.
    Hold,
}

reasons! {
    /// Packet of a known connection, rewritten and sent on.
    ForwardedFlow = "forwarded_flow", Forward;
    /// First packet of a new connection.
    ForwardedNew = "forwarded_new", Forward;
    /// Packet of a server in the middle of a connection that this node did not know: its entry was rebuilt.
    ForwardedRebuilt = "forwarded_rebuilt", Forward;
    /// Routed without address translation (server-initiated).
    ForwardedRouted = "forwarded_routed", Forward;
    /// ARP request for an alias or virtual address, answered.
    ArpReplied = "arp_replied", Forward;
    /// ICMP echo to an alias or virtual address, answered.
    EchoReplied = "echo_replied", Forward;
    /// ICMP error about a packet of a known connection, translated outside and inside.
    ForwardedIcmp = "forwarded_icmp", Forward;
    /// TTL ran out: an ICMP time exceeded went back.
    TimeExceeded = "time_exceeded_sent", Forward;
    /// Longer than the way out allows, and not to be fragmented: ICMP "fragmentation needed" went back.
    TooBig = "frag_needed_sent", Forward;
    /// Fragment that follows the first one of its datagram.
    ForwardedFragment = "forwarded_fragment", Forward;
    /// Fragment that came before the first one of its datagram: kept by the controller, to come again after that one.
    HeldFragment = "held_fragment", Hold;
    /// Stray handed to the successor over the FT VLAN.
    Relayed = "relayed", Forward;
    /// Not IPv4 and not ARP.
    PassProtocol = "pass_protocol", Pass;
    /// Not for the virtual MAC: the node's own traffic.
    PassHost = "pass_host", Pass;
    /// ARP that is the kernel's business.
    PassArp = "pass_arp", Pass;
    /// For the virtual MAC while the gate is closed: a standby is silent.
    DropStandby = "drop_standby", Drop;
    /// ARP for an alias or virtual address while the gate is closed.
    DropArpStandby = "drop_arp_standby", Drop;
    /// Truncated, or header fields that contradict each other.
    DropMalformed = "drop_malformed", Drop;
    /// A fragment that no honest sender makes: it overlaps the first one, is empty, no multiple of 8 octets long though
    /// others follow, reaches beyond the longest datagram, or holds an ICMP error (RFC 1858, RFC 3128).
    DropFragment = "drop_fragment", Drop;
    /// A fragment that came before the first one of its datagram and for which there was no room to wait.
    DropFragmentEarly = "drop_fragment_early", Drop;
    /// A protocol that is not balanced.
    DropProtocol = "drop_protocol", Drop;
    /// The sender prescribes the route by an IP option (LSRR, SSRR).
    DropSourceRoute = "drop_source_route", Drop;
    /// An ICMP error about no connection that is known here.
    DropIcmp = "drop_icmp_unmatched", Drop;
    /// To a virtual address without a virtual server on that port.
    DropNoVserver = "drop_no_vserver", Drop;
    /// The virtual server has no farm or is not in service (MIB: NoCfgPolicyRejects).
    DropNoPolicy = "drop_no_cfg_policy", Drop;
    /// No real server in rotation (MIB: NoActiveServerRejects).
    DropNoReal = "drop_no_active_server", Drop;
    /// TCP that belongs to no connection and is no SYN; an echo reply that nobody asked for.
    DropNoConnection = "drop_no_connection", Drop;
    /// First packet of a connection that is to be replicated, while the controller reads nothing: its client asks again.
    DropStalled = "drop_controller_stalled", Drop;
    /// No route to the destination, or none back to the source of a first packet.
    DropNoRoute = "drop_no_route", Drop;
    /// First packet from a source that cannot be there: its way back leads out of another VLAN, it is no host's address,
    /// or one of the group's own.
    DropSource = "drop_source", Drop;
    /// Next hop without a known MAC address.
    DropUnresolved = "drop_unresolved", Drop;
    /// The connection table is full (MIB: OutOfMemoryRejects).
    DropTableFull = "drop_out_of_memory", Drop;
    /// TTL ran out, and no ICMP error was due or allowed.
    DropTtl = "drop_ttl", Drop;
    /// Longer than the way out allows; it may be fragmented, which is not done here, or no ICMP error was due or allowed.
    DropTooBig = "drop_too_big", Drop;
    /// From the client side to a server's own address (A13: direct access needs a `predictor forward` vserver).
    DropDirect = "drop_direct_access", Drop;
    /// Relayed stray that this node may not take (gate neither open nor relay-in), or one to relay without a known peer.
    DropRelay = "drop_relay", Drop;
    /// A fault of the program itself: a map look-up that cannot fail did.
    DropInternal = "drop_internal", Drop;
    /// A live connection of another virtual server uses the same addresses and ports on the server side.
    DropConflict = "drop_conflict", Drop;
    /// From the node's own kernel to a VLAN of a trunk, tagged on its way.
    ForwardedKernel = "forwarded_kernel", Forward;
    /// Bridged: not for the group, from one VLAN of a bridge group to the other, as it is.
    ForwardedBridged = "forwarded_bridged", Forward;
    /// Came back with this node's own or the group's source address: somebody else joins the two bridged VLANs.
    DropLoop = "drop_loop", Drop;
    /// With the tag of a VLAN that the port does not carry for csmd.
    PassVlan = "pass_vlan", Pass;
    /// No address and port of the client NAT pool is free towards the chosen real.
    DropPoolExhausted = "drop_natpool_exhausted", Drop;
    /// Segment of a connection that was cleared: a TCP reset went back.
    ResetSent = "reset_sent", Forward;
    /// Of a connection that was cleared, and nothing that a reset could answer: itself a reset, or without ACK.
    DropCleared = "drop_cleared", Drop;
    /// First packet of a connection that a host opens for which `static drop` is configured.
    DropStatic = "drop_static", Drop;
    /// ICMP error about a packet of a tunnel of this node: how long such packets may be is noted.
    DropNarrow = "drop_tunnel_too_big", Drop;
    /// Routed by this host as the active router of an HSRP group.
    RoutedHost = "routed_by_host", Forward;
    /// For the MAC address of an HSRP group whose active router another one is, or for its address by ARP.
    DropGroupStandby = "drop_hsrp_standby", Drop;
    /// The module's packet for the router on the same host. Never counted: it ends in what the router does with it.
    ToRouter = "to_router", Forward;
    /// A stray for the successor that is longer than the MTU of the FT VLAN.
    DropRelayTooBig = "drop_relay_too_big", Drop;
    /// First packet to a virtual server beyond its `rate-limit connections`.
    DropRate = "drop_rate_limit", Drop;
    /// First packet of a client beyond the virtual server's `rate-limit client`.
    DropClientRate = "drop_client_rate_limit", Drop;
    /// First packet to a virtual server whose reals in rotation are all at their `maxconns`.
    DropMaxConns = "drop_max_conns", Drop;
    /// A first packet, for the program that opens connections. Never counted: it ends in what becomes of it there.
    ToOpen = "to_open", Forward;
    /// What would prove a connection to a virtual server that has had its share of a crowded connection table.
    DropShare = "drop_no_share", Drop;
    /// First packet from a client that no policy of the virtual server is for, which has no farm of its own (MIB:
    /// NoMatchPolicyRejects).
    DropNoMatch = "drop_no_match_policy", Drop;
    /// First packet to a virtual server that is at its `max-conns`.
    DropVserverFull = "drop_vserver_max_conns", Drop;
    /// First packet to a virtual server whose owner is at its `maxconns`.
    DropOwnerFull = "drop_owner_max_conns", Drop;
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn numbers_follow_the_table() {
        for (index, &reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
