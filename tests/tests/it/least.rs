//! `predictor leastconns` on real traffic: connections of unequal length, and a successor that knows the loads.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use anyhow::Result;
use csm_tests::lab::{Lab, Options};
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::service::DOWNLOAD;
use csm_tests::status::Role;
use csm_tests::topology::{self, REALS, Side};
use csm_tests::traffic::download::{Download, Outcome};
use csm_tests::wait;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(20);
/// Bytes a second at which a download lasts from its beginning until after the takeover.
const RATE: u64 = 1_000_000;
/// All clients are one to its stickiness, and so on one real.
const PINNED: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 35);
/// Of the same farm.
const LEAST: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 36);

fn services() -> String {
    let mut text = " serverfarm LEAST\n  predictor leastconns\n".to_owned();
    for real in REALS {
        text += &format!("  real {real}\n   inservice\n");
    }
    for (name, to, sticky) in [("PINNED", PINNED, "  sticky 10 netmask 0.0.0.0\n"), ("LEAST", LEAST, "")] {
        text += &format!(
            " vserver {name}\n  virtual {to} tcp www\n  serverfarm LEAST\n{sticky}  replicate csrp connection\n  inservice\n"
        );
    }
    text
}

/// Downloads by the clients of those numbers, which go on.
fn start(lab: &Lab, to: Ipv4Addr, clients: Range<usize>) -> Vec<Download> {
    let url = format!("http://{to}/{DOWNLOAD}?rate={RATE}");
    let client = &lab.topology.client;
    clients.map(|index| Download::fetch(client, topology::client(index), &url, &[]).expect("curl")).collect()
}

/// Established connections by real, most first, as soon as there are `all` of them.
fn spread(lab: &Lab, side: Side, all: u64) -> Result<Vec<u64>> {
    wait::until("all connections", LIMIT, Duration::from_millis(50), || {
        let answer = lab.nodes[side as usize].show("conns")?;
        let rows = answer.get("connections").unwrap_or(&answer).as_array().cloned().unwrap_or_default();
        let mut reals: BTreeMap<String, u64> = BTreeMap::new();
        for row in rows.iter().filter(|row| row["state"] == "estab") {
            *reals.entry(row["real"]["address"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        let mut counts: Vec<u64> = reals.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        Ok((counts.iter().sum::<u64>() == all).then_some(counts))
    })
}

/// Connections that a node's walk over its tables found at the farm's reals.
fn walked(lab: &Lab, side: Side) -> Result<u64> {
    let answer = lab.nodes[side as usize].show("reals")?;
    let rows = answer.get("reals").unwrap_or(&answer).as_array().cloned().unwrap_or_default();
    let of_farm = rows.iter().filter(|row| row["serverfarm"] == "LEAST");
    Ok(of_farm.filter_map(|row| row["connections"].as_u64()).sum())
}

#[test]
fn unequal_loads_are_evened_out_and_the_successor_goes_on_with_it() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let options = Options { services: services(), ..Options::small(programs, out("least")) };
    let mut lab = Lab::build(options).expect("a lab");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let standby = active.peer();

    let mut downloads = start(&lab, PINNED, 0..6);
    assert_eq!(spread(&lab, active, 6).expect("connections"), [6], "all on one real");
    downloads.extend(start(&lab, LEAST, 6..10));
    assert_eq!(spread(&lab, active, 10).expect("connections"), [6, 2, 2], "in turn it would have got one");

    wait::until("a walk over the replicas", LIMIT, Duration::from_millis(50), || {
        Ok((walked(&lab, standby)? == 10).then_some(()))
    })
    .expect("replicas that are counted");
    lab.fail(active, Fault::Kill).expect("kill");
    lab.node(standby).wait_for(Role::Active, LIMIT).expect("takeover");
    downloads.extend(start(&lab, LEAST, 10..18));
    assert_eq!(
        spread(&lab, standby, 18).expect("connections"),
        [6, 6, 6],
        "by loads that it never saw begin"
    );

    for download in downloads {
        let ended = download.finish(&lab.payload, Duration::from_secs(60)).expect("an outcome");
        assert_eq!(ended, Outcome::Intact);
    }
    finish(lab);
}
