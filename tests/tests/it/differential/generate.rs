//! Frames: of connections that the model knows, of new ones, and damaged ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use csm_tests::model::Model;
use csm_tests::model::scene::Scene;
use csm_tests::model::table::{ACK, Conn, FIN, RST, SYN};
use csm_tests::rig::{FAR_CLIENT, Side, VIRTUAL_MAC};
use csm_tests::rig6;
use csm_tests::sim::rng::Rng;

use super::build::{Ends, build};
use super::scene::{self, Family};
use super::wire;

pub(crate) const PSH: u8 = 8;
const NEAR_NUMBERS: [u32; 6] = [0, 1, u32::MAX, 16_384, 131_071, 131_072];
const FLAGS: [u8; 10] = [SYN, SYN, SYN | ACK, SYN | ACK, ACK, ACK, PSH | ACK, FIN | ACK, RST, RST | ACK];

/// A stream of frames.
pub(crate) struct Generator {
    rng: Rng,
    /// Fragments that are still to come.
    later: Vec<(Side, Vec<u8>)>,
    ft_mac: [u8; 6],
    trunk: bool,
    /// Packets longer than usual.
    jumbo: bool,
    /// MAC address of the node where both VLANs are bridged.
    bridge: Option<[u8; 6]>,
    families: [Family; 2],
}

impl Generator {
    pub(crate) fn new(seed: u64, scene: &Scene) -> Self {
        let (ft_mac, trunk) = (scene.ft_mac, scene.trunk);
        let bridge = scene.bridge.map(|bridge| bridge.mac);
        let jumbo = scene.hops.iter().any(|hop| hop.mtu > 1500);
        Self {
            rng: Rng::new(seed),
            later: Vec::new(),
            ft_mac,
            trunk,
            jumbo,
            bridge,
            families: [scene::v4(), scene::v6()],
        }
    }

    /// The next frame and where it comes in.
    pub(crate) fn frame(&mut self, model: &Model) -> (Side, Vec<u8>) {
        let (side, mut bytes) = self.untagged(model);
        if let Some(own) = self.bridge {
            self.past(own, side, &mut bytes);
        }
        let (side, bytes_now) = self.onto(side, std::mem::take(&mut bytes));
        bytes = bytes_now;
        if self.rng.chance(12) {
            wire::damage(&mut self.rng, &mut bytes);
        }
        (side, bytes)
    }

    fn untagged(&mut self, model: &Model) -> (Side, Vec<u8>) {
        if !self.later.is_empty() && self.rng.chance(50) {
            let index = usize::try_from(self.rng.within(0..self.later.len() as u64)).expect("an index");
            return self.later.swap_remove(index);
        }
        let conns = model.tables.conns();
        let (side, mut bytes) = match self.rng.within(0..100) {
            0..60 if !conns.is_empty() => {
                let recent = conns.len().saturating_sub(24)..conns.len();
                let index = self.rng.within(recent.start as u64..recent.end as u64);
                let conn = conns[usize::try_from(index).expect("an index")].clone();
                match self.rng.within(0..100) {
                    0..15 => self.error(&conn),
                    15..75 if conn.virtual_server().1 == scene::FTP_PORT => self.data(&conn),
                    15..85 if conn.virtual_server().1 == scene::RTSP_PORT => self.media(&conn),
                    _ => self.of_conn(&conn),
                }
            }
            0..88 => self.first(),
            88..94 => self.near(),
            _ => self.stranger(),
        };
        if side == Side::Client && self.rng.chance(60) {
            // The gateway's and the near client's, who are firewalls.
            let family = &self.families[usize::from(bytes[12..14] == [0x86, 0xdd])];
            bytes[6..12].copy_from_slice(&self.rng.pick(&family.macs[3..]));
        }
        if self.rng.chance(8) {
            wire::lengthen(&mut self.rng, &mut bytes);
        }
        if bytes.len() < 400 && self.rng.chance(10) {
            let mut pieces = wire::in_pieces(&mut self.rng, &bytes);
            if !pieces.is_empty() {
                // Now and then not the one to come first; the others come later, in any order.
                let first = if self.rng.chance(80) { 0 } else { pieces.len() - 1 };
                bytes = pieces.swap_remove(first);
                self.later.extend(pieces.into_iter().map(|piece| (side, piece)));
            }
        }
        (side, bytes)
    }

    /// In bridge mode: for the router or another host, whose MAC address the sender knows.
    fn past(&mut self, own: [u8; 6], side: Side, bytes: &mut [u8]) {
        let others = if side == Side::Server { 75 } else { 15 };
        if bytes[..6] == VIRTUAL_MAC && self.rng.chance(others) {
            let family = &self.families[usize::from(bytes[12..14] == [0x86, 0xdd])];
            let to = if self.rng.chance(5) { own } else { self.rng.pick(&family.macs) };
            bytes[..6].copy_from_slice(&to);
        }
        if self.rng.chance(3) {
            let from = self.rng.pick(&[own, VIRTUAL_MAC]);
            bytes[6..12].copy_from_slice(&from);
        }
    }

    /// With the tag that it needs, or another; now and then by way of the peer.
    fn onto(&mut self, side: Side, mut bytes: Vec<u8>) -> (Side, Vec<u8>) {
        let mut side = side;
        if self.rng.chance(5) {
            let vlan = if self.rng.chance(90) { [2, 3, 9][side as usize] } else { self.rng.pick(&[0, 9, 4]) };
            let to = if self.rng.chance(90) { self.ft_mac } else { VIRTUAL_MAC };
            bytes[..6].copy_from_slice(&to);
            bytes[6..12].copy_from_slice(&[2, 0x63, 0x73, 0x6d, 0, vlan]);
            side = Side::Ft;
        }
        let own = [2, 3, 9][side as usize];
        let vlan = match (self.trunk, self.rng.within(0..100)) {
            (_, 0) => Some(0),
            (_, 1) => Some(4),
            (true, 2) | (false, _) => None,
            (true, _) => Some(own),
        };
        if let Some(vlan) = vlan {
            let priority = if self.rng.chance(20) { 0xa0 } else { 0 };
            bytes.splice(12..12, [0x81, 0, priority, vlan]);
        }
        (side, bytes)
    }

    fn number(&mut self, near: u32) -> u32 {
        if self.rng.chance(5) {
            return u32::try_from(self.rng.next() >> 32).expect("half");
        }
        near.wrapping_add(self.rng.pick(&NEAR_NUMBERS))
    }

    fn flags(&mut self) -> u8 {
        if self.rng.chance(12) {
            u8::try_from(self.rng.next() >> 56).expect("an octet")
        } else {
            self.rng.pick(&FLAGS)
        }
    }

    fn ttl(&mut self) -> u8 {
        self.rng.pick(&[64, 64, 64, 64, 255, 255, 2, 1])
    }

    /// A packet of a connection that there is, in either direction; mostly the next that is due.
    fn of_conn(&mut self, conn: &Conn) -> (Side, Vec<u8>) {
        let forward = self.rng.chance(50);
        let key = if forward { conn.key } else { conn.return_key() };
        let mut flags = self.flags();
        let (mut seq, mut ack) = (self.number(1000), self.number(5000));
        if forward && self.rng.chance(70) {
            // Of a unidirectional one it is the sequence number that must fit.
            let beyond = if conn.window > 1 { self.rng.pick(&[0, 1000, (1 << 24) - 1, 1 << 24]) } else { 0 };
            let expect = conn.expect.wrapping_add(beyond);
            (seq, ack) = if conn.unidirectional { (expect, expect) } else { (seq, expect) };
            if self.rng.chance(50) {
                flags = ACK;
            }
        }
        if let Some(acked) = conn.acked[usize::from(forward)]
            && self.rng.chance(70)
        {
            seq = self.number(acked);
        }
        if !forward && self.rng.chance(30) {
            flags = SYN | ACK;
        }
        let ends = Ends { proto: key.proto, src: (key.src, key.sport), dst: (key.dst, key.dport) };
        (side_of(key.vlan), self.packet(&ends, flags, (seq, ack)))
    }

    /// The first packet of a data connection beside one of FTP, in either mode.
    fn data(&mut self, control: &Conn) -> (Side, Vec<u8>) {
        let (client, port) = (control.key.src, self.rng.pick(&[1000, 1001, 1002]));
        let (src, dst) = if self.rng.chance(50) {
            ((client, port), (control.key.dst, self.rng.pick(&[1024, 30_000, 1023])))
        } else {
            ((control.server.0, scene::FTP_PORT - 1), (client, port))
        };
        let vlan = if src.0 == client { control.key.vlan } else { control.server_vlan };
        let numbers = (self.number(1000), self.number(5000));
        (side_of(vlan), self.packet(&Ends { proto: 6, src, dst }, SYN, numbers))
    }

    /// A datagram of media beside a connection of RTSP, from either side, or what is nearly one: of a port below 1024, another
    /// real, another client. The control connection may have ended since, and the client been forgotten.
    fn media(&mut self, control: &Conn) -> (Side, Vec<u8>) {
        let family = &self.families[usize::from(control.key.src.is_ipv6())];
        let (real, other) = (self.rng.pick(&family.reals), family.near);
        let client = if self.rng.chance(90) { control.key.src } else { other };
        let client = (client, self.rng.pick(&[5004, 5004, 5004, 1024, 1023]));
        let port = self.rng.pick(&[6970, 6970, 6970, 1024, 1023, 54]);
        let of_client = self.rng.chance(40);
        let (src, dst) = if of_client {
            (client, (control.key.dst, port))
        } else {
            ((if self.rng.chance(80) { control.server.0 } else { real }, port), client)
        };
        let vlan = if of_client { control.key.vlan } else { control.server_vlan };
        (side_of(vlan), self.packet(&Ends { proto: 17, src, dst }, 0, (0, 0)))
    }

    /// An ICMP error about a packet that left by a connection that there is, in either direction, or by a tunnel.
    fn error(&mut self, conn: &Conn) -> (Side, Vec<u8>) {
        let forward = self.rng.chance(50);
        let (src, dst) = conn.leaves(forward);
        let mut vlan = if forward { conn.server_vlan } else { conn.key.vlan };
        let mut ends = Ends { proto: conn.key.proto, src, dst };
        let v6 = src.0.is_ipv6();
        let family = &self.families[usize::from(v6)];
        let (gateway, real, alias, vip) = (family.gateway, family.reals[1], family.alias, family.vip);
        if self.rng.chance(8) {
            let proto = self.rng.pick(if v6 { &[41, 17] } else { &[4, 17] });
            (vlan, ends) = (3, Ends { proto, src: (alias, 50_000), dst: (real, 6080) });
        }
        let flags = self.flags();
        let numbers = (self.number(1000), self.number(5000));
        let mut quote = self.packet(&ends, flags, numbers);
        if self.rng.chance(8) {
            wire::lengthen(&mut self.rng, &mut quote);
        }
        let mut quote = quote.split_off(14);
        let least = if v6 { 46 } else { 26 };
        let quoted = usize::try_from(self.rng.within(least..least + 40)).expect("a length");
        quote.truncate(quoted);
        let router: IpAddr = if v6 { rig6::FAR6.ip.into() } else { Ipv4Addr::new(10, 1, 1, 3).into() };
        let from = self.rng.pick(&[ends.dst.0, ends.dst.0, gateway, real, router]);
        let to = if self.rng.chance(92) { ends.src.0 } else { vip };
        let (kind, code) = if v6 {
            (self.rng.pick(&[1, 2, 2, 3, 4, 5]), self.rng.pick(&[0, 0, 1, 3]))
        } else {
            (self.rng.pick(&[3, 3, 11, 11, 12, 4, 5]), self.rng.pick(&[0, 1, 3, 4]))
        };
        let ttl = self.ttl();
        (side_of(vlan), wire::error(from, to, ttl, [kind, code], &quote))
    }

    /// A packet of whoever to whomever.
    fn first(&mut self) -> (Side, Vec<u8>) {
        let side = if self.rng.chance(65) { Side::Client } else { Side::Server };
        let v6 = self.rng.chance(50);
        let last = u16::try_from(self.rng.within(1..4)).expect("a few");
        let family = &self.families[usize::from(v6)];
        let (far, elsewhere): ([IpAddr; 3], [IpAddr; 7]) = if v6 {
            let net = |a, c| Ipv6Addr::new(0x2001, 0xdb8, a, 0, 0, 0, 0, c);
            (
                [rig6::FAR6.ip, Ipv6Addr::new(0x2001, 0xdb8, 0xa, 1, 0, 0, 0, last), net(0xa, 2)]
                    .map(Into::into),
                [net(0x27, 77), net(8, 8), Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED, net(0, 0)]
                    .into_iter()
                    .chain([Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 5), rig6::GATEWAY6.ip])
                    .map(IpAddr::from)
                    .collect::<Vec<_>>()
                    .try_into()
                    .expect("seven"),
            )
        } else {
            let [_, low] = last.to_be_bytes();
            (
                [FAR_CLIENT.ip, Ipv4Addr::new(10, 1, 1, low), Ipv4Addr::new(10, 1, 9, 2)].map(Into::into),
                [
                    Ipv4Addr::new(192, 158, 39, 77),
                    Ipv4Addr::new(8, 8, 8, 8),
                    Ipv4Addr::LOCALHOST,
                    Ipv4Addr::UNSPECIFIED,
                    Ipv4Addr::BROADCAST,
                    Ipv4Addr::new(224, 0, 0, 5),
                    Ipv4Addr::new(240, 0, 0, 1),
                ]
                .map(Into::into),
            )
        };
        let [wide, narrow] = family.networks;
        let inside = |net: IpAddr| csm_tests::model::scene::plus(net, 7);
        let odd: Vec<IpAddr> = elsewhere
            .into_iter()
            .chain([family.stranger, family.vip, family.alias, family.gateway, family.reals[0], far[0]])
            .collect();
        let (usual, common) = match side {
            Side::Client => (
                vec![far[0], far[1], family.near],
                vec![
                    family.vip,
                    family.vip,
                    family.vip,
                    family.vip,
                    family.reals[1],
                    family.reals[2],
                    inside(wide),
                    inside(narrow),
                ],
            ),
            _ => (
                family.reals.to_vec(),
                vec![
                    far[0],
                    family.near,
                    family.gateway,
                    family.vip,
                    inside(family.beyond),
                    inside(family.beyond),
                ],
            ),
        };
        let src = if self.rng.chance(88) { self.rng.pick(&usual) } else { self.rng.pick(&odd) };
        let dst = if self.rng.chance(88) { self.rng.pick(&common) } else { self.rng.pick(&odd) };
        let icmp = if v6 { 58 } else { 1 };
        let proto = self.rng.pick(&[6, 6, 6, 6, 6, 6, 17, 17, 17, icmp, icmp, 47]);
        // A server's own: of a connection that nobody knows, or to a client's FTP.
        let origin = (side == Side::Server && self.rng.chance(40)).then(|| self.rng.pick(&scene::ORIGINS));
        if let Some((real, port)) = origin {
            let family = &self.families[usize::from(v6)];
            let server = (family.reals[real], port);
            let client = (self.rng.pick(&[far[0], far[1], family.near]), self.rng.pick(&[1000, 1001, 1002]));
            let flags = if port == 20 && self.rng.chance(70) { SYN } else { self.flags() };
            let numbers = (self.number(1000), self.number(5000));
            return (side, self.packet(&Ends { proto: 6, src: server, dst: client }, flags, numbers));
        }
        if side == Side::Server && self.rng.chance(15) {
            // To a client, by way of a firewall.
            let family = &self.families[usize::from(v6)];
            let (server, client) = (self.rng.pick(&family.reals), self.rng.pick(&far[..2]));
            let flags = if self.rng.chance(70) { SYN } else { self.flags() };
            let numbers = (self.number(1000), self.number(5000));
            let (src, dst) = ((server, self.rng.pick(&[1000, 1001])), (client, scene::OUTWARD_PORT));
            return (side, self.packet(&Ends { proto: 6, src, dst }, flags, numbers));
        }
        let sport = self.rng.pick(&[1000, 1001, 1002, 80, 5353]);
        let port = match proto {
            17 => self.rng.pick(&scene::UDP),
            _ => self.rng.pick(&scene::TCP),
        };
        let dport = if self.rng.chance(85) { port } else { self.rng.pick(&[53, 1000, 88, 0]) };
        let flags = if self.rng.chance(60) { SYN } else { self.flags() };
        let numbers = (self.number(1000), self.number(5000));
        (side, self.packet(&Ends { proto, src: (src, sport), dst: (dst, dport) }, flags, numbers))
    }

    fn packet(&mut self, ends: &Ends, flags: u8, numbers: (u32, u32)) -> Vec<u8> {
        let ttl = self.ttl();
        let (least, most) = match self.rng.within(0..200) {
            // Around the usual MTU, around a page, where a frame's second buffer begins, and near its end.
            0 if self.jumbo => self.rng.pick(&[(1380, 1470), (3200, 4200), (8800, 9000)]),
            0..24 => (0, 160),
            _ => (0, 40),
        };
        let payload = vec![0x5a; usize::try_from(self.rng.within(least..most)).expect("a few")];
        let asks = self.rng.chance(60);
        let mut bytes = build(ends, flags, numbers, (ttl, asks), &payload);
        let v6 = ends.src.0.is_ipv6();
        if ends.proto == 17 && self.rng.chance(20) {
            let at = if v6 { 60 } else { 40 };
            bytes[at..at + 2].fill(0);
        }
        if !v6 && self.rng.chance(30) {
            wire::may_be_fragmented(&mut bytes);
        }
        bytes
    }

    /// ARP, or neighbour discovery.
    fn near(&mut self) -> (Side, Vec<u8>) {
        let side = if self.rng.chance(50) { Side::Client } else { Side::Server };
        let v6 = self.rng.chance(50);
        let family = &self.families[usize::from(v6)];
        let addresses = [family.vip, family.alias, family.reals[0], family.near, family.stranger];
        let asks = self.rng.chance(80);
        let (sender, target) = (self.rng.pick(&addresses[1..]), self.rng.pick(&addresses));
        let mac = [self.rng.pick(&[2, 2, 2, 1]), 0xee, 0, 0, 7, 7];
        let bytes = match (sender, target) {
            (IpAddr::V6(sender), IpAddr::V6(target)) => {
                let nobody = self.rng.chance(15);
                let sender = if nobody { Ipv6Addr::UNSPECIFIED } else { sender };
                let option = self.rng.pick(&[Some(1), Some(1), Some(2), None]);
                let hops = if self.rng.chance(92) { 255 } else { 64 };
                wire::discovery(mac, (sender, target), asks, option, hops)
            }
            (IpAddr::V4(sender), IpAddr::V4(target)) => wire::arp(mac, sender, target, asks),
            _ => unreachable!("of one family"),
        };
        (side, bytes)
    }

    /// Of another protocol, or for another MAC address.
    fn stranger(&mut self) -> (Side, Vec<u8>) {
        let (side, mut bytes) = self.first();
        match self.rng.within(0..4) {
            0 => bytes[12..14].copy_from_slice(&[0x88, 0xcc]),
            // The other family's, by its type alone.
            1 => bytes[13] ^= 0xdd,
            2 => bytes[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]),
            _ => {
                let groups = [[2, 0, 0, 0, 0, 9], [1, 0x80, 0xc2, 0, 0, 14], [1, 0, 0x0c, 0xcc, 0xcc, 0xcd]];
                bytes[..6].copy_from_slice(&self.rng.pick(&groups));
            }
        }
        (side, bytes)
    }
}

/// For the side that a connection's packets come in on.
fn side_of(vlan: u16) -> Side {
    if vlan == 2 { Side::Client } else { Side::Server }
}
