//! `show module csm N arp`.

use std::fmt::{self, Write};

use super::rule;
use crate::api::reply::{NeighbourKind, NeighbourReply, NeighbourStatus};

/// Writes the listing, and that of the IPv6 neighbours in its shape if there are any.
pub fn write(out: &mut impl Write, neighbours: &[NeighbourReply]) -> fmt::Result {
    writeln!(out, "Internet Address  Physical Interface  VLAN  Type      Status")?;
    rule(out, 68)?;
    rows(out, neighbours.iter().filter(|row| row.address.is_ipv4()), 17)?;
    if neighbours.iter().all(|row| row.address.is_ipv4()) {
        return Ok(());
    }
    writeln!(out, "\nIPv6 Address                             Physical Interface  VLAN  Type      Status")?;
    rule(out, 91)?;
    rows(out, neighbours.iter().filter(|row| row.address.is_ipv6()), 40)
}

fn rows<'a>(
    out: &mut impl Write,
    neighbours: impl Iterator<Item = &'a NeighbourReply>,
    width: usize,
) -> fmt::Result {
    for NeighbourReply { address, mac, vlan, kind, status } in neighbours {
        // The CSM writes MAC addresses in capitals, with hyphens.
        let mac =
            mac.as_deref().map_or_else(|| "unknown".to_owned(), |mac| mac.replace(':', "-").to_uppercase());
        let address = address.to_string();
        let vlan = vlan.unwrap_or(0);
        let kind = match kind {
            NeighbourKind::Vserver => "VSERVER",
            NeighbourKind::Alias => "ALIAS",
            NeighbourKind::Static => "STATIC",
            NeighbourKind::Gateway => "GATEWAY",
            NeighbourKind::Real => "REAL",
            NeighbourKind::Peer => "PEER",
            NeighbourKind::Learned => "LEARNED",
        };
        let status = match status {
            NeighbourStatus::Local => "local",
            NeighbourStatus::Silent => "silent (not active)",
            NeighbourStatus::Up => "up",
            NeighbourStatus::Resolving => "resolving",
        };
        writeln!(out, "{address:<width$} {mac:<19} {vlan:<5} {kind:<9} {status}")?;
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
        let row = |last, mac: Option<&str>, vlan, kind, status| NeighbourReply {
            address: Ipv4Addr::new(10, 10, 3, last).into(),
            mac: mac.map(str::to_owned),
            vlan,
            kind,
            status,
        };
        let v6 = |address: &str, kind, status| NeighbourReply {
            address: address.parse().expect("an address"),
            ..row(0, Some("00:d0:b7:a0:68:5f"), Some(2), kind, status)
        };
        let mut rows = vec![
            row(100, Some("00:01:64:f9:1a:02"), None, NeighbourKind::Vserver, NeighbourStatus::Local),
            row(20, Some("00:01:64:f9:1a:02"), Some(3), NeighbourKind::Alias, NeighbourStatus::Silent),
            row(1, Some("00:d0:b7:a0:68:5d"), Some(2), NeighbourKind::Gateway, NeighbourStatus::Up),
            row(101, None, Some(3), NeighbourKind::Real, NeighbourStatus::Resolving),
            row(7, Some("00:d0:b7:a0:68:5e"), Some(3), NeighbourKind::Peer, NeighbourStatus::Up),
        ];
        let mut text = String::new();
        write(&mut text, &rows).expect("a string takes everything");
        expect![[r#"
            Internet Address  Physical Interface  VLAN  Type      Status
            --------------------------------------------------------------------
            10.10.3.100       00-01-64-F9-1A-02   0     VSERVER   local
            10.10.3.20        00-01-64-F9-1A-02   3     ALIAS     silent (not active)
            10.10.3.1         00-D0-B7-A0-68-5D   2     GATEWAY   up
            10.10.3.101       unknown             3     REAL      resolving
            10.10.3.7         00-D0-B7-A0-68-5E   3     PEER      up
        "#]]
        .assert_eq(&text);
        rows.truncate(1);
        rows.push(v6("2001:db8:0:f101::20", NeighbourKind::Alias, NeighbourStatus::Local));
        rows.push(v6("fe80::2d0:b7ff:fea0:685f", NeighbourKind::Gateway, NeighbourStatus::Up));
        text.clear();
        write(&mut text, &rows).expect("a string takes everything");
        expect![[r#"
            Internet Address  Physical Interface  VLAN  Type      Status
            --------------------------------------------------------------------
            10.10.3.100       00-01-64-F9-1A-02   0     VSERVER   local

            IPv6 Address                             Physical Interface  VLAN  Type      Status
            -------------------------------------------------------------------------------------------
            2001:db8:0:f101::20                      00-D0-B7-A0-68-5F   2     ALIAS     local
            fe80::2d0:b7ff:fea0:685f                 00-D0-B7-A0-68-5F   2     GATEWAY   up
        "#]]
        .assert_eq(&text);
    }
}
