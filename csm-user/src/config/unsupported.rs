//! The part of the command table that changes nothing: what the CSM's listings and the switch's own configuration hold
//! beside the supported commands. Each is accepted without effect, or refused by name with a remedy.

use super::command::{
    Command, Effect,
    Mode::{self, Global, Interface, Module, Probe, Real, Serverfarm, SwitchVlan, Vserver},
};
use super::grammar::Kind::{self, Host, Mask};
use super::grammar::Piece::{Either, Optional, Rest, Slot, Word};
use super::table::VLAN;

const LAYER_7: &str = "it works on layer 7; this balancer works on layers 3 and 4";
const DROP: &str = "remove the line";
const HOST_SYSTEM: &str = "it does nothing on Linux";
const CONFIGURE: &str = "a command of the privileged mode does nothing in a configuration";

/// See [`super::table::commands`].
pub(super) static UNSUPPORTED: &[Command] = &[
    // The top level.
    Command::inert(
        Global,
        &[Word("configure", "Enter the configuration mode"), Word("terminal", "By hand")],
        Effect::Silent,
    ),
    Command::inert(Global, &[Word("enter", ""), Word("configuration", ""), Rest], Effect::Silent),
    Command::inert(
        Global,
        &[Word("ip", "IP"), Word("igmp", "IGMP"), Word("snooping", "On the switch"), Rest],
        Effect::Note(
            "it does nothing on Linux: the pair talks to link-local addresses, which are not snooped on",
        ),
    ),
    Command::inert(
        Global,
        &[Word("clock", "Clock of the switch"), Rest],
        Effect::Note("it does nothing on Linux: state changes are stamped with the system's time"),
    ),
    Command::inert(Global, &[Word("hostname", ""), Rest], Effect::Note(HOST_SYSTEM)),
    Command::inert(Global, &[Word("show", ""), Rest], Effect::Note(CONFIGURE)),
    Command::inert(Global, &[Word("clear", ""), Rest], Effect::Note(CONFIGURE)),
    Command::inert(Global, &[Word("write", ""), Rest], Effect::Note(CONFIGURE)),
    Command::inert(Global, &[Word("hw-module", ""), Rest], Effect::Note(CONFIGURE)),
    Command::inert(
        Global,
        &[Word("vlan", "A VLAN of the switch"), Slot("VLAN", VLAN, "Number")],
        Effect::Silent,
    )
    .opens(SwitchVlan),
    Command::inert(SwitchVlan, &[Word("name", "Name of the VLAN"), Rest], Effect::Note(HOST_SYSTEM)),
    // Interface.
    Command::inert(Interface, &[Word("switchport", "")], Effect::Silent),
    Command::inert(
        Interface,
        &[
            Word("switchport", ""),
            Word("trunk", "Trunk"),
            Word("encapsulation", "Kind of tag"),
            Word("dot1q", "802.1Q"),
        ],
        Effect::Silent,
    ),
    Command::refused(
        Interface,
        &[Word("switchport", ""), Word("trunk", ""), Word("encapsulation", ""), Word("isl", "")],
        "tags are those of 802.1Q",
        "write `switchport trunk encapsulation dot1q`, on the switch, too",
    ),
    Command::inert(
        Interface,
        &[Word("switchport", ""), Word("nonegotiate", "No negotiation of the trunk")],
        Effect::Silent,
    ),
    Command::refused(
        Interface,
        &[Word("shutdown", "")],
        "a port that is named here is used",
        "remove the interface, or take it down with `ip link set NAME down`",
    ),
    Command::inert(Interface, &[Word("description", ""), Rest], Effect::Note(HOST_SYSTEM)),
    // Module.
    Command::inert(
        Module,
        &[Word("vlan", "A VLAN of the switch"), Slot("VLAN", VLAN, "Number; `ft group` says what it is for")],
        Effect::Silent,
    )
    .without_no(),
    Command::inert(Module, &[Word("vlan", "The switch's VLAN database")], Effect::Silent)
        .without_no()
        .opens(Mode::VlanDatabase),
    Command::inert(
        Mode::VlanDatabase,
        &[Word("vlan", "A VLAN of the switch"), Slot("VLAN", VLAN, "Number")],
        Effect::Silent,
    ),
    // Probe.
    Command::refused(
        Module,
        &[
            Word("probe", ""),
            Slot("NAME", Kind::Name, "Name"),
            Either(&[&[Word("script", "")], &[Word("kal-ap-tcp", "")], &[Word("kal-ap-udp", "")]]),
            Rest,
        ],
        "there are no probes of this type",
        "use `probe NAME tcp`, or a type that speaks with the application: http, dns, ftp, telnet or smtp",
    )
    .opens(Mode::Refused),
    Command::refused(
        Probe,
        &[Word("address", ""), Slot("ADDRESS", Kind::AnyHost, "")],
        "the check would have to go through the real",
        "add `routed`: the check goes as the routes say",
    ),
    // Server farm.
    Command::refused(
        Serverfarm,
        &[Word("predictor", ""), Word("hash", ""), Either(&[&[Word("url", "")]]), Rest],
        LAYER_7,
        "use `predictor hash address`",
    ),
    Command::refused(
        Serverfarm,
        &[Word("bindid", ""), Rest],
        "it belongs to DFP, which is not supported",
        DROP,
    ),
    Command::refused(Serverfarm, &[Word("retcode-map", ""), Rest], LAYER_7, DROP),
    Command::refused(Serverfarm, &[Word("redirect-vserver", ""), Rest], LAYER_7, DROP).opens(Mode::Refused),
    Command::refused(
        Real,
        &[
            Word("health", ""),
            Word("probe", ""),
            Slot("NAME", Kind::Name, ""),
            Word("tag", ""),
            Slot("TAG", Kind::Text255, ""),
        ],
        "a tag names nothing here",
        "leave `tag` out",
    ),
    // Virtual server.
    Command::refused(
        Vserver,
        &[
            Word("virtual", ""),
            Slot("ADDRESS", Host, "Address"),
            Optional(&[Slot("MASK", Mask, "Mask")]),
            Either(&[&[Word("tcp", "")], &[Word("udp", "")]]),
            Slot("PORT", Kind::Port, "Port"),
            Word("service", "Follow the payload"),
            Either(&[&[Word("termination", "")], &[Word("per-packet", "")]]),
        ],
        "of services only `ftp` and `rtsp` are followed",
        "leave `service` out; plain TCP and UDP services need none",
    ),
    Command::inert(
        Vserver,
        &[Word("persistent", ""), Word("rebalance", "")],
        Effect::Note("it has no effect on a virtual server of layer 4"),
    ),
    Command::refused(Vserver, &[Word("parse-length", ""), Rest], LAYER_7, DROP),
    Command::refused(Vserver, &[Word("url-hash", ""), Rest], LAYER_7, DROP),
    Command::refused(
        Vserver,
        &[Word("ssl-sticky", ""), Rest],
        LAYER_7,
        "use `sticky MINUTES` on the client's address",
    ),
    Command::refused(Vserver, &[Word("domain", ""), Rest], LAYER_7, DROP),
    // Fault tolerance.
    // Sections of the CSM that are refused by name.
    Command::refused(Module, &[Word("map", ""), Rest], LAYER_7, DROP).opens(Mode::Refused),
    Command::refused(Mode::Policy, &[Word("url-map", ""), Rest], LAYER_7, DROP),
    Command::refused(Mode::Policy, &[Word("cookie-map", ""), Rest], LAYER_7, DROP),
    Command::refused(Mode::Policy, &[Word("header-map", ""), Rest], LAYER_7, DROP),
    Command::refused(
        Module,
        &[
            Word("sticky", ""),
            Slot("GROUP", Kind::Number(1, 255), ""),
            Either(&[&[Word("cookie", "")], &[Word("ssl", "")], &[Word("header", "")]]),
            Rest,
        ],
        LAYER_7,
        "use `sticky N netmask MASK`, on an address",
    )
    .opens(Mode::Refused),
    Command::refused(Module, &[Word("script", ""), Rest], "scripts are not supported", DROP)
        .opens(Mode::Refused),
    Command::refused(Module, &[Word("dfp", ""), Rest], "DFP is not supported", DROP).opens(Mode::Refused),
    Command::refused(Module, &[Word("capp", ""), Rest], "CAPP is not supported", DROP).opens(Mode::Refused),
    Command::refused(
        Module,
        &[Word("xml-config", ""), Rest],
        "the module's XML interface is not supported",
        DROP,
    )
    .opens(Mode::Refused),
    Command::refused(Module, &[Word("gslb", ""), Rest], "global balancing is not supported", DROP)
        .opens(Mode::Refused),
];
