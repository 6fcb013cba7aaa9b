//! Frames: of connections that the model knows, of new ones, and damaged ones.

use std::net::Ipv4Addr;

use csm_tests::model::Model;
use csm_tests::model::table::{ACK, Conn, FIN, RST, SYN};
use csm_tests::rig::{ALIAS, FAR_CLIENT, GATEWAY, NEAR_CLIENT, REALS, STRANGER, Side, VIP, VIRTUAL_MAC};
use csm_tests::sim::rng::Rng;
use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, IpNumber, PacketBuilder, TcpHeader};

use super::side_of;

const PSH: u8 = 8;
const NEAR_NUMBERS: [u32; 6] = [0, 1, u32::MAX, 16_384, 131_071, 131_072];
const FLAGS: [u8; 10] = [SYN, SYN, SYN | ACK, SYN | ACK, ACK, ACK, PSH | ACK, FIN | ACK, RST, RST | ACK];

/// A stream of frames.
pub(crate) struct Generator {
    rng: Rng,
    /// Fragments that are still to come.
    later: Vec<(Side, Vec<u8>)>,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), later: Vec::new() }
    }

    /// The next frame and where it comes in.
    pub(crate) fn frame(&mut self, model: &Model) -> (Side, Vec<u8>) {
        let conns = model.tables.conns();
        if !self.later.is_empty() && self.rng.chance(50) {
            let index = usize::try_from(self.rng.within(0..self.later.len() as u64)).expect("an index");
            let (side, mut bytes) = self.later.swap_remove(index);
            if self.rng.chance(12) {
                self.damage(&mut bytes);
            }
            return (side, bytes);
        }
        let (side, mut bytes) = match self.rng.within(0..100) {
            0..60 if !conns.is_empty() => {
                let recent = conns.len().saturating_sub(24)..conns.len();
                let index = self.rng.within(recent.start as u64..recent.end as u64);
                let conn = conns[usize::try_from(index).expect("an index")].clone();
                if self.rng.chance(15) { self.error(&conn) } else { self.of_conn(&conn) }
            }
            0..88 => self.first(),
            88..94 => self.arp(),
            _ => self.stranger(),
        };
        if self.rng.chance(10) && bytes.len() > 34 && bytes[12..14] == [8, 0] {
            bytes = self.in_pieces(side, &bytes);
        }
        if self.rng.chance(12) {
            self.damage(&mut bytes);
        }
        (side, bytes)
    }

    /// The first fragment of an IPv4 frame, now and then not the one to come first; the others come later, in any order.
    fn in_pieces(&mut self, side: Side, bytes: &[u8]) -> Vec<u8> {
        let (head, mut payload) = (&bytes[..34], bytes[34..].to_vec());
        payload.resize(payload.len() + usize::try_from(self.rng.within(0..60)).expect("a few"), 0x3c);
        let id = u16::try_from(self.rng.within(1..60_000)).expect("16 bits");
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < payload.len() {
            let odd = if self.rng.chance(4) { 1 } else { 0 };
            let length = usize::try_from(self.rng.within(2..6)).expect("a few") * 8 + odd;
            let end = (at + length).min(payload.len());
            let more = if end < payload.len() { 0x2000 } else { 0 };
            let mut piece = [head, &payload[at..end]].concat();
            let total = u16::try_from(piece.len() - 14).expect("a small frame");
            piece[16..18].copy_from_slice(&total.to_be_bytes());
            piece[18..20].copy_from_slice(&id.to_be_bytes());
            let place = u16::try_from(at / 8).expect("a small datagram") | more;
            piece[20..22].copy_from_slice(&place.to_be_bytes());
            pieces.push((side, piece));
            at = end;
        }
        let first = if self.rng.chance(80) { 0 } else { pieces.len() - 1 };
        let now = pieces.swap_remove(first).1;
        self.later.append(&mut pieces);
        now
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

    /// A packet of a connection that there is, in either direction; mostly the next that is due.
    fn of_conn(&mut self, conn: &Conn) -> (Side, Vec<u8>) {
        let forward = self.rng.chance(50);
        let key = if forward { conn.key } else { conn.return_key() };
        let mut flags = self.flags();
        let (mut seq, mut ack) = (self.number(1000), self.number(5000));
        if forward && self.rng.chance(70) {
            ack = conn.expect;
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
        let side = side_of(key.vlan);
        (side, self.packet(key.proto, (key.src, key.sport), (key.dst, key.dport), flags, (seq, ack)))
    }

    /// An ICMP error about a packet that left by a connection that there is, in either direction.
    fn error(&mut self, conn: &Conn) -> (Side, Vec<u8>) {
        let (src, dst, vlan) = match self.rng.chance(50) {
            true => (conn.client(), conn.server, conn.server_vlan),
            false => (conn.virtual_server(), conn.client(), conn.key.vlan),
        };
        let flags = self.flags();
        let numbers = (self.number(1000), self.number(5000));
        let mut quote = self.packet(conn.key.proto, src, dst, flags, numbers).split_off(14);
        let quoted = usize::try_from(self.rng.within(26..60)).expect("a length");
        quote.truncate(quoted);
        let from = self.rng.pick(&[dst.0, dst.0, GATEWAY.ip, REALS[1].ip, Ipv4Addr::new(10, 1, 1, 3)]);
        let to = if self.rng.chance(92) { src.0 } else { VIP };
        let (kind, code) = (self.rng.pick(&[3, 3, 11, 11, 12, 4, 5]), self.rng.pick(&[0, 1, 3, 4]));
        let ttl = self.rng.pick(&[64, 64, 64, 255, 2, 1]);
        let ip = PacketBuilder::ethernet2([2, 0xee, 0, 0, 1, 1], VIRTUAL_MAC).ipv4(
            from.octets(),
            to.octets(),
            ttl,
        );
        let mut bytes = Vec::with_capacity(128);
        ip.icmpv4_raw(kind, code, [0, 0, 5, 0xdc]).write(&mut bytes, &quote).expect("a buildable frame");
        (side_of(vlan), bytes)
    }

    /// A packet of whoever to whomever.
    fn first(&mut self) -> (Side, Vec<u8>) {
        let side = if self.rng.chance(65) { Side::Client } else { Side::Server };
        let elsewhere = Ipv4Addr::new(10, 1, 1, u8::try_from(self.rng.within(1..4)).expect("an octet"));
        let usual = match side {
            Side::Client => [FAR_CLIENT.ip, elsewhere, NEAR_CLIENT.ip],
            _ => REALS.map(|host| host.ip),
        };
        let odd = [
            STRANGER.ip,
            VIP,
            ALIAS,
            GATEWAY.ip,
            REALS[0].ip,
            FAR_CLIENT.ip,
            Ipv4Addr::new(192, 158, 39, 77),
            Ipv4Addr::new(8, 8, 8, 8),
            Ipv4Addr::new(127, 0, 0, 1),
            Ipv4Addr::new(224, 0, 0, 5),
            Ipv4Addr::new(0, 0, 0, 0),
            Ipv4Addr::BROADCAST,
        ];
        let src = if self.rng.chance(85) { self.rng.pick(&usual) } else { self.rng.pick(&odd) };
        let common = match side {
            Side::Client => [VIP, VIP, VIP, REALS[1].ip],
            _ => [FAR_CLIENT.ip, NEAR_CLIENT.ip, GATEWAY.ip, VIP],
        };
        let dst = if self.rng.chance(85) { self.rng.pick(&common) } else { self.rng.pick(&odd) };
        let proto = self.rng.pick(&[6, 6, 6, 6, 6, 17, 17, 17, 1, 1, 47]);
        let sport = self.rng.pick(&[1000, 1001, 1002, 80, 5353]);
        let dport = self.rng.pick(&[80, 80, 53, 53, 81, 1000, 0]);
        let flags = if self.rng.chance(60) { SYN } else { self.flags() };
        let numbers = (self.number(1000), self.number(5000));
        (side, self.packet(proto, (src, sport), (dst, dport), flags, numbers))
    }

    fn packet(
        &mut self,
        proto: u8,
        src: (Ipv4Addr, u16),
        dst: (Ipv4Addr, u16),
        flags: u8,
        (seq, ack): (u32, u32),
    ) -> Vec<u8> {
        let ttl = self.rng.pick(&[64, 64, 255, 2]);
        let ip = PacketBuilder::ethernet2([2, 0xee, 0, 0, 1, 1], VIRTUAL_MAC).ipv4(
            src.0.octets(),
            dst.0.octets(),
            ttl,
        );
        let payload = vec![0x5a; usize::try_from(self.rng.within(0..40)).expect("a few")];
        let mut bytes = Vec::with_capacity(128);
        let written = match proto {
            6 => {
                let header = TcpHeader {
                    acknowledgment_number: ack,
                    fin: flags & FIN != 0,
                    syn: flags & SYN != 0,
                    rst: flags & RST != 0,
                    psh: flags & PSH != 0,
                    ack: flags & ACK != 0,
                    urg: flags & 32 != 0,
                    ece: flags & 64 != 0,
                    cwr: flags & 128 != 0,
                    ..TcpHeader::new(src.1, dst.1, seq, 65_000)
                };
                ip.tcp_header(header).write(&mut bytes, &payload)
            }
            17 => ip.udp(src.1, dst.1).write(&mut bytes, &payload),
            other if other != 1 => ip.write(&mut bytes, IpNumber(other), &payload),
            _ if self.rng.chance(60) => ip.icmpv4_echo_request(src.1, 1).write(&mut bytes, &payload),
            _ => ip.icmpv4_echo_reply(src.1, 1).write(&mut bytes, &payload),
        };
        written.expect("a buildable frame");
        if proto == 17 && self.rng.chance(20) {
            bytes[40..42].fill(0);
        }
        bytes
    }

    fn arp(&mut self) -> (Side, Vec<u8>) {
        let side = if self.rng.chance(50) { Side::Client } else { Side::Server };
        let addresses = [VIP, ALIAS, REALS[0].ip, NEAR_CLIENT.ip, STRANGER.ip];
        let operation = if self.rng.chance(80) { ArpOperation::REQUEST } else { ArpOperation::REPLY };
        let sender = self.rng.pick(&addresses[1..]);
        let target = self.rng.pick(&addresses);
        let mac = [self.rng.pick(&[2, 2, 2, 1]), 0xee, 0, 0, 7, 7];
        let arp = ArpPacket::new(
            ArpHardwareId::ETHERNET,
            EtherType::IPV4,
            operation,
            &mac,
            &sender.octets(),
            &[0; 6],
            &target.octets(),
        )
        .expect("lengths that fit");
        let mut bytes = Vec::with_capacity(64);
        PacketBuilder::ethernet2(mac, [0xff; 6]).arp(arp).write(&mut bytes).expect("a buildable frame");
        (side, bytes)
    }

    /// Of another protocol, or for another MAC address.
    fn stranger(&mut self) -> (Side, Vec<u8>) {
        let (side, mut bytes) = self.first();
        if self.rng.chance(50) {
            bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
        } else {
            bytes[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        }
        (side, bytes)
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        match self.rng.within(0..10) {
            0..6 => {
                for _ in 0..self.rng.within(1..4) {
                    let at = usize::try_from(self.rng.within(0..bytes.len() as u64)).expect("an index");
                    bytes[at] ^= 1 << self.rng.within(0..8);
                }
            }
            6..8 => {
                let length = usize::try_from(self.rng.within(14..bytes.len() as u64 + 1)).expect("a length");
                bytes.truncate(length);
            }
            8 if bytes.len() > 17 => {
                // The length that IPv4 gives.
                bytes[16..18].copy_from_slice(&[0, u8::try_from(self.rng.within(0..70)).expect("an octet")]);
            }
            _ => bytes.resize(bytes.len() + usize::try_from(self.rng.within(1..30)).expect("a few"), 0xa5),
        }
    }
}
