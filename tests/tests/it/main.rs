//! Lab tests.

mod replication;
