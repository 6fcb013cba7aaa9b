//! The startup configuration: which copy a start takes, and what `write memory` and `copy working certified` write.

use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use super::directory::image_reply;
use super::host;
use super::node::Node;
use super::startup::{Failure, Options};
use crate::api::backend::{Fault, StateBackend};
use crate::api::reply::{
    CertifyRequest, ChangeRequest, DirectoryReply, ImageReply, ReloadRequest, RunningConfigReply, SavedReply,
};
use crate::config;
use crate::model::Config;
use crate::model::change::needs_restart;
use crate::state::Directory;
use crate::state::boot::{Choice, choose};
use crate::state::image::{self, Image};
use crate::state::program::Program;
use crate::state::store::Store;

/// The state directory, and what the start took from it.
#[derive(Clone, Debug)]
pub struct Saved {
    pub(super) store: Store,
    /// `None`: the initial configuration.
    pub(super) booted: Option<Directory>,
}

/// What a start anew would execute.
#[derive(Clone, Debug)]
pub struct Next {
    /// The program.
    pub(super) program: PathBuf,
    /// Its configuration, as far as this program understands it.
    pub(super) config: Option<Config>,
}

/// What a start from the state directory takes: which copy, and what it holds.
///
/// # Errors
/// If there is none, or it cannot be read.
pub(super) fn choice(state: &Path, asked: Option<Directory>) -> Result<(Store, Choice, Image), Failure> {
    let store = Store::new(state.to_owned());
    let copy =
        |directory| store.read(directory).map_err(Failure::step(store.file(directory).display().to_string()));
    let (working, certified) = (copy(Directory::Working)?, copy(Directory::Certified)?);
    let choice = choose(&working, &certified, asked).map_err(Failure::step(state.display().to_string()))?;
    let image = match choice.directory {
        Some(Directory::Working) => working,
        Some(Directory::Certified) => certified,
        None => Image::Absent,
    };
    Ok((store, choice, image))
}

/// The configuration of this start.
///
/// # Errors
/// If there is none, it cannot be read, or it has faults.
pub(super) fn boot(options: &Options, asked: Option<Directory>) -> Result<(Config, Option<Saved>), Failure> {
    let Some(state) = &options.state else {
        return Ok((read(initial(options)?)?, None));
    };
    let (store, choice, _) = choice(state, asked)?;
    if let Some(warning) = choice.warning {
        tracing::warn!("{warning}");
    }
    let config = match choice.directory {
        Some(directory) => read(&store.file(directory))?,
        None => read(initial(options)?)?,
    };
    Ok((config, Some(Saved { store, booted: choice.directory })))
}

fn initial(options: &Options) -> Result<&Path, Failure> {
    options.config.as_deref().ok_or_else(|| {
        Failure::step("the configuration")("nothing is saved yet: name the initial one with --config FILE")
    })
}

/// The configuration of a file.
///
/// # Errors
/// If it cannot be read, or has faults.
pub(super) fn read(path: &Path) -> Result<Config, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::Read(path.to_owned(), error))?;
    let text = String::from_utf8_lossy(&bytes);
    let name = path.display().to_string();
    let facts = host::facts().map_err(Failure::step("this host's interfaces"))?;
    let outcome = config::check(&name, &text, &facts);
    let report = config::render(&name, &text, &outcome.diagnostics);
    let Some(config) = outcome.config else { return Err(Failure::Config(report)) };
    for line in report.lines() {
        tracing::warn!("{line}");
    }
    Ok(config)
}

/// `fault` of this node, after its peer has certified the same.
fn beside_peer(fault: Fault) -> Fault {
    const DONE: &str = "the peer has certified it already";
    match fault {
        Fault::Refused { error, remedy } => Fault::Refused { error: format!("{error}; {DONE}"), remedy },
        Fault::Internal(error) => {
            Fault::Internal(format!("{error}; {DONE}: give the command again once this is mended"))
        }
        rejected @ Fault::Rejected { .. } => rejected,
    }
}

pub(super) fn refused(error: &str, remedy: &str) -> Fault {
    Fault::Refused { error: error.to_owned(), remedy: Some(remedy.to_owned()) }
}

impl Node {
    pub(super) fn saved(&self) -> Result<&Saved, Fault> {
        let remedy = "start csmd with --state DIRECTORY, e.g. /var/lib/csm";
        self.saved.as_ref().ok_or_else(|| refused("csmd has no state directory to save to", remedy))
    }

    pub(super) fn copy(&self, directory: Directory) -> Result<Image, Fault> {
        let store = &self.saved()?.store;
        store.read(directory).map_err(|error| {
            Fault::Internal(format!("{} cannot be read: {error}", store.file(directory).display()))
        })
    }

    /// What would be executed if this node were started anew from `directory`, and with which configuration. Takes as long as
    /// a start does: not on the event loop.
    ///
    /// # Errors
    /// If the program is none, or the configuration has faults.
    pub(super) fn can_start(&self, directory: Option<Directory>) -> Result<Next, Failure> {
        let program = self.next_program(directory)?;
        let config = boot(&self.options, directory).map(|(config, _)| config);
        if program == self.options.image {
            return Ok(Next { program, config: Some(config?) });
        }
        // It has said itself that it takes the configuration, which may have commands that are new to this one.
        Ok(Next { program, config: config.ok() })
    }

    /// Whether a start with `next` finds ports, addresses and FT group as they are, so that what it replaces can go on
    /// until it is there. As the active router of an HSRP group it cannot: the group is handed over first.
    pub(super) fn may_rest(&self, next: &Config) -> bool {
        if self.standby.as_ref().is_some_and(super::standby::Groups::is_active) {
            return false;
        }
        self.outlived && needs_restart(&self.config(), next).is_empty()
    }

    /// Checksum of the copy that a start would take, if it would take one.
    pub(super) fn boot_checksum(&self) -> Option<u64> {
        choice(self.options.state.as_ref()?, None).ok()?.2.checksum()
    }

    /// Makes one copy hold `text` and name `program`.
    ///
    /// # Errors
    /// Without a state directory, or of the disk.
    pub(super) fn save(
        &self,
        directory: Directory,
        text: &str,
        program: Option<&Program>,
    ) -> Result<(), Fault> {
        let store = &self.saved()?.store;
        store.write(directory, text, program).map_err(|error| {
            Fault::Internal(format!("{} stays as it was: {error}", store.file(directory).display()))
        })
    }

    /// The working copy, which was `working` before, is certified.
    fn certify_here(&self, working: &Image, text: &str, program: Option<&Program>) -> Result<(), Fault> {
        let _one = self.saving();
        if self.copy(Directory::Working)? != *working {
            let remedy = "look at `show running-directory`, and give the command again";
            return Err(refused("`working` was written meanwhile: it is not certified here", remedy));
        }
        self.save(Directory::Certified, text, program)?;
        // Whoever certifies what runs has seen that it is good.
        self.reloads.keep();
        self.forget_programs();
        Ok(())
    }

    /// One at a time reads a copy and writes what follows from it.
    pub(super) fn saving(&self) -> MutexGuard<'_, ()> {
        self.saving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the working copy hold `text`; it keeps its program.
    ///
    /// # Errors
    /// Without a state directory, or of the disk.
    pub(super) fn save_working(&self, text: &str) -> Result<SavedReply, Fault> {
        let _one = self.saving();
        let program = self.copy(Directory::Working)?.program().cloned();
        self.save(Directory::Working, text, program.as_ref())?;
        let working = self.copy(Directory::Working)?;
        Ok(SavedReply {
            checksum: format!("{:016x}", image::checksum(text)),
            certified: self.copy(Directory::Certified)? == working,
        })
    }
}

impl StateBackend for Node {
    fn write_memory(&self) -> Result<SavedReply, Fault> {
        let _unchanged = self.changes.settled().ok_or_else(|| {
            refused("a change waits to be confirmed", "give `configure confirm` before, or wait")
        })?;
        let text = config::print(&self.config());
        self.save_working(&text)
    }

    fn set_startup(&self, request: &ChangeRequest) -> Result<SavedReply, Fault> {
        let (config, _) = super::apply::candidate(&self.config(), request)?;
        let text = config::print(&config);
        self.save_working(&text)
    }

    fn certify(&self, request: CertifyRequest) -> Result<SavedReply, Fault> {
        let working = self.copy(Directory::Working)?;
        let Image::Whole { text, checksum, program } = &working else {
            return Err(refused("`working` holds no whole configuration", "give `write memory` before"));
        };
        self.next_program(Some(Directory::Working)).map_err(|failure| {
            let remedy =
                "give `copy FILE working image` or `delete working image`, or correct the configuration";
            refused(&format!("a start from `working` would fail: {failure}"), remedy)
        })?;
        if request.flash_synchro {
            // First: what the peer refuses is to be certified nowhere.
            self.distribute(text, program.as_ref(), false)?;
        }
        self.certify_here(&working, text, program.as_ref())
            .map_err(|fault| if request.flash_synchro { beside_peer(fault) } else { fault })?;
        Ok(SavedReply { checksum: format!("{checksum:016x}"), certified: true })
    }

    fn directory(&self) -> Result<DirectoryReply, Fault> {
        self.directory_reply()
    }

    fn set_image(&self, octets: &[u8]) -> Result<ImageReply, Fault> {
        self.take_image(octets).map(|program| image_reply(&program))
    }

    fn drop_image(&self) -> Result<SavedReply, Fault> {
        let Image::Whole { text, program: Some(_), .. } = self.copy(Directory::Working)? else {
            return Err(refused("`working` names no image", "a start takes the program that is installed"));
        };
        self.save(Directory::Working, &text, None)?;
        self.forget_programs();
        self.save_working(&text)
    }

    fn startup_config(&self) -> Result<RunningConfigReply, Fault> {
        let state = &self.options.state;
        let _saved = self.saved()?;
        let image = state.as_ref().map(|state| choice(state, None)).transpose();
        match image.map_err(|error| Fault::Internal(error.to_string()))? {
            Some((.., Image::Whole { text, .. })) => Ok(RunningConfigReply { text }),
            _ => Err(refused("nothing is saved yet", "give `write memory`")),
        }
    }

    fn reload(&self, request: ReloadRequest) -> Result<(), Fault> {
        self.ask_reload(request)
    }

    fn cancel_reload(&self) -> Result<(), Fault> {
        match self.reloads.cancel() {
            true => Ok(()),
            false => Err(Fault::Refused { error: "no reload waits".to_owned(), remedy: None }),
        }
    }
}
