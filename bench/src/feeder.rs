//! Makes frames in the kernel: a program that writes each frame anew, of one flow of many, and hands it to another.
//!
//! BPF_PROG_TEST_RUN and live frames leave a rewritten frame in place. So every octet of the headers is written for each run,
//! and what the program under test did to the frame before does not matter.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use crate::bpf::{self, MapType, Run, instruction, load, load_map, map, raw, update};
use crate::floor::DROP;

/// Multiplier of a linear congruential generator modulo 2^64 (Knuth, MMIX).
const MULTIPLIER: u64 = 6_364_136_223_846_793_005;

/// Where the IPv4 identification stands.
const ID_AT: usize = 18;

/// Whether a frame is one of IPv6.
#[must_use]
pub fn is_v6(frame: &[u8]) -> bool {
    frame[12..14] == [0x86, 0xdd]
}

/// Where the TCP sequence number of `frame` stands. What the program before left there, which must be what the feeder wrote,
/// is part of the next flow's number: a program that writes there what it has looked up makes each look-up wait for the one
/// before.
#[must_use]
pub fn chain_at(frame: &[u8]) -> usize {
    if is_v6(frame) { 58 } else { 38 }
}

/// Which flow the next frame is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any, equally likely.
    Random,
    /// One after the other, from number 0 on.
    InTurn,
}

/// What is fed.
#[derive(Clone, Debug)]
pub struct Feed {
    /// The frame of flow 0.
    pub frame: Vec<u8>,
    /// Where in the frame the client's address stands, or its last four octets, to which the flow's number is added. Its
    /// low half is 0: the IPv4 identification becomes the complement of the flow's, so that the header's checksum holds for
    /// 65,536 flows.
    pub client_at: usize,
    /// Flows, a power of two.
    pub flows: u32,
    /// Their order.
    pub order: Order,
}

/// The loaded feeder of one program.
#[derive(Debug)]
pub struct Feeder {
    program: OwnedFd,
    frame: Vec<u8>,
    /// Kept while the program uses them.
    _maps: [OwnedFd; 2],
}

impl Feeder {
    /// Feeds program `next`.
    ///
    /// # Errors
    /// The kernel's, without root.
    ///
    /// # Panics
    /// If `flows` is no power of two or the frame has no room for an address at `client_at`.
    pub fn new(feed: &Feed, next: RawFd) -> io::Result<Self> {
        let programs = map(MapType::Programs, 4, 4, 1)?;
        update(raw(&programs), &0_u32.to_ne_bytes(), &next.to_ne_bytes())?;
        let state = map(MapType::PerCpuArray, 4, 8, 1)?;
        let program = load(&assemble(feed, raw(&state), raw(&programs)))?;
        Ok(Self { program, frame: feed.frame.clone(), _maps: [programs, state] })
    }

    /// The feeder's descriptor.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        raw(&self.program)
    }

    /// Nanoseconds a frame, the feeder's own work included, over `repeat` frames received on `ifindex`.
    ///
    /// # Panics
    /// If the kernel refuses, or the last frame's verdict is not `expected`.
    #[must_use]
    pub fn test_run(&self, ifindex: u32, repeat: u32, expected: u32) -> Duration {
        let Run { duration, verdict } =
            bpf::test_run(self.fd(), ifindex, &self.frame, repeat).expect("a test run");
        assert_eq!(verdict, expected, "the verdict on the last frame");
        duration
    }

    /// Sends `repeat` live frames, as received on `ifindex`; nanoseconds a frame, as the kernel counts them: without the time
    /// that making the first pages takes, or another process.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn live_run(&self, ifindex: u32, repeat: u32) -> Duration {
        bpf::live_run(self.fd(), ifindex, &self.frame, repeat).expect("a live run").duration
    }
}

/// The program: bounds, the template, the flow's number, the client's address, and on.
fn assemble(feed: &Feed, state: RawFd, programs: RawFd) -> Vec<u64> {
    assert!(feed.flows.is_power_of_two() && feed.frame.len() >= feed.client_at + 4, "{feed:?}");
    let at = |offset: usize| i16::try_from(offset).expect("a frame");
    let chain_at = chain_at(&feed.frame);
    let chain = i32::from_ne_bytes(feed.frame[chain_at..][..4].try_into().expect("four octets"));
    let first = u32::from_be_bytes(feed.frame[feed.client_at..][..4].try_into().expect("four octets"));
    let mut program = vec![
        instruction(0xbf, 0x16, 0, 0), // r6 = context
        instruction(0x61, 0x17, 0, 0), // r7 = data
        instruction(0x61, 0x13, 4, 0), // r3 = data_end
        instruction(0xbf, 0x74, 0, 0), // r4 = r7
        instruction(0x07, 0x04, 0, i32::from(at(feed.frame.len()))),
        instruction(0xbd, 0x34, 2, 0), // if r4 <= r3, on
        instruction(0xb7, 0, 0, DROP.cast_signed()),
        instruction(0x95, 0, 0, 0), // exit
    ];
    program.push(instruction(0x61, 0x78, at(chain_at), 0)); // r8 = *(u32 *)(r7 + chain_at)
    let (words, rest) = feed.frame.as_chunks::<4>();
    for (index, word) in words.iter().enumerate() {
        program.push(instruction(0x62, 7, at(index * 4), i32::from_ne_bytes(*word)));
    }
    for (index, &octet) in rest.iter().enumerate() {
        program.push(instruction(0x72, 7, at(words.len() * 4 + index), i32::from(octet)));
    }
    program.push(instruction(0x62, 10, -4, 0)); // *(u32 *)(r10 - 4) = 0
    program.extend(load_map(1, state));
    program.extend([
        instruction(0xbf, 0xa2, 0, 0),  // r2 = r10
        instruction(0x07, 0x02, 0, -4), // r2 += -4
        instruction(0x85, 0, 0, 1),     // call bpf_map_lookup_elem
        instruction(0x55, 0, 1, 0),     // if found, on
        instruction(0x95, 0, 0, 0),     // exit: r0 is 0, aborted
        instruction(0x79, 0x01, 0, 0),  // r1 = the state
        instruction(0xbf, 0x12, 0, 0),  // r2 = r1
    ]);
    match feed.order {
        Order::Random => {
            let [low, high] = [MULTIPLIER & 0xffff_ffff, MULTIPLIER >> 32]
                .map(|half| u32::try_from(half).expect("a half").cast_signed());
            program.extend([
                instruction(0x18, 3, 0, low), // r3 = MULTIPLIER, in two slots
                instruction(0, 0, 0, high),
                instruction(0x2f, 0x31, 0, 0), // r1 *= r3
                instruction(0x07, 1, 0, 1),    // r1 += 1
                instruction(0xbf, 0x12, 0, 0), // r2 = r1
                instruction(0x77, 2, 0, 33),   // r2 >>= 33
            ]);
        }
        Order::InTurn => program.push(instruction(0x07, 1, 0, 1)), // r1 += 1
    }
    program.extend([
        instruction(0x7b, 0x10, 0, 0),                           // the state = r1
        instruction(0x57, 2, 0, (feed.flows - 1).cast_signed()), // r2 &= flows - 1
        instruction(0x04, 8, 0, chain.wrapping_neg()),           // w8 -= what was written there
        instruction(0x0f, 0x82, 0, 0),                           // r2 += r8, 0
        instruction(0x04, 2, 0, first.cast_signed()),            // w2 += first
    ]);
    if !is_v6(&feed.frame) {
        program.extend([
            instruction(0xbf, 0x24, 0, 0),         // r4 = r2
            instruction(0xa7, 4, 0, 0xffff),       // r4 ^= ffff
            instruction(0xdc, 4, 0, 16),           // r4 = be16 r4
            instruction(0x6b, 0x47, at(ID_AT), 0), // *(u16 *)(r7 + ID_AT) = r4
        ]);
    }
    program.extend([
        instruction(0xdc, 2, 0, 32),                    // r2 = be32 r2
        instruction(0x63, 0x27, at(feed.client_at), 0), // *(u32 *)(r7 + client_at) = r2
        instruction(0xbf, 0x61, 0, 0),                  // r1 = context
    ]);
    program.extend(load_map(2, programs));
    program.extend([
        instruction(0xb7, 3, 0, 0),  // r3 = 0
        instruction(0x85, 0, 0, 12), // call bpf_tail_call
        instruction(0xb7, 0, 0, 0),  // r0 = 0: aborted
        instruction(0x95, 0, 0, 0),  // exit
    ]);
    program
}
