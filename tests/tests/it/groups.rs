//! Client groups and in-band health on real traffic: who gets which farm, what a live change and a takeover leave alone, and a real
//! that is taken out by the way it answers.

use std::collections::BTreeMap;
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
/// Nobody listens there.
const NOBODY: u16 = 9;

fn services() -> String {
    format!(
        " access-list 10 permit host {}
 serverfarm LOCALS
  real {}
   inservice
 serverfarm OTHERS
  real {}
   inservice
 serverfarm INBAND
  health retries 2 failed 600
  real {} {NOBODY}
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
",
        topology::client(0),
        REALS[0],
        REALS[1],
        REALS[2],
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
