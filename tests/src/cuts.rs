//! A csmd that ends in the midst of what it writes, before each step in turn: what it leaves is whole, and starts.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use csm_user::state::Directory;
use csm_user::state::image::Image;
use csm_user::state::store::Store;

use crate::lab::{Lab, Options};
use crate::node::Fault;
use crate::programs::Programs;
use crate::topology::Side;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(30);
const PACE: Duration = Duration::from_millis(20);

/// The node that is asked, and dies.
const NODE: Side = Side::A;

/// What is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// `write memory`.
    WriteMemory,
    /// `copy FILE startup-config`.
    CopyFile,
    /// `copy working certified`.
    Certify,
    /// `copy FILE working image`.
    Image,
}

impl Deed {
    /// All.
    pub const ALL: [Self; 4] = [Self::WriteMemory, Self::CopyFile, Self::Certify, Self::Image];

    fn command(self, lab: &Lab) -> String {
        match self {
            Self::WriteMemory => "write memory".to_owned(),
            Self::CopyFile => format!("copy {} startup-config", lab.out("next.cfg").display()),
            Self::Certify => "copy working certified".to_owned(),
            Self::Image => format!("copy {} working image", lab.options.programs.csmd.path.display()),
        }
    }
}

/// A lab whose node A runs, alone.
///
/// # Errors
/// When it does not come up.
pub fn lab(programs: Programs, out: PathBuf) -> Result<Lab> {
    let mut lab = Lab::build(Options::small(programs, out))?;
    lab.restore(NODE)?;
    answers(&mut lab)?;
    Ok(lab)
}

/// Does the deed again and again, the process that writes ending before step 1, 1 + `stride`, ..., until it does not end any
/// more; returns how often it did.
///
/// # Errors
/// When what is left is not whole, is neither what was there before nor what was to be there, or does not start.
pub fn walk(lab: &mut Lab, deed: Deed, stride: u32) -> Result<u32> {
    for round in 0.. {
        let step = 1 + round * stride;
        prepare(lab, deed, step, 100 + round).with_context(|| format!("{deed:?} before {step}"))?;
        let command = deed.command(lab);
        let said = lab.node(NODE).command(&command);
        let ended = said.is_err() && lab.node(NODE).wait_for_end(LIMIT).is_ok();
        whole(lab, 100 + round).with_context(|| format!("{deed:?}, ended before step {step}"))?;
        if !ended {
            let said = said.with_context(|| format!("{deed:?}, not ended by step {step}"))?;
            ensure!(round > 0, "{deed:?} wrote nothing: {said}");
            lab.node(NODE).set_fault(None);
            return Ok(round);
        }
    }
    unreachable!("rounds have no end");
}

/// The node runs with the virtual server's idle time at `idle`, and is to die before `step` of what it writes next.
fn prepare(lab: &mut Lab, deed: Deed, step: u32, idle: u32) -> Result<()> {
    if lab.node(NODE).pid().is_some() {
        lab.fail(NODE, Fault::Kill)?;
    }
    // What was left is to be started from, whatever it is.
    lab.node(NODE).set_fault(Some(&format!("cut-{}", step + before(deed))));
    lab.restore(NODE)?;
    answers(lab)?;
    configure(lab, &format!("vserver VIP1\n idle {idle}\n"))?;
    match deed {
        Deed::WriteMemory => {}
        Deed::CopyFile => {
            let text = lab.node(NODE).command("show running-config")?;
            std::fs::write(lab.out("next.cfg"), text)?;
        }
        Deed::Certify | Deed::Image => {
            lab.node(NODE).command("write memory")?;
        }
    }
    Ok(())
}

/// Steps of the writing that comes before on the node that is to die.
fn before(deed: Deed) -> u32 {
    match deed {
        Deed::Certify | Deed::Image => WRITE_STEPS,
        Deed::WriteMemory | Deed::CopyFile => 0,
    }
}

/// Steps in which a copy is replaced.
const WRITE_STEPS: u32 = 5;

fn answers(lab: &mut Lab) -> Result<()> {
    let node = lab.node(NODE);
    let up = wait::until("csmd", LIMIT, PACE, || {
        node.check_alive()?;
        Ok(node.status().is_ok().then_some(()))
    });
    up.with_context(|| node.last_words())
}

fn configure(lab: &mut Lab, lines: &str) -> Result<()> {
    let mut command = lab.node(NODE).csm();
    let mut csm =
        command.args(["configure", "terminal"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    csm.stdin.take().context("piped")?.write_all(lines.as_bytes())?;
    let output = csm.wait_with_output()?;
    ensure!(output.status.success(), "{lines}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Each copy is whole, or was never there, and no newer than `idle`.
fn whole(lab: &mut Lab, idle: u32) -> Result<()> {
    let store = Store::new(lab.node(NODE).state());
    for directory in Directory::ALL {
        match store.read(directory)? {
            Image::Absent => {}
            Image::Damaged => anyhow::bail!("{directory} is damaged"),
            Image::Whole { text, .. } => {
                let found =
                    text.lines().filter_map(|line| line.trim().strip_prefix("idle ")).collect::<Vec<_>>();
                let known = |word: &&str| word.parse::<u32>().is_ok_and(|found| found <= idle);
                ensure!(found.iter().any(known) && text.ends_with('\n'), "{directory}: {found:?}");
            }
        }
    }
    Ok(())
}
