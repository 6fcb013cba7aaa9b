//! The ways between the two boxes.

use std::fmt::{self, Write};

use crate::api::reply::PathReply;
use crate::api::reply::ft::{ForeignReply, ForeignWhy};
use crate::cli::show::yes;

/// What is out of order; nothing is printed if nothing is.
pub(super) fn faults(out: &mut impl Write, paths: &[PathReply]) -> fmt::Result {
    let Some((ft_vlan, others)) = paths.split_first() else { return Ok(()) };
    let alive = others.iter().find(|path| path.heard);
    match alive.filter(|_| !ft_vlan.heard) {
        Some(path) => writeln!(out, " FT VLAN is down, peer alive over VLAN {}", path.vlan)?,
        None if ft_vlan.heard => {
            for path in others.iter().filter(|path| !path.heard && path.used()) {
                writeln!(out, " VLAN {}: the peer is not heard here", path.vlan)?;
            }
        }
        None => {}
    }
    for path in paths.iter().filter(|path| path.heard && !path.hears_us) {
        writeln!(out, " VLAN {}: one way only, the peer does not hear this box here", path.vlan)?;
    }
    Ok(())
}

/// Longest silence of a box that still counts as present, ms: above the longest heartbeat interval in use.
const PRESENT_MS: u64 = 10_000;

/// Who speaks and is not believed: those that still do, or all that are remembered.
pub(super) fn foreign(out: &mut impl Write, foreign: &[ForeignReply], all: bool) -> fmt::Result {
    for ForeignReply { vlan, address, group, why, count, heard_ms_ago } in foreign {
        if !all && *heard_ms_ago > PRESENT_MS {
            continue;
        }
        let what = match why {
            ForeignWhy::OtherGroup => "is of another group",
            ForeignWhy::OtherKey => "has another key",
            ForeignWhy::NoKey => "has no key",
            ForeignWhy::ThirdBox => "is a third box of this group",
            ForeignWhy::OwnIdentity => "has this box's own identity: configured alike, or a loop",
        };
        let times = format!("{count} messages, the last {heard_ms_ago} msec ago");
        writeln!(out, " VLAN {vlan}: {address} speaks for group {group} and {what} ({times})")?;
    }
    Ok(())
}

/// All of them, with what was counted.
pub(super) fn table(out: &mut impl Write, paths: &[PathReply]) -> fmt::Result {
    writeln!(out, " heartbeat paths:")?;
    for (number, path) in paths.iter().enumerate() {
        let PathReply { vlan, hears_us, heard_ms_ago, sent, send_errors, received, missing, .. } = path;
        let name = if number == 0 { " (ft)" } else { "" };
        let heard = heard_ms_ago.map_or_else(|| "never".to_owned(), |ms| format!("{ms} msec ago"));
        let loss = percent(*missing, received + missing);
        writeln!(out, "  vlan {vlan}{name}: heard {heard}, hears this box {}", yes(*hears_us))?;
        writeln!(
            out,
            "   sent {sent}, errors {send_errors}, received {received}, missing {missing} ({loss})"
        )?;
    }
    Ok(())
}

fn percent(part: u64, whole: u64) -> String {
    let tenths = (part * 1000).checked_div(whole).unwrap_or(0);
    format!("{}.{} %", tenths / 10, tenths % 10)
}
