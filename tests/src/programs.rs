//! Where the programs under test are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A program and the arguments that always come first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Leading arguments.
    pub leading: Vec<String>,
}

/// Everything that a lab starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// The controller, `csmd`.
    pub csmd: Program,
    /// The command line, `csm`.
    pub csm: Program,
    /// This package's own program: traffic and the reaper.
    pub csm_lab: PathBuf,
}

impl Programs {
    /// The programs that were built beside the running one: in its directory or, for a test binary, in that above `deps`.
    ///
    /// # Errors
    /// Naming the program that has not been built.
    pub fn beside_this_one() -> Result<Self> {
        let here = own_directory()?;
        let found = |name: &str| -> Result<PathBuf> {
            let path = here.join(name);
            if !path.is_file() {
                bail!("{} has not been built: `cargo xtask build` builds everything", path.display());
            }
            Ok(path)
        };
        Ok(Self { csmd: plain(found("csmd")?), csm: plain(found("csm")?), csm_lab: found("csm-lab")? })
    }

    /// The [stand-in](crate::standin) in place of the product, for tests of the lab itself.
    ///
    /// # Errors
    /// When csm-lab has not been built.
    pub fn stand_in() -> Result<Self> {
        let csm_lab = own_directory()?.join("csm-lab");
        if !csm_lab.is_file() {
            bail!("{} has not been built", csm_lab.display());
        }
        let acting_as =
            |role: &str| Program { path: csm_lab.clone(), leading: vec!["stand-in".into(), role.into()] };
        Ok(Self { csmd: acting_as("csmd"), csm: acting_as("csm"), csm_lab: csm_lab.clone() })
    }
}

fn plain(path: PathBuf) -> Program {
    Program { path, leading: Vec::new() }
}

fn own_directory() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let here = me.parent().context("the program's directory")?;
    let above = here.file_name().is_some_and(|name| name == "deps").then(|| here.parent()).flatten();
    Ok(above.map_or_else(|| here.to_owned(), Path::to_owned))
}
