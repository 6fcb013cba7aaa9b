//! Names and numbers of sections.

use std::fmt;

/// A name as the CSM keeps it: 1–15 printable characters without blanks, upper case (CISCO-SLB-MIB SlbObjectNameString).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// Longest name, in characters.
pub const NAME_MAX: usize = 15;

impl Name {
    /// `text` in upper case; `None` if it is empty, longer than [`NAME_MAX`] or holds blanks or control characters.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let good = (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        good.then(|| Self(text.to_ascii_uppercase()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// VLAN number, 2–4094 (1 is unusable on the CSM).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VlanId(u16);

impl VlanId {
    /// `None` outside 2–4094.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number >= 2 && number <= 4094 { Some(Self(number)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
