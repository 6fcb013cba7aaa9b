//! A csmd that ends in the midst of what it writes, before each step in turn: what it leaves is whole, and starts.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use csm_user::state::Directory;
use csm_user::state::image::Image;
use csm_user::state::store::Store;

use crate::lab::{Lab, Options};
use crate::node::Fault;
use crate::programs::Programs;
use crate::status::Role;
use crate::topology::Side;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(30);
const PACE: Duration = Duration::from_millis(20);

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
    /// `copy working certified flash-synchro`, which ends the node that it is given on.
    FlashHere,
    /// The same, which ends its peer.
    FlashThere,
    /// A synchronization with which the peer has to start anew; it ends the peer.
    Sync,
}

impl Deed {
    /// All.
    pub const ALL: [Self; 7] = [
        Self::WriteMemory,
        Self::CopyFile,
        Self::Certify,
        Self::Image,
        Self::FlashHere,
        Self::FlashThere,
        Self::Sync,
    ];

    /// Whether a peer has a part in it.
    pub fn is_of_two(self) -> bool {
        matches!(self, Self::FlashHere | Self::FlashThere | Self::Sync)
    }

    fn command(self, lab: &Lab) -> String {
        match self {
            Self::WriteMemory => "write memory".to_owned(),
            Self::CopyFile => format!("copy {} startup-config", lab.out("next.cfg").display()),
            Self::Certify => "copy working certified".to_owned(),
            Self::Image => format!("copy {} working image", lab.options.programs.csmd.path.display()),
            Self::FlashHere | Self::FlashThere => "copy working certified flash-synchro".to_owned(),
            Self::Sync => "hw-module csm 5 standby config-sync".to_owned(),
        }
    }
}

/// A lab in which the deed can be done.
///
/// # Errors
/// When it does not come up.
pub fn lab(deed: Deed, programs: Programs, out: PathBuf) -> Result<Lab> {
    let mut lab = Lab::build(Options::small(programs, out))?;
    if deed == Deed::Sync {
        // A peer that has nothing but its ports and its group has to start anew for the rest.
        let file = lab.out("node-b.cfg");
        let text = std::fs::read_to_string(&file)?;
        let (ports, rest) = text.split_once("module csm 5\n").context("a module")?;
        let (_, group) = rest.split_once(" ft group").context("an FT group")?;
        std::fs::write(&file, format!("{ports}module csm 5\n ft group{group}"))?;
    }
    match deed.is_of_two() {
        true => {
            lab.restore(Side::A)?;
            lab.node(Side::A).wait_for(Role::Active, LIMIT)?;
            lab.restore(Side::B)?;
            hears_peer(&mut lab)?;
            match deed {
                // Written without being asked, whenever the lease is another one: not while steps are counted.
                Deed::Sync => {
                    let note = lab.node(Side::B).state().join(NOTE);
                    wait::until("a note of the peer's lease", LIMIT, PACE, || {
                        Ok(note.exists().then_some(()))
                    })?;
                }
                _ => lab.node(Side::B).wait_for_replica(LIMIT, &[])?,
            }
        }
        false => {
            lab.restore(Side::A)?;
            answers(&mut lab, Side::A)?;
        }
    }
    Ok(lab)
}

/// Does the deed again and again, the process that writes ending before step 1, 1 + `stride`, ..., until it does not end any
/// more; returns how often it did.
///
/// # Errors
/// When what is left is not whole, is neither what was there before nor what was to be there, or does not start.
pub fn walk(lab: &mut Lab, deed: Deed, stride: u32) -> Result<u32> {
    // Node A is the one that is asked.
    let dying = if matches!(deed, Deed::FlashThere | Deed::Sync) { Side::B } else { Side::A };
    for round in 0.. {
        let step = 1 + round * stride;
        prepare(lab, deed, dying, step, 100 + round).with_context(|| format!("{deed:?} before {step}"))?;
        let command = deed.command(lab);
        let said = lab.node(Side::A).command(&command);
        let ended = said.is_err() && lab.node(dying).wait_for_end(LIMIT).is_ok();
        whole(lab, dying, 100 + round).with_context(|| format!("{deed:?}, ended before step {step}"))?;
        if !ended {
            let said = said.with_context(|| format!("{deed:?}, not ended by step {step}"))?;
            ensure!(round > 0, "{deed:?} wrote nothing: {said}");
            lab.node(dying).set_fault(None);
            return Ok(round);
        }
    }
    unreachable!("rounds have no end");
}

/// Both nodes, or A alone, run with the virtual server's idle time at `idle`, and at one less in what is saved; the one that is to die before
/// `step` of what it writes next.
fn prepare(lab: &mut Lab, deed: Deed, dying: Side, step: u32, idle: u32) -> Result<()> {
    if lab.node(dying).pid().is_some() {
        lab.fail(dying, Fault::Kill)?;
    }
    if deed == Deed::Sync {
        forget(&lab.node(Side::B).state())?;
    }
    // What was left is to be started from, whatever it is.
    lab.node(dying).set_fault(Some(&format!("cut-{}", step + before(deed))));
    lab.restore(dying)?;
    answers(lab, dying)?;
    if deed.is_of_two() {
        lab.restore(dying.peer())?;
        match deed {
            // Without the active node's configuration it is no standby.
            Deed::Sync => hears_peer(lab)?,
            // What one of them has not saved it has lost.
            _ => lab.node(dying).wait_for_replica(LIMIT, &[DIFFER])?,
        }
        if dying == Side::A {
            lab.fail(Side::B, Fault::FtActive)?;
        }
        lab.node(Side::A).wait_for(Role::Active, LIMIT)?;
    }
    configure(lab, &format!("vserver VIP1\n idle {idle}\n"))?;
    match deed {
        Deed::WriteMemory | Deed::Sync => {}
        Deed::CopyFile => {
            let text = lab.node(Side::A).command("show running-config")?;
            std::fs::write(lab.out("next.cfg"), text)?;
        }
        Deed::Certify | Deed::Image | Deed::FlashHere | Deed::FlashThere => {
            lab.node(Side::A).command("write memory")?;
        }
    }
    Ok(())
}

/// What a node notes of its peer by itself.
const NOTE: &str = "peer-lease";

/// Removes what is saved in `state`, but that.
fn forget(state: &Path) -> Result<()> {
    for entry in std::fs::read_dir(state)? {
        let path = entry?.path();
        match path.is_dir() {
            true => std::fs::remove_dir_all(&path)?,
            false if path.ends_with(NOTE) => {}
            false => std::fs::remove_file(&path)?,
        }
    }
    Ok(())
}

/// Steps of the writing that comes before on the node that is to die.
fn before(deed: Deed) -> u32 {
    match deed {
        Deed::Certify | Deed::Image | Deed::FlashHere => WRITE_STEPS,
        Deed::WriteMemory | Deed::CopyFile | Deed::FlashThere | Deed::Sync => 0,
    }
}

/// What a standby says that lacks nothing else.
const DIFFER: &str = "the configurations differ";

/// Steps in which a copy is replaced.
const WRITE_STEPS: u32 = 5;

fn answers(lab: &mut Lab, side: Side) -> Result<()> {
    let node = lab.node(side);
    let up = wait::until("csmd", LIMIT, PACE, || {
        node.check_alive()?;
        Ok(node.status().is_ok().then_some(()))
    });
    up.with_context(|| node.last_words())
}

fn hears_peer(lab: &mut Lab) -> Result<()> {
    let node = lab.node(Side::A);
    let heard = || Ok(node.show("ft").is_ok_and(|ft| ft["config_in_sync"].is_boolean()).then_some(()));
    wait::until("a peer that is heard", LIMIT, PACE, heard)
}

fn configure(lab: &mut Lab, lines: &str) -> Result<()> {
    let mut command = lab.node(Side::A).csm();
    let mut csm =
        command.args(["configure", "terminal"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    csm.stdin.take().context("piped")?.write_all(lines.as_bytes())?;
    let output = csm.wait_with_output()?;
    ensure!(output.status.success(), "{lines}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Each copy is whole, or was never there, and no newer than `idle`.
fn whole(lab: &mut Lab, side: Side, idle: u32) -> Result<()> {
    let store = Store::new(lab.node(side).state());
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
