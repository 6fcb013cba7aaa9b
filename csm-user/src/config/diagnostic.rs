//! What is wrong with a configuration, where, and what to do about it; rendered as IOS does, one caret under the line.

use std::fmt::Write as _;

use super::token::Span;

/// How bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused as a whole.
    Error,
    /// Accepted; something stays out of service or may surprise.
    Warning,
    /// Accepted; the line does nothing here.
    Note,
}

impl Severity {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// Line, from 1; 0: the file as a whole.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// Bytes that it is about.
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Diagnostic {
    /// A finding at `span`.
    #[must_use]
    pub fn new(severity: Severity, span: Span, message: impl Into<String>) -> Self {
        let Span { line, column, width } = span;
        Self { severity, line, column, width, message: message.into(), remedy: None }
    }

    /// An error at `span`.
    #[must_use]
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, span, message)
    }

    /// A warning at `span`.
    #[must_use]
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, span, message)
    }

    /// With advice.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// All findings, in the order of the file, each with its line and a caret:
///
/// ```text
/// site.cfg:12:11: error: priority is 1-254, not 255
///   priority 255
///            ^
///   remedy: ...
/// ```
#[must_use]
pub fn render(file: &str, text: &str, diagnostics: &[Diagnostic]) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::new();
    for diagnostic in diagnostics {
        let Diagnostic { severity, line, column, width: _, message, remedy } = diagnostic;
        let severity = severity.as_str();
        let position = if *line == 0 { String::new() } else { format!(":{line}:{column}") };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{file}{position}: {severity}: {}", printable(message));
        if let Some(source) = line.checked_sub(1).and_then(|index| lines.get(index)) {
            let _ = writeln!(out, "{}\n{}^", printable(&without_key(source)), caret_margin(source, *column));
        }
        if let Some(remedy) = remedy {
            let _ = writeln!(out, "  remedy: {}", printable(remedy));
        }
    }
    out
}

/// A line as it may stand in a log or a bundle: without the key or the text that proves who speaks, hidden or not.
#[must_use]
pub fn without_secrets(line: &str) -> String {
    let before = ["key-string ", "authentication text ", "authentication ", "credentials "];
    let cut = before.iter().find_map(|word| line.find(word).map(|at| at + word.len()));
    cut.map_or_else(|| line.to_owned(), |at| format!("{}<removed>", &line[..at]))
}

/// Whether `word` may be short for what a key or a password follows; `first`: of the line, where one letter may do.
#[must_use]
pub(super) fn has_secret(word: &str, first: bool) -> bool {
    let shortest = if first { 1 } else { "key".len() };
    let begins = |command: &str| command.starts_with(&word.to_ascii_lowercase());
    word.len() >= shortest && (begins("key-string") || begins("credentials"))
}

/// What follows `key-string` or `credentials`, however it is cut short, is nobody's to read in a log: a star for each character.
fn without_key(source: &str) -> String {
    let (mut secret, mut first) = (false, true);
    let mut out = String::new();
    for piece in source.split_inclusive([' ', '\t']) {
        let word = piece.trim_end_matches([' ', '\t']);
        // "7" says how the key is written.
        if secret && word != "7" {
            out.extend(word.chars().map(|_| '*'));
        } else {
            out.push_str(word);
        }
        out.push_str(&piece[word.len()..]);
        secret |= has_secret(word, first);
        first &= word.is_empty();
    }
    out
}

/// What stands before the caret: a blank for each character up to `column`, tabs kept so that it lines up.
fn caret_margin(source: &str, column: usize) -> String {
    let before = column.saturating_sub(1);
    let margin: String = source
        .char_indices()
        .take_while(|(offset, _)| *offset < before)
        .map(|(_, c)| if c == '\t' { '\t' } else { ' ' })
        .collect();
    // Past the end of the line: an incomplete command.
    let beyond = before.saturating_sub(source.len());
    margin + &" ".repeat(beyond)
}

/// Without control characters, which could drive the reader's terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_caret_stands_under_the_character_whatever_precedes_it() {
        let text = "\tnäme x\nshort";
        let found = [
            Diagnostic::error(Span { line: 1, column: 8, width: 1 }, "here"),
            Diagnostic::warning(Span { line: 2, column: 7, width: 1 }, "incomplete").remedy("go on"),
            Diagnostic::error(Span::FILE, "all of it"),
        ];
        expect![[r#"
            a.cfg:1:8: error: here
            	näme x
            	     ^
            a.cfg:2:7: warning: incomplete
            short
                  ^
              remedy: go on
            a.cfg: error: all of it
        "#]]
        .assert_eq(&render("a.cfg", text, &found));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let found = [Diagnostic::error(Span { line: 1, column: 1, width: 1 }, "\x1b[2J")];
        assert!(!render("a.cfg", "\x1b[31m", &found).contains('\x1b'));
    }

    #[test]
    fn a_key_is_not_in_what_is_said_of_its_line() {
        for (line, shown) in [
            ("  authentication key-string my secret", "  authentication key-string ** ******"),
            (" auth key s3cret", " auth key ******"),
            ("\tauthentication accept KEY-STRING 7 0508", "\tauthentication accept KEY-STRING 7 ****"),
            ("  serverfarm KEYS", "  serverfarm KEYS"),
            ("   cr admin:x hunter2", "   cr ******* *******"),
            ("  real C 80", "  real C 80"),
        ] {
            assert_eq!(without_key(line), shown);
        }
    }
}
