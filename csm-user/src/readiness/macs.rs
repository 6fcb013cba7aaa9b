//! Whether the network takes the MAC address that the pair's addresses have.

use super::{BoxFacts, Check, Checks, Grade};

impl Checks {
    /// Said only where something is found: without a peer of this version nothing is known.
    pub(super) fn macs(&mut self, boxes: &[(&str, &BoxFacts)]) {
        for (who, facts) in boxes {
            for vlan in &facts.lost_macs {
                self.missing(
                    "mac",
                    format!("frames of {who} with the virtual MAC address are lost on vlan {vlan}"),
                    Some("have the switch or hypervisor take them, or configure `vmac auto` or `vmac off` there"),
                );
            }
            for vlan in &facts.own_macs {
                self.0.push(Check {
                    grade: Grade::Remark,
                    about: "mac",
                    found: format!(
                        "{who} uses its port's own MAC address on vlan {vlan}: frames with another are lost, and hosts follow a \
                         takeover by its announcements alone"
                    ),
                    remedy: Some("have the switch or hypervisor take them, or configure `vmac off` there"),
                });
            }
        }
    }
}
