//! The tree's own rules, as far as reading lines can check them. Each message says what to do instead.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::exec;

/// Lines after which a file is no longer one room.
const LINES_MAX: usize = 600;

/// Longer files, each for the reason beside it.
const LONG_FILES: [(&str, &str); 1] = [("csm-user/src/config/table.rs", "the table of commands is one list")];

/// Ends of the names of shells: files that may hold a socket, a clock, a task, a file or the aya side.
const SHELL_FILES: [&str; 14] = [
    "/announcer.rs",
    "/bpf.rs",
    "/cli/check.rs",
    "/cli/configure.rs",
    "/client.rs",
    "/dataplane/expiry.rs",
    "/host/survey.rs",
    "/load.rs",
    "/maps.rs",
    "/ring.rs",
    "/server.rs",
    "/state/cut.rs",
    "/store.rs",
    "/dataplane/table.rs",
];

/// Directories in which every file is a shell; a shell of one file is named `task.rs`, a larger one goes on in `task/`.
const SHELL_DIRS: [&str; 6] = ["announcer", "bin", "daemon", "maps", "neigh", "task"];

/// What only a shell may mention; in pure code the answer comes in as an event or a parameter.
const SHELL_WORDS: [&str; 13] = [
    "tokio::",
    "aya::",
    "rtnetlink::",
    "socket2::",
    "nix::",
    "axum::",
    "hyper::",
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::thread",
    "TcpStream",
    "UdpSocket",
];

/// Features of csm-user; none imports another, `daemon` routes between them.
const FEATURES: [&str; 11] = [
    "arp",
    "dataplane",
    "ft",
    "hsrp",
    "neigh",
    "probe",
    "readiness",
    "replication",
    "state",
    "sync",
    "track",
];

/// Marks of work left undone, written in two halves so that this file does not carry them.
const UNDONE: [&str; 5] = [
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("XX", "X"),
];

/// Paths and hosts of the machine a file was written on.
const MACHINE: [&str; 5] = [
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("deb.deb", "ian.org"),
    concat!("static.cra", "tes.io"),
    concat!("static.rust", "-lang.org"),
];

/// A rule broken at one place.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Fault {
    file: String,
    line: usize,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Checks every file that git tracks or would track; `commands` are the names that `cargo xtask` knows.
///
/// # Errors
/// git or a file cannot be read.
pub(crate) fn check(root: &Path, commands: &BTreeSet<String>) -> Result<Vec<Fault>> {
    let listed = exec::output(exec::command("git").current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))
    .context("the list of files comes from git: run this in a clone")?;
    let files: BTreeSet<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
    let tree = Tree { files: &files, commands, root: root.display().to_string() };
    let mut faults = Vec::new();
    for file in &files {
        // Deleted but not committed, or not text: nothing to read.
        if let Ok(text) = std::fs::read_to_string(root.join(file)) {
            tree.check_file(file, &text, &mut faults);
        }
    }
    Ok(faults)
}

/// What one file is judged against.
struct Tree<'a> {
    files: &'a BTreeSet<&'a str>,
    commands: &'a BTreeSet<String>,
    /// Where this clone stands.
    root: String,
}

impl Tree<'_> {
    fn check_file(&self, file: &str, text: &str, faults: &mut Vec<Fault>) {
        if file == "Cargo.lock" {
            return;
        }
        let mut fault = |line: usize, message: String| {
            faults.push(Fault { file: file.to_owned(), line: line + 1, message });
        };
        let is_rust = has_extension(file, "rs");
        let length = text.lines().count();
        if is_rust && length > LINES_MAX && !LONG_FILES.iter().any(|(long, _)| *long == file) {
            fault(
                length,
                format!("{length} lines, more than {LINES_MAX}: split it where its subject changes"),
            );
        }
        let feature = feature_of(file);
        let pure = is_pure(file);
        let mut in_tests = is_test(file);
        let mut fenced = false;
        for (number, line) in text.lines().enumerate() {
            for word in UNDONE.iter().filter(|word| line.contains(**word)) {
                fault(number, format!("`{word}`: finish it, or open an issue and say nothing here"));
            }
            let own = line.contains(&self.root);
            if let Some(place) = MACHINE.iter().find(|place| own || line.contains(**place)) {
                let place = if own { &self.root } else { *place };
                fault(number, format!("`{place}` belongs to one machine: leave it out"));
            }
            if is_rust {
                in_tests |= line.trim() == "#[cfg(test)]";
                if in_tests || line.trim_start().starts_with("//") {
                    continue;
                }
                if let Some(word) = SHELL_WORDS.iter().find(|word| pure && mentions(line, word)) {
                    fault(
                        number,
                        format!("`{word}` in pure code: take it as an event or parameter from the shell"),
                    );
                }
                if let Some(other) = feature.and_then(|own| imports_other(line, own)) {
                    fault(
                        number,
                        format!("one feature imports another, `{other}`: route it through daemon/"),
                    );
                }
            } else if has_extension(file, "md") {
                fenced ^= line.trim_start().starts_with("```");
                self.check_prose(line, fenced, |message| fault(number, message));
            }
        }
    }

    /// A document names only files and commands that exist. File names are looked at outside fenced blocks, which may
    /// show a user's own files.
    fn check_prose(&self, line: &str, fenced: bool, mut fault: impl FnMut(String)) {
        for rest in line.split("cargo xtask ").skip(1) {
            let word: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
            if !word.is_empty() && !self.commands.contains(&word) {
                fault(format!("there is no `cargo xtask {word}`"));
            }
        }
        if fenced {
            return;
        }
        for span in line.split('`').skip(1).step_by(2).filter(|span| span.contains('/')) {
            let top = span.split('/').next().unwrap_or_default();
            let inside =
                self.files.iter().any(|file| file.split('/').next() == Some(top) && file.contains('/'));
            if inside && !span.contains(['*', '{', ' ', '<']) && !self.exists(span) {
                fault(format!("there is no `{span}`"));
            }
        }
        for target in line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if !target.is_empty() && !target.contains("://") && !self.exists(target.trim_start_matches("../"))
            {
                fault(format!("a link to `{target}`, which does not exist"));
            }
        }
    }

    /// True for a tracked file, or a directory that holds one.
    fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.files.iter().any(|file| {
            file.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                || file.strip_prefix("docs/").is_some_and(|rest| rest == path)
        })
    }
}

fn has_extension(file: &str, extension: &str) -> bool {
    Path::new(file).extension().is_some_and(|found| found == extension)
}

/// True for those files of csm-user that hold no socket, clock, task or file.
fn is_pure(file: &str) -> bool {
    let Some(inside) = file.strip_prefix("csm-user/src") else { return false };
    let mut parts = inside.strip_suffix(".rs").unwrap_or(inside).split('/');
    !parts.any(|part| SHELL_DIRS.contains(&part)) && !SHELL_FILES.iter().any(|shell| inside.ends_with(shell))
}

/// True for a file that only tests compile.
fn is_test(file: &str) -> bool {
    file.contains("/tests/")
        || ["/tests.rs", "/testing.rs", "_tests.rs"].iter().any(|end| file.ends_with(end))
}

/// The feature a file of csm-user belongs to.
fn feature_of(file: &str) -> Option<&'static str> {
    let inside = file.strip_prefix("csm-user/src/")?;
    FEATURES.into_iter().find(|feature| inside.split('/').next() == Some(*feature))
}

/// A feature other than `own` that the line names by path.
fn imports_other(line: &str, own: &str) -> Option<&'static str> {
    FEATURES.into_iter().find(|other| *other != own && mentions(line, &format!("crate::{other}")))
}

/// True when `word` stands in the line as a name of its own, not as the tail of a longer one.
fn mentions(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let open = word.ends_with("::") || !after.is_some_and(|c| c.is_alphanumeric() || c == '_');
        open && !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
#[path = "tidy/tests.rs"]
mod tests;
