//! A configuration as a file: one comment line with length and checksum, then the text. It can be read, and pasted, as
//! any other configuration.

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
}

/// Checksum of a configuration's text.
#[must_use]
pub fn checksum(text: &str) -> u64 {
    fnv1a(text.as_bytes())
}

/// `text` as a file's octets.
#[must_use]
pub fn encode(text: &str) -> Vec<u8> {
    format!("{MAGIC}, {} octets, checksum {:016x}\n{text}", text.len(), checksum(text)).into_bytes()
}

/// What a file of these octets holds.
#[must_use]
pub fn decode(octets: &[u8]) -> Image {
    let whole = || {
        let (head, text) = std::str::from_utf8(octets).ok()?.split_once('\n')?;
        let (length, sum) = head.strip_prefix(MAGIC)?.strip_prefix(", ")?.split_once(" octets, checksum ")?;
        let good = length.parse() == Ok(text.len()) && u64::from_str_radix(sum, 16) == Ok(checksum(text));
        good.then(|| Image::Whole { text: text.to_owned(), checksum: checksum(text) })
    };
    whole().unwrap_or(Image::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_octet_lost_added_or_changed_is_noticed() {
        let text = "module csm 5\n vlan 2 client\n";
        let good = encode(text);
        assert_eq!(decode(&good), Image::Whole { text: text.to_owned(), checksum: checksum(text) });
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
                .all(|found| found.line != 1),
            "the first line is a comment"
        );
    }
}
