//! Statements about policies and access lists.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{entry, limit, put, sticky};
use crate::config::command::Id;
use crate::config::parse::Statement;
use crate::model::{AccessLine, AccessList, Family, Name, Policy};

/// Applies `statement` to the policy `name`.
pub(super) fn apply(policies: &mut Vec<Policy>, name: &Name, statement: &Statement) -> Option<()> {
    let no = statement.negated;
    if no && statement.id == Id::Policy {
        policies.retain(|policy| policy.name != *name);
        return Some(());
    }
    let policy = entry(policies, |policy| policy.name == *name, || Policy::new(name.clone()));
    match statement.id {
        Id::Policy => {}
        Id::ClientGroup => policy.client_group = if no { None } else { Some(statement.name()?.clone()) },
        Id::PolicyFarm if no => (policy.serverfarm, policy.backup) = (None, None),
        Id::PolicyFarm => {
            policy.serverfarm = Some(statement.name()?.clone());
            policy.backup = limit::backup(statement);
        }
        Id::PolicySticky => policy.sticky_group = if no { None } else { Some(statement.number("GROUP")?) },
        Id::PolicyReverse => policy.reverse_sticky = sticky::reverse(statement)?,
        Id::SetDscp => policy.dscp = if no { None } else { Some(statement.number("DSCP")?) },
        _ => return None,
    }
    Some(())
}

/// `access-list N ...`; its `no` form removes the list, whatever line it names.
pub(super) fn numbered(lists: &mut Vec<AccessList>, statement: &Statement) -> Option<()> {
    let number: u64 = statement.number("LIST")?;
    let name = Name::new(&number.to_string())?;
    let is_it = |list: &AccessList| list.family == Family::V4 && list.name == name;
    if statement.negated {
        lists.retain(|list| !is_it(list));
        return Some(());
    }
    let line = line(Family::V4, statement)?;
    let new = || AccessList { name: name.clone(), family: Family::V4, lines: Vec::new() };
    put(&mut entry(lists, is_it, new).lines, line, false);
    Some(())
}

/// Applies `statement` to the list `name` of `family`.
pub(super) fn list(
    lists: &mut Vec<AccessList>,
    (family, name): (Family, &Name),
    statement: &Statement,
) -> Option<()> {
    let no = statement.negated;
    let is_it = |list: &AccessList| list.family == family && list.name == *name;
    if no && matches!(statement.id, Id::NamedList | Id::NamedList6) {
        lists.retain(|list| !is_it(list));
        return Some(());
    }
    let list = entry(lists, is_it, || AccessList { name: name.clone(), family, lines: Vec::new() });
    if statement.id == Id::ListLine {
        put(&mut list.lines, line(family, statement)?, no);
    }
    Some(())
}

/// The line of a list of `family` that `statement` says.
fn line(family: Family, statement: &Statement) -> Option<AccessLine> {
    let network = if statement.has("any") {
        family.all()
    } else if let Some(host) = statement.address("HOST") {
        host.into()
    } else if statement.arg("PREFIX").is_some() {
        statement.net("PREFIX", "")?
    } else {
        let wildcard = statement.address4("WILDCARD").unwrap_or(Ipv4Addr::UNSPECIFIED);
        let mask = Ipv4Addr::from_bits(!wildcard.to_bits());
        IpNet::with_netmask(statement.address("ADDRESS")?, mask.into()).ok()?
    };
    Some(AccessLine { permit: statement.has("permit"), network: network.trunc() })
}

/// In the order in which they are printed: the numbered ones, other ones of IPv4, those of IPv6. Numbered ones without a line do not
/// stand anywhere.
pub(super) fn order(lists: &mut Vec<AccessList>) {
    lists.retain(|list| !list.is_numbered() || !list.lines.is_empty());
    lists.sort_by_key(|list| (list.family == Family::V6, !list.is_numbered()));
}

/// The address family of what stands in `statement`; `None`: of both.
pub(in crate::config) fn family_of(statement: &Statement) -> Option<Family> {
    let address = |slot| statement.address(slot);
    let any = |address: IpAddr| match address {
        IpAddr::V6(address) if address == Ipv6Addr::UNSPECIFIED => Some(Family::V6),
        address => Some(Family::of(address)),
    };
    address("HOST").or(address("ADDRESS")).or(address("PREFIX")).and_then(any)
}
