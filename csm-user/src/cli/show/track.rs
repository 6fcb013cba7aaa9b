//! `show module csm N ft track`, and what `ft` says of tracking.

use std::fmt::{self, Write};

use super::time::{timer, wall_clock};
use super::yes;
use crate::api::reply::{TrackChangeReply, TrackModeReply, TrackObjectReply, TrackReply, TrackState};

/// Writes the listing; `None`: nothing is tracked.
pub fn write(out: &mut impl Write, track: Option<&TrackReply>) -> fmt::Result {
    let Some(track) = track else { return writeln!(out, "FT group tracks nothing") };
    let (interval, hold_down) = (milliseconds(track.interval_ms), milliseconds(track.hold_down_ms));
    writeln!(out, "Tracking mode is {}, this box is {}", mode(track), verdict(track))?;
    writeln!(out, " gateway interval {interval}, retries {}, hold-down {hold_down}", track.retries)?;
    for TrackObjectReply { object, state, since_unix_ms, note } in &track.objects {
        let note = note.iter().map(|note| format!(" ({note})")).collect::<String>();
        match state {
            TrackState::Unknown => writeln!(out, " {object} is not known yet{note}")?,
            _ => writeln!(out, " {object} is {} since {}{note}", name(*state), wall_clock(*since_unix_ms))?,
        }
    }
    writeln!(out, " last changes:")?;
    for TrackChangeReply { at_unix_ms, what } in &track.changes {
        writeln!(out, "  {} {what}", wall_clock(*at_unix_ms))?;
    }
    Ok(())
}

/// The lines of `show module csm N ft`.
pub fn summary(out: &mut impl Write, track: Option<&TrackReply>) -> fmt::Result {
    let Some(track) = track else { return Ok(()) };
    writeln!(out, " tracking: mode {}, eligible {}", mode(track), yes(track.eligible))?;
    if let Some(left) = track.hold_down_left_ms {
        writeln!(out, "           eligible again in {left} msec, if all stays well")?;
    }
    for TrackObjectReply { object, state, .. } in &track.objects {
        writeln!(out, "           {object} {}", name(*state))?;
    }
    Ok(())
}

const fn mode(track: &TrackReply) -> &'static str {
    match track.mode {
        TrackModeReply::Any => "any",
        TrackModeReply::All => "all",
    }
}

fn verdict(track: &TrackReply) -> String {
    match (track.eligible, track.hold_down_left_ms) {
        (true, _) => "eligible".to_owned(),
        (false, None) => "not eligible".to_owned(),
        (false, Some(left)) => format!("not eligible, hold-down ends in {left} msec"),
    }
}

const fn name(state: TrackState) -> &'static str {
    match state {
        TrackState::Up => "up",
        TrackState::Down => "down",
        TrackState::Unknown => "not known yet",
    }
}

/// As it is configured.
fn milliseconds(ms: u64) -> String {
    timer(u32::try_from(ms).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn lost_gateway() -> TrackReply {
        let object = |object: &str, state, note: &str| TrackObjectReply {
            object: object.to_owned(),
            state,
            since_unix_ms: 1_783_432_802_511,
            note: Some(note.to_owned()).filter(|note| !note.is_empty()),
        };
        TrackReply {
            mode: TrackModeReply::Any,
            eligible: false,
            hold_down_ms: 10_000,
            hold_down_left_ms: None,
            interval_ms: 200,
            retries: 3,
            objects: vec![
                object("gateway 192.158.38.20", TrackState::Down, "by ARP every 200 msec, 3 retries"),
                object("interface eth1", TrackState::Up, ""),
                object("interface eth2", TrackState::Unknown, ""),
            ],
            changes: vec![TrackChangeReply {
                at_unix_ms: 1_783_432_802_511,
                what: "gateway 192.158.38.20 is down".to_owned(),
            }],
        }
    }

    #[test]
    fn the_listing() {
        let mut text = String::new();
        write(&mut text, Some(&lost_gateway())).expect("a string takes everything");
        expect![[r#"
            Tracking mode is any, this box is not eligible
             gateway interval msec 200, retries 3, hold-down 10
             gateway 192.158.38.20 is down since Jul  7 2026 14:00:02.511 UTC (by ARP every 200 msec, 3 retries)
             interface eth1 is up since Jul  7 2026 14:00:02.511 UTC
             interface eth2 is not known yet
             last changes:
              Jul  7 2026 14:00:02.511 UTC gateway 192.158.38.20 is down
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn the_lines_of_the_group() {
        let mut text = String::new();
        let track = TrackReply { hold_down_left_ms: Some(4_200), ..lost_gateway() };
        summary(&mut text, Some(&track)).expect("a string takes everything");
        let lines = [
            " tracking: mode any, eligible no",
            "           eligible again in 4200 msec, if all stays well",
            "           gateway 192.158.38.20 down",
            "           interface eth1 up",
            "           interface eth2 not known yet",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
        text.clear();
        summary(&mut text, None).expect("a string takes everything");
        assert_eq!(text, "");
    }
}
