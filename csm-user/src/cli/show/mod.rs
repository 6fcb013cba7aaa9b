//! Renderers of `show`: each writes a reply of the API in the shape of the CSM's own listing.
//!
//! What the CSM prints and this product does not have or does not measure is left out rather than printed as a default;
//! what Linux adds stands below, in the same manner.

pub mod conn;
pub mod counter;
pub mod ft;
pub mod natpool;
pub mod neighbour;
pub mod owner;
pub mod policy;
pub mod probe;
pub mod ready;
pub mod real;
pub mod serverfarm;
pub mod standby;
pub mod sticky;
pub mod time;
pub mod trace;
pub mod track;
pub mod variable;
pub mod vlan;
pub mod vserver;

use std::fmt;

use crate::api::reply::{Endpoint, Protocol};

/// A line of `len` dashes, as under each heading.
fn rule(out: &mut impl fmt::Write, len: usize) -> fmt::Result {
    writeln!(out, "{:-<len$}", "")
}

const fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

const fn yes_no(value: bool) -> &'static str {
    if value { "Yes" } else { "No" }
}

fn protocol(protocol: Protocol) -> String {
    match protocol {
        Protocol::Tcp => "TCP".to_owned(),
        Protocol::Udp => "UDP".to_owned(),
        Protocol::Icmp => "ICMP".to_owned(),
        Protocol::Any => "ANY".to_owned(),
        Protocol::Number(number) => number.to_string(),
    }
}

fn endpoint(Endpoint { address, port }: Endpoint) -> String {
    // An IPv6 address stands in brackets.
    std::net::SocketAddr::new(address, port).to_string()
}

/// A figure; what is not measured is a dash.
fn figure(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// "... and N more" below a listing that was cut off.
fn more(out: &mut impl fmt::Write, shown: usize, total: u64) -> fmt::Result {
    match total.saturating_sub(u64::try_from(shown).unwrap_or(u64::MAX)) {
        0 => Ok(()),
        rest => writeln!(out, "({rest} more, {total} in all)"),
    }
}
