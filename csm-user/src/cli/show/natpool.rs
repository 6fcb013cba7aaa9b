//! `show module csm N natpool`.

use std::fmt::{self, Write};
use std::net::IpAddr;

use serde::Serialize;

use super::rule;
use crate::model::{Natpool, prefix_mask};

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    name: String,
    first: IpAddr,
    last: IpAddr,
    prefix_length: u8,
}

impl Row {
    /// As it is configured.
    #[must_use]
    pub fn of(pool: &Natpool) -> Self {
        Self { name: pool.name.to_string(), first: pool.first, last: pool.last, prefix_length: pool.bits }
    }
}

/// Writes the listing.
pub fn write(out: &mut impl Write, rows: &[Row]) -> fmt::Result {
    writeln!(out, "nat pool         first address    last address     netmask")?;
    rule(out, 66)?;
    for Row { name, first, last, prefix_length } in rows {
        let mask = match first {
            IpAddr::V4(_) => prefix_mask(*prefix_length).to_string(),
            IpAddr::V6(_) => format!("/{prefix_length}"),
        };
        writeln!(out, "{name:<16} {first:<16} {last:<16} {mask}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn listing() {
        let row = |first: &str, last: &str, prefix_length| Row {
            name: "CLIENTS".to_owned(),
            first: first.parse().expect("an address"),
            last: last.parse().expect("an address"),
            prefix_length,
        };
        let mut out = String::new();
        write(&mut out, &[row("10.0.0.1", "10.0.0.9", 24), row("fd00::1", "fd00::9", 64)]).expect("text");
        expect![[r#"
            nat pool         first address    last address     netmask
            ------------------------------------------------------------------
            CLIENTS          10.0.0.1         10.0.0.9         255.255.255.0
            CLIENTS          fd00::1          fd00::9          /64
        "#]]
        .assert_eq(&out);
    }
}
