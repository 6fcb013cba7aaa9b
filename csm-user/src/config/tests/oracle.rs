//! What has to hold of any text at all; the fuzz target in `tests/fuzz` uses this file, too.

use crate::config::cursor::Cursor;
use crate::config::{HostFacts, check, edit, import, print, render};
use crate::model::Config;

/// Lines that are given to the shell's cursor: its work for each grows with those before.
const LINES: usize = 60;

/// Reads `text` in each way there is.
///
/// # Panics
/// If a finding is not shown, what is printed does not read back as it was, or anything else panics.
pub(crate) fn examine(text: &str, host: &HostFacts) {
    let outcome = check("a.cfg", text, host);
    let rendered = render("a.cfg", text, &outcome.diagnostics);
    assert_eq!(rendered.matches(": error: ").count(), outcome.errors(), "{rendered}");
    assert_eq!(outcome.config.is_some(), outcome.errors() == 0);
    for found in &outcome.diagnostics {
        assert!(found.line <= text.lines().count(), "{found:?}");
        if let Some(line) = found.line.checked_sub(1).and_then(|line| text.lines().nth(line)) {
            assert!(found.column >= 1 && found.column <= line.len() + 2, "{found:?}");
        }
    }
    if let Some(read) = outcome.config {
        let printed = print(&read);
        let again = check("a.cfg", &printed, host).config;
        assert_eq!(again.as_ref(), Some(&read), "{printed}");
        assert_eq!(again.map(|again| print(&again)), Some(printed));
    }
    let typed = edit(&Config::default(), "terminal", text, host);
    let _report = typed.report("terminal", text);
    let _imported = import(text);
    let mut cursor = Cursor::default();
    for line in text.lines().take(LINES) {
        cursor = cursor.step(5, line).cursor;
        let words: Vec<&str> = line.split_whitespace().collect();
        let _choices = cursor.choices(&words, "");
    }
}
