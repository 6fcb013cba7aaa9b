//! What a node gives its peer, and what the peer makes of it. Pure.

use crate::config::difference::{Difference, differences};
use crate::config::{self, Diagnostic, HostFacts, Outcome, Severity};
use crate::model::{Config, Family, FtKeys, VlanId};

/// An own address that the peer would lose: the line has no `alt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word} address` of vlan {vlan} has no `alt`: the peer would be left without an address there")]
pub struct NoAlt {
    /// Where.
    pub vlan: VlanId,
    /// `ip` or `ipv6`.
    pub word: &'static str,
}

/// `config` as it is to be on the peer: own and alternate values exchanged; ports and module number are the peer's own
/// business and left out.
///
/// # Errors
/// Every address without `alt`. On the CSM the peer's VLANs lost theirs then.
pub fn for_peer(config: &Config) -> Result<Config, Vec<NoAlt>> {
    let mut missing = Vec::new();
    for vlan in &config.vlans {
        for (family, word) in [(Family::V4, "ip"), (Family::V6, "ipv6")] {
            if vlan.own(family).is_some() && vlan.peer(family).is_none() {
                missing.push(NoAlt { vlan: vlan.id, word });
            }
        }
    }
    if !missing.is_empty() {
        return Err(missing);
    }
    let mut other = config.clone();
    other.interfaces.clear();
    other.router.clear();
    other.routes.clear();
    for vlan in &mut other.vlans {
        std::mem::swap(&mut vlan.address, &mut vlan.alt_address);
        std::mem::swap(&mut vlan.address6, &mut vlan.alt_address6);
    }
    if let Some(ft) = &mut other.ft
        && let Some(alternate) = ft.alt_priority
    {
        ft.alt_priority = Some(ft.priority);
        ft.priority = alternate;
    }
    if let Some(ft) = &mut other.ft {
        // Names of interfaces are each host's own, and keys do not cross the FT VLAN.
        ft.track.interfaces.clear();
        // Each node has a router of its own.
        ft.track.groups.clear();
        ft.track.vrrp.clear();
        ft.keys = FtKeys::default();
    }
    Ok(other)
}

/// What `own` becomes by `text`, the print of a peer's [`for_peer`]: its ports and module number stay. `name` is what
/// findings call the text.
#[must_use]
pub fn received(own: &Config, name: &str, text: &str, host: &HostFacts) -> Outcome {
    let outcome = config::check(name, text, &HostFacts::default());
    let Some(mut config) = outcome.config else { return outcome };
    if let Some(refusal) = other_group(own, &config) {
        return Outcome { config: None, diagnostics: vec![refusal] };
    }
    config.interfaces.clone_from(&own.interfaces);
    config.router.clone_from(&own.router);
    config.routes.clone_from(&own.routes);
    config.slot = own.slot;
    if let (Some(ft), Some(ours)) = (&mut config.ft, &own.ft) {
        ft.track.interfaces.clone_from(&ours.track.interfaces);
        ft.track.groups.clone_from(&ours.track.groups);
        ft.track.vrrp.clone_from(&ours.track.vrrp);
        ft.keys.clone_from(&ours.keys);
        if ft.alt_priority.is_none() {
            // Without `alt` nothing was said about this node's priority; nor does this node say the other's, or the two would
            // differ for ever.
            ft.priority = ours.priority;
        }
    }
    // With its own ports there may be more to say.
    config::check(name, &config::print(&config), host)
}

/// Why a configuration of another FT group, or of none, is not for this node: with it the node would stand alone, and be
/// active beside its peer.
fn other_group(own: &Config, other: &Config) -> Option<Diagnostic> {
    let group = |config: &Config| config.ft.as_ref().map(|ft| (ft.group, ft.vlan));
    if group(own) == group(other) {
        return None;
    }
    let named = |config: &Config| {
        group(config)
            .map_or_else(|| "no ft group".to_owned(), |(group, vlan)| format!("ft group {group} vlan {vlan}"))
    };
    Some(Diagnostic {
        severity: Severity::Error,
        line: 0,
        column: 0,
        width: 0,
        message: format!("it is for {}, this node is of {}", named(other), named(own)),
        remedy: Some("give both nodes the same `ft group N vlan M`".to_owned()),
    })
}

/// `config` without what the two nodes of a pair have each for itself: ports, tracked interfaces and groups, module number.
/// Of addresses and priority it is the pair of own and `alt` value that both must have, in one order; without an `alt` nothing
/// is said of the peer's.
#[must_use]
pub fn shared(config: &Config) -> String {
    let mut shared = config.clone();
    shared.slot = 0;
    shared.interfaces.clear();
    shared.router.clear();
    shared.routes.clear();
    for vlan in &mut shared.vlans {
        (vlan.address, vlan.alt_address) = in_order(vlan.address, vlan.alt_address);
        (vlan.address6, vlan.alt_address6) = in_order(vlan.address6, vlan.alt_address6);
    }
    if let Some(ft) = &mut shared.ft {
        let (first, second) = in_order(Some(ft.priority), ft.alt_priority);
        (ft.priority, ft.alt_priority) = (first.unwrap_or(0), second);
        // Keys are changed on one node after the other.
        ft.keys = FtKeys::default();
        ft.track.interfaces.clear();
        // Each node has a router of its own.
        ft.track.groups.clear();
        ft.track.vrrp.clear();
    }
    config::print(&shared)
}

/// The same on both nodes, if each has what the other calls `alt`.
fn in_order<T: Ord>(own: Option<T>, alt: Option<T>) -> (Option<T>, Option<T>) {
    match (own, alt) {
        (Some(own), Some(alt)) if alt < own => (Some(alt), Some(own)),
        (Some(own), Some(alt)) => (Some(own), Some(alt)),
        _ => (None, None),
    }
}

/// The commands that one of the pair has and the other has not; both given by [`shared`].
#[must_use]
pub fn out_of_sync(peer: &str, own: &str) -> Vec<Difference> {
    differences(peer, own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVE: &str = "interface eth1
 switchport access vlan 2
interface eth2
 switchport access vlan 3
interface eth3
 switchport access vlan 9
module csm 5
 vlan 2 client
  ip address 192.158.38.10 255.255.255.0 alt 192.158.38.40 255.255.255.0
  gateway 192.158.38.20
 vlan 3 server
  ip address 192.158.39.10 255.255.255.0 alt 192.158.39.30 255.255.255.0
  alias 192.158.39.20 255.255.255.0
 ft group 90 vlan 9
  priority 10 alt 15
";
    const STANDBY: &str = "interface port0
 switchport access vlan 2
interface port1
 switchport access vlan 3
interface port2
 switchport access vlan 9
module csm 6
 ft group 90 vlan 9
";

    fn parse(text: &str) -> Config {
        config::check("a.cfg", text, &HostFacts::default()).config.expect("good")
    }

    #[test]
    fn the_guides_example_reaches_a_standby_that_has_only_its_ft_group() {
        let (active, standby) = (parse(ACTIVE), parse(STANDBY));
        let text = config::print(&for_peer(&active).expect("every address has its alt"));
        let outcome = received(&standby, "peer", &text, &HostFacts::default());
        let config = outcome.config.expect("good");
        let text = config::print(&config);
        assert!(text.starts_with("interface port0\n switchport access vlan 2\n"), "{text}");
        assert!(text.contains("module csm 6\n"), "{text}");
        assert!(
            text.contains("ip address 192.158.38.40 255.255.255.0 alt 192.158.38.10 255.255.255.0\n"),
            "{text}"
        );
        assert!(text.contains("  priority 15 alt 10\n"), "{text}");
        assert_eq!(out_of_sync(&shared(&config), &shared(&active)), []);
        // And back: the same as before.
        let again = received(
            &active,
            "peer",
            &config::print(&for_peer(&config).expect("alt")),
            &HostFacts::default(),
        );
        assert_eq!(again.config, Some(active));
    }

    #[test]
    fn another_groups_configuration_or_one_without_a_group_is_refused() {
        for other in [" vlan 2 client\n", " ft group 91 vlan 9\n", " ft group 90 vlan 8\n"] {
            let own = parse(STANDBY);
            let text = format!("module csm 5\n{other}");
            let outcome = received(&own, "peer", &text, &HostFacts::default());
            assert!(outcome.config.is_none(), "{other}");
            let said = &outcome.diagnostics[0].message;
            assert!(said.contains("this node is of ft group 90 vlan 9"), "{said}");
        }
    }

    #[test]
    fn an_address_without_alt_is_refused_by_name() {
        let active = parse(&ACTIVE.replace(" alt 192.158.39.30 255.255.255.0", ""));
        let missing = for_peer(&active).expect_err("one is missing");
        assert_eq!(
            missing.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["`ip address` of vlan 3 has no `alt`: the peer would be left without an address there"]
        );
    }

    #[test]
    fn a_peer_keeps_its_priority_if_none_is_said() {
        let active = parse(&ACTIVE.replace("priority 10 alt 15", "priority 40"));
        let standby = parse(&(STANDBY.to_owned() + "  priority 30\n"));
        let text = config::print(&for_peer(&active).expect("alt"));
        let config = received(&standby, "peer", &text, &HostFacts::default()).config.expect("good");
        assert_eq!(config.ft.map(|ft| ft.priority), Some(30));
        // Nor do the two differ for ever because the standby says what the active one's is to be.
        let standby = parse(&(STANDBY.to_owned() + "  priority 30 alt 40\n"));
        let config = received(&standby, "peer", &text, &HostFacts::default()).config.expect("good");
        assert_eq!(out_of_sync(&shared(&config), &shared(&active)), []);
    }

    #[test]
    fn what_the_peer_does_not_know_is_named_with_its_line() {
        let outcome = received(&parse(STANDBY), "peer", "module csm 5\n frobnicate\n", &HostFacts::default());
        assert!(outcome.config.is_none() && outcome.diagnostics[0].line == 2);
    }

    #[test]
    fn an_address_that_is_not_the_peers_alt_is_a_difference() {
        let active = parse(ACTIVE);
        let standby = config::print(&for_peer(&active).expect("alt"));
        let named = |from: &str, to: &str| {
            let changed = parse(&standby.replace(from, to));
            out_of_sync(&shared(&changed), &shared(&active))
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(named("", ""), [""; 0]);
        let lines = named("ip address 192.158.38.40", "ip address 192.158.38.41");
        assert_eq!(lines.len(), 2, "{lines:?}");
        let line = "ip address 192.158.38.10 255.255.255.0 alt 192.158.38.41 255.255.255.0";
        assert!(lines.iter().any(|found| found.contains(line)), "{lines:?}");
        assert!(!named(" alt 192.158.39.10 255.255.255.0", "").is_empty(), "the peer has no alt");
        assert!(!named("priority 15 alt 10", "priority 16 alt 10").is_empty());
    }

    #[test]
    fn ten_kinds_of_difference_are_each_named() {
        let base = ACTIVE.to_owned()
            + " probe P icmp\n  interval 5\n natpool N 192.158.39.60 192.158.39.61 netmask 255.255.255.0\n serverfarm F\n  \
               probe P\n  real 192.158.39.101\n   weight 4\n   inservice\n vserver V\n  virtual 192.158.38.30 tcp www\n  \
               serverfarm F\n  replicate csrp connection\n  inservice\n";
        let own = parse(&base);
        for (from, to, line) in [
            ("interval 5", "interval 6", "interval 5"),
            ("  gateway 192.158.38.20\n", "", "gateway 192.158.38.20"),
            ("alias 192.158.39.20 ", "alias 192.158.39.21 ", "alias 192.158.39.20 255.255.255.0"),
            ("weight 4", "weight 5", "weight 4"),
            ("   inservice\n", "", "inservice"),
            ("tcp www", "tcp 81", "virtual 192.158.38.30 tcp www"),
            ("  replicate csrp connection\n", "", "replicate csrp connection"),
            (
                "192.158.39.61 netmask",
                "192.158.39.62 netmask",
                "natpool N 192.158.39.60 192.158.39.61 netmask 255.255.255.0",
            ),
            ("  probe P\n", "", "probe P"),
            (
                "serverfarm F\n  probe",
                "serverfarm F\n  predictor hash address\n  probe",
                "predictor hash address",
            ),
        ] {
            let peer = parse(&base.replacen(from, to, 1));
            let found = out_of_sync(&shared(&peer), &shared(&own));
            assert!(found.iter().any(|found| found.line == line), "{line}: {found:?}");
            assert!(found.len() <= 2, "{found:?}");
        }
    }

    #[test]
    fn each_node_keeps_the_router_that_it_follows_and_the_pair_is_in_sync() {
        let with = |text: &str, router: &str| {
            let lines = format!("  track group 1 router {router}\n  track vrrp 7 router {router}\n");
            parse(&format!("{text}  preempt\n{lines}"))
        };
        let (active, standby) = (with(ACTIVE, "192.158.38.2"), with(ACTIVE, "192.158.38.3"));
        assert_eq!(out_of_sync(&shared(&active), &shared(&standby)), []);
        let text = config::print(&for_peer(&active).expect("alt"));
        let config = received(&standby, "peer", &text, &HostFacts::default()).config.expect("good");
        assert_eq!(config.ft.map(|ft| ft.track), standby.ft.map(|ft| ft.track));
    }
}
