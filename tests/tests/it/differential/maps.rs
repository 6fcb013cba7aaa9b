//! The scene written into the program's maps, and what stands in them afterwards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData};
use csm_common::address::{Address, V6};
use csm_common::flow::{NONE, mark};
use csm_common::fragment::{Fragment, FragmentKey};
use csm_common::net::{
    self, ADDRESS_POOL, AddressKey, NEXTHOP_RESOLVED, NEXTHOP_TAGGED, NEXTHOP_TUNNEL, NextHop,
};
use csm_common::service::{
    self, ClientKey, MATCH_FTP, Match, Networks, REAL_STICKY, REAL_USABLE, Reverse, StickyEntry, StickyKey,
    VSERVER_COUNTED, VSERVER_DISPATCH, VSERVER_FORWARD, VSERVER_FTP, VSERVER_HASH_SOURCE, VSERVER_INSERVICE,
    VSERVER_LEASTCONNS, VSERVER_STATIC, VSERVER_STICKY_BOTH, VSERVER_STICKY_DESTINATION,
    VSERVER_UNIDIRECTIONAL, Vserver, VserverKey, ring_slot, weighted_slot,
};
use csm_common::{flow, names};
use csm_tests::model::scene::{By, Choice, Mode, Scene, Service, Source, Static};
use csm_tests::rig::{self, Rig, VIRTUAL_MAC};

/// An address as a family's maps have it, and their names.
pub(crate) trait Be: Address + Pod + Eq + std::hash::Hash {
    fn be(ip: IpAddr) -> Self;
    fn ip(self) -> IpAddr;
    fn has(ip: IpAddr) -> bool;
    const NAMES: Names;
}

/// Names of the maps of a family.
pub(crate) struct Names {
    addresses: &'static str,
    next_hops: &'static str,
    neighbours: &'static str,
    tunnels: &'static str,
    vserver_keys: &'static str,
    vservers: &'static str,
    reals: &'static str,
    reverses: &'static str,
    networks: &'static str,
    pools: &'static str,
    statics: &'static str,
    clients: &'static str,
    origins: &'static str,
    pub(crate) flows: [&'static str; 2],
    pub(crate) sticky: [&'static str; 2],
    fragments: &'static str,
    direct: &'static str,
}

impl Be for u32 {
    fn be(ip: IpAddr) -> Self {
        let IpAddr::V4(ip) = ip else { panic!("{ip} is not IPv4") };
        rig::be(ip)
    }
    fn ip(self) -> IpAddr {
        Ipv4Addr::from(self.to_ne_bytes()).into()
    }
    fn has(ip: IpAddr) -> bool {
        ip.is_ipv4()
    }
    const NAMES: Names = Names {
        addresses: names::ADDRESSES,
        next_hops: names::NEXTHOPS,
        neighbours: names::NEIGHBOURS,
        tunnels: names::TUNNELS,
        vserver_keys: names::VSERVER_KEYS,
        vservers: names::VSERVERS,
        reals: names::REALS,
        reverses: names::REVERSES,
        networks: names::NETWORKS,
        pools: names::POOLS,
        statics: names::STATICS,
        clients: names::CLIENTS,
        origins: names::ORIGINS,
        flows: [names::FLOWS, names::EMBRYONIC],
        sticky: [names::STICKY, names::EMBRYONIC_STICKY],
        fragments: names::FRAGMENTS,
        direct: names::DIRECT,
    };
}

impl Be for V6 {
    fn be(ip: IpAddr) -> Self {
        let IpAddr::V6(ip) = ip else { panic!("{ip} is not IPv6") };
        ip.into()
    }
    fn ip(self) -> IpAddr {
        Ipv6Addr::from(self).into()
    }
    fn has(ip: IpAddr) -> bool {
        ip.is_ipv6()
    }
    const NAMES: Names = Names {
        addresses: names::ADDRESSES6,
        next_hops: names::NEXTHOPS6,
        neighbours: names::NEIGHBOURS6,
        tunnels: names::TUNNELS6,
        vserver_keys: names::VSERVER_KEYS6,
        vservers: names::VSERVERS6,
        reals: names::REALS6,
        reverses: names::REVERSES6,
        networks: names::NETWORKS6,
        pools: names::POOLS6,
        statics: names::STATICS6,
        clients: names::CLIENTS6,
        origins: names::ORIGINS6,
        flows: [names::FLOWS6, names::EMBRYONIC6],
        sticky: [names::STICKY6, names::EMBRYONIC_STICKY6],
        fragments: names::FRAGMENTS6,
        direct: names::DIRECT6,
    };
}

/// Writes what of the scene the bench has not of itself.
pub(crate) fn write<A: Be>(rig: &Rig, scene: &Scene)
where
    NextHop<A>: Pod,
    AddressKey<A>: Pod,
    net::Tunnel<A>: Pod,
    VserverKey<A>: Pod,
    Vserver<A>: Pod + Default,
    service::Real<A>: Pod,
    Reverse<A>: Pod + Default,
    service::Pool<A>: Pod,
    service::Origin<A>: Pod,
    ClientKey<A>: Pod,
{
    let maps = A::NAMES;
    let mut addresses: HashMap<MapData, AddressKey<A>, net::Address> = rig.map(maps.addresses);
    let key = |ip, vlan| AddressKey { ip_be: A::be(ip), vlan, pad: 0 };
    for &(ip, vlan) in scene.addresses.iter().filter(|(ip, _)| A::has(*ip)) {
        addresses.insert(key(ip, vlan), net::Address { kind: ADDRESS_POOL }, 0).expect("ADDRESSES");
    }
    let mut hops: Array<MapData, NextHop<A>> = rig.map(maps.next_hops);
    let mut tunnels: Array<MapData, net::Tunnel<A>> = rig.map(maps.tunnels);
    for hop in scene.hops.iter().filter(|hop| A::has(hop.ip)) {
        let flag = |on, bit| if on { bit } else { 0 };
        let number = hop.tunnel.map_or(0, |_| u16::try_from(hop.number).expect("a few"));
        let value = NextHop {
            dst_mac: hop.mac,
            src_mac: VIRTUAL_MAC,
            port: u32::from(hop.vlan == 3),
            vlan: hop.vlan,
            flags: flag(hop.resolved, NEXTHOP_RESOLVED)
                | flag(scene.trunk, NEXTHOP_TAGGED)
                | flag(hop.tunnel.is_some(), NEXTHOP_TUNNEL),
            ip_be: A::be(hop.ip),
            mtu: hop.mtu,
            tunnel: number,
            group: 0,
            pad: 0,
        };
        hops.set(hop.number, value, 0).expect("NEXTHOPS");
        if let Some(tunnel) = hop.tunnel {
            let (local_be, remote_be) = (A::be(tunnel.local), A::be(tunnel.remote));
            let value = net::Tunnel { local_be, remote_be, port_be: tunnel.port.to_be(), pad: 0 };
            tunnels.set(number.into(), value, 0).expect("TUNNELS");
        }
    }
    let mut neighbours: HashMap<MapData, AddressKey<A>, u32> = rig.map(maps.neighbours);
    for &(ip, vlan, hop) in scene.neighbours.iter().filter(|near| A::has(near.0)) {
        neighbours.insert(key(ip, vlan), hop, 0).expect("NEIGHBOURS");
    }
    let mut pools: Array<MapData, service::Pool<A>> = rig.map(maps.pools);
    for pool in scene.pools.iter().filter(|pool| A::has(pool.first)) {
        let value = service::Pool {
            first_be: A::be(pool.first),
            addresses: pool.addresses.into(),
            port_first: pool.port,
            ports: pool.ports,
        };
        pools.set(pool.number, value, 0).expect("POOLS");
    }
    let mut statics: LpmTrie<MapData, A, u32> = rig.map(maps.statics);
    for (net, what) in scene.statics.iter().filter(|(net, _)| A::has(net.0)) {
        let number = if let Static::Pool(number) = what { *number } else { NONE };
        statics.insert(&Key::new(net.1.into(), A::be(net.0)), number, 0).expect("STATICS");
    }
    let mut origins: HashMap<MapData, VserverKey<A>, service::Origin<A>> = rig.map(maps.origins);
    for origin in scene.origins.iter().filter(|origin| A::has(origin.at.0)) {
        let ((ip, port), (virtual_ip, virtual_port)) = (origin.at, origin.virtual_server);
        let (kind, proto) = origin.data.map_or((0, 6), |proto| (MATCH_FTP, proto));
        let key = VserverKey { ip_be: A::be(ip), port_be: port.to_be(), proto, kind };
        let value = service::Origin {
            virtual_be: A::be(virtual_ip),
            port_be: virtual_port.to_be(),
            pad: 0,
            vserver: origin.service,
            real: origin.real.number,
        };
        origins.insert(key, value, 0).expect("ORIGINS");
    }
    services::<A>(rig, scene);
}

fn services<A: Be>(rig: &Rig, scene: &Scene)
where
    VserverKey<A>: Pod,
    Vserver<A>: Pod + Default,
    service::Real<A>: Pod,
    Reverse<A>: Pod + Default,
    ClientKey<A>: Pod,
{
    let maps = A::NAMES;
    let mut clients: LpmTrie<MapData, ClientKey<A>, u32> = rig.map(maps.clients);
    let mut keys: HashMap<MapData, VserverKey<A>, Match> = rig.map(maps.vserver_keys);
    let mut vservers: Array<MapData, Vserver<A>> = rig.map(maps.vservers);
    let mut reals: Array<MapData, service::Real<A>> = rig.map(maps.reals);
    let mut rings: Array<MapData, u32> = rig.map(names::RINGS);
    let mut reverses: Array<MapData, Reverse<A>> = rig.map(maps.reverses);
    let bits = u8::try_from(size_of::<A>() * 8).expect("32 or 128");
    let mine: Vec<&Service> = scene.services.iter().filter(|service| A::has(service.net.0)).collect();
    for service in &mine {
        let key = VserverKey {
            ip_be: A::be(service.net.0),
            port_be: service.port.to_be(),
            proto: service.proto,
            kind: bits - service.net.1,
        };
        let ruled = |other: &&&Service| {
            (other.net, other.port, other.proto) == (service.net, service.port, service.proto)
                && (other.vlan.is_some() || other.clients.is_some())
        };
        // Of those that share address and port the first one's number names the rules.
        let rules =
            mine.iter().find(ruled).map_or(0, |first| u16::try_from(first.number + 1).expect("a few"));
        keys.insert(key, Match { vserver: service.number, rules: rules.into() }, 0).expect("VSERVER_KEYS");
        if rules != 0 {
            let (client_be, bits) =
                service.clients.map_or((A::UNSPECIFIED, 0), |net| (A::be(net.0), net.1.into()));
            let of = ClientKey { rules, vlan: service.vlan.unwrap_or(0), client_be };
            clients.insert(&Key::new(32 + bits, of), service.number, 0).expect("CLIENTS");
        }
        if let Some(proto) = service.data {
            let data = VserverKey { port_be: 0, proto, kind: MATCH_FTP, ..key };
            keys.insert(data, Match { vserver: service.number, rules: 0 }, 0).expect("VSERVER_KEYS");
        }
        let farm = service.ring.first().map_or(0, |real| real.number + 1);
        let sticky = match service.choice {
            Choice::Sticky { group, bits, .. } => Some((group, A::mask(bits))),
            _ => None,
        };
        let sticks_by = |wanted| matches!(service.choice, Choice::Sticky { by, .. } if by == wanted);
        let flags = [
            (service.in_service, VSERVER_INSERVICE),
            (service.mode == Mode::Dispatch, VSERVER_DISPATCH),
            (service.mode == Mode::Forward, VSERVER_FORWARD),
            (service.unidirectional, VSERVER_UNIDIRECTIONAL),
            (service.choice == Choice::Hash, VSERVER_HASH_SOURCE),
            (matches!(service.choice, Choice::Least(_)), VSERVER_LEASTCONNS | VSERVER_COUNTED),
            (service.data.is_some(), VSERVER_FTP),
            (sticks_by(By::Destination), VSERVER_STICKY_DESTINATION),
            (sticks_by(By::Both), VSERVER_STICKY_BOTH),
            (service.source == Source::Static, VSERVER_STATIC),
        ];
        let value = Vserver {
            flags: flags.iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum(),
            ring_len: u32::try_from(service.ring.len()).expect("a few"),
            idle_s: 3600,
            pending_s: 30,
            sticky_s: if sticky.is_some() { 3600 } else { 0 },
            sticky_mask_be: sticky.map_or(A::mask(bits), |(_, mask)| mask),
            sticky_group: sticky.map_or(256 + service.number, |(group, _)| group),
            farm,
            pool: if let Source::Pool(number) = service.source { number } else { 0 },
            hash_mask_be: A::mask(bits),
            port_be: service.port.to_be(),
            mark: service.dscp.map_or(0, mark),
            max_conns: service.max,
            owner: service.owner.map_or(0, |(number, _)| number + 1),
            owner_max_conns: service.owner.map_or(0, |(_, max)| max),
            reverse: service.reverse.as_ref().map_or(0, |reverse| reverse.group),
            ..Vserver::default()
        };
        vservers.set(service.number, value, 0).expect("VSERVERS");
        if let Some(reverse) = &service.reverse {
            let mut value = Reverse {
                mask_be: A::mask(reverse.bits),
                flags: match reverse.by {
                    By::Source => 0,
                    By::Destination => VSERVER_STICKY_DESTINATION,
                    By::Both => VSERVER_STICKY_BOTH,
                },
                life_s: 3600,
                count: u32::try_from(reverse.senders.len()).expect("a few"),
                ..Reverse::default()
            };
            for (slot, real) in value.reals.iter_mut().zip(&reverse.senders) {
                *slot = real.number;
            }
            reverses.set(reverse.group, value, 0).expect("REVERSES");
        }
        for (slot, real) in (0..).zip(&service.ring) {
            let value = service::Real {
                ip_be: A::be(real.ip),
                port_be: real.port.to_be(),
                vlan: scene.hop(real.hop).vlan,
                nexthop: real.hop,
                flags: REAL_USABLE | REAL_STICKY,
                farm,
                max_conns: 0,
                min_conns: 0,
            };
            reals.set(real.number, value, 0).expect("REALS");
            let weight = if let Choice::Least(weights) = service.choice { weights[slot as usize] } else { 0 };
            let value = weighted_slot(real.number, weight);
            rings.set(ring_slot(service.number, slot), value, 0).expect("RINGS");
        }
    }
    let mut networks: LpmTrie<MapData, A, Networks> = rig.map(maps.networks);
    for service in mine.iter().filter(|service| service.net.1 < bits) {
        // It and those around it, the smallest first.
        let around =
            mine.iter().filter(|other| other.net.1 <= service.net.1 && other.net.holds(service.net.0));
        let mut host_bits: Vec<u8> = around.map(|other| bits - other.net.1).collect();
        host_bits.sort_unstable();
        host_bits.dedup();
        host_bits.resize(4, 0);
        let value = Networks { host_bits: host_bits.try_into().expect("four") };
        networks.insert(&Key::new(service.net.1.into(), A::be(service.net.0)), value, 0).expect("NETWORKS");
    }
}

/// Forgets what the program knows of connections, clients and datagrams.
pub(crate) fn empty<A: Be>(rig: &Rig)
where
    flow::FlowEntry<A>: Pod,
{
    let maps = A::NAMES;
    for name in maps.flows {
        clear::<flow::FlowKey<A>, flow::FlowEntry<A>>(rig, name);
    }
    clear::<flow::FlowKey<A>, u32>(rig, maps.direct);
    forget_clients::<A>(rig);
    forget_datagrams::<A>(rig);
}

/// Forgets the sticky clients.
pub(crate) fn forget_clients<A: Be>(rig: &Rig) {
    for name in A::NAMES.sticky {
        clear::<StickyKey<A>, StickyEntry>(rig, name);
    }
}

/// Forgets the datagrams.
pub(crate) fn forget_datagrams<A: Be>(rig: &Rig) {
    clear::<FragmentKey<A>, Fragment<A>>(rig, A::NAMES.fragments);
}

fn clear<K: Pod, V: Pod>(rig: &Rig, name: &'static str) {
    let mut map: HashMap<MapData, K, V> = rig.map(name);
    let keys: Vec<K> = map.keys().map(|key| key.expect(name)).collect();
    for key in keys {
        // One that evicts may have done so meanwhile.
        let _ = map.remove(&key);
    }
}
