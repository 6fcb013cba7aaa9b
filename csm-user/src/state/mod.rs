//! The state directory: two copies of the startup configuration, `working` (the latest that was written) and `certified`
//! (the last that is known to be good), each with the program that it is to be started with.
//!
//! Each copy is one file with its own checksum, replaced by rename only, so that whatever is interrupted leaves a whole one.
//! It names its program, which stands beside both under its checksum and is never changed. What a start can do without is written
//! down in the same way, beside them. Pure but for [`store`],
//! [`program::store`] and [`cut`].

pub mod boot;
pub mod cut;
pub mod image;
pub mod program;
pub mod steps;
pub mod store;

use std::fmt;

/// One of the two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Directory {
    /// Written by `write memory`.
    Working,
    /// Written by `copy working certified`.
    Certified,
}

impl Directory {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Working, Self::Certified];

    /// Its name below the state directory.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Certified => "certified",
        }
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
