//! Lab tests.
fn main() {}
