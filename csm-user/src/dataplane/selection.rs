//! Which connections `show … conns` lists and `clear … connections` ends. Pure.

use std::collections::BTreeSet;

use csm_common::flow::Connection;

/// Conditions that a connection must meet, all of them; the default takes every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Number of its virtual server.
    pub vserver: Option<u32>,
    /// Its real has one of these numbers.
    pub reals: Option<BTreeSet<u32>>,
    /// Port at its real, network order.
    pub real_port_be: Option<u16>,
    /// Its client's address, network order.
    pub client_be: Option<u32>,
}

impl Selection {
    /// Whether `connection` meets all conditions.
    #[must_use]
    pub fn takes(&self, connection: &Connection) -> bool {
        self.vserver.is_none_or(|number| number == connection.vserver)
            && self.reals.as_ref().is_none_or(|numbers| numbers.contains(&connection.real))
            && self.real_port_be.is_none_or(|port_be| port_be == connection.real_port_be)
            && self.client_be.is_none_or(|client_be| client_be == connection.client_be)
    }
}

#[cfg(test)]
mod tests {
    use super::Selection;
    use crate::dataplane::table::tests::connection;
    use csm_common::flow::Connection;

    #[test]
    fn every_condition_must_be_met() {
        let one = Connection { vserver: 3, real: 7, ..connection(1000, 1) };
        let all = Selection {
            vserver: Some(3),
            reals: Some([6, 7].into()),
            real_port_be: Some(one.real_port_be),
            client_be: Some(one.client_be),
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
