//! Which connections `show … conns` lists and `clear … connections` ends. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use csm_common::flow::Connection;

use super::table::family::TableFamily;

/// Conditions that a connection must meet, all of them; the default takes every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Its virtual server has one of these numbers: its own and those of its policies.
    pub vservers: Option<BTreeSet<u32>>,
    /// Its real has one of these numbers.
    pub reals: Option<BTreeSet<u32>>,
    /// Port at its real, network order.
    pub real_port_be: Option<u16>,
    /// Its client's address.
    pub client: Option<IpAddr>,
}

impl Selection {
    /// Whether `connection` meets all conditions.
    #[must_use]
    pub fn takes<A: TableFamily>(&self, connection: &Connection<A>) -> bool {
        self.vservers.as_ref().is_none_or(|numbers| numbers.contains(&connection.vserver))
            && self.reals.as_ref().is_none_or(|numbers| numbers.contains(&connection.real))
            && self.real_port_be.is_none_or(|port_be| port_be == connection.real_port_be)
            && self.client.is_none_or(|client| A::of(client) == Some(connection.client_be))
    }
}

#[cfg(test)]
mod tests {
    use super::Selection;
    use crate::dataplane::family::Wire as _;
    use crate::dataplane::table::tests::connection;
    use csm_common::flow::Connection;

    #[test]
    fn every_condition_must_be_met() {
        let one = Connection { vserver: 3, real: 7, ..connection(1000, 1) };
        let all = Selection {
            vservers: Some([3].into()),
            reals: Some([6, 7].into()),
            real_port_be: Some(one.real_port_be),
            client: Some(one.client_be.ip()),
        };
        assert!(Selection::default().takes(&one) && all.takes(&one));
        for other in [
            Connection { vserver: 4, ..one },
            Connection { real: 8, ..one },
            Connection { real_port_be: one.real_port_be ^ 1, ..one },
            Connection { client_be: one.client_be ^ 1, ..one },
        ] {
            assert!(!all.takes(&other) && Selection::default().takes(&other));
        }
    }
}
