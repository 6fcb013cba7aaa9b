//! The guides' own listings and tables, and every command of layer 4, pasted into the shell as they are printed: the
//! report says what each line became. A line that is refused is refused by name.

use expect_test::{ExpectFile, expect_file};

use super::super::*;
use crate::config::split_prompt;

/// What became of `line` in `session`, which goes on as if csmd had taken it.
fn fate(session: &mut Session, line: &str) -> String {
    let command = |session: &Session, line: &str| {
        let (_, line) = split_prompt(line);
        session.config.as_ref().and_then(|cursor| cursor.step(5, line).command)
    };
    // The line itself may enter the configuration modes, by its prompt.
    let mut after = session.clone();
    let act = after.line(line);
    let entered = if session.config.is_none() && after.config.is_some() { &after } else { &*session };
    let named = command(entered, line).map(|name| format!(" [{name}]")).unwrap_or_default();
    let said = match act {
        Act::Nothing => format!("accepted{named}"),
        Act::Leave => "leaves the shell".to_owned(),
        Act::Say(said) if said.starts_with("Enter configuration") => {
            "enters the configuration modes".to_owned()
        }
        Act::Say(said) => {
            let sentence = said.lines().find(|line| line.starts_with('%')).unwrap_or_default();
            // What else would have been possible grows with every command.
            let sentence = sentence.split("; possible").next().unwrap_or_default();
            format!("{}{named}", sentence.trim_start_matches("% "))
        }
        Act::Run(command, _) => format!("runs `{command}`"),
        Act::Change(_, said) => {
            after.changed(true, "");
            let note = if said.is_empty() { "" } else { ", with a note" };
            format!("changes the configuration{named}{note}")
        }
        Act::History => "shows what was typed".to_owned(),
        Act::Length(lines) => format!("pages of {lines} lines"),
    };
    *session = after;
    said
}

fn report(listings: &str) -> String {
    let mut report = String::new();
    let mut session = Session::new("Router".to_owned(), 5);
    for line in listings.lines() {
        if line.starts_with("## ") {
            session = Session::new("Router".to_owned(), 5);
            report += &format!("{line}\n");
        } else if line.is_empty() {
            report += "\n";
        } else {
            let fate = fate(&mut session, line);
            report += &format!("{line}\n    {fate}\n");
        }
    }
    report
}

fn walk(listings: &str, expected: &ExpectFile) {
    let report = report(listings);
    expected.assert_eq(&report);
    // Nothing is unknown by chance: what looks like it is named in the report, and looked at when that changes.
    assert!(report.lines().all(|line| !line.trim().is_empty() || line.is_empty()));
}

#[test]
fn every_listing_and_table_of_the_guides() {
    walk(
        include_str!("../../../../../tests/data/walk/seeds.txt"),
        &expect_file!["../../../../../tests/data/walk/seeds.report"],
    );
}

#[test]
fn every_command_of_layer_4_and_those_of_layer_7_by_name() {
    walk(
        include_str!("../../../../../tests/data/walk/reference.txt"),
        &expect_file!["../../../../../tests/data/walk/reference.report"],
    );
}
