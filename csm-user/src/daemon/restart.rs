//! From one process of csmd to the next, without an end: what is handed over, and the program that goes on with it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{SigHandler, Signal, signal};

use crate::ft::parked::{Legacy, Parked, RECORD, decode_restraint, encode_restraint};
use crate::state::Directory;

/// Names the descriptor of what is handed over.
const VARIABLE: &str = "CSM_RESTART";
/// Names the program that is installed, where an image of the state directory runs in its place.
const INSTALLED: &str = "CSM_INSTALLED";
/// Set if the process before was told to stop when it could do nothing but go on.
const STOP: &str = "CSM_STOP";
/// First octet of what is handed over: the copy to be started from. In capitals: four octets follow, the seconds after
/// which the start is taken back unless it is confirmed.
const COPIES: [(u8, Option<Directory>); 3] =
    [(b'-', None), (b'w', Some(Directory::Working)), (b'c', Some(Directory::Certified))];

/// How csmd is to be started anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restarting {
    /// The copy to be started from; `None`: as any start chooses.
    pub from: Option<Directory>,
    /// Back to the certified copy after that time, unless somebody says that the start stays.
    pub rollback: Option<Duration>,
}

/// What one process of csmd hands to the next.
#[derive(Clone, Debug, Default)]
pub struct Handed {
    /// Nothing was handed over: the first process of csmd.
    pub cold: bool,
    /// The copy to be started from.
    pub from: Option<Directory>,
    /// Back to the certified copy after that time.
    pub rollback: Option<Duration>,
    /// The election at rest, its dataplane going on; or what is kept of one that has left.
    pub legacy: Legacy,
    /// Told to stop already: the role is handed over at once.
    pub stop: bool,
}

/// The program that is installed: this one, unless an installed one has handed on to it.
///
/// # Errors
/// If this process's file is not known.
pub fn installed() -> io::Result<PathBuf> {
    std::env::var_os(INSTALLED).map_or_else(std::env::current_exe, |path| Ok(path.into()))
}

/// Goes on as `image`, with the arguments of this process; `installed` is what runs where no image is named. Returns only if
/// that fails, with the reason: everything is as it was then.
pub(super) fn execute(image: &Path, installed: &Path, handed: &Handed) -> io::Error {
    let memory = match write(handed) {
        Ok(memory) => memory,
        Err(error) => return error,
    };
    let arguments = std::env::args_os().skip(1);
    let mut command = Command::new(image);
    command.args(arguments).env(VARIABLE, memory.as_raw_fd().to_string()).env(INSTALLED, installed);
    match handed.stop {
        true => command.env(STOP, "1"),
        false => command.env_remove(STOP),
    };
    let failure = command.exec();
    // What is executed gets the signals' own dispositions; this process goes on, and ignores a closed pipe.
    // SAFETY: no handler is installed.
    let _ignored = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    failure
}

/// What the process before has handed to this one.
///
/// # Errors
/// If what was handed over cannot be read.
pub fn handed() -> io::Result<Handed> {
    let Ok(number) = std::env::var(VARIABLE) else { return Ok(Handed { cold: true, ..Handed::default() }) };
    let number: RawFd = number.parse().map_err(io::Error::other)?;
    // SAFETY: the process before left it to this one alone, and this is the only place that takes it: called once.
    let mut memory = File::from(unsafe { OwnedFd::from_raw_fd(number) });
    let mut octets = zeroize::Zeroizing::new(Vec::with_capacity(1 + RECORD));
    memory.rewind()?;
    memory.read_to_end(&mut octets)?;
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "not of this version");
    let (&copy, rest) = octets.split_first().ok_or_else(unreadable)?;
    let small = copy.to_ascii_lowercase();
    let &(_, from) = COPIES.iter().find(|(octet, _)| *octet == small).ok_or_else(unreadable)?;
    let (rollback, record) = match rest.split_first_chunk() {
        Some((seconds, record)) if copy != small => {
            (Some(Duration::from_secs(u32::from_be_bytes(*seconds).into())), record)
        }
        _ => (None, rest),
    };
    let legacy = Legacy { parked: Parked::decode(record), restraint: decode_restraint(record) };
    Ok(Handed { from, rollback, legacy, cold: false, stop: std::env::var_os(STOP).is_some() })
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
    match handed.rollback {
        None => memory.write_all(&[copy])?,
        Some(after) => {
            let seconds = u32::try_from(after.as_secs()).unwrap_or(u32::MAX);
            memory.write_all(&[copy.to_ascii_uppercase()])?;
            memory.write_all(&seconds.to_be_bytes())?;
        }
    }
    // A program before this one takes what is kept of a session that has left for nothing, and starts anew.
    match &handed.legacy {
        Legacy { parked: Some(parked), .. } => memory.write_all(&parked.encode())?,
        Legacy { parked: None, restraint: Some(kept) } => memory.write_all(&encode_restraint(kept))?,
        Legacy { parked: None, restraint: None } => {}
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_successor_cannot_be_executed_goes_on_and_ignores_closed_pipes() {
        let nowhere = Path::new("/nowhere/csmd");
        let failure = execute(nowhere, nowhere, &Handed::default());
        assert_eq!(failure.kind(), io::ErrorKind::NotFound);
        // SAFETY: no handler is installed, and it is what it was before.
        let before = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }.expect("SIGPIPE");
        assert!(matches!(before, SigHandler::SigIgn));
    }
}
