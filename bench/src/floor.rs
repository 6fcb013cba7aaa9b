//! The least that a packet can cost here: programs of a few instructions, made by hand so that no compiler has a say.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;

const MAP_TYPE_HASH: u32 = 1;
const PROG_TYPE_XDP: u32 = 6;
/// `XDP_TX`.
const VERDICT: i32 = 3;
/// Octets of the key that is looked up: as many as a flow's key has.
const KEY: u32 = 16;

/// One BPF instruction: opcode, registers (source high, destination low), offset, immediate (linux/bpf.h).
fn instruction(opcode: u8, registers: u8, offset: i16, immediate: i32) -> u64 {
    let [o0, o1] = offset.to_ne_bytes();
    let [i0, i1, i2, i3] = immediate.to_ne_bytes();
    u64::from_ne_bytes([opcode, registers, o0, o1, i0, i1, i2, i3])
}

/// The fields of `union bpf_attr` for BPF_MAP_CREATE.
#[repr(C)]
struct MapAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// The fields of `union bpf_attr` for BPF_MAP_UPDATE_ELEM.
#[repr(C)]
struct UpdateAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The fields of `union bpf_attr` for BPF_PROG_LOAD, as far as they are needed.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

/// The fields of `union bpf_attr` for BPF_PROG_TEST_RUN, as far as they are needed.
#[repr(C)]
struct RunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// `bpf(2)`.
///
/// # Safety
/// Every address in `attr` must be good for what `command` reads or writes there.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: `attr` lives through the call and its size is given; the caller answers for the addresses in it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(result).unwrap_or(0)) }
}

/// Takes over a descriptor that the kernel has just made.
fn owned(descriptor: i32) -> OwnedFd {
    // SAFETY: the kernel returned it to us and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// A descriptor as the kernel's structures have it.
fn number(descriptor: &OwnedFd) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

/// A loaded program.
#[derive(Debug)]
pub struct Floor {
    program: OwnedFd,
    /// Kept while the program uses it.
    _map: Option<OwnedFd>,
}

impl Floor {
    /// A program that returns at once: the price of the harness.
    ///
    /// # Errors
    /// The kernel's, without root.
    pub fn empty() -> io::Result<Self> {
        let program = load(&[instruction(0xb7, 0, 0, VERDICT), instruction(0x95, 0, 0, 0)])?;
        Ok(Self { program, _map: None })
    }

    /// A program that finds one key in a hash map: the price of a dataplane that only looks up.
    ///
    /// # Errors
    /// The kernel's, without root.
    pub fn one_lookup() -> io::Result<Self> {
        let map = map_with_one_key()?;
        let descriptor = map.as_raw_fd();
        let program = load(&[
            instruction(0x7a, 10, -8, 0),           // *(u64 *)(r10 - 8) = 0
            instruction(0x7a, 10, -16, 0),          // *(u64 *)(r10 - 16) = 0
            instruction(0x18, 0x11, 0, descriptor), // r1 = map, in two slots
            instruction(0, 0, 0, 0),
            instruction(0xbf, 0xa2, 0, 0),    // r2 = r10
            instruction(0x07, 0x02, 0, -16),  // r2 += -16
            instruction(0x85, 0, 0, 1),       // call bpf_map_lookup_elem
            instruction(0xb7, 0, 0, VERDICT), // r0 = XDP_TX
            instruction(0x95, 0, 0, 0),       // exit
        ])?;
        Ok(Self { program, _map: Some(map) })
    }

    /// Runs the program `repeat` times on `frame`; the mean of one run, in whole nanoseconds.
    ///
    /// # Errors
    /// The kernel's.
    pub fn test_run(&self, frame: &[u8], repeat: u32) -> io::Result<Duration> {
        let mut out = vec![0_u8; frame.len() + 64];
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a frame");
        let mut attr = RunAttr {
            prog_fd: number(&self.program),
            retval: 0,
            data_size_in: length(frame),
            data_size_out: length(&out),
            data_in: frame.as_ptr() as u64,
            data_out: out.as_mut_ptr() as u64,
            repeat,
            duration: 0,
        };
        // SAFETY: both buffers live through the call, and their lengths are given.
        unsafe { bpf(PROG_TEST_RUN, &mut attr) }?;
        assert_eq!(attr.retval.cast_signed(), VERDICT, "the program ran to its end");
        Ok(Duration::from_nanos(u64::from(attr.duration)))
    }
}

fn load(instructions: &[u64]) -> io::Result<OwnedFd> {
    let mut attr = LoadAttr {
        prog_type: PROG_TYPE_XDP,
        insn_cnt: u32::try_from(instructions.len()).expect("a few"),
        insns: instructions.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
    };
    // SAFETY: instructions and licence live through the call; their number is given, or they end in a zero.
    unsafe { bpf(PROG_LOAD, &mut attr) }.map(owned)
}

fn map_with_one_key() -> io::Result<OwnedFd> {
    let mut attr = MapAttr { map_type: MAP_TYPE_HASH, key_size: KEY, value_size: 8, max_entries: 64 };
    // SAFETY: there is no address in it.
    let map = unsafe { bpf(MAP_CREATE, &mut attr) }.map(owned)?;
    let (key, value) = ([0_u8; KEY as usize], [0_u8; 8]);
    let mut attr = UpdateAttr {
        map_fd: number(&map),
        pad: 0,
        key: key.as_ptr() as u64,
        value: value.as_ptr() as u64,
        flags: 0,
    };
    // SAFETY: key and value live through the call and have the sizes that the map was made with.
    unsafe { bpf(MAP_UPDATE, &mut attr) }?;
    Ok(map)
}
