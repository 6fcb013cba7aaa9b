//! From one process of csmd to the next, without an end: what is handed over, and the program that goes on with it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::startup::Handed;
use crate::ft::parked::{Parked, RECORD};
use crate::state::Directory;

/// Names the descriptor of what is handed over.
const VARIABLE: &str = "CSM_RESTART";
/// First octet of what is handed over: the copy to be started from.
const COPIES: [(u8, Option<Directory>); 3] =
    [(b'-', None), (b'w', Some(Directory::Working)), (b'c', Some(Directory::Certified))];

/// Goes on as `image`, with the arguments of this process. Returns only if that fails, with the reason: everything is as it
/// was then.
pub(super) fn execute(image: &Path, handed: &Handed) -> io::Error {
    let memory = match write(handed) {
        Ok(memory) => memory,
        Err(error) => return error,
    };
    let arguments = std::env::args_os().skip(1);
    Command::new(image).args(arguments).env(VARIABLE, memory.as_raw_fd().to_string()).exec()
}

/// What the process before has handed to this one.
///
/// # Errors
/// If what was handed over cannot be read.
pub fn handed() -> io::Result<Handed> {
    let Ok(number) = std::env::var(VARIABLE) else { return Ok(Handed::default()) };
    let number: RawFd = number.parse().map_err(io::Error::other)?;
    // SAFETY: the process before left it to this one alone, and this is the only place that takes it: called once.
    let mut memory = File::from(unsafe { OwnedFd::from_raw_fd(number) });
    let mut octets = zeroize::Zeroizing::new(Vec::with_capacity(1 + RECORD));
    memory.rewind()?;
    memory.read_to_end(&mut octets)?;
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "not of this version");
    let (&copy, record) = octets.split_first().ok_or_else(unreadable)?;
    let &(_, from) = COPIES.iter().find(|(octet, _)| *octet == copy).ok_or_else(unreadable)?;
    let parked = if record.is_empty() { None } else { Parked::decode(record) };
    Ok(Handed { from, parked })
}

/// The thread that made it comes before all ordinary ones while it lives: the peer holds for some seconds, and the kernel's
/// verifier and the object's parser need a good part of one, on a host whose processors may all be busy.
pub(super) struct Haste(());

impl Haste {
    pub(super) fn begin() -> Self {
        // What it starts is to be ordinary.
        set_policy(libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK);
        set_nice(-20);
        Self(())
    }
}

impl Drop for Haste {
    fn drop(&mut self) {
        set_nice(0);
        set_policy(libc::SCHED_OTHER);
    }
}

fn set_policy(policy: libc::c_int) {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 stands for the calling thread, and the parameter outlives the call, which only reads it.
    let _refused = unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) };
}

fn set_nice(nice: libc::c_int) {
    // SAFETY: a plain system call; 0 stands for the calling thread. Refused it changes nothing, and nothing hangs on it.
    let _refused = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}

/// In memory without a name, which only whoever has the descriptor can read.
fn write(handed: &Handed) -> io::Result<File> {
    // SAFETY: the name is a string with a zero at its end; without flags the descriptor stays open in the next program.
    let number = unsafe { libc::memfd_create(c"csmd".as_ptr(), 0) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nobody else has it.
    let mut memory = File::from(unsafe { OwnedFd::from_raw_fd(number) });
    let copy = COPIES.iter().find(|(_, from)| *from == handed.from).map_or(b'-', |(octet, _)| *octet);
    memory.write_all(&[copy])?;
    if let Some(parked) = &handed.parked {
        memory.write_all(&parked.encode())?;
    }
    Ok(memory)
}
