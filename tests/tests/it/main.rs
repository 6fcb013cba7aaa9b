//! Lab tests: as root, in namespaces of their own.

mod lab;
