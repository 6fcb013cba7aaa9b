//! Fault tolerance: election, lease, heartbeats.
