//! Fragments: what the first one of a datagram tells of the others.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use csm_common::counter::Reason;

use super::frame::Frame;

/// A note is good for two seconds of the program's clock; from here on the model does not say whether it is.
const SURE: Duration = Duration::from_secs(1);

/// Addresses, identification, VLAN and protocol of a datagram.
type Datagram = (Ipv4Addr, Ipv4Addr, u16, u16, u8);

/// Where the others go.
#[derive(Clone, Debug)]
pub enum Fate {
    /// Back: it is an echo request to the group.
    Answered,
    /// After the first one.
    Follows {
        /// New source and destination.
        addresses: (Ipv4Addr, Ipv4Addr),
        /// MAC address of the next hop.
        mac: [u8; 6],
        /// Virtual server and real, and whether it is a client's.
        service: Option<(u32, u32)>,
        /// See there.
        forward: bool,
    },
}

#[derive(Clone, Debug)]
struct Note {
    at: Instant,
    first: usize,
    fate: Fate,
}

/// What is known of datagrams whose first fragment has passed. They are not forgotten with the connections.
#[derive(Clone, Debug, Default)]
pub struct Datagrams(HashMap<Datagram, Note>);

fn datagram(frame: &Frame, vlan: u16) -> Datagram {
    let bytes = frame.bytes();
    (frame.src(), frame.dst(), u16::from_be_bytes([bytes[18], bytes[19]]), vlan, frame.proto())
}

impl Datagrams {
    /// A first fragment has gone on.
    pub fn note(&mut self, frame: &Frame, vlan: u16, fate: Fate) {
        let note = Note { at: Instant::now(), first: frame.payload(), fate };
        self.0.insert(datagram(frame, vlan), note);
    }

    /// Where a later fragment goes; `Ok(None)`: it is too long ago to say.
    ///
    /// # Errors
    /// With the fragment's end.
    pub fn follow(&self, frame: &Frame, vlan: u16) -> Result<Option<Fate>, Reason> {
        let (octets, offset) = (frame.payload(), frame.offset());
        if octets == 0 || offset + octets > 65_535 || (frame.has_more() && !octets.is_multiple_of(8)) {
            return Err(Reason::DropFragment);
        }
        let note = self.0.get(&datagram(frame, vlan)).ok_or(Reason::HeldFragment)?;
        if note.at.elapsed() > SURE {
            return Ok(None);
        }
        // Nothing is laid over what was judged (RFC 3128).
        if offset < note.first {
            return Err(Reason::DropFragment);
        }
        if matches!(note.fate, Fate::Follows { .. }) && frame.ttl() <= 1 {
            return Err(Reason::DropTtl);
        }
        Ok(Some(note.fate.clone()))
    }
}
