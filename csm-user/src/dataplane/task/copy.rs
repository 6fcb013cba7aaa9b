//! Copies the entries of one map into another, octet by octet.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::dataplane::adopt::{Convert, Shape};
use crate::dataplane::bpf::{Element, Update, bpf};

const LOOKUP: libc::c_int = 1;
const UPDATE: libc::c_int = 2;
const NEXT_KEY: libc::c_int = 4;

/// A map whose keys and values are octets.
struct Octets<'a> {
    map: BorrowedFd<'a>,
    shape: Shape,
}

impl Octets<'_> {
    fn element(&self, key: u64, value: u64, flags: u64) -> Element {
        Element { map_fd: self.map.as_raw_fd().unsigned_abs(), pad: 0, key, value, flags }
    }

    fn next_key(&self, key: Option<&[u8]>) -> io::Result<Option<Vec<u8>>> {
        let mut next = vec![0; self.shape.key as usize];
        let at = key.map_or(0, |key| key.as_ptr() as u64);
        let mut attr = self.element(at, next.as_mut_ptr() as u64, 0);
        // SAFETY: both buffers are as long as the map's keys; no key asks for the first.
        found(unsafe { bpf(NEXT_KEY, &mut attr) }).map(|there| there.then_some(next))
    }

    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.shape.value as usize];
        let mut attr = self.element(key.as_ptr() as u64, value.as_mut_ptr() as u64, 0);
        // SAFETY: the buffers are as long as the map's keys and values; a value of each CPU is never asked for.
        found(unsafe { bpf(LOOKUP, &mut attr) }).map(|there| there.then_some(value))
    }

    fn set(&self, key: &[u8], value: &[u8], update: Update) -> io::Result<()> {
        if (key.len(), value.len()) != (self.shape.key as usize, self.shape.value as usize) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut attr = self.element(key.as_ptr() as u64, value.as_ptr() as u64, update as u64);
        // SAFETY: the lengths were compared; the kernel only reads.
        unsafe { bpf(UPDATE, &mut attr) }
    }
}

fn found(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Copies what `from` holds into `into`, as `convert` makes it; returns how many entries were copied. With
/// [`Update::New`] what is there already stays. What finds no room is left out. A value that is shorter than those of `into` gets zeros
/// behind it.
///
/// # Errors
/// Of a system call, or if the shapes are of maps with a value for each CPU.
pub fn copy(
    (from, from_shape): (BorrowedFd<'_>, Shape),
    (into, into_shape): (BorrowedFd<'_>, Shape),
    update: Update,
    convert: Convert,
) -> io::Result<usize> {
    let (from, into) = (Octets { map: from, shape: from_shape }, Octets { map: into, shape: into_shape });
    let (mut copied, mut seen, mut at) = (0, 0_u32, None);
    while let Some(key) = from.next_key(at.as_deref())? {
        if let Some((new_key, mut value)) = from.get(&key)?.and_then(|value| convert(&key, &value)) {
            value.resize(value.len().max(into.shape.value as usize), 0);
            match into.set(&new_key, &value, update) {
                Ok(()) => copied += 1,
                // There already; of an array, beyond its end; or full, which a table of prefixes says in a way of its own.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::EEXIST | libc::E2BIG | libc::ENOMEM | libc::ENOSPC)
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        at = Some(key);
        // A key deleted under the walk makes it start over; this ends it.
        seen += 1;
        if seen > from_shape.entries.saturating_mul(2) {
            break;
        }
    }
    Ok(copied)
}
