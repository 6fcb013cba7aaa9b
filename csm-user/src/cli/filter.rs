//! What stands behind a bar: `| include RE`, `exclude`, `begin`, `section`, `count`. Pure.
//!
//! Lines go through one after the other, so a listing of a million rows needs no more memory than one of ten.

use std::collections::VecDeque;

use regex::Regex;

/// What is done with the lines that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// They stay.
    Include,
    /// They go.
    Exclude,
    /// What stands before the first goes.
    Begin,
    /// They stay, with what is indented below them.
    Section,
    /// Their number stays.
    Count,
}

impl Keep {
    /// Each by its word, with its help.
    pub const ALL: [(&'static str, Self, &'static str); 5] = [
        ("begin", Self::Begin, "from the first line that matches"),
        ("count", Self::Count, "how many lines match"),
        ("exclude", Self::Exclude, "lines that do not match"),
        ("include", Self::Include, "lines that match"),
        ("section", Self::Section, "lines that match, and what is indented below them"),
    ];
}

/// Something behind a bar.
#[derive(Clone, Debug)]
pub struct Stage {
    /// What is done.
    pub keep: Keep,
    /// With which lines.
    pub pattern: Regex,
}

impl PartialEq for Stage {
    fn eq(&self, other: &Self) -> bool {
        self.keep == other.keep && self.pattern.as_str() == other.pattern.as_str()
    }
}

impl Eq for Stage {}

/// Bars, one behind the other, and what they remember of the lines that went through.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    stages: Vec<(Stage, Memory)>,
    /// The beginning of a line whose end has not come.
    partial: String,
}

#[derive(Clone, Debug, Default)]
struct Memory {
    /// Begin: it has begun. Section: how far the line that matched was indented.
    open: Option<usize>,
    /// Count: so many.
    count: u64,
}

impl Filter {
    /// The bars of a command; without any all passes.
    #[must_use]
    pub fn new(stages: &[Stage]) -> Self {
        let stages = stages.iter().map(|stage| (stage.clone(), Memory::default())).collect();
        Self { stages, partial: String::new() }
    }

    /// Takes a part of the listing; returns what is to be shown of the lines that end in it.
    #[must_use]
    pub fn push(&mut self, text: &str) -> String {
        if self.stages.is_empty() {
            return text.to_owned();
        }
        self.partial.push_str(text);
        let Some(end) = self.partial.rfind('\n') else { return String::new() };
        let rest = self.partial.split_off(end + 1);
        let lines = std::mem::replace(&mut self.partial, rest);
        lines.lines().filter_map(|line| self.pass(0, line)).collect()
    }

    /// What is left when the listing has ended.
    #[must_use]
    pub fn finish(&mut self) -> String {
        let last = std::mem::take(&mut self.partial);
        let mut out = if last.is_empty() { String::new() } else { self.pass(0, &last).unwrap_or_default() };
        let counts: VecDeque<(usize, u64)> = self
            .stages
            .iter()
            .enumerate()
            .filter(|(_, (stage, _))| stage.keep == Keep::Count)
            .map(|(at, (_, memory))| (at, memory.count))
            .collect();
        for (at, count) in counts {
            let line = format!("Number of lines which match regexp = {count}");
            out += &self.pass(at + 1, &line).unwrap_or_default();
        }
        out
    }

    /// Whether `line` comes through all stages from `first` on.
    fn pass(&mut self, first: usize, line: &str) -> Option<String> {
        let kept = self.stages.iter_mut().skip(first).all(|(stage, memory)| {
            let matches = stage.pattern.is_match(line);
            let indent = line.len() - line.trim_start().len();
            match stage.keep {
                Keep::Include => matches,
                Keep::Exclude => !matches,
                Keep::Begin => {
                    memory.open = memory.open.or(matches.then_some(0));
                    memory.open.is_some()
                }
                Keep::Section => {
                    let inside = memory.open.is_some_and(|open| indent > open);
                    if !inside {
                        memory.open = matches.then_some(indent);
                    }
                    memory.open.is_some()
                }
                Keep::Count => {
                    memory.count += u64::from(matches);
                    false
                }
            }
        });
        kept.then(|| format!("{line}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "vlan 2\n ip one\n  deeper\nvlan 3\n ip two\nend\n";

    fn through(stages: &[(Keep, &str)]) -> String {
        let stages: Vec<_> = stages
            .iter()
            .map(|(keep, pattern)| Stage { keep: *keep, pattern: Regex::new(pattern).expect("a pattern") })
            .collect();
        // In pieces of any size the same comes out.
        let whole = {
            let mut filter = Filter::new(&stages);
            filter.push(TEXT) + &filter.finish()
        };
        let mut filter = Filter::new(&stages);
        let mut pieces: String = TEXT.chars().map(|c| filter.push(&c.to_string())).collect();
        pieces += &filter.finish();
        assert_eq!(whole, pieces);
        whole
    }

    #[test]
    fn each_bar_keeps_what_it_says() {
        for (stages, expected) in [
            (&[][..], TEXT),
            (&[(Keep::Include, "^vlan")], "vlan 2\nvlan 3\n"),
            (&[(Keep::Exclude, "ip|deep")], "vlan 2\nvlan 3\nend\n"),
            (&[(Keep::Begin, "two")], " ip two\nend\n"),
            (&[(Keep::Section, "vlan 2")], "vlan 2\n ip one\n  deeper\n"),
            (&[(Keep::Section, "one")], " ip one\n  deeper\n"),
            (&[(Keep::Count, "ip")], "Number of lines which match regexp = 2\n"),
            (&[(Keep::Section, "vlan"), (Keep::Include, "o")], " ip one\n ip two\n"),
        ] {
            assert_eq!(through(stages), expected, "{stages:?}");
        }
    }

    #[test]
    fn the_end_of_a_listing_without_a_line_feed_is_not_lost() {
        let mut filter =
            Filter::new(&[Stage { keep: Keep::Include, pattern: Regex::new("x").expect("a pattern") }]);
        assert_eq!(filter.push("a\nx"), "");
        assert_eq!(filter.finish(), "x\n");
    }
}
