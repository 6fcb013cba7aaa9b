//! Map access by system call: typed, shared between threads, and in batches.
//!
//! aya's map types want `&mut self` for a write and have no batch operations. The kernel's are atomic for each element
//! and safe from any thread, so [`BpfMap`] takes `&self`; a walk or a bulk load of a million entries needs one system
//! call for thousands of them (kernel 5.6: cb4d03ab499d and 057996380a42).

use std::io;
use std::marker::PhantomData;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, OwnedFd};

use aya::Pod;
use aya::maps::MapData;

const LOOKUP: libc::c_int = 1;
const UPDATE: libc::c_int = 2;
const DELETE: libc::c_int = 3;
const NEXT_KEY: libc::c_int = 4;
const PROG_TEST_RUN: libc::c_int = 10;
const LOOKUP_BATCH: libc::c_int = 24;
const UPDATE_BATCH: libc::c_int = 26;
const DELETE_BATCH: libc::c_int = 27;

/// Elements of an array that are read at a time.
const ELEMENTS_SLICE: usize = 8_192;

/// What an update may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Update {
    /// Make or replace.
    Any = 0,
    /// Make only; `AlreadyExists` otherwise.
    New = 1,
    /// Replace only; `NotFound` otherwise.
    Existing = 2,
}

/// `union bpf_attr` for operations on one element (linux/bpf.h).
#[repr(C)]
pub(super) struct Element {
    pub(super) map_fd: u32,
    pub(super) pad: u32,
    pub(super) key: u64,
    pub(super) value: u64,
    pub(super) flags: u64,
}

/// `union bpf_attr` for batches (linux/bpf.h).
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// `union bpf_attr` for BPF_PROG_TEST_RUN (linux/bpf.h).
#[repr(C)]
struct TestRun {
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

/// BPF_F_TEST_XDP_LIVE_FRAMES (kernel 5.18: b530e9e1063e): what the program decides is done.
const LIVE_FRAMES: u32 = 2;

/// Runs `bpf(2)`.
///
/// # Safety
/// `attr` must be the form of `union bpf_attr` that `command` takes, and each address in it valid for what the kernel
/// reads or writes there.
pub(super) unsafe fn bpf<A>(command: libc::c_int, attr: &mut A) -> io::Result<()> {
    // SAFETY: `attr` is a live object of the size given; the rest is the caller's promise.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of_val(attr)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub(super) fn address<T>(of: &T) -> u64 {
    std::ptr::from_ref(of) as u64
}

/// A map whose keys are `K` and values `V`.
#[derive(Debug)]
pub struct BpfMap<K, V> {
    data: MapData,
    max_entries: u32,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Pod, V: Pod> BpfMap<K, V> {
    /// Takes over `fd`.
    ///
    /// # Errors
    /// If `fd` is no map, or its keys or values have another size than `K` and `V`.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let data = MapData::from_fd(fd).map_err(io::Error::other)?;
        let info = data.info().map_err(io::Error::other)?;
        let (key, value) = (info.key_size() as usize, info.value_size() as usize);
        if (key, value) != (size_of::<K>(), size_of::<V>()) {
            return Err(io::Error::other(format!(
                "map {}: keys of {key} and values of {value} bytes, not {} and {}",
                info.name_as_str().unwrap_or("?"),
                size_of::<K>(),
                size_of::<V>()
            )));
        }
        Ok(Self { max_entries: info.max_entries(), data, types: PhantomData })
    }

    /// Entries it can hold.
    #[must_use]
    pub const fn max_entries(&self) -> u32 {
        self.max_entries
    }

    fn fd(&self) -> u32 {
        use std::os::fd::AsFd;
        self.data.fd().as_fd().as_raw_fd().unsigned_abs()
    }

    fn element(&self, key: u64, value: u64, flags: u64) -> Element {
        Element { map_fd: self.fd(), pad: 0, key, value, flags }
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// Of the system call; a missing key is `Ok(None)`.
    pub fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = std::mem::MaybeUninit::<V>::uninit();
        let mut attr = self.element(address(key), value.as_mut_ptr() as u64, 0);
        // SAFETY: `new` made sure that the map's keys and values have the sizes of `K` and `V`.
        match unsafe { bpf(LOOKUP, &mut attr) } {
            // SAFETY: the kernel has written the value; `Pod` makes any bytes valid.
            Ok(()) => Ok(Some(unsafe { value.assume_init() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes one entry.
    ///
    /// # Errors
    /// Of the system call: `E2BIG` when full, see [`Update`] for the others.
    pub fn set(&self, key: &K, value: &V, update: Update) -> io::Result<()> {
        let mut attr = self.element(address(key), address(value), update as u64);
        // SAFETY: as in `get`; the kernel only reads.
        unsafe { bpf(UPDATE, &mut attr) }
    }

    /// Deletes one entry; false if there was none.
    ///
    /// # Errors
    /// Of the system call.
    pub fn delete(&self, key: &K) -> io::Result<bool> {
        let mut attr = self.element(address(key), 0, 0);
        // SAFETY: as in `get`; the kernel only reads.
        match unsafe { bpf(DELETE, &mut attr) } {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The key after `key`, the first one for `None`.
    ///
    /// # Errors
    /// Of the system call; the end is `Ok(None)`.
    pub fn next_key(&self, key: Option<&K>) -> io::Result<Option<K>> {
        let mut next = std::mem::MaybeUninit::<K>::uninit();
        let mut attr = self.element(key.map_or(0, address), next.as_mut_ptr() as u64, 0);
        // SAFETY: as in `get`; a null key asks for the first.
        match unsafe { bpf(NEXT_KEY, &mut attr) } {
            // SAFETY: the kernel has written the key.
            Ok(()) => Ok(Some(unsafe { next.assume_init() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All entries one by one: for small maps and for types without batches.
    ///
    /// # Errors
    /// Of the system calls.
    pub fn entries(&self) -> io::Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        let mut at = None;
        while let Some(key) = self.next_key(at.as_ref())? {
            if let Some(value) = self.get(&key)? {
                entries.push((key, value));
            }
            at = Some(key);
            // A key deleted under the walk makes it start over; this ends it.
            if entries.len() > self.max_entries as usize {
                break;
            }
        }
        Ok(entries)
    }

    /// All elements of an array, thousands with each system call.
    ///
    /// # Errors
    /// Of the system calls.
    pub fn elements(&self) -> io::Result<Vec<(K, V)>> {
        let mut elements = Vec::with_capacity(self.max_entries as usize);
        let mut walk = Walk::new((self.max_entries as usize).min(ELEMENTS_SLICE));
        loop {
            let (slice, last) = walk.next(self)?;
            elements.extend(slice.map(|(key, value)| (*key, *value)));
            if last {
                return Ok(elements);
            }
        }
    }

    /// Writes `keys[i] = values[i]`, replacing what is there; returns how many were written before the first failure,
    /// with that failure.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn set_batch(&self, keys: &[K], values: &[V]) -> (usize, io::Result<()>) {
        assert_eq!(keys.len(), values.len(), "one value for each key");
        self.batch(UPDATE_BATCH, keys, values.as_ptr() as u64)
    }

    /// Deletes `keys`, those that are there; returns how many were.
    ///
    /// # Errors
    /// Of the system call; a missing key is none.
    pub fn delete_batch(&self, keys: &[K]) -> io::Result<usize> {
        let (mut deleted, mut at) = (0, 0);
        while at < keys.len() {
            let (done, result) = self.batch(DELETE_BATCH, &keys[at..], 0);
            deleted += done;
            at += done;
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => at += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(deleted)
    }

    fn batch(&self, command: libc::c_int, keys: &[K], values: u64) -> (usize, io::Result<()>) {
        let Ok(count) = u32::try_from(keys.len()) else {
            return (0, Err(io::ErrorKind::InvalidInput.into()));
        };
        if count == 0 {
            return (0, Ok(()));
        }
        let mut attr = Batch {
            in_batch: 0,
            out_batch: 0,
            keys: keys.as_ptr() as u64,
            values,
            count,
            map_fd: self.fd(),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: `keys` (and `values`, if given) hold `count` elements of the map's sizes; the kernel only reads
        // them and writes `count`.
        let result = unsafe { bpf(command, &mut attr) };
        (attr.count as usize, result)
    }
}

/// A walk over a hash map in slices. Entries that stay during the walk are met exactly once; those made or deleted
/// meanwhile may or may not be met (the position is a bucket, and an entry never changes its bucket).
#[derive(Debug)]
pub struct Walk<K, V> {
    position: Option<u32>,
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K: Pod, V: Pod> Walk<K, V> {
    /// A walk from the beginning in slices of about `slice` entries.
    #[must_use]
    pub fn new(slice: usize) -> Self {
        Self {
            position: None,
            keys: Vec::with_capacity(slice.max(64)),
            values: Vec::with_capacity(slice.max(64)),
        }
    }

    /// Goes on where another walk stood, see [`Walk::position`].
    #[must_use]
    pub fn from(self, position: Option<u32>) -> Self {
        Self { position, ..self }
    }

    /// Where the next slice begins; `None`: at the beginning.
    #[must_use]
    pub const fn position(&self) -> Option<u32> {
        self.position
    }

    /// The next slice, and whether it was the last; after that the walk begins anew.
    ///
    /// # Errors
    /// Of the system call.
    pub fn next(&mut self, map: &BpfMap<K, V>) -> io::Result<(impl Iterator<Item = (&K, &V)>, bool)> {
        let last = loop {
            match self.fetch(map) {
                // A single bucket holds more than the room given.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    let room = self.keys.capacity() * 2;
                    self.keys.reserve_exact(room);
                    self.values.reserve_exact(room);
                }
                result => break result?,
            }
        };
        Ok((self.keys.iter().zip(&self.values), last))
    }

    fn fetch(&mut self, map: &BpfMap<K, V>) -> io::Result<bool> {
        self.keys.clear();
        self.values.clear();
        let mut reached = 0_u32;
        let room = self.keys.capacity().min(self.values.capacity());
        let mut attr = Batch {
            in_batch: self.position.as_ref().map_or(0, address),
            out_batch: std::ptr::from_mut(&mut reached) as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.values.as_mut_ptr() as u64,
            count: u32::try_from(room).unwrap_or(u32::MAX),
            map_fd: map.fd(),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: both vectors have room for `count` elements of the map's sizes; a hash map's position is 4 bytes.
        let result = unsafe { bpf(LOOKUP_BATCH, &mut attr) };
        let last = match result {
            Ok(()) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        // SAFETY: the kernel has written `count` keys and values, no more than the room given.
        unsafe {
            self.keys.set_len(attr.count as usize);
            self.values.set_len(attr.count as usize);
        }
        self.position = if last { None } else { Some(reached) };
        Ok(last)
    }
}

/// A per-CPU array whose values are `V`, a multiple of 8 bytes long.
#[derive(Debug)]
pub struct PerCpuArray<V> {
    data: MapData,
    cpus: usize,
    values: PhantomData<V>,
}

impl<V: Pod> PerCpuArray<V> {
    /// Takes over `fd`.
    ///
    /// # Errors
    /// If `fd` is no map or its values have another size than `V`.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        const { assert!(size_of::<V>().is_multiple_of(8)) };
        let data = MapData::from_fd(fd).map_err(io::Error::other)?;
        let info = data.info().map_err(io::Error::other)?;
        if info.value_size() as usize != size_of::<V>() {
            return Err(io::Error::other(format!(
                "map {}: wrong value size",
                info.name_as_str().unwrap_or("?")
            )));
        }
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        Ok(Self { data, cpus, values: PhantomData })
    }

    /// The value of `index` on each possible CPU.
    ///
    /// # Errors
    /// Of the system call; an index beyond the array is `NotFound`.
    pub fn get(&self, index: u32) -> io::Result<Vec<V>> {
        use std::os::fd::AsFd;
        let mut values = Vec::<V>::with_capacity(self.cpus);
        let map_fd = self.data.fd().as_fd().as_raw_fd().unsigned_abs();
        let mut attr =
            Element { map_fd, pad: 0, key: address(&index), value: values.as_mut_ptr() as u64, flags: 0 };
        // SAFETY: the kernel writes one value, padded to 8 bytes (and `V` needs no padding), for each possible CPU.
        unsafe {
            bpf(LOOKUP, &mut attr)?;
            values.set_len(self.cpus);
        }
        Ok(values)
    }

    /// Zero on every CPU.
    ///
    /// # Errors
    /// Of the system call.
    pub fn clear(&self, index: u32) -> io::Result<()> {
        use std::os::fd::AsFd;
        let zeros = vec![0_u64; self.cpus * size_of::<V>() / 8];
        let map_fd = self.data.fd().as_fd().as_raw_fd().unsigned_abs();
        let value = zeros.as_ptr() as u64;
        let mut attr = Element { map_fd, pad: 0, key: address(&index), value, flags: 0 };
        // SAFETY: the kernel reads one value for each possible CPU, which is what `zeros` holds.
        unsafe { bpf(UPDATE, &mut attr) }
    }
}

/// Gives frames to an XDP program as if a port had received them.
#[derive(Debug)]
pub struct Runner {
    program: OwnedFd,
}

impl Runner {
    /// Takes over the program's descriptor.
    #[must_use]
    pub const fn new(program: OwnedFd) -> Self {
        Self { program }
    }

    /// Has the program receive `frame` on interface `ifindex`.
    ///
    /// # Errors
    /// Of the system call: no such interface any more, or a frame longer than a page allows.
    pub fn receive(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        const CONTEXT_BYTES: u32 = 24;
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, length, 0, ifindex, 0, 0_u32];
        let mut attr = TestRun {
            prog_fd: self.program.as_raw_fd().unsigned_abs(),
            retval: 0,
            data_size_in: length,
            data_size_out: 0,
            data_in: frame.as_ptr() as u64,
            data_out: 0,
            repeat: 1,
            duration: 0,
            ctx_size_in: CONTEXT_BYTES,
            ctx_size_out: 0,
            ctx_in: address(&context),
            ctx_out: 0,
            flags: LIVE_FRAMES,
            cpu: 0,
            batch_size: 1,
            pad: 0,
        };
        // SAFETY: both inputs are as long as said, and nothing is written but to `attr`.
        unsafe { bpf(PROG_TEST_RUN, &mut attr) }
    }
}
