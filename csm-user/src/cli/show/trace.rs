//! `trace client A`.

use std::fmt::{self, Write};

use super::{endpoint, protocol};
use crate::api::reply::{EntryReply, PacketReply, Verdict, WalkReply};

/// Writes the walk of one packet; `began_ns` is when the first one came.
pub fn write(out: &mut impl Write, walk: &WalkReply, began_ns: u64) -> fmt::Result {
    match (&walk.came, walk.vlan) {
        (Some(came), Some(vlan)) => {
            let us = walk.at_ns.saturating_sub(began_ns) / 1000;
            let (seconds, us) = (us / 1_000_000, us % 1_000_000);
            writeln!(out, "{seconds}.{us:06} in   VLAN {vlan}, {} octets: {}", walk.octets, packet(came))?;
            writeln!(out, "         flow {}", entry(walk.before.as_ref()))?;
        }
        _ => writeln!(out, "         in   an answer, known from its end")?,
    }
    if walk.after.is_some() && walk.after != walk.before {
        writeln!(out, "         now  {}", entry(walk.after.as_ref()))?;
    }
    if let Some(left) = &walk.left {
        let to = walk.to_mac.as_deref().unwrap_or("-");
        writeln!(out, "         out  {}, to {to}", packet(left))?;
    }
    let verdict = match walk.verdict {
        Verdict::Forward => "sent on",
        Verdict::Pass => "to the kernel",
        Verdict::Drop => "dropped",
        Verdict::Hold => "kept for its first fragment",
    };
    writeln!(out, "         end  {}: {verdict}", walk.reason)
}

fn packet(packet: &PacketReply) -> String {
    let PacketReply { protocol: number, source, destination } = packet;
    let name = number.map_or_else(|| "ARP".to_owned(), protocol);
    format!("{name} {} > {}", endpoint(*source), endpoint(*destination))
}

fn entry(entry: Option<&EntryReply>) -> String {
    let Some(EntryReply { proven, state, vserver, real }) = entry else {
        return "no connection".to_owned();
    };
    let table = if *proven { "proven" } else { "half open" };
    let state = state.map_or("-", super::conn::state);
    let vserver = vserver.as_deref().unwrap_or("<server initiated>");
    let real = real.map_or_else(String::new, |real| match real.port {
        0 => format!(", real {}", real.address),
        _ => format!(", real {}", endpoint(real)),
    });
    format!("{table}, {state}, vserver {vserver}{real}")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use expect_test::expect;

    use super::*;
    use crate::api::reply::{ConnState, Endpoint, Protocol, Verdict};

    fn end(last: u8, port: u16) -> Endpoint {
        Endpoint { address: Ipv4Addr::new(192, 0, 2, last).into(), port }
    }

    #[test]
    fn a_walk_is_told_from_its_beginning_to_its_end() {
        let came =
            PacketReply { protocol: Some(Protocol::Tcp), source: end(1, 40_000), destination: end(9, 80) };
        let entry = EntryReply {
            proven: false,
            state: Some(ConnState::SynClient),
            vserver: Some("WEB".to_owned()),
            real: Some(end(101, 0)),
        };
        let first = WalkReply {
            at_ns: 5_000_000_000,
            vlan: Some(2),
            octets: 74,
            came: Some(came.clone()),
            before: None,
            after: Some(entry),
            left: Some(PacketReply { destination: end(101, 80), ..came.clone() }),
            to_mac: Some("02:00:00:00:00:01".to_owned()),
            reason: "forwarded_new".to_owned(),
            verdict: Verdict::Forward,
        };
        let arp = WalkReply {
            at_ns: 5_000_123_000,
            octets: 42,
            came: Some(PacketReply { protocol: None, source: end(1, 0), destination: end(9, 0) }),
            after: None,
            left: None,
            to_mac: None,
            reason: "drop_standby".to_owned(),
            verdict: Verdict::Drop,
            ..first.clone()
        };
        let answer = WalkReply { at_ns: 0, vlan: None, came: None, after: None, ..first.clone() };
        let mut out = String::new();
        for walk in [&first, &arp, &answer] {
            write(&mut out, walk, 5_000_000_000).expect("to a string");
        }
        expect![[r#"
            0.000000 in   VLAN 2, 74 octets: TCP 192.0.2.1:40000 > 192.0.2.9:80
                     flow no connection
                     now  half open, SYN_CLIENT, vserver WEB, real 192.0.2.101
                     out  TCP 192.0.2.1:40000 > 192.0.2.101:80, to 02:00:00:00:00:01
                     end  forwarded_new: sent on
            0.000123 in   VLAN 2, 42 octets: ARP 192.0.2.1:0 > 192.0.2.9:0
                     flow no connection
                     end  drop_standby: dropped
                     in   an answer, known from its end
                     out  TCP 192.0.2.1:40000 > 192.0.2.101:80, to 02:00:00:00:00:01
                     end  forwarded_new: sent on
        "#]]
        .assert_eq(&out);
    }
}
