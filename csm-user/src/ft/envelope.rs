//! A message as it goes on the wire: with what one path needs to know of the others, and what proves who sent it. Pure.
//!
//! ```text
//! offset size
//!   0    136   message (ft::wire)
//! 136     14   VLANs on which the sender heard this node within its failover time, up to 7, 0: none
//! 150      2   reserved, 0
//! 152     32   public key of the sender's boot, 0: it has a configured key
//! 184     16   tag over all before it, 0: no key yet
//! ```

use crate::ft::keyring::{Keyring, PUBLIC, TAG};
use crate::ft::wire::{self, DecodeError, LENGTH, Message, OLDEST};

/// Paths that a node has at most: the FT VLAN, and client and server VLANs.
pub const PATHS_MAX: usize = 7;
const KEY_AT: usize = LENGTH + 2 * PATHS_MAX + 2;
const TAG_AT: usize = KEY_AT + PUBLIC;
/// Octets of a datagram.
pub const DATAGRAM: usize = TAG_AT + TAG;

/// What comes with a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// VLANs on which the sender hears the receiver.
    pub heard: [u16; PATHS_MAX],
    /// Public key of the sender's boot.
    pub public: [u8; PUBLIC],
    /// Newest version that the sender speaks, as far as it says so.
    pub newest: u8,
}

/// The datagram that says `message`, in the oldest version.
#[must_use]
pub fn seal(message: &Message, heard: [u16; PATHS_MAX], keyring: &Keyring) -> [u8; DATAGRAM] {
    seal_as((OLDEST, OLDEST), message, heard, keyring)
}

/// The same in the first of these versions, of a sender that speaks up to the second.
#[must_use]
pub fn seal_as(
    (version, newest): (u8, u8),
    message: &Message,
    heard: [u16; PATHS_MAX],
    keyring: &Keyring,
) -> [u8; DATAGRAM] {
    let mut bytes = [0; DATAGRAM];
    bytes[..LENGTH].copy_from_slice(&message.encode_as(version, newest));
    for (slot, vlan) in bytes[LENGTH..].as_chunks_mut().0.iter_mut().zip(heard) {
        *slot = vlan.to_be_bytes();
    }
    bytes[KEY_AT..TAG_AT].copy_from_slice(&keyring.public());
    let tag = keyring.tag(&bytes[..TAG_AT]);
    bytes[TAG_AT..].copy_from_slice(&tag);
    bytes
}

/// A datagram's message, its envelope, what its tag is for, and the tag.
pub type Opened<'a> = (Message, Envelope, &'a [u8], &'a [u8; TAG]);

/// The parts of `datagram`; the tag is not checked.
///
/// # Errors
/// If it is none.
pub fn open(datagram: &[u8]) -> Result<Opened<'_>, DecodeError> {
    let bytes: &[u8; DATAGRAM] = datagram.try_into().map_err(|_| DecodeError::Length)?;
    let (said, _) = bytes.split_first_chunk().ok_or(DecodeError::Length)?;
    let message = Message::decode(said)?;
    let mut envelope = Envelope { newest: wire::newest(said), ..Envelope::default() };
    for (vlan, slot) in envelope.heard.iter_mut().zip(bytes[LENGTH..].as_chunks().0) {
        *vlan = u16::from_be_bytes(*slot);
    }
    if bytes[LENGTH + 2 * PATHS_MAX..KEY_AT] != [0; 2] {
        return Err(DecodeError::Reserved);
    }
    envelope.public.copy_from_slice(&bytes[KEY_AT..TAG_AT]);
    let (signed, tag) = bytes.split_last_chunk().ok_or(DecodeError::Length)?;
    Ok((message, envelope, signed, tag))
}
