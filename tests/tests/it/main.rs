//! Tests that need root and a kernel.

mod dpuser;
//! The tests that need root: packet fixtures and the lab.

mod dataplane;
