//! `show module csm N vlan`.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr};

use super::rule;
use crate::api::reply::{VlanReply, VlanRole, XdpMode};

/// Writes the CSM's listing, and below it what carries each VLAN in Linux.
pub fn write(out: &mut impl Write, vlans: &[VlanReply]) -> fmt::Result {
    writeln!(out, "vlan   IP address       IP mask          type")?;
    rule(out, 51)?;
    for VlanReply { vlan, address, netmask, role, .. } in vlans {
        let (address, mask) = (zero(*address), zero(*netmask));
        let role = match role {
            VlanRole::Client => "CLIENT",
            VlanRole::Server => "SERVER",
            VlanRole::Ft => "FT",
        };
        writeln!(out, "{vlan:<6} {address:<16} {mask:<16} {role}")?;
    }
    writeln!(
        out,
        "\nvlan   interface        MAC address        link     xdp      alias            gateways"
    )?;
    rule(out, 89)?;
    for VlanReply { vlan, alias, gateways, interface, mac, carrier, xdp, .. } in vlans {
        let mac = mac.as_deref().unwrap_or("unknown");
        let link = carrier.map_or("unknown", |carrier| if carrier { "up" } else { "down" });
        let xdp = match xdp {
            Some(XdpMode::Native) => "native",
            Some(XdpMode::Generic) => "generic",
            None => "none",
        };
        let alias = alias.map_or_else(|| "-".to_owned(), |alias| alias.to_string());
        let gateways = gateways.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
        let row = format!("{vlan:<6} {interface:<16} {mac:<18} {link:<8} {xdp:<8} {alias:<16} {gateways}");
        writeln!(out, "{}", row.trim_end())?;
    }
    if vlans.iter().all(|vlan| vlan.address6.is_none()) {
        return Ok(());
    }
    writeln!(out, "\nvlan   IPv6 address                                 IPv6 alias")?;
    rule(out, 89)?;
    for VlanReply { vlan, address6, prefix_length6, alias6, .. } in vlans {
        let Some(address) = address6 else { continue };
        let address = format!("{address}/{}", prefix_length6.unwrap_or(128));
        let alias = alias6.map_or_else(|| "-".to_owned(), |alias| alias.to_string());
        writeln!(out, "{vlan:<6} {address:<44} {alias}")?;
    }
    Ok(())
}

/// The CSM's way to say that there is none.
fn zero(address: Option<IpAddr>) -> IpAddr {
    address.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn listing() {
        let client = VlanReply {
            vlan: 2,
            role: VlanRole::Client,
            address: Some(Ipv4Addr::new(192, 158, 38, 10).into()),
            netmask: Some(Ipv4Addr::new(255, 255, 255, 0).into()),
            alias: None,
            address6: None,
            prefix_length6: None,
            alias6: None,
            gateways: vec![Ipv4Addr::new(192, 158, 38, 20).into()],
            interface: "eth1".to_owned(),
            mac: Some("02:00:00:00:00:01".to_owned()),
            carrier: Some(true),
            xdp: Some(XdpMode::Native),
        };
        let server = VlanReply {
            vlan: 3,
            role: VlanRole::Server,
            address: Some(Ipv4Addr::new(192, 158, 39, 10).into()),
            alias: Some(Ipv4Addr::new(192, 158, 39, 20).into()),
            gateways: Vec::new(),
            interface: "eth2".to_owned(),
            carrier: Some(false),
            xdp: Some(XdpMode::Generic),
            ..client.clone()
        };
        let ft = VlanReply {
            vlan: 9,
            role: VlanRole::Ft,
            address: None,
            netmask: None,
            interface: "enp129s0f1np1".to_owned(),
            mac: None,
            carrier: None,
            xdp: None,
            gateways: Vec::new(),
            ..client.clone()
        };
        let mut text = String::new();
        write(&mut text, &[client, server, ft]).expect("a string takes everything");
        expect![[r#"
            vlan   IP address       IP mask          type
            ---------------------------------------------------
            2      192.158.38.10    255.255.255.0    CLIENT
            3      192.158.39.10    255.255.255.0    SERVER
            9      0.0.0.0          0.0.0.0          FT

            vlan   interface        MAC address        link     xdp      alias            gateways
            -----------------------------------------------------------------------------------------
            2      eth1             02:00:00:00:00:01  up       native   -                192.158.38.20
            3      eth2             02:00:00:00:00:01  down     generic  192.158.39.20
            9      enp129s0f1np1    unknown            unknown  none     -
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn ipv6_has_a_listing_of_its_own() {
        let vlan = VlanReply {
            vlan: 3,
            role: VlanRole::Server,
            address: None,
            netmask: None,
            alias: None,
            address6: Some("2001:db8:0:39::10".parse().expect("an address")),
            prefix_length6: Some(64),
            alias6: Some("2001:db8:0:39::20".parse().expect("an address")),
            gateways: vec!["fe80::1".parse().expect("an address")],
            interface: "eth2".to_owned(),
            mac: None,
            carrier: Some(true),
            xdp: Some(XdpMode::Native),
        };
        let mut text = String::new();
        write(&mut text, &[vlan]).expect("a string takes everything");
        expect![[r#"
            vlan   IP address       IP mask          type
            ---------------------------------------------------
            3      0.0.0.0          0.0.0.0          SERVER

            vlan   interface        MAC address        link     xdp      alias            gateways
            -----------------------------------------------------------------------------------------
            3      eth2             unknown            up       native   -                fe80::1

            vlan   IPv6 address                                 IPv6 alias
            -----------------------------------------------------------------------------------------
            3      2001:db8:0:39::10/64                         2001:db8:0:39::20
        "#]]
        .assert_eq(&text);
    }
}
