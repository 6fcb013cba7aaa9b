//! Replication of connections and sticky entries to the peer.

pub mod record;
