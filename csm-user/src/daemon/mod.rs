//! The composition root: starts the features and routes events between them.
