//! What a packet costs at the least: a program that returns at once, and one that does a single look-up.

use std::io;
use std::os::fd::OwnedFd;

use crate::bpf::{MapType, instruction, load, load_map, map, per_cpu_sum, raw, update};
use crate::feeder::{Feed, chain_at, is_v6};

/// `XDP_DROP`.
pub const DROP: u32 = 1;
/// `XDP_PASS`.
pub const PASS: u32 = 2;
/// `XDP_TX`.
pub const TX: u32 = 3;
/// `XDP_REDIRECT`.
pub const REDIRECT: u32 = 4;

/// Octets of the key that is looked up and of the value: as many as a flow's have.
const SIZES: [(u32, u32); 2] = [(16, 64), (40, 96)];

/// A loaded program.
#[derive(Debug)]
pub struct Floor {
    program: OwnedFd,
    /// Kept while the program uses it.
    _map: Option<OwnedFd>,
}

impl Floor {
    /// The program's descriptor.
    #[must_use]
    pub fn fd(&self) -> i32 {
        raw(&self.program)
    }

    /// A program that returns at once: the price of the harness.
    ///
    /// # Errors
    /// The kernel's, without root.
    pub fn empty() -> io::Result<Self> {
        Self::returning(TX)
    }

    /// A program that returns `verdict` at once.
    ///
    /// # Errors
    /// As [`Self::empty`].
    pub fn returning(verdict: u32) -> io::Result<Self> {
        let program = load(&[instruction(0xb7, 0, 0, verdict.cast_signed()), instruction(0x95, 0, 0, 0)])?;
        Ok(Self { program, _map: None })
    }

    /// A program that looks the last four octets of the frame's source address up in a hash map that holds those of `feed`'s
    /// flows, and as many more that are not looked up, and has room for `room`; and that reads a word of what it found: the
    /// price of a dataplane that only looks up. With `chained`, the word is what the feeder writes as the sequence number, and
    /// is put there.
    ///
    /// # Errors
    /// As [`Self::empty`].
    pub fn one_lookup(feed: &Feed, room: u32, chained: bool) -> io::Result<Self> {
        let at = |place: usize| i16::try_from(place).expect("a frame");
        let chain_at = chain_at(&feed.frame);
        let four = |place: usize| <[u8; 4]>::try_from(&feed.frame[place..place + 4]).expect("four octets");
        let first = u32::from_be_bytes(four(feed.client_at));
        let (key_size, value_size) = SIZES[usize::from(is_v6(&feed.frame))];
        let table = map(MapType::Hash, key_size, value_size, room)?;
        let (mut key, mut value) = (vec![0; key_size as usize], vec![0; value_size as usize]);
        for flow in 0..feed.flows {
            key[..4].copy_from_slice(&(first + flow).to_be_bytes());
            key[15] = 0;
            value[..4].copy_from_slice(&if chained { four(chain_at) } else { [0; 4] });
            update(raw(&table), &key, &value)?;
            // The other direction's, which stands beside it.
            key[15] = 1;
            value[..4].fill(0);
            update(raw(&table), &key, &value)?;
        }
        // Into the frame, or onto the stack.
        let stack = -at(key_size as usize);
        let written = if chained {
            instruction(0x63, 0x16, at(chain_at), 0)
        } else {
            instruction(0x63, 0x1a, stack, 0)
        };
        let mut program = vec![
            instruction(0x61, 0x12, 0, 0), // r2 = data
            instruction(0x61, 0x13, 4, 0), // r3 = data_end
            instruction(0xbf, 0x26, 0, 0), // r6 = r2
            instruction(0xbf, 0x24, 0, 0), // r4 = r2
            instruction(0x07, 0x04, 0, i32::from(at(chain_at + 4))),
            instruction(0xbd, 0x34, 2, 0), // if r4 <= r3, on
            instruction(0xb7, 0, 0, DROP.cast_signed()),
            instruction(0x95, 0, 0, 0),                     // exit
            instruction(0x61, 0x24, at(feed.client_at), 0), // r4 = the client's address
        ];
        program.extend((stack..0).step_by(8).map(|place| instruction(0x7a, 10, place, 0))); // *(u64 *)(r10 + place) = 0
        program.push(instruction(0x63, 0x4a, stack, 0)); // *(u32 *)(r10 + stack) = r4
        program.extend(load_map(1, raw(&table)));
        program.extend([
            instruction(0xbf, 0xa2, 0, 0),                // r2 = r10
            instruction(0x07, 0x02, 0, i32::from(stack)), // r2 += stack
            instruction(0x85, 0, 0, 1),                   // call bpf_map_lookup_elem
            instruction(0x15, 0, 4, 0),                   // if not found, to the end
            instruction(0x61, 0x01, 0, 0),                // r1 = the value's first word
            written,
            instruction(0xb7, 0, 0, TX.cast_signed()),
            instruction(0x95, 0, 0, 0), // exit
            instruction(0xb7, 0, 0, DROP.cast_signed()),
            instruction(0x95, 0, 0, 0), // exit
        ]);
        Ok(Self { program: load(&program)?, _map: Some(table) })
    }

    /// A program that sends every frame out of interface `ifindex`: the price of the kernel's redirect alone.
    ///
    /// # Errors
    /// As [`Self::empty`].
    pub fn bare_redirect(ifindex: u32) -> io::Result<Self> {
        let devices = map(MapType::Devices, 4, 4, 1)?;
        update(raw(&devices), &0_u32.to_ne_bytes(), &ifindex.to_ne_bytes())?;
        let mut program = load_map(1, raw(&devices)).to_vec();
        program.extend([
            instruction(0xb7, 2, 0, 0),  // r2 = 0
            instruction(0xb7, 3, 0, 0),  // r3 = 0
            instruction(0x85, 0, 0, 51), // call bpf_redirect_map
            instruction(0x95, 0, 0, 0),  // exit
        ]);
        Ok(Self { program: load(&program)?, _map: Some(devices) })
    }
}

/// Counts frames and drops them.
#[derive(Debug)]
pub struct Sink {
    program: OwnedFd,
    count: OwnedFd,
}

impl Sink {
    /// Loads it.
    ///
    /// # Errors
    /// The kernel's, without root.
    pub fn new() -> io::Result<Self> {
        let count = map(MapType::PerCpuArray, 4, 8, 1)?;
        let mut program = vec![instruction(0x62, 10, -4, 0)]; // *(u32 *)(r10 - 4) = 0
        program.extend(load_map(1, raw(&count)));
        program.extend([
            instruction(0xbf, 0xa2, 0, 0),  // r2 = r10
            instruction(0x07, 0x02, 0, -4), // r2 += -4
            instruction(0x85, 0, 0, 1),     // call bpf_map_lookup_elem
            instruction(0x15, 0, 3, 0),     // if not found, past the count
            instruction(0x79, 0x01, 0, 0),  // r1 = *r0
            instruction(0x07, 1, 0, 1),     // r1 += 1
            instruction(0x7b, 0x10, 0, 0),  // *r0 = r1
            instruction(0xb7, 0, 0, DROP.cast_signed()),
            instruction(0x95, 0, 0, 0), // exit
        ]);
        Ok(Self { program: load(&program)?, count })
    }

    /// The program's descriptor.
    #[must_use]
    pub fn fd(&self) -> i32 {
        raw(&self.program)
    }

    /// Frames so far.
    ///
    /// # Panics
    /// Never: the map is there.
    #[must_use]
    pub fn frames(&self) -> u64 {
        per_cpu_sum(raw(&self.count)).expect("the sink's map")
    }
}
