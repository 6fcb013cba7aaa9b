//! Stickiness: which address keeps connections on one real, and which addresses have theirs by configuration. Pure.

use std::net::IpAddr;

use super::{Config, Name, Vserver};

/// Which address of a connection its stickiness goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StickyAddress {
    /// The client's, the default.
    #[default]
    Source,
    /// The one that the client speaks to: of a virtual network, each host of it has its real.
    Destination,
    /// Both: each client has a real for each address that it speaks to.
    Both,
}

/// Leading bits of an IPv6 address that count at most where two are one key ([`csm_common::address::Address::paired`]).
pub const PAIRED_BITS6: u8 = 64;

/// What of the leading bits `bits6` of an IPv6 address counts: of two no more than their networks.
#[must_use]
pub const fn counted_bits6(address: StickyAddress, bits6: u8) -> u8 {
    if matches!(address, StickyAddress::Both) && bits6 > PAIRED_BITS6 { PAIRED_BITS6 } else { bits6 }
}

/// `sticky M [group G] [netmask MASK | prefix-length L] [source|destination|both]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// 1–65535 minutes.
    pub minutes: u16,
    /// 0–255; 0 is private to the vserver.
    pub group: u8,
    /// Leading bits of an IPv4 address that count, 0–32; default 32.
    pub bits: u8,
    /// Of an IPv6 address, 0–128; default 128, which of both addresses is [`PAIRED_BITS6`].
    pub bits6: u8,
    /// Of which address.
    pub address: StickyAddress,
}

/// `sticky N netmask MASK | prefix-length L [address source|destination|both] [timeout M]` of the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyGroup {
    /// 1–255.
    pub number: u8,
    /// As in [`Sticky::bits`].
    pub bits: u8,
    /// As in [`Sticky::bits6`].
    pub bits6: u8,
    /// Of which address.
    pub address: StickyAddress,
    /// 1–65535 minutes, default [`StickyGroup::MINUTES`]: of the policies that use it.
    pub minutes: u16,
    /// `static client ...`.
    pub statics: Vec<StaticSticky>,
}

impl StickyGroup {
    /// Minutes without `timeout`.
    pub const MINUTES: u16 = 1440;

    /// One of whole addresses of clients.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self {
            number,
            bits: 32,
            bits6: 128,
            address: StickyAddress::Source,
            minutes: Self::MINUTES,
            statics: Vec::new(),
        }
    }

    /// What it says to who names it alone.
    #[must_use]
    pub const fn rule(&self) -> Sticky {
        let Self { number: group, bits, bits6, address, minutes, .. } = *self;
        Sticky { minutes, group, bits, bits6, address }
    }
}

/// `static client source A [destination B] real R [PORT]`, `static client destination B real R [PORT]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StaticSticky {
    /// Which address it is: that of its group.
    pub address: StickyAddress,
    /// The address; what the group's mask leaves of it counts. Of both: the client's.
    pub client: IpAddr,
    /// Of both: the one that the client speaks to.
    pub destination: Option<IpAddr>,
    /// The real's address, of the same family.
    pub real: IpAddr,
    /// The real's port; `None`: that of any real with the address, one without a port first.
    pub port: Option<u16>,
}

impl Vserver {
    /// The farms that its clients stick to reals of.
    pub fn sticky_farms(&self) -> impl Iterator<Item = &Name> {
        let backup = self.backup.iter().filter(|backup| backup.sticky).map(|backup| &backup.farm);
        self.serverfarm.iter().chain(backup)
    }
}

impl Config {
    /// The section `sticky N`.
    #[must_use]
    pub fn sticky_group(&self, number: u8) -> Option<&StickyGroup> {
        self.sticky_groups.iter().find(|group| group.number == number)
    }

    /// `sticky` of a virtual server as it is in force: mask and address are those of its group, if that has a section.
    #[must_use]
    pub fn sticky_in_force(&self, sticky: Sticky) -> Sticky {
        match self.sticky_group(sticky.group) {
            Some(group) => Sticky { minutes: sticky.minutes, ..group.rule() },
            None => sticky,
        }
    }

    /// Whether anything is sticky by both addresses: such entries stand in the tables of IPv6.
    pub(super) fn sticks_by_both(&self) -> bool {
        let groups = self.sticky_groups.iter().map(|group| group.address);
        let vservers = self.vservers.iter().filter_map(|vserver| Some(vserver.sticky?.address));
        groups.chain(vservers).any(|address| address == StickyAddress::Both)
    }

    /// What is entered in group `number` by `reverse-sticky`, as those have it who stick by it; `None`: there is no such group.
    #[must_use]
    pub fn reverse_in_force(&self, number: u8) -> Option<Sticky> {
        let of_user = self.users_of_sticky(number).find_map(|user| user.sticky);
        of_user.or_else(|| self.sticky_group(number).map(StickyGroup::rule))
    }

    /// The virtual servers, as clients meet them, that are sticky by group `number`.
    pub fn users_of_sticky(&self, number: u8) -> impl Iterator<Item = Vserver> + '_ {
        let faces = self.vservers.iter().flat_map(|vserver| self.faces(vserver)).map(|face| face.vserver);
        faces.filter(move |met| met.sticky.is_some_and(|sticky| sticky.group == number))
    }
}
