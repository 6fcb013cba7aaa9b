//! TC programs made by hand, of instructions: what the lab's wires do to frames.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const ATTACH_TCX_INGRESS: u32 = 46;
/// `bpf_redirect` of linux/bpf.h.
pub(crate) const REDIRECT: i32 = 23;

/// One BPF instruction: opcode, registers (source high, destination low), offset, immediate (linux/bpf.h).
#[must_use]
pub fn instruction(opcode: u8, registers: u8, offset: i16, immediate: i32) -> u64 {
    let [o0, o1] = offset.to_ne_bytes();
    let [i0, i1, i2, i3] = immediate.to_ne_bytes();
    u64::from_ne_bytes([opcode, registers, o0, o1, i0, i1, i2, i3])
}

/// An interface's index as an immediate value.
pub(crate) fn index(interface: u32) -> i32 {
    interface.cast_signed()
}

/// The fields of `union bpf_attr` for BPF_PROG_LOAD, as far as they are needed.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

/// The fields of `union bpf_attr` for BPF_LINK_CREATE, as far as they are needed.
#[repr(C)]
struct LinkAttr {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Loads a program and has `interface` run it on what comes in, until the descriptor is closed.
///
/// # Errors
/// Without root, or before Linux 6.6.
pub(crate) fn attach(instructions: &[u64], interface: u32) -> io::Result<OwnedFd> {
    let license = CString::new("MIT")?;
    let mut load = LoadAttr {
        prog_type: PROG_TYPE_SCHED_CLS,
        insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
    };
    // SAFETY: instructions and licence live through the call; their number is given, or they end in a zero.
    let program = unsafe { bpf(PROG_LOAD, &mut load) }?;
    let mut link = LinkAttr {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        target_ifindex: interface,
        attach_type: ATTACH_TCX_INGRESS,
        flags: 0,
    };
    // SAFETY: there is no address in it.
    unsafe { bpf(LINK_CREATE, &mut link) }
}

/// `bpf(2)`, for commands that return a descriptor.
///
/// # Safety
/// Every address in `attr` must be good for what `command` reads or writes there.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: `attr` lives through the call and its size is given; the caller answers for the addresses in it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
