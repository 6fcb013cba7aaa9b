//! The program's places on the interfaces.

use std::ffi::CString;
use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::dataplane::bpf::{address, bpf};

const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const OBJ_GET_INFO: libc::c_int = 15;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;

/// BPF_XDP of linux/bpf.h.
const ATTACH_XDP: u32 = 37;
/// BPF_LINK_TYPE_XDP of linux/bpf.h.
const TYPE_XDP: u32 = 6;

/// `union bpf_attr` for BPF_LINK_CREATE (linux/bpf.h).
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// `union bpf_attr` for BPF_LINK_UPDATE (linux/bpf.h).
#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// `union bpf_attr` for BPF_LINK_DETACH (linux/bpf.h).
#[repr(C)]
struct LinkDetach {
    link_fd: u32,
}

/// `union bpf_attr` for BPF_OBJ_PIN and BPF_OBJ_GET (linux/bpf.h).
#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `union bpf_attr` for BPF_OBJ_GET_INFO_BY_FD (linux/bpf.h).
#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_link_info` of an XDP link (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    pad: u32,
    ifindex: u32,
    rest: [u32; 7],
}

/// An XDP program's place on an interface (kernel 5.9: aa8d3a716b59): it leaves with this, unless it is pinned.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Puts `program` on interface `ifindex`; `flags` are XDP_FLAGS_* of linux/if_link.h.
    ///
    /// # Errors
    /// Of the system call.
    pub fn create(program: BorrowedFd<'_>, ifindex: u32, flags: u32) -> io::Result<Self> {
        let prog_fd = program.as_raw_fd().unsigned_abs();
        let attr = LinkCreate { prog_fd, target_ifindex: ifindex, attach_type: ATTACH_XDP, flags };
        descriptor(LINK_CREATE, &attr).map(Self)
    }

    /// The one that is pinned at `path`.
    ///
    /// # Errors
    /// Of the system call.
    pub fn pinned(path: &Path) -> io::Result<Self> {
        let path = c_path(path)?;
        descriptor(OBJ_GET, &Object { path: path.as_ptr() as u64, fd: 0, flags: 0 }).map(Self)
    }

    /// Keeps it at `path` beyond the end of this process.
    ///
    /// # Errors
    /// Of the system call: `path` is taken, or lies in no BPF file system.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        let path = c_path(path)?;
        let mut attr = Object { path: path.as_ptr() as u64, fd: self.0.as_raw_fd().unsigned_abs(), flags: 0 };
        // SAFETY: the path is a live string with a zero at its end, which the kernel only reads.
        unsafe { bpf(OBJ_PIN, &mut attr) }
    }

    /// Index of its interface; 0 if that is gone.
    ///
    /// # Errors
    /// Of the system call, or if it is no XDP link.
    pub fn ifindex(&self) -> io::Result<u32> {
        let mut info = LinkInfo::default();
        let length = u32::try_from(size_of::<LinkInfo>()).map_err(io::Error::other)?;
        let mut attr = GetInfo {
            fd: self.0.as_raw_fd().unsigned_abs(),
            length,
            info: std::ptr::from_mut(&mut info) as u64,
        };
        // SAFETY: the kernel writes at most `length` octets to `info`.
        unsafe { bpf(OBJ_GET_INFO, &mut attr) }?;
        if info.kind == TYPE_XDP { Ok(info.ifindex) } else { Err(io::Error::other("no XDP link")) }
    }

    /// The program leaves its interface now (kernel 5.9: 73b11c2ab072), pinned or not. What is only let go of leaves some moments later,
    /// and until then nothing else has room there.
    ///
    /// # Errors
    /// Of the system call.
    pub fn detach(&self) -> io::Result<()> {
        let mut attr = LinkDetach { link_fd: self.0.as_raw_fd().unsigned_abs() };
        // SAFETY: the attribute holds no addresses.
        unsafe { bpf(LINK_DETACH, &mut attr) }
    }

    /// Puts `program` in the place of the one that is there: each packet meets one of them.
    ///
    /// # Errors
    /// Of the system call; the one that was there stays then.
    pub fn replace(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let new_prog_fd = program.as_raw_fd().unsigned_abs();
        let link_fd = self.0.as_raw_fd().unsigned_abs();
        let mut attr = LinkUpdate { link_fd, new_prog_fd, flags: 0, old_prog_fd: 0 };
        // SAFETY: the attribute holds no addresses.
        unsafe { bpf(LINK_UPDATE, &mut attr) }
    }
}

/// Runs a command that returns a new descriptor.
fn descriptor<A>(command: libc::c_int, attr: &A) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is the form that `command` takes; an address in it is a string that the caller keeps.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, address(attr), size_of_val(attr)) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just made it, and nobody else has it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}
