//! Lab tests: as root, in namespaces of their own.
//! The tests that need root: packet fixtures and the lab.
mod dataplane;
mod lab;
