//! What outlives the controller: the tables and the program's places on the ports, pinned in a BPF file system.
//!
//! ```text
//! DIRECTORY/                 one for each csmd, locked by it
//!   links/IFINDEX-MODE       the program's place on an interface
//!   v1/MAP                   a table, under the version of its layout
//!   v1/whole/                all tables of v1 are there, and belong together
//! ```
//!
//! A table is put in the place of another by a rename, so whoever looks finds the old one or the new one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::{MapData, MapInfo};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::link::Link;
use crate::dataplane::adopt::Shape;
use crate::dataplane::load::AttachMode;

/// Where a BPF file system belongs.
const BPF_FS: &str = "/sys/fs/bpf";
/// Directory of the directories that are named after sockets.
const DIRECTORY: &str = "/sys/fs/bpf/csm";
const LINKS: &str = "links";
const WHOLE: &str = "whole";
/// Name of a pin until it has its place.
const FRESH: &str = "fresh";

/// Where the csmd with this socket pins if it is not told otherwise. Names in a BPF file system hold no dots.
#[must_use]
pub fn directory(socket: &Path) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = socket.display().to_string().trim_start_matches('/').chars().map(plain).collect();
    Path::new(DIRECTORY).join(name)
}

/// The pins of one csmd.
#[derive(Debug)]
pub struct Pins {
    directory: PathBuf,
    _lock: Flock<File>,
}

impl Pins {
    /// Those in `directory`, which is made; so is the BPF file system at its usual place. Nobody else has them while this
    /// lives.
    ///
    /// # Errors
    /// If another csmd has them, or there is no BPF file system.
    pub fn open(directory: &Path) -> io::Result<Self> {
        have_file_system(directory)?;
        fs::create_dir_all(directory.join(LINKS))?;
        let lock =
            Flock::lock(File::open(directory)?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
                match errno {
                    nix::errno::Errno::EWOULDBLOCK => io::Error::new(
                        io::ErrorKind::ResourceBusy,
                        format!("another csmd has {}: give each its own --pins", directory.display()),
                    ),
                    other => other.into(),
                }
            })?;
        Ok(Self { directory: directory.to_owned(), _lock: lock })
    }

    fn version(&self, layout: u32) -> PathBuf {
        self.directory.join(format!("v{layout}"))
    }

    /// Layouts of which tables are there, all of each, the latest first.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn layouts(&self) -> io::Result<Vec<u32>> {
        let mut layouts = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let version: Option<u32> = name.to_str().and_then(|name| name.strip_prefix('v')?.parse().ok());
            layouts.extend(version.filter(|_| entry.path().join(WHOLE).is_dir()));
        }
        layouts.sort_unstable_by(|a: &u32, b| b.cmp(a));
        Ok(layouts)
    }

    /// Where table `name` of `layout` is pinned, or would be.
    #[must_use]
    pub fn table(&self, layout: u32, name: &str) -> PathBuf {
        self.version(layout).join(name)
    }

    /// The pinned tables of `layout`.
    ///
    /// # Errors
    /// If the directory cannot be read, or holds something that is no map.
    pub fn tables(&self, layout: u32) -> io::Result<BTreeMap<String, (OwnedFd, Shape)>> {
        let mut tables = BTreeMap::new();
        for entry in fs::read_dir(self.version(layout))? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if name != WHOLE && name != FRESH {
                let data = MapData::from_pin(entry.path()).map_err(io::Error::other)?;
                let shape = shape(&data.info().map_err(io::Error::other)?)?;
                tables.insert(name, (data.fd().as_fd().try_clone_to_owned()?, shape));
            }
        }
        Ok(tables)
    }

    /// Pins `map` as table `name` of `layout`, in the place of what is there.
    ///
    /// # Errors
    /// Of a system call.
    pub fn put(&self, layout: u32, name: &str, map: BorrowedFd<'_>) -> io::Result<()> {
        let directory = self.version(layout);
        fs::create_dir_all(&directory)?;
        let fresh = directory.join(FRESH);
        remove_file(&fresh)?;
        let data = MapData::from_fd(map.try_clone_to_owned()?).map_err(io::Error::other)?;
        data.pin(&fresh).map_err(io::Error::other)?;
        fs::rename(fresh, directory.join(name))
    }

    /// All tables of `layout` are there now.
    ///
    /// # Errors
    /// Of the system call.
    pub fn mark_whole(&self, layout: u32) -> io::Result<()> {
        match fs::create_dir(self.version(layout).join(WHOLE)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes the tables of `layout`.
    ///
    /// # Errors
    /// Of a system call.
    pub fn remove_tables(&self, layout: u32) -> io::Result<()> {
        let directory = self.version(layout);
        // What is left of a removal that broke off must never count as all.
        remove_directory(&directory.join(WHOLE))?;
        remove_directory(&directory)
    }

    /// Removes all tables but those of `layout`.
    ///
    /// # Errors
    /// Of a system call.
    pub fn keep_only(&self, layout: Option<u32>) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.file_name() != Some(LINKS.as_ref())
                && Some(&path) != layout.map(|layout| self.version(layout)).as_ref()
            {
                // What is left of a removal that broke off must never count as all.
                remove_directory(&path.join(WHOLE))?;
                remove_directory(&path)?;
            }
        }
        Ok(())
    }

    /// The places of the program that stand, by interface index. Those of interfaces that have gone are removed.
    ///
    /// # Errors
    /// Of a system call.
    pub fn links(&self) -> io::Result<BTreeMap<u32, (AttachMode, Link)>> {
        let mut links = BTreeMap::new();
        for entry in fs::read_dir(self.directory.join(LINKS))? {
            let path = entry?.path();
            let named = path.file_name().and_then(|name| parse_link(name.to_str()?));
            let link = Link::pinned(&path)?;
            match named {
                // Of another network namespace it would be another interface with the same index: the lab's.
                Some((ifindex, mode)) if link.ifindex()? == ifindex => {
                    links.insert(ifindex, (mode, link));
                }
                _ => remove_file(&path)?,
            }
        }
        Ok(links)
    }

    /// Keeps `link`.
    ///
    /// # Errors
    /// Of the system call.
    pub fn put_link(&self, ifindex: u32, mode: AttachMode, link: &Link) -> io::Result<()> {
        link.pin(&self.link(ifindex, mode))
    }

    /// Gives up the place on an interface.
    ///
    /// # Errors
    /// Of the system call.
    pub fn remove_link(&self, ifindex: u32, mode: AttachMode) -> io::Result<()> {
        remove_file(&self.link(ifindex, mode))
    }

    fn link(&self, ifindex: u32, mode: AttachMode) -> PathBuf {
        self.directory.join(LINKS).join(format!("{ifindex}-{mode}"))
    }

    /// The program leaves its ports.
    ///
    /// # Errors
    /// Of a system call.
    pub fn remove_links(&self) -> io::Result<()> {
        remove_directory(&self.directory.join(LINKS))
    }

    /// Removes everything but table `name` of `layout`.
    ///
    /// # Errors
    /// Of a system call.
    pub fn remove_but(&self, layout: u32, name: &str) -> io::Result<()> {
        self.remove_links()?;
        self.keep_only(Some(layout))?;
        // What is left of a removal that broke off must never count as all.
        remove_directory(&self.version(layout).join(WHOLE))?;
        for entry in fs::read_dir(self.version(layout))? {
            let path = entry?.path();
            if !path.ends_with(name) {
                remove_file(&path)?;
            }
        }
        self.mark_whole(layout)
    }

    /// Removes everything: the program leaves its ports, and the tables go.
    ///
    /// # Errors
    /// Of a system call.
    pub fn remove(&self) -> io::Result<()> {
        self.remove_links()?;
        self.keep_only(None)?;
        fs::remove_dir(&self.directory)
    }
}

fn parse_link(name: &str) -> Option<(u32, AttachMode)> {
    let (ifindex, mode) = name.split_once('-')?;
    let mode =
        [AttachMode::Native, AttachMode::Generic].into_iter().find(|known| known.to_string() == mode)?;
    Some((ifindex.parse().ok()?, mode))
}

/// The shape of a map that is there.
fn shape(info: &MapInfo) -> io::Result<Shape> {
    Ok(Shape {
        kind: info.map_type().map_err(io::Error::other)? as u32,
        key: info.key_size(),
        value: info.value_size(),
        entries: info.max_entries(),
        flags: info.map_flags(),
    })
}

/// Sees that there is a BPF file system where `directory` is to be.
fn have_file_system(directory: &Path) -> io::Result<()> {
    let is_bpf = |path: &Path| statfs(path).map(|found| found.filesystem_type() == BPF_FS_MAGIC);
    let standing = directory.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    if is_bpf(standing)? {
        return Ok(());
    }
    if !directory.starts_with(BPF_FS) {
        return Err(io::Error::other(format!(
            "{} is not in a BPF file system: mount one (`mount -t bpf bpf DIRECTORY`), or name a directory in {BPF_FS}",
            directory.display()
        )));
    }
    // Two at once would hide one mount behind the other.
    let _lock = Flock::lock(
        File::open(Path::new(BPF_FS).parent().unwrap_or(Path::new("/")))?,
        FlockArg::LockExclusive,
    )
    .map_err(|(_, errno)| io::Error::from(errno))?;
    if is_bpf(Path::new(BPF_FS))? {
        return Ok(());
    }
    mount(Some("bpf"), BPF_FS, Some("bpf"), MsFlags::empty(), Some("mode=0700")).map_err(|errno| {
        io::Error::new(
            io::Error::from(errno).kind(),
            format!("no BPF file system can be mounted at {BPF_FS}: {}", io::Error::from(errno)),
        )
    })
}

fn remove_file(path: &Path) -> io::Result<()> {
    gone(fs::remove_file(path))
}

/// A BPF file system's directory with its pins: one level.
fn remove_directory(path: &Path) -> io::Result<()> {
    gone((|| {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                remove_directory(&entry.path())?;
            } else {
                remove_file(&entry.path())?;
            }
        }
        fs::remove_dir(path)
    })())
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
