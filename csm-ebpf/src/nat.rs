//! Client NAT: the real sees an address and port of a pool in the client's place. Static NAT is the same with a pool of
//! one address, chosen by who opens the connection.
//!
//! The entry of the return direction is the allocation itself: it is made only if none stands under its key, so two CPUs
//! never give away the same port twice, and no list of free ports is kept. A port is taken towards one real and port
//! only. The peer allocates from the other half of the ports.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::maps::lpm_trie::Key;
use csm_common::counter::Reason;
use csm_common::flow::{Connection, FlowKey, Local, NONE};
use csm_common::hash::mix;
use csm_common::service::Pool;

use crate::conn::{EEXIST, Pair, insert_forward, insert_return};
use crate::family::Family;
use crate::packet::{PROTO_TCP, PROTO_UDP};

/// Ports that are tried for one packet; its sender repeats it, and others are tried.
const TRIES: u32 = 8;
/// Tries with one address, before the next one's turn. A client keeps its address as long as that has ports: servers
/// compare the addresses of connections that belong together.
const TRIES_OF_ADDRESS: u32 = 6;

enum Try {
    Done(Pair),
    Taken,
}

/// Pool that `static` gives the source of a connection under `key`; 0: it keeps its address.
#[inline(always)]
pub(crate) fn of_static<A: Family>(key: &FlowKey<A>) -> Result<u32, Reason> {
    match A::statics().get(Key::new(A::BITS, key.src_be)).copied() {
        None => Ok(0),
        Some(NONE) => Err(Reason::DropStatic),
        Some(number) => Ok(number),
    }
}

/// Gives `connection` a source of pool `number` and enters both directions among the half-open.
#[inline(never)]
pub(crate) fn insert_pair<A: Family>(
    connection: &mut Connection<A>,
    local: &Local,
    number: u32,
) -> Result<Pair, Reason> {
    let pool = A::pools().get(number).ok_or(Reason::DropInternal)?;
    if pool.addresses == 0 || pool.ports == 0 {
        return Err(Reason::DropPoolExhausted);
    }
    let client = mix(connection.client_be.folded());
    let seed = mix(client ^ connection.generation ^ u32::from(connection.client_port_be));
    for turn in 0..TRIES {
        let port = seed.wrapping_add(turn);
        // Without ports the addresses alone tell connections of one real apart: each try takes another.
        let address = if has_ports(connection) { client.wrapping_add(turn / TRIES_OF_ADDRESS) } else { port };
        choose(connection, pool, address, port);
        if let Try::Done(pair) = attempt(connection, local)? {
            return Ok(pair);
        }
    }
    Err(Reason::DropPoolExhausted)
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a remainder below the number of ports")]
fn choose<A: Family>(connection: &mut Connection<A>, pool: &Pool<A>, address: u32, port: u32) {
    // The verifier wants to see that neither is 0.
    let (addresses, ports) = (pool.addresses.max(1), u32::from(pool.ports).max(1));
    connection.source_be = pool.first_be.plus(address % addresses);
    // An echo keeps its identifier.
    if has_ports(connection) {
        connection.source_port_be = pool.port_first.wrapping_add((mix(port) % ports) as u16).to_be();
    }
}

#[inline(always)]
const fn has_ports<A: Family>(connection: &Connection<A>) -> bool {
    matches!(connection.proto, PROTO_TCP | PROTO_UDP)
}

#[inline(never)]
fn attempt<A: Family>(connection: &Connection<A>, local: &Local) -> Result<Try, Reason> {
    if is_proven(connection) {
        return Ok(Try::Taken);
    }
    match insert_return(connection, local, BPF_NOEXIST) {
        0 => {}
        EEXIST => return Ok(Try::Taken),
        _ => return Err(Reason::DropTableFull),
    }
    // One that was half-open at the first look may have been promoted before the insert.
    let taken = is_proven(connection);
    let forward = if taken { EEXIST } else { insert_forward(connection, local) };
    if forward == 0 {
        return Ok(Try::Done(Pair::Made));
    }
    let _ = A::embryonic().remove(connection.return_key());
    match forward {
        EEXIST if taken => Ok(Try::Taken),
        EEXIST => Ok(Try::Done(Pair::Stands)),
        _ => Err(Reason::DropTableFull),
    }
}

/// Whether the established table has a connection with this return direction.
#[inline(never)]
fn is_proven<A: Family>(connection: &Connection<A>) -> bool {
    A::flows().get_ptr(connection.return_key()).is_some()
}
