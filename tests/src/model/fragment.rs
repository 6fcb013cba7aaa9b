//! Fragments: what the first one of a datagram tells of the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use csm_common::counter::Reason;

use super::frame::Head;
use super::table::Service;

/// A note is good for two seconds of the program's clock; from here on the model does not say whether it is.
const SURE: Duration = Duration::from_secs(1);

/// Addresses, identification, VLAN and protocol of a datagram.
type Datagram = (IpAddr, IpAddr, u32, u16, u8);

/// Where the others go.
#[derive(Clone, Debug)]
pub enum Fate {
    /// Back: it is an echo request to the group.
    Answered,
    /// After the first one.
    Follows {
        /// New source and destination.
        addresses: (IpAddr, IpAddr),
        /// The hop.
        hop: u32,
        /// Whose counters count it.
        service: Service,
        /// It is a client's.
        forward: bool,
    },
}

#[derive(Clone, Debug)]
struct Note {
    first: usize,
    fate: Fate,
}

/// What is known of datagrams whose first fragment has passed. They are not forgotten with the connections.
#[derive(Clone, Debug, Default)]
pub struct Datagrams {
    notes: HashMap<Datagram, Note>,
    oldest: Option<Instant>,
}

const fn datagram(head: &Head, vlan: u16) -> Datagram {
    (head.src, head.dst, head.id, vlan, head.proto)
}

impl Datagrams {
    /// A first fragment has gone on.
    pub fn note(&mut self, head: &Head, vlan: u16, fate: Fate) {
        self.oldest.get_or_insert_with(Instant::now);
        self.notes.insert(datagram(head, vlan), Note { first: head.payload(), fate });
    }

    /// Whether all that is known is so new that the program knows it, too.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.oldest.is_none_or(|oldest| oldest.elapsed() < SURE)
    }

    /// Where a later fragment goes.
    ///
    /// # Errors
    /// With the fragment's end.
    pub fn follow(&self, head: &Head, vlan: u16) -> Result<Fate, Reason> {
        let octets = head.payload();
        if octets == 0 || head.offset + octets > 65_535 || (head.more && !octets.is_multiple_of(8)) {
            return Err(Reason::DropFragment);
        }
        let note = self.notes.get(&datagram(head, vlan)).ok_or(Reason::HeldFragment)?;
        // Nothing is laid over what was judged (RFC 3128).
        if head.offset < note.first {
            return Err(Reason::DropFragment);
        }
        Ok(note.fate.clone())
    }
}
