//! Programs within the daemon: how one comes into a directory, how it goes to the peer, and which one a start executes.

use std::path::{Path, PathBuf};

use super::node::Node;
use super::restart::{self, Handed};
use super::saved;
use super::startup::{Failure, Options};
use crate::api::backend::Fault;
use crate::dataplane::adopt::LAYOUT;
use crate::state::Directory;
use crate::state::image::Image;
use crate::state::program::store::{self, Programs, Unfit};
use crate::state::program::{Digest, Program, description};
use crate::sync::wire::{self, Ask, Reply};

/// What this program says of itself.
#[must_use]
pub fn own_description() -> String {
    description(env!("CARGO_PKG_VERSION"), LAYOUT)
}

/// `csmd --identify [--config FILE]`: what this program is, if it is whole, and FILE good.
///
/// # Errors
/// If its XDP program cannot be parsed, or the configuration has faults.
pub fn identify(config: Option<&Path>) -> Result<String, Failure> {
    aya_obj::Object::parse(crate::dataplane::load::OBJECT).map_err(Failure::step("the XDP program"))?;
    if let Some(config) = config {
        saved::read(config)?;
    }
    Ok(own_description())
}

/// Goes on as the program of the directory that a start takes, if it has one and this process is another. Returns if this
/// process is to go on, for whatever reason: what can be started is better than nothing.
pub(super) fn hand_on(options: &Options) {
    let Some(state) = &options.state else { return };
    // Faults are told by whoever goes on.
    let Ok((store, choice, image)) = saved::choice(state, None) else { return };
    let Some(program) = image.program() else { return };
    let programs = store.programs();
    let file = programs.file(program.digest);
    if runs(&file) {
        return;
    }
    let config = choice.directory.map(|directory| store.file(directory));
    let failure = match programs.proven(program.digest, config.as_deref()) {
        Ok(file) => {
            tracing::info!(version = program.version, "going on as the image of the directory");
            let handed = Handed { from: choice.directory, ..Handed::default() };
            restart::execute(&file, &options.image, &handed).to_string()
        }
        Err(unfit) => unfit.to_string(),
    };
    tracing::error!(image = %file.display(), %failure, "going on as the program that is installed");
}

/// Whether this process is that file.
fn runs(file: &Path) -> bool {
    let own = std::env::current_exe().and_then(std::fs::canonicalize);
    own.is_ok_and(|own| std::fs::canonicalize(file).is_ok_and(|file| file == own))
}

fn refused(unfit: &Unfit) -> Fault {
    Fault::Refused { error: unfit.to_string(), remedy: Some("the directories are as they were".to_owned()) }
}

fn refusal(error: impl Into<String>) -> Reply {
    Reply::Refused { error: error.into(), report: None }
}

impl Node {
    fn programs(&self) -> Result<Programs, Fault> {
        self.saved().map(|saved| saved.store.programs())
    }

    /// The file that a start from `directory` executes: an image that has proven itself, or the installed program.
    ///
    /// # Errors
    /// If it cannot be executed, or does not take the configuration of that directory.
    pub(super) fn next_program(&self, directory: Option<Directory>) -> Result<PathBuf, Failure> {
        let installed = &self.options.image;
        let file = match &self.options.state {
            Some(state) => {
                let (store, choice, image) = saved::choice(state, directory)?;
                let programs = store.programs();
                let config = choice.directory.map(|directory| store.file(directory));
                let proven =
                    image.program().map(|program| programs.proven(program.digest, config.as_deref()));
                proven.transpose().map_err(Failure::step("the next program"))?
            }
            None => None,
        };
        // What is installed may be older than this one, which then cannot answer for it.
        if let (None, Some(state)) = (&file, &self.options.state)
            && !runs(installed)
        {
            let (copies, choice, _) = saved::choice(state, directory)?;
            let config = choice.directory.map(|directory| copies.file(directory));
            let named = || Failure::step(installed.display().to_string());
            let _version = store::identify(installed, config.as_deref()).map_err(named())?;
        }
        let file = file.unwrap_or_else(|| installed.clone());
        let named = || Failure::step(file.display().to_string());
        nix::unistd::access(&file, nix::unistd::AccessFlags::X_OK).map_err(named())?;
        Ok(file)
    }

    /// `copy FILE working image`: these octets are the program of the working directory.
    pub(super) fn take_image(&self, octets: &[u8]) -> Result<Program, Fault> {
        let Image::Whole { .. } = self.copy(Directory::Working)? else {
            return Err(Fault::Refused {
                error: "`working` holds no whole configuration".to_owned(),
                remedy: Some("give `write memory` before".to_owned()),
            });
        };
        let (programs, digest) = (self.programs()?, Digest::of(octets));
        let held = programs.held(digest, octets.len() as u64).map_err(|error| refused(&error.into()))?;
        if held < octets.len() as u64 {
            programs.append(digest, 0, octets).map_err(|unfit| refused(&unfit))?;
        }
        let program = programs.admit(digest).map_err(|unfit| refused(&unfit))?;
        let _one = self.saving();
        // As it is now: that took its time.
        let Image::Whole { text, .. } = self.copy(Directory::Working)? else {
            return Err(Fault::Internal("`working` is damaged".to_owned()));
        };
        self.save(Directory::Working, &text, Some(&program))?;
        self.forget_programs();
        Ok(program)
    }

    /// Lets go the programs that no directory names and that do not run.
    pub(super) fn forget_programs(&self) {
        let Ok(programs) = self.programs() else { return };
        let copies = Directory::ALL.into_iter().map(|directory| self.copy(directory));
        let Ok(copies) = copies.collect::<Result<Vec<_>, _>>() else { return };
        let own = std::env::current_exe().ok();
        let own = own.and_then(|own| own.file_name()?.to_str()?.parse().ok());
        let named = copies.iter().filter_map(|copy| Some(copy.program()?.digest));
        if let Err(error) = programs.keep_only(&named.chain(own).collect::<Vec<_>>()) {
            tracing::warn!(%error, "images that nothing names could not be removed");
        }
    }

    /// Gives the peer a program of which this node has all octets; goes on where it stopped before.
    ///
    /// # Errors
    /// If the peer does not answer, or does not take it.
    pub(super) fn send_program(&self, program: &Program) -> Result<(), Fault> {
        let programs = self.programs()?;
        let image = program.to_string();
        let mut at = self.held_by_peer(Ask::ImageHeld { image: image.clone() })?;
        let mut may_begin_anew = at > 0 && at < program.octets;
        loop {
            while at < program.octets {
                let octets = programs
                    .read(program.digest, at)
                    .map_err(|error| Fault::Internal(format!("the image cannot be read: {error}")))?;
                let part = wire::part(&octets);
                let held = self.held_by_peer(Ask::ImagePart { image: image.clone(), at, part })?;
                if octets.is_empty() || held <= at {
                    return Err(Fault::Internal(format!("the peer has {held} octets after {at}")));
                }
                at = held;
            }
            match self.ask(Ask::ImageWhole { image: image.clone() }) {
                Ok(_) => return Ok(()),
                // What had come before may have been damaged there, and was let go.
                Err(_)
                    if may_begin_anew && self.held_by_peer(Ask::ImageHeld { image: image.clone() })? == 0 =>
                {
                    (at, may_begin_anew) = (0, false);
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    fn held_by_peer(&self, ask: Ask) -> Result<u64, Fault> {
        match self.ask(ask)? {
            Reply::Held(octets) => Ok(octets),
            _ => Err(Fault::Internal("the peer's answer does not belong to the question".to_owned())),
        }
    }

    /// What the peer asks of an image that it wants to give.
    pub(super) fn answer_image(&self, ask: &Ask) -> Reply {
        let answer = || -> Result<Reply, Fault> {
            let programs = self.programs()?;
            let named = |image: &str| {
                let program = Program::parse(image);
                program.ok_or_else(|| Fault::Internal("that is no image's name".to_owned()))
            };
            match ask {
                Ask::ImageHeld { image } => {
                    let Program { digest, octets, .. } = named(image)?;
                    let held = programs.held(digest, octets);
                    held.map(Reply::Held).map_err(|error| Fault::Internal(error.to_string()))
                }
                Ask::ImagePart { image, at, part } => {
                    let Program { digest, .. } = named(image)?;
                    let octets = wire::octets(part).map_err(|error| Fault::Internal(error.to_string()))?;
                    let held = programs.append(digest, *at, &octets);
                    held.map(Reply::Held).map_err(|unfit| refused(&unfit))
                }
                Ask::ImageWhole { image } => {
                    let program = named(image)?;
                    match programs.admit(program.digest) {
                        Ok(found) if found == program => Ok(Reply::Done { reloads: false }),
                        Ok(found) => Ok(refusal(format!("the image says that it is {}", found.version))),
                        Err(unfit) => Err(refused(&unfit)),
                    }
                }
                _ => Ok(refusal("that is not about an image")),
            }
        };
        answer().unwrap_or_else(|fault| refusal(fault.to_string()))
    }

    /// Whether this process is not the program that `program` names.
    pub(super) fn runs_other(&self, program: &Program) -> bool {
        self.programs().is_ok_and(|programs| !runs(&programs.file(program.digest)))
    }
}
