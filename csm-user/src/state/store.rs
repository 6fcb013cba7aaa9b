//! Shell: the files of the state directory.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::Directory;
use super::image::{self, Image};
use super::steps::{Step, replace};

/// Name of the configuration in each of the two directories.
const FILE: &str = "csm.cfg";

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

    /// Makes one copy hold `text`: on the disk when it returns.
    ///
    /// # Errors
    /// Of a system call; the copy is as it was then.
    pub fn write(&self, directory: Directory, text: &str) -> io::Result<()> {
        let file = self.file(directory);
        let parent = file.parent().unwrap_or(&self.0).to_owned();
        fs::create_dir_all(&parent)?;
        for step in replace(image::encode(text)) {
            carry_out(&step, &file, &parent)?;
        }
        Ok(())
    }
}

fn carry_out(step: &Step, file: &Path, parent: &Path) -> io::Result<()> {
    let temporary = file.with_extension("new");
    match step {
        Step::Create => File::create(&temporary).map(drop),
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
        store.write(Directory::Working, "module csm 5\n").expect("written");
        let file = store.file(Directory::Working);
        let parent = file.parent().expect("a directory");
        let steps = replace(image::encode("module csm 6\n"));
        for done in 0..=steps.len() {
            for step in &steps[..done] {
                carry_out(step, &file, parent).expect("a step");
            }
            let Image::Whole { text, .. } = store.read(Directory::Working).expect("readable") else {
                panic!("damaged after {done} steps");
            };
            assert_eq!(text, if done < 4 { "module csm 5\n" } else { "module csm 6\n" });
        }
        store.write(Directory::Certified, "module csm 7\n").expect("written");
        assert!(store.read(Directory::Certified).expect("readable").checksum().is_some());
        fs::remove_dir_all(root).expect("ours");
    }
}
