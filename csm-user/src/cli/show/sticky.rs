//! `show module csm N sticky`.

use std::fmt::{self, Write};

use super::{more, rule, yes};
use crate::api::reply::{Endpoint, StickiesReply, StickyAddress, StickyReply, StickyRule, VserverReply};

/// Writes the listing.
pub fn write(out: &mut impl Write, sticky: &StickiesReply) -> fmt::Result {
    writeln!(out, "group   sticky-data              real                  timeout")?;
    rule(out, 64)?;
    for StickyReply { group, vserver, client, destination, real, port, timeout_s } in &sticky.entries {
        let client = match destination {
            None => format!("ip {client}"),
            Some(destination) => format!("ip {client} {destination}"),
        };
        let real = super::endpoint(Endpoint { address: *real, port: *port });
        // Of the configuration: it does not end.
        let timeout = timeout_s.map_or("-".to_owned(), |seconds| seconds.to_string());
        write!(out, "{group:<7} {client:<24} {real:<21} {timeout}")?;
        match vserver {
            Some(vserver) => writeln!(out, "  ({vserver})")?,
            None => writeln!(out)?,
        }
    }
    more(out, sticky.entries.len(), sticky.total)
}

/// Writes which virtual servers share which group.
pub fn write_groups(out: &mut impl Write, vservers: &[VserverReply]) -> fmt::Result {
    writeln!(out, "group   vserver          netmask          address      timeout  replicated")?;
    rule(out, 73)?;
    let mut rows: Vec<_> =
        vservers.iter().filter_map(|vserver| Some((vserver.sticky.as_ref()?, vserver))).collect();
    rows.sort_by_key(|(sticky, vserver)| (sticky.group, &vserver.name));
    for (StickyRule { minutes, group, netmask, address }, vserver) in rows {
        let netmask = netmask.to_string();
        let address = match address {
            StickyAddress::Source => "source",
            StickyAddress::Destination => "destination",
            StickyAddress::Both => "both",
        };
        writeln!(
            out,
            "{group:<7} {:<16} {netmask:<16} {address:<12} {minutes:<8} {}",
            vserver.name,
            yes(vserver.replicate.sticky)
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use expect_test::expect;

    use super::*;

    #[test]
    fn listing() {
        let shared = StickyReply {
            group: 20,
            vserver: None,
            client: Ipv4Addr::new(10, 10, 3, 1).into(),
            destination: None,
            real: Ipv4Addr::new(10, 10, 3, 20).into(),
            port: 0,
            timeout_s: Some(793),
        };
        let private = StickyReply {
            group: 0,
            vserver: Some("VIP1".to_owned()),
            client: Ipv4Addr::new(192, 158, 138, 100).into(),
            port: 8080,
            ..shared.clone()
        };
        let fixed = StickyReply { timeout_s: None, ..shared.clone() };
        let pair = StickyReply { destination: Some(Ipv4Addr::new(10, 9, 0, 7).into()), ..shared.clone() };
        let mut text = String::new();
        write(&mut text, &StickiesReply { total: 4, entries: vec![shared, private, fixed, pair] })
            .expect("a string takes everything");
        expect![[r#"
            group   sticky-data              real                  timeout
            ----------------------------------------------------------------
            20      ip 10.10.3.1             10.10.3.20:0          793
            0       ip 192.158.138.100       10.10.3.20:8080       793  (VIP1)
            20      ip 10.10.3.1             10.10.3.20:0          -
            20      ip 10.10.3.1 10.9.0.7    10.10.3.20:0          793
        "#]]
        .assert_eq(&text);
    }
}
