//! `show module csm N probe`.

use std::fmt::{self, Write};

use serde::Serialize;

use super::rule;
use crate::model::Probe;

/// A probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    name: String,
    kind: &'static str,
    port: Option<u16>,
    interval_s: u64,
    retries: u16,
    failed_s: u64,
    open_s: u64,
    receive_s: u64,
    recover: u16,
}

impl Row {
    /// As it is configured.
    #[must_use]
    pub fn of(probe: &Probe) -> Self {
        Self {
            name: probe.name.to_string(),
            kind: probe.kind.word(),
            port: probe.port,
            interval_s: probe.interval.as_secs(),
            retries: probe.retries,
            failed_s: probe.failed.as_secs(),
            open_s: probe.open.as_secs(),
            receive_s: probe.receive.as_secs(),
            recover: probe.recover,
        }
    }
}

/// Writes the listing.
pub fn write(out: &mut impl Write, rows: &[Row]) -> fmt::Result {
    writeln!(out, "probe           type    port  interval retries failed open receive recover")?;
    rule(out, 76)?;
    for Row { name, kind, port, interval_s, retries, failed_s, open_s, receive_s, recover } in rows {
        let port = port.map_or_else(String::new, |port| port.to_string());
        writeln!(
            out,
            "{name:<15} {kind:<7} {port:<5} {interval_s:<8} {retries:<7} {failed_s:<6} {open_s:<4} {receive_s:<7} {recover}"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn listing() {
        let row = Row {
            name: "HTTP".to_owned(),
            kind: "tcp",
            port: Some(8080),
            interval_s: 120,
            retries: 3,
            failed_s: 300,
            open_s: 10,
            receive_s: 10,
            recover: 1,
        };
        let mut out = String::new();
        write(&mut out, &[row]).expect("text");
        expect![[r#"
            probe           type    port  interval retries failed open receive recover
            ----------------------------------------------------------------------------
            HTTP            tcp     8080  120      3       300    10   10      1
        "#]]
        .assert_eq(&out);
    }
}
