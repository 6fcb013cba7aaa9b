//! Route health injection: which networks this node's routing daemons are to tell the world of. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;

use super::{Config, Vserver};

/// `advertise [active]` (`always` and `active` of CISCO-SLB-EXT-MIB).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advertise {
    /// As long as it is configured and in service.
    Always,
    /// While one of its reals can serve.
    Active,
}

/// Networks of virtual servers with `advertise`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Those that are to be told of.
    pub wanted: BTreeSet<IpNet>,
    /// Those of which that is not known yet: what stands stays, and nothing is added.
    pub unknown: BTreeSet<IpNet>,
}

impl Told {
    /// Of the networks that have a route, those that are to lose it.
    pub fn surplus<'a>(&'a self, standing: &'a BTreeSet<IpNet>) -> impl Iterator<Item = &'a IpNet> {
        standing.difference(&self.wanted).filter(|network| !self.unknown.contains(network))
    }

    /// The networks that are to get a route.
    pub fn missing<'a>(&'a self, standing: &'a BTreeSet<IpNet>) -> impl Iterator<Item = &'a IpNet> {
        self.wanted.difference(standing)
    }
}

impl Config {
    /// The networks of the virtual servers that are to be told of, each once. `forwards`: whether this node does; `serves`: whether
    /// a virtual server is operational; `None`: not known yet.
    pub fn advertised(&self, forwards: Option<bool>, serves: impl Fn(&Vserver) -> Option<bool>) -> Told {
        let mut told = Told::default();
        if forwards == Some(false) {
            return told;
        }
        for vserver in &self.vservers {
            let is_told = match vserver.advertise {
                Some(Advertise::Always) => Some(vserver.inservice),
                Some(Advertise::Active) => serves(vserver),
                None => continue,
            };
            let Some(network) = vserver.virtual_server.map(|server| server.network.trunc()) else { continue };
            match (is_told, forwards) {
                (Some(false), _) => continue,
                (Some(true), Some(_)) => told.wanted.insert(network),
                _ => told.unknown.insert(network),
            };
        }
        told.unknown.retain(|network| !told.wanted.contains(network));
        told
    }

    /// Whether the kernel's routes are to be looked at, `since` so long after they were: as soon as what is to be told of is another
    /// than `before`, when that was done (`None`: it was not), and by `variable ADVERTISE_RHI_FREQ` to see whether they are there still.
    #[must_use]
    pub fn is_look_due(&self, before: Option<&Told>, now: &Told, since: Duration) -> bool {
        before != Some(now) || since >= self.variables.advertised
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HostFacts, check};

    fn config(first: &str, second: &str) -> Config {
        let text = format!(
            "module csm 5\n serverfarm FARM\n vserver ONE\n  virtual 10.6.0.100 tcp www\n  serverfarm FARM\n  {first}\n \
             vserver TWO\n  virtual 10.6.0.100 tcp 443\n  serverfarm FARM\n  {second}\n  inservice\n \
             vserver NET\n  virtual 2001:db8:1::/64 any\n  serverfarm FARM\n  inservice\n"
        );
        let outcome = check("advertise.cfg", &text, &HostFacts::default());
        outcome.config.unwrap_or_else(|| panic!("{:?}", outcome.diagnostics))
    }

    #[test]
    fn a_network_is_told_of_as_long_as_one_of_its_virtual_servers_wants_it() {
        let told = |first, second, serves: bool| {
            let told = config(first, second).advertised(Some(true), |_| Some(serves));
            assert_eq!(told.unknown, BTreeSet::new());
            told.wanted.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let (none, one) = (Vec::<String>::new(), vec!["10.6.0.100/32".to_owned()]);
        assert_eq!(told("inservice", "no advertise", true), none, "by default none");
        assert_eq!(told("inservice", "advertise", false), one);
        assert_eq!(told("inservice", "advertise active", true), one);
        assert_eq!(told("inservice", "advertise active", false), none);
        assert_eq!(told("advertise", "advertise active", false), none, "the first is not in service");
    }

    #[test]
    fn what_is_not_known_is_neither_added_nor_removed() {
        let networks =
            |of: &[&str]| of.iter().map(|of| of.parse().expect("a network")).collect::<BTreeSet<_>>();
        let [here, gone] = ["10.6.0.100/32", "10.6.0.99/32"];
        let standing = networks(&[here, gone]);
        // What of the standing routes goes, and what is added where none stands.
        let done = |second, forwards, serves| {
            let told = config("inservice", second).advertised(forwards, |_| serves);
            let gone: BTreeSet<IpNet> = told.surplus(&standing).copied().collect();
            let added: BTreeSet<IpNet> = told.missing(&BTreeSet::new()).copied().collect();
            (gone, added)
        };
        let [none, one] = [networks(&[]), networks(&[here])];
        let (rest, both) = (networks(&[gone]), networks(&[here, gone]));
        for (second, forwards, serves, expected) in [
            ("advertise active", Some(true), Some(true), (&rest, &one)),
            ("advertise active", Some(true), Some(false), (&both, &none)),
            ("advertise active", Some(true), None, (&rest, &none)),
            ("advertise active", None, Some(true), (&rest, &none)),
            ("advertise active", None, None, (&rest, &none)),
            // It serves nobody, or there is no such line: that is known whatever else is not.
            ("advertise active", None, Some(false), (&both, &none)),
            ("no advertise", None, None, (&both, &none)),
            ("advertise", Some(true), None, (&rest, &one)),
            ("advertise", None, None, (&rest, &none)),
            ("advertise", Some(false), None, (&both, &none)),
        ] {
            let (gone, added) = done(second, forwards, serves);
            assert_eq!((&gone, &added), expected, "{second}, forwards {forwards:?}, serves {serves:?}");
        }
    }

    #[test]
    fn the_routes_are_looked_at_as_often_as_the_variable_says_and_at_each_change() {
        let with = |line: &str| {
            let text = format!("module csm 5\n {line}\n vserver ONE\n  virtual 10.6.0.100 tcp www\n");
            let outcome = check("advertise.cfg", &text, &HostFacts::default());
            outcome.config.unwrap_or_else(|| panic!("{:?}", outcome.diagnostics))
        };
        let told = config("advertise\n  inservice", "no advertise").advertised(Some(true), |_| None);
        let [by_default, often, seldom] =
            ["!", "variable ADVERTISE_RHI_FREQ 1", "variable ADVERTISE_RHI_FREQ 65535"].map(with);
        for (config, seconds) in [(&by_default, 10), (&often, 1), (&seldom, 65_535)] {
            let period = Duration::from_secs(seconds);
            let due = |since| config.is_look_due(Some(&told), &told, since);
            assert_eq!((due(period - Duration::from_millis(1)), due(period)), (false, true), "{seconds} s");
            assert!(config.is_look_due(None, &told, Duration::ZERO), "it was not done");
            assert!(config.is_look_due(Some(&Told::default()), &told, Duration::ZERO), "another network");
        }
    }

    #[test]
    fn one_virtual_server_that_is_known_is_enough() {
        let told = config("advertise\n  inservice", "advertise active").advertised(Some(true), |_| None);
        assert_eq!((told.wanted.len(), told.unknown.len()), (1, 0));
    }
}
