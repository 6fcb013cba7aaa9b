//! TCP connect: what the end of an attempt means. Pure; the socket is in [`super::task`].
//!
//! A check that connected is closed by a reset, the CSM's default: nothing of it stays behind, here or on the server.

use std::io;

use super::health::{FailReason, UnknownReason, Verdict};

/// Verdict of an attempt that the kernel ended with `error`.
#[must_use]
pub fn verdict(error: &io::Error) -> Verdict {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => Verdict::Fail(FailReason::Refused),
        Some(libc::ECONNRESET | libc::ECONNABORTED | libc::EPIPE) => Verdict::Fail(FailReason::Reset),
        Some(libc::ETIMEDOUT) => Verdict::Fail(FailReason::OpenTimeout),
        // ENETDOWN and ENODEV too: a node whose own link is down does not reach the server.
        Some(
            libc::EHOSTUNREACH
            | libc::EHOSTDOWN
            | libc::ENETUNREACH
            | libc::ENETDOWN
            | libc::ENODEV
            | libc::ENOPROTOOPT
            | libc::EPROTO,
        ) => Verdict::Fail(FailReason::Unreachable),
        errno => Verdict::Unknown(UnknownReason::Local(errno.unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_blamed_only_for_what_it_or_the_way_to_it_did() {
        let of = |errno| verdict(&io::Error::from_raw_os_error(errno));
        assert_eq!(of(libc::ECONNREFUSED), Verdict::Fail(FailReason::Refused));
        assert_eq!(of(libc::EHOSTUNREACH), Verdict::Fail(FailReason::Unreachable));
        for own in
            [libc::EMFILE, libc::ENFILE, libc::EADDRNOTAVAIL, libc::EADDRINUSE, libc::ENOBUFS, libc::EPERM]
        {
            assert_eq!(of(own), Verdict::Unknown(UnknownReason::Local(own)));
        }
    }
}
