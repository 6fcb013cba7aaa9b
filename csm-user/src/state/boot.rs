//! Which directory a start takes: the working one if it is the same as the certified one, program and configuration; else
//! the certified one, which is known to be good, unless the working one is asked for.

use super::Directory;
use super::image::Image;

/// What a start takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which; `None`: the state directory has none, the initial configuration is to be taken.
    pub directory: Option<Directory>,
    /// What the operator should know.
    pub warning: Option<&'static str>,
}

/// No whole copy is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "neither `working` nor `certified` holds a whole configuration: remove the damaged file, then start with --config"
)]
pub struct Damaged;

/// Chooses between the two copies; `asked` is `reload working` or `reload certified`.
///
/// # Errors
/// If one is damaged and the other of no use: better no start than one with a configuration that nobody wanted.
pub fn choose(working: &Image, certified: &Image, asked: Option<Directory>) -> Result<Choice, Damaged> {
    use {Directory as D, Image as I};
    let of = |directory, warning| Ok(Choice { directory: Some(directory), warning });
    match (asked, working, certified) {
        (Some(D::Working), I::Whole { .. }, _) => of(D::Working, None),
        (Some(D::Certified), _, I::Whole { .. }) => of(D::Certified, None),
        (_, I::Whole { .. }, I::Whole { .. }) if working == certified => of(D::Working, None),
        (_, I::Whole { .. }, I::Whole { .. }) => of(
            D::Certified,
            Some(
                "`working` was never certified: starting from `certified`; `reload working` tries the other",
            ),
        ),
        (_, I::Whole { .. }, I::Absent) => of(D::Working, None),
        (_, I::Whole { .. }, I::Damaged) => {
            of(D::Working, Some("`certified` is damaged: starting from `working`"))
        }
        (_, I::Absent, I::Whole { .. }) => of(D::Certified, None),
        (_, I::Damaged, I::Whole { .. }) => {
            of(D::Certified, Some("`working` is damaged: starting from `certified`"))
        }
        (_, I::Absent, I::Absent) => Ok(Choice { directory: None, warning: None }),
        (_, I::Damaged, I::Absent | I::Damaged) | (_, I::Absent, I::Damaged) => Err(Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::image::{decode, encode};

    #[test]
    fn the_certified_copy_is_taken_when_they_differ() {
        let whole = |text: &str| decode(&encode(text, None));
        let (a, b) = (whole("a\n"), whole("b\n"));
        let taken = |working: &Image, certified: &Image, asked| {
            choose(working, certified, asked).map(|choice| choice.directory)
        };
        let (working, certified) = (Ok(Some(Directory::Working)), Ok(Some(Directory::Certified)));
        assert_eq!(taken(&a, &a, None), working);
        assert_eq!(taken(&a, &b, None), certified);
        let line = format!("! image {}, 7 octets, csmd 1 layout 2", "0a".repeat(32));
        let program = crate::state::program::Program::parse(&line);
        let upgraded = decode(&encode("a\n", program.as_ref()));
        assert_eq!(taken(&upgraded, &a, None), certified, "another program is another directory");
        assert_eq!(taken(&a, &b, Some(Directory::Working)), working);
        assert_eq!(taken(&a, &a, Some(Directory::Certified)), certified);
        assert_eq!(taken(&a, &Image::Absent, None), working);
        assert_eq!(taken(&a, &Image::Damaged, None), working);
        assert_eq!(taken(&Image::Damaged, &b, Some(Directory::Working)), certified);
        assert_eq!(taken(&Image::Absent, &Image::Absent, None), Ok(None));
        assert_eq!(taken(&Image::Damaged, &Image::Absent, None), Err(Damaged));
        assert_eq!(taken(&Image::Damaged, &Image::Damaged, None), Err(Damaged));
    }
}
