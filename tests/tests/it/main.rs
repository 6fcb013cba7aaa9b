//! Lab tests.

mod ft;
