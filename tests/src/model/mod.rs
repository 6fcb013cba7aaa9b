//! A plain model of what the XDP programs do to a frame, for the differential test. It shares no code with them: headers are
//! read by hand, checksums summed anew, both families are one, and a connection is one record, not two entries that find
//! one another.
//!
//! What the program is free to choose (a port of a pool, the real of a hash) the model is told, and judges: whether it was
//! one's to give, and nobody else's.

mod bridge;
pub mod error;
pub mod fragment;
pub mod frame;
pub mod near;
mod open;
pub mod out;
pub mod scene;
pub mod sums;
pub mod table;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use csm_common::counter::Reason;
use csm_common::gate::GateState;

use crate::rig::{PEER_MAC, Side, VIRTUAL_MAC};
use error::Quote;
use fragment::{Datagrams, Fate};
use frame::{Echo, Frame, Head, L2, Transport};
use near::Near;
use open::Failed;
use out::{Name, Out};
use scene::{Choice, Scene, is_host};
use table::{Key, Outcome, Service, State, Tables};

/// Where strays of the peer have the VLAN that they came in on in their source address.
const STRAY: [u8; 4] = [2, 0x63, 0x73, 0x6d];
const FT_VLAN: u16 = 9;

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

/// Where a frame came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The VLAN; of a stray the one it came in on at the peer.
    pub vlan: u16,
    /// The peer had it first.
    pub relayed: bool,
}

/// What the program chose for a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// What the server takes the opener for.
    pub source: Name,
    /// The real, if there is one.
    pub real: Option<u32>,
}

/// The model.
#[derive(Clone, Debug)]
pub struct Model {
    /// The network.
    pub scene: Scene,
    /// What the node may do.
    pub gate: GateState,
    /// The connections.
    pub tables: Tables,
    /// What comes in pieces.
    pub datagrams: Datagrams,
    /// Reals of clients' networks by group, whose connection is not proven yet.
    pub sticky_half: BTreeMap<(u32, IpAddr), u32>,
    /// The same, proven.
    pub sticky: BTreeMap<(u32, IpAddr), u32>,
    /// By virtual server.
    pub sums: BTreeMap<u32, Sums>,
    /// By real.
    pub real_sums: BTreeMap<u32, Sums>,
    /// Where clients speak to a server itself, in bridge mode: keys of the answers.
    direct: HashSet<Key>,
    /// Connections of a real that count for its load.
    pub loads: BTreeMap<u32, i64>,
    /// Connections of a virtual server or an owner with a limit, as far as both know of them.
    pub places: BTreeMap<u32, i64>,
    /// Turns taken, by virtual server.
    turns: HashMap<u32, usize>,
    /// The real that a hashed client had, by virtual server.
    hashed: HashMap<(u32, IpAddr), u32>,
}

/// A frame's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: Reason,
    /// The frame that goes on; `None` where it is dropped.
    pub out: Option<Out>,
}

impl From<Reason> for End {
    fn from(reason: Reason) -> Self {
        Self { reason, out: None }
    }
}

/// How the walk of a packet ends.
type Walk = Result<(Reason, Out), Reason>;

impl Model {
    /// In that network.
    #[must_use]
    pub fn new(scene: Scene) -> Self {
        Self {
            scene,
            gate: GateState::Open,
            tables: Tables::default(),
            datagrams: Datagrams::default(),
            sticky_half: BTreeMap::new(),
            sticky: BTreeMap::new(),
            sums: BTreeMap::new(),
            real_sums: BTreeMap::new(),
            direct: HashSet::new(),
            loads: BTreeMap::new(),
            places: BTreeMap::new(),
            turns: HashMap::new(),
            hashed: HashMap::new(),
        }
    }

    /// Forgets connections, sticky clients and datagrams.
    pub fn clear(&mut self) {
        self.tables.clear();
        self.datagrams = Datagrams::default();
        self.forget_clients();
        self.direct.clear();
        // As a walk of the controller's would find it.
        self.places.clear();
    }

    /// Forgets the sticky clients alone.
    pub fn forget_clients(&mut self) {
        self.sticky_half.clear();
        self.sticky.clear();
    }

    /// What becomes of a frame that comes in on `side`; `made` tells what the program has chosen for a connection under a key.
    pub fn step(&mut self, side: Side, bytes: &[u8], made: &dyn Fn(&Key) -> Option<Made>) -> End {
        let whole = Frame::of(bytes);
        let pass = |reason, frame: &Frame| End { reason, out: Some(Out::of(frame.clone())) };
        let own = [2, 3, FT_VLAN][side as usize];
        let tag = if whole.ethertype() == 0x8100 {
            if !whole.reaches(12, 6) {
                return Reason::DropMalformed.into();
            }
            Some(whole.u16(14) & 0xfff)
        } else {
            None
        };
        // A tag of VLAN 0 is a priority alone.
        let vlan = match (self.scene.trunk, tag.filter(|&vlan| vlan != 0)) {
            (true, Some(vlan)) if [2, 3, FT_VLAN].contains(&vlan) => vlan,
            (false, None) => own,
            (true, None) if tag.is_none() => return pass(Reason::PassHost, &whole),
            _ => return pass(Reason::PassVlan, &whole),
        };
        let frame = if tag.is_some() { Frame([&bytes[..12], &bytes[16..]].concat()) } else { whole };
        self.untagged(vlan, &frame, made).unwrap_or_else(|reason| pass(reason, &frame))
    }

    /// A frame without its tag; `Err`: it is the kernel's.
    fn untagged(
        &mut self,
        vlan: u16,
        frame: &Frame,
        made: &dyn Fn(&Key) -> Option<Made>,
    ) -> Result<End, Reason> {
        let kind = frame.ethertype();
        let mut at = Arrival { vlan, relayed: false };
        let open = self.gate == GateState::Open;
        let bridge = self.scene.bridge;
        let near = |near: Near| match (near, bridge) {
            (Near::Ends(reason, reply), _) => {
                Ok(End { reason, out: reply.map(|reply| self.onto(at, Out::of(reply))) })
            }
            // What the node itself asks comes back by IPv6 alone.
            (Near::About(target), Some(bridge))
                if !target.is_some_and(|target| bridge.is_own(target))
                    || kind == 0x86dd && frame.mac(6) == bridge.mac =>
            {
                self.bridge(&bridge, frame)
            }
            (Near::About(_) | Near::Rivals, _) => Err(Reason::PassArp),
        };
        match (kind, vlan) {
            (0x0806, FT_VLAN) => return Err(Reason::PassArp),
            (0x0806, _) => return near(near::arp(&self.scene, &at, frame, open, VIRTUAL_MAC)),
            (0x0800 | 0x86dd, FT_VLAN) => {
                at = self.stray(frame)?;
                if !matches!(self.gate, GateState::Open | GateState::RelayIn) || ![2, 3].contains(&at.vlan) {
                    return Ok(Reason::DropRelay.into());
                }
            }
            (0x86dd, _) if near::is_discovery(frame) => {
                return near(near::discovery(&self.scene, &at, frame, open, VIRTUAL_MAC));
            }
            (0x0800 | 0x86dd, _) => {
                match bridge {
                    _ if frame.mac(0) == VIRTUAL_MAC => {}
                    None => return Err(Reason::PassHost),
                    Some(bridge) if frame.mac(0) != bridge.mac && self.is_balanced(vlan, frame) => {}
                    Some(bridge) => return self.bridge(&bridge, frame),
                }
                match self.gate {
                    GateState::Open => {}
                    GateState::RelayOut if frame.0.len() > usize::from(self.scene.ft_mtu) + 14 => {
                        return Ok(Reason::DropRelayTooBig.into());
                    }
                    GateState::RelayOut => {
                        let mut stray = frame.clone();
                        let [high, low] = vlan.to_be_bytes();
                        stray.send_to(PEER_MAC, [2, 0x63, 0x73, 0x6d, high, low]);
                        let to = Arrival { vlan: FT_VLAN, relayed: false };
                        let out = Some(self.onto(to, Out::of(stray)));
                        return Ok(End { reason: Reason::Relayed, out });
                    }
                    GateState::Closed | GateState::RelayIn => return Ok(Reason::DropStandby.into()),
                }
            }
            _ => {
                let bridge = bridge.filter(|_| vlan != FT_VLAN).ok_or(Reason::PassProtocol)?;
                return self.bridge(&bridge, frame);
            }
        }
        Ok(match self.packet(at, frame, made) {
            Ok((reason, out)) => End { reason, out: Some(out) },
            Err(reason) => reason.into(),
        })
    }

    /// Where the peer had a frame from that came in on the FT VLAN.
    fn stray(&self, frame: &Frame) -> Result<Arrival, Reason> {
        let src = frame.mac(6);
        if src[..4] != STRAY || frame.mac(0) != self.scene.ft_mac {
            return Err(Reason::PassHost);
        }
        Ok(Arrival { vlan: u16::from_be_bytes([src[4], src[5]]), relayed: true })
    }

    /// Out by the port that a VLAN is on.
    fn onto(&self, at: Arrival, out: Out) -> Out {
        if self.scene.trunk { out.tagged(at.vlan) } else { out }
    }

    /// Out to that hop.
    fn to(&self, hop: u32, mut out: Out) -> Out {
        let hop = self.scene.hop(hop);
        if let Some(tunnel) = &hop.tunnel {
            out = out.wrapped(tunnel);
        }
        // The virtual MAC is shown to the switches by an open gate only.
        let own_mac = self.scene.own_macs[usize::from(hop.vlan == 3)];
        out.frame.send_to(hop.mac, if self.gate == GateState::Open { VIRTUAL_MAC } else { own_mac });
        self.onto(Arrival { vlan: hop.vlan, relayed: false }, out)
    }

    /// Back to who sent `frame`: by the MAC address, or, if that was lost on the way, by the address.
    fn back(&self, at: Arrival, frame: &Frame, head: &Head, mut out: Out) -> Result<Out, Reason> {
        if !at.relayed {
            out.frame.send_to(frame.mac(6), VIRTUAL_MAC);
            return Ok(self.onto(at, out));
        }
        let (way, _) = self.scene.way(head.src).ok_or(Reason::DropNoRoute)?;
        let hop = self.scene.next(way, head.src).ok_or(Reason::DropUnresolved)?;
        if self.scene.hop(hop).resolved { Ok(self.to(hop, out)) } else { Err(Reason::DropUnresolved) }
    }

    /// A packet for the group, which may have it.
    fn packet(&mut self, at: Arrival, frame: &Frame, made: &dyn Fn(&Key) -> Option<Made>) -> Walk {
        let head = frame.head()?;
        if head.offset != 0 {
            return self.follow(at, frame, &head);
        }
        let transport = frame.transport(&head)?;
        if transport == Transport::Error {
            return self.error(at, frame, &head);
        }
        if matches!(transport, Transport::Echo { kind: Echo::Request, .. })
            && self.scene.is_ours(head.dst, at.vlan)
        {
            let reply = self.back(at, frame, &head, Out::echoed(frame, &head))?;
            if head.more {
                self.datagrams.note(&head, at.vlan, Fate::Answered);
            }
            return Ok((Reason::EchoReplied, reply));
        }
        if head.ttl <= 1 {
            let kind = if head.is_v6() { (3, 0) } else { (11, 0) };
            let error = self.own_error(at, frame, &head, kind, 0).ok_or(Reason::DropTtl)?;
            return Ok((Reason::TimeExceeded, error));
        }
        self.walk(at, frame, &head, transport, made)
    }

    /// An ICMP error about a packet that left here.
    fn error(&mut self, at: Arrival, frame: &Frame, head: &Head) -> Walk {
        let quote = Quote::of(frame, head, at.vlan)?;
        let Some((id, forward)) = self.tables.place(&quote.key) else {
            return Err(quote.unmatched(frame, head, self.scene.is_ours(quote.key.dst, at.vlan)));
        };
        let conn = self.tables.conn(id);
        let (hop, service) = (conn.towards(forward), conn.service);
        if conn.state == State::Cleared {
            return Err(Reason::DropCleared);
        }
        if !self.scene.hop(hop).resolved {
            return Err(Reason::DropUnresolved);
        }
        let out = self.to(hop, quote.translate(frame, head, conn.leaves(forward)));
        self.count(service, forward, frame);
        Ok((Reason::ForwardedIcmp, out))
    }

    /// An error of this node's own, unless none is due.
    fn own_error(&self, at: Arrival, frame: &Frame, head: &Head, kind: (u8, u8), mtu: u16) -> Option<Out> {
        let of = |(ip, vlan): &&(IpAddr, u16)| *vlan == at.vlan && ip.is_ipv6() == head.is_v6();
        let (source, _) = self.scene.error_sources.iter().find(of)?;
        let whole = L2 + head.total >= head.l4 + 8;
        if !is_host(head.src) || !is_host(head.dst) || !whole {
            return None;
        }
        self.back(at, frame, head, Out::error(frame, head, *source, kind, mtu)).ok()
    }

    /// A fragment with others before it.
    fn follow(&mut self, at: Arrival, frame: &Frame, head: &Head) -> Walk {
        match self.datagrams.follow(head, at.vlan)? {
            Fate::Answered => {
                let reply = Out::followed(frame, head, (head.dst, head.src), 64);
                Ok((Reason::EchoReplied, self.back(at, frame, head, reply)?))
            }
            Fate::Follows { addresses, hop, service, forward } => {
                if head.ttl <= 1 {
                    return Err(Reason::DropTtl);
                }
                let (resolved, mtu) = (self.scene.hop(hop).resolved, self.scene.hop(hop).mtu);
                if !resolved || head.total > usize::from(mtu) {
                    return Err(if resolved { Reason::DropTooBig } else { Reason::DropUnresolved });
                }
                let out = Out::followed(frame, head, addresses, head.ttl - 1);
                let out = self.to(hop, out.marked(self.dscp(service, forward), head.is_v6()));
                self.count(service, forward, frame);
                Ok((Reason::ForwardedFragment, out))
            }
        }
    }

    /// What is written into packets of that virtual server's clients.
    fn dscp(&self, service: Service, forward: bool) -> Option<u8> {
        let (number, _) = service.filter(|_| forward)?;
        self.scene.numbered(number).dscp
    }

    fn count(&mut self, service: Service, forward: bool, frame: &Frame) {
        let Some((service, real)) = service else { return };
        let sums = [
            Some(self.sums.entry(service).or_default()),
            real.map(|real| self.real_sums.entry(real).or_default()),
        ];
        for sums in sums.into_iter().flatten() {
            let side = if forward { &mut sums.client } else { &mut sums.server };
            side.0 += 1;
            side.1 += frame.0.len() as u64;
        }
    }

    /// By its connection.
    fn walk(
        &mut self,
        at: Arrival,
        frame: &Frame,
        head: &Head,
        transport: Transport,
        made: &dyn Fn(&Key) -> Option<Made>,
    ) -> Walk {
        let key = Key::of(frame, head, at.vlan);
        let met = self.tables.meet(&key, transport);
        for id in std::mem::take(&mut self.tables.ended) {
            self.load(id, -1);
        }
        for id in std::mem::take(&mut self.tables.resumed) {
            self.load(id, 1);
        }
        let (id, forward, fresh) = match met {
            Outcome::Known { id, forward, proven } => {
                if proven {
                    self.proven(id);
                }
                (id, forward, false)
            }
            Outcome::Dropped(reason) => return Err(reason),
            Outcome::Unknown => match self.open(&key, transport, (!at.relayed).then(|| frame.mac(6)), made) {
                Ok((id, forward)) => (id, forward, true),
                Err(Failed(reason)) => return Err(reason),
            },
        };
        let conn = self.tables.conn(id).clone();
        if conn.state == State::Cleared {
            return self.reset(at, frame, head, transport);
        }
        let hop = self.scene.hop(conn.towards(forward));
        if !hop.resolved {
            return Err(Reason::DropUnresolved);
        }
        if head.total > usize::from(hop.mtu) {
            let fragments = !head.is_v6() && frame.0[20] & 0x40 == 0;
            let kind = if head.is_v6() { (2, 0) } else { (3, 4) };
            let error = if fragments { None } else { self.own_error(at, frame, head, kind, hop.mtu) };
            return Ok((Reason::TooBig, error.ok_or(Reason::DropTooBig)?));
        }
        if let Transport::Tcp { flags, ack, .. } = transport
            && conn.is_servers(forward)
            && flags & table::ACK != 0
        {
            self.tables.note_ack(id, forward, ack);
        }
        let (src, dst) = conn.leaves(forward);
        let out = Out::translated(frame, head, (src, dst), head.ttl - 1);
        let out = self.to(hop.number, out.marked(self.dscp(conn.service, forward), head.is_v6()));
        self.count(conn.service, forward, frame);
        if head.more {
            let addresses = (src.0, dst.0);
            let fate =
                Fate::Follows { addresses, hop: conn.towards(forward), service: conn.service, forward };
            self.datagrams.note(head, at.vlan, fate);
        }
        let reason = match (conn.service, fresh) {
            (None, _) => Reason::ForwardedRouted,
            (_, true) if !forward => Reason::ForwardedRebuilt,
            (_, true) => Reason::ForwardedNew,
            (_, false) => Reason::ForwardedFlow,
        };
        Ok((reason, out))
    }

    /// A packet of a connection that was ended by hand.
    fn reset(&self, at: Arrival, frame: &Frame, head: &Head, transport: Transport) -> Walk {
        match transport {
            Transport::Tcp { flags, .. } if flags & (table::ACK | table::RST) == table::ACK => {
                Ok((Reason::ResetSent, self.back(at, frame, head, Out::reset(frame, head))?))
            }
            _ => Err(Reason::DropCleared),
        }
    }

    /// One more or less at a connection's virtual server, and on its real, where that decides who gets the next one.
    fn load(&mut self, id: u32, by: i64) {
        let Some((service, real)) = self.tables.conn(id).service else { return };
        let limited = self.scene.numbered(service);
        let own = (limited.max != 0).then_some(service);
        let of_owner = limited.owner.filter(|(_, max)| *max != 0).map(|(number, _)| number);
        for number in [own, of_owner].into_iter().flatten() {
            *self.places.entry(number).or_default() += by;
        }
        let Some(real) = real else { return };
        if matches!(self.scene.numbered(service).choice, Choice::Least(_)) {
            *self.loads.entry(real).or_default() += by;
        }
    }

    /// A connection was proven: it counts, and its client is sticky from now on.
    fn proven(&mut self, id: u32) {
        let conn = self.tables.conn(id);
        let Some((service, real)) = conn.service else { return };
        if let Some(back) = self.turned(conn)
            && let Some(via) = conn.via
        {
            self.sticky_half.remove(&back);
            self.sticky.insert(back, via);
        }
        let conn = self.tables.conn(id);
        self.sums.entry(service).or_default().connections += 1;
        let Some(real) = real else { return };
        self.real_sums.entry(real).or_default().connections += 1;
        if let Some(client) = conn.sticky {
            self.sticky_half.remove(&client);
            self.sticky.insert(client, real);
        }
    }
}
