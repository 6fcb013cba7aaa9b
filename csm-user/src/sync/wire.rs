//! The messages: four octets of length in network order, then JSON. What a node of another version says and this one does
//! not know is no message, and is answered by a refusal.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::directory::BoxDirectory;

/// Octets of the largest message: some 20,000 reals in less than two million.
pub const LENGTH_MAX: usize = 16 << 20;

/// Asked of the peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// FT group.
    pub group: u8,
    /// Boot nonce of the sender, as in its heartbeats.
    pub from: u64,
    /// Boot nonce of the receiver.
    pub to: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// What both should have alike, as the peer has it.
    Shared,
    /// How the peer stands: whether it could be lost, or take over.
    Facts,
    /// To put this configuration in force: `hw-module csm N standby config-sync`.
    Apply(String),
    /// To save this configuration in both directories: `copy working certified flash-synchro`.
    Save(String),
    /// What stands in its directories.
    Directory,
    /// How much of an image the peer has.
    ImageHeld {
        /// The line that names it.
        image: String,
    },
    /// To add a part to an image, behind the first `at` octets.
    ImagePart {
        /// The line that names it.
        image: String,
        /// Octets before it.
        at: u64,
        /// The part, in base64.
        part: String,
    },
    /// To check an image of which all parts have come.
    ImageWhole {
        /// The line that names it.
        image: String,
    },
    /// To save this configuration with an image in both directories.
    SaveWithImage {
        /// The configuration.
        text: String,
        /// The line that names the image, which the peer has.
        image: String,
        /// To start anew with them, where another image runs.
        start: bool,
    },
}

/// The peer's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Ask::Shared`].
    Shared(String),
    /// To [`Ask::Facts`], in words that both features above know.
    Facts(serde_json::Value),
    /// To [`Ask::Directory`].
    Directory(Box<BoxDirectory>),
    /// To [`Ask::ImageHeld`] and [`Ask::ImagePart`]: octets that the peer has, from the first on.
    Held(u64),
    /// It is in force, or saved.
    Done {
        /// The peer starts anew with it: something in it cannot change while it runs.
        reloads: bool,
    },
    /// Nothing was changed.
    Refused {
        /// One sentence.
        error: String,
        /// Each fault with its line, if it is faulty.
        report: Option<String>,
    },
}

/// The octets of a message's body; `None` if it is too large.
#[must_use]
pub fn encode(message: &impl Serialize) -> Option<Vec<u8>> {
    let body = serde_json::to_vec(message).ok()?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= LENGTH_MAX)?;
    Some([&length.to_be_bytes()[..], &body].concat())
}

/// Octets as they stand in a message.
#[must_use]
pub fn part(octets: &[u8]) -> String {
    BASE64_STANDARD.encode(octets)
}

/// The octets of a [`part`].
///
/// # Errors
/// If it is none.
pub fn octets(part: &str) -> Result<Vec<u8>, base64::DecodeError> {
    BASE64_STANDARD.decode(part)
}

/// Octets of the length before a body.
pub const HEAD: usize = 4;

/// The length of the body that follows these [`HEAD`] octets; `None` if it is too large.
#[must_use]
pub fn length(octets: [u8; HEAD]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(octets)).ok().filter(|length| *length <= LENGTH_MAX)
}

/// The message of a body.
///
/// # Errors
/// If it is none.
pub fn decode<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_unknown_ones_are_errors() {
        let request =
            Request { group: 1, from: u64::MAX, to: 3, ask: Ask::Apply("module csm 5\n".to_owned()) };
        let octets = encode(&request).expect("small");
        let (head, body) = octets.split_at(4);
        assert_eq!(length(head.try_into().expect("four")), Some(body.len()));
        assert_eq!(decode::<Request>(body).expect("a message"), request);
        assert!(decode::<Request>(br#"{"group":1,"from":1,"to":2,"ask":{"explode":1}}"#).is_err());
        assert_eq!(length([0xff; 4]), None);
    }
}
