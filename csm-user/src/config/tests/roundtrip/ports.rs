//! Ports, port channels and the host as a router.

use super::*;

/// VLANs 2, 3 and 9 on access ports, or 2 and 3 on a trunk.
pub(super) fn ports() -> impl Strategy<Value = Vec<Interface>> {
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
    let mode = prop_oneof![Just(ChannelMode::On), Just(ChannelMode::Active), Just(ChannelMode::Passive)];
    let channel = (1..=CHANNELS_MAX, mode).prop_map(move |(channel, mode)| {
        let member = |port: usize| Interface {
            name: format!("eth{port}"),
            mode: PortMode::Member(ChannelPort { channel, mode }),
            xdp: XdpMode::Native,
        };
        let allowed = VlanSet::parse("2-3").expect("a list");
        let trunk = PortMode::Trunk(Trunk { allowed, native: None });
        let carrier = Interface { name: channel_name(channel), mode: trunk, xdp: XdpMode::Auto };
        vec![carrier, member(1), member(2), access(3, 9)]
    });
    prop_oneof![Just(vec![access(1, 2), access(2, 3), access(3, 9)]), trunk, channel]
}

/// Group `number` with its virtual address on 10.`net`.0.0/16.
pub(super) fn standby(net: u8, number: u16) -> impl Strategy<Value = StandbyGroup> {
    let seconds = (1..=99_u64, 100..=255_u64).prop_map(|(hello, hold)| (hello * 1000, hold * 1000));
    let timers = of(prop_oneof![seconds, (15..=49_u64, 50..=3000_u64)]);
    let timers = timers.prop_map(|timers| {
        timers.map(|(hello, hold)| (Duration::from_millis(hello), Duration::from_millis(hold)))
    });
    let preempt = of(0..=3600_u64);
    let track = of((1..=255_u8, 1..=4_u8));
    let of_link = any::<u16>().prop_map(|host| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 8, host));
    let v6 = prop_oneof![Just(StandbyAddress6::Autoconfig), of_link.prop_map(StandbyAddress6::LinkLocal)];
    let addresses = (0..3_u8, of(v6), any::<bool>());
    (addresses, any::<u8>(), preempt, timers, of("[a-z]{1,8}"), any::<bool>(), track).prop_map(
        move |((runs, v6, global), priority, preempt, timers, text, named, track)| StandbyGroup {
            address: match runs {
                0 => Some(StandbyAddress::Learned),
                1 => Some(StandbyAddress::Given(Ipv4Addr::new(10, net, 8, 1))),
                // What is as IOS makes it is not printed.
                _ => Some(StandbyAddress::Learned).filter(|_| priority == 100),
            },
            address6: v6,
            global: if global { vec![net6(&format!("2001:db8:{net}::f/64"))] } else { Vec::new() },
            priority,
            preempt: preempt.is_some(),
            preempt_delay: Duration::from_secs(preempt.unwrap_or(0)),
            timers,
            authentication: text,
            name: named.then(|| name('G', number.into())),
            track: track
                .map(|(decrement, port)| StandbyTrack { interface: format!("eth{port}"), decrement })
                .into_iter()
                .collect(),
            ..StandbyGroup::new(number)
        },
    )
}

/// Version 1 has no groups of IPv6.
fn of_version(group: StandbyGroup, version: u8) -> StandbyGroup {
    let is_second = version == 2;
    let global = if is_second { group.global } else { Vec::new() };
    StandbyGroup { address6: group.address6.filter(|_| is_second), global, ..group }
}

/// The router's interfaces, on VLAN 2 and on a port of its own, and its routes.
pub(super) fn router() -> impl Strategy<Value = (Vec<RouterInterface>, Vec<RouterRoute>)> {
    let interface = |name: &str, number: u8, groups: Vec<StandbyGroup>, version| RouterInterface {
        name: name.to_owned(),
        address: Some(net(&format!("10.{number}.8.9/16"))),
        address6: (version == 2).then(|| net6(&format!("2001:db8:{number}::9/64"))),
        version,
        groups: groups.into_iter().map(|group| of_version(group, version)).collect(),
    };
    let groups = (of(standby(2, 1)), of(standby(200, 20)), any::<bool>(), any::<[bool; 2]>());
    groups.prop_map(move |(inner, outer, second, [vlan, port])| {
        let version = if second { 2 } else { 1 };
        let outer = interface("eth4", 200, outer.into_iter().collect(), version);
        let inner = interface("vlan2", 2, inner.into_iter().collect(), 1);
        let gateway = Ipv4Addr::new(10, 200, 0, 9).into();
        let v4 = RouterRoute { network: net("172.31.0.0/16").into(), gateway };
        let gateway = Ipv6Addr::new(0x2001, 0xdb8, 0x200, 0, 0, 0, 0, 7).into();
        let v6 = RouterRoute { network: net6("2001:db8:31::/48").into(), gateway };
        let routes = [(port, v4), (port && second, v6)];
        let routes = routes.into_iter().filter(|(is, _)| *is).map(|(_, route)| route).collect();
        let router = [(port, outer), (vlan, inner)];
        (router.into_iter().filter(|(is, _)| *is).map(|(_, it)| it).collect(), routes)
    })
}
