//! Facts about this host that the configuration is checked against, and identities of this start.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;

use crate::config::HostFacts;
use crate::host::survey;
use crate::model::{Config, fnv1a};

/// Interfaces and scheduling of this host.
///
/// # Errors
/// If the kernel does not list its interfaces.
pub fn facts() -> io::Result<HostFacts> {
    Ok(HostFacts { interfaces: Some(interfaces()?), realtime: Some(survey::realtime()) })
}

fn interfaces() -> io::Result<BTreeSet<String>> {
    let names = nix::net::if_::if_nameindex().map_err(io::Error::from)?;
    Ok(names.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect())
}

/// A number that differs from start to start and is not 0.
#[must_use]
pub fn nonce() -> u64 {
    // RandomState is seeded by the kernel's random source.
    RandomState::new().hash_one(std::process::id()).max(1)
}

/// Random for each start.
///
/// # Errors
/// If the kernel has no random numbers.
pub fn secret() -> io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    Ok(secret)
}

/// Checksum of what both nodes of a pair should have alike: everything but own addresses, priority and ports.
#[must_use]
pub fn shared_checksum(config: &Config) -> u64 {
    fnv1a(crate::sync::exchange::shared(config).as_bytes())
}

/// Checksum of the running program; 0 if it cannot be read.
#[must_use]
pub fn software_checksum() -> u64 {
    fs::read("/proc/self/exe").map_or(0, |image| image_checksum(&image))
}

/// FNV-1a of eight octets at a time: an image is long, and a restart must not wait for this.
#[must_use]
pub fn image_checksum(image: &[u8]) -> u64 {
    let (words, rest) = image.as_chunks::<8>();
    let words = words
        .iter()
        .fold(fnv1a(rest), |sum, word| (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0x0000_0100_0000_01b3));
    words ^ words >> 32
}
