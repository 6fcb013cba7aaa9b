//! A plain model of what the XDP program does to a frame, for the differential test. It shares no code with the program:
//! headers are read by hand, checksums summed anew, and a connection is one record, not two entries that find one another.
//!
//! The scene is the rig's (`crate::rig`): clients on VLAN 2, servers on VLAN 3, untagged ports, the gate open. What the
//! model leaves out, [`Model::step`] says by `None`: IP options, a TTL that runs out, 802.1Q tags, the FT port.

pub mod error;
pub mod fragment;
pub mod frame;
pub mod table;

use std::net::Ipv4Addr;

use csm_common::counter::Reason;

use crate::rig::{ALIAS, GATEWAY, NEAR_CLIENT, REALS, Side, VIP, VIRTUAL_MAC};
use error::Quote;
use fragment::{Datagrams, Fate};
use frame::{Echo, Frame, Kind, Transport};
use table::{Conn, Key, Outcome, Tables};

/// A virtual server of the scene.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its number.
    pub number: u32,
    /// IP protocol.
    pub proto: u8,
    /// Port; 0: any.
    pub port: u16,
    /// The reals in their turn: number, address, port (0: the virtual server's).
    pub ring: Vec<(u32, Ipv4Addr, u16)>,
    /// In service.
    pub in_service: bool,
    /// Turns taken.
    pub turns: u64,
    /// In dispatch mode: its reals own the virtual address.
    pub dispatch: bool,
}

/// Packets and octets that were sent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Proven connections.
    pub connections: u64,
    /// From clients: packets, octets.
    pub client: (u64, u64),
    /// From servers: packets, octets.
    pub server: (u64, u64),
}

/// Where a frame goes: to the MAC address of that host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Host([u8; 6], u16),
    Unresolved,
    None,
}

/// The model.
#[derive(Clone, Debug)]
pub struct Model {
    /// The virtual servers.
    pub services: Vec<Service>,
    /// The connections.
    pub tables: Tables,
    /// What comes in pieces.
    pub datagrams: Datagrams,
    /// By virtual server.
    pub sums: Vec<Sums>,
    /// By real.
    pub real_sums: Vec<Sums>,
}

/// A frame's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: Reason,
    /// The frame that goes on; `None` where it is dropped.
    pub frame: Option<Frame>,
    /// Of an ICMP error, whose quote may be cut: places of checksums, where 0 and FFFF are the same.
    pub zeros: Vec<usize>,
}

impl End {
    fn of(reason: Reason, frame: Option<Frame>) -> Self {
        Self { reason, frame, zeros: Vec::new() }
    }
}

impl Model {
    /// The scene with these virtual servers, numbered from 0.
    #[must_use]
    pub fn new(services: Vec<Service>) -> Self {
        let sums = vec![Sums::default(); services.len()];
        let real_sums = vec![Sums::default(); 2 * REALS.len()];
        Self { services, tables: Tables::default(), datagrams: Datagrams::default(), sums, real_sums }
    }

    /// What becomes of a frame that comes in on `side`; `None` if the model does not say.
    pub fn step(&mut self, side: Side, bytes: &[u8]) -> Option<End> {
        let frame = Frame::of(bytes);
        let vlan = if side == Side::Client { 2 } else { 3 };
        let end = |reason| Some(End::of(reason, None));
        let pass = |reason| Some(End::of(reason, Some(frame.clone())));
        match frame.ethertype() {
            0x0806 => return Some(arp(vlan, &frame)),
            0x0800 => {}
            0x8100 => return None,
            _ => return pass(Reason::PassProtocol),
        }
        if frame.dst_mac() != VIRTUAL_MAC {
            return pass(Reason::PassHost);
        }
        let transport = match frame.kind() {
            Kind::LeftOut => return None,
            Kind::Malformed => return end(Reason::DropMalformed),
            Kind::BadFragment => return end(Reason::DropFragment),
            Kind::Later => {
                return match self.follow(vlan, &frame) {
                    Ok(out) => out,
                    Err(reason) => end(reason),
                };
            }
            Kind::OtherIcmp => return end(Reason::DropProtocol),
            Kind::Error => return Some(self.error(vlan, &frame).unwrap_or_else(|why| End::of(why, None))),
            Kind::Transport(transport) => transport,
        };
        if let Transport::Echo { kind: Echo::Request, .. } = transport
            && is_ours(frame.dst(), vlan)
        {
            let mut reply = frame.clone();
            reply.answer_echo(VIRTUAL_MAC);
            if frame.has_more() {
                self.datagrams.note(&frame, vlan, Fate::Answered);
            }
            return Some(End::of(Reason::EchoReplied, Some(reply)));
        }
        if frame.ttl() <= 1 {
            return None;
        }
        match self.walk(side, vlan, &frame, transport) {
            Ok((reason, out)) => Some(End::of(reason, Some(out))),
            Err(reason) => end(reason),
        }
    }

    /// An ICMP error about a packet that left here.
    fn error(&mut self, vlan: u16, frame: &Frame) -> Result<End, Reason> {
        let quote = Quote::of(frame, vlan)?;
        let (id, forward) = self.tables.place(&quote.key).ok_or(Reason::DropIcmp)?;
        let conn = self.tables.conn(id).clone();
        let towards = if forward { conn.to_server } else { conn.to_client };
        let mac = towards.ok_or(Reason::DropUnresolved)?;
        let (mut out, zeros) = quote.translate(frame, &conn, forward);
        out.send_to(mac, VIRTUAL_MAC);
        self.count(conn.service, forward, frame);
        Ok(End { reason: Reason::ForwardedIcmp, frame: Some(out), zeros })
    }

    /// A fragment with others before it.
    fn follow(&mut self, vlan: u16, frame: &Frame) -> Result<Option<End>, Reason> {
        let Some(fate) = self.datagrams.follow(frame, vlan)? else { return Ok(None) };
        let mut out = frame.clone();
        let reason = match fate {
            Fate::Answered => {
                out.readdress((frame.dst(), frame.src()), 64);
                out.send_to(frame.src_mac(), VIRTUAL_MAC);
                Reason::EchoReplied
            }
            Fate::Follows { addresses, mac, service, forward } => {
                out.readdress(addresses, frame.ttl() - 1);
                out.send_to(mac, VIRTUAL_MAC);
                self.count(service, forward, frame);
                Reason::ForwardedFragment
            }
        };
        Ok(Some(End { zeros: vec![24], ..End::of(reason, Some(out)) }))
    }

    fn count(&mut self, service: Option<(u32, u32)>, forward: bool, frame: &Frame) {
        let Some((service, real)) = service else { return };
        for sums in [&mut self.sums[service as usize], &mut self.real_sums[real as usize]] {
            let side = if forward { &mut sums.client } else { &mut sums.server };
            side.0 += 1;
            side.1 += frame.len() as u64;
        }
    }

    fn walk(
        &mut self,
        side: Side,
        vlan: u16,
        frame: &Frame,
        transport: Transport,
    ) -> Result<(Reason, Frame), Reason> {
        let key = Key::of(frame, vlan, transport);
        let (id, forward, fresh) = match self.tables.meet(&key, transport) {
            Outcome::Known { id, forward, proven } => {
                if proven {
                    let conn = self.tables.conn(id);
                    if let Some((service, real)) = conn.service {
                        self.sums[service as usize].connections += 1;
                        self.real_sums[real as usize].connections += 1;
                    }
                }
                (id, forward, false)
            }
            Outcome::Dropped(reason) => return Err(reason),
            Outcome::Unknown => (self.open(side, vlan, frame, &key, transport)?, true, true),
        };
        if let Transport::Tcp { flags, ack, .. } = transport
            && self.tables.conn(id).is_servers(forward)
            && flags & table::ACK != 0
        {
            self.tables.note_ack(id, forward, ack);
        }
        let conn = self.tables.conn(id).clone();
        let mut out = frame.clone();
        out.translate(&conn, forward);
        let towards = if forward { conn.to_server } else { conn.to_client };
        let Some(mac) = towards else { return Err(Reason::DropUnresolved) };
        out.send_to(mac, VIRTUAL_MAC);
        self.count(conn.service, forward, frame);
        if frame.has_more() {
            let ends =
                if forward { (conn.client(), conn.server) } else { (conn.virtual_server(), conn.client()) };
            let addresses = (ends.0.0, ends.1.0);
            self.datagrams.note(
                frame,
                vlan,
                Fate::Follows { addresses, mac, service: conn.service, forward },
            );
        }
        let reason = match (conn.service, fresh) {
            (None, _) => Reason::ForwardedRouted,
            (_, true) => Reason::ForwardedNew,
            (_, false) => Reason::ForwardedFlow,
        };
        Ok((reason, out))
    }

    /// A first packet.
    fn open(
        &mut self,
        side: Side,
        vlan: u16,
        frame: &Frame,
        key: &Key,
        transport: Transport,
    ) -> Result<u32, Reason> {
        let exact = |service: &&mut Service| service.proto == key.proto && service.port == key.dport;
        let any = |service: &&mut Service| service.proto == key.proto && service.port == 0;
        let to_vip = frame.dst() == VIP;
        let service = if to_vip {
            match self.services.iter_mut().find(exact) {
                Some(service) => Some(service),
                None => self.services.iter_mut().find(any),
            }
        } else {
            None
        };
        let Some(service) = service else { return self.route(side, vlan, frame, key, transport) };
        if !transport.opens() {
            return Err(Reason::DropNoConnection);
        }
        if !service.in_service {
            return Err(Reason::DropNoPolicy);
        }
        let to_client = way_back(frame.src(), vlan)?;
        if service.ring.is_empty() {
            return Err(Reason::DropNoReal);
        }
        let turn = usize::try_from(service.turns).expect("a few");
        let (real, address, port) = service.ring[turn % service.ring.len()];
        service.turns += 1;
        let server = if service.dispatch {
            (key.dst, key.dport)
        } else {
            (address, if port == 0 { key.dport } else { port })
        };
        let conn = Conn {
            key: *key,
            server,
            server_vlan: 3,
            service: Some((service.number, real)),
            to_server: REALS.iter().find(|host| host.ip == address).map(|host| host.mac),
            to_client: Some(to_client),
            ..Conn::new(*key)
        };
        self.tables.open(conn)
    }

    /// A first packet to no virtual server.
    fn route(
        &mut self,
        side: Side,
        vlan: u16,
        frame: &Frame,
        key: &Key,
        transport: Transport,
    ) -> Result<u32, Reason> {
        let dst = frame.dst();
        if is_ours(dst, vlan) {
            return Err(Reason::DropNoVserver);
        }
        if !is_host(dst) {
            return Err(Reason::DropNoRoute);
        }
        let egress = match route(dst) {
            Way::Host(_, vlan) => vlan,
            Way::Unresolved => u16::from(dst.octets()[2] == 39) + 2,
            Way::None => return Err(Reason::DropNoRoute),
        };
        if is_ours(dst, egress) {
            return Err(Reason::DropNoVserver);
        }
        match (side, egress) {
            (Side::Server, 2) => {}
            (Side::Client, 3) => return Err(Reason::DropDirect),
            _ => return Err(Reason::DropNoRoute),
        }
        if !transport.opens() {
            return Err(Reason::DropNoConnection);
        }
        let Way::Host(to_server, _) = route(dst) else { return Err(Reason::DropUnresolved) };
        let to_client = way_back(frame.src(), vlan)?;
        self.tables.open(Conn {
            server_vlan: egress,
            to_server: Some(to_server),
            to_client: Some(to_client),
            ..Conn::new(*key)
        })
    }
}

/// One of the group's addresses on `vlan`.
fn is_ours(ip: Ipv4Addr, vlan: u16) -> bool {
    (ip, vlan) == (VIP, 2) || (ip, vlan) == (ALIAS, 3)
}

/// Not of "this network", loopback, multicast or reserved.
fn is_host(ip: Ipv4Addr) -> bool {
    !matches!(ip.octets()[0], 0 | 127 | 224..)
}

/// The way to `ip`.
fn route(ip: Ipv4Addr) -> Way {
    match ip.octets() {
        [10, ..] => Way::Host(GATEWAY.mac, 2),
        [192, 158, 38 | 39, _] => REALS
            .iter()
            .chain([&GATEWAY, &NEAR_CLIENT])
            .find(|host| host.ip == ip)
            .map_or(Way::Unresolved, |host| Way::Host(host.mac, host.vlan)),
        _ => Way::None,
    }
}

/// The MAC address on the way back to a first packet's source.
fn way_back(src: Ipv4Addr, vlan: u16) -> Result<[u8; 6], Reason> {
    if !is_host(src) || is_ours(src, vlan) {
        return Err(Reason::DropSource);
    }
    let unresolved_vlan = u16::from(src.octets()[2] == 39) + 2;
    match route(src) {
        Way::None => Err(Reason::DropNoRoute),
        Way::Host(_, on) if on != vlan => Err(Reason::DropSource),
        Way::Unresolved if unresolved_vlan != vlan => Err(Reason::DropSource),
        Way::Host(mac, _) => Ok(mac),
        Way::Unresolved => Err(Reason::DropUnresolved),
    }
}

/// ARP on a data port.
fn arp(vlan: u16, frame: &Frame) -> End {
    let pass = End::of(Reason::PassArp, Some(frame.clone()));
    let Some(arp) = frame.arp() else { return End::of(Reason::DropMalformed, None) };
    let usual = arp.header == [0, 1, 8, 0, 6, 4];
    if !usual || arp.sender_mac[0] & 1 == 1 || is_ours(arp.sender, vlan) {
        return pass;
    }
    if arp.operation != 1 || !is_ours(arp.target, vlan) {
        return pass;
    }
    let mut reply = frame.clone();
    reply.answer_arp(&arp, VIRTUAL_MAC);
    End::of(Reason::ArpReplied, Some(reply))
}
