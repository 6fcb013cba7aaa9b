//! A start takes over what an earlier one left, and leaves its own: see [`super::pins`] for where, and
//! [`crate::dataplane::adopt`] for what.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::Map;
use aya_obj::Object;
use csm_common::names;

use super::copy::copy;
use super::link::Link;
use super::pins::Pins;
use crate::dataplane::adopt::{Convert, LAYOUT, Migration, Shape, Taken, is_kept, migration, taken};
use crate::dataplane::bpf::Update;
use crate::dataplane::load::{AttachMode, LoadError};

/// Pins, and what a start does with them.
#[derive(Debug)]
pub struct Keep {
    pins: Pins,
    directory: PathBuf,
    /// How tables of other layouts are read.
    migration: Migration,
    has_adopted: Cell<bool>,
}

/// A table whose entries are copied.
#[derive(Debug)]
struct Source {
    map: OwnedFd,
    shape: Shape,
    convert: Convert,
}

/// What a start finds.
#[derive(Debug, Default)]
pub struct Adopted {
    /// Tables that are the new program's as they are, and where they are pinned.
    pub paths: BTreeMap<String, PathBuf>,
    /// Those whose entries it gets, by name.
    copies: BTreeMap<String, (Source, Shape)>,
}

impl Keep {
    /// In `directory`.
    ///
    /// # Errors
    /// See [`Pins::open`].
    pub fn open(directory: &Path) -> Result<Self, LoadError> {
        Self::migrating(directory, migration)
    }

    /// The same, reading other layouts by `migration`.
    ///
    /// # Errors
    /// See [`Pins::open`].
    pub fn migrating(directory: &Path, migration: Migration) -> Result<Self, LoadError> {
        let pins = Pins::open(directory).map_err(failed(directory))?;
        Ok(Self { pins, directory: directory.to_owned(), migration, has_adopted: Cell::new(false) })
    }

    fn failed(&self) -> impl Fn(io::Error) -> LoadError {
        failed(&self.directory)
    }

    /// What is there for the program in `object`, whose maps have the sizes `entries` where those name them.
    ///
    /// # Errors
    /// If what is there cannot be read.
    pub fn adopt(&self, object: &[u8], entries: &[(&'static str, u32)]) -> Result<Adopted, LoadError> {
        let wanted = shapes(object, entries).map_err(self.failed())?;
        self.find(&wanted).map_err(self.failed())
    }

    fn find(&self, wanted: &BTreeMap<String, Shape>) -> io::Result<Adopted> {
        let mut adopted = Adopted::default();
        let layouts = self.pins.layouts()?;
        if !layouts.contains(&LAYOUT) {
            // Of a start that broke off.
            self.pins.remove_tables(LAYOUT)?;
        }
        let Some(layout) =
            layouts.iter().copied().find(|&layout| layout == LAYOUT).or(layouts.first().copied())
        else {
            return Ok(adopted);
        };
        let tables = self.pins.tables(layout)?;
        for (name, (map, found)) in tables.into_iter().filter(|(name, _)| is_kept(name)) {
            let Some(&shape) = wanted.get(&name) else { continue };
            let as_it_was: Convert = |key, value| Some((key.to_vec(), value.to_vec()));
            let (how, convert) = match (layout == LAYOUT, (self.migration)(layout, &name)) {
                (true, _) => (taken(found, shape), as_it_was),
                (false, Some(convert)) => (Taken::Copied, convert),
                (false, None) => (Taken::Left, as_it_was),
            };
            match how {
                Taken::AsItIs => {
                    adopted.paths.insert(name.clone(), self.pins.table(layout, &name));
                }
                Taken::Copied => {
                    adopted.copies.insert(name, (Source { map, shape: found, convert }, shape));
                }
                Taken::Left => tracing::warn!(table = name, "of another shape: its contents are left behind"),
            }
        }
        self.has_adopted.set(!adopted.paths.is_empty() || !adopted.copies.is_empty());
        if layout != LAYOUT {
            tracing::info!(
                from = layout,
                to = LAYOUT,
                tables = adopted.copies.len(),
                "tables of another layout"
            );
        }
        Ok(adopted)
    }

    /// Copies into the new tables what the old ones hold: before the new program takes its place.
    ///
    /// # Errors
    /// If a table cannot be copied.
    pub fn fill(&self, adopted: &Adopted, ebpf: &Ebpf) -> Result<(), LoadError> {
        self.copy_all(adopted, ebpf, Update::Any).map_err(self.failed())
    }

    fn copy_all(&self, adopted: &Adopted, ebpf: &Ebpf, update: Update) -> io::Result<()> {
        for (name, (source, shape)) in &adopted.copies {
            let Some(into) = ebpf.map(name).and_then(descriptor) else { continue };
            let copied = copy((source.map.as_fd(), source.shape), (into, *shape), update, source.convert)?;
            tracing::info!(table = name, entries = copied, "copied into a table of another shape");
        }
        Ok(())
    }

    /// The new program is in its place: fetches what the old one made meanwhile, and pins what is new.
    ///
    /// # Errors
    /// Of a copy or a pin.
    pub fn settle(&self, adopted: &Adopted, ebpf: &Ebpf) -> Result<(), LoadError> {
        self.settle_tables(adopted, ebpf).map_err(self.failed())
    }

    fn settle_tables(&self, adopted: &Adopted, ebpf: &Ebpf) -> io::Result<()> {
        self.copy_all(adopted, ebpf, Update::New)?;
        for (name, map) in ebpf.maps() {
            // The kernel empties a table of programs that no process and no pin holds.
            let is_new = is_kept(name) && !adopted.paths.contains_key(name);
            if let Some(map) = descriptor(map).filter(|_| is_new || name == names::FAMILIES) {
                self.pins.put(LAYOUT, name, map)?;
            }
        }
        self.pins.mark_whole(LAYOUT)?;
        self.pins.keep_only(Some(LAYOUT))
    }

    /// Whether an earlier program's tables were found.
    #[must_use]
    pub fn has_adopted(&self) -> bool {
        self.has_adopted.get()
    }

    /// See [`Pins::links`].
    ///
    /// # Errors
    /// As there.
    pub fn links(&self) -> Result<BTreeMap<u32, (AttachMode, Link)>, LoadError> {
        self.pins.links().map_err(self.failed())
    }

    /// See [`Pins::put_link`].
    ///
    /// # Errors
    /// As there.
    pub fn put_link(&self, ifindex: u32, mode: AttachMode, link: &Link) -> Result<(), LoadError> {
        self.pins.put_link(ifindex, mode, link).map_err(self.failed())
    }

    /// See [`Pins::remove_link`].
    ///
    /// # Errors
    /// As there.
    pub fn remove_link(&self, ifindex: u32, mode: AttachMode) -> Result<(), LoadError> {
        self.pins.remove_link(ifindex, mode).map_err(self.failed())
    }

    /// The program leaves interface `ifindex` at once, if an earlier csmd has left it there.
    ///
    /// # Errors
    /// See [`Pins::links`], and [`Link::detach`].
    pub fn leave(&self, ifindex: u32) -> Result<(), LoadError> {
        let Some((mode, link)) = self.links()?.remove(&ifindex) else { return Ok(()) };
        link.detach().map_err(self.failed())?;
        self.remove_link(ifindex, mode)
    }

    /// Removes everything but table `name`.
    ///
    /// # Errors
    /// See [`Pins::remove_but`].
    pub fn remove_but(&self, name: &str) -> Result<(), LoadError> {
        self.pins.remove_but(LAYOUT, name).map_err(self.failed())
    }

    /// Removes everything.
    ///
    /// # Errors
    /// See [`Pins::remove`].
    pub fn remove(&self) -> Result<(), LoadError> {
        self.pins.remove().map_err(self.failed())
    }
}

fn failed(directory: &Path) -> impl Fn(io::Error) -> LoadError {
    let directory = directory.display().to_string();
    move |source| LoadError::Pins { directory: directory.clone(), source }
}

/// The shapes of the maps of `object`.
fn shapes(object: &[u8], entries: &[(&'static str, u32)]) -> io::Result<BTreeMap<String, Shape>> {
    let object = Object::parse(object).map_err(io::Error::other)?;
    let shape = |(name, map): (&String, &aya_obj::Map)| {
        let sized = entries.iter().find(|(known, _)| known == name).map(|(_, entries)| *entries);
        let shape = Shape {
            kind: map.map_type(),
            key: map.key_size(),
            value: map.value_size(),
            entries: sized.unwrap_or(map.max_entries()),
            flags: map.map_flags(),
        };
        (name.clone(), shape)
    };
    Ok(object.maps.iter().map(shape).collect())
}

fn descriptor(map: &Map) -> Option<BorrowedFd<'_>> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data) => Some(data.fd().as_fd()),
        _ => None,
    }
}
