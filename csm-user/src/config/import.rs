//! A CSM's `show running-config` as a configuration of this product, and a list of what did not come along. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{HostFacts, Severity, check, print};
use crate::model::Config;

/// What was made of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The configuration; `None`: the listing has no module, or what is left of it cannot stand.
    pub config: Option<Config>,
    /// Its lines, as this product prints them.
    pub text: String,
    /// What did not come along, in the order of the listing.
    pub not_carried: Vec<NotCarried>,
    /// VLANs that have no port yet: the switch had them.
    pub without_port: Vec<u16>,
}

/// A line that did not come along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCarried {
    /// Its number, from 1.
    pub line: usize,
    /// The line, without blanks around it.
    pub text: String,
    /// Why.
    pub why: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// Takes the module out of `listing` and leaves out, line by line, what cannot be had here. What the switch itself
/// configures is none of the module's, and is not carried.
#[must_use]
pub fn import(listing: &str) -> Imported {
    let mut lines: Vec<Option<Line<'_>>> = listing.lines().map(|line| Some(Line::of(line))).collect();
    let mut gone: BTreeMap<usize, NotCarried> = BTreeMap::new();
    outside(&mut lines, &mut gone);
    let mut outcome = check(NAME, &text(&lines), &HostFacts::default());
    // Each round leaves out at least one line.
    while outcome.config.is_none() {
        let before = gone.len();
        for finding in outcome.diagnostics.iter().filter(|finding| finding.severity == Severity::Error) {
            let why = (finding.message.clone(), finding.remedy.clone());
            let number = whole_policy(&lines, finding.line);
            for number in whole_list(&lines, number) {
                drop_section(&mut lines, number, &why, &mut gone);
            }
        }
        if gone.len() == before {
            break;
        }
        outcome = check(NAME, &text(&lines), &HostFacts::default());
    }
    for finding in outcome.diagnostics.iter().filter(|finding| finding.severity == Severity::Note) {
        let why = (finding.message.clone(), finding.remedy.clone());
        drop_section(&mut lines, finding.line, &why, &mut gone);
    }
    let config = outcome.config.filter(|config| *config != Config::default() && has_module(&lines));
    let without_port = config.as_ref().map_or_else(Vec::new, |config| {
        config
            .vlan_ids()
            .filter(|id| config.interface_of(*id).is_none())
            .map(crate::model::VlanId::get)
            .collect()
    });
    let text = config.as_ref().map_or_else(String::new, print);
    Imported { config, text, not_carried: gone.into_values().collect(), without_port }
}

/// What findings call the listing.
const NAME: &str = "listing";

#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    indent: usize,
    words: &'a str,
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Self {
        let words = line.trim();
        Self { indent: line.len() - line.trim_start().len(), words }
    }

    fn is_blank(self) -> bool {
        self.words.is_empty() || self.words.starts_with('!')
    }

    /// The number of the module that the line opens. Older releases of IOS write its name in full.
    fn module(self) -> Option<&'a str> {
        let mut words = self.words.split_whitespace();
        let is_module = words.next() == Some("module")
            && matches!(words.next(), Some("csm" | "ContentSwitchingModule" | "contentswitchingmodule"));
        words.next().filter(|_| is_module && self.indent == 0)
    }
}

fn has_module(lines: &[Option<Line<'_>>]) -> bool {
    lines.iter().flatten().any(|line| line.module().is_some())
}

/// The listing as it is to be read; a line that was left out is empty, so that numbers stay.
fn text(lines: &[Option<Line<'_>>]) -> String {
    let mut text = String::new();
    for line in lines {
        if let Some(line) = line.filter(|line| !line.is_blank()) {
            match line.module() {
                Some(slot) => text += &format!("module csm {slot}"),
                None => text += &format!("{:indent$}{}", "", line.words, indent = line.indent),
            }
        }
        text.push('\n');
    }
    text
}

/// The line to leave out for a fault in line `number`: of a policy that cannot be had as it is meant nothing is carried, as what is left
/// of it might be for all clients.
fn whole_policy(lines: &[Option<Line<'_>>], number: usize) -> usize {
    let Some(at) = number.checked_sub(1) else { return number };
    let Some(line) = lines.get(at).copied().flatten() else { return number };
    let above = lines[..at].iter().enumerate().rev();
    let head =
        above.filter_map(|(at, line)| Some((at, (*line)?))).find(|(_, head)| head.indent < line.indent);
    head.filter(|(_, head)| head.words.starts_with("policy ")).map_or(number, |(at, _)| at + 1)
}

/// As [`whole_policy`]: without a line that denies, a list would be for more clients. The lines of the list that line `number` is of, if
/// it is of any.
fn whole_list(lines: &[Option<Line<'_>>], number: usize) -> Vec<usize> {
    let list = |line: Line<'_>| {
        let mut words = line.words.split_whitespace();
        let is_list = line.indent == 0 && words.next() == Some("access-list");
        words.next().filter(|_| is_list).map(str::to_owned)
    };
    let at = |number: usize| lines.get(number.checked_sub(1)?).copied().flatten();
    if let Some(name) = at(number).and_then(list) {
        return (1..=lines.len()).filter(|&other| at(other).and_then(list).as_ref() == Some(&name)).collect();
    }
    let heads = (1..=number).rev().filter_map(|head| Some((head, at(head)?)));
    let mut heads = heads.skip_while(|(_, line)| line.indent > 0);
    match heads.next() {
        Some((head, line)) if line.words.starts_with("ip access-list ") => vec![head],
        _ => vec![number],
    }
}

/// Whether the line begins, or is of, a standard access list that a policy of `lines` names.
fn is_client_group(line: Line<'_>, groups: &BTreeSet<String>) -> bool {
    let words: Vec<&str> = line.words.split_whitespace().collect();
    let (["access-list", name, ..] | ["ip", "access-list", "standard", name]) = words[..] else {
        return false;
    };
    groups.contains(&name.to_ascii_uppercase())
}

/// Leaves out what stands outside of the first module, but for the access lists that its policies name.
fn outside(lines: &mut [Option<Line<'_>>], gone: &mut BTreeMap<usize, NotCarried>) {
    let named = |line: &Line<'_>| Some(line.words.strip_prefix("client-group ")?.trim().to_ascii_uppercase());
    let groups: BTreeSet<String> = lines.iter().flatten().filter_map(named).collect();
    let (mut inside, mut seen) = (false, false);
    for (index, slot) in lines.iter_mut().enumerate() {
        let Some(line) = *slot else { continue };
        if line.is_blank() {
            *slot = None;
            continue;
        }
        if line.indent == 0 {
            let is_module = line.module().is_some() && !seen;
            seen |= is_module;
            inside = is_module || is_client_group(line, &groups);
        }
        if inside {
            continue;
        }
        let why = match line.module() {
            Some(_) => "one configuration has one module: import the other by itself",
            None => "it is the switch's, not the module's",
        };
        *slot = None;
        // Of the switch only what begins a section is worth a line.
        if line.indent == 0 {
            let text = line.words.to_owned();
            gone.insert(index, NotCarried { line: index + 1, text, why: why.to_owned(), remedy: None });
        }
    }
}

/// Leaves out line `number`, from 1, and what is indented below it.
fn drop_section(
    lines: &mut [Option<Line<'_>>],
    number: usize,
    (why, remedy): &(String, Option<String>),
    gone: &mut BTreeMap<usize, NotCarried>,
) {
    let Some(first) = number.checked_sub(1) else { return };
    let Some(head) = lines.get(first).copied().flatten() else { return };
    for (index, slot) in lines.iter_mut().enumerate().skip(first) {
        let Some(line) = *slot else { continue };
        if index > first && line.indent <= head.indent {
            break;
        }
        *slot = None;
        let (why, remedy) = match index == first {
            true => (why.clone(), remedy.clone()),
            false => (format!("it belongs to `{}`", head.words), None),
        };
        gone.insert(index, NotCarried { line: index + 1, text: line.words.to_owned(), why, remedy });
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const LISTING: &str = "Building configuration...

Current configuration : 9999 bytes
!
version 12.2
hostname Cat6k-2
!
module ContentSwitchingModule 4
 vlan 11 client
  ip address 10.10.4.2 255.255.255.0
  gateway 10.10.4.1
!
 vlan 12 server
  ip address 10.10.3.1 255.255.255.0
!
 map URLS url
  match protocol http url /a
!
 probe WWW script
  interval 5
!
 serverfarm FARM
  nat server
  no nat client
  real 10.10.3.20
   inservice
  probe WWW
!
 policy P
  url-map URLS
  serverfarm FARM
!
 vserver WEB_VIP
  virtual 10.10.4.100 tcp www
  serverfarm FARM
  persistent rebalance
  slb-policy P
  parse-length 4000
  inservice
!
interface Vlan136
 ip address 10.6.0.2 255.255.0.0
!
end
";

    #[test]
    fn a_listing_of_a_csm_becomes_a_configuration_and_a_list_of_what_it_lacks() {
        let imported = import(LISTING);
        expect![[r#"
            module csm 4
             vlan 11 client
              ip address 10.10.4.2 255.255.255.0
              gateway 10.10.4.1
             vlan 12 server
              ip address 10.10.3.1 255.255.255.0
             serverfarm FARM
              nat server
              no nat client
              real 10.10.3.20
               inservice
             vserver WEB_VIP
              virtual 10.10.4.100 tcp www
              serverfarm FARM
              inservice
        "#]]
        .assert_eq(&imported.text);
        assert_eq!(imported.without_port, [11, 12]);
        let list: String = imported
            .not_carried
            .iter()
            .map(|line| format!("{}: {}: {}\n", line.line, line.text, line.why))
            .collect();
        for expected in [
            "6: hostname Cat6k-2: it is the switch's, not the module's\n",
            "17: match protocol http url /a: it belongs to `map URLS url`\n",
            "20: interval 5: it belongs to `probe WWW script`\n",
            "30: url-map URLS: it belongs to `policy P`\n",
            "interface Vlan136: it is the switch's, not the module's\n",
            "parse-length 4000: `parse-length 4000` is not supported: it works on layer 7",
            "persistent rebalance: `persistent rebalance`: it has no effect",
        ] {
            assert!(list.contains(expected), "{expected} is not in\n{list}");
        }
        // Every line is either carried or listed.
        let listed: Vec<usize> = imported.not_carried.iter().map(|line| line.line).collect();
        for (index, line) in LISTING.lines().enumerate().skip(7).take(33) {
            let words = line.trim();
            let is_default = matches!(words, "nat server" | "no nat client");
            let carried =
                words == "!" || is_default || imported.text.contains(words) || line.starts_with("module");
            assert!(carried || listed.contains(&(index + 1)), "{line}");
        }
    }

    #[test]
    fn what_refers_to_something_that_is_gone_goes_with_it() {
        let imported = import(
            "module csm 4\n serverfarm A\n  redirect-vserver B\n  real 10.0.0.300\n   inservice\n vserver V\n  virtual 10.0.0.1 tcp 80\n  \
             serverfarm GONE\n  inservice\n",
        );
        assert!(imported.config.is_some(), "{imported:?}");
        let lines: Vec<_> = imported.not_carried.iter().map(|line| line.line).collect();
        assert_eq!(lines, [3, 4, 5, 8], "{imported:?}");
    }

    #[test]
    fn a_policy_is_carried_whole_with_its_access_list_or_not_at_all() {
        let imported = import(
            "access-list 10 permit 10.1.0.0 0.0.255.255\naccess-list 11 permit any\nmodule csm 4\n serverfarm A\n  real 10.0.0.3\n   inservice\n \
             policy P\n  client-group 10\n  serverfarm A\n policy Q\n  client-group 12\n  serverfarm A\n vserver V\n  \
             virtual 10.0.0.1 tcp 80\n  serverfarm A\n  slb-policy P\n  slb-policy Q\n  inservice\n",
        );
        let gone: Vec<_> = imported.not_carried.iter().map(|line| line.line).collect();
        assert_eq!(gone, [2, 10, 11, 12, 17], "{imported:?}");
        assert!(
            imported.text.starts_with("access-list 10 permit 10.1.0.0 0.0.255.255\n"),
            "{}",
            imported.text
        );
    }

    #[test]
    fn a_listing_without_a_module_is_nothing() {
        for listing in ["", "hostname x\n!\n", "module csm\n"] {
            assert_eq!(import(listing).config, None, "{listing}");
        }
    }
}
