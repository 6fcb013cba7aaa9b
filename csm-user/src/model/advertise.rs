//! Route health injection: which networks this node's routing daemons are to tell the world of. Pure.

use std::collections::BTreeSet;

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

impl Config {
    /// The networks of the virtual servers that are to be told of, each once, if this node forwards. `serves`: whether a virtual server
    /// is operational.
    pub fn advertised(&self, serves: impl Fn(&Vserver) -> bool) -> BTreeSet<IpNet> {
        let is_told = |vserver: &&Vserver| match vserver.advertise {
            None => false,
            Some(Advertise::Always) => vserver.inservice,
            Some(Advertise::Active) => serves(vserver),
        };
        let told = self.vservers.iter().filter(is_told);
        told.filter_map(|vserver| Some(vserver.virtual_server?.network.trunc())).collect()
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
            let networks = config(first, second).advertised(|_| serves);
            networks.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let (none, one) = (Vec::<String>::new(), vec!["10.6.0.100/32".to_owned()]);
        assert_eq!(told("inservice", "no advertise", true), none, "by default none");
        assert_eq!(told("inservice", "advertise", false), one);
        assert_eq!(told("inservice", "advertise active", true), one);
        assert_eq!(told("inservice", "advertise active", false), none);
        assert_eq!(told("advertise", "advertise active", false), none, "the first is not in service");
    }
}
