//! Under attack, and at the limits: a SYN flood with forged sources to servers that answer it, with and without rate limits;
//! and reals at their `maxconns`, a backup farm, and a successor that knows both.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use csm_tests::flood::{EVERYWHERE, Flood, ONE_NETWORK};
use csm_tests::lab::{Lab, Options};
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::service::DOWNLOAD;
use csm_tests::status::Role;
use csm_tests::topology::{self, REALS, Side, VIP};
use csm_tests::traffic::download::{Download, Outcome};
use csm_tests::wait;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(20);
/// Bytes a second at which a download outlasts what happens to it.
const RATE: u64 = 600_000;
/// With `rate-limit connections`, and with `rate-limit client`.
const LIMITED: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 35);
const BY_CLIENT: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 36);
/// Its two reals may have three connections each; the third server stands in.
const FULL: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 37);
/// Honest connections for each line of the table.
const HONEST: usize = 30;

fn services() -> String {
    let mut text = " serverfarm FLOODED\n".to_owned();
    for real in REALS {
        text += &format!("  real {real}\n   inservice\n");
    }
    text += " serverfarm SMALL\n";
    for real in &REALS[..2] {
        text += &format!("  real {real}\n   maxconns 3\n   minconns 2\n   inservice\n");
    }
    text += &format!(" serverfarm SORRY\n  real {}\n   inservice\n", REALS[2]);
    for (name, to, lines) in [
        ("LIMITED", LIMITED, "  serverfarm FLOODED\n  rate-limit connections 1000 burst 100\n"),
        (
            "BY_CLIENT",
            BY_CLIENT,
            "  serverfarm FLOODED\n  rate-limit client connections 100 netmask 255.255.255.0\n",
        ),
        ("FULL", FULL, "  serverfarm SMALL backup SORRY\n  replicate csrp connection\n"),
    ] {
        text += &format!(" vserver {name}\n  virtual {to} tcp www\n{lines}  inservice\n");
    }
    text
}

/// Opens [`HONEST`] connections, half of them at a time; how long each took, of those that were made.
fn honest(lab: &Lab, to: Ipv4Addr) -> Result<Vec<Duration>> {
    let one = move || {
        let begun = Instant::now();
        let target = SocketAddr::from((to, 80));
        TcpStream::connect_timeout(&target, Duration::from_secs(4)).ok().map(|_| begun.elapsed())
    };
    let mut took = lab.topology.client.within(|| {
        let threads: Vec<_> = (0..HONEST / 2)
            .map(|_| std::thread::spawn(move || (0..2).filter_map(|_| one()).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect::<Vec<_>>()
    })?;
    took.sort_unstable();
    Ok(took)
}

/// A counter of the servers' kernels, all of them together.
fn servers(lab: &Lab, counter: &str) -> Result<u64> {
    let mut sum = 0;
    for server in &lab.topology.servers {
        let text = server.within(|| std::fs::read_to_string("/proc/thread-self/net/netstat"))??;
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let found = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == counter);
        sum += found.context(counter.to_owned())?.1.parse::<u64>()?;
    }
    Ok(sum)
}

/// What honest clients meet while `sources` flood `to`; prints a line of the table.
fn under_flood(lab: &Lab, what: &str, to: Ipv4Addr, sources: u32) -> Result<Vec<Duration>> {
    let flood = (sources > 0).then(|| Flood::start(&lab.topology.router, 1, to, sources)).transpose()?;
    if let Some(flood) = &flood {
        wait::until("a flood", LIMIT, Duration::from_millis(10), || {
            Ok((flood.sent() > 20_000).then_some(()))
        })?;
    }
    let sent = || flood.as_ref().map_or(0, Flood::sent);
    let (begun, before) = (Instant::now(), (sent(), servers(lab, "SyncookiesSent")?));
    let took = honest(lab, to)?;
    let after = (sent(), servers(lab, "SyncookiesSent")?);
    let rate =
        |count: u64| count * 1000 / u64::try_from(begun.elapsed().as_millis()).map_or(1, |ms| ms.max(1));
    let at = |part: usize| took.get(took.len() * part / 100).map_or(0, Duration::as_millis);
    println!(
        "{what:<44} {:>8} {:>9} {:>5} of {HONEST} {:>6} {:>6} {:>6}",
        rate(after.0 - before.0),
        rate(after.1 - before.1),
        took.len(),
        at(50),
        at(90),
        took.last().map_or(0, Duration::as_millis)
    );
    Ok(took)
}

fn vserver(lab: &Lab, side: Side, name: &str) -> Result<serde_json::Value> {
    let answer = lab.nodes[side as usize].show("vservers")?;
    let rows = answer.get("vservers").unwrap_or(&answer).as_array().cloned().unwrap_or_default();
    rows.into_iter().find(|row| row["name"] == name).context(name.to_owned())
}

/// A flood to servers that answer every SYN of it: what is established goes on, and honest clients are served.
fn flood(lab: &Lab, active: Side) {
    let url = format!("http://{VIP}/{DOWNLOAD}?rate=300000");
    let standing = Download::fetch(&lab.topology.client, topology::client(50), &url, &[]).expect("curl");
    println!(
        "{:<44} {:>8} {:>9} {:>11} {:>6} {:>6} {:>6}",
        "", "SYNs/s", "cookies/s", "served", "ms 50%", "90%", "most"
    );
    for (what, to, sources, share) in [
        ("no flood", VIP, 0, 100),
        ("flood from everywhere, no limit", VIP, EVERYWHERE, 90),
        ("flood from one /24, no limit", VIP, ONE_NETWORK, 90),
        ("flood from one /24, 100/s for each /24", BY_CLIENT, ONE_NETWORK, 90),
        ("flood from everywhere, 1000/s for all", LIMITED, EVERYWHERE, 0),
    ] {
        let took = under_flood(lab, what, to, sources).expect("a flood");
        assert!(took.len() * 100 >= HONEST * share, "{what}: {} of {HONEST} served", took.len());
    }
    let limited = vserver(lab, active, "LIMITED").expect("the virtual server");
    assert!(limited["refused"]["rate_limit"].as_u64() > Some(1000), "{limited}");
    let by_client = vserver(lab, active, "BY_CLIENT").expect("the virtual server");
    assert!(by_client["refused"]["client_rate_limit"].as_u64() > Some(1000), "{by_client}");
    let ended = standing.finish(&lab.payload, Duration::from_secs(60)).expect("an outcome");
    assert_eq!(ended, Outcome::Intact, "the established connection");
}

/// Downloads by the clients of those numbers, which go on.
fn start(lab: &Lab, clients: Range<usize>) -> Vec<Download> {
    let url = format!("http://{FULL}/{DOWNLOAD}?rate={RATE}");
    let client = &lab.topology.client;
    clients.map(|index| Download::fetch(client, topology::client(index), &url, &[]).expect("curl")).collect()
}

/// Established connections of each server, as soon as there are `all` of them.
fn spread(lab: &Lab, side: Side, all: u64) -> Result<[u64; 3]> {
    wait::until("all connections", LIMIT, Duration::from_millis(50), || {
        let answer = lab.nodes[side as usize].show("conns")?;
        let rows = answer.get("connections").unwrap_or(&answer).as_array().cloned().unwrap_or_default();
        let mut reals: BTreeMap<String, u64> = BTreeMap::new();
        for row in rows.iter().filter(|row| row["state"] == "estab" && row["vserver"] == "FULL") {
            *reals.entry(row["real"]["address"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        let counts = REALS.map(|real| reals.get(&real.to_string()).copied().unwrap_or(0));
        Ok((counts.iter().sum::<u64>() == all).then_some(counts))
    })
}

/// State and connections of the farm's reals by the last walk of a node.
fn reals(lab: &Lab, side: Side, farm: &str) -> Result<Vec<(String, u64)>> {
    let answer = lab.nodes[side as usize].show("reals")?;
    let rows = answer.get("reals").unwrap_or(&answer).as_array().cloned().unwrap_or_default();
    let of_farm = rows.iter().filter(|row| row["serverfarm"] == farm);
    let state = |row: &serde_json::Value| row["state"].as_str().unwrap_or_default().to_owned();
    Ok(of_farm.map(|row| (state(row), row["connections"].as_u64().unwrap_or(0))).collect())
}

/// Full reals get no more, the backup farm serves, and so it is after a takeover.
fn limits(lab: &mut Lab, active: Side) {
    let standby = active.peer();
    let mut downloads = start(lab, 0..6);
    assert_eq!(spread(lab, active, 6).expect("connections"), [3, 3, 0]);
    downloads.extend(start(lab, 6..8));
    assert_eq!(spread(lab, active, 8).expect("connections"), [3, 3, 2], "the backup farm serves");
    for side in [active, standby] {
        let full = ("max_conns".to_owned(), 3);
        let found = wait::until("a walk", LIMIT, Duration::from_millis(50), || {
            let found = reals(lab, side, "SMALL")?;
            Ok((found == [full.clone(), full.clone()]).then_some(found))
        });
        found.unwrap_or_else(|error| panic!("{error}: {:?}", reals(lab, side, "SMALL")));
    }
    lab.fail(active, Fault::Kill).expect("kill");
    lab.node(standby).wait_for(Role::Active, LIMIT).expect("takeover");
    downloads.extend(start(lab, 8..10));
    assert_eq!(spread(lab, standby, 10).expect("connections"), [3, 3, 4], "replicas count");
    for download in downloads {
        let ended = download.finish(&lab.payload, Duration::from_secs(90)).expect("an outcome");
        assert_eq!(ended, Outcome::Intact);
    }
    let room = wait::until("room", LIMIT, Duration::from_millis(50), || {
        let found = reals(lab, standby, "SMALL")?;
        Ok(found.iter().all(|(state, _)| state == "operational").then_some(()))
    });
    room.expect("reals that are below their minconns");
    let last = start(lab, 20..21);
    let counts = spread(lab, standby, 1).expect("a connection");
    assert_eq!(counts[2], 0, "to the farm itself again: {counts:?}");
    drop(last);
}

#[test]
fn a_flood_is_outlived_and_limits_hold_before_and_after_a_takeover() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let options =
        Options { services: services(), download: 6_000_000, ..Options::small(programs, out("edge")) };
    let mut lab = Lab::build(options).expect("a lab");
    let active = lab.start(LIMIT).expect("one active, one standby");
    flood(&lab, active);
    limits(&mut lab, active);
    finish(lab);
}
