//! What may have been meant by a word that is no command here.

use super::command::{Command, Mode};
use super::diagnostic::Diagnostic;
use super::parse::Section;
use super::table::commands;
use super::token::Token;

/// The diagnostic for `word`, which begins no command in `section` or above.
#[must_use]
pub(super) fn unknown(word: &Token<'_>, section: &Section) -> Diagnostic {
    let text = word.text;
    let mode = section.mode();
    let diagnostic =
        Diagnostic::error(word.span, format!("unknown command `{text}` under `{}`", mode.title()));
    if let Some(command) = elsewhere(text, mode) {
        let title = command.mode.title();
        return diagnostic.remedy(format!("`{}` belongs under `{title}`", command.keyword()));
    }
    match nearest(text, mode) {
        Some(keyword) => diagnostic.remedy(format!("did you mean `{keyword}`?")),
        None => diagnostic.remedy("remove the line, or begin it with `!` to keep it as a comment"),
    }
}

/// A command of that very name in a mode that is not open.
fn elsewhere(text: &str, mode: Mode) -> Option<&'static Command> {
    let same = |command: &&Command| command.keyword().eq_ignore_ascii_case(text) && command.mode != mode;
    commands().find(same)
}

/// The keyword that the fewest changes make of `text`: in this mode or above, or else anywhere.
fn nearest(text: &str, mode: Mode) -> Option<&'static str> {
    let text = text.to_ascii_lowercase();
    // A third of the word may be wrong.
    let most = (text.len() / 3).max(1);
    let among = |here: bool| {
        let commands = commands().filter(move |command| is_open(command.mode, mode) == here);
        let near = commands.map(|command| (distance(&text, command.keyword(), most), command.keyword()));
        near.filter(|(distance, _)| *distance <= most).min().map(|(_, keyword)| keyword)
    };
    among(true).or_else(|| among(false))
}

/// Whether commands of `mode` can be entered in `current`.
fn is_open(mode: Mode, current: Mode) -> bool {
    let mut open = Some(current);
    while let Some(at) = open {
        if at == mode {
            return true;
        }
        open = at.parent();
    }
    mode == Mode::Any
}

/// Least number of bytes inserted, deleted, replaced or swapped with their neighbour; `most + 1` if surely more.
fn distance(a: &str, b: &str, most: usize) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > most {
        return most + 1;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits_and_gives_up_on_unlike_lengths() {
        for (a, b, expected) in [
            ("gateway", "gateway", 0),
            ("gatway", "gateway", 1),
            ("gatewya", "gateway", 1),
            ("vservre", "vserver", 1),
            ("alais", "alias", 1),
            ("prior", "priority", 3),
            ("p", "priority", 4),
        ] {
            assert_eq!(distance(a, b, 3), expected, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_command_of_the_mode_is_preferred() {
        assert_eq!(nearest("gatway", Mode::Vlan), Some("gateway"));
        assert_eq!(nearest("vservr", Mode::Vserver), Some("vserver"));
        assert_eq!(nearest("wieght", Mode::Serverfarm), Some("weight"));
        assert_eq!(nearest("xyzzyplugh", Mode::Module), None);
    }
}
