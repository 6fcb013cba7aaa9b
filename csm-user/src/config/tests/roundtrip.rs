//! `parse(print(c)) == c` and `print(parse(x)) == x`; no input makes the parser panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::*;
use crate::model::{
    Advertise, CHANNELS_MAX, ChannelMode, ChannelPort, ClientRange, ClientRateLimit, ConnectionLimit,
    Encapsulation, Family, FtGroup, FtKeys, InbandHealth, Interface, Name, NatClient, Natpool, PortMode,
    Predictor, Protocol, RateLimit, RateLimits, Real, RealAdmin, RouterInterface, RouterRoute, Secret,
    Serverfarm, StandbyAddress, StandbyAddress6, StandbyGroup, StandbyTrack, Static, StaticAction,
    StaticRoute, TrackMode, TrackedGateway, TrackedGroup, TrackedVrrp, Tracking, Trunk, Virtual, Vlan,
    VlanId, VlanRole, VlanSet, Vmac, Vserver, XdpMode, channel_name,
};

mod owners;
mod policies;
mod ports;
mod probes;
mod standing;
mod stickies;

use ports::{ports, router};
use probes::{named, named_reals, probe};

fn secs(range: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_secs)
}

fn vlan_id(number: usize) -> VlanId {
    VlanId::new(u16::try_from(number).expect("small")).expect("in range")
}

fn name(prefix: char, number: usize) -> Name {
    Name::new(&format!("{prefix}{number}")).expect("a name")
}

fn net6(text: &str) -> Ipv6Net {
    text.parse().expect("a network")
}

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

fn net_of(family: Family, v4: &str, v6: &str) -> IpNet {
    let text = if family == Family::V4 { v4 } else { v6 };
    text.parse().expect("a network")
}

/// Farms, virtual servers and pools take turns.
fn family(number: usize) -> Family {
    if number.is_multiple_of(2) { Family::V4 } else { Family::V6 }
}

/// VLAN `number` on 10.`number`.0.0/16 and fd00:`number`::/64; .0.x for nodes, .1.x for gateways, .2.x for virtual
/// servers, .3.x for reals.
fn vlan(number: usize) -> impl Strategy<Value = Vlan> {
    let role = prop_oneof![Just(VlanRole::Client), Just(VlanRole::Server)];
    let route = (0..=255_u8, 8..=32_u8, 1..=9_u8, any::<bool>());
    let gateway = (1..=9_u8, 0..3_u8);
    let vmac = prop_oneof![Just(Vmac::Auto), Just(Vmac::On), Just(Vmac::Off)];
    (role, any::<[bool; 4]>(), vec(gateway, 0..3), vec(route, 0..3), vmac).prop_map(
        move |(role, [alt, alias, alt6, alias6], gateways, routes, vmac)| {
            let host = |host: &str| net(&format!("10.{number}.{host}/16"));
            let host6 = |host: &str| format!("fd00:{number}::{host}/64").parse().expect("a network");
            let gateway = |(n, kind): (u8, u8)| -> IpAddr {
                match kind {
                    0 => host(&format!("1.{n}")).addr().into(),
                    1 => {
                        Ipv6Addr::new(0xfd00, u16::try_from(number).expect("small"), 0, 0, 0, 0, 1, n.into())
                            .into()
                    }
                    _ => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n.into()).into(),
                }
            };
            let mut distinct: Vec<IpAddr> = Vec::new();
            for gateway in gateways.into_iter().map(gateway) {
                if !distinct.contains(&gateway) {
                    distinct.push(gateway);
                }
            }
            let mut routes: Vec<_> = routes
                .into_iter()
                .map(|(octet, prefix, via, v6)| StaticRoute {
                    network: match v6 {
                        false => IpNet::V4(net(&format!("172.16.{octet}.255/{prefix}")).trunc()),
                        true => format!("fd01::{octet}/{}", prefix * 4)
                            .parse::<IpNet>()
                            .expect("a network")
                            .trunc(),
                    },
                    gateway: gateway((via, if v6 { via % 2 + 1 } else { 0 })),
                })
                .collect();
            routes.dedup();
            Vlan {
                address: Some(host("0.1")),
                alt_address: alt.then(|| host("0.2")),
                alias: alias.then(|| host("0.3")),
                address6: Some(host6("1")),
                alt_address6: alt6.then(|| host6("2")),
                alias6: alias6.then(|| host6("3")),
                gateways: distinct,
                routes,
                vmac,
                ..Vlan::new(vlan_id(number), role)
            }
        },
    )
}

fn farm(number: usize, probes: usize) -> impl Strategy<Value = Serverfarm> {
    let own = (any::<bool>(), vec(any::<bool>(), probes));
    let real = (of(1..=65535_u16), 0..=100_u8, limit(), any::<bool>(), own);
    let source = prop_oneof![
        Just(None),
        Just(Some(NatClient::Pool(name('N', number % 2)))),
        Just(Some(NatClient::Static)),
    ];
    let way = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Encapsulation::Ipip)),
        1 => (1..=65535_u16).prop_map(|port| Some(Encapsulation::Gue { port })),
    ];
    let modes = (predictor(family(number)), any::<bool>(), source, way);
    let family = family(number);
    (vec(real, 0..4), vec(any::<bool>(), probes), modes).prop_map(
        move |(reals, used, (predictor, nat, nat_client, way))| {
            let nat_server = nat || nat_client.is_some();
            Serverfarm {
                name: name('F', number),
                predictor,
                nat_server,
                nat_client,
                encapsulation: if nat_server { None } else { way },
                failaction: None,
                health: way.map(|_| InbandHealth { retries: 7, failed: Duration::from_secs(60) }),
                probes: (0..probes).filter(|&n| used[n]).map(|n| name('P', n)).collect(),
                reals: (1_u8..)
                    .zip(reals)
                    .map(|(n, (port, weight, limit, on, (is_named, checked)))| Real {
                        address: named(family, n)
                            .address
                            .filter(|_| is_named)
                            .unwrap_or_else(|| address(family, n)),
                        port,
                        weight,
                        limit,
                        admin: if on { RealAdmin::InService } else { RealAdmin::OutOfService },
                        probes: (0..probes).filter(|&n| checked[n]).map(|n| name('P', n)).collect(),
                        name: is_named.then(|| named(family, n).name),
                        backup: None,
                    })
                    .collect(),
            }
        },
    )
}

fn address(family: Family, n: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 2, 3, n).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 3, n.into()).into(),
    }
}

/// Leading bits that count, of IPv4 and of IPv6: all of those of the other family.
fn bits(family: Family) -> impl Strategy<Value = (u8, u8)> {
    (0..=32_u8).prop_map(move |bits| match family {
        Family::V4 => (bits, 128),
        Family::V6 => (32, bits * 4),
    })
}

fn predictor(family: Family) -> impl Strategy<Value = Predictor> {
    let hash = (bits(family), 0..3_u8).prop_map(|((bits, bits6), which)| Predictor::Hash {
        bits,
        bits6,
        source: which != 1,
        destination: which != 2,
    });
    let least =
        prop_oneof![Just(0), 1..=u16::MAX].prop_map(|slowstart_s| Predictor::LeastConns { slowstart_s });
    prop_oneof![Just(Predictor::RoundRobin), Just(Predictor::Forward), hash, least]
}

/// One section of each kind at most, hosts and networks of its own in each.
fn statics() -> impl Strategy<Value = Vec<Static>> {
    let hosts = vec((any::<bool>(), 8..=32_u8), 0..4);
    vec(hosts, 4).prop_map(|kinds| {
        let v4: IpAddr = Ipv4Addr::new(10, 2, 9, 1).into();
        let v6: IpAddr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 9, 1).into();
        let actions =
            [StaticAction::Drop, StaticAction::NatVirtual, StaticAction::Nat(v4), StaticAction::Nat(v6)];
        let made = (0_u8..).zip(actions).zip(kinds).map(|((kind, action), hosts)| {
            let net = |(place, (v6, length)): (u8, (bool, u8))| {
                let v6 = action.family().map_or(v6, |family| family == Family::V6);
                let of = u16::from(kind) * 64 + u16::from(place);
                let address: IpAddr = match v6 {
                    true => Ipv6Addr::new(0xfd00, 9, of, 0, 0, 0, 0, 0).into(),
                    false => Ipv4Addr::new(100, u8::try_from(of).unwrap_or(0), 0, 0).into(),
                };
                let length = if v6 { 16 + length.max(32) } else { length.max(16) };
                IpNet::new(address, length).expect("a length").trunc()
            };
            Static { action, hosts: (0..).zip(hosts).map(net).collect() }
        });
        made.collect()
    })
}

/// A pool of each family on VLAN 3.
fn natpools() -> impl Strategy<Value = Vec<Natpool>> {
    (1..=9_u8, 1..=9_u8).prop_map(|lengths| {
        let address = |number: u8, host: u8| -> IpAddr {
            match number {
                0 => Ipv4Addr::new(10, 3, 4, host).into(),
                _ => Ipv6Addr::new(0xfd00, 3, 0, 0, 0, 0, 4, host.into()).into(),
            }
        };
        let pool = |number: u8, length: u8| Natpool {
            name: name('N', number.into()),
            first: address(number, 1),
            last: address(number, length),
            bits: if number == 0 { 16 } else { 64 },
        };
        vec![pool(0, lengths.0), pool(1, lengths.1)]
    })
}

/// What virtual server `number` matches.
fn virtual_server(number: usize) -> impl Strategy<Value = Virtual> {
    let port = prop_oneof![Just(80), Just(53), Just(0), any::<u16>()];
    let protocol = prop_oneof![
        3 => Just(Protocol::TCP),
        2 => Just(Protocol::UDP),
        1 => Just(Protocol::Any),
        1 => (1..=u8::MAX).prop_map(Protocol::Number),
    ];
    (protocol, port, 24..=32_u8).prop_map(move |(protocol, port, prefix)| {
        let (host, family) = (u8::try_from(number + 1).expect("few"), family(number));
        let network = match prefix {
            24..28 => {
                net_of(family, &format!("172.20.{host}.0/{prefix}"), &format!("fd02:{host}::/{}", prefix * 2))
            }
            _ => net_of(family, &format!("10.2.2.{host}/32"), &format!("fd00:2::2:{host}/128")),
        };
        let port = if protocol.has_ports() { port } else { 0 };
        Virtual { network, ..Virtual::single(network.addr(), protocol, port) }
    })
}

/// Clients of a virtual server, none twice.
fn clients(family: Family) -> impl Strategy<Value = Vec<ClientRange>> {
    vec((any::<u8>(), 0..=32_u8, any::<bool>()), 0..4).prop_map(move |ranges| {
        let mut clients: Vec<ClientRange> = Vec::new();
        for (octet, prefix, exclude) in ranges {
            let v6 = format!("fd03:{octet}::ffff/{}", prefix * 4);
            let network = net_of(family, &format!("172.16.{octet}.255/{prefix}"), &v6).trunc();
            if !clients.iter().any(|other| other.network == network) {
                clients.push(ClientRange { network, exclude });
            }
        }
        clients
    })
}

fn limit() -> impl Strategy<Value = ConnectionLimit> {
    let both = (1..=u32::MAX).prop_flat_map(|max| (Just(max), of(1..=max)));
    of(both).prop_map(|limit| {
        limit.map_or(ConnectionLimit::default(), |(max, min)| ConnectionLimit { max: Some(max), min })
    })
}

fn rate_limits(family: Family) -> impl Strategy<Value = RateLimits> {
    let rate = || (1..=1_000_000_u32, 1..=1_000_000_u32);
    let rate = move || rate().prop_map(|(per_second, burst)| RateLimit { per_second, burst });
    let client = (rate(), bits(family));
    let client = client.prop_map(|(rate, (bits, bits6))| ClientRateLimit { rate, bits, bits6 });
    (of(rate()), of(client)).prop_map(|(connections, client)| RateLimits { connections, client })
}

fn vserver(number: usize, farms: usize) -> impl Strategy<Value = Vserver> {
    let family = family(number);
    // A shared group has one farm: even groups are of farm 0, odd ones of farm 1, and 0 is private.
    let parity = u8::try_from(number % 2).expect("a bit");
    let group = prop_oneof![Just(0), any::<u8>().prop_map(move |group| group & !1 | parity)];
    let sticky = (1..=65535_u16, group, bits(family));
    let who = (clients(family), of(any::<bool>()), rate_limits(family), of(any::<u32>()));
    let what = (of(virtual_server(number)), of(Just(number % 2)), of(2..=3_usize), of(sticky), who);
    (what, secs(0..=13_500_000), secs(1..=65535), any::<[bool; 5]>()).prop_map(
        move |(
            (virtual_server, farm, vlan, sticky, (clients, unidirectional, rate_limits, max_conns)),
            idle,
            pending,
            [connection, replicate_sticky, inservice, advertise, active],
        )| Vserver {
            name: name('V', number),
            virtual_server,
            serverfarm: farm.filter(|n| *n < farms).map(|n| name('F', n)),
            backup: None,
            threshold: None,
            rate_limits,
            max_conns: max_conns.unwrap_or(0),
            owner: None,
            advertise: advertise.then_some(if active { Advertise::Active } else { Advertise::Always }),
            policies: Vec::new(),
            vlan: vlan.map(vlan_id),
            clients,
            unidirectional,
            idle,
            pending,
            sticky: sticky.map(stickies::rule),
            reverse_sticky: None,
            replicate_connection: connection,
            replicate_sticky,
            inservice,
        },
    )
}

/// Gateways of VLAN 2, two interfaces of the host.
fn tracking() -> impl Strategy<Value = Tracking> {
    let interval = prop_oneof![secs(1..=3600), (100..=65_535_u64).prop_map(Duration::from_millis)];
    let objects = (0..4_u8, 0..3_usize, any::<bool>());
    (objects, interval, 1..=255_u8, secs(0..=3600)).prop_map(
        |((gateways, interfaces, all), interval, retries, hold_down)| Tracking {
            groups: (0..gateways)
                .map(|n| TrackedGroup {
                    group: u16::from(retries),
                    router: Some(match n % 3 {
                        2 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 7, n.into()).into(),
                        _ => Ipv4Addr::new(10, 3, 1, n + 1).into(),
                    }),
                    vlan: (n % 3 == 2).then(|| vlan_id(3)),
                    version: if n % 3 == 2 { 2 } else { 1 + n % 2 },
                    authentication: all.then(|| format!("Text{n}")),
                })
                .collect(),
            vrrp: (1..=gateways)
                .map(|n| TrackedVrrp { group: n, router: Ipv4Addr::new(10, 2, 2, n), version: 2 + n % 2 })
                .collect(),
            gateways: (1..=gateways)
                .map(|n| TrackedGateway {
                    icmp: all,
                    interval: (n == 1).then_some(interval),
                    retries: (n == 2).then_some(retries),
                    ..TrackedGateway::new(Ipv4Addr::new(10, 2, 1, n).into())
                })
                .collect(),
            farms: Vec::new(),
            interfaces: (1..=interfaces).map(|n| format!("eth{n}")).collect(),
            mode: if all { TrackMode::All } else { TrackMode::Any },
            interval,
            retries,
            hold_down,
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
    let timers = timers.prop_filter("a lease", long_enough);
    let key = || of("[!-~]{1,64}").prop_map(|key| key.map(|key| Secret::new(&key)));
    // Without a key there is no witness.
    let witness = of((any::<bool>(), prop_oneof![Just(21_986), 1..=u16::MAX]));
    let keys = (key(), key(), witness).prop_map(|(sign, accept, witness)| {
        let address = |six| if six { "2001:db8::9" } else { "10.0.0.9" }.parse().expect("an address");
        let witness = witness.filter(|_| sign.is_some());
        let witness = witness.map(|(six, port)| std::net::SocketAddr::new(address(six), port));
        (FtKeys { sign, accept }, witness)
    });
    (
        1..=254_u8,
        1..=254_u8,
        of(1..=254_u8),
        (any::<bool>(), any::<bool>(), any::<bool>()),
        timers,
        keys,
        tracking(),
    )
        .prop_map(
            |(
                group,
                priority,
                alt_priority,
                (preempt, sync_auto, takeover_synchronized),
                (heartbeat, failover),
                (keys, witness),
                track,
            )| {
                // Nor with a longer lease than it grants.
                let witness = witness.filter(|_| failover <= crate::model::WITNESSED_MAX);
                FtGroup {
                    group,
                    vlan: vlan_id(9),
                    priority,
                    alt_priority,
                    preempt,
                    sync_auto,
                    takeover_synchronized,
                    heartbeat,
                    failover,
                    keys,
                    witness,
                    track,
                }
            },
        )
}

fn config() -> impl Strategy<Value = Config> {
    (1..=13_u8, 0..3_usize, 0..4_usize, 0..5_usize).prop_flat_map(|(slot, probes, farms, vservers)| {
        let vlans = (2..=3).map(vlan).collect::<Vec<_>>();
        let probes_made = (0..probes).map(probe).collect::<Vec<_>>();
        let farms_made = (0..farms).map(|n| farm(n, probes)).collect::<Vec<_>>();
        let vservers_made = (0..vservers).map(|n| vserver(n, farms)).collect::<Vec<_>>();
        (
            vlans,
            probes_made,
            (natpools(), statics(), standing::choices()),
            farms_made,
            vservers_made,
            of(ft()),
            (ports(), router()),
        )
            .prop_map(
                move |(
                    mut vlans,
                    probes,
                    (natpools, statics, choices),
                    serverfarms,
                    mut vservers,
                    ft,
                    (mut interfaces, (router, routes)),
                )| {
                    if router.iter().any(|router| router.name == "eth4") {
                        interfaces.push(Interface {
                            name: "eth4".to_owned(),
                            mode: PortMode::Routed,
                            xdp: XdpMode::Native,
                        });
                    }
                    for vserver in &mut vservers {
                        vserver.backup = policies::backup(&serverfarms, vserver);
                    }
                    // Of a pair's ports each node gives away its half.
                    vlans[1].alt_address = Some(net("10.3.0.2/16"));
                    let mut config = Config {
                        slot,
                        interfaces,
                        router,
                        routes,
                        vlans,
                        probes,
                        natpools,
                        statics,
                        named_reals: named_reals(),
                        serverfarms,
                        vservers,
                        ft,
                        ..Config::default()
                    };
                    standing::furnish(&mut config, &choices);
                    policies::put(&mut config);
                    stickies::put(&mut config);
                    owners::put(&mut config);
                    // Refused where this host is a router.
                    let choices: Vec<_> =
                        config.vlans.iter().map(|vlan| config.has_choice_of_mac(vlan.id)).collect();
                    for (vlan, _) in config.vlans.iter_mut().zip(choices).filter(|(_, choice)| !choice) {
                        vlan.vmac = Vmac::On;
                    }
                    config
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
            "fd00::1",
            "fd00::/64",
            "fe80::1",
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

#[test]
fn the_routers_lines_mean_the_same_in_any_order() {
    let text = "interface vlan2\n ip address 10.2.9.1 255.255.0.0\n\
                interface eth4\n ip address 10.200.0.1 255.255.255.0\n ipv6 address 2001:db8:200::1/64\n\
                ipv6 route 2001:db8:31::/48 2001:db8:200::7\nip route 172.31.0.0 255.255.0.0 10.200.0.9\n\
                module csm 5\n vlan 2 client\n  ip address 10.2.0.1 255.255.0.0\n";
    let outcome = check("a.cfg", text, &host());
    let read = outcome.config.unwrap_or_else(|| panic!("{}", render("a.cfg", text, &outcome.diagnostics)));
    assert_eq!((read.router.len(), read.routes.len()), (2, 2));
    assert_eq!(check("a.cfg", &print(&read), &host()).config, Some(read));
}

#[test]
fn no_standby_removes_the_group_of_either_family() {
    let text = "interface eth4\n ip address 10.200.0.1 255.255.255.0\n standby version 2\n standby 2 ipv6 autoconfig\n \
                standby 2 priority 110\n no standby 2\nmodule csm 5\n vlan 2 client\n  ip address 10.2.0.1 255.255.0.0\n";
    let outcome = check("a.cfg", text, &host());
    let read = outcome.config.unwrap_or_else(|| panic!("{}", render("a.cfg", text, &outcome.diagnostics)));
    assert_eq!(read.router[0].groups, []);
}
