//! `show running-directory` within the daemon: what stands in the directories of this box, and of its peer.

use super::images::own_description;
use super::node::Node;
use crate::api::backend::Fault;
use crate::api::reply::{
    CopyReply, CopyState, DirectoryReply, ImageReply, PeerDirectoryReply, StateDirectory,
};
use crate::config;
use crate::ft::State;
use crate::model::fnv1a;
use crate::state::Directory;
use crate::state::image::{self, Image};
use crate::state::program::Program;
use crate::sync::directory::{BoxDirectory, Copy, differing};
use crate::sync::exchange::shared;
use crate::sync::wire::{Ask, Reply};

/// A program as the API names it.
pub(super) fn image_reply(program: &Program) -> ImageReply {
    ImageReply {
        checksum: program.digest.to_string(),
        octets: program.octets,
        version: program.version.clone(),
    }
}

fn state(image: &Image) -> CopyState {
    match image {
        Image::Absent => CopyState::Absent,
        Image::Damaged => CopyState::Damaged,
        Image::Whole { .. } => CopyState::Whole,
    }
}

const fn named(directory: Directory) -> StateDirectory {
    match directory {
        Directory::Working => StateDirectory::Working,
        Directory::Certified => StateDirectory::Certified,
    }
}

/// As it is told to the peer.
fn told(image: &Image) -> Copy {
    let Image::Whole { text, program, .. } = image else {
        return Copy { damaged: *image == Image::Damaged, ..Copy::default() };
    };
    // Checked on its own: this host's ports are no matter.
    let config = config::check("saved", text, &config::HostFacts::default()).config;
    Copy {
        damaged: false,
        shared: config.map(|config| format!("{:016x}", fnv1a(shared(&config).as_bytes()))),
        image: program.as_ref().map(ToString::to_string),
    }
}

fn copy_reply(copy: &Copy) -> CopyReply {
    let image = copy.image.as_deref().and_then(Program::parse);
    CopyReply { shared_checksum: copy.shared.clone(), image: image.as_ref().map(image_reply) }
}

impl Node {
    /// What this box says of its directories.
    pub(super) fn box_directory(&self) -> Result<BoxDirectory, Fault> {
        let (working, certified) = (self.copy(Directory::Working)?, self.copy(Directory::Certified)?);
        let running = image::checksum(&config::print(&self.config()));
        Ok(BoxDirectory {
            running: own_description(),
            booted: self.saved()?.booted.map(|directory| directory.to_string()),
            saved: working.checksum() == Some(running),
            working: told(&working),
            certified: told(&certified),
        })
    }

    /// What the peer says of its own.
    ///
    /// # Errors
    /// If it does not say.
    pub(super) fn peer_directory(&self) -> Result<BoxDirectory, Fault> {
        match self.ask(Ask::Directory)? {
            Reply::Directory(directory) => Ok(*directory),
            _ => Err(Fault::Internal("the peer's answer does not belong to the question".to_owned())),
        }
    }

    /// `show running-directory`.
    pub(super) fn directory_reply(&self) -> Result<DirectoryReply, Fault> {
        let (working, certified) = (self.copy(Directory::Working)?, self.copy(Directory::Certified)?);
        let own = self.box_directory()?;
        let status = self.ft.as_ref().map(crate::ft::FtControl::status);
        let heard = status.as_ref().is_some_and(|status| status.peer.is_some());
        let peer = if heard { self.peer_directory().ok() } else { None };
        let (reload_in_s, rollback_in_s) = self.reloads.left();
        Ok(DirectoryReply {
            module: self.config().slot,
            primary: status.as_ref().is_none_or(|status| status.state == State::Active),
            pair: status.is_some(),
            booted: self.saved()?.booted.map(named),
            working: state(&working),
            certified: state(&certified),
            certify_needed: working.checksum().is_some() && working != certified,
            saved: own.saved,
            peer_in_sync: status.and_then(|status| status.peer).map(|peer| peer.config_in_sync),
            running: own.running.clone(),
            working_copy: copy_reply(&own.working),
            certified_copy: copy_reply(&own.certified),
            differing: peer
                .as_ref()
                .map(|peer| differing(&own, peer).into_iter().map(str::to_owned).collect()),
            peer: peer.map(|peer| PeerDirectoryReply {
                running: peer.running,
                booted: peer.booted,
                saved: peer.saved,
                working_copy: copy_reply(&peer.working),
                certified_copy: copy_reply(&peer.certified),
            }),
            reload_in_s,
            rollback_in_s,
        })
    }
}
