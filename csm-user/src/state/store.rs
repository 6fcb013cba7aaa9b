//! Shell: the files of the state directory.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Directory;
use super::image::{self, Image};
use super::program::Program;
use super::program::store::Programs;
use super::steps::{Step, replace};

/// Name of the configuration in each of the two directories.
const FILE: &str = "csm.cfg";

static WRITING: Mutex<()> = Mutex::new(());

/// A state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store(PathBuf);

impl Store {
    /// In `directory`, whose parts are made when something is written.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// The file of one copy.
    #[must_use]
    pub fn file(&self, directory: Directory) -> PathBuf {
        self.0.join(directory.name()).join(FILE)
    }

    /// What one copy holds.
    ///
    /// # Errors
    /// If the file is there but cannot be read.
    pub fn read(&self, directory: Directory) -> io::Result<Image> {
        match fs::read(self.file(directory)) {
            Ok(octets) => Ok(image::decode(&octets)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Image::Absent),
            Err(error) => Err(error),
        }
    }

    /// The programs that the copies name.
    #[must_use]
    pub fn programs(&self) -> Programs {
        Programs::new(&self.0)
    }

    /// Makes one copy hold `text` and name `program`, which must be whole: on the disk when it returns.
    ///
    /// # Errors
    /// Of a system call; the copy is as it was then.
    pub fn write(&self, directory: Directory, text: &str, program: Option<&Program>) -> io::Result<()> {
        self.put(&self.file(directory), image::encode(text, program))
    }

    /// What was written down under `name` beside the copies; `None`: nothing.
    ///
    /// # Errors
    /// If the file is there but cannot be read.
    pub fn noted(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.0.join(name)) {
            Ok(octets) => Ok(Some(octets)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes something down under `name`, which a start can do without: on the disk when it returns.
    ///
    /// # Errors
    /// Of a system call; what was written before is as it was then.
    pub fn note(&self, name: &str, octets: Vec<u8>) -> io::Result<()> {
        self.put(&self.0.join(name), octets)
    }

    fn put(&self, file: &Path, octets: Vec<u8>) -> io::Result<()> {
        let parent = file.parent().unwrap_or(&self.0);
        // One writer at a time: the temporary file is the same for all.
        let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        if !parent.is_dir() {
            // Configurations hold keys.
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            for made in parent.ancestors().skip(1).take(2).filter(|made| !made.as_os_str().is_empty()) {
                File::open(made)?.sync_all()?;
            }
        }
        for step in replace(octets) {
            carry_out(&step, file, parent)?;
        }
        Ok(())
    }
}

fn carry_out(step: &Step, file: &Path, parent: &Path) -> io::Result<()> {
    let temporary = file.with_extension("new");
    super::cut::step();
    match step {
        Step::Create => {
            let new = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            // One that a dead writer left keeps the mode that it has.
            new.set_permissions(fs::Permissions::from_mode(0o600))
        }
        Step::Write(octets) => File::options().write(true).open(&temporary)?.write_all(octets),
        Step::SyncFile => File::open(&temporary)?.sync_all(),
        Step::Rename => fs::rename(&temporary, file),
        Step::SyncDirectory => File::open(parent)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_dies_after_any_step_leaves_a_whole_copy_and_the_next_one_succeeds() {
        let root = std::env::temp_dir().join(format!("csm-state-{}", std::process::id()));
        let store = Store::new(root.clone());
        assert_eq!(store.read(Directory::Working).expect("readable"), Image::Absent);
        store.write(Directory::Working, "module csm 5\n", None).expect("written");
        let file = store.file(Directory::Working);
        let parent = file.parent().expect("a directory");
        let steps = replace(image::encode("module csm 6\n", None));
        for done in 0..=steps.len() {
            for step in &steps[..done] {
                carry_out(step, &file, parent).expect("a step");
            }
            let Image::Whole { text, .. } = store.read(Directory::Working).expect("readable") else {
                panic!("damaged after {done} steps");
            };
            assert_eq!(text, if done < 4 { "module csm 5\n" } else { "module csm 6\n" });
        }
        store.write(Directory::Certified, "module csm 7\n", None).expect("written");
        assert!(store.read(Directory::Certified).expect("readable").checksum().is_some());
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(parent)), (0o600, 0o700), "a configuration may hold keys");
        fs::remove_dir_all(root).expect("ours");
    }

    #[test]
    fn a_note_stands_beside_the_copies_also_where_there_are_none_yet() {
        let root = std::env::temp_dir().join(format!("csm-state-note-{}", std::process::id()));
        let store = Store::new(root.clone());
        assert_eq!(store.noted("found").expect("readable"), None);
        for octets in [&b"one"[..], b"", b"another"] {
            store.note("found", octets.to_vec()).expect("written");
            assert_eq!(store.noted("found").expect("readable").as_deref(), Some(octets));
        }
        assert_eq!(store.read(Directory::Working).expect("readable"), Image::Absent);
        store.write(Directory::Working, "module csm 5\n", None).expect("written");
        assert_eq!(store.noted("found").expect("readable").as_deref(), Some(&b"another"[..]));
        fs::remove_dir_all(root).expect("ours");
    }
}
