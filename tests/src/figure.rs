//! The configuration of the seed's Figure 7-1 for both nodes, with the services that the lab's traffic needs.

use std::fmt::Write;
use std::time::Duration;

use crate::topology::{ALIAS, ALIAS6, ROUTER, ROUTER6, Side, VIP, VIP6, VLANS, Wiring};

/// Port of the long-lived connections' virtual server.
pub const MESSAGE_PORT: u16 = 9000;
/// Port of the UDP echo's virtual server.
pub const ECHO_PORT: u16 = 7;
/// Port of the web's virtual server.
pub const WEB_PORT: u16 = 80;

/// The FT group's timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// `heartbeat-time`.
    pub heartbeat: Duration,
    /// `failover`.
    pub failover: Duration,
}

impl Timers {
    /// 50 ms and 150 ms.
    pub const FAST: Self =
        Self { heartbeat: Duration::from_millis(50), failover: Duration::from_millis(150) };
    /// The CSM's own: 1 s and 3 s.
    pub const CSM_DEFAULT: Self =
        Self { heartbeat: Duration::from_secs(1), failover: Duration::from_secs(3) };
}

impl std::str::FromStr for Timers {
    type Err = String;

    /// `HEARTBEAT/FAILOVER`, milliseconds.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(heartbeat, failover)| {
            Some((heartbeat.trim().parse().ok()?, failover.trim().parse().ok()?))
        });
        let (heartbeat, failover) =
            parts.ok_or("expected HEARTBEAT/FAILOVER in milliseconds, such as 50/150")?;
        Ok(Self { heartbeat: Duration::from_millis(heartbeat), failover: Duration::from_millis(failover) })
    }
}

impl std::fmt::Display for Timers {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.heartbeat.as_millis(), self.failover.as_millis())
    }
}

/// What differs from lab to lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure {
    /// The FT group's timers.
    pub timers: Timers,
    /// Whether the node of higher priority takes its role back.
    pub preempt: bool,
    /// How the nodes are connected.
    pub wiring: Wiring,
}

/// What the farms do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forwarding {
    /// `nat server`.
    #[default]
    ServerNat,
    /// `no nat server`: the servers own the virtual address.
    Dispatch,
    /// `nat client POOL` beside it.
    ClientNat,
    /// Beside `nat server`, `predictor forward` to the servers' own network.
    Onward,
}

/// The pool's addresses are the last of these with the hosts 50 to 53.
fn natpools(wiring: Wiring, ipv6: bool) -> String {
    let net = if wiring == Wiring::OneArmed { 38 } else { 39 };
    match ipv6 {
        false => {
            format!(" natpool POOL 192.158.{net}.50 192.158.{net}.53 netmask 255.255.255.0\n")
        }
        true => format!(" natpool POOL6 fd00:{net}::50 fd00:{net}::53 prefix-length 64\n"),
    }
}

impl Forwarding {
    /// The farms' lines.
    fn lines(self, pool: &str) -> String {
        match self {
            Self::ServerNat | Self::Onward => "  nat server\n  no nat client\n".into(),
            Self::Dispatch => "  no nat server\n".into(),
            Self::ClientNat => format!("  nat client {pool}\n"),
        }
    }

    /// The farm and the virtual server for a network of servers.
    fn onward(self, name: &str, network: &str) -> String {
        if self != Self::Onward {
            return String::new();
        }
        format!(
            " exit\n serverfarm {name}\n  predictor forward\n vserver {name}\n  virtual {network} any\n  serverfarm {name}\n  \
             replicate csrp connection\n  inservice\n"
        )
    }
}

impl Figure {
    /// The configuration text of one node.
    pub fn text(&self, side: Side) -> String {
        self.text_of(side, Forwarding::ServerNat)
    }

    /// The same with farms that do this.
    pub fn text_of(&self, side: Side, forwarding: Forwarding) -> String {
        let mut text = String::new();
        let one_armed = self.wiring == Wiring::OneArmed;
        match self.wiring.is_trunk() {
            false => {
                let used = |&(_, vlan): &(i32, u16)| !(one_armed && vlan == VLANS[1]);
                for (interface, vlan) in (1..).zip(VLANS).filter(used) {
                    let _ = writeln!(text, "interface eth{interface}\n switchport access vlan {vlan}");
                }
            }
            true => {
                text.push_str(
                    "interface eth1\n switchport mode trunk\n switchport trunk allowed vlan 2-3,9\n",
                );
            }
        }
        let bridge = self.wiring.is_bridge();
        let addresses = |side: Side| {
            let [on2, on3] = side.addresses();
            if bridge { [on2, on2] } else { [on2, on3] }
        };
        let ([own2, own3], [peer2, peer3]) = (addresses(side), addresses(side.peer()));
        let mask = "255.255.255.0";
        let alias = if bridge { String::new() } else { format!("  alias {ALIAS} {mask}\n") };
        let _ = write!(
            text,
            "module csm 5\n vlan 2 client\n  ip address {own2} {mask} alt {peer2} {mask}\n  gateway {ROUTER}\n"
        );
        if !one_armed {
            let _ = write!(text, " vlan 3 server\n  ip address {own3} {mask} alt {peer3} {mask}\n{alias}");
        }
        text.push_str(" probe TCP tcp\n  interval 5\n probe ICMP icmp\n  interval 5\n");
        if forwarding == Forwarding::ClientNat {
            text.push_str(&natpools(self.wiring, false));
        }
        for (farm, probe) in [("WEB", "TCP"), ("MESSAGES", "TCP"), ("ECHO", "ICMP")] {
            let lines = forwarding.lines("POOL");
            let _ = write!(text, " serverfarm {farm}\n{lines}  probe {probe}\n");
            for real in self.wiring.reals() {
                let _ = write!(text, "  real {real}\n   weight 8\n   inservice\n");
            }
        }
        for (name, port, farm, sticky) in [
            ("VIP1", "tcp www".to_owned(), "WEB", true),
            ("MESSAGES", format!("tcp {MESSAGE_PORT}"), "MESSAGES", false),
            ("ECHO", format!("udp {ECHO_PORT}"), "ECHO", false),
        ] {
            let _ = write!(text, " vserver {name}\n  virtual {VIP} {port}\n  serverfarm {farm}\n");
            if sticky {
                text.push_str("  sticky 30 group 10 netmask 255.255.255.255\n");
            }
            text.push_str("  replicate csrp connection\n");
            if sticky {
                text.push_str("  replicate csrp sticky\n");
            }
            text.push_str("  inservice\n");
        }
        text.push_str(&forwarding.onward("ONWARD", "192.158.39.0 255.255.255.0"));
        text.push_str(&self.ft_group(side));
        text
    }

    fn ft_group(&self, side: Side) -> String {
        let priority = if side == Side::A { 20 } else { 10 };
        let mut text = format!(" ft group 1 vlan 9\n  priority {priority}\n");
        // In seconds where it can be, as on the CSM.
        for (command, value) in
            [("heartbeat-time", self.timers.heartbeat), ("failover", self.timers.failover)]
        {
            let _ = if value.subsec_millis() == 0 {
                writeln!(text, "  {command} {}", value.as_secs())
            } else {
                writeln!(text, "  {command} msec {}", value.as_millis())
            };
        }
        if self.preempt {
            text.push_str("  preempt\n");
        }
        text
    }
}

/// More of `module csm` for one node: the same in IPv6.
pub fn ipv6(side: Side, wiring: Wiring, forwarding: Forwarding) -> String {
    let bridge = wiring.is_bridge();
    let addresses = |side: Side| {
        let [on2, on3] = side.addresses6();
        if bridge { [on2, on2] } else { [on2, on3] }
    };
    let ([own2, own3], [peer2, peer3]) = (addresses(side), addresses(side.peer()));
    let alias = if bridge { String::new() } else { format!("  alias {ALIAS6}/64\n") };
    let mut text = format!(" vlan 2 client\n  ipv6 address {own2}/64 alt {peer2}/64\n  gateway {ROUTER6}\n");
    if wiring != Wiring::OneArmed {
        let _ = write!(text, " vlan 3 server\n  ipv6 address {own3}/64 alt {peer3}/64\n{alias}");
    }
    if forwarding == Forwarding::ClientNat {
        text.push_str(&natpools(wiring, true));
    }
    for (farm, probe) in [("WEB6", "TCP"), ("MESSAGES6", "TCP"), ("ECHO6", "ICMP")] {
        let _ = write!(text, " serverfarm {farm}\n{}  probe {probe}\n", forwarding.lines("POOL6"));
        for real in wiring.reals6() {
            let _ = write!(text, "  real {real}\n   inservice\n");
        }
    }
    for (name, to, sticky) in [
        ("WEB6", "tcp www".to_owned(), "  sticky 30 group 16\n  replicate csrp sticky\n"),
        ("MESSAGES6", format!("tcp {MESSAGE_PORT}"), ""),
        ("ECHO6", format!("udp {ECHO_PORT}"), ""),
    ] {
        let _ = write!(
            text,
            " vserver {name}\n  virtual {VIP6} {to}\n  serverfarm {name}\n{sticky}  replicate csrp connection\n  inservice\n"
        );
    }
    text + &forwarding.onward("ONWARD6", "fd00:39::/64")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_configurations_mirror_each_other() {
        let figure = Figure { timers: Timers::FAST, preempt: false, wiring: Wiring::Access };
        let (a, b) = (figure.text(Side::A), figure.text(Side::B));
        assert!(a.contains("  ip address 192.158.38.10 255.255.255.0 alt 192.158.38.40 255.255.255.0\n"));
        assert!(b.contains("  ip address 192.158.38.40 255.255.255.0 alt 192.158.38.10 255.255.255.0\n"));
        let differing = a.lines().zip(b.lines()).filter(|(one, other)| one != other).count();
        assert_eq!(differing, 3, "two addresses and the priority");
        assert!(a.contains("\n  heartbeat-time msec 50\n  failover msec 150\n"));
    }

    #[test]
    fn timers_are_given_in_milliseconds_and_written_in_the_csms_seconds_where_whole() {
        let timers: Timers = "1000/3000".parse().unwrap_or(Timers::FAST);
        assert_eq!(timers, Timers::CSM_DEFAULT);
        let text = Figure { timers, preempt: true, wiring: Wiring::Access }.text(Side::A);
        assert!(text.ends_with("\n  heartbeat-time 1\n  failover 3\n  preempt\n"), "{text}");
        assert!("50".parse::<Timers>().is_err());
    }
}
