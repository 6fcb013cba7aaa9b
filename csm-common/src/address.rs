//! The two families of addresses, as keys and values hold them: in network order, as they stand on the wire.
//!
//! Whatever holds an address is generic over it, IPv4 unless said otherwise, so that both families go by one source.

use core::fmt::Debug;
use core::hash::Hash;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{checksum, hash};

/// An address of one family.
pub trait Address: Copy + Eq + Ord + Hash + Debug + Default + 'static {
    /// Its length.
    const BITS: u32;
    /// The one that no host has.
    const UNSPECIFIED: Self;
    /// What is left of a [`crate::flow::FlowEntry`]: must be 0.
    type Reserved: Copy + Eq + Debug;
    /// That.
    const RESERVED: Self::Reserved;

    /// Partial sum for replacing `old` with `new`, see [`checksum`].
    #[must_use]
    fn replace(old: Self, new: Self) -> u32;
    /// Partial sum of its words.
    #[must_use]
    fn sum(self) -> u32;
    /// Those bits that `mask` has, too.
    #[must_use]
    fn masked(self, mask: Self) -> Self;
    /// Without its lowest `host_bits` (all of them or more: none are left).
    #[must_use]
    fn network(self, host_bits: u8) -> Self;
    /// The mask of that prefix length.
    #[must_use]
    fn mask(prefix_length: u8) -> Self;
    /// The `n`th address after this one.
    #[must_use]
    fn plus(self, n: u32) -> Self;
    /// 32 bits of it for a hash that both nodes compute alike.
    #[must_use]
    fn folded(self) -> u32;
    /// This address and `other` in the room of one of IPv6: see [`V6::unpaired`].
    #[must_use]
    fn paired(self, other: Self) -> V6;
}

/// Before the two addresses of a pair of IPv4: the prefix to which packets are thrown away (RFC 6666), so no host has such an address.
const PAIR_V4: [u32; 2] = [0x0100_0000_u32.to_be(), 0];

impl Address for u32 {
    const BITS: u32 = Self::BITS;
    const UNSPECIFIED: Self = 0;
    type Reserved = u32;
    const RESERVED: Self::Reserved = 0;

    #[inline(always)]
    fn replace(old: Self, new: Self) -> u32 {
        checksum::replace32(old, new)
    }

    #[inline(always)]
    fn sum(self) -> u32 {
        checksum::replace32(Self::MAX, self)
    }

    #[inline(always)]
    fn masked(self, mask: Self) -> Self {
        self & mask
    }

    #[inline(always)]
    fn network(self, host_bits: u8) -> Self {
        if host_bits >= 32 {
            return 0;
        }
        (Self::from_be(self) >> host_bits << host_bits).to_be()
    }

    #[inline(always)]
    fn mask(prefix_length: u8) -> Self {
        Self::MAX.network(32_u8.saturating_sub(prefix_length))
    }

    #[inline(always)]
    fn plus(self, n: u32) -> Self {
        Self::from_be(self).wrapping_add(n).to_be()
    }

    #[inline(always)]
    fn folded(self) -> u32 {
        Self::from_be(self)
    }

    #[inline(always)]
    fn paired(self, other: Self) -> V6 {
        V6([PAIR_V4[0], PAIR_V4[1], self, other])
    }
}

/// An IPv6 address: its four words as on the wire, aligned to 4 as the network header's place in a frame is at best.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialOrd, Ord)]
#[expect(
    clippy::derived_hash_with_manual_eq,
    reason = "equal is what has equal words, as if it were derived"
)]
#[repr(C)]
pub struct V6(pub [u32; 4]);
crate::map_type!(V6, 16);

impl PartialEq for V6 {
    // Derived, it is a call that compares octet by octet in the dataplane.
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
    }
}

impl V6 {
    /// The address with these octets.
    #[inline(always)]
    #[must_use]
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ])
    }

    /// Its octets.
    #[inline(always)]
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        let [w, x, y, z] = self.0;
        let ([a, b, c, d], [e, f, g, h]) = (w.to_ne_bytes(), x.to_ne_bytes());
        let ([i, j, k, l], [m, n, o, p]) = (y.to_ne_bytes(), z.to_ne_bytes());
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// Word `index` in host order; the first is the highest.
    #[inline(always)]
    const fn word(self, index: usize) -> u32 {
        u32::from_be(self.0[index])
    }

    /// The two addresses that [`Address::paired`] put together: whole ones of IPv4, of IPv6 the first 64 bits of each. What is no
    /// pair is read as one of IPv6.
    #[must_use]
    pub fn unpaired(self) -> [IpAddr; 2] {
        let Self([a, b, c, d]) = self;
        match [a, b] {
            PAIR_V4 => [c, d].map(|word| Ipv4Addr::from(word.to_ne_bytes()).into()),
            _ => [[a, b], [c, d]].map(|[high, low]| Ipv6Addr::from(Self([high, low, 0, 0])).into()),
        }
    }

    /// To a group (RFC 4291, section 2.7).
    #[inline(always)]
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.word(0) >> 24 == 0xff
    }

    /// Of one link only (RFC 4291, section 2.5.6).
    #[inline(always)]
    #[must_use]
    pub const fn is_link_local(self) -> bool {
        self.word(0) >> 22 == 0x3fa
    }

    /// An address that one host may have on a network: not unspecified, loopback, multicast, nor one that holds an IPv4
    /// address (RFC 6890).
    #[inline(always)]
    #[must_use]
    pub const fn is_host(self) -> bool {
        // ::/96 and ::ffff:0:0/96.
        let holds_v4 = self.0[0] | self.0[1] == 0 && matches!(self.word(2), 0 | 0xffff);
        !holds_v4 && !self.is_multicast()
    }

    /// The group in which its neighbours look for it (RFC 4291, section 2.7.1).
    #[inline(always)]
    #[must_use]
    pub const fn solicited_node(self) -> Self {
        Self([0xff02_0000_u32.to_be(), 0, 1_u32.to_be(), (self.word(3) | 0xff00_0000).to_be()])
    }

    /// The MAC address of this group (RFC 2464, section 7).
    #[inline(always)]
    #[must_use]
    pub const fn multicast_mac(self) -> [u8; 6] {
        let [a, b, c, d] = self.0[3].to_ne_bytes();
        [0x33, 0x33, a, b, c, d]
    }
}

impl From<Ipv6Addr> for V6 {
    fn from(address: Ipv6Addr) -> Self {
        Self::from_octets(address.octets())
    }
}

impl From<V6> for Ipv6Addr {
    fn from(address: V6) -> Self {
        Self::from(address.octets())
    }
}

/// The highest `length` bits of a word in host order.
#[inline(always)]
const fn high_bits(length: u32) -> u32 {
    if length == 0 { 0 } else { u32::MAX << (32 - length) }
}

/// How many of `length` bits lie in the word that `before` bits precede.
#[inline(always)]
const fn bits_in_word(length: u32, before: u32) -> u32 {
    let rest = length.saturating_sub(before);
    if rest > 32 { 32 } else { rest }
}

impl Address for V6 {
    const BITS: u32 = 128;
    const UNSPECIFIED: Self = Self([0; 4]);
    type Reserved = ();
    const RESERVED: Self::Reserved = ();

    #[inline(always)]
    fn replace(old: Self, new: Self) -> u32 {
        checksum::replace32(old.0[0], new.0[0])
            + checksum::replace32(old.0[1], new.0[1])
            + checksum::replace32(old.0[2], new.0[2])
            + checksum::replace32(old.0[3], new.0[3])
    }

    #[inline(always)]
    fn sum(self) -> u32 {
        Self::replace(Self([u32::MAX; 4]), self)
    }

    #[inline(always)]
    fn masked(self, mask: Self) -> Self {
        Self([self.0[0] & mask.0[0], self.0[1] & mask.0[1], self.0[2] & mask.0[2], self.0[3] & mask.0[3]])
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "at most 128")]
    fn network(self, host_bits: u8) -> Self {
        self.masked(Self::mask((Self::BITS as u8).saturating_sub(host_bits)))
    }

    #[inline(always)]
    fn mask(prefix_length: u8) -> Self {
        let word = |before| high_bits(bits_in_word(prefix_length as u32, before)).to_be();
        Self([word(0), word(32), word(64), word(96)])
    }

    #[inline(always)]
    fn plus(self, n: u32) -> Self {
        let (d, carry) = self.word(3).overflowing_add(n);
        let (c, carry) = self.word(2).overflowing_add(carry as u32);
        let (b, carry) = self.word(1).overflowing_add(carry as u32);
        let a = self.word(0).wrapping_add(carry as u32);
        Self([a.to_be(), b.to_be(), c.to_be(), d.to_be()])
    }

    #[inline(always)]
    fn folded(self) -> u32 {
        let mut folded = 0;
        folded = hash::mix(folded ^ self.word(0));
        folded = hash::mix(folded ^ self.word(1));
        folded = hash::mix(folded ^ self.word(2));
        hash::mix(folded ^ self.word(3))
    }

    #[inline(always)]
    fn paired(self, other: Self) -> V6 {
        Self([self.0[0], self.0[1], other.0[0], other.0[1]])
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, V6};
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;

    fn v6(text: &str) -> V6 {
        text.parse::<Ipv6Addr>().expect("an address").into()
    }

    #[test]
    fn a_pair_comes_apart_again_and_of_ipv6_only_networks_are_kept() {
        let [client, to] = [Ipv4Addr::new(10, 1, 1, 7), Ipv4Addr::new(192, 0, 2, 9)];
        let pair = |left: Ipv4Addr, right: Ipv4Addr| {
            u32::from_ne_bytes(left.octets()).paired(u32::from_ne_bytes(right.octets()))
        };
        assert_eq!(pair(client, to).unpaired(), [client.into(), IpAddr::from(to)]);
        assert_ne!(pair(client, to), pair(to, client));
        assert_eq!(
            Ipv6Addr::from(pair(client, to)),
            "100::a01:107:c000:209".parse::<Ipv6Addr>().expect("one")
        );
        let [client, to] = ["2001:db8:1:2:3::4", "fd00:9:8:7::6"].map(v6);
        assert_eq!(
            client.paired(to).unpaired(),
            ["2001:db8:1:2::", "fd00:9:8:7::"].map(|text| text.parse::<IpAddr>().expect("one"))
        );
    }

    proptest! {
        #[test]
        fn a_network_is_what_its_mask_leaves(octets: [u8; 16], host_bits in 0u8..=128) {
            let address = V6::from_octets(octets);
            let shifted = |value: u128| value.checked_shr(host_bits.into()).unwrap_or(0).checked_shl(host_bits.into()).unwrap_or(0);
            let wanted = V6::from(Ipv6Addr::from_bits(shifted(u128::from_be_bytes(octets))));
            prop_assert_eq!(address.network(host_bits), wanted);
            prop_assert_eq!(address.masked(V6::mask(128 - host_bits)), wanted);
            prop_assert_eq!(V6::from_octets(address.octets()), address);
        }

        #[test]
        fn a_network_of_ipv4_is_what_its_mask_leaves(bits: u32, host_bits in 0u8..=32) {
            let wanted = bits.checked_shr(host_bits.into()).unwrap_or(0).checked_shl(host_bits.into()).unwrap_or(0);
            prop_assert_eq!(bits.to_be().network(host_bits), wanted.to_be());
            prop_assert_eq!(bits.to_be().masked(u32::mask(32 - host_bits)), wanted.to_be());
        }

        #[test]
        fn addresses_are_counted_across_words(bits: u128, n: u32) {
            let wanted = V6::from(Ipv6Addr::from_bits(bits.wrapping_add(n.into())));
            prop_assert_eq!(V6::from(Ipv6Addr::from_bits(bits)).plus(n), wanted);
        }
    }

    #[test]
    fn addresses_of_hosts_and_groups_are_told_apart() {
        for host in ["2001:db8::1", "fe80::1", "fd00::7"] {
            assert!(v6(host).is_host(), "{host}");
        }
        for other in ["::", "::1", "ff02::1", "::ffff:192.0.2.1", "::192.0.2.1"] {
            assert!(!v6(other).is_host(), "{other}");
        }
        assert!(v6("fe80::1").is_link_local() && v6("febf::1").is_link_local());
        assert!(!v6("fec0::1").is_link_local() && !v6("2001:db8::1").is_link_local());
        assert_eq!(v6("2001:db8::12:3456").solicited_node(), v6("ff02::1:ff12:3456"));
        assert_eq!(v6("ff02::1:ff12:3456").multicast_mac(), [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(
            u32::from_ne_bytes(Ipv4Addr::new(10, 0, 0, 255).octets()).plus(1),
            u32::from_ne_bytes([10, 0, 1, 0])
        );
    }
}
