//! The startup configuration: which copy a start takes, and what `write memory` and `copy working certified` write.

use std::path::Path;

use super::apply::Wish;
use super::host;
use super::node::Node;
use super::startup::{Failure, Options};
use crate::api::backend::{Fault, StateBackend};
use crate::api::reply::{
    CertifyRequest, ChangeRequest, CopyState, DirectoryReply, ReloadRequest, RunningConfigReply, SavedReply,
    StateDirectory,
};
use crate::config;
use crate::ft::State;
use crate::model::Config;
use crate::model::change::needs_restart;
use crate::state::Directory;
use crate::state::boot::choose;
use crate::state::image::{self, Image};
use crate::state::store::Store;

/// The state directory, and what the start took from it.
#[derive(Clone, Debug)]
pub struct Saved {
    store: Store,
    /// `None`: the initial configuration.
    booted: Option<Directory>,
}

/// The configuration of this start.
///
/// # Errors
/// If there is none, it cannot be read, or it has faults.
pub(super) fn boot(options: &Options, asked: Option<Directory>) -> Result<(Config, Option<Saved>), Failure> {
    let Some(state) = &options.state else {
        return Ok((read(initial(options)?)?, None));
    };
    let store = Store::new(state.clone());
    let copy =
        |directory| store.read(directory).map_err(Failure::step(store.file(directory).display().to_string()));
    let (working, certified) = (copy(Directory::Working)?, copy(Directory::Certified)?);
    let choice = choose(&working, &certified, asked).map_err(Failure::step(state.display().to_string()))?;
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

fn read(path: &Path) -> Result<Config, Failure> {
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

fn refused(error: &str, remedy: &str) -> Fault {
    Fault::Refused { error: error.to_owned(), remedy: Some(remedy.to_owned()) }
}

fn copy_state(image: &Image) -> CopyState {
    match image {
        Image::Absent => CopyState::Absent,
        Image::Damaged => CopyState::Damaged,
        Image::Whole { .. } => CopyState::Whole,
    }
}

impl Node {
    fn saved(&self) -> Result<&Saved, Fault> {
        let remedy = "start csmd with --state DIRECTORY, e.g. /var/lib/csm";
        self.saved.as_ref().ok_or_else(|| refused("csmd has no state directory to save to", remedy))
    }

    fn copy(&self, directory: Directory) -> Result<Image, Fault> {
        let store = &self.saved()?.store;
        store.read(directory).map_err(|error| {
            Fault::Internal(format!("{} cannot be read: {error}", store.file(directory).display()))
        })
    }

    /// The configuration with which this node would be started anew from `directory`. Takes as long as a start does: not on
    /// the event loop.
    ///
    /// # Errors
    /// If the program is none, or the configuration has faults.
    pub(super) fn can_start(&self, directory: Option<Directory>) -> Result<Config, Failure> {
        let image = &self.options.image;
        let named = || Failure::step(image.display().to_string());
        nix::unistd::access(image, nix::unistd::AccessFlags::X_OK).map_err(named())?;
        boot(&self.options, directory).map(|(config, _)| config)
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
        let (working, certified) =
            (self.copy(Directory::Working).ok()?, self.copy(Directory::Certified).ok()?);
        match choose(&working, &certified, None).ok()?.directory? {
            Directory::Working => working.checksum(),
            Directory::Certified => certified.checksum(),
        }
    }

    /// Makes one copy hold `text`.
    ///
    /// # Errors
    /// Without a state directory, or of the disk.
    pub(super) fn save(&self, directory: Directory, text: &str) -> Result<(), Fault> {
        let store = &self.saved()?.store;
        store.write(directory, text).map_err(|error| {
            Fault::Internal(format!("{} stays as it was: {error}", store.file(directory).display()))
        })
    }
}

impl StateBackend for Node {
    fn write_memory(&self) -> Result<SavedReply, Fault> {
        let _unchanged = self.changes.settled().ok_or_else(|| {
            refused("a change waits to be confirmed", "give `configure confirm` before, or wait")
        })?;
        let text = config::print(&self.config());
        self.save(Directory::Working, &text)?;
        let checksum = image::checksum(&text);
        Ok(SavedReply {
            checksum: format!("{checksum:016x}"),
            certified: self.copy(Directory::Certified)?.checksum() == Some(checksum),
        })
    }

    fn set_startup(&self, request: &ChangeRequest) -> Result<SavedReply, Fault> {
        let (config, _) = super::apply::candidate(&self.config(), request)?;
        let text = config::print(&config);
        self.save(Directory::Working, &text)?;
        let checksum = image::checksum(&text);
        let certified = self.copy(Directory::Certified)?.checksum() == Some(checksum);
        Ok(SavedReply { checksum: format!("{checksum:016x}"), certified })
    }

    fn certify(&self, request: CertifyRequest) -> Result<SavedReply, Fault> {
        let Image::Whole { text, checksum } = self.copy(Directory::Working)? else {
            return Err(refused("`working` holds no whole configuration", "give `write memory` before"));
        };
        self.save(Directory::Certified, &text)?;
        if request.flash_synchro {
            self.distribute(&text)?;
        }
        Ok(SavedReply { checksum: format!("{checksum:016x}"), certified: true })
    }

    fn directory(&self) -> Result<DirectoryReply, Fault> {
        let (working, certified) = (self.copy(Directory::Working)?, self.copy(Directory::Certified)?);
        let running = image::checksum(&config::print(&self.config()));
        let status = self.ft.as_ref().map(crate::ft::FtControl::status);
        Ok(DirectoryReply {
            module: self.config().slot,
            primary: status.as_ref().is_none_or(|status| status.state == State::Active),
            pair: status.is_some(),
            booted: self.saved()?.booted.map(|directory| match directory {
                Directory::Working => StateDirectory::Working,
                Directory::Certified => StateDirectory::Certified,
            }),
            working: copy_state(&working),
            certified: copy_state(&certified),
            certify_needed: working.checksum().is_some() && working.checksum() != certified.checksum(),
            saved: working.checksum() == Some(running),
            peer_in_sync: status.and_then(|status| status.peer).map(|peer| peer.config_in_sync),
        })
    }

    fn startup_config(&self) -> Result<RunningConfigReply, Fault> {
        let (working, certified) = (self.copy(Directory::Working)?, self.copy(Directory::Certified)?);
        let choice =
            choose(&working, &certified, None).map_err(|error| Fault::Internal(error.to_string()))?;
        let image = match choice.directory {
            Some(Directory::Working) => working,
            Some(Directory::Certified) => certified,
            None => Image::Absent,
        };
        match image {
            Image::Whole { text, .. } => Ok(RunningConfigReply { text }),
            Image::Absent | Image::Damaged => Err(refused("nothing is saved yet", "give `write memory`")),
        }
    }

    fn reload(&self, request: ReloadRequest) -> Result<(), Fault> {
        let directory = request.directory.map(|directory| match directory {
            StateDirectory::Working => Directory::Working,
            StateDirectory::Certified => Directory::Certified,
        });
        if let Some(asked) = directory
            && !matches!(self.copy(asked)?, Image::Whole { .. })
        {
            return Err(refused(
                &format!("`{asked}` holds no whole configuration"),
                "give `write memory` before, or `reload` alone",
            ));
        }
        if let Err(failure) = boot(&self.options, directory) {
            return Err(refused(
                &format!("a start would fail, so csmd goes on as it is: {failure}"),
                "repair what is saved: `configure replace FILE`, then `write memory`",
            ));
        }
        self.changes.wish(Wish::Reload(directory));
        Ok(())
    }
}
