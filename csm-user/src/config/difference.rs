//! Two printed configurations, compared by section: what stands in one only. The order of lines means nothing, but of those of
//! which the first that fits decides: one that stands elsewhere is named as if it stood in neither.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// In which of the two a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// In the first only.
    First,
    /// In the second only.
    Second,
}

/// A line that only one of them has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The lines that open its section, outermost first.
    pub section: Vec<String>,
    /// The line.
    pub line: String,
    /// Who has it.
    pub side: Side,
}

/// On one line: `module csm 5 / vserver VIP1: idle 60`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.section.is_empty() {
            write!(f, "{}: ", self.section.join(" / "))?;
        }
        f.write_str(&self.line)
    }
}

/// All lines that stand in one of the two only, by section in the order of the second, then of the first.
#[must_use]
pub fn differences(first: &str, second: &str) -> Vec<Difference> {
    let (first, second) = (lines(first), lines(second));
    let in_first: HashSet<&Line> = first.iter().collect();
    let in_second: HashSet<&Line> = second.iter().collect();
    let mut order: HashMap<&[String], usize> = HashMap::new();
    for (section, line) in second.iter().chain(&first) {
        let next = order.len();
        order.entry(section.as_slice()).or_insert(next);
        let _ = line;
    }
    let of = |lines: &'_ [Line], other: &HashSet<&Line>, side: Side| -> Vec<Difference> {
        lines
            .iter()
            .filter(|line| !other.contains(line))
            .map(|(section, line)| Difference { section: section.clone(), line: line.clone(), side })
            .collect()
    };
    let mut all = of(&first, &in_second, Side::First);
    all.extend(of(&second, &in_first, Side::Second));
    all.extend(moved(&first, &second));
    // Stable: of one section what is gone comes first, as it stood.
    all.sort_by_key(|found| order.get(found.section.as_slice()).copied());
    all
}

/// Lines whose order counts, that stand in both and not in the same order: as they stand in the first, and as in the second.
fn moved(first: &[Line], second: &[Line]) -> Vec<Difference> {
    let [one, other] = [(first, second), (second, first)].map(|(of, other)| {
        let other: HashSet<&Line> = other.iter().collect();
        let mut lists: BTreeMap<List<'_>, Vec<&Line>> = BTreeMap::new();
        for line in of.iter().filter(|line| other.contains(line)) {
            if let Some(list) = list_of(line) {
                lists.entry(list).or_default().push(line);
            }
        }
        lists
    });
    let mut found = Vec::new();
    for (list, lines) in &one {
        let Some(others) = other.get(list) else { continue };
        let pairs = || lines.iter().zip(others).filter(|(line, other)| line != other);
        let named =
            |(section, line): &Line, side| Difference { section: section.clone(), line: line.clone(), side };
        found.extend(pairs().map(|(line, _)| named(line, Side::First)));
        found.extend(pairs().map(|(_, line)| named(line, Side::Second)));
    }
    found
}

/// Lines of which the first that fits decides: their section, and what they begin with.
type List<'a> = (&'a [String], Vec<&'a str>);

/// The list that the line is of.
fn list_of((section, line): &Line) -> Option<List<'_>> {
    let mut words = line.split_whitespace();
    let begin = match words.next()? {
        "permit" | "deny" => Vec::new(),
        "access-list" => vec![words.next()?],
        word @ "slb-policy" => vec![word],
        _ => return None,
    };
    Some((section, begin))
}

/// As `diff -u` marks them, each section's opening lines above: `-` stands in the first only, `+` in the second.
#[must_use]
pub fn render(differences: &[Difference]) -> String {
    let mut out = String::new();
    let mut open: &[String] = &[];
    for Difference { section, line, side } in differences {
        let common = open.iter().zip(section).take_while(|(one, other)| one == other).count();
        for (depth, opener) in section.iter().enumerate().skip(common) {
            out += &format!("  {}{opener}\n", " ".repeat(depth));
        }
        let mark = if *side == Side::First { '-' } else { '+' };
        out += &format!("{mark} {}{line}\n", " ".repeat(section.len()));
        open = section;
    }
    out
}

/// A line with the lines that open its section.
type Line = (Vec<String>, String);

fn lines(text: &str) -> Vec<Line> {
    let mut open: Vec<String> = Vec::new();
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let words = line.trim_start();
            open.truncate(line.len() - words.len());
            let section = open.clone();
            open.push(words.to_owned());
            (section, words.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str =
        "module csm 5\n vserver A\n  idle 10\n  inservice\n vserver B\n  inservice\n vserver C\n";
    const SECOND: &str =
        "module csm 5\n vserver B\n  inservice\n vserver A\n  inservice\n  idle 20\n vserver D\n  idle 5\n";

    #[test]
    fn what_differs_is_named_with_its_section_whatever_the_order() {
        let found = differences(FIRST, SECOND);
        assert_eq!(
            render(&found),
            "  module csm 5\n-  vserver C\n+  vserver D\n   vserver A\n-   idle 10\n+   idle 20\n   vserver D\n+   idle 5\n"
        );
        assert_eq!(found[2].to_string(), "module csm 5 / vserver A: idle 10");
        assert_eq!(differences(FIRST, FIRST), []);
    }

    #[test]
    fn lines_of_which_the_first_that_fits_decides_have_an_order() {
        let first = "access-list 10 deny host 10.0.0.1\naccess-list 10 permit any\naccess-list 11 permit any\n\
                     module csm 5\n vserver A\n  slb-policy ONE\n  slb-policy TWO\n  inservice\n";
        let second = "access-list 10 permit any\naccess-list 10 deny host 10.0.0.1\naccess-list 11 permit any\n\
                      module csm 5\n vserver A\n  inservice\n  slb-policy TWO\n  slb-policy ONE\n";
        assert_eq!(
            render(&differences(first, second)),
            "- access-list 10 deny host 10.0.0.1\n- access-list 10 permit any\n\
             + access-list 10 permit any\n+ access-list 10 deny host 10.0.0.1\n\
             \x20 module csm 5\n   vserver A\n-   slb-policy ONE\n-   slb-policy TWO\n+   slb-policy TWO\n+   slb-policy ONE\n"
        );
    }
}
