//! Bridge mode: which frames that are not for the group's MAC address are a connection's all the same, and what becomes of
//! the others.

use std::net::{IpAddr, Ipv6Addr};

use csm_common::counter::Reason;
use csm_common::gate::GateState;

use super::frame::Frame;
use super::out::Out;
use super::scene::Bridge;
use super::table::{ACK, Key, RST};
use super::{End, Model};
use crate::rig::VIRTUAL_MAC;

const CLIENTS: u16 = 2;
const SERVERS: u16 = 3;

impl Bridge {
    /// Whether neighbour discovery or ARP about `target` is about this node itself.
    #[must_use]
    pub fn is_own(&self, target: IpAddr) -> bool {
        let [a, b, c, d, e, f] = self.mac.map(u16::from);
        let of_link = Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f);
        self.own.contains(&target) || target == of_link
    }
}

impl Model {
    /// A frame for others goes on as it is; `Err`: it is the kernel's.
    pub(super) fn bridge(&self, bridge: &Bridge, frame: &Frame) -> Result<End, Reason> {
        let (to, from) = (frame.mac(0), frame.mac(6));
        let between_neighbours = to[..5] == [1, 0x80, 0xc2, 0, 0] && to[5] < 16
            || to[..5] == [1, 0, 0x0c, 0xcc, 0xcc] && [0xcc, 0xcd].contains(&to[5]);
        if to == bridge.mac || between_neighbours {
            return Err(Reason::PassHost);
        }
        if self.gate != GateState::Open {
            return Ok(Reason::DropStandby.into());
        }
        if [bridge.mac, VIRTUAL_MAC].contains(&from) {
            return Ok(Reason::DropLoop.into());
        }
        Ok(End { reason: Reason::ForwardedBridged, out: Some(Out::of(frame.clone())) })
    }

    /// Whether a packet to another MAC address is a connection's; clients that speak to a server itself are remembered.
    pub(super) fn is_balanced(&mut self, vlan: u16, frame: &Frame) -> bool {
        let Some((key, flags)) = plain(vlan, frame) else { return false };
        let tcp = key.proto == 6;
        if vlan == CLIENTS {
            if tcp && self.scene.origin((key.dst, key.dport)).is_some() {
                let answer = Key {
                    src: key.dst,
                    dst: key.src,
                    sport: key.dport,
                    dport: key.sport,
                    vlan: SERVERS,
                    ..key
                };
                self.direct.insert(answer);
            }
            return false;
        }
        let lost = tcp && flags & (RST | ACK) == ACK && self.scene.origin((key.src, key.sport)).is_some();
        self.tables.place(&key).is_some() || lost && !self.direct.contains(&key)
    }
}

/// Key and TCP flags of a packet with plain headers; its lengths are not looked at yet.
fn plain(vlan: u16, frame: &Frame) -> Option<(Key, u8)> {
    let v6 = frame.ethertype() == 0x86dd;
    let (addresses, l4) = if v6 { (22, 54) } else { (26, 34) };
    if !frame.reaches(l4, 0) {
        return None;
    }
    let usual = if v6 { frame.0[14] >> 4 == 6 } else { frame.0[14] == 0x45 && frame.u16(20) & 0x3fff == 0 };
    let proto = frame.0[if v6 { 20 } else { 23 }];
    let least = match proto {
        6 => 20,
        17 => 4,
        _ => return None,
    };
    if !usual || !frame.reaches(l4, least) {
        return None;
    }
    let key = Key {
        src: frame.address(addresses, v6),
        dst: frame.address(addresses + if v6 { 16 } else { 4 }, v6),
        sport: frame.u16(l4),
        dport: frame.u16(l4 + 2),
        vlan,
        proto,
    };
    Some((key, if proto == 6 { frame.0[l4 + 13] } else { 0 }))
}
