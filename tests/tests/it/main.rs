//! The tests that need root: packet fixtures, the kernel's tables, the real-time thread, and the lab.

mod dataplane;
mod dpuser;
mod lab;
//! Lab tests.

mod ft;
mod replication;
