//! A directory as a file: one comment line with length and checksum, another that names the program if the directory has
//! one, then the configuration's text. It can be read, and pasted, as any other configuration. Configuration and program
//! are replaced together, since both stand in this one file.

use super::program::Program;
use crate::model::fnv1a;

/// Begins the first line; the number is that of the format.
const MAGIC: &str = "! csm configuration 1";

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// There is no file.
    Absent,
    /// Its checksum is wrong, or it is no such file.
    Damaged,
    /// A whole configuration.
    Whole {
        /// The text.
        text: String,
        /// Of the text.
        checksum: u64,
        /// What it is to be started with; `None`: the program that is installed.
        program: Option<Program>,
    },
}

impl Image {
    /// The checksum of a whole one.
    #[must_use]
    pub const fn checksum(&self) -> Option<u64> {
        match self {
            Self::Whole { checksum, .. } => Some(*checksum),
            Self::Absent | Self::Damaged => None,
        }
    }

    /// The program that a whole one names.
    #[must_use]
    pub const fn program(&self) -> Option<&Program> {
        match self {
            Self::Whole { program, .. } => program.as_ref(),
            Self::Absent | Self::Damaged => None,
        }
    }
}

/// Checksum of a configuration's text.
#[must_use]
pub fn checksum(text: &str) -> u64 {
    fnv1a(text.as_bytes())
}

/// `text` and the line of `program` as a file's octets.
#[must_use]
pub fn encode(text: &str, program: Option<&Program>) -> Vec<u8> {
    let body = program.map_or_else(|| text.to_owned(), |program| format!("{program}\n{text}"));
    format!("{MAGIC}, {} octets, checksum {:016x}\n{body}", body.len(), checksum(&body)).into_bytes()
}

/// What a file of these octets holds.
#[must_use]
pub fn decode(octets: &[u8]) -> Image {
    let whole = || {
        let (head, body) = std::str::from_utf8(octets).ok()?.split_once('\n')?;
        let (length, sum) = head.strip_prefix(MAGIC)?.strip_prefix(", ")?.split_once(" octets, checksum ")?;
        let good = length.parse() == Ok(body.len()) && u64::from_str_radix(sum, 16) == Ok(checksum(body));
        let named = body.split_once('\n').and_then(|(line, text)| Some((Program::parse(line)?, text)));
        let (program, text) = named.map_or((None, body), |(program, text)| (Some(program), text));
        good.then(|| Image::Whole { text: text.to_owned(), checksum: checksum(text), program })
    };
    whole().unwrap_or(Image::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_octet_lost_added_or_changed_is_noticed() {
        let program = Program::parse(&format!("! image {}, 7 octets, csmd 1 layout 2", "0a".repeat(32)));
        assert!(program.is_some());
        for program in [None, program] {
            check(program);
        }
    }

    fn check(program: Option<Program>) {
        let text = "module csm 5\n vlan 2 client\n";
        let good = encode(text, program.as_ref());
        let whole = Image::Whole { text: text.to_owned(), checksum: checksum(text), program };
        assert_eq!(decode(&good), whole);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(decode(&bad), Image::Damaged, "octet {at}");
            assert_eq!(decode(&good[..at]), Image::Damaged, "cut at {at}");
        }
        assert_eq!(decode(&[&good[..], b"x"].concat()), Image::Damaged);
        assert!(
            crate::config::check("a.cfg", &String::from_utf8_lossy(&good), &Default::default())
                .diagnostics
                .iter()
                .all(|found| found.line > 2),
            "the first lines are comments"
        );
    }
}
