//! `parse(print(c)) == c` and `print(parse(x)) == x`; no input makes the parser panic.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::*;
use crate::model::{
    FtGroup, Interface, Name, PortMode, Probe, ProbeKind, Real, RealAdmin, Serverfarm, StaticRoute, Sticky,
    Transport, Trunk, Virtual, Vlan, VlanId, VlanRole, VlanSet, Vserver, XdpMode,
};

fn secs(range: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_secs)
}

fn vlan_id(number: usize) -> VlanId {
    VlanId::new(u16::try_from(number).expect("small")).expect("in range")
}

fn name(prefix: char, number: usize) -> Name {
    Name::new(&format!("{prefix}{number}")).expect("a name")
}

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

/// VLAN `number` on 10.`number`.0.0/16; .0.x for nodes, .1.x for gateways, .2.x for virtual servers, .3.x for reals.
fn vlan(number: usize) -> impl Strategy<Value = Vlan> {
    let role = prop_oneof![Just(VlanRole::Client), Just(VlanRole::Server)];
    let route = (0..=255_u8, 8..=32_u8, 1..=9_u8);
    (role, any::<bool>(), any::<bool>(), 0..3_u8, vec(route, 0..3)).prop_map(
        move |(role, alt, alias, gateways, routes)| {
            let host = |host: &str| net(&format!("10.{number}.{host}/16"));
            let gateway = |n: u8| host(&format!("1.{n}")).addr();
            let mut routes: Vec<_> = routes
                .into_iter()
                .map(|(octet, prefix, via)| StaticRoute {
                    network: net(&format!("172.16.{octet}.255/{prefix}")).trunc(),
                    gateway: gateway(via),
                })
                .collect();
            routes.dedup();
            Vlan {
                id: vlan_id(number),
                role,
                address: Some(host("0.1")),
                alt_address: alt.then(|| host("0.2")),
                gateways: (1..=gateways).map(gateway).collect(),
                alias: alias.then(|| host("0.3")),
                routes,
            }
        },
    )
}

fn probe(number: usize) -> impl Strategy<Value = Probe> {
    let times = (secs(2..=65535), secs(2..=65535), secs(1..=65535), secs(1..=65535));
    let counts = (0..=65535_u16, 1..=65535_u16);
    (any::<bool>(), times, counts, of(1..=65535_u16)).prop_map(
        move |(tcp, (interval, failed, receive, open), (retries, recover), port)| Probe {
            name: name('P', number),
            kind: if tcp { ProbeKind::Tcp } else { ProbeKind::Icmp },
            interval,
            retries,
            failed,
            receive,
            open: if tcp { open } else { Duration::from_secs(10) },
            recover,
            port: port.filter(|_| tcp),
        },
    )
}

fn farm(number: usize, probes: usize) -> impl Strategy<Value = Serverfarm> {
    let real = (of(1..=65535_u16), 0..=100_u8, any::<bool>());
    (vec(real, 0..4), vec(any::<bool>(), probes)).prop_map(move |(reals, used)| Serverfarm {
        name: name('F', number),
        probes: (0..probes).filter(|&n| used[n]).map(|n| name('P', n)).collect(),
        reals: (1_u8..)
            .zip(reals)
            .map(|(n, (port, weight, on))| Real {
                address: Ipv4Addr::new(10, 2, 3, n),
                port,
                weight,
                admin: if on { RealAdmin::InService } else { RealAdmin::OutOfService },
            })
            .collect(),
    })
}

fn vserver(number: usize, farms: usize) -> impl Strategy<Value = Vserver> {
    let port = prop_oneof![Just(80), Just(53), Just(0), any::<u16>()];
    let sticky = (1..=65535_u16, any::<u8>(), 0..=32_u8);
    let what = (of((any::<bool>(), port)), of(0..farms.max(1)), of(2..=3_usize), of(sticky));
    (what, secs(0..=13_500_000), secs(1..=65535), any::<[bool; 3]>()).prop_map(
        move |((to, farm, vlan, sticky), idle, pending, [connection, replicate_sticky, inservice])| Vserver {
            name: name('V', number),
            virtual_server: to.map(|(tcp, port)| Virtual {
                address: Ipv4Addr::new(10, 2, 2, u8::try_from(number + 1).expect("few")),
                transport: if tcp { Transport::Tcp } else { Transport::Udp },
                port,
            }),
            serverfarm: farm.filter(|_| farms > 0).map(|n| name('F', n)),
            vlan: vlan.map(vlan_id),
            idle,
            pending,
            sticky: sticky.map(|(minutes, group, prefix)| Sticky {
                minutes,
                group,
                netmask: net(&format!("0.0.0.0/{prefix}")).netmask(),
            }),
            replicate_connection: connection,
            replicate_sticky,
            inservice,
        },
    )
}

fn ft() -> impl Strategy<Value = FtGroup> {
    let timers = prop_oneof![
        (10..=1000_u64, 100..=500_u64).prop_map(|(beat, percent)| (
            Duration::from_millis(beat),
            Duration::from_millis(beat * percent / 100 + 252)
        )),
        (1..=9000_u64, 3..=7_u64)
            .prop_map(|(beat, many)| (Duration::from_secs(beat), Duration::from_secs(beat * many))),
    ];
    let long_enough =
        |(heartbeat, failover): &(Duration, Duration)| crate::model::lease(*heartbeat, *failover).is_ok();
    (1..=254_u8, 1..=254_u8, of(1..=254_u8), any::<bool>(), timers.prop_filter("a lease", long_enough))
        .prop_map(|(group, priority, alt_priority, preempt, (heartbeat, failover))| FtGroup {
            group,
            vlan: vlan_id(9),
            priority,
            alt_priority,
            preempt,
            heartbeat,
            failover,
        })
}

/// VLANs 2, 3 and 9 on access ports, or 2 and 3 on a trunk.
fn ports() -> impl Strategy<Value = Vec<Interface>> {
    let access = |port: usize, number| Interface {
        name: format!("eth{port}"),
        mode: PortMode::Access(vlan_id(number)),
        xdp: if port == 2 { XdpMode::Generic } else { XdpMode::Native },
    };
    let native = of(2..=3_usize);
    let trunk = (vec((10..4000_u16, 0..90_u16), 0..4), native).prop_map(move |(ranges, native)| {
        let others = ranges.iter().map(|(first, more)| format!(",{first}-{}", first + more));
        let list = format!("2,3{}", others.collect::<String>());
        let allowed = VlanSet::parse(&list).expect("a list");
        let trunk = Trunk { allowed, native: native.map(vlan_id) };
        vec![
            Interface { name: "eth1".to_owned(), mode: PortMode::Trunk(trunk), xdp: XdpMode::Auto },
            access(3, 9),
        ]
    });
    prop_oneof![Just(vec![access(1, 2), access(2, 3), access(3, 9)]), trunk]
}

fn config() -> impl Strategy<Value = Config> {
    (1..=13_u8, 0..3_usize, 0..3_usize, 0..5_usize).prop_flat_map(|(slot, probes, farms, vservers)| {
        let vlans = (2..=3).map(vlan).collect::<Vec<_>>();
        let probes_made = (0..probes).map(probe).collect::<Vec<_>>();
        let farms_made = (0..farms).map(|n| farm(n, probes)).collect::<Vec<_>>();
        let vservers_made = (0..vservers).map(|n| vserver(n, farms)).collect::<Vec<_>>();
        (vlans, probes_made, farms_made, vservers_made, of(ft()), ports()).prop_map(
            move |(vlans, probes, serverfarms, vservers, ft, interfaces)| Config {
                slot,
                interfaces,
                vlans,
                probes,
                serverfarms,
                vservers,
                ft,
            },
        )
    })
}

/// Words of the language in no sensible order, to get past the first word.
fn babble() -> impl Strategy<Value = String> {
    let words: Vec<&'static str> = table::commands()
        .map(command::Command::keyword)
        .chain([
            "no",
            "1",
            "255",
            "10.0.0.1",
            "255.255.255.0",
            "tcp",
            "client",
            "msec",
            "alt",
            "!",
            "X(Y)#",
            "\n",
            "é",
        ])
        .collect();
    vec(
        prop_oneof![4 => proptest::sample::select(words).prop_map(str::to_owned), 1 => Just("\n".to_owned())],
        0..60,
    )
    .prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn what_is_printed_reads_back_as_it_was(config in config()) {
        let text = print(&config);
        let outcome = check("a.cfg", &text, &host());
        prop_assert_eq!(outcome.errors(), 0, "{}", render("a.cfg", &text, &outcome.diagnostics));
        let read = outcome.config.expect("no error");
        prop_assert_eq!(&read, &config);
        prop_assert_eq!(print(&read), text);
    }

    #[test]
    fn indentation_blanks_and_comments_change_nothing(config in config(), margin in vec("[ \t]{0,3}", 1..5)) {
        let text = print(&config);
        let lines = text.lines().zip(margin.iter().cycle());
        let loose: String = lines.map(|(line, margin)| {
            let line = line.trim_start().replace(' ', &format!(" {margin}"));
            format!("{margin}{line}{margin} ! {line}\r\n!\n")
        }).collect();
        prop_assert_eq!(check("a.cfg", &loose, &host()).config, Some(config));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        let outcome = check("a.cfg", &text, &host());
        let rendered = render("a.cfg", &text, &outcome.diagnostics);
        prop_assert!(outcome.config.is_none() && rendered.contains("error: "));
    }

    #[test]
    fn babble_never_panics_and_every_finding_is_in_the_file(text in babble()) {
        let outcome = check("a.cfg", &text, &host());
        let rendered = render("a.cfg", &text, &outcome.diagnostics);
        prop_assert_eq!(rendered.matches(": error: ").count(), outcome.errors());
        prop_assert_eq!(outcome.config.is_some(), outcome.errors() == 0);
        if let Some(read) = outcome.config {
            let again = check("a.cfg", &print(&read), &host());
            prop_assert_eq!(again.config, Some(read));
        }
        for found in &outcome.diagnostics {
            prop_assert!(found.line <= text.lines().count());
            if let Some(line) = found.line.checked_sub(1).and_then(|line| text.lines().nth(line)) {
                prop_assert!(found.column >= 1 && found.column <= line.len() + 2, "{found:?}");
            }
        }
    }
}
