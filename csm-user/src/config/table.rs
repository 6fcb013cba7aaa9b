//! The command table: the grammar, the help, the `no` form, the default, the printer and the reference document.
//!
//! Order: commands of a mode are printed in the order in which they stand here. Defaults and ranges are the CSM's.

use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::command::{
    Command, Id,
    Mode::{Any, Ft, Global, Interface, Module, Vlan},
    Print, Repeat,
};
use super::grammar::Kind::{self, Host, Mask, Network, Number};
use super::grammar::Piece::{self, Either, Optional, Slot, Word};
use super::unsupported::UNSUPPORTED;
use crate::model::{CHANNELS_MAX, ChannelPort, PortMode, Trunk, VlanRole, VlanSet, XdpMode};

mod arp;
mod authentication;
mod owner;
mod policy;
mod probe;
mod serverfarm;
mod standby;
mod statics;
mod sticky;
mod track;
mod variable;
mod vmac;
mod vserver;
mod witness;

/// Defaults, in the unit of the command.
pub mod default {
    /// VLAN of a trunk's untagged frames.
    pub const NATIVE: u64 = 1;
    /// Slot of the CSM in the guide's listings.
    pub const SLOT: u8 = 5;
    /// Seconds between two checks.
    pub const INTERVAL: u64 = 120;
    /// Failures in a row.
    pub const RETRIES: u64 = 3;
    /// Seconds between two checks of a failed real.
    pub const FAILED: u64 = 300;
    /// Seconds.
    pub const RECEIVE: u64 = 10;
    /// Seconds.
    pub const OPEN: u64 = 10;
    /// Successes in a row.
    pub const RECOVER: u64 = 1;
    /// Share of connections.
    pub const WEIGHT: u64 = 8;
    /// Seconds.
    pub const IDLE: u64 = 3600;
    /// Seconds.
    pub const PENDING: u64 = 30;
    /// None.
    pub const MAX_CONNS: u64 = 0;
    /// Higher wins.
    pub const PRIORITY: u64 = 10;
    /// Seconds.
    pub const HEARTBEAT: u64 = 1;
    /// Seconds.
    pub const FAILOVER: u64 = 3;
    /// UDP port of a witness.
    pub const WITNESS_PORT: u64 = 21_986;
}

pub(super) const VLAN: Kind = Number(2, 4094);
const SECONDS: Kind = Number(1, 65535);
const PRIORITY: Kind = Number(1, 254);

/// Every command: what is applied, then what is not.
pub fn commands() -> impl Iterator<Item = &'static Command> + Clone {
    APPLIED
        .iter()
        .chain(variable::APPLIED)
        .chain(arp::APPLIED)
        .chain(probe::APPLIED)
        .chain(vmac::APPLIED)
        .chain(statics::APPLIED)
        .chain(serverfarm::APPLIED)
        .chain(sticky::APPLIED)
        .chain(policy::APPLIED)
        .chain(owner::APPLIED)
        .chain(vserver::APPLIED)
        .chain(authentication::APPLIED)
        .chain(witness::APPLIED)
        .chain(track::APPLIED)
        .chain(standby::APPLIED)
        .chain(UNSUPPORTED)
}

/// As IOS takes it, too: `interface FastEthernet 3/6`.
pub(super) const UNIT: Piece = Optional(&[Slot("UNIT", Kind::Unit, "Slot and port, if they stand apart")]);

static APPLIED: &[Command] = &[
    // Every mode.
    Command::new(Id::Exit, Any, &[Word("exit", "Leave this mode")], "Returns to the mode above."),
    Command::new(Id::End, Any, &[Word("end", "Leave all modes")], "Returns to the top level."),
    // The top level.
    Command::new(
        Id::Interface,
        Global,
        &[
            Word("interface", "A port of this host"),
            Slot("NAME", Kind::Interface, "Name in Linux, e.g. eth1; vlanN; Port-channelN"),
            UNIT,
        ],
        "Enters the configuration of a port, or of this host as a router on a VLAN.",
    )
    .removes_section()
    .repeats(Repeat::Adds)
    .opens(Interface)
    .prints(Print::Interface(|interface| vec![format!("interface {}", interface.name)])),
    Command::new(
        Id::Module,
        Global,
        &[
            Word("module", "A module of the chassis"),
            Word("csm", "The content switching module"),
            Slot("SLOT", Number(1, 13), "Its slot: what `show module csm SLOT` is asked with"),
        ],
        "Enters the configuration of the content switching module.",
    )
    .repeats(Repeat::Conflicts)
    .opens(Module)
    .prints(Print::Global(|config| vec![format!("module csm {}", config.slot)])),
    // Interface.
    Command::new(
        Id::AccessVlan,
        Interface,
        &[
            Word("switchport", "Switching"),
            Word("access", "Access port: untagged frames of one VLAN"),
            Word("vlan", "Its VLAN"),
            Slot("VLAN", VLAN, "Number"),
        ],
        "Connects the port to a VLAN, untagged.",
    )
    .restores(None)
    .repeats(Repeat::Conflicts)
    .prints(Print::Interface(|interface| match &interface.mode {
        PortMode::Access(vlan) => vec![format!("switchport access vlan {vlan}")],
        PortMode::Trunk(_) | PortMode::Routed | PortMode::Member(_) => Vec::new(),
    })),
    Command::new(
        Id::PortMode,
        Interface,
        &[
            Word("switchport", "Switching"),
            Word("mode", "Kind of port"),
            Either(&[&[Word("access", "One VLAN, untagged")], &[Word("trunk", "Several VLANs, tagged")]]),
        ],
        "Makes the port an access port (the default) or a trunk.",
    )
    .restores(None)
    .prints(Print::Interface(|interface| match &interface.mode {
        PortMode::Access(_) | PortMode::Routed | PortMode::Member(_) => Vec::new(),
        PortMode::Trunk(_) => vec!["switchport mode trunk".to_owned()],
    })),
    Command::new(
        Id::ChannelGroup,
        Interface,
        &[
            Word("channel-group", "Port channel"),
            Slot("CHANNEL", Number(1, CHANNELS_MAX as u64), "Its number: `interface Port-channelN` says what it carries"),
            Word("mode", "How the two ends agree on its ports"),
            Either(&[
                &[Word("on", "Not at all: every port with a carrier is used")],
                &[Word("active", "By LACP, which this end begins")],
                &[Word("passive", "By LACP, which the other end begins")],
            ]),
        ],
        "Makes the port one of a port channel, a bond that csmd makes in Linux when it starts. The port is taken down for it, and \
         its own lines on VLANs do not count.",
    )
    .restores(None)
    .prints(Print::Interface(|interface| match interface.mode {
        PortMode::Member(ChannelPort { channel, mode }) => {
            vec![format!("channel-group {channel} mode {}", mode.word())]
        }
        _ => Vec::new(),
    })),
    Command::new(
        Id::TrunkNative,
        Interface,
        &[
            Word("switchport", "Switching"),
            Word("trunk", "Trunk"),
            Word("native", "Untagged frames"),
            Word("vlan", "Their VLAN"),
            Slot("NATIVE", Number(1, 4094), "Number; 1 is no VLAN of the module"),
        ],
        "Gives a trunk's untagged frames to a VLAN.",
    )
    .restores(Some(default::NATIVE))
    .prints(Print::Interface(|interface| match &interface.mode {
        PortMode::Trunk(Trunk { native: Some(vlan), .. }) => {
            vec![format!("switchport trunk native vlan {vlan}")]
        }
        _ => Vec::new(),
    })),
    Command::new(
        Id::TrunkAllowed,
        Interface,
        &[
            Word("switchport", "Switching"),
            Word("trunk", "Trunk"),
            Word("allowed", "VLANs it carries"),
            Word("vlan", "VLANs"),
            Either(&[
                &[Slot("VLANS", Kind::Vlans, "Numbers and ranges, e.g. 2,3-5")],
                &[Word("all", "All VLANs")],
                &[Word("none", "No VLAN")],
                &[Word("except", "All but these"), Slot("VLANS", Kind::Vlans, "Numbers and ranges")],
            ]),
        ],
        "Says which VLANs a trunk carries; all by default. VLANs that the module does not have are not used.",
    )
    .restores(None)
    .prints(Print::Interface(|interface| match &interface.mode {
        PortMode::Trunk(trunk) if trunk.allowed != VlanSet::default() => {
            vec![format!("switchport trunk allowed vlan {}", trunk.allowed)]
        }
        _ => Vec::new(),
    })),
    Command::new(
        Id::TrunkAdd,
        Interface,
        &[
            Word("switchport", "Switching"),
            Word("trunk", "Trunk"),
            Either(&[
                &[
                    Word("allowed", "VLANs it carries"),
                    Word("vlan", "VLANs"),
                    Either(&[&[Word("add", "These, too")], &[Word("remove", "These no more")]]),
                ],
                // As the guide writes it for an EtherChannel.
                &[Word("remove", "These no more"), Word("vlan", "VLANs")],
            ]),
            Slot("VLANS", Kind::Vlans, "Numbers and ranges"),
        ],
        "Adds VLANs to those that a trunk carries, or takes some away.",
    )
    .repeats(Repeat::Adds),
    Command::new(
        Id::XdpMode,
        Interface,
        &[
            Word("xdp", "The packet program"),
            Word("mode", "Where it runs"),
            Either(&[
                &[Word("auto", "In the driver if it can, else in the network stack")],
                &[Word("native", "In the driver")],
                &[Word("generic", "In the network stack, on a copy of each frame: slow")],
            ]),
        ],
        "Says how the packet program is attached to the port; in the driver by default.",
    )
    .restores(None)
    .prints(Print::Interface(|interface| match interface.xdp {
        XdpMode::Native => Vec::new(),
        XdpMode::Auto => vec!["xdp mode auto".to_owned()],
        XdpMode::Generic => vec!["xdp mode generic".to_owned()],
    })),
    // Module.
    Command::new(
        Id::Vlan,
        Module,
        &[
            Word("vlan", "A VLAN of the module"),
            Slot("VLAN", VLAN, "Number"),
            Either(&[&[Word("client", "Towards the clients")], &[Word("server", "Towards the servers")]]),
        ],
        "Enters the configuration of a client-side or server-side VLAN.",
    )
    .removes_section()
    .repeats(Repeat::Conflicts)
    .opens(Vlan)
    .prints(Print::Vlan(|vlan| {
        let role = match vlan.role {
            VlanRole::Client => "client",
            VlanRole::Server => "server",
        };
        vec![format!("vlan {} {role}", vlan.id)]
    })),
    Command::new(
        Id::IpAddress,
        Vlan,
        &[
            Word("ip", "IP"),
            Word("address", "This node's own address on the VLAN"),
            Slot("ADDRESS", Host, "Address"),
            Slot("MASK", Mask, "Mask of the VLAN's network"),
            Optional(&[
                Word("alt", "The peer's own address, for configuration synchronization"),
                Slot("PEER-ADDRESS", Host, "Address"),
                Slot("PEER-MASK", Mask, "Mask"),
            ]),
        ],
        "Sets this node's address, and its peer's.",
    )
    .restores(None)
    .prints(Print::Vlan(|vlan| {
        let alt = vlan.alt_address.map(|alt| format!(" alt {}", address_mask(alt))).unwrap_or_default();
        vlan.address.iter().map(|own| format!("ip address {}{alt}", address_mask(*own))).collect()
    })),
    Command::new(
        Id::Ipv6Address,
        Vlan,
        &[
            Word("ipv6", "IPv6"),
            Word("address", "This node's own address on the VLAN"),
            Slot("ADDRESS", Kind::Interface6, "Address, and prefix length of the VLAN's network"),
            Optional(&[
                Word("alt", "The peer's own address, for configuration synchronization"),
                Slot("PEER-ADDRESS", Kind::Interface6, "Address and prefix length"),
            ]),
        ],
        "Sets this node's IPv6 address, and its peer's.",
    )
    .restores(None)
    .prints(Print::Vlan(|vlan| {
        let alt = vlan.alt_address6.map(|alt| format!(" alt {alt}")).unwrap_or_default();
        vlan.address6.iter().map(|own| format!("ipv6 address {own}{alt}")).collect()
    })),
    Command::new(
        Id::Gateway,
        Vlan,
        &[
            Word("gateway", "Default gateway"),
            Slot("ADDRESS", Kind::AnyHost, "Address in the VLAN's network, or a link-local one"),
        ],
        "Sends what no route of the address's family leads elsewhere to a router on this VLAN.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Vlan(|vlan| vlan.gateways.iter().map(|gateway| format!("gateway {gateway}")).collect())),
    Command::new(
        Id::Alias,
        Vlan,
        &[
            Word("alias", "The pair's floating address"),
            Slot("ADDRESS", Host, "Address in the VLAN's network"),
            Slot("MASK", Mask, "Mask of the VLAN's network"),
        ],
        "Sets the address that the active node answers for: the servers' default gateway.",
    )
    .restores(None)
    .prints(Print::Vlan(|vlan| {
        vlan.alias.iter().map(|alias| format!("alias {}", address_mask(*alias))).collect()
    })),
    Command::new(
        Id::Ipv6Alias,
        Vlan,
        &[
            Word("alias", "The pair's floating address"),
            Slot("ADDRESS", Kind::Interface6, "Address, and prefix length of the VLAN's network"),
        ],
        "Sets the IPv6 address that the active node answers for: the servers' default gateway. Router advertisements are \
         not sent.",
    )
    .removes()
    .repeats(Repeat::Replaces)
    .prints(Print::Vlan(|vlan| vlan.alias6.iter().map(|alias| format!("alias {alias}")).collect())),
    Command::new(
        Id::Route,
        Vlan,
        &[
            Word("route", "A static route"),
            Either(&[
                &[Slot("NETWORK", Network, "Destination"), Slot("MASK", Mask, "Its mask")],
                &[Slot("NETWORK", Kind::Prefix6, "Destination in IPv6")],
            ]),
            Word("gateway", "Next hop"),
            Slot("ADDRESS", Kind::AnyHost, "Address on a connected VLAN, or a link-local one on this VLAN"),
        ],
        "Leads a network through a router.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Vlan(|vlan| {
        let line = |route: &crate::model::StaticRoute| {
            format!("route {} gateway {}", network(route.network), route.gateway)
        };
        vlan.routes.iter().map(line).collect()
    })),
    // Fault tolerance.
    Command::new(
        Id::FtGroup,
        Module,
        &[
            Word("ft", "Fault tolerance"),
            Word("group", "The pair"),
            Slot("GROUP", Number(1, 254), "The same on both nodes; last octet of the virtual MAC address"),
            Word("vlan", "Private VLAN between the nodes"),
            Slot("VLAN", VLAN, "Number"),
        ],
        "Makes this node one of a fault-tolerant pair.",
    )
    .removes_section()
    .repeats(Repeat::Conflicts)
    .opens(Ft)
    .prints(Print::Ft(|ft| vec![format!("ft group {} vlan {}", ft.group, ft.vlan)])),
    Command::new(
        Id::Priority,
        Ft,
        &[
            Word("priority", "Rank in the pair"),
            Slot("PRIORITY", PRIORITY, "Higher wins"),
            Optional(&[
                Word("alt", "The peer's, for configuration synchronization"),
                Slot("PEER-PRIORITY", PRIORITY, "Higher wins"),
            ]),
        ],
        "Sets this node's rank, and its peer's.",
    )
    .restores(Some(default::PRIORITY))
    .prints(Print::Ft(|ft| match ft.alt_priority {
        Some(alt) => vec![format!("priority {} alt {alt}", ft.priority)],
        None => unless(default::PRIORITY, "priority", u64::from(ft.priority)),
    })),
    Command::new(
        Id::Preempt,
        Ft,
        &[Word("preempt", "Take the role back")],
        "Lets the node with the higher priority take over from a working peer.",
    )
    .restores(None)
    .prints(Print::Ft(|ft| ft.preempt.then(|| "preempt".to_owned()).into_iter().collect())),
    Command::new(
        Id::SyncAuto,
        Ft,
        &[
            Word("sync", "Configuration synchronization"),
            Word("auto", "After each change of the active node, and whenever the peer has another configuration"),
        ],
        "Puts the active node's configuration in force on its peer without being told.",
    )
    .restores(None)
    .prints(Print::Ft(|ft| ft.sync_auto.then(|| "sync auto".to_owned()).into_iter().collect())),
    Command::new(
        Id::SyncAuto,
        Module,
        &[
            Word("ft", "Fault tolerance"),
            Word("sync", "Configuration synchronization"),
            Word("auto", "After each change of the active node, and whenever the peer has another configuration"),
        ],
        "The same as `sync auto` under `ft group`, which stands before it.",
    )
    .restores(None),
    Command::new(
        Id::TakeoverSynchronized,
        Ft,
        &[
            Word("takeover", "Which node may have the role"),
            Word("synchronized", "One that has the active node's configuration and software, while that one can keep the role"),
        ],
        "Keeps a node with another configuration or software than the active one from taking the role while that one lives: \
         it is not eligible, as if something tracked were down.",
    )
    .restores(None)
    .prints(Print::Ft(|ft| {
        ft.takeover_synchronized.then(|| "takeover synchronized".to_owned()).into_iter().collect()
    })),
    Command::new(
        Id::Heartbeat,
        Ft,
        &[
            Word("heartbeat-time", "Time between two heartbeats"),
            Either(&[
                &[Slot("SECONDS", SECONDS, "Seconds")],
                &[Word("msec", "In milliseconds"), Slot("MILLISECONDS", Number(10, 65535), "Milliseconds")],
            ]),
        ],
        "Sets the time between two heartbeats.",
    )
    .restores(Some(default::HEARTBEAT))
    .prints(Print::Ft(|ft| time(default::HEARTBEAT, "heartbeat-time", ft.heartbeat))),
    Command::new(
        Id::Failover,
        Ft,
        &[
            Word("failover", "Silence after which the standby takes over"),
            Either(&[
                &[Slot("SECONDS", SECONDS, "Seconds")],
                &[Word("msec", "In milliseconds"), Slot("MILLISECONDS", Number(30, 65535), "Milliseconds")],
            ]),
        ],
        "Sets the silence after which the standby takes over.",
    )
    .restores(Some(default::FAILOVER))
    .prints(Print::Ft(|ft| time(default::FAILOVER, "failover", ft.failover))),
];

fn address_mask(net: Ipv4Net) -> String {
    format!("{} {}", net.addr(), net.netmask())
}

/// `NETWORK MASK`, or in IPv6 `NETWORK/LENGTH`.
fn network(net: IpNet) -> String {
    match net {
        IpNet::V4(net) => address_mask(net),
        IpNet::V6(net) => net.to_string(),
    }
}

/// `keyword value`, or nothing at the default.
fn unless(default: u64, keyword: &str, value: u64) -> Vec<String> {
    if value == default { Vec::new() } else { vec![format!("{keyword} {value}")] }
}

/// `keyword SECONDS` or `keyword msec MILLISECONDS`, or nothing at the default (seconds).
fn time(default: u64, keyword: &str, value: Duration) -> Vec<String> {
    if value == Duration::from_secs(default) {
        Vec::new()
    } else if value.subsec_nanos() == 0 {
        vec![format!("{keyword} {}", value.as_secs())]
    } else {
        vec![format!("{keyword} msec {}", value.as_millis())]
    }
}
