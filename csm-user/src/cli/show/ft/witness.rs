//! The third host.

use std::fmt::{self, Write};

use crate::api::reply::ft::{GrantHolder, WitnessReply};
use crate::cli::show::time::measured;

/// How it stands; nothing without one.
pub(super) fn summary(out: &mut impl Write, witness: Option<&WitnessReply>) -> fmt::Result {
    let Some(witness) = witness else { return Ok(()) };
    let WitnessReply { address, port, answers, answered_ms_ago, holder, peer_has_one, .. } = witness;
    write!(out, " witness {address} port {port}: ")?;
    match (answers, answered_ms_ago) {
        (true, Some(ms)) => {
            let holder = match holder {
                GrantHolder::Nobody => "nobody",
                GrantHolder::ThisBox => "this box",
                GrantHolder::Another => "another box",
            };
            writeln!(out, "answers, {ms} msec ago, and grants the role to {holder}")?;
        }
        (_, Some(ms)) => writeln!(out, "does not answer any more, since {}", measured(ms * 1000))?,
        (_, None) => writeln!(out, "has never answered")?,
    }
    if !answers {
        writeln!(out, "  without it this box does not take the role from a peer that is silent")?;
    }
    if *peer_has_one == Some(false) {
        writeln!(out, "  the peer has no witness: it takes the role from this box without a grant")?;
    }
    Ok(())
}

/// What was counted, and by whose word the gate may be open.
pub(super) fn detail(out: &mut impl Write, witness: Option<&WitnessReply>) -> fmt::Result {
    let Some(witness) = witness else { return Ok(()) };
    let WitnessReply { granted_us, spoken_for_us, sent, send_errors, received, refused, dropped, .. } =
        witness;
    let lasts = |us: Option<u64>| us.map_or_else(|| "no".to_owned(), |us| format!("for {}", measured(us)));
    writeln!(
        out,
        " authority: by the witness {}, by the peer {}",
        lasts(*granted_us),
        lasts(*spoken_for_us)
    )?;
    writeln!(
        out,
        "  witness: sent {sent}, errors {send_errors}, answers {received}, refusals {refused}, dropped {dropped}"
    )
}
