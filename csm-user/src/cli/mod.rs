//! The command line: one-shot commands in the CSM's words.
//!
//! Pure: [`grammar`] (words to a request, with IOS abbreviations) and [`show`] (a reply to text). Shells: [`exec`] (asks
//! the daemon), [`check`] and [`configure`] (read files).

pub mod check;
pub mod configure;
pub mod exec;
pub mod grammar;
pub mod show;
pub mod state;
