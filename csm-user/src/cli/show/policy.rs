//! `show module csm N policy`, `static`, `probe detail`.

use std::fmt::{self, Write};

use serde::Serialize;

use super::{probe, rule};
use crate::api::reply::{Endpoint, RealReply, RealState, VserverReply};
use crate::model::{Config, Real, Static};

/// Writes the policy of each virtual server: on layer 4 there is the default one, which everything matches.
pub fn write(out: &mut impl Write, vservers: &[VserverReply]) -> fmt::Result {
    writeln!(out, "vserver         policy          server farm      Tot matches  Client pkts  Server pkts")?;
    rule(out, 85)?;
    for vserver in vservers {
        let VserverReply { name, serverfarm, total_connections, client_packets, server_packets, .. } =
            vserver;
        let farm = serverfarm.as_deref().unwrap_or("<not assigned>");
        writeln!(
            out,
            "{name:<15} (default)       {farm:<16} {total_connections:<12} {client_packets:<12} {server_packets}"
        )?;
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
            let users =
                config.vservers.iter().filter(|vserver| vserver.serverfarm.as_ref() == Some(&farm.name));
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
