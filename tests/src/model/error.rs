//! ICMP errors: whose packet one quotes, and the error as that packet's sender must see it (RFC 5508).

use csm_common::counter::Reason;

use super::frame::{Frame, Head, L2};
use super::out::{Name, Out, octets, readdress};
use super::sums::Change;
use super::table::Key;

/// What an error says of the packet that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Key of that packet's answers.
    pub key: Key,
    /// Where the quoted packet begins.
    at: usize,
    /// Where its transport header does.
    transport: usize,
    /// Where the quote ends.
    end: usize,
}

impl Quote {
    /// Reads it.
    ///
    /// # Errors
    /// With the error's end, where nothing is quoted that could be known.
    pub fn of(frame: &Frame, head: &Head, vlan: u16) -> Result<Self, Reason> {
        if head.ttl <= 1 {
            return Err(Reason::DropTtl);
        }
        let (at, end) = (head.l4 + 8, L2 + head.total);
        let quoted = frame.quoted(at, head.is_v6())?;
        if end < quoted.l4 + 8 {
            return Err(Reason::DropMalformed);
        }
        if quoted.offset != 0 {
            return Err(Reason::DropIcmp);
        }
        let echo: [u8; 2] = if head.is_v6() { [128, 129] } else { [8, 0] };
        if quoted.proto == head.icmp() && !echo.contains(&frame.0[quoted.l4]) {
            return Err(Reason::DropIcmp);
        }
        let (sport, dport) = frame.ports(&quoted);
        let key =
            Key { src: quoted.dst, dst: quoted.src, sport: dport, dport: sport, vlan, proto: quoted.proto };
        // It goes to who sent what it quotes.
        if head.dst != key.dst {
            Err(Reason::DropIcmp)
        } else {
            Ok(Self { key, at, transport: quoted.l4, end })
        }
    }

    /// What becomes of one that quotes no connection's packet: "too big" about what the group itself had put into a tunnel
    /// is heard.
    #[must_use]
    pub fn unmatched(&self, frame: &Frame, head: &Head, ours: bool) -> Reason {
        let tunnels = if head.is_v6() { [41, 17] } else { [4, 17] };
        let too_big = if head.is_v6() { [2, 0] } else { [3, 4] };
        let said = frame.0[head.l4..head.l4 + 2] == too_big && frame.u16(head.l4 + 4) == 0;
        if tunnels.contains(&self.key.proto) && said && ours { Reason::DropNarrow } else { Reason::DropIcmp }
    }

    /// The error for the sender of the quoted packet, who calls the other end `src` and itself `dst`.
    #[must_use]
    pub fn translate(&self, before: &Frame, head: &Head, (src, dst): (Name, Name)) -> Out {
        let v6 = head.is_v6();
        let mut change = Change::of(before);
        let addresses = self.at + if v6 { 8 } else { 12 };
        change.after.put(addresses, &[octets(dst.0), octets(src.0)].concat());
        let proto = self.key.proto;
        if matches!(proto, 6 | 17) {
            change.after.put16(self.transport, dst.1);
            change.after.put16(self.transport + 2, src.1);
        }
        if !v6 {
            change.carry(self.at + 10, &[(self.at, self.transport)]);
            change.either.push(self.at + 10);
        }
        let sum = match proto {
            17 => Some(6).filter(|at| before.u16(self.transport + at) != 0),
            6 => Some(16),
            58 if v6 => Some(2),
            _ => None,
        };
        if let Some(at) = sum.map(|at| self.transport + at).filter(|at| at + 2 <= self.end) {
            // What else it covers has not changed, and need not be there.
            let ranges = [
                (addresses, addresses + 2 * octets(src.0).len()),
                (self.transport, self.transport + if proto == 58 { 0 } else { 4 }),
                (at, at + 2),
            ];
            change.carry(at, &ranges);
            change.either.push(at);
        }
        let from = if head.src == self.key.src { src.0 } else { head.src };
        readdress(&mut change.after, head, (from, dst.0), head.ttl - 1);
        let pseudo = if v6 { (22, 54) } else { (0, 0) };
        change.carry(head.l4 + 2, &[pseudo, (head.l4, self.end)]);
        change.carry_header(L2, v6);
        change.either.extend([head.l4 + 2, 24]);
        Out { either: change.either, ..Out::of(change.after) }
    }
}
