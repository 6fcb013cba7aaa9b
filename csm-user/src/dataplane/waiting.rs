//! Fragments that came before the first one of their datagram, until that one has gone on or their time is over. Pure.

use std::collections::HashMap;

use csm_common::address::Address;
use csm_common::fragment::FragmentKey;
use csm_common::limits::FRAGMENT_LIFE_NS;

/// Most frames of one datagram: one of 65,535 octets in pieces of an Ethernet frame has 45.
pub const PER_DATAGRAM_MAX: usize = 48;
/// Most frames in all, of at most 2 KiB each.
pub const FRAMES_MAX: usize = 2_048;

/// A frame that waits, as it is to be given to the program once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Interface index of the port it came in on.
    pub ifindex: u32,
    /// The frame as it came in, its tag included.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// A frame of which the program took off the tag of VLAN `tag`, 0 for none, and noted the rest as `bytes`.
    #[must_use]
    pub fn new(ifindex: u32, tag: u16, bytes: &[u8]) -> Self {
        if tag == 0 || bytes.len() < ADDRESSES {
            return Self { ifindex, bytes: bytes.to_vec() };
        }
        let (addresses, rest) = bytes.split_at(ADDRESSES);
        let bytes = [addresses, &[0x81, 0x00], &tag.to_be_bytes(), rest].concat();
        Self { ifindex, bytes }
    }
}

/// Octets of an Ethernet header before a tag.
const ADDRESSES: usize = 12;

#[derive(Debug)]
struct Datagram {
    since_ns: u64,
    frames: Vec<Frame>,
}

/// All of one family that wait.
#[derive(Debug)]
pub struct Waiting<A: Address = u32> {
    datagrams: HashMap<FragmentKey<A>, Datagram>,
    frames: usize,
}

impl<A: Address> Default for Waiting<A> {
    fn default() -> Self {
        Self { datagrams: HashMap::new(), frames: 0 }
    }
}

impl<A: Address> Waiting<A> {
    /// Keeps a frame from `now_ns` on; `false` if there is no room.
    pub fn keep(&mut self, key: FragmentKey<A>, frame: Frame, now_ns: u64) -> bool {
        if self.frames >= FRAMES_MAX {
            return false;
        }
        let datagram =
            self.datagrams.entry(key).or_insert_with(|| Datagram { since_ns: now_ns, frames: Vec::new() });
        if datagram.frames.len() >= PER_DATAGRAM_MAX {
            return false;
        }
        datagram.frames.push(frame);
        self.frames += 1;
        true
    }

    /// The frames of `key` in the order in which they came: its first fragment has gone on.
    pub fn release(&mut self, key: &FragmentKey<A>) -> Vec<Frame> {
        let frames = self.datagrams.remove(key).map_or_else(Vec::new, |datagram| datagram.frames);
        self.frames -= frames.len();
        frames
    }

    /// Drops what has waited too long at `now_ns`, and says how many frames that were.
    pub fn expire(&mut self, now_ns: u64) -> usize {
        let before = self.frames;
        self.datagrams.retain(|_, datagram| {
            let stays = now_ns.saturating_sub(datagram.since_ns) < FRAGMENT_LIFE_NS;
            if !stays {
                self.frames -= datagram.frames.len();
            }
            stays
        });
        before - self.frames
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use csm_common::fragment::FragmentKey;
    use csm_common::limits::FRAGMENT_LIFE_NS;

    use super::{FRAMES_MAX, Frame, PER_DATAGRAM_MAX, Waiting};

    fn key(id_be: u32) -> FragmentKey {
        FragmentKey { src_be: 1, dst_be: 2, id_be, vlan: 2, proto: 17, pad: 0 }
    }

    fn frame(ifindex: u32) -> Frame {
        Frame { ifindex, bytes: vec![0; 60] }
    }

    #[test]
    fn frames_come_back_in_order_and_once() {
        let mut waiting = Waiting::<u32>::default();
        assert!(waiting.keep(key(1), frame(10), 0) && waiting.keep(key(1), frame(11), 5));
        assert!(waiting.keep(key(2), frame(20), 6));
        assert_eq!(waiting.release(&key(1)), [frame(10), frame(11)]);
        assert_eq!(waiting.release(&key(1)), []);
        assert!(!waiting.is_empty());
        assert_eq!(waiting.release(&key(2)), [frame(20)]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn time_runs_from_the_first_that_waits() {
        let mut waiting = Waiting::<u32>::default();
        assert!(waiting.keep(key(1), frame(10), 0) && waiting.keep(key(1), frame(11), FRAGMENT_LIFE_NS - 1));
        assert!(waiting.keep(key(2), frame(20), 1));
        assert_eq!(waiting.expire(FRAGMENT_LIFE_NS - 1), 0);
        assert_eq!(waiting.expire(FRAGMENT_LIFE_NS), 2);
        assert_eq!(waiting.release(&key(1)), []);
        assert_eq!(waiting.release(&key(2)), [frame(20)]);
    }

    #[test]
    fn there_is_room_for_only_so_many() {
        let mut waiting = Waiting::<u32>::default();
        for _ in 0..PER_DATAGRAM_MAX {
            assert!(waiting.keep(key(0), frame(1), 0));
        }
        assert!(!waiting.keep(key(0), frame(1), 0), "of one datagram");
        for id in 1..=u32::try_from(FRAMES_MAX - PER_DATAGRAM_MAX).unwrap() {
            assert!(waiting.keep(key(id), frame(1), 0));
        }
        assert!(!waiting.keep(key(u32::MAX), frame(1), 0), "in all");
        assert_eq!(waiting.expire(FRAGMENT_LIFE_NS), FRAMES_MAX);
        assert!(waiting.is_empty() && waiting.keep(key(0), frame(1), FRAGMENT_LIFE_NS));
    }

    #[test]
    fn a_tag_is_put_back_behind_the_addresses() {
        let bytes = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 8, 0, 0x45];
        assert_eq!(Frame::new(7, 0, &bytes).bytes, bytes);
        let tagged = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0x81, 0, 1, 2, 8, 0, 0x45];
        assert_eq!(Frame::new(7, 258, &bytes), Frame { ifindex: 7, bytes: tagged.to_vec() });
    }
}
