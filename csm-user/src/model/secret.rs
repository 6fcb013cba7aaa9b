//! Strings that are not shown: keys of the FT group. Pure.

use std::fmt;

use zeroize::Zeroizing;

/// A secret string. It does not show in debug output, and is overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The secret `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
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
