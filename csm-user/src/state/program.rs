//! The program that a directory names: `csmd` with its XDP program in one file, known by the checksum of its octets, so
//! that one name never means two programs.

pub mod store;

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// Octets of the largest program that is taken.
pub const OCTETS_MAX: u64 = 256 << 20;
/// Octets of a part that crosses the FT VLAN in one message.
pub const PART: usize = 1 << 20;
/// Longest description.
const DESCRIPTION_MAX: usize = 80;
/// Begins the line that names a program.
const WORD: &str = "! image ";

/// SHA-256 of a program's octets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these octets.
    #[must_use]
    pub fn of(octets: &[u8]) -> Self {
        Self(Sha256::digest(octets).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not 64 hexadecimal digits in small letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the checksum of an image")]
pub struct NoDigest;

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let digit = |octet: u8| match octet {
            b'0'..=b'9' => Some(octet - b'0'),
            b'a'..=b'f' => Some(octet - b'a' + 10),
            _ => None,
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(NoDigest) };
        let octets: Option<Vec<u8>> =
            pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
        octets.and_then(|octets| octets.try_into().ok()).map(Self).ok_or(NoDigest)
    }
}

/// A program, as a directory and the peer name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Of its octets.
    pub digest: Digest,
    /// How many.
    pub octets: u64,
    /// What it says of itself, see [`description`].
    pub version: String,
}

impl Program {
    /// The program that `line` names.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (digest, rest) = line.strip_prefix(WORD)?.split_once(", ")?;
        let (octets, version) = rest.split_once(" octets, ")?;
        let program =
            Self { digest: digest.parse().ok()?, octets: octets.parse().ok()?, version: version.to_owned() };
        (program.to_string() == line && is_description(version)).then_some(program)
    }
}

/// The line of a directory's file, a comment to whoever reads the file as a configuration.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { digest, octets, version } = self;
        write!(f, "{WORD}{digest}, {octets} octets, {version}")
    }
}

/// What a csmd says of itself: its version, and the layout of the tables that it takes over.
#[must_use]
pub fn description(version: &str, layout: u32) -> String {
    format!("csmd {version} layout {layout}")
}

/// Whether a csmd has said it.
#[must_use]
pub fn is_description(text: &str) -> bool {
    let is_plain = text.len() <= DESCRIPTION_MAX && text.bytes().all(|octet| matches!(octet, b' '..=b'~'));
    let layout = text.strip_prefix("csmd ").and_then(|rest| rest.split_once(" layout "));
    is_plain && layout.is_some_and(|(version, layout)| !version.is_empty() && layout.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_by_one_line_and_by_no_other() {
        let digest = Digest::of(b"abc");
        // FIPS 180-4's own example.
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let program = Program { digest, octets: 3, version: description("0.1.0", 12) };
        let line = program.to_string();
        assert_eq!(Program::parse(&line), Some(program));
        for wrong in [
            line.to_uppercase(),
            line.replace("3 octets", "03 octets"),
            line.replace("ba7816", "ba781"),
            line.replace("csmd", "sh"),
            line.replace("12", "twelve"),
            format!("{line}\u{7}"),
            line[1..].to_owned(),
        ] {
            assert_eq!(Program::parse(&wrong), None, "{wrong}");
        }
    }
}
