//! Times as IOS writes them.

use std::time::Duration;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_MS: u64 = 24 * 3600 * 1000;

/// `Mar  1 2026 00:00:10.123 UTC` from milliseconds since 1970 UTC.
#[must_use]
pub fn wall_clock(unix_ms: u64) -> String {
    let (year, month, day) = civil(unix_ms / DAY_MS);
    let ms = unix_ms % DAY_MS;
    let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    let month = MONTHS[month];
    format!("{month} {day:2} {year} {hour:02}:{minute:02}:{second:02}.{ms:03} UTC")
}

/// Year, month (0–11) and day (1–31) of a day since 1970 in the Gregorian calendar.
fn civil(mut days: u64) -> (u64, usize, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    // 400 years are 146,097 days; so the loop below runs at most 400 times, whatever is asked.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month, days + 1)
}

/// A configured time: `3` for whole seconds, as the CSM prints it, else `msec 150`.
#[must_use]
pub fn timer(ms: u32) -> String {
    if ms.is_multiple_of(1000) { (ms / 1000).to_string() } else { format!("msec {ms}") }
}

/// A measured time given in microseconds: `1.2 s`, `150.0 msec` or `87 usec`.
#[must_use]
pub fn measured(us: u64) -> String {
    let time = Duration::from_micros(us);
    match us {
        0..1_000 => format!("{us} usec"),
        1_000..10_000_000 => format!("{:.1} msec", time.as_secs_f64() * 1e3),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_calendar() {
        for (unix_s, text) in [
            (0, "Jan  1 1970 00:00:00.000 UTC"),
            (951_782_399, "Feb 28 2000 23:59:59.000 UTC"),
            (951_782_400, "Feb 29 2000 00:00:00.000 UTC"),
            (4_107_542_400, "Mar  1 2100 00:00:00.000 UTC"),
            (1_783_432_802, "Jul  7 2026 14:00:02.000 UTC"),
            (253_402_300_799, "Dec 31 9999 23:59:59.000 UTC"),
        ] {
            assert_eq!(wall_clock(unix_s * 1000), text);
        }
        assert!(wall_clock(u64::MAX).ends_with(" UTC"));
    }

    #[test]
    fn timers_are_printed_as_they_are_configured() {
        assert_eq!(timer(3000), "3");
        assert_eq!(timer(1500), "msec 1500");
        assert_eq!(timer(50), "msec 50");
    }

    #[test]
    fn measured_times_have_the_unit_that_fits() {
        assert_eq!(measured(87), "87 usec");
        assert_eq!(measured(150_040), "150.0 msec");
        assert_eq!(measured(12_340_000), "12.3 s");
    }
}
