//! `show module csm N variable`.

use std::fmt::{self, Write};

use serde::Serialize;

use super::rule;
use crate::model::Variables;

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Its value in force.
    pub value: u64,
    /// Without a line of its own.
    pub default: u64,
    /// Values that it may have.
    pub range: [u64; 2],
}

/// All that set something here.
#[must_use]
pub fn rows(variables: &Variables) -> Vec<Row> {
    let value = |variables: &Variables| {
        let Variables { gratuitous, advertised, reply_out_of_service } = variables;
        [gratuitous.as_secs(), advertised.as_secs(), u64::from(*reply_out_of_service)]
    };
    let known = [
        ("ARP_GRATUITOUS_INTERVAL", [10, 31_536_000]),
        ("ADVERTISE_RHI_FREQ", [1, 65_535]),
        ("ARP_REPLY_FOR_NO_INSERVICE_VIP", [0, 1]),
    ];
    let values = value(variables).into_iter().zip(value(&Variables::default()));
    let row = |((name, range), (value, default))| Row { name, value, default, range };
    known.into_iter().zip(values).map(row).collect()
}

/// Writes the listing.
pub fn write(out: &mut impl Write, rows: &[Row]) -> fmt::Result {
    writeln!(out, "variable                        value         default  range")?;
    rule(out, 72)?;
    for Row { name, value, default, range: [least, most] } in rows {
        writeln!(out, "{name:<31} {value:<13} {default:<8} {least}-{most}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::expect;

    use super::*;

    #[test]
    fn listing() {
        let mut text = String::new();
        let (gratuitous, advertised) = (Duration::from_secs(60), Duration::from_secs(30));
        let set = Variables { gratuitous, advertised, ..Variables::default() };
        write(&mut text, &rows(&set)).expect("a string takes everything");
        expect![[r#"
            variable                        value         default  range
            ------------------------------------------------------------------------
            ARP_GRATUITOUS_INTERVAL         60            15       10-31536000
            ADVERTISE_RHI_FREQ              30            10       1-65535
            ARP_REPLY_FOR_NO_INSERVICE_VIP  0             0        0-1
        "#]]
        .assert_eq(&text);
    }
}
