//! Client groups and in-band health on real traffic: who gets which farm, what a live change and a takeover leave alone, and a real
//! that is taken out by the way it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use csm_tests::lab::{Lab, Options};
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::service::DOWNLOAD;
use csm_tests::status::Role;
use csm_tests::topology::{self, REALS, Side};
use csm_tests::traffic::download::{Download, Outcome};
use csm_tests::wait;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(30);
const OFTEN: Duration = Duration::from_millis(50);
/// Bytes a second at which a download lasts from its beginning until after the takeover.
const RATE: u64 = 1_000_000;
const GROUPED: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 37);
const INBAND: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 38);
const PAIRS: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 39);
/// Nobody listens there.
const NOBODY: u16 = 9;

fn services() -> String {
    format!(
        " access-list 10 permit host {LOCAL}
 serverfarm LOCALS
  real {0}
   inservice
 serverfarm OTHERS
  real {1}
   inservice
 serverfarm INBAND
  health retries 2 failed 600
  real {2} {NOBODY}
   inservice
 policy LOCALS
  client-group 10
  serverfarm LOCALS
  set ip dscp 46
 vserver GROUPED
  virtual {GROUPED} tcp www
  serverfarm OTHERS
  slb-policy LOCALS
  replicate csrp connection
  inservice
 vserver INBAND
  virtual {INBAND} tcp www
  serverfarm INBAND
  inservice
 exit
 serverfarm PAIRS
  real {0}
   inservice
  real {1}
   inservice
  real {2}
   inservice
 sticky 80 netmask 255.255.255.255 address both
  static client source {STATED} destination {PAIRS} real {2}
 vserver PAIRS
  virtual {PAIRS} tcp www
  serverfarm PAIRS
  sticky 30 group 80
  replicate csrp sticky
  inservice
",
        REALS[0],
        REALS[1],
        REALS[2],
        LOCAL = topology::client(0),
        STATED = topology::client(3),
    )
}

/// Established connections to `GROUPED` of a node: client and real.
fn grouped(lab: &Lab, side: Side) -> Result<BTreeMap<String, String>> {
    let answer = lab.nodes[side as usize].show("conns")?;
    let rows = answer.get("connections").unwrap_or(&answer).as_array().cloned().unwrap_or_default();
    let address =
        |row: &serde_json::Value, name: &str| row[name]["address"].as_str().unwrap_or_default().to_owned();
    let of = rows.iter().filter(|row| row["state"] == "estab" && row["vserver"] == "GROUPED");
    Ok(of.map(|row| (address(row, "client"), address(row, "real"))).collect())
}

fn state_of_inband(lab: &Lab, side: Side) -> Result<Option<String>> {
    let answer = lab.nodes[side as usize].show("reals")?;
    let rows = answer.get("reals").unwrap_or(&answer).as_array().cloned().unwrap_or_default();
    let row = rows.iter().find(|row| row["serverfarm"] == "INBAND");
    Ok(row.and_then(|row| Some(row["state"].as_str()?.to_owned())))
}

/// Sticky entries of a node that have two addresses: both of them, the real, and whether it ends.
fn pairs(lab: &Lab, side: Side) -> Result<BTreeSet<(String, String, String, bool)>> {
    let answer = lab.nodes[side as usize].show("sticky")?;
    let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let rows = answer["entries"].as_array().cloned().unwrap_or_default();
    let of = rows.iter().filter(|row| !row["destination"].is_null());
    let row =
        |row| (text(row, "client"), text(row, "destination"), text(row, "real"), !row["timeout_s"].is_null());
    Ok(of.map(row).collect())
}

/// The real that served `client` at `PAIRS`, as the connections of a node tell.
fn served(lab: &Lab, side: Side, client: Ipv4Addr) -> Result<String> {
    let url = format!("http://{PAIRS}/{DOWNLOAD}?rate={RATE}");
    let download = Download::fetch(&lab.topology.client, client, &url, &[])?;
    let real = wait::until("the connection", LIMIT, OFTEN, || {
        let answer = lab.nodes[side as usize].show("conns")?;
        let rows = answer["connections"].as_array().cloned().unwrap_or_default();
        let is_it = |row: &&serde_json::Value| {
            row["vserver"] == "PAIRS"
                && row["state"] == "estab"
                && row["client"]["address"] == client.to_string()
        };
        Ok(rows.iter().find(is_it).map(|row| row["real"]["address"].as_str().unwrap_or_default().to_owned()))
    })?;
    drop(download);
    Ok(real)
}

#[test]
fn by_both_addresses_a_client_keeps_its_real_over_a_takeover_and_a_restart() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let options = Options { services: services(), ..Options::small(programs, out("pairs")) };
    let mut lab = Lab::build(options).expect("a lab");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let standby = active.peer();
    let clients = [0, 1, 2, 3].map(topology::client);
    let reals = clients.map(|client| served(&lab, active, client).expect("a real"));
    assert_eq!(reals[3], REALS[2].to_string(), "as it is configured");
    let row =
        |index: usize| (clients[index].to_string(), PAIRS.to_string(), reals[index].clone(), index != 3);
    let expected: BTreeSet<_> = (0..4).map(row).collect();
    for side in [active, standby] {
        wait::until("all of them", LIMIT, OFTEN, || Ok((pairs(&lab, side)? == expected).then_some(())))
            .unwrap_or_else(|error| panic!("{side:?}: {error:#}, {:?}", pairs(&lab, side)));
    }
    println!("{}", lab.nodes[active as usize].command("show module csm 5 sticky").expect("sticky"));
    println!("{}", lab.nodes[active as usize].command("show module csm 5 sticky groups").expect("groups"));
    // In place: what stands in the pinned tables is read as it was written.
    lab.nodes[active as usize].command("reload").expect("reload");
    wait::until("the csmd that goes on", LIMIT, OFTEN, || {
        Ok(pairs(&lab, active).is_ok_and(|held| held == expected).then_some(()))
    })
    .expect("they are still there");
    lab.fail(active, Fault::Kill).expect("kill");
    lab.node(standby).wait_for(Role::Active, LIMIT).expect("takeover");
    for (index, client) in clients.into_iter().enumerate() {
        assert_eq!(served(&lab, standby, client).expect("a real"), reals[index], "{client}");
    }
    let clear = format!("clear module csm 5 sticky client {}", clients[0]);
    println!("{}", lab.nodes[standby as usize].command(&clear).expect("clear"));
    let left: BTreeSet<_> = (1..4).map(row).collect();
    assert_eq!(pairs(&lab, standby).expect("sticky"), left);
    finish(lab);
}

fn type_in(lab: &Lab, side: Side, lines: &str) -> Result<()> {
    let mut csm = lab.nodes[side as usize].csm();
    let mut typing = csm.args(["configure", "terminal"]).stdin(Stdio::piped()).spawn()?;
    typing.stdin.take().context("a pipe")?.write_all(lines.as_bytes())?;
    anyhow::ensure!(typing.wait()?.success(), "configure terminal");
    Ok(())
}

#[test]
fn a_group_keeps_its_farm_over_a_change_and_a_takeover_and_a_real_that_resets_is_taken_out() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let options = Options { services: services(), ..Options::small(programs, out("groups")) };
    let mut lab = Lab::build(options).expect("a lab");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let standby = active.peer();
    wait::until("the real's MAC address", LIMIT, OFTEN, || {
        Ok((state_of_inband(&lab, active)?.as_deref() == Some("operational")).then_some(()))
    })
    .expect("it is in rotation");
    for _ in 0..2 {
        let mut curl = lab.topology.client.command("curl").expect("curl");
        let said = curl.args(["--silent", "--max-time", "5", &format!("http://{INBAND}/")]).output();
        assert!(!said.expect("curl").status.success(), "nobody listens");
    }
    wait::until("a real that failed in-band", LIMIT, OFTEN, || {
        Ok((state_of_inband(&lab, active)?.as_deref() == Some("inband_probe_failed")).then_some(()))
    })
    .expect("it is taken out");
    println!("{}", lab.nodes[active as usize].command("show module csm 5 reals").expect("reals"));

    let url = format!("http://{GROUPED}/{DOWNLOAD}?rate={RATE}");
    let fetch =
        |index| Download::fetch(&lab.topology.client, topology::client(index), &url, &[]).expect("curl");
    let downloads: Vec<Download> = (0..2).map(fetch).collect();
    let expected = BTreeMap::from([0, 1].map(|n| (topology::client(n).to_string(), REALS[n].to_string())));
    for side in [active, standby] {
        // They need not be seen at once: on a slow machine one may have ended.
        let mut seen = BTreeMap::new();
        wait::until("both connections", LIMIT, OFTEN, || {
            seen.extend(grouped(&lab, side)?);
            Ok((seen == expected).then_some(()))
        })
        .expect("each at its group's real");
    }
    println!("{}", lab.nodes[active as usize].command("show module csm 5 policy").expect("policy"));

    type_in(&lab, active, "module csm 5\n vserver GROUPED\n  no slb-policy LOCALS\n").expect("a live change");
    let third = Download::fetch(&lab.topology.client, topology::client(0), &url, &[]).expect("curl");
    for side in [active, standby] {
        wait::until("a new one by the virtual server's own farm", LIMIT, OFTEN, || {
            let answer = lab.nodes[side as usize].show("conns")?;
            let rows = answer.get("connections").unwrap_or(&answer).as_array().cloned().unwrap_or_default();
            let client = topology::client(0).to_string();
            let is_new = |row: &serde_json::Value| {
                row["state"] == "estab"
                    && row["client"]["address"] == client
                    && row["real"]["address"] == REALS[1].to_string()
            };
            Ok(rows.iter().any(is_new).then_some(()))
        })
        .expect("the policy is gone");
    }

    println!("under way at the kill: {}", grouped(&lab, standby).expect("conns").len());
    lab.fail(active, Fault::Kill).expect("kill");
    lab.node(standby).wait_for(Role::Active, LIMIT).expect("takeover");
    for download in downloads.into_iter().chain([third]) {
        let ended = download.finish(&lab.payload, Duration::from_secs(60)).expect("an outcome");
        assert_eq!(ended, Outcome::Intact);
    }
    finish(lab);
}
