//! The command line: one-shot commands in the CSM's words.
//!
//! Pure: [`grammar`] (words to a request, with IOS abbreviations) and [`show`] (a reply to text). Shell: [`exec`].

pub mod exec;
pub mod grammar;
pub mod show;
