//! The matrix as a Markdown table.

use std::fmt::Write;

use super::cell::Cell;
use crate::report::ms;

const HEADERS: [&str; 10] = [
    "mode",
    "fault",
    "preempt",
    "role",
    "connections kept",
    "download",
    "silence ms",
    "return ms",
    "overlap ms",
    "checked frames",
];

/// The first lines.
pub fn head() -> String {
    format!("| {} |\n|{}", HEADERS.join(" | "), "---|".repeat(HEADERS.len()))
}

/// The line of a cell. Of two families, IPv4 first.
pub fn row(cell: &Cell) -> String {
    let families = |show: &dyn Fn(&super::cell::Family) -> String| {
        cell.families.iter().map(show).collect::<Vec<_>>().join(", ")
    };
    let broken = |faults: &[String]| faults.iter().any(|fault| fault.starts_with("download"));
    let columns: [String; HEADERS.len()] = [
        cell.mode.name().into(),
        cell.trouble.name(),
        if cell.preempt { "on" } else { "off" }.into(),
        if cell.from == cell.to {
            format!("{:?} stays", cell.from)
        } else {
            format!("{:?} to {:?}", cell.from, cell.to)
        },
        families(&|family| format!("{} of {}", family.survived, family.connections)),
        families(&|family| if broken(&family.faults) { "BROKEN".into() } else { "right".into() }),
        families(&|family| ms(family.silence)),
        families(&|family| ms(family.rejoin)),
        ms(cell.dissection.overlap),
        cell.dissection.frames.to_string(),
    ];
    let mut text = format!("| {} |", columns.join(" | "));
    for complaint in cell.complaints() {
        let _ = write!(text, "\n  - {complaint}");
    }
    text
}
