//! Random edits of the active node's configuration under traffic, and then: the same kernel maps as after a start from the
//! final text, on both nodes, and no connection lost.

mod lines;
pub mod maps;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use self::lines::Random;

use crate::lab::Lab;
use crate::node::Fault;
use crate::scenario::Traffic;
use crate::topology::Side;
use crate::wait;

/// Long-lived connections meanwhile.
const CONNECTIONS: usize = 50;
const LIMIT: Duration = Duration::from_secs(40);
const PACE: Duration = Duration::from_millis(100);

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Edits that were put in force.
    pub taken: usize,
    /// Edits that were refused, and changed nothing.
    pub refused: usize,
    /// Entries of the maps that were compared, in words that hold for any numbering.
    pub compared: usize,
    /// Milliseconds that an edit took, on average and at most.
    pub took_ms: (u64, u64),
}

/// Makes `count` edits of the active node of a lab that has not been started, whose group must have `sync auto`.
///
/// # Errors
/// If a connection is lost, or the maps differ from those of a start from the final text, with the differences.
pub fn run(lab: &mut Lab, count: usize, seed: u64) -> Result<Summary> {
    let active = lab.start(LIMIT)?;
    let mut traffic = Traffic::start(lab, CONNECTIONS)?;
    traffic.mark()?;
    let mut random = Random::new(seed);
    let (mut taken, mut took, mut longest) = (0, Duration::ZERO, Duration::ZERO);
    for number in 0..count {
        let lines = random.edit();
        let begun = Instant::now();
        taken += usize::from(edit(lab, active, &lines).with_context(|| format!("edit {number}: {lines}"))?);
        took += begun.elapsed();
        longest = longest.max(begun.elapsed());
    }
    let report = traffic.prove(LIMIT)?;
    if (report.alive, report.unproven) != (CONNECTIONS, 0) {
        bail!("connections were lost: {report:?}");
    }
    wait::until("the peer in sync", LIMIT, PACE, || {
        Ok((lab.node(active).show("ft")?["config_in_sync"] == true).then_some(()))
    })?;
    let edited = both(lab)?;
    let texts = Side::BOTH.map(|side| lab.node(side).command("show running-config"));
    drop(traffic);
    for (side, text) in Side::BOTH.into_iter().zip(texts) {
        lab.fail(side, Fault::Leave)?;
        std::fs::write(lab.out(&format!("node-{}.cfg", side.letter())), text?)?;
    }
    for side in Side::BOTH {
        lab.restore(side)?;
    }
    let mut fresh = [Vec::new(), Vec::new()];
    // Probes have to pass and neighbours to answer first.
    let same = wait::until("the same maps", LIMIT, PACE, || {
        fresh = match both(lab) {
            Ok(fresh) => fresh,
            // Not started yet.
            Err(_) => return Ok(None),
        };
        Ok((fresh == edited).then_some(()))
    });
    if same.is_err() {
        let only = |one: &[String], other: &[String]| {
            one.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>().join("\n  ")
        };
        let sides = edited.iter().zip(&fresh);
        let said: Vec<_> = sides
            .map(|(edited, fresh)| {
                format!("edited only:\n  {}\nfresh only:\n  {}", only(edited, fresh), only(fresh, edited))
            })
            .collect();
        bail!(
            "after {count} edits of seed {seed} the maps are others than after a start:\n{}",
            said.join("\n")
        );
    }
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let average = millis(took) / u64::try_from(count.max(1)).unwrap_or(u64::MAX);
    Ok(Summary {
        taken,
        refused: count - taken,
        compared: edited.iter().map(Vec::len).sum(),
        took_ms: (average, millis(longest)),
    })
}

fn both(lab: &mut Lab) -> Result<[Vec<String>; 2]> {
    let [a, b] = Side::BOTH.map(|side| maps::read(lab.node(side).socket()));
    Ok([a?, b?])
}

/// Whether the lines were taken; a line that is refused must have changed nothing, which is csmd's to say.
fn edit(lab: &mut Lab, side: Side, lines: &str) -> Result<bool> {
    let mut command: Command = lab.node(side).csm();
    command
        .args(["configure", "terminal"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut csm = command.spawn()?;
    csm.stdin.take().context("piped")?.write_all(lines.as_bytes())?;
    let output = csm.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => Ok(true),
        Some(2) if said.contains("nothing was changed") => Ok(false),
        Some(1) if said.contains("cannot be changed while csmd runs") => Ok(false),
        status => bail!("csm ended with {status:?}: {said}"),
    }
}
