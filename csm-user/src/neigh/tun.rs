//! An interface that is there as long as a process has it open: a TUN device, whose routes the kernel removes with it.

use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::netlink::Netlink;

const DEVICE: &str = "/dev/net/tun";
/// TUNSETIFF and TUNGETIFF of linux/if_tun.h.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNGETIFF: libc::c_ulong = 0x8004_54d2;
/// IFF_TUN and IFF_NO_PI of linux/if_tun.h.
const FLAGS: libc::c_short = 0x1001;

/// The interface. What the kernel sends to it is read by nobody, and dropped once its queue is full.
#[derive(Debug)]
pub struct Tun {
    descriptor: OwnedFd,
    /// Its index.
    pub ifindex: u32,
}

impl Tun {
    /// Makes interface `name`.
    ///
    /// # Errors
    /// Of the system calls: `NotFound` where the kernel has no TUN devices, EBUSY if another process has that name.
    pub fn open(name: &str) -> io::Result<Self> {
        Self::set_up(make(name)?, name)
    }

    /// The one that the program before this one in this process has left ([`Tun::hand_on`]); `None`: it left none. To be asked once,
    /// whether or not it is wanted: nobody else closes it.
    ///
    /// # Errors
    /// Of the system calls.
    pub fn inherited(name: &str) -> io::Result<Option<Self>> {
        inherited(name)?.map(|descriptor| Self::set_up(descriptor, name)).transpose()
    }

    fn set_up(descriptor: OwnedFd, name: &str) -> io::Result<Self> {
        fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        // It is to have no address of its own; a kernel without IPv6 has no such file.
        let _none = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/addr_gen_mode"), "1");
        let mut netlink = Netlink::open()?;
        let link = netlink.link(name)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        netlink.set_up(link.ifindex)?;
        Ok(Self { descriptor, ifindex: link.ifindex })
    }

    /// Leaves it to the program that takes this one's place in this process.
    ///
    /// # Errors
    /// Of the system call.
    pub fn hand_on(&self) -> io::Result<()> {
        fcntl(&self.descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(())
    }
}

fn make(name: &str) -> io::Result<OwnedFd> {
    let descriptor = OwnedFd::from(File::options().read(true).write(true).open(DEVICE)?);
    let mut request = blank();
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (into, octet) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *into = octet.cast_signed();
    }
    request.ifr_ifru.ifru_flags = FLAGS;
    // SAFETY: the request takes an `ifreq`, which lives through the call.
    let made = unsafe { libc::ioctl(descriptor.as_raw_fd(), TUNSETIFF, &raw mut request) };
    if made < 0 { Err(io::Error::last_os_error()) } else { Ok(descriptor) }
}

/// The descriptor of `name` that was left open over an execve(2).
fn inherited(name: &str) -> io::Result<Option<OwnedFd>> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        let number: Option<RawFd> = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        let is_tun = fs::read_link(&path).is_ok_and(|target| target.as_os_str() == DEVICE);
        let Some(number) = number.filter(|_| is_tun) else { continue };
        let mut request = blank();
        // SAFETY: the request fills an `ifreq`, which lives through the call.
        let known = unsafe { libc::ioctl(number, TUNGETIFF, &raw mut request) };
        let found =
            request.ifr_name.iter().map(|octet| octet.cast_unsigned()).take_while(|octet| *octet != 0);
        // SAFETY: the number is that of an open file.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        // What this program itself opens is closed on exec.
        let is_left = flags >= 0 && flags & libc::FD_CLOEXEC == 0;
        if known == 0 && is_left && found.eq(name.bytes()) {
            // SAFETY: it is open, of the program before, and nobody in this one knows of it.
            return Ok(Some(unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    Ok(None)
}

fn blank() -> libc::ifreq {
    // SAFETY: all zero is a valid `ifreq`: an empty name, and integers.
    unsafe { mem::zeroed() }
}
