//! `show module csm N owner`.

use std::fmt::{self, Write};

use serde::Serialize;

use super::rule;
use crate::api::reply::{MaxConnsReply, VserverReply};
use crate::model::Config;

/// An owner with its virtual servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    owner: String,
    contact_info: Option<String>,
    billing_info: Option<String>,
    max_conns: Option<u32>,
    /// Those that count for the limit, half-open ones included; unknown of an owner without one, or without virtual servers.
    connections: Option<u64>,
    /// First packets that were refused because of the limit.
    refused: u64,
    vservers: Vec<String>,
}

/// The owner `name`, or all.
#[must_use]
pub fn rows(config: &Config, vservers: &[VserverReply], name: Option<&str>) -> Vec<Row> {
    let wanted = config.owners.iter().filter(|owner| name.is_none_or(|name| owner.name.as_str() == name));
    wanted
        .map(|owner| {
            let is_its = |vserver: &&VserverReply| {
                vserver.owner.as_ref().is_some_and(|known| known.name == owner.name.as_str())
            };
            let its: Vec<&VserverReply> = vservers.iter().filter(is_its).collect();
            let places = its.iter().find_map(|vserver| vserver.owner.as_ref()?.max_conns);
            Row {
                owner: owner.name.to_string(),
                contact_info: owner.contact.clone(),
                billing_info: owner.billing.clone(),
                max_conns: (owner.max_conns != 0).then_some(owner.max_conns),
                connections: places.map(|MaxConnsReply { connections, .. }| connections),
                refused: its.iter().map(|vserver| vserver.refused.owner_max_conns).sum(),
                vservers: its.iter().map(|vserver| vserver.name.clone()).collect(),
            }
        })
        .collect()
}

/// Writes a line for each owner.
pub fn write(out: &mut impl Write, rows: &[Row]) -> fmt::Result {
    writeln!(out, "owner           vservers  max conns   conns       refused")?;
    rule(out, 58)?;
    for row in rows {
        let Row { owner, refused, vservers, .. } = row;
        let (max, now) = (limit(row), connections(row));
        writeln!(out, "{owner:<15} {:<9} {max:<11} {now:<11} {refused}", vservers.len())?;
    }
    Ok(())
}

/// Writes all about each.
pub fn write_detail(out: &mut impl Write, rows: &[Row]) -> fmt::Result {
    for row in rows {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "<not assigned>".to_owned());
        writeln!(out, "{}", row.owner)?;
        writeln!(out, "  contact info = {}", or_none(&row.contact_info))?;
        writeln!(out, "  billing info = {}", or_none(&row.billing_info))?;
        let (max, now) = (limit(row), connections(row));
        writeln!(out, "  max conns = {max}, now = {now}, refused = {}", row.refused)?;
        let vservers = if row.vservers.is_empty() { "none".to_owned() } else { row.vservers.join(", ") };
        writeln!(out, "  vservers = {vservers}")?;
    }
    Ok(())
}

fn limit(row: &Row) -> String {
    row.max_conns.map_or_else(|| "no limit".to_owned(), |max| max.to_string())
}

fn connections(row: &Row) -> String {
    row.connections.map_or_else(|| "-".to_owned(), |connections| connections.to_string())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::cli::show::vserver::tests::vservers;
    use crate::model::{Name, Owner};

    fn config() -> Config {
        let shop = Owner {
            contact: Some("the shop, 555 0100".to_owned()),
            max_conns: 900,
            ..Owner::new(Name::new("SHOP").expect("a name"))
        };
        let nobody = Owner::new(Name::new("NOBODY").expect("a name"));
        Config { owners: vec![shop, nobody], ..Config::default() }
    }

    #[test]
    fn a_line_for_each_owner() {
        let mut text = String::new();
        write(&mut text, &rows(&config(), &vservers(), None)).expect("a string takes everything");
        expect![[r#"
            owner           vservers  max conns   conns       refused
            ----------------------------------------------------------
            SHOP            1         900         31          4
            NOBODY          0         no limit    -           0
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn all_about_one() {
        let mut text = String::new();
        write_detail(&mut text, &rows(&config(), &vservers(), Some("SHOP")))
            .expect("a string takes everything");
        expect![[r#"
            SHOP
              contact info = the shop, 555 0100
              billing info = <not assigned>
              max conns = 900, now = 31, refused = 4
              vservers = WEB_VIP
        "#]]
        .assert_eq(&text);
        assert!(rows(&config(), &vservers(), Some("OTHERS")).is_empty());
    }
}
