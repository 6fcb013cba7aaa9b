//! Shell: the third host's process, `csmd --witness`. One socket, one thread, no files.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, UdpSocket};

use crate::ft::keyring::Keyring;
use crate::ft::task::{become_realtime, monotonic_ns};
use crate::ft::witness::grants::{Grants, Outcome};
use crate::ft::witness::wire::{self, DATAGRAM, LEASE_MAX};
use crate::model::FtKeys;

/// UDP port, if none is configured.
pub const PORT: u16 = 21_986;

/// Listens on `address` and answers the nodes of `group` that have one of `keys`, until the process ends. `nonce`: random
/// for each start, not 0.
///
/// # Errors
/// If the address cannot be bound, or the socket fails.
pub fn run(address: SocketAddr, group: u8, keys: &FtKeys, nonce: u64) -> io::Result<Infallible> {
    let socket = UdpSocket::bind(address)?;
    let keyring = Keyring::new(keys, [0; 32]);
    // A pair's failover time may be short; without the right to it the answers are only somewhat later.
    let realtime = become_realtime().is_ok();
    let mut grants = Grants::new(nonce, LEASE_MAX, monotonic_ns());
    tracing::info!(%address, group, realtime, "witness: grants the role to one box at a time");
    let mut buffer = [0; DATAGRAM + 1];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            // What an earlier answer came to.
            Err(error) if is_passing(&error) => continue,
            Err(error) => return Err(error),
        };
        let now = monotonic_ns();
        let request = wire::open(&buffer[..length])
            .filter(|(word, signed, tag)| word.group == group && keyring.check(signed, tag, false).is_ok());
        let Some((request, ..)) = request else {
            tracing::debug!(%from, "dropped: no request of this group with its key");
            continue;
        };
        let (answer, outcome) = grants.answer(&request, now);
        if let Some(answer) = answer {
            // One that is not sent is asked for again.
            let _ = socket.send_to(&wire::seal(&answer, &keyring), from);
        }
        let node = format_args!("{:016x}", request.node);
        match outcome {
            Outcome::Granted => tracing::info!(%from, %node, "granted"),
            Outcome::Released => tracing::info!(%from, %node, "given up"),
            Outcome::Introduced => tracing::info!(%from, %node, "hears this witness for the first time"),
            Outcome::Replayed => tracing::warn!(%from, %node, "dropped: an old request"),
            Outcome::Same => {}
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable
    )
}
