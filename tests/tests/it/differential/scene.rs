//! The bench's network, with more virtual servers than it has of itself, as the model wants it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use csm_tests::model::scene::{
    Bridge, By, Choice, Hop, Mode, Net, Origin, Pool, Real, Reverse, Scene, Service, Source, Static, Tunnel,
    Way, plus,
};
use csm_tests::rig::{self, Rig, Side};
use csm_tests::rig6;

/// What differs between the families' networks.
pub(crate) struct Family {
    pub(crate) vip: IpAddr,
    pub(crate) alias: IpAddr,
    pub(crate) own: IpAddr,
    pub(crate) reals: [IpAddr; 3],
    pub(crate) near: IpAddr,
    pub(crate) gateway: IpAddr,
    pub(crate) stranger: IpAddr,
    /// Virtual networks, the second within the first.
    pub(crate) networks: [IpAddr; 2],
    /// Where servers are sent on to by `predictor forward`.
    pub(crate) beyond: IpAddr,
    /// Network of the clients behind the gateway.
    far: IpAddr,
    pool: IpAddr,
    remote: IpAddr,
    /// First hop, and first real of the bench's own.
    base: u32,
    /// First virtual server beside the bench's own, and first real.
    extra: u32,
    /// Of the reals, the gateway and the near client.
    pub(crate) macs: [[u8; 6]; 5],
}

pub(crate) fn v4() -> Family {
    Family {
        vip: rig::VIP.into(),
        alias: rig::ALIAS.into(),
        own: rig::OWN.into(),
        reals: rig::REALS.map(|host| host.ip.into()),
        near: rig::NEAR_CLIENT.ip.into(),
        gateway: rig::GATEWAY.ip.into(),
        stranger: rig::STRANGER.ip.into(),
        networks: [Ipv4Addr::new(172, 16, 0, 0), Ipv4Addr::new(172, 16, 9, 0)].map(Into::into),
        beyond: Ipv4Addr::new(10, 1, 2, 0).into(),
        far: Ipv4Addr::new(10, 1, 1, 0).into(),
        pool: Ipv4Addr::new(192, 158, 39, 50).into(),
        remote: Ipv4Addr::new(10, 77, 0, 1).into(),
        base: 0,
        extra: 16,
        macs: macs(rig::REALS.map(|host| host.mac), rig::GATEWAY.mac, rig::NEAR_CLIENT.mac),
    }
}

pub(crate) fn v6() -> Family {
    let net = |a, b, c| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, a, b, 0, 0, 0, c));
    Family {
        vip: rig6::VIP6.into(),
        alias: rig6::ALIAS6.into(),
        own: rig6::OWN6.into(),
        reals: rig6::REALS6.map(|host| host.ip.into()),
        near: rig6::NEAR6.ip.into(),
        gateway: rig6::GATEWAY6.ip.into(),
        stranger: rig6::STRANGER6.ip.into(),
        networks: [net(0xac, 0, 0), net(0xac, 9, 0)],
        beyond: net(0xa, 2, 0),
        far: net(0xa, 1, 0),
        pool: net(0x27, 0, 0x50),
        remote: net(0x77, 0, 1),
        base: rig6::FIRST6,
        extra: 42,
        macs: macs(rig6::REALS6.map(|host| host.mac), rig6::GATEWAY6.mac, rig6::NEAR6.mac),
    }
}

fn macs([a, b, c]: [[u8; 6]; 3], gateway: [u8; 6], near: [u8; 6]) -> [[u8; 6]; 5] {
    [a, b, c, gateway, near]
}

/// Ports of the virtual address.
pub(crate) const TCP: [u16; 31] = [
    80, 80, 80, 81, 82, 82, 82, 83, 84, 85, 86, 87, 89, 90, 91, 91, 91, 21, 21, 21, 21, 92, 92, 92, 93, 554,
    554, 554, 554, 30_000, 1024,
];
/// Where servers open connections to clients by way of a firewall.
pub(crate) const OUTWARD_PORT: u16 = 7000;
/// Reals and ports whose segments tell whose they are; from port 20 they open FTP's data connections themselves.
pub(crate) const ORIGINS: [(usize, u16); 9] =
    [(0, 80), (1, 91), (2, 92), (0, 89), (2, 21), (1, 554), (0, 20), (1, 20), (2, 20)];
pub(crate) const UDP: [u16; 4] = [53, 54, 86, 87];
const POOL_CLIENTS: u32 = 1;
const POOL_SERVERS: u32 = 2;
const GUE: u16 = 6080;
/// Offsets of the virtual servers with least connections, of `service ftp` and `service rtsp`.
const LEAST: u32 = 17;
const FTP: u32 = 18;
const RTSP: u32 = 23;
/// Where an owner's connections are counted: a number that no virtual server has.
const OWNER: u32 = 12;

/// The numbers where connections of `service` are counted, for it has a limit or its owner.
pub(super) fn limits(service: &Service) -> impl Iterator<Item = u32> + use<> {
    let own = (service.max != 0).then_some(service.number);
    own.into_iter().chain(service.owner.map(|(number, _)| number))
}
pub(crate) const FTP_PORT: u16 = 21;
pub(crate) const RTSP_PORT: u16 = 554;
/// What two of the reals and the gateway take.
pub(crate) const JUMBO: u16 = 9000;
/// A short way to the near client, and through GUE.
const SHORT: u16 = 140;

impl Family {
    fn is_v6(&self) -> bool {
        self.vip.is_ipv6()
    }

    /// Bits of the longest prefix, and the networks' own.
    fn bits(&self) -> [u8; 3] {
        if self.is_v6() { [128, 48, 64] } else { [32, 16, 24] }
    }

    fn hops(&self, scene: &mut Scene) {
        let ips = [self.reals[0], self.reals[1], self.reals[2], self.gateway, self.near];
        let header = if self.is_v6() { 40 } else { 20 };
        let mut add = |offset: u32, ip, mac, vlan, mtu, resolved, tunnel| {
            scene.hops.push(Hop { number: self.base + offset, ip, mac, vlan, mtu, resolved, tunnel });
        };
        for (offset, (ip, mac)) in (0..).zip(ips.into_iter().zip(self.macs)) {
            add(
                offset,
                ip,
                mac,
                if offset < 3 { 3 } else { 2 },
                match offset {
                    0 | 1 | 3 => JUMBO,
                    4 => SHORT,
                    _ => 1500,
                },
                true,
                None,
            );
        }
        let tunnel = |port| Some(Tunnel { local: self.alias, remote: self.remote, port });
        add(5, self.reals[1], self.macs[1], 3, 1500 - header, true, tunnel(0));
        add(6, self.reals[1], self.macs[1], 3, SHORT, true, tunnel(GUE));
        add(7, self.stranger, [0; 6], 2, 1500, false, None);
        for (offset, ip) in (0..).zip(ips).chain([(7, self.stranger)]) {
            let vlan = if offset < 3 { 3 } else { 2 };
            scene.neighbours.push((ip, vlan, self.base + offset));
        }
    }

    fn real(&self, number: u32, index: usize, port: u16) -> Real {
        let hop = self.base + u32::try_from(index).expect("a few");
        Real { number, ip: *self.reals.get(index).unwrap_or(&self.remote), port, hop }
    }

    fn services(&self) -> Vec<Service> {
        let [host, wide, narrow] = self.bits();
        let web: Vec<Real> = (0..).zip(0..3).map(|(n, index)| self.real(self.base + n, index, 0)).collect();
        let dns: Vec<Real> =
            (3..).zip(0..3).map(|(n, index)| self.real(self.base + n, index, 5353)).collect();
        let plain = |number, proto, port, ring: &[Real]| Service {
            number,
            net: Net(self.vip, host),
            proto,
            port,
            vlan: None,
            clients: None,
            data: None,
            mode: Mode::Nat,
            ring: ring.to_vec(),
            choice: Choice::Turn,
            reverse: None,
            source: Source::Own,
            unidirectional: false,
            in_service: true,
            dscp: None,
            max: 0,
            owner: None,
        };
        let of = |number: u32, proto, port, ring| plain(self.extra + number, proto, port, ring);
        let dispatch = |service: Service| Service { mode: Mode::Dispatch, unidirectional: true, ..service };
        let forward = |service: Service| Service { mode: Mode::Forward, ..service };
        let sticky = Choice::Sticky { group: 77, bits: narrow, by: By::Source };
        let clients = Source::Pool(POOL_CLIENTS);
        // Gateway and near client are firewalls, too: connections are entered for those that servers open to their clients.
        let firewalls = [(2, 3), (3, 4)].map(|(number, hop)| Real {
            number: self.extra + number,
            ip: if hop == 3 { self.gateway } else { self.near },
            port: 0,
            hop: self.base + hop,
        });
        let entered = |group, by| Some(Reverse { group, bits: host, by, senders: firewalls.to_vec() });
        let by_client = entered(80, By::Destination);
        // Of virtual servers of both families.
        let owner = Some((OWNER, 2));
        vec![
            Service { max: 5, reverse: by_client.clone(), ..plain(self.base, 6, 80, &web) },
            Service { reverse: by_client.clone(), ..plain(self.base + 1, 17, 53, &dns) },
            of(0, 6, 0, &web[..1]),
            dispatch(Service { owner, ..of(1, 6, 81, &web) }),
            Service { source: clients, max: 2, owner, ..of(2, 6, 82, &web) },
            Service { source: clients, ..of(3, 17, 54, &web) },
            Service { choice: Choice::Hash, owner, ..of(4, 6, 83, &web) },
            Service { choice: sticky, reverse: entered(81, By::Both), dscp: Some(46), ..of(5, 6, 84, &web) },
            Service { choice: sticky, owner, ..of(6, 6, 85, &web) },
            dispatch(of(7, 6, 86, &[self.real(self.extra, 5, 0)])),
            dispatch(of(8, 17, 86, &[self.real(self.extra, 5, 0)])),
            dispatch(of(9, 6, 87, &[self.real(self.extra + 1, 6, 0)])),
            dispatch(of(10, 17, 87, &[self.real(self.extra + 1, 6, 0)])),
            forward(Service {
                net: Net(self.reals[2], host),
                max: 2,
                reverse: by_client.clone(),
                ..of(11, 6, 0, &[])
            }),
            Service {
                net: Net(self.networks[0], wide),
                choice: Choice::Sticky { group: 78, bits: host, by: By::Destination },
                source: clients,
                dscp: Some(63),
                ..of(12, 0, 0, &web)
            },
            Service { net: Net(self.networks[1], narrow), dscp: Some(0), ..of(13, 17, 53, &dns) },
            forward(Service { net: Net(self.beyond, narrow), source: Source::Static, ..of(14, 0, 0, &[]) }),
            Service { in_service: false, ..of(15, 6, 89, &web) },
            of(16, 6, 90, &[]),
            Service { choice: Choice::Least([1, 2, 1]), max: 4, ..of(LEAST, 6, 91, &web) },
            Service {
                choice: Choice::Sticky { group: 256 + self.extra + FTP, bits: host, by: By::Source },
                data: Some(6),
                max: 4,
                ..of(FTP, 6, FTP_PORT, &web)
            },
            Service { vlan: Some(2), ..of(19, 6, 92, &web) },
            Service { vlan: Some(3), ..of(20, 6, 92, &web) },
            Service { clients: Some(Net(self.far, narrow)), dscp: Some(1), ..of(21, 6, 92, &web) },
            Service { vlan: Some(2), clients: Some(Net::host(self.near)), ..of(22, 6, 92, &web) },
            Service {
                choice: Choice::Sticky { group: 256 + self.extra + RTSP, bits: host, by: By::Source },
                data: Some(17),
                max: 3,
                ..of(RTSP, 6, RTSP_PORT, &web)
            },
            Service {
                choice: Choice::Sticky { group: 79, bits: narrow, by: By::Both },
                ..of(24, 6, 93, &web)
            },
            dispatch(Service {
                net: Net(self.far, narrow),
                vlan: Some(3),
                choice: Choice::Sticky { group: 80, bits: host, by: By::Destination },
                unidirectional: false,
                ..of(25, 6, OUTWARD_PORT, &firewalls)
            }),
        ]
    }

    /// Whose the servers' segments are.
    fn origins(&self) -> Vec<Origin> {
        let origin = |index: usize, port, service| {
            let number = self.base + u32::try_from(index).expect("a few");
            Origin {
                at: (self.reals[index], port),
                data: None,
                service,
                real: self.real(number, index, 0),
                virtual_server: (self.vip, port),
            }
        };
        let service = |port| match port {
            80 => self.base,
            91 => self.extra + LEAST,
            92 => self.extra + 21,
            89 => self.extra + 15,
            0 | RTSP_PORT => self.extra + RTSP,
            _ => self.extra + FTP,
        };
        // The servers' media of RTSP have any port.
        let all = ORIGINS.into_iter().chain([(0, 0), (1, 0), (2, 0)]);
        let data = |port| match port {
            20 => Some(6),
            0 => Some(17),
            _ => None,
        };
        all.map(|(index, port)| Origin { data: data(port), ..origin(index, port, service(port)) }).collect()
    }

    /// Adds this family's part.
    fn add(&self, scene: &mut Scene) {
        let [host, ..] = self.bits();
        scene.addresses.extend([(self.vip, 2), (self.alias, 3)]);
        scene.error_sources.extend([(self.own, 2), (self.alias, 3)]);
        self.hops(scene);
        let (near, far) = if self.is_v6() { (64, 0) } else { (24, 8) };
        let elsewhere =
            if self.is_v6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::new(10, 0, 0, 0).into() };
        scene.routes.extend([
            (Net(self.vip, near), Way::Connected(2)),
            (Net(self.alias, near), Way::Connected(3)),
            (Net(elsewhere, far), Way::Via(self.base + 3)),
        ]);
        scene.services.extend(self.services());
        scene.origins.extend(self.origins());
        // Each family's pools have numbers of their own in the model alone.
        let mut pool = |number, first, addresses, port, ports| {
            scene.pools.push(Pool { number: number + self.base, first, addresses, port, ports });
        };
        pool(POOL_CLIENTS, self.pool, 2, 2000, 1);
        pool(POOL_SERVERS, self.vip, 1, 40_000, 1);
        scene.addresses.extend((0..2).map(|index| (plus(self.pool, index), 3)));
        scene.statics.extend([
            (Net(self.reals[0], host), Static::Pool(POOL_SERVERS + self.base)),
            (Net(self.reals[1], host), Static::Drop),
        ]);
        for service in &mut scene.services {
            if service.net.0.is_ipv6() == self.is_v6()
                && let Source::Pool(number) = &mut service.source
            {
                *number += self.base;
            }
        }
    }
}

/// Of both families.
pub(crate) fn scene(rig: &Rig) -> Scene {
    let ports = rig.ports();
    let trunk = ports[0].tagged;
    let ft_mtu = if trunk { JUMBO } else { 1500 };
    let own_macs = [Side::Client, Side::Server].map(|side| rig.own_mac(side));
    let mut scene = Scene { trunk, ft_mac: rig.own_mac(Side::Ft), own_macs, ft_mtu, ..Scene::default() };
    for family in [v4(), v6()] {
        family.add(&mut scene);
    }
    if ports[0].bridge.is_some() {
        scene.bridge = Some(Bridge { mac: ports[0].mac, own: [rig::OWN.into(), rig6::OWN6.into()] });
        scene.addresses.extend([(rig::VIP.into(), 3), (rig6::VIP6.into(), 3)]);
    }
    scene
}
