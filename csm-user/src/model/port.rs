//! Ports of the host, and the VLANs on them. Pure.

use std::fmt;

use super::{Config, VlanId};

/// A port of the host: `interface NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name in Linux, e.g. `eth1`.
    pub name: String,
    /// Its VLANs.
    pub mode: PortMode,
    /// `xdp mode auto|native|generic`.
    pub xdp: XdpMode,
}

/// How the program is to be attached to a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum XdpMode {
    /// In the driver if it can, else in the network stack, with a warning.
    Auto,
    /// In the driver, or not at all.
    #[default]
    Native,
    /// In the network stack, on a copy of each frame: slow.
    Generic,
}

/// Which VLANs a port carries, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortMode {
    /// `switchport access vlan N`: one VLAN, untagged.
    Access(VlanId),
    /// `switchport mode trunk`: several VLANs, tagged.
    Trunk(Trunk),
    /// None: `ip address` makes it a port of this host as a router.
    Routed,
    /// None of its own: `channel-group N mode M` makes it one of the ports of `interface Port-channelN`.
    Member(ChannelPort),
}

/// `channel-group N mode on|active|passive`: a port's part in a link aggregation group, which is a bond in Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelPort {
    /// N, 1-256.
    pub channel: u16,
    /// M.
    pub mode: ChannelMode,
}

/// How the two ends of a port channel agree on its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelMode {
    /// Not at all: all ports with a carrier are used (`balance-xor`).
    On,
    /// By LACP (IEEE 802.1AX), which this end begins (`802.3ad`).
    Active,
    /// By LACP, which the other end begins (`802.3ad`, `lacp_active off`).
    Passive,
}

impl ChannelMode {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Active => "active",
            Self::Passive => "passive",
        }
    }
}

/// Largest number of a port channel, as in IOS.
pub const CHANNELS_MAX: u16 = 256;

/// Name of the bond of a port channel, here and in Linux: with three digits it just fits.
#[must_use]
pub fn channel_name(channel: u16) -> String {
    format!("Port-channel{channel}")
}

/// The number in the name of a port channel as [`channel_name`] writes it.
#[must_use]
pub fn channel_of_name(name: &str) -> Option<u16> {
    let digits = name.strip_prefix("Port-channel")?;
    let plain = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| plain && (1..=CHANNELS_MAX).contains(number))
}

impl Config {
    /// The ports of `channel`, in the order of the configuration.
    pub fn channel_ports(&self, channel: u16) -> impl Iterator<Item = (&str, ChannelMode)> {
        self.interfaces.iter().filter_map(move |port| match port.mode {
            PortMode::Member(of) if of.channel == channel => Some((port.name.as_str(), of.mode)),
            _ => None,
        })
    }

    /// Whether there is anything behind `port`: a port channel has the ports that say they are its own.
    #[must_use]
    pub fn has_links(&self, port: &Interface) -> bool {
        channel_of_name(&port.name).is_none_or(|channel| self.channel_ports(channel).next().is_some())
    }

    /// The interface called `name`.
    #[must_use]
    pub fn interface_named(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    /// The port channels that have ports: number, how they are agreed on, their names. What differs from the first is refused
    /// by the check of the configuration.
    pub fn channels(&self) -> impl Iterator<Item = (u16, ChannelMode, Vec<&str>)> {
        let of_port = |port: &Interface| match port.mode {
            PortMode::Member(of) => Some(of.channel),
            _ => None,
        };
        let numbers: std::collections::BTreeSet<u16> = self.interfaces.iter().filter_map(of_port).collect();
        numbers.into_iter().filter_map(|number| {
            let (_, mode) = self.channel_ports(number).next()?;
            Some((number, mode, self.channel_ports(number).map(|(name, _)| name).collect()))
        })
    }
}

/// `switchport trunk ...`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trunk {
    /// `allowed vlan LIST`; default: all.
    pub allowed: VlanSet,
    /// `native vlan N`: the VLAN of untagged frames; default 1, which is no VLAN of the module.
    pub native: Option<VlanId>,
}

/// How a port carries a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// Without a tag.
    Untagged,
    /// With an 802.1Q tag.
    Tagged,
}

impl Interface {
    /// Whether the port carries `vlan`, and how.
    #[must_use]
    pub fn carries(&self, vlan: VlanId) -> Option<Carried> {
        match &self.mode {
            PortMode::Routed | PortMode::Member(_) => None,
            PortMode::Access(access) => (*access == vlan).then_some(Carried::Untagged),
            PortMode::Trunk(trunk) if !trunk.allowed.contains(vlan.get()) => None,
            PortMode::Trunk(trunk) if trunk.native == Some(vlan) => Some(Carried::Untagged),
            PortMode::Trunk(_) => Some(Carried::Tagged),
        }
    }
}

/// Names of the veth pair through which the kernel takes part in a VLAN of a trunk: its own end, the program's end.
#[must_use]
pub fn veth_names(vlan: VlanId) -> (String, String) {
    (format!("csmv{vlan}"), format!("csmx{vlan}"))
}

/// First and last VLAN of 802.1Q.
const FIRST: u16 = 1;
const LAST: u16 = 4094;

/// A set of VLANs, 1-4094, as `2,3-5`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanSet {
    /// Ascending, with gaps between them.
    ranges: Vec<(u16, u16)>,
}

/// All VLANs.
impl Default for VlanSet {
    fn default() -> Self {
        Self { ranges: vec![(FIRST, LAST)] }
    }
}

impl VlanSet {
    /// No VLAN.
    pub const NONE: Self = Self { ranges: Vec::new() };

    /// Of a list of numbers and ranges: `2,3-5`; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |word: &str| {
                let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
                word.parse::<u16>().ok().filter(|number| digits && (FIRST..=LAST).contains(number))
            };
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return None;
            }
            ranges.push((first, last));
        }
        Some(Self::of(ranges))
    }

    /// Sorted and joined.
    fn of(mut ranges: Vec<(u16, u16)>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::new();
        for (first, last) in ranges {
            match joined.last_mut() {
                Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        Self { ranges: joined }
    }

    /// Whether `vlan` is in it.
    #[must_use]
    pub fn contains(&self, vlan: u16) -> bool {
        self.ranges.iter().any(|&(first, last)| (first..=last).contains(&vlan))
    }

    /// Both together.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self::of(self.ranges.iter().chain(&other.ranges).copied().collect())
    }

    /// This without `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let kept = (FIRST..=LAST).filter(|&vlan| self.contains(vlan) && !other.contains(vlan));
        Self::of(kept.map(|vlan| (vlan, vlan)).collect())
    }
}

/// `2,3-5`; `none` if there is no VLAN.
impl fmt::Display for VlanSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ranges.is_empty() {
            return f.write_str("none");
        }
        for (index, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_joined() {
        let set = |text: &str| VlanSet::parse(text).map(|set| set.to_string());
        assert_eq!(set("5,2,3-4,9").as_deref(), Some("2-5,9"));
        assert_eq!(set("1-4094"), Some(VlanSet::default().to_string()));
        for bad in ["", "0", "4095", "5-3", "2,", "2--3", "+2", "a", "2, 3"] {
            assert_eq!(set(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_port_channel_is_known_by_its_number() {
        assert_eq!(channel_of_name(&channel_name(256)), Some(256));
        assert_eq!(channel_name(CHANNELS_MAX).len(), 15, "what Linux takes as a name");
        for other in
            ["Port-channel", "Port-channel0", "Port-channel257", "Port-channel01", "Port-channel+1", "eth1"]
        {
            assert_eq!(channel_of_name(other), None, "{other}");
        }
    }

    #[test]
    fn sets_are_added_and_taken_away() {
        let set = |text| VlanSet::parse(text).expect("a list");
        assert_eq!(set("2-5").without(&set("3")).to_string(), "2,4-5");
        assert_eq!(set("2").with(&set("3,7")).to_string(), "2-3,7");
        assert_eq!(set("2").without(&set("2")), VlanSet::NONE);
        assert_eq!(VlanSet::NONE.to_string(), "none");
    }

    #[test]
    fn a_trunk_carries_what_is_allowed_and_its_native_vlan_without_a_tag() {
        let vlan = |number| VlanId::new(number).expect("in range");
        let allowed = VlanSet::parse("2-3").expect("a list");
        let trunk = Trunk { allowed, native: Some(vlan(2)) };
        let port = Interface { name: "eth1".into(), mode: PortMode::Trunk(trunk), xdp: XdpMode::Native };
        assert_eq!(port.carries(vlan(2)), Some(Carried::Untagged));
        assert_eq!(port.carries(vlan(3)), Some(Carried::Tagged));
        assert_eq!(port.carries(vlan(4)), None);
    }
}
