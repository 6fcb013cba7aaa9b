//! The table at the end of a run.

use std::fmt::Write;
use std::time::Duration;

use crate::scenario::Outline;

const HEADERS: [&str; 10] = [
    "fault",
    "connections kept",
    "silence ms",
    "quiet ms",
    "lost of sent",
    "rejoin ms/lost",
    "download",
    "requests failed",
    "RT late ms",
    "active",
];

/// One line for each fault, its columns aligned, and below it whatever was wrong.
pub fn table(outlines: &[Outline]) -> String {
    let mut rows = vec![HEADERS.map(str::to_owned)];
    rows.extend(outlines.iter().map(cells));
    let mut widths = [0; HEADERS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let line: Vec<String> = row
            .iter()
            .zip(widths)
            .enumerate()
            .map(
                |(column, (cell, width))| {
                    if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
                },
            )
            .collect();
        let _ = writeln!(text, "{}", line.join("  ").trim_end());
        if index == 0 {
            let _ = writeln!(text, "{}", widths.map(|width| "-".repeat(width)).join("  "));
        }
    }
    for outline in outlines {
        for complaint in complaints(outline) {
            let _ = writeln!(text, "{}: {complaint}", outline.fault.name());
        }
    }
    text
}

fn cells(outline: &Outline) -> [String; HEADERS.len()] {
    let failed: u32 = outline.requests_failed.values().sum();
    [
        outline.fault.name().to_owned(),
        format!("{} of {}", outline.survived, outline.connections),
        ms(Duration::from_nanos(outline.silence_ns)),
        ms(Duration::from_nanos(outline.reference_silence_ns)),
        format!("{} of {}", outline.probes_lost, outline.probes),
        format!("{}/{}", ms(Duration::from_nanos(outline.rejoin_silence_ns)), outline.rejoin_lost),
        if outline.download_fault.is_none() { "checksum right".into() } else { "BROKEN".into() },
        format!("{failed} of {}", outline.requests + failed),
        format!(
            "{}{}",
            ms(Duration::from_micros(outline.worst_lateness_us)),
            if outline.realtime { "" } else { " (not FIFO)" }
        ),
        format!("{:?} -> {:?}", outline.from, outline.to),
    ]
}

/// Everything that should not have been, in words.
pub fn complaints(outline: &Outline) -> Vec<String> {
    let mut complaints: Vec<String> =
        outline.lost.iter().map(|(reason, count)| format!("{count} connections lost: {reason}")).collect();
    complaints.extend(outline.download_fault.iter().map(|why| format!("download: {why}")));
    complaints
        .extend(outline.requests_failed.iter().map(|(why, count)| format!("{count} requests failed: {why}")));
    if outline.unstuck > 0 {
        complaints.push(format!("{} sticky clients were moved to another server", outline.unstuck));
    }
    complaints.extend(outline.faults.iter().cloned());
    complaints
}

/// What the columns mean.
pub fn legend() -> &'static str {
    "silence: longest pause seen by a client that sends a UDP datagram every millisecond, around the fault; quiet: the same\n\
     client's longest pause before it; lost: its datagrams never answered; rejoin: pause and losses while the failed node\n\
     came back; RT late: latest wake-up of a node's real-time thread\n"
}

/// Milliseconds, as the tables have them.
pub(crate) fn ms(time: Duration) -> String {
    format!("{}.{}", time.as_millis(), time.as_micros() / 100 % 10)
}
