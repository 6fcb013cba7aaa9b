//! `bpf(2)` as far as the benches need it: programs of a few instructions, made by hand so that no compiler has a say.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

pub use csm_tests::tc::instruction;

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const MAP_LOOKUP: libc::c_long = 1;
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
const LINK_CREATE: libc::c_long = 28;

const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
/// `XDP_FLAGS_DRV_MODE`.
const IN_THE_DRIVER: u32 = 1 << 2;
/// `BPF_F_XDP_HAS_FRAGS`: a program may only call one that is as this one in that respect.
const HAS_FRAGS: u32 = 1 << 5;
/// `BPF_F_TEST_XDP_LIVE_FRAMES`.
const LIVE_FRAMES: u32 = 1 << 1;
/// Frames that a live run makes, hands to the program and sends on together: a NAPI poll's budget.
const LIVE_BATCH: u32 = 64;

/// Types of maps (linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MapType {
    /// `BPF_MAP_TYPE_HASH`.
    Hash = 1,
    /// `BPF_MAP_TYPE_PROG_ARRAY`.
    Programs = 3,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray = 6,
    /// `BPF_MAP_TYPE_DEVMAP`.
    Devices = 14,
}

/// Loads a map's address into `register`, in two slots.
#[must_use]
pub fn load_map(register: u8, map: RawFd) -> [u64; 2] {
    [instruction(0x18, 0x10 | register, 0, map), instruction(0, 0, 0, 0)]
}

/// The fields of `union bpf_attr` for BPF_MAP_CREATE.
#[repr(C)]
struct MapAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// The fields of `union bpf_attr` for look-ups and updates.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The fields of `union bpf_attr` for BPF_PROG_LOAD, as far as they are needed.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The fields of `union bpf_attr` for BPF_PROG_TEST_RUN.
#[repr(C)]
#[derive(Default)]
struct RunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

/// The fields of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct LinkAttr {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
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
fn number(descriptor: RawFd) -> u32 {
    descriptor.cast_unsigned()
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a frame")
}

/// Makes a map.
///
/// # Errors
/// The kernel's, without root.
pub fn map(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> io::Result<OwnedFd> {
    let mut attr = MapAttr { map_type: map_type as u32, key_size, value_size, max_entries };
    // SAFETY: there is no address in it.
    unsafe { bpf(MAP_CREATE, &mut attr) }.map(owned)
}

/// Sets an element; `key` and `value` must be as long as the map was made for.
///
/// # Errors
/// The kernel's.
pub fn update(map: RawFd, key: &[u8], value: &[u8]) -> io::Result<()> {
    let (key, value) = (key.as_ptr() as u64, value.as_ptr() as u64);
    let mut attr = ElementAttr { map_fd: number(map), pad: 0, key, value, flags: 0 };
    // SAFETY: key and value live through the call and have the map's sizes, as the caller promises.
    unsafe { bpf(MAP_UPDATE, &mut attr) }.map(|_| ())
}

/// Sum over all possible CPUs of element 0 of a per-CPU array of one `u64`.
///
/// # Errors
/// The kernel's.
///
/// # Panics
/// Never: the buffer is larger than any number of CPUs here.
pub fn per_cpu_sum(map: RawFd) -> io::Result<u64> {
    let key = 0_u32.to_ne_bytes();
    let mut values = [0_u64; 1024];
    let (key, value) = (key.as_ptr() as u64, values.as_mut_ptr() as u64);
    let mut attr = ElementAttr { map_fd: number(map), pad: 0, key, value, flags: 0 };
    // SAFETY: the key lives through the call, and the buffer has room for 1024 CPUs, zero where there is none.
    unsafe { bpf(MAP_LOOKUP, &mut attr) }?;
    Ok(values.iter().sum())
}

/// Loads an XDP program.
///
/// # Errors
/// The kernel's, without root.
///
/// # Panics
/// Never: a program is short.
pub fn load(instructions: &[u64]) -> io::Result<OwnedFd> {
    let mut attr = LoadAttr {
        prog_type: PROG_TYPE_XDP,
        insn_cnt: u32::try_from(instructions.len()).expect("a few"),
        insns: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        prog_flags: HAS_FRAGS,
        expected_attach_type: ATTACH_XDP,
        ..LoadAttr::default()
    };
    // SAFETY: instructions and licence live through the call; their number is given, or they end in a zero.
    unsafe { bpf(PROG_LOAD, &mut attr) }.map(owned)
}

/// Attaches a program to an interface, in its driver, as long as the descriptor lives.
///
/// # Errors
/// The kernel's.
pub fn attach(program: RawFd, ifindex: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkAttr {
        prog_fd: number(program),
        target_ifindex: ifindex,
        attach_type: ATTACH_XDP,
        flags: IN_THE_DRIVER,
    };
    // SAFETY: there is no address in it.
    unsafe { bpf(LINK_CREATE, &mut attr) }.map(owned)
}

/// What a run of a program gave.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Mean of one run, whole nanoseconds.
    pub duration: Duration,
    /// What the last run returned.
    pub verdict: u32,
}

/// Runs `program` `repeat` times on `frame` as received on interface `ifindex`; the kernel runs it over and over on one
/// buffer and does not restore it.
///
/// # Errors
/// The kernel's.
pub fn test_run(program: RawFd, ifindex: u32, frame: &[u8], repeat: u32) -> io::Result<Run> {
    let mut out = vec![0_u8; frame.len() + 64];
    let attr = RunAttr {
        data_size_out: length(&out),
        data_out: out.as_mut_ptr() as u64,
        repeat,
        ..RunAttr::default()
    };
    run(program, ifindex, frame, &attr)
}

/// As [`test_run`], with frames that go where the program sends them, in batches of 64.
///
/// # Errors
/// The kernel's.
pub fn live_run(program: RawFd, ifindex: u32, frame: &[u8], repeat: u32) -> io::Result<Run> {
    let attr = RunAttr { repeat, flags: LIVE_FRAMES, batch_size: LIVE_BATCH, ..RunAttr::default() };
    run(program, ifindex, frame, &attr)
}

fn run(program: RawFd, ifindex: u32, frame: &[u8], attr: &RunAttr) -> io::Result<Run> {
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let words = [0, length(frame), 0, ifindex, 0, 0];
    let context: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
    let mut attr = RunAttr {
        prog_fd: number(program),
        data_size_in: length(frame),
        data_in: frame.as_ptr() as u64,
        ctx_size_in: length(&context),
        ctx_in: context.as_ptr() as u64,
        ..*attr
    };
    // SAFETY: all buffers live through the call, and their lengths are given.
    unsafe { bpf(PROG_TEST_RUN, &mut attr) }?;
    Ok(Run { duration: Duration::from_nanos(u64::from(attr.duration)), verdict: attr.retval })
}

/// The descriptor's number, for what takes one.
#[must_use]
pub fn raw(descriptor: &OwnedFd) -> RawFd {
    descriptor.as_raw_fd()
}
