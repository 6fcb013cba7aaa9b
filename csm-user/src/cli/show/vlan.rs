//! `show module csm N vlan`.

use std::fmt::{self, Write};
use std::net::Ipv4Addr;

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
        let gateways = gateways.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(" ");
        let row = format!("{vlan:<6} {interface:<16} {mac:<18} {link:<8} {xdp:<8} {alias:<16} {gateways}");
        writeln!(out, "{}", row.trim_end())?;
    }
    Ok(())
}

/// The CSM's way to say that there is none.
fn zero(address: Option<Ipv4Addr>) -> Ipv4Addr {
    address.unwrap_or(Ipv4Addr::UNSPECIFIED)
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
            address: Some(Ipv4Addr::new(192, 158, 38, 10)),
            netmask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            alias: None,
            gateways: vec![Ipv4Addr::new(192, 158, 38, 20)],
            interface: "eth1".to_owned(),
            mac: Some("02:00:00:00:00:01".to_owned()),
            carrier: Some(true),
            xdp: Some(XdpMode::Native),
        };
        let server = VlanReply {
            vlan: 3,
            role: VlanRole::Server,
            address: Some(Ipv4Addr::new(192, 158, 39, 10)),
            alias: Some(Ipv4Addr::new(192, 158, 39, 20)),
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
}
