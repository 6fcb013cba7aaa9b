//! How a file is replaced so that whoever is killed, or loses power, at any moment leaves the old one or the new one.

/// One system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the temporary file, empty, whatever was there.
    Create,
    /// Write these octets to it.
    Write(Vec<u8>),
    /// Its octets are on the disk.
    SyncFile,
    /// It takes the place of the file.
    Rename,
    /// The new name is on the disk.
    SyncDirectory,
}

/// The steps, in order, that make the file hold `octets`.
#[must_use]
pub fn replace(octets: Vec<u8>) -> [Step; 5] {
    [Step::Create, Step::Write(octets), Step::SyncFile, Step::Rename, Step::SyncDirectory]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::image::{Image, decode, encode};

    /// A disk that keeps as little as it may: what was not synced is lost, or half there.
    #[derive(Clone, Default)]
    struct Disk {
        file: Option<Vec<u8>>,
        /// Written, and of that on the disk.
        temporary: Option<(Vec<u8>, bool)>,
        /// The file before a rename that may be lost.
        before_rename: Option<Option<Vec<u8>>>,
    }

    impl Disk {
        fn step(&mut self, step: &Step) {
            match step {
                Step::Create => self.temporary = Some((Vec::new(), false)),
                Step::Write(octets) => self.temporary = Some((octets.clone(), false)),
                Step::SyncFile => self.temporary.as_mut().expect("created").1 = true,
                Step::Rename => {
                    let (octets, synced) = self.temporary.take().expect("created");
                    self.before_rename = Some(self.file.take());
                    // What was not synced is a file of zeros after the power has gone.
                    self.file = Some(if synced { octets } else { vec![0; octets.len()] });
                }
                Step::SyncDirectory => self.before_rename = None,
            }
        }

        /// What may stand there when the power comes back.
        fn after_a_cut(&self) -> Vec<Option<Vec<u8>>> {
            std::iter::once(self.file.clone()).chain(self.before_rename.clone()).collect()
        }
    }

    #[test]
    fn a_power_cut_at_any_step_leaves_a_whole_configuration() {
        for old in [None, Some("module csm 5\n")] {
            let mut disk = Disk { file: old.map(|text| encode(text, None)), ..Disk::default() };
            let whole = |file: &Option<Vec<u8>>| file.as_ref().map_or(Image::Absent, |octets| decode(octets));
            let (before, new) = (whole(&disk.file), decode(&encode("module csm 6\n", None)));
            for step in replace(encode("module csm 6\n", None)) {
                disk.step(&step);
                for left in disk.after_a_cut() {
                    let left = whole(&left);
                    assert!(left == before || left == new, "after {step:?}: {left:?}");
                }
            }
            assert_eq!(disk.after_a_cut().iter().map(whole).collect::<Vec<_>>(), [new]);
        }
    }
}
