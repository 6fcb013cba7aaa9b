//! The peer's lease, noted in the state directory: a start that hears nobody waits for it, also if this node was given shorter timers
//! meanwhile, or the host was booted anew.

use std::time::Duration;

use super::node::Node;
use super::saved::Saved;

/// The note: microseconds, in digits.
const NOTE: &str = "peer-lease";
/// No failover time is longer, and no lease as long.
const LEASE_MAX: Duration = Duration::from_secs(65_535);

/// What was noted; nothing if that cannot be read.
pub(super) fn noted(saved: Option<&Saved>) -> Option<Duration> {
    match saved?.store.noted(NOTE) {
        Ok(octets) => {
            let lease = decode(&octets?);
            if lease.is_none() {
                tracing::warn!("`{NOTE}` in the state directory is damaged, and not taken");
            }
            lease
        }
        Err(error) => {
            tracing::warn!(%error, "`{NOTE}` in the state directory cannot be read");
            None
        }
    }
}

fn encode(lease: Duration) -> Vec<u8> {
    format!("{}\n", lease.as_micros()).into_bytes()
}

fn decode(octets: &[u8]) -> Option<Duration> {
    let micros = str::from_utf8(octets).ok()?.strip_suffix('\n')?.parse().ok()?;
    Some(Duration::from_micros(micros)).filter(|lease| *lease <= LEASE_MAX)
}

impl Node {
    /// Notes that the peer's lease is `lease` now. Does not wait for the disk.
    pub(super) fn note_lease(&self, lease: Duration) {
        let Some(saved) = &self.saved else { return };
        let store = saved.store.clone();
        drop(self.runtime.spawn_blocking(move || {
            if let Err(error) = store.note(NOTE, encode(lease)) {
                tracing::warn!(%error, "the peer's lease is not noted: a start beside a dead peer goes by this node's own timers");
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_as_it_was_and_a_damaged_one_is_none() {
        for lease in [Duration::from_micros(1), Duration::from_millis(2_500), LEASE_MAX] {
            assert_eq!(decode(&encode(lease)), Some(lease));
        }
        for damaged in ["", "\n", "250", "-1\n", "1.5\n", "99999999999999\n", "\u{e9}\n"] {
            assert_eq!(decode(damaged.as_bytes()), None, "{damaged:?}");
        }
        assert_eq!(decode(&[0xff, b'\n']), None);
    }
}
