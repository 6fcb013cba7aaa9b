//! Proven connections as userspace last heard of them, for `show … conns`: reading it costs the dataplane nothing.
//!
//! Fed by the event ring, by inserted replicas and by the expiry. It may trail the kernel's table and never stands for
//! it: replication and coverage read the kernel's maps.

use std::sync::atomic::{AtomicU64, Ordering};

use csm_common::flow::{Connection, FlowKey};
use csm_common::limits::CONNECTIONS_MAX;
use dashmap::DashMap;

/// The mirror; at most [`CONNECTIONS_MAX`] connections.
#[derive(Debug, Default)]
pub struct Mirror {
    connections: DashMap<FlowKey, Connection>,
    left_out: AtomicU64,
}

impl Mirror {
    /// `connection` stands.
    pub fn put(&self, connection: Connection) {
        let key = connection.forward_key();
        if self.connections.len() >= CONNECTIONS_MAX as usize && !self.connections.contains_key(&key) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.connections.insert(key, connection);
    }

    /// `connection` stands no more; a later one under its key stays.
    pub fn take(&self, connection: &Connection) {
        self.connections
            .remove_if(&connection.forward_key(), |_, known| known.generation == connection.generation);
    }

    /// All connections, in no order.
    #[must_use]
    pub fn list(&self) -> Vec<Connection> {
        self.connections.iter().map(|entry| *entry.value()).collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Connections that found no room.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::Mirror;
    use csm_common::flow::{Connection, STATE_ESTABLISHED};

    pub(in crate::dataplane) fn connection(client_port: u16, generation: u32) -> Connection {
        Connection {
            client_be: u32::from_ne_bytes([10, 0, 0, 1]),
            virtual_be: u32::from_ne_bytes([192, 158, 38, 30]),
            real_be: u32::from_ne_bytes([192, 158, 39, 101]),
            source_be: u32::from_ne_bytes([10, 0, 0, 1]),
            client_port_be: client_port.to_be(),
            virtual_port_be: 80_u16.to_be(),
            real_port_be: 80_u16.to_be(),
            source_port_be: client_port.to_be(),
            client_vlan: 2,
            server_vlan: 3,
            proto: 6,
            state: STATE_ESTABLISHED,
            pad: 0,
            vserver: 0,
            real: 0,
            generation,
        }
    }

    #[test]
    fn the_end_of_an_old_connection_does_not_hide_its_successor() {
        let mirror = Mirror::default();
        mirror.put(connection(1000, 1));
        mirror.put(connection(1000, 2));
        mirror.take(&connection(1000, 1));
        assert_eq!(mirror.list(), [connection(1000, 2)]);
        mirror.take(&connection(1000, 2));
        assert!(mirror.is_empty());
    }
}
