//! The composition root: starts the features and routes events between them.

pub mod replica;
