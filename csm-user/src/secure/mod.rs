//! Streams on the FT VLAN that nobody else reads or writes: Noise (revision 34) with the group's configured key. Pure;
//! [`task`] has the sockets.
//!
//! Each stream begins with an offer of the node that connects and the answer of the other, see [`Offer`]; with a key
//! both carry the two messages of the handshake `NNpsk0`: fresh X25519 keys for each stream, so that a key that becomes
//! known later opens none that was recorded, mixed with the pre-shared key, which is the hash of the configured one. All that
//! follows is sealed by ChaCha20-Poly1305, in records of a length (2, big endian) and so many octets.
//!
//! The prologue of the handshake says what the stream is for and between which boots of which group: an answer to one is
//! none to another, and a recorded stream is worth nothing.

pub mod task;

use bytes::{Buf, BufMut, BytesMut};
use sha2::{Digest, Sha256};
use snow::{Builder, HandshakeState, StatelessTransportState};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::model::{FtKeys, Secret};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";
/// First octets of an offer and of an answer.
const MAGIC: [u8; 4] = *b"CSMn";
/// Octets of either of the two messages of the handshake: a public key and a tag.
const HANDSHAKE: usize = 48;
/// Octets of a tag.
const TAG: usize = 16;
/// Most octets in a record before it is sealed.
const RECORD_MAX: usize = 16 * 1024;
/// Octets of the length of a record.
const LENGTH: usize = 2;

/// What a stream is for, and between whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// A word for the protocol inside.
    pub service: &'static str,
    /// FT group.
    pub group: u8,
    /// Boot nonce of the node that connects.
    pub from: u64,
    /// Boot nonce of the node that is connected to.
    pub to: u64,
}

impl Purpose {
    fn prologue(&self) -> Vec<u8> {
        let mut prologue = b"csm ft ".to_vec();
        prologue.extend_from_slice(self.service.as_bytes());
        prologue.put_u8(0);
        prologue.put_u8(self.group);
        prologue.put_u64(self.from);
        prologue.put_u64(self.to);
        prologue
    }
}

/// Why two nodes do not talk.
#[derive(Debug, Error)]
pub enum SecureError {
    /// What came is no offer and no answer.
    #[error("it is not of this protocol")]
    Garbled,
    /// This node has a key, the other offers none.
    #[error("it has no key, and this box requires one: configure `authentication key-string` on both")]
    Required,
    /// The other has a key, this node has none.
    #[error("it requires a key, and this box has none: configure `authentication key-string` on both")]
    Unkeyed,
    /// Both have keys, and none in common; or the stream is not between the boots, or for the purpose, that both think.
    #[error("it has another key")]
    Key,
    /// A record was changed on its way, or is not of the peer.
    #[error("a record that is not the peer's")]
    Record,
}

/// A pre-shared key.
type Psk = Zeroizing<[u8; 32]>;

/// What a node has to open and to accept streams with.
#[derive(Clone, Default)]
pub struct Keys {
    /// Opens streams; also accepted.
    first: Option<Psk>,
    /// Accepted beside it.
    second: Option<Psk>,
    /// Nothing goes without.
    required: bool,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("required", &self.required).finish_non_exhaustive()
    }
}

impl From<&FtKeys> for Keys {
    fn from(keys: &FtKeys) -> Self {
        let psk = |secret: &Secret| -> Psk {
            // Not the same as the heartbeats' key: neither says anything of the other.
            Zeroizing::new(
                Sha256::new_with_prefix("csm ft stream ").chain_update(secret.text()).finalize().into(),
            )
        };
        let accepted = keys.accept.as_ref().map(psk);
        let required = keys.sign.is_some();
        match keys.sign.as_ref().map(psk) {
            Some(signing) => Self { first: Some(signing), second: accepted, required },
            None => Self { first: accepted, second: None, required },
        }
    }
}

impl Keys {
    /// Whether a stream in the clear is none.
    #[must_use]
    pub const fn required(&self) -> bool {
        self.required
    }
}

/// The first octets of a stream, either way. On the wire: [`MAGIC`], a mode, and the message of the handshake if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Offer {
    /// In the clear.
    Clear,
    /// With a key.
    Sealed([u8; HANDSHAKE]),
    /// Only as an answer: without a key not.
    Required,
    /// Only as an answer: there is no key here.
    Unkeyed,
    /// Only as an answer: not with that one.
    OtherKey,
}

/// Octets of the fixed part of an [`Offer`].
const HEAD: usize = MAGIC.len() + 1;

impl Offer {
    const fn mode(&self) -> u8 {
        match self {
            Self::Clear => 0,
            Self::Sealed(_) => 1,
            Self::Required => 2,
            Self::Unkeyed => 3,
            Self::OtherKey => 4,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut octets = MAGIC.to_vec();
        octets.push(self.mode());
        if let Self::Sealed(message) = self {
            octets.extend_from_slice(message);
        }
        octets
    }

    /// How many octets follow this head.
    fn rest(head: [u8; HEAD]) -> Result<usize, SecureError> {
        match head {
            [b'C', b'S', b'M', b'n', 1] => Ok(HANDSHAKE),
            [b'C', b'S', b'M', b'n', 0 | 2..=4] => Ok(0),
            _ => Err(SecureError::Garbled),
        }
    }

    fn decode(head: [u8; HEAD], rest: &[u8]) -> Result<Self, SecureError> {
        match (head[MAGIC.len()], <[u8; HANDSHAKE]>::try_from(rest)) {
            (1, Ok(message)) => Ok(Self::Sealed(message)),
            (0, Err(_)) => Ok(Self::Clear),
            (2, Err(_)) => Ok(Self::Required),
            (3, Err(_)) => Ok(Self::Unkeyed),
            (4, Err(_)) => Ok(Self::OtherKey),
            _ => Err(SecureError::Garbled),
        }
    }
}

fn builder<'a>(psk: &'a Psk, prologue: &'a [u8]) -> Result<Builder<'a>, snow::Error> {
    Builder::new(PATTERN.parse()?).prologue(prologue)?.psk(0, psk)
}

fn message(state: &mut HandshakeState) -> Result<[u8; HANDSHAKE], snow::Error> {
    let mut message = [0; HANDSHAKE];
    state.write_message(&[], &mut message)?;
    Ok(message)
}

/// The handshake of the node that connects, between its offer and the answer.
struct Opening {
    handshake: Option<HandshakeState>,
    required: bool,
}

impl Opening {
    fn new(keys: &Keys, purpose: &Purpose) -> Result<(Self, Offer), SecureError> {
        let Some(psk) = &keys.first else {
            return Ok((Self { handshake: None, required: keys.required }, Offer::Clear));
        };
        let prologue = purpose.prologue();
        let open = || {
            let mut state = builder(psk, &prologue)?.build_initiator()?;
            let message = message(&mut state)?;
            Ok((state, message))
        };
        let (state, message) = open().map_err(|_: snow::Error| SecureError::Key)?;
        Ok((Self { handshake: Some(state), required: keys.required }, Offer::Sealed(message)))
    }

    /// The stream's seal, or none if it goes in the clear. While a key is configured on one box after the other, what has none
    /// is still the peer.
    fn answered(self, answer: &Offer) -> Result<Option<StatelessTransportState>, SecureError> {
        match (self.handshake, answer) {
            (Some(mut state), Offer::Sealed(message)) => {
                state.read_message(message, &mut []).map_err(|_| SecureError::Key)?;
                Ok(Some(state.into_stateless_transport_mode().map_err(|_| SecureError::Key)?))
            }
            (None, Offer::Clear) => Ok(None),
            (Some(_), Offer::Unkeyed) if !self.required => Ok(None),
            (Some(_), Offer::Unkeyed) => Err(SecureError::Required),
            (None, Offer::Required) => Err(SecureError::Unkeyed),
            (Some(_), Offer::OtherKey) => Err(SecureError::Key),
            (Some(_), Offer::Clear | Offer::Required)
            | (None, Offer::Sealed(_) | Offer::Unkeyed | Offer::OtherKey) => Err(SecureError::Garbled),
        }
    }
}

/// What the node that is connected to makes of an offer: its answer, and the stream's seal, none if it goes in the clear, or
/// why there is no stream.
type Verdict = (Offer, Result<Option<StatelessTransportState>, SecureError>);

fn answer(keys: &Keys, purpose: &Purpose, offer: &Offer) -> Verdict {
    match offer {
        Offer::Clear if keys.required => (Offer::Required, Err(SecureError::Required)),
        Offer::Clear => (Offer::Clear, Ok(None)),
        // The other may do without, as this node does.
        Offer::Sealed(_) if keys.first.is_none() => (Offer::Unkeyed, Ok(None)),
        Offer::Sealed(first) => {
            let prologue = purpose.prologue();
            let accept = |psk| {
                let mut state = builder(psk, &prologue)?.build_responder()?;
                state.read_message(first, &mut [])?;
                let second = message(&mut state)?;
                Ok::<_, snow::Error>((second, state.into_stateless_transport_mode()?))
            };
            match keys.first.iter().chain(&keys.second).find_map(|psk| accept(psk).ok()) {
                Some((second, seal)) => (Offer::Sealed(second), Ok(Some(seal))),
                None => (Offer::OtherKey, Err(SecureError::Key)),
            }
        }
        Offer::Required | Offer::Unkeyed | Offer::OtherKey => (Offer::OtherKey, Err(SecureError::Garbled)),
    }
}

/// Seals at most one record of `plain` and appends it to `sealed`; says how many octets of `plain` are in it.
fn seal(seal: &StatelessTransportState, number: u64, plain: &[u8], sealed: &mut BytesMut) -> usize {
    let plain = &plain[..plain.len().min(RECORD_MAX)];
    let start = sealed.len();
    let length = plain.len() + TAG;
    sealed.resize(start + LENGTH + length, 0);
    let (head, body) = sealed[start..].split_at_mut(LENGTH);
    // At most RECORD_MAX and a tag.
    head.copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    match seal.write_message(number, plain, body) {
        Ok(written) if written == length => plain.len(),
        // Only for lengths that do not fit, and these do.
        Ok(_) | Err(_) => {
            sealed.truncate(start);
            0
        }
    }
}

/// Opens the first record of `sealed` if all of it is there, and appends what was in it to `plain`.
fn open(
    seal: &StatelessTransportState,
    number: u64,
    sealed: &mut BytesMut,
    plain: &mut BytesMut,
) -> Result<bool, SecureError> {
    let Some(&head) = sealed.first_chunk::<LENGTH>() else { return Ok(false) };
    let length = usize::from(u16::from_be_bytes(head));
    // An empty record says nothing, and whoever sends those without end keeps this node busy.
    if !(TAG + 1..=RECORD_MAX + TAG).contains(&length) {
        return Err(SecureError::Record);
    }
    let Some(body) = sealed[LENGTH..].get(..length) else { return Ok(false) };
    let start = plain.len();
    plain.resize(start + length - TAG, 0);
    let opened = seal.read_message(number, body, &mut plain[start..]);
    if opened.is_err() {
        plain.truncate(start);
        return Err(SecureError::Record);
    }
    sealed.advance(LENGTH + length);
    Ok(true)
}

#[cfg(test)]
mod tests;
