//! Listings of some things only, what the configuration alone says, and the support bundle.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Value, json};

use super::exec::{self, FAILED, OK, Options, Output};
use super::show;
use crate::api::client::{Client, ClientError};
use crate::api::path;
use crate::api::reply::{
    Done, RealReply, RunningConfigReply, ServerfarmReply, StickiesReply, StickyFilter, SystemReply,
    VlanReply, VlanRole, VserverReply,
};
use crate::config::{self, HostFacts};
use crate::model::Config;

/// Of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Select {
    /// `vservers NAME`.
    Vserver {
        /// In capitals.
        name: String,
        /// All about it.
        detail: bool,
    },
    /// `serverfarms NAME`.
    Serverfarm(String),
    /// `reals sfarm NAME`.
    Reals {
        /// In capitals.
        farm: String,
        /// All about each.
        detail: bool,
    },
    /// `vlan client|server|ft`.
    VlanRole(VlanRole),
    /// `vlan N`.
    Vlan(u16),
    /// `sticky client A`, `sticky group N`.
    Sticky {
        /// A.
        client: Option<IpAddr>,
        /// N.
        group: Option<u8>,
    },
    /// `sticky groups`.
    StickyGroups,
    /// `probe [NAME]`.
    Probe(Option<String>),
    /// `variable [NAME]`.
    Variable(Option<String>),
    /// `natpool [NAME]`.
    Natpool(Option<String>),
    /// `probe [NAME] detail`.
    ProbeDetail(Option<String>),
    /// `policy`, and its name.
    Policy(Option<String>),
    /// `owner [NAME] [detail]`.
    Owner {
        /// In capitals.
        name: Option<String>,
        /// All about each.
        detail: bool,
    },
    /// `static`.
    Static,
    /// `clear module csm N counters`.
    ClearCounters,
    /// `clear module csm N arp-cache`.
    ClearNeighbours,
    /// `clear module csm N sticky …`.
    ClearSticky(StickyFilter),
    /// `status`.
    Status,
}

/// Carries it out.
pub async fn run(client: &Client, select: Select, as_json: bool) -> Output {
    match ask(client, select, as_json).await {
        Ok(stdout) => Output { stdout, ..Output::default() },
        Err(error) => Output::failure(&error),
    }
}

async fn ask(client: &Client, select: Select, as_json: bool) -> Result<String, ClientError> {
    Ok(match select {
        Select::Vserver { name, detail } => {
            let mut rows: Vec<VserverReply> = client.get(path::VSERVERS).await?;
            rows.retain(|row| row.name == name);
            written(&rows, as_json, |out, rows| match detail {
                true => show::vserver::write_detail(out, rows),
                false => show::vserver::write(out, rows),
            })
        }
        Select::Serverfarm(name) => {
            let mut rows: Vec<ServerfarmReply> = client.get(path::SERVERFARMS).await?;
            rows.retain(|row| row.name == name);
            written(&rows, as_json, |out, rows| show::serverfarm::write(out, rows))
        }
        Select::Reals { farm, detail } => {
            let mut rows: Vec<RealReply> = client.get(path::REALS).await?;
            rows.retain(|row| row.serverfarm == farm);
            written(&rows, as_json, |out, rows| match detail {
                true => show::real::write_detail(out, rows),
                false => show::real::write(out, rows),
            })
        }
        Select::VlanRole(role) => vlans(client, as_json, |row| row.role == role).await?,
        Select::Vlan(vlan) => vlans(client, as_json, |row| row.vlan == vlan).await?,
        Select::Sticky { client: address, group } => {
            let mut reply: StickiesReply = client.get(path::STICKY).await?;
            let all = reply.entries.len();
            reply.entries.retain(|row| {
                address.is_none_or(|address| row.client == address)
                    && group.is_none_or(|group| row.group == group)
            });
            // Of what was cut off nothing is known.
            let cut = reply.total.saturating_sub(count(all));
            reply.total = count(reply.entries.len()) + cut;
            written(&reply, as_json, show::sticky::write)
        }
        Select::StickyGroups => {
            let rows: Vec<VserverReply> = client.get(path::VSERVERS).await?;
            let rows: Vec<_> = rows.into_iter().filter(|row| row.sticky.is_some()).collect();
            written(&rows, as_json, |out, rows| show::sticky::write_groups(out, rows))
        }
        Select::Probe(name) => {
            let config = running(client).await?;
            let probes = config
                .probes
                .iter()
                .filter(|probe| name.as_ref().is_none_or(|name| probe.name.as_str() == name));
            let rows: Vec<_> = probes.map(show::probe::Row::of).collect();
            written(&rows, as_json, |out, rows| show::probe::write(out, rows))
        }
        Select::Variable(name) => {
            let mut rows = show::variable::rows(&running(client).await?.variables);
            rows.retain(|row| name.as_ref().is_none_or(|name| row.name.eq_ignore_ascii_case(name)));
            written(&rows, as_json, |out, rows| show::variable::write(out, rows))
        }
        Select::Natpool(name) => {
            let config = running(client).await?;
            let pools = config
                .natpools
                .iter()
                .filter(|pool| name.as_ref().is_none_or(|name| pool.name.as_str() == name));
            let rows: Vec<_> = pools.map(show::natpool::Row::of).collect();
            written(&rows, as_json, |out, rows| show::natpool::write(out, rows))
        }
        Select::ProbeDetail(name) => {
            let config = running(client).await?;
            let reals: Vec<RealReply> = client.get(path::REALS).await?;
            let rows = show::policy::probes(&config, &reals, name.as_deref());
            written(&rows, as_json, |out, rows| show::policy::write_probes(out, rows))
        }
        Select::Policy(name) => {
            let vservers: Vec<VserverReply> = client.get(path::VSERVERS).await?;
            let rows = show::policy::rows(&vservers, name.as_deref());
            written(&rows, as_json, |out, rows| show::policy::write(out, rows))
        }
        Select::Owner { name, detail } => {
            let config = running(client).await?;
            let vservers: Vec<VserverReply> = client.get(path::VSERVERS).await?;
            let rows = show::owner::rows(&config, &vservers, name.as_deref());
            written(&rows, as_json, |out, rows| match detail {
                true => show::owner::write_detail(out, rows),
                false => show::owner::write(out, rows),
            })
        }
        Select::Static => {
            let config = running(client).await?;
            let rows: Vec<_> = config.statics.iter().map(show::policy::StaticRow::of).collect();
            written(&rows, as_json, |out, rows| show::policy::write_statics(out, rows))
        }
        // Like IOS, a command that worked says nothing.
        Select::ClearCounters => {
            let done: Done = client.post(path::CLEAR_COUNTERS).await?;
            written(&done, as_json, |_, _| Ok(()))
        }
        Select::ClearNeighbours => {
            let done: Done = client.post(path::CLEAR_NEIGHBOURS).await?;
            written(&done, as_json, |_, _| Ok(()))
        }
        Select::ClearSticky(filter) => {
            let reply = client.clear_sticky(&filter).await?;
            written(&reply, as_json, |out, reply| {
                use fmt::Write as _;
                writeln!(out, "sticky entries cleared: {}", reply.cleared)
            })
        }
        Select::Status => {
            let reply: SystemReply = client.get(path::SYSTEM).await?;
            written(&reply, as_json, |out, reply| {
                use fmt::Write as _;
                let SystemReply { module, version, pid, uptime_s } = reply;
                writeln!(out, "SLB Module is online in slot {module}.")?;
                writeln!(out, " csmd {version}, process {pid}, up {uptime_s} s")
            })
        }
    })
}

async fn vlans(
    client: &Client,
    as_json: bool,
    keep: impl Fn(&VlanReply) -> bool,
) -> Result<String, ClientError> {
    let mut rows: Vec<VlanReply> = client.get(path::VLANS).await?;
    rows.retain(|row| keep(row));
    Ok(written(&rows, as_json, |out, rows| show::vlan::write(out, rows)))
}

/// The configuration in force, as its text says it.
pub(super) async fn running(client: &Client) -> Result<Config, ClientError> {
    let RunningConfigReply { text } = client.get(path::RUNNING_CONFIG).await?;
    let outcome = config::check("running-config", &text, &HostFacts::default());
    outcome.config.ok_or_else(|| {
        ClientError::Garbled(
            "csmd's own configuration has faults by this csm: they are of different versions".to_owned(),
        )
    })
}

fn written<T: Serialize>(
    reply: &T,
    as_json: bool,
    render: impl FnOnce(&mut String, &T) -> fmt::Result,
) -> String {
    let mut text = String::new();
    let done = match as_json {
        true => serde_json::to_string_pretty(reply).map(|json| text = json + "\n").map_err(|_| fmt::Error),
        false => render(&mut text, reply),
    };
    // Neither a String nor plain values refuse.
    done.map_or_else(|error| format!("% {error}\n"), |()| text)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// What a support bundle holds, in this order.
const BUNDLE: [&str; 17] = [
    "show module csm SLOT status",
    "show running-config",
    "show running-directory",
    "show startup-config",
    "show module csm SLOT ft detail",
    "show module csm SLOT ft readiness",
    "show module csm SLOT ft explain",
    "show module csm SLOT ft track",
    "show standby",
    "show module csm SLOT vlan",
    "show module csm SLOT vservers detail",
    "show module csm SLOT serverfarms",
    "show module csm SLOT reals detail",
    "show module csm SLOT probe detail",
    "show module csm SLOT arp",
    "show module csm SLOT stats",
    "check host",
];

/// `show tech-support`: all that somebody far away wants to see, keys left out. What cannot be had is a part of it, too.
pub async fn tech_support(client: &Client, options: &Options, as_json: bool) -> Output {
    let slot = match client.get::<SystemReply>(path::SYSTEM).await {
        Ok(reply) => reply.module,
        Err(error) => return Output::failure(&error),
    };
    let plain = Options { json: false, part: None, ..options.clone() };
    let (mut text, mut parts) = (String::new(), Vec::new());
    for command in BUNDLE {
        let command = command.replace("SLOT", &slot.to_string());
        let Output { stdout, stderr, .. } = Box::pin(exec::run(std::slice::from_ref(&command), &plain)).await;
        let output = without_keys(&(stdout + &stderr));
        if as_json {
            parts.push(json!({ "command": command, "output": output }));
        } else {
            text += &format!("\n------------------ {command} ------------------\n\n{output}");
        }
    }
    if as_json {
        text = written(&Value::from(parts), true, |_, _| Ok(()));
    }
    let status = if text.is_empty() { FAILED } else { OK };
    Output { stdout: text, status, ..Output::default() }
}

/// A bundle leaves the house: no key goes with it, hidden or not.
fn without_keys(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", config::without_secrets(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_in_a_bundle() {
        assert_eq!(
            without_keys(
                " ft group 1 vlan 9\n  authentication key-string 7 0508\n  preempt\n standby 1 authentication text cat\n"
            ),
            " ft group 1 vlan 9\n  authentication key-string <removed>\n  preempt\n standby 1 authentication text <removed>\n"
        );
    }
}
