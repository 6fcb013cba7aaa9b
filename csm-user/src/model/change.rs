//! What of a change of the configuration a running node cannot take. Pure.

use super::{Config, FtGroup, Vlan, VlanId};

/// The parts in which `after` differs from `before` that are laid down when `csmd` starts, each named by its command;
/// empty if all of the change can be made while connections go on.
#[must_use]
pub fn needs_restart(before: &Config, after: &Config) -> Vec<String> {
    let mut parts = Vec::new();
    if before.slot != after.slot {
        parts.push(format!("module csm {}", after.slot));
    }
    ports(before, after, &mut parts);
    let ids = before.vlan_ids().chain(after.vlan_ids().filter(|id| !before.vlan_ids().any(|old| old == *id)));
    for id in ids {
        vlan(before, after, id, &mut parts);
    }
    if before.router != after.router || before.routes != after.routes {
        parts.push("the lines of this host as a router".to_owned());
    }
    fault_tolerance(before.ft.as_ref(), after.ft.as_ref(), &mut parts);
    parts
}

fn ports(before: &Config, after: &Config, parts: &mut Vec<String>) {
    let names = before.interfaces.iter().chain(&after.interfaces).map(|interface| &interface.name);
    let mut seen = Vec::new();
    for name in names {
        let of = |config: &Config| config.interfaces.iter().find(|port| port.name == *name).cloned();
        if !seen.contains(&name) && of(before) != of(after) {
            parts.push(format!("interface {name}"));
        }
        seen.push(name);
    }
}

/// What a port is given by its VLAN: the side, the node's own address, the VLAN it is bridged with.
fn vlan(before: &Config, after: &Config, id: VlanId, parts: &mut Vec<String>) {
    let known = |config: &Config| config.vlans.iter().find(|vlan| vlan.id == id).cloned();
    let laid_down = |config: &Config| {
        known(config).map(|vlan| {
            (vlan.role, vlan.address, vlan.address6, config.bridged_with(id).map(|other| other.id))
        })
    };
    let carried = |config: &Config| config.interface_of(id).is_some();
    if laid_down(before) == laid_down(after) || !(carried(before) || carried(after)) {
        return;
    }
    let addressed = |old: &Vlan, new: &Vlan| {
        old.role == new.role && (old.address, old.address6) != (new.address, new.address6)
    };
    match (known(before), known(after)) {
        (Some(old), Some(new)) if addressed(&old, &new) => {
            let word = if old.address == new.address { "ipv6" } else { "ip" };
            parts.push(format!("`{word} address` of vlan {id}"));
        }
        _ => parts.push(format!("vlan {id}")),
    }
}

fn fault_tolerance(before: Option<&FtGroup>, after: Option<&FtGroup>, parts: &mut Vec<String>) {
    match (before, after) {
        (None, None) => {}
        (Some(old), Some(new)) => {
            if (old.group, old.vlan) != (new.group, new.vlan) {
                parts.push(format!("ft group {} vlan {}", new.group, new.vlan));
            }
            if (old.heartbeat, old.failover) != (new.heartbeat, new.failover) {
                parts.push("the timers `heartbeat-time` and `failover`".to_owned());
            }
            if old.witness != new.witness {
                parts.push("the line `witness`".to_owned());
            }
            if old.track != new.track {
                parts.push("the lines `track`".to_owned());
            }
        }
        (Some(group), None) | (None, Some(group)) => {
            parts.push(format!("ft group {} vlan {}", group.group, group.vlan));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HostFacts, check, edit};

    const RUNNING: &str = "interface eth1
 switchport access vlan 2
interface eth2
 switchport access vlan 3
interface eth3
 switchport access vlan 9
module csm 5
 vlan 2 client
  ip address 192.158.38.10 255.255.255.0
 vlan 3 server
  ip address 192.158.39.10 255.255.255.0
  alias 192.158.39.20 255.255.255.0
 serverfarm WEB
  real 192.158.39.101
   inservice
 vserver VIP1
  virtual 192.158.38.30 tcp www
  serverfarm WEB
  inservice
 ft group 1 vlan 9
";

    fn parts(lines: &str) -> Vec<String> {
        let before = check("a.cfg", RUNNING, &HostFacts::default()).config.expect("good");
        let edited = edit(&before, "terminal", lines, &HostFacts::default());
        let after = edited.outcome.config.clone();
        let after = after.unwrap_or_else(|| panic!("{}", edited.report("terminal", lines)));
        needs_restart(&before, &after)
    }

    #[test]
    fn services_priorities_and_routes_change_while_it_runs() {
        for lines in [
            "no vserver VIP1",
            "vserver VIP1\n virtual 192.158.38.31 tcp 81\n sticky 5",
            "serverfarm WEB\n no real 192.158.39.101\n real 192.158.39.102\n  inservice",
            "ft group 1 vlan 9\n priority 30 alt 10\n preempt",
            "vlan 3 server\n alias 192.158.39.21 255.255.255.0\n route 10.0.0.0 255.0.0.0 gateway 192.158.39.1",
            "vlan 2 client\n gateway 192.158.38.20",
            "vlan 2 client\n ip address 192.158.38.10 255.255.255.0 alt 192.158.38.40 255.255.255.0",
            // Nothing carries it: there is nothing to lay down.
            "vlan 7 server\n ip address 10.7.0.1 255.255.255.0",
        ] {
            assert_eq!(parts(lines), Vec::<String>::new(), "{lines}");
        }
    }

    #[test]
    fn what_is_laid_down_at_the_start_is_named() {
        for (lines, part) in [
            ("module csm 6", "module csm 6"),
            ("interface eth1\n xdp mode generic", "interface eth1"),
            ("interface eth4\n switchport access vlan 4", "interface eth4"),
            ("vlan 3 server\n ip address 192.158.39.11 255.255.255.0", "`ip address` of vlan 3"),
            ("ft group 1 vlan 9\n authentication key-string k\n witness 10.0.0.9", "the line `witness`"),
            ("ft group 1 vlan 9\n failover 5", "the timers `heartbeat-time` and `failover`"),
            ("no ft group 1 vlan 9", "ft group 1 vlan 9"),
        ] {
            assert!(parts(lines).iter().any(|named| named == part), "{lines}: {:?}", parts(lines));
        }
        assert!(parts("no interface eth2\ninterface eth2\n switchport access vlan 3").is_empty());
    }
}
