//! The command line: one-shot commands in the CSM's words, and a shell for those who stay.
//!
//! Pure: [`grammar`] (words to a request, with IOS abbreviations), [`filter`] (what stands behind a bar), [`show`] (a reply
//! to text) and [`shell`] (modes, prompts, help). Shells: [`exec`] (asks the daemon), [`check`] and [`configure`] (read
//! files), [`shell::task`] (the terminal).

pub mod check;
pub mod configure;
pub mod exec;
pub mod filter;
pub mod grammar;
pub mod select;
pub mod shell;
pub mod show;
pub mod state;
