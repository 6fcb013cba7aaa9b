//! Frames at the wrong node, on purpose: a switch that knows better than the announcements, and questions that reach
//! both nodes.
//!
//! After a takeover the switch sends everything to the new active node within microseconds, so what the old one would do
//! with a frame hardly ever shows. Here it does.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::Result;
use csm_common::net::virtual_mac;

use crate::checks::show_mac;
use crate::lab::Lab;
use crate::netns::run;
use crate::topology::{ALIAS, Side, VIP};
use crate::wait;

/// The FT group of [`crate::figure::Figure`].
const GROUP: u8 = 1;
/// How often everybody is made to ask again.
const PACE: Duration = Duration::from_millis(100);

/// Has the switch send all frames for the virtual MAC to one node, whatever it learns, until [`release`].
///
/// # Errors
/// Of bridge(8).
pub fn steer(lab: &Lab, to: Side) -> Result<()> {
    for interface in [1, 2] {
        fdb(lab, "replace", to, interface, &["static", "sticky"])?;
    }
    Ok(())
}

/// Undoes [`steer`]; the next frame from the virtual MAC teaches the switch anew.
///
/// # Errors
/// When nothing was steered there.
pub fn release(lab: &Lab, from: Side) -> Result<()> {
    for interface in [1, 2] {
        fdb(lab, "del", from, interface, &[])?;
    }
    Ok(())
}

fn fdb(lab: &Lab, what: &str, side: Side, interface: usize, kind: &[&str]) -> Result<()> {
    let mac = show_mac(&virtual_mac(GROUP));
    let mut bridge = lab.topology.switch.command("bridge")?;
    run(bridge.args(["fdb", what, &mac, "dev", &side.port(interface), "master"]).args(kind)).map(drop)
}

/// For `time`, has the router and the servers ask again and again who has the group's addresses.
///
/// # Errors
/// Of ip(8), or on a signal.
pub fn ask(lab: &Lab, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    wait::until("the last question", time + Duration::from_secs(20), PACE, || {
        lab.topology.router.ip(&[format!("neigh flush to {VIP} dev eth0")])?;
        for server in &lab.topology.servers {
            server.ip(&[format!("neigh flush to {ALIAS} dev eth0")])?;
        }
        // Where no other traffic gets through, this one asks.
        lab.topology.client.within(|| UdpSocket::bind("0.0.0.0:0")?.send_to(b"who is there", (VIP, 7)))??;
        Ok((Instant::now() >= end).then_some(()))
    })
}
