//! `show module csm N policy`, `static`, `probe detail`.

use std::fmt::{self, Write};

use serde::Serialize;

use super::{probe, rule};
use crate::api::reply::policy::PolicyReply;
use crate::api::reply::{Endpoint, RealReply, RealState, VserverReply};
use crate::model::{Config, Real, Static};

/// A policy of a virtual server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    vserver: String,
    policy: Option<String>,
    client_group: Option<String>,
    serverfarm: Option<String>,
    sticky_group: Option<u8>,
    reverse_sticky: Option<u8>,
    dscp: Option<u8>,
    total_matches: u64,
    client_packets: u64,
    server_packets: u64,
    /// Unknown of what has no policies.
    client_octets: Option<u64>,
    server_octets: Option<u64>,
}

/// The policies `name`, or all; of a virtual server without, the default one, which everything matches.
#[must_use]
pub fn rows(vservers: &[VserverReply], name: Option<&str>) -> Vec<Row> {
    let default = |vserver: &VserverReply| Row {
        vserver: vserver.name.clone(),
        policy: None,
        client_group: None,
        serverfarm: vserver.serverfarm.clone(),
        sticky_group: None,
        reverse_sticky: vserver.reverse_sticky,
        dscp: None,
        total_matches: vserver.total_connections,
        client_packets: vserver.client_packets,
        server_packets: vserver.server_packets,
        client_octets: None,
        server_octets: None,
    };
    let rows = vservers.iter().flat_map(|vserver| {
        let of = |policy: &PolicyReply| Row {
            policy: policy.name.clone(),
            client_group: policy.client_group.clone(),
            serverfarm: policy.serverfarm.clone(),
            sticky_group: policy.sticky_group,
            reverse_sticky: policy.reverse_sticky,
            dscp: policy.dscp,
            total_matches: policy.total_matches,
            client_packets: policy.client_packets,
            server_packets: policy.server_packets,
            client_octets: Some(policy.client_octets),
            server_octets: Some(policy.server_octets),
            ..default(vserver)
        };
        let rows: Vec<_> = vserver.policies.iter().map(of).collect();
        if rows.is_empty() { vec![default(vserver)] } else { rows }
    });
    rows.filter(|row| name.is_none_or(|name| row.policy.as_deref() == Some(name))).collect()
}

/// Writes a line for each policy of each virtual server, and below it what only some have.
pub fn write(out: &mut impl Write, rows: &[Row]) -> fmt::Result {
    writeln!(out, "vserver         policy          server farm      Tot matches  Client pkts  Server pkts")?;
    rule(out, 85)?;
    for row in rows {
        let Row { vserver, total_matches, client_packets, server_packets, .. } = row;
        let policy = row.policy.as_deref().unwrap_or("(default)");
        let farm = row.serverfarm.as_deref().unwrap_or("<not assigned>");
        writeln!(
            out,
            "{vserver:<15} {policy:<15} {farm:<16} {total_matches:<12} {client_packets:<12} {server_packets}"
        )?;
        let group = row.client_group.iter().map(|group| format!("client group = {group}"));
        let dscp = row.dscp.iter().map(|dscp| format!("ip dscp = {dscp}"));
        let sticky = row.sticky_group.iter().map(|number| format!("sticky group = {number}"));
        let reverse = row.reverse_sticky.iter().map(|number| format!("reverse sticky group = {number}"));
        let octets = row.client_octets.iter().zip(&row.server_octets);
        let octets =
            octets.map(|(client, server)| format!("client octets = {client}, server octets = {server}"));
        let more: Vec<_> = group.chain(sticky).chain(reverse).chain(dscp).chain(octets).collect();
        if !more.is_empty() {
            writeln!(out, "                {}", more.join(", "))?;
        }
    }
    Ok(())
}

/// What becomes of the connections that servers open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StaticRow {
    action: String,
    hosts: Vec<String>,
}

impl StaticRow {
    /// As it is configured.
    #[must_use]
    pub fn of(of: &Static) -> Self {
        Self { action: of.action.to_string(), hosts: of.hosts.iter().map(ToString::to_string).collect() }
    }
}

/// Writes the `static` sections.
pub fn write_statics(out: &mut impl Write, rows: &[StaticRow]) -> fmt::Result {
    writeln!(out, "static                           real")?;
    rule(out, 60)?;
    for StaticRow { action, hosts } in rows {
        let mut action = action.strip_prefix("static ").unwrap_or(action);
        for host in hosts {
            writeln!(out, "{action:<32} {host}")?;
            action = "";
        }
    }
    Ok(())
}

/// A probe with what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeRow {
    probe: probe::Row,
    reals: Vec<Probed>,
}

/// A real that a probe looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Probed {
    real: String,
    vserver: String,
    serverfarm: String,
    state: RealState,
    reason: Option<String>,
}

/// The probes `name`, or all, with the reals that they look at.
#[must_use]
pub fn probes(config: &Config, reals: &[RealReply], name: Option<&str>) -> Vec<ProbeRow> {
    let probes = config.probes.iter().filter(|probe| name.is_none_or(|name| probe.name.as_str() == name));
    let row = |probe: &crate::model::Probe| {
        let probed = config.serverfarms.iter().flat_map(|farm| {
            let users = config
                .vservers
                .iter()
                .filter(|vserver| config.farms_of(vserver).any(|of| of.name == farm.name));
            let users: Vec<_> = users.map(|vserver| vserver.name.to_string()).collect();
            let users = if users.is_empty() { "-".to_owned() } else { users.join(",") };
            let is_checked = |shown: &&RealReply| {
                let is_it = |real: &&Real| (real.address, real.port) == (shown.address, shown.port);
                farm.reals.iter().find(is_it).is_some_and(|real| farm.checks(real, &probe.name))
            };
            let of_farm = reals.iter().filter(|real| real.serverfarm == farm.name.as_str());
            of_farm.filter(is_checked).map(move |real| Probed {
                real: real.port.map_or_else(
                    || real.address.to_string(),
                    |port| super::endpoint(Endpoint { address: real.address, port }),
                ),
                vserver: users.clone(),
                serverfarm: real.serverfarm.clone(),
                state: real.state,
                reason: real.reason.clone(),
            })
        });
        ProbeRow { probe: probe::Row::of(probe), reals: probed.collect() }
    };
    probes.map(row).collect()
}

/// Writes each probe, and below it its reals.
pub fn write_probes(out: &mut impl Write, rows: &[ProbeRow]) -> fmt::Result {
    for ProbeRow { probe, reals } in rows {
        probe::write(out, std::slice::from_ref(probe))?;
        writeln!(out, " real                  vserver         serverfarm      policy          status")?;
        write!(out, " ")?;
        rule(out, 78)?;
        for Probed { real, vserver, serverfarm, state, reason } in reals {
            let status = match state {
                RealState::Operational => "OPERABLE",
                other => super::real::state(*other),
            };
            let reason = reason.as_deref().map_or_else(String::new, |reason| format!(" ({reason})"));
            writeln!(out, " {real:<21} {vserver:<15} {serverfarm:<15} (default)       {status}{reason}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::config::{HostFacts, check};

    const TEXT: &str = "module csm 5
 probe P tcp
 serverfarm F
  probe P
  real 192.158.39.101
   inservice
 vserver V
  virtual 192.158.38.30 tcp www
  serverfarm F
 static nat virtual
  real 192.158.39.101
  real 192.158.39.128 255.255.255.128
";

    #[test]
    fn each_policy_has_a_line_and_below_it_whom_it_is_for() {
        let mut vservers = crate::cli::show::vserver::tests::vservers();
        vservers.truncate(2);
        let policy = |name: Option<&str>, total_matches| PolicyReply {
            name: name.map(str::to_owned),
            index: Some(3),
            client_group: name.map(|_| "10".to_owned()),
            serverfarm: name.map(|_| "FAST".to_owned()),
            backup: None,
            sticky_group: name.map(|_| 20),
            reverse_sticky: name.map(|_| 21),
            dscp: name.map(|_| 46),
            refused: crate::api::reply::limit::RefusedReply::default(),
            connections: Some(1),
            total_matches,
            client_packets: 20,
            client_octets: 3000,
            server_packets: 40,
            server_octets: 5000,
        };
        vservers[0].policies = vec![policy(Some("LOCALS"), 7), policy(None, 0)];
        let written = |name| {
            let mut out = String::new();
            write(&mut out, &rows(&vservers, name)).expect("text");
            out
        };
        expect![[r#"
            vserver         policy          server farm      Tot matches  Client pkts  Server pkts
            -------------------------------------------------------------------------------------
            WEB_VIP         LOCALS          FAST             7            20           40
                            client group = 10, sticky group = 20, reverse sticky group = 21, ip dscp = 46, client octets = 3000, server octets = 5000
            WEB_VIP         (default)       <not assigned>   0            20           40
                            client octets = 3000, server octets = 5000
            VIP1            (default)       <not assigned>   0            0            0
                            reverse sticky group = 20
        "#]]
        .assert_eq(&written(None));
        expect![[r#"
            vserver         policy          server farm      Tot matches  Client pkts  Server pkts
            -------------------------------------------------------------------------------------
            WEB_VIP         LOCALS          FAST             7            20           40
                            client group = 10, sticky group = 20, reverse sticky group = 21, ip dscp = 46, client octets = 3000, server octets = 5000
        "#]]
        .assert_eq(&written(Some("LOCALS")));
        let mut out = String::new();
        crate::cli::show::vserver::write_detail(&mut out, &vservers[..1]).expect("text");
        let table = out.lines().skip_while(|line| !line.contains("Policy "));
        let table: Vec<&str> = table.map(|line| line.strip_prefix("  ").expect("two blanks")).collect();
        expect![[r#"
            Policy          Tot matches  Client pkts  Server pkts
            -----------------------------------------------------
            LOCALS          7            20           40
            (default)       0            20           40"#]]
        .assert_eq(&table.join("\n"));
    }

    #[test]
    fn what_a_probe_found_stands_below_it() {
        let config = check("a.cfg", TEXT, &HostFacts::default()).config.expect("good");
        let real = RealReply {
            address: [192, 158, 39, 101].into(),
            port: None,
            serverfarm: "F".to_owned(),
            weight: 0,
            admin_weight: 8,
            max_connections: None,
            min_connections: None,
            state: RealState::ProbeFailed,
            reason: Some("probe P: connection refused".to_owned()),
            connections: None,
            total_connections: 0,
            client_packets: 0,
            server_packets: 0,
        };
        let mut out = String::new();
        write_probes(&mut out, &probes(&config, &[real], Some("P"))).expect("text");
        let rows: Vec<_> = config.statics.iter().map(StaticRow::of).collect();
        write_statics(&mut out, &rows).expect("text");
        expect![[r#"
            probe           type    port  interval retries failed open receive recover
            ----------------------------------------------------------------------------
            P               tcp           120      3       300    10   10      1
             real                  vserver         serverfarm      policy          status
             ------------------------------------------------------------------------------
             192.158.39.101        V               F               (default)       PROBE_FAILED (probe P: connection refused)
            static                           real
            ------------------------------------------------------------
            nat virtual                      192.158.39.101/32
                                             192.158.39.128/25
        "#]]
        .assert_eq(&out);
    }
}
