//! `show module csm N ft readiness` and `ft explain`.

use std::fmt::{self, Write};

use super::time::wall_clock;
use crate::api::reply::FtState;
use crate::api::reply::ready::{CheckGrade, CheckReply, ExplainReply, FencedReply, RankReply, ReadyReply};

/// One line yes or no, then what is missing.
pub fn write(out: &mut impl Write, reply: &ReadyReply) -> fmt::Result {
    let of = |grade| reply.checks.iter().filter(move |check| check.grade == grade);
    let missing = of(CheckGrade::Missing).count();
    match (reply.ready, missing) {
        (true, _) => writeln!(out, "yes: either box may be lost now, no client would notice")?,
        (false, 1) => writeln!(out, "no: clients might notice the loss of a box, 1 thing is missing")?,
        (false, _) => {
            writeln!(out, "no: clients might notice the loss of a box, {missing} things are missing")?
        }
    }
    for check in of(CheckGrade::Missing) {
        finding(out, "missing", check)?;
    }
    for check in of(CheckGrade::Remark) {
        finding(out, "remark", check)?;
    }
    for check in of(CheckGrade::Good) {
        finding(out, "ok", check)?;
    }
    Ok(())
}

fn finding(out: &mut impl Write, grade: &str, check: &CheckReply) -> fmt::Result {
    let CheckReply { about, found, remedy, .. } = check;
    writeln!(out, " {grade:<8} {about:<14} {found}")?;
    match remedy {
        Some(remedy) => writeln!(out, "{:25}remedy: {remedy}", ""),
        None => Ok(()),
    }
}

/// Why, the ranks compared, and what would change it.
pub fn explain(out: &mut impl Write, reply: Option<&ExplainReply>) -> fmt::Result {
    let Some(reply) = reply else { return writeln!(out, "FT group is not configured") };
    let ExplainReply { state, since_unix_ms, term, reason, why, fenced, ranks, changes, .. } = reply;
    let state = match state {
        FtState::Initializing => "initializing",
        FtState::Standby => "standby",
        FtState::Active => "active",
    };
    writeln!(out, "This box is {state} since {}, term {term}: {reason}", wall_clock(*since_unix_ms))?;
    writeln!(out, " {why}")?;
    if let Some(FencedReply { at_unix_ms, reason }) = fenced {
        writeln!(out, " it gave up the role at {}: {reason}", wall_clock(*at_unix_ms))?;
    }
    writeln!(out, "Ranks, where no box is active; the first line that differs decides")?;
    writeln!(out, " {:<22} {:<18} peer", "", "this box")?;
    for RankReply { what, own, peer, decides } in ranks {
        let peer = peer.as_deref().unwrap_or("not heard");
        let mark = if *decides { "  <- decides" } else { "" };
        writeln!(out, " {what:<22} {own:<18} {peer}{mark}")?;
    }
    writeln!(out, "What would move the role")?;
    changes.iter().try_for_each(|change| writeln!(out, " - {change}"))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn check(grade: CheckGrade, about: &str, found: &str, remedy: Option<&str>) -> CheckReply {
        CheckReply {
            grade,
            about: about.to_owned(),
            found: found.to_owned(),
            remedy: remedy.map(str::to_owned),
        }
    }

    fn text(reply: &ReadyReply) -> String {
        let mut out = String::new();
        write(&mut out, reply).expect("text");
        out
    }

    #[test]
    fn the_first_line_says_yes_or_no_and_what_is_missing_follows() {
        let good = check(CheckGrade::Good, "pair", "both boxes hear each other", None);
        let bad =
            check(CheckGrade::Missing, "links", "the peer has no link on eth1", Some("check the cable"));
        expect![[r#"
            yes: either box may be lost now, no client would notice
             ok       pair           both boxes hear each other
        "#]]
        .assert_eq(&text(&ReadyReply { ready: true, checks: vec![good.clone()] }));
        expect![[r#"
            no: clients might notice the loss of a box, 1 thing is missing
             missing  links          the peer has no link on eth1
                                     remedy: check the cable
             ok       pair           both boxes hear each other
        "#]]
        .assert_eq(&text(&ReadyReply { ready: false, checks: vec![good, bad] }));
    }

    #[test]
    fn an_explanation_has_the_ranks_side_by_side() {
        let rank = |what: &str, own: &str, peer: &str, decides| RankReply {
            what: what.to_owned(),
            own: own.to_owned(),
            peer: Some(peer.to_owned()),
            decides,
        };
        let reply = ExplainReply {
            state: FtState::Standby,
            machine: "standby".to_owned(),
            since_unix_ms: 0,
            term: 3,
            reason: "relay ended".to_owned(),
            why: "this box gave the role to the peer".to_owned(),
            fenced: Some(FencedReply { at_unix_ms: 1, reason: "clear ft active".to_owned() }),
            ranks: vec![rank("can forward", "yes", "yes", false), rank("priority", "10", "20", true)],
            changes: vec!["the peer dies: this box takes the role".to_owned()],
        };
        let mut out = String::new();
        explain(&mut out, Some(&reply)).expect("text");
        expect![[r#"
            This box is standby since Jan  1 1970 00:00:00.000 UTC, term 3: relay ended
             this box gave the role to the peer
             it gave up the role at Jan  1 1970 00:00:00.001 UTC: clear ft active
            Ranks, where no box is active; the first line that differs decides
                                    this box           peer
             can forward            yes                yes
             priority               10                 20  <- decides
            What would move the role
             - the peer dies: this box takes the role
        "#]]
        .assert_eq(&out);
    }
}
