//! The command line: one-shot commands in the CSM's words.
//!
//! Pure: [`grammar`] (words to a request, with IOS abbreviations) and [`show`] (a reply to text). Shells: [`exec`] (asks
//! the daemon) and [`check`] (reads a file).

pub mod check;
pub mod exec;
pub mod grammar;
pub mod show;
