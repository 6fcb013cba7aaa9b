//! Strings that are not shown: keys of the FT group. Pure.

use std::fmt;

use zeroize::Zeroizing;

/// Characters of a key at most.
pub const KEY_MAX: usize = 64;
/// What passwords of type 7 are translated with, as everybody knows.
const TRANSLATION: &[u8; 53] = b"dsfd;kfoA,.iyewrkldJKDHSUBsgvca69834ncxv9873254k;fg87";
/// Places in it where IOS begins.
const FIRSTS: usize = 16;

fn translation(first: usize) -> impl Iterator<Item = u8> {
    TRANSLATION.iter().copied().cycle().skip(first)
}

/// A secret string. It does not show in debug output, and is overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The secret `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// What may be a key: 1 to [`KEY_MAX`] printable ASCII characters without a blank.
    #[must_use]
    pub fn is_key(text: &str) -> bool {
        (1..=KEY_MAX).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_graphic())
    }

    /// As IOS writes passwords after a `7`: two digits say where in [`TRANSLATION`] to begin, two hexadecimal digits follow for each
    /// character. It keeps a key from eyes that pass over it, not from a reader who wants it.
    #[must_use]
    pub fn obscured(&self) -> String {
        // Any of the sixteen beginnings will do; the same each time, so that a configuration prints the same.
        let first = self.0.len() % FIRSTS;
        let octets =
            self.0.bytes().zip(translation(first)).map(|(octet, with)| format!("{:02X}", octet ^ with));
        std::iter::once(format!("{first:02}")).chain(octets).collect()
    }

    /// The key that IOS, or [`Secret::obscured`], has written as `text`; `None` if that is none.
    #[must_use]
    pub fn from_obscured(text: &str) -> Option<Self> {
        let (first, octets) = text.split_at_checked(2)?;
        let first = first.parse().ok().filter(|first| *first < TRANSLATION.len())?;
        let (pairs, rest) = octets.as_bytes().as_chunks::<2>();
        let plain = pairs.iter().zip(translation(first)).map(|(pair, with)| {
            let digits = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'))?;
            Some(char::from(u8::from_str_radix(digits, 16).ok()? ^ with))
        });
        let plain: Zeroizing<String> = Zeroizing::new(plain.collect::<Option<_>>()?);
        (rest.is_empty() && Self::is_key(&plain)).then(|| Self::new(&plain))
    }

    /// Itself.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Keys of an FT group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FtKeys {
    /// `authentication key-string S`: signs, and is required.
    pub sign: Option<Secret>,
    /// `authentication accept key-string S`: accepted as well. Without `sign` it signs and is not required on the FT VLAN.
    pub accept: Option<Secret>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn passwords_that_ios_has_written_are_read() {
        // Known pairs, as they stand in many a manual.
        for (written, plain) in
            [("070C285F4D06", "cisco"), ("094F471A1A0A", "cisco"), ("02050D480809", "cisco")]
        {
            assert_eq!(Secret::from_obscured(written).unwrap().text(), plain);
        }
        for bad in ["", "0", "07", "07C", "0G0C", "990C285F4D06", "07+C285F4D06", "07C0", "070C285F4D0"] {
            assert_eq!(Secret::from_obscured(bad), None, "{bad}");
        }
        assert_eq!(format!("{:?}", Secret::new("cisco")), "Secret");
    }

    proptest! {
        #[test]
        fn what_is_obscured_is_read_back(text in "[!-~]{1,64}") {
            let secret = Secret::new(&text);
            prop_assert!(Secret::is_key(&text));
            let obscured = secret.obscured();
            prop_assert!(text.len() < 4 || !obscured.contains(&text));
            prop_assert_eq!(Secret::from_obscured(&obscured), Some(secret));
        }
    }
}
