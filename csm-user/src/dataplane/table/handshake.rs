//! Handshakes under way at the peer, which a successor could not finish by what clients and servers say: their pairs stand among the
//! half-open, where the next of them makes way for itself.

use std::io;
use std::sync::atomic::Ordering;

use csm_common::flow::{Connection, FLAG_REPLICA, FlowEntry, STATE_CLOSED};

use super::family::TableFamily;
use super::{Insert, Pair, Table, monotonic_ns};
use crate::dataplane::bpf::Update;

impl<A: TableFamily> Table<A> {
    /// Enters the pair of a handshake among the half-open, to be proven by `expect_ack`, as
    /// [`FlowEntry::expect_ack`](csm_common::flow::FlowEntry::expect_ack) has it; whether it stands now. What is proven stays, and
    /// what is half open, too, if it is later than this or if `keep` says so. It is no replica: nobody tells of its end, and it expires as
    /// any half-open connection does.
    ///
    /// # Errors
    /// Of a system call.
    pub fn enter_handshake(&self, insert: &Insert<A>, expect_ack: u32, keep: bool) -> io::Result<bool> {
        let Pair { forward_key, mut forward, return_key, mut back } = Pair::of(insert, monotonic_ns());
        let connection = &insert.connection;
        forward.expect_ack = expect_ack;
        (forward.flags, back.flags) = (forward.flags & !FLAG_REPLICA, back.flags & !FLAG_REPLICA);
        let taken = |standing: &FlowEntry<A>| standing.state < STATE_CLOSED;
        if self.flows.get(&forward_key)?.is_some() || self.flows.get(&return_key)?.as_ref().is_some_and(taken)
        {
            return Ok(false);
        }
        let update = if keep { Update::New } else { Update::Any };
        if let Some(standing) = self.embryonic.get(&forward_key)? {
            let later = standing.generation.wrapping_sub(connection.generation).cast_signed() > 0;
            if keep || later {
                return Ok(false);
            }
            let known = standing.connection(&forward_key);
            if known.return_key() != return_key {
                self.delete_pair(&self.embryonic, &known)?;
            }
        }
        self.handshakes.store(true, Ordering::Relaxed);
        // The client's direction is the one that is looked for first: it must not stand alone.
        if !set(self.embryonic.set(&return_key, &back, update))? {
            return Ok(false);
        }
        if !set(self.embryonic.set(&forward_key, &forward, update))? {
            // That of the connection which was faster may have taken its place.
            if self.embryonic.get(&return_key)?.is_some_and(|back| back.generation == connection.generation) {
                self.embryonic.delete(&return_key)?;
            }
            return Ok(false);
        }
        Ok(true)
    }

    /// What was proven at the peer is half open no more.
    pub(super) fn forget_handshakes<'a>(&self, proven: impl Iterator<Item = &'a Connection<A>>) {
        if !self.handshakes.load(Ordering::Relaxed) {
            return;
        }
        for connection in proven {
            let forgotten =
                self.embryonic.get(&connection.forward_key()).and_then(|standing| match standing {
                    Some(standing) if standing.generation == connection.generation => {
                        self.delete_pair(&self.embryonic, connection)
                    }
                    _ => Ok(()),
                });
            if let Err(error) = forgotten {
                // It expires by itself, and what is proven is found first.
                tracing::debug!(%error, "the pair of a finished handshake could not be deleted");
            }
        }
    }
}

/// Whether it was written; another that stands in its place is no failure.
fn set(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        written => written.map(|()| true),
    }
}
