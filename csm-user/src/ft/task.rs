//! Shell.
pub mod handle;
