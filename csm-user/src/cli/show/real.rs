//! `show module csm N reals [detail]`.

use std::fmt::{self, Write};

use super::{figure, rule};
use crate::api::reply::{RealReply, RealState};

/// The CSM's "no limit".
const NO_LIMIT: u32 = u32::MAX;

/// Writes the listing.
pub fn write(out: &mut impl Write, reals: &[RealReply]) -> fmt::Result {
    // An IPv6 address may need more room than the CSM's column has.
    let width = reals.iter().map(|real| address(real).len()).fold(21, usize::max);
    writeln!(out, "{:<width$} server farm      weight  state          conns/hits", "real")?;
    rule(out, width + 51)?;
    for real in reals {
        let RealReply { serverfarm, weight, connections, .. } = real;
        let (address, state, connections) = (address(real), state(real.state), figure(*connections));
        writeln!(out, "{address:<width$} {serverfarm:<16} {weight:<7} {state:<14} {connections}")?;
        if let Some(reason) = &real.reason {
            writeln!(out, "{:width$} {reason}", "")?;
        }
    }
    Ok(())
}

/// Writes the detailed listing.
pub fn write_detail(out: &mut impl Write, reals: &[RealReply]) -> fmt::Result {
    for real in reals {
        let RealReply { serverfarm, weight, admin_weight, connections, total_connections, .. } = real;
        writeln!(out, "{}, {serverfarm}, state = {}", address(real), state(real.state))?;
        if let Some(reason) = &real.reason {
            writeln!(out, "  reason = {reason}")?;
        }
        let connections = figure(*connections);
        let (max, min) = (real.max_connections.unwrap_or(NO_LIMIT), real.min_connections.unwrap_or(0));
        writeln!(out, "  conns = {connections}, maxconns = {max}, minconns = {min}")?;
        writeln!(out, "  weight = {weight}, weight(admin) = {admin_weight}")?;
        writeln!(out, "  total conns established = {total_connections}")?;
        writeln!(out, "  client pkts = {}, server pkts = {}", real.client_packets, real.server_packets)?;
    }
    Ok(())
}

fn address(real: &RealReply) -> String {
    match real.port {
        Some(port) => std::net::SocketAddr::new(real.address, port).to_string(),
        None => real.address.to_string(),
    }
}

/// As the CSM writes it.
pub(super) const fn state(state: RealState) -> &'static str {
    match state {
        RealState::Operational => "OPERATIONAL",
        RealState::OutOfService => "OUTOFSERVICE",
        RealState::Standby => "STANDBY",
        RealState::ProbeTesting => "PROBE_TESTING",
        RealState::ProbeFailed => "PROBE_FAILED",
        RealState::ArpFailed => "ARP_FAILED",
        RealState::MaxConns => "MAXCONNS",
        RealState::InbandProbeFailed => "INBAND_PROBE_FAILED",
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use expect_test::{Expect, expect};

    use super::*;

    fn reals() -> Vec<RealReply> {
        let up = RealReply {
            address: Ipv4Addr::new(192, 158, 39, 101).into(),
            port: None,
            serverfarm: "WEB".to_owned(),
            weight: 8,
            admin_weight: 8,
            max_connections: None,
            min_connections: None,
            state: RealState::Operational,
            reason: None,
            connections: Some(334),
            total_connections: 12_345,
            client_packets: 100_000,
            server_packets: 200_000,
        };
        let failed = RealReply {
            address: Ipv4Addr::new(192, 158, 139, 102).into(),
            port: Some(8080),
            weight: 0,
            state: RealState::ProbeFailed,
            reason: Some("probe TCP port 8080: connection refused".to_owned()),
            ..up.clone()
        };
        let out = RealReply {
            address: Ipv4Addr::new(192, 158, 39, 103).into(),
            weight: 0,
            state: RealState::OutOfService,
            connections: Some(0),
            ..up.clone()
        };
        vec![up, failed, out]
    }

    fn check(render: impl Fn(&mut String, &[RealReply]) -> fmt::Result, expected: &Expect) {
        let mut text = String::new();
        render(&mut text, &reals()).expect("a string takes everything");
        expected.assert_eq(&text);
    }

    #[test]
    fn listing() {
        check(
            write,
            &expect![[r#"
            real                  server farm      weight  state          conns/hits
            ------------------------------------------------------------------------
            192.158.39.101        WEB              8       OPERATIONAL    334
            192.158.139.102:8080  WEB              0       PROBE_FAILED   334
                                  probe TCP port 8080: connection refused
            192.158.39.103        WEB              0       OUTOFSERVICE   0
        "#]],
        );
    }

    #[test]
    fn columns_make_room_for_ipv6() {
        let mut reals = reals();
        reals[1].address = "2001:db8:0:f101::139:102".parse().expect("an address");
        let mut text = String::new();
        write(&mut text, &reals).expect("a string takes everything");
        expect![[r#"
            real                            server farm      weight  state          conns/hits
            ----------------------------------------------------------------------------------
            192.158.39.101                  WEB              8       OPERATIONAL    334
            [2001:db8:0:f101::139:102]:8080 WEB              0       PROBE_FAILED   334
                                            probe TCP port 8080: connection refused
            192.158.39.103                  WEB              0       OUTOFSERVICE   0
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn detail() {
        check(
            write_detail,
            &expect![[r#"
            192.158.39.101, WEB, state = OPERATIONAL
              conns = 334, maxconns = 4294967295, minconns = 0
              weight = 8, weight(admin) = 8
              total conns established = 12345
              client pkts = 100000, server pkts = 200000
            192.158.139.102:8080, WEB, state = PROBE_FAILED
              reason = probe TCP port 8080: connection refused
              conns = 334, maxconns = 4294967295, minconns = 0
              weight = 0, weight(admin) = 8
              total conns established = 12345
              client pkts = 100000, server pkts = 200000
            192.158.39.103, WEB, state = OUTOFSERVICE
              conns = 0, maxconns = 4294967295, minconns = 0
              weight = 0, weight(admin) = 8
              total conns established = 12345
              client pkts = 100000, server pkts = 200000
        "#]],
        );
    }
}
