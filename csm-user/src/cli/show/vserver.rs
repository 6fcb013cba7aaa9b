//! `show module csm N vservers [detail]`.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr};

use super::{figure, protocol, rule};
use crate::api::reply::policy::PolicyReply;
use crate::api::reply::{
    AdvertiseReply, BackupReply, MaxConnsReply, RateLimitReply, Replicate, StickyAddress, StickyRule,
    VserverReply, VserverState,
};

/// Writes the listing.
pub fn write(out: &mut impl Write, vservers: &[VserverReply]) -> fmt::Result {
    // An IPv6 address may need more room than the CSM's column has.
    let width = vservers.iter().map(|vserver| address(vserver).len()).fold(24, usize::max);
    writeln!(out, "vserver         type  prot {:<width$} vlan state        conns", "virtual")?;
    rule(out, width + 51)?;
    for vserver in vservers {
        let VserverReply { name, connections, .. } = vserver;
        let (prot, vlan) = (prot(vserver), vlan(vserver));
        let (address, state) = (address(vserver), state(vserver.state));
        let connections = figure(*connections);
        writeln!(out, "{name:<15} SLB   {prot:<4} {address:<width$} {vlan:<4} {state:<12} {connections}")?;
        if let Some(reason) = &vserver.reason {
            writeln!(out, "                {reason}")?;
        }
    }
    Ok(())
}

/// Writes the detailed listing.
pub fn write_detail(out: &mut impl Write, vservers: &[VserverReply]) -> fmt::Result {
    vservers.iter().try_for_each(|vserver| one(out, vserver))
}

fn one(out: &mut impl Write, vserver: &VserverReply) -> fmt::Result {
    let VserverReply { name, idle_s, pending_s, connections, total_connections, .. } = vserver;
    let index = vserver.index.map_or_else(|| "<not assigned>".to_owned(), |index| index.to_string());
    writeln!(out, "{name}, type = SLB, state = {}, v_index = {index}", state(vserver.state))?;
    if let Some(reason) = &vserver.reason {
        writeln!(out, "  reason = {reason}")?;
    }
    let (address, prot, vlan) = (address(vserver), prot(vserver), vlan(vserver));
    let direction = if vserver.unidirectional { "unidir" } else { "bidir" };
    let service = match (vserver.ftp, vserver.rtsp) {
        (true, _) => "FTP",
        (_, true) => "RTSP",
        _ => "NONE",
    };
    let advertise = match &vserver.advertise {
        None => "FALSE",
        Some(AdvertiseReply { only_active: false, announced: true }) => "TRUE, announced",
        Some(AdvertiseReply { only_active: false, announced: false }) => "TRUE, not announced",
        Some(AdvertiseReply { only_active: true, announced: true }) => "ACTIVE, announced",
        Some(AdvertiseReply { only_active: true, announced: false }) => "ACTIVE, not announced",
    };
    writeln!(
        out,
        "  virtual = {address}, {direction}, {prot}, service = {service}, advertise = {advertise}"
    )?;
    for clients in &vserver.clients {
        writeln!(out, "  client = {clients}")?;
    }
    let replicate = replicate(vserver.replicate);
    writeln!(
        out,
        "  idle = {idle_s}, replicate csrp = {replicate}, vlan = {vlan}, pending = {pending_s}, layer 4"
    )?;
    let connections = figure(*connections);
    writeln!(out, "  conns = {connections}, total conns = {total_connections}")?;
    limits(out, vserver)?;
    writeln!(out, "  Default policy:")?;
    let farm = vserver.serverfarm.as_deref().unwrap_or("<not assigned>");
    let backup = vserver.backup.as_ref().map_or_else(|| "<not assigned>".to_owned(), backup);
    writeln!(out, "    server farm = {farm}, backup = {backup}")?;
    let none = StickyRule {
        minutes: 0,
        group: 0,
        netmask: Ipv4Addr::UNSPECIFIED.into(),
        address: StickyAddress::Source,
    };
    let StickyRule { minutes, group, netmask, address } = vserver.sticky.unwrap_or(none);
    let address = match address {
        StickyAddress::Source => "",
        StickyAddress::Destination => ", by destination",
        StickyAddress::Both => ", by both",
    };
    let netmask = match netmask {
        IpAddr::V4(mask) => mask.to_string(),
        IpAddr::V6(mask) => format!("/{}", mask.to_bits().leading_ones()),
    };
    writeln!(out, "    sticky: timer = {minutes}, subnet = {netmask}{address}, group id = {group}")?;
    if let Some(group) = vserver.reverse_sticky {
        writeln!(out, "    reverse sticky: group id = {group}")?;
    }
    writeln!(out, "  Policy          Tot matches  Client pkts  Server pkts")?;
    write!(out, "  ")?;
    rule(out, 53)?;
    if vserver.policies.is_empty() {
        let (client, server) = (vserver.client_packets, vserver.server_packets);
        return writeln!(out, "  (default)       {total_connections:<12} {client:<12} {server}");
    }
    for policy in &vserver.policies {
        let PolicyReply { total_matches, client_packets, server_packets, .. } = policy;
        let name = policy.name.as_deref().unwrap_or("(default)");
        writeln!(out, "  {name:<15} {total_matches:<12} {client_packets:<12} {server_packets}")?;
    }
    Ok(())
}

/// What it refuses; only of one with limits.
fn limits(out: &mut impl Write, vserver: &VserverReply) -> fmt::Result {
    let refused = vserver.refused;
    if let Some(rate) = &vserver.rate_limit {
        writeln!(out, "  rate limit = {}, refused = {}", rate_limit(rate), refused.rate_limit)?;
    }
    if let Some(rate) = &vserver.client_rate_limit {
        writeln!(out, "  client rate limit = {}, refused = {}", rate_limit(rate), refused.client_rate_limit)?;
    }
    if let Some(MaxConnsReply { limit, connections }) = vserver.max_conns {
        writeln!(out, "  max conns = {limit}, now = {connections}, refused = {}", refused.max_conns)?;
    }
    if let Some(owner) = &vserver.owner {
        write!(out, "  owner = {}", owner.name)?;
        match owner.max_conns {
            Some(MaxConnsReply { limit, connections }) => {
                writeln!(
                    out,
                    ", max conns = {limit}, now = {connections}, refused = {}",
                    refused.owner_max_conns
                )?;
            }
            None => writeln!(out)?,
        }
    }
    if refused.no_real > 0 {
        writeln!(out, "  refused for want of a real = {}", refused.no_real)?;
    }
    Ok(())
}

fn rate_limit(rate: &RateLimitReply) -> String {
    let of = rate.prefix_length.map(|bits| format!(" of each /{bits}")).unwrap_or_default();
    format!("{} conns/s, burst {}{of}", rate.per_second, rate.burst)
}

pub(super) fn backup(backup: &BackupReply) -> String {
    let (sticky, serving) =
        (if backup.sticky { ", sticky" } else { "" }, if backup.serving { ", serving" } else { "" });
    format!("{}{sticky}{serving}", backup.serverfarm)
}

fn address(vserver: &VserverReply) -> String {
    match vserver.address {
        Some(address @ IpAddr::V4(_)) => format!("{address}/{}:{}", vserver.prefix_length, vserver.port),
        Some(address @ IpAddr::V6(_)) => format!("[{address}/{}]:{}", vserver.prefix_length, vserver.port),
        None => "<not assigned>".to_owned(),
    }
}

fn prot(vserver: &VserverReply) -> String {
    vserver.protocol.map_or_else(|| "-".to_owned(), protocol)
}

fn vlan(vserver: &VserverReply) -> String {
    vserver.vlan.map_or_else(|| "ALL".to_owned(), |vlan| vlan.to_string())
}

const fn state(state: VserverState) -> &'static str {
    match state {
        VserverState::Operational => "OPERATIONAL",
        VserverState::OutOfService => "OUTOFSERVICE",
    }
}

const fn replicate(replicate: Replicate) -> &'static str {
    match (replicate.connection, replicate.sticky) {
        (false, false) => "none",
        (true, false) => "connection",
        (false, true) => "sticky",
        (true, true) => "all",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::api::reply::{OwnerReply, Protocol, RefusedReply};

    pub(in crate::cli::show) fn vservers() -> Vec<VserverReply> {
        let web = VserverReply {
            name: "WEB_VIP".to_owned(),
            index: Some(10),
            address: Some(Ipv4Addr::new(10, 86, 213, 93).into()),
            prefix_length: 32,
            protocol: Some(Protocol::Tcp),
            ftp: false,
            rtsp: false,
            unidirectional: false,
            clients: Vec::new(),
            port: 80,
            vlan: Some(2),
            state: VserverState::Operational,
            reason: None,
            serverfarm: Some("FARM".to_owned()),
            backup: Some(BackupReply { serverfarm: "SORRY".to_owned(), sticky: true, serving: false }),
            rate_limit: Some(RateLimitReply { per_second: 1000, burst: 200, prefix_length: None }),
            client_rate_limit: Some(RateLimitReply { per_second: 10, burst: 10, prefix_length: Some(24) }),
            max_conns: Some(MaxConnsReply { limit: 500, connections: 14 }),
            owner: Some(OwnerReply {
                name: "SHOP".to_owned(),
                max_conns: Some(MaxConnsReply { limit: 900, connections: 31 }),
            }),
            advertise: Some(AdvertiseReply { only_active: true, announced: true }),
            refused: RefusedReply {
                rate_limit: 7,
                client_rate_limit: 12,
                no_real: 3,
                max_conns: 2,
                owner_max_conns: 4,
            },
            idle_s: 3600,
            pending_s: 30,
            replicate: Replicate::default(),
            sticky: None,
            reverse_sticky: None,
            connections: Some(12),
            total_connections: 34567,
            client_packets: 987_654,
            server_packets: 1_234_567,
            policies: Vec::new(),
        };
        let vip1 = VserverReply {
            name: "VIP1".to_owned(),
            index: None,
            address: Some(Ipv4Addr::new(192, 158, 138, 130).into()),
            vlan: None,
            state: VserverState::OutOfService,
            reason: Some("no serverfarm".to_owned()),
            serverfarm: None,
            backup: None,
            rate_limit: None,
            client_rate_limit: None,
            max_conns: None,
            owner: None,
            advertise: None,
            refused: RefusedReply::default(),
            replicate: Replicate { connection: true, sticky: true },
            sticky: Some(StickyRule {
                minutes: 30,
                group: 10,
                netmask: Ipv4Addr::BROADCAST.into(),
                address: StickyAddress::Source,
            }),
            reverse_sticky: Some(20),
            connections: Some(0),
            total_connections: 0,
            client_packets: 0,
            server_packets: 0,
            ..web.clone()
        };
        let unborn = VserverReply {
            name: "FIFTEEN_CHARS_X".to_owned(),
            address: None,
            protocol: None,
            ..vip1.clone()
        };
        vec![web, vip1, VserverReply { reason: Some("no virtual address".to_owned()), ..unborn }]
    }

    fn check(render: impl Fn(&mut String, &[VserverReply]) -> fmt::Result, expected: &Expect) {
        let mut text = String::new();
        render(&mut text, &vservers()).expect("a string takes everything");
        expected.assert_eq(&text);
    }

    #[test]
    fn listing() {
        check(
            write,
            &expect![[r#"
            vserver         type  prot virtual                  vlan state        conns
            ---------------------------------------------------------------------------
            WEB_VIP         SLB   TCP  10.86.213.93/32:80       2    OPERATIONAL  12
            VIP1            SLB   TCP  192.158.138.130/32:80    ALL  OUTOFSERVICE 0
                            no serverfarm
            FIFTEEN_CHARS_X SLB   -    <not assigned>           ALL  OUTOFSERVICE 0
                            no virtual address
        "#]],
        );
    }

    #[test]
    fn detail() {
        check(
            write_detail,
            &expect![[r#"
                WEB_VIP, type = SLB, state = OPERATIONAL, v_index = 10
                  virtual = 10.86.213.93/32:80, bidir, TCP, service = NONE, advertise = ACTIVE, announced
                  idle = 3600, replicate csrp = none, vlan = 2, pending = 30, layer 4
                  conns = 12, total conns = 34567
                  rate limit = 1000 conns/s, burst 200, refused = 7
                  client rate limit = 10 conns/s, burst 10 of each /24, refused = 12
                  max conns = 500, now = 14, refused = 2
                  owner = SHOP, max conns = 900, now = 31, refused = 4
                  refused for want of a real = 3
                  Default policy:
                    server farm = FARM, backup = SORRY, sticky
                    sticky: timer = 0, subnet = 0.0.0.0, group id = 0
                  Policy          Tot matches  Client pkts  Server pkts
                  -----------------------------------------------------
                  (default)       34567        987654       1234567
                VIP1, type = SLB, state = OUTOFSERVICE, v_index = <not assigned>
                  reason = no serverfarm
                  virtual = 192.158.138.130/32:80, bidir, TCP, service = NONE, advertise = FALSE
                  idle = 3600, replicate csrp = all, vlan = ALL, pending = 30, layer 4
                  conns = 0, total conns = 0
                  Default policy:
                    server farm = <not assigned>, backup = <not assigned>
                    sticky: timer = 30, subnet = 255.255.255.255, group id = 10
                    reverse sticky: group id = 20
                  Policy          Tot matches  Client pkts  Server pkts
                  -----------------------------------------------------
                  (default)       0            0            0
                FIFTEEN_CHARS_X, type = SLB, state = OUTOFSERVICE, v_index = <not assigned>
                  reason = no virtual address
                  virtual = <not assigned>, bidir, -, service = NONE, advertise = FALSE
                  idle = 3600, replicate csrp = all, vlan = ALL, pending = 30, layer 4
                  conns = 0, total conns = 0
                  Default policy:
                    server farm = <not assigned>, backup = <not assigned>
                    sticky: timer = 30, subnet = 255.255.255.255, group id = 10
                    reverse sticky: group id = 20
                  Policy          Tot matches  Client pkts  Server pkts
                  -----------------------------------------------------
                  (default)       0            0            0
            "#]],
        );
    }
}
