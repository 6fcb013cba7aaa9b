//! Which MAC address the group's frames carry.

use std::fmt::{self, Write};

use crate::api::reply::ft::{MacMode, MacReply, MacTrial};

const fn mode(mode: MacMode) -> &'static str {
    match mode {
        MacMode::Auto => "auto",
        MacMode::On => "on",
        MacMode::Off => "off",
    }
}

const fn lost(trial: MacTrial) -> Option<&'static str> {
    match trial {
        MacTrial::Unknown | MacTrial::Passes => None,
        MacTrial::LostOnTheWay => Some("do not reach the peer"),
        MacTrial::NotDelivered => Some("are not delivered to this box"),
    }
}

/// What is not as usual: the port's own address is used, or the virtual one although it is of no use.
pub(super) fn faults(out: &mut impl Write, macs: &[MacReply]) -> fmt::Result {
    for MacReply { vlan, configured, own, trial } in macs {
        let mode = mode(*configured);
        let why = lost(*trial).map(|lost| format!(": frames with another {lost}")).unwrap_or_default();
        match (own, lost(*trial)) {
            (true, _) => {
                writeln!(out, " VLAN {vlan}: the port's own MAC address is used (vmac {mode}{why})")?;
            }
            (false, Some(lost)) => {
                writeln!(out, " VLAN {vlan}: frames with the virtual MAC address {lost} (vmac {mode})")?;
            }
            (false, None) => {}
        }
    }
    Ok(())
}

/// All of them.
pub(super) fn table(out: &mut impl Write, macs: &[MacReply]) -> fmt::Result {
    for MacReply { vlan, configured, own, trial } in macs {
        let used = if *own { "the port's own" } else { "virtual" };
        let trial = match trial {
            MacTrial::Unknown => "not known whether another passes",
            MacTrial::Passes => "another passes",
            MacTrial::LostOnTheWay => "another does not reach the peer",
            MacTrial::NotDelivered => "another is not delivered",
        };
        writeln!(out, "  vlan {vlan}: MAC address {used}, vmac {}, {trial}", mode(*configured))?;
    }
    Ok(())
}
