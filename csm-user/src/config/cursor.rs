//! Where somebody who types a configuration stands: the modes that lines have opened, and what can be typed next. Pure.

use super::command::{Command, Effect, Mode, No};
use super::diagnostic::{Diagnostic, Severity};
use super::grammar::{Kind, MISPRINT, Piece, abbreviates};
use super::noun::Noun;
use super::parse::{self, Section};
use super::table::commands;
use super::token::{Span, lex};

/// The sections that are open, by the lines that opened them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    lines: Vec<String>,
    mode: Option<Mode>,
    /// So many of the last lines are not in force: faulty or refused. What is typed below them goes nowhere, and not into
    /// the section before them.
    lost: usize,
}

/// What became of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where typing stands after it; the same as before if the line is faulty, unless it was to open a section.
    pub cursor: Cursor,
    /// What is said of the line by itself; columns count in it.
    pub findings: Vec<Diagnostic>,
    /// The command that it is, by the words of its table entry; `None`: none.
    pub command: Option<String>,
    /// The line with those that open its sections, as a change of the configuration; `None`: it changes nothing.
    pub change: Option<String>,
}

/// What can stand at a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Choice {
    /// A keyword, or a parameter in capitals.
    pub word: String,
    /// What it means.
    pub help: &'static str,
    /// It can be completed.
    pub keyword: bool,
    /// It stands for the name of one of these.
    pub noun: Option<Noun>,
}

impl Cursor {
    /// The mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or(Mode::Global)
    }

    /// What stands in the prompt's brackets, as the guide prints it.
    #[must_use]
    pub fn prompt(&self) -> &'static str {
        let last = self.lines.last().map_or("", String::as_str);
        match self.mode() {
            Mode::Any | Mode::Global => "config",
            Mode::Refused => "config-refused",
            Mode::Policy => "config-slb-policy",
            Mode::StickyGroup => "config-slb-sticky-ip",
            Mode::Owner => "config-slb-owner",
            Mode::AccessList if last.starts_with("ipv6") => "config-ipv6-acl",
            Mode::AccessList => "config-std-nacl",
            Mode::Interface => "config-if",
            Mode::SwitchVlan => "config-vlan",
            Mode::Module => "config-module-csm",
            Mode::VlanDatabase => "vlan",
            Mode::Vlan if opens_client(last) => "config-slb-vlan-client",
            Mode::Vlan => "config-slb-vlan-server",
            Mode::Probe => "config-slb-probe",
            Mode::Serverfarm => "config-slb-sfarm",
            Mode::NamedReal => "config-slb-module-real",
            Mode::Real => "config-slb-real",
            Mode::Vserver => "config-slb-vserver",
            Mode::Static => "config-slb-static",
            Mode::Ft => "config-slb-ft",
        }
    }

    /// Where typing stands if csmd has refused the line that leads from `before` to here: below a section that it was to
    /// open, where nothing is taken, else where it stood.
    #[must_use]
    pub fn refused(mut self, before: &Self) -> Self {
        if before.lines.starts_with(&self.lines) {
            return before.clone();
        }
        self.lost = self.lost.max(1);
        self
    }

    /// Takes a line; `slot` is the module that is meant where none is named.
    #[must_use]
    pub fn step(&self, slot: u8, line: &str) -> Step {
        let joined = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let number = self.lines.len() + 1;
        let typed = parse::typed(&format!("{}{line}\n", joined(&self.lines)));
        let mut findings = typed.findings;
        findings.retain(|finding| finding.line == number);
        let faulty = findings.iter().any(|finding| finding.severity == Severity::Error);
        if faulty && !typed.opened {
            return Step { cursor: self.clone(), findings, command: typed.command, change: None };
        }
        let mut after = Self::at(&typed.section, &typed.openers, slot);
        let in_force = self.lines.len() - self.lost;
        let depth = after.lines.len() - usize::from(typed.opened);
        let same =
            after.lines[..depth].iter().zip(&self.lines).take_while(|(one, other)| one == other).count();
        if same > in_force {
            // Still below a line that is not in force.
            after.lost = after.lines.len() - in_force;
            if findings.is_empty() && typed.command.as_deref() != Some("exit") {
                findings.extend(self.goes_nowhere(number, line));
            }
            return Step { cursor: after, findings, command: typed.command, change: None };
        }
        after.lost = usize::from(faulty);
        let changes = !faulty && typed.statements.contains(&number);
        let change = changes.then(|| format!("{}{line}\n", joined(&self.lines[..in_force])));
        Step { cursor: after, findings, command: typed.command, change }
    }

    fn goes_nowhere(&self, number: usize, line: &str) -> Option<Diagnostic> {
        let opener = self.lines.get(self.lines.len() - self.lost)?;
        let place = Span { line: number, column: 1, width: line.len() };
        let message = format!("not taken: `{opener}` above it is not in force");
        (!lex(line).is_empty()).then(|| Diagnostic::new(Severity::Note, place, message))
    }

    fn at(section: &Section, openers: &[(Section, String)], slot: u8) -> Self {
        let mut lines = Vec::new();
        let mut at = section.clone();
        while at != Section::Global {
            let opener = openers.iter().rev().find(|(opened, _)| *opened == at).map(|(_, line)| line.clone());
            match (&at, opener) {
                (_, Some(line)) => lines.push(line),
                (Section::Module, None) => lines.push(format!("module csm {slot}")),
                // Nothing opened it: typing goes on above.
                (_, None) => return Self::at(&section.parent(), openers, slot),
            }
            at = at.parent();
        }
        lines.reverse();
        let mode = section.mode();
        Self { lines, mode: (mode != Mode::Global).then_some(mode), lost: 0 }
    }

    /// What can stand after the words `before`, of a word that begins with `partial`.
    #[must_use]
    pub fn choices(&self, before: &[&str], partial: &str) -> Vec<Choice> {
        let (negated, words) = match before {
            [first, rest @ ..] if is_negation(first) => (true, rest),
            words => (false, words),
        };
        let mut found = Vec::new();
        // What this mode knows comes first, as what is meant; a mode above is asked if there is nothing here.
        let mut mode = Some(self.mode());
        while let (Some(at), true) = (mode, found.is_empty()) {
            in_mode(at, negated, words, &mut found);
            if !partial.is_empty() {
                found.retain(|choice| fits(choice, partial));
            }
            mode = at.parent();
        }
        if before.is_empty() {
            for (word, help) in [("no", "Take a command back"), ("default", "Set a command to its default")] {
                found.push(Choice { word: word.to_owned(), help, keyword: true, noun: None });
            }
            found.retain(|choice| partial.is_empty() || fits(choice, partial));
        }
        found.sort_by(|one, other| (one.word == END, &one.word).cmp(&(other.word == END, &other.word)));
        found.dedup_by(|one, other| one.word == other.word);
        found
    }
}

/// Nothing more.
const END: &str = "<cr>";

/// `no`, or `default`.
pub(super) fn is_negation(word: &str) -> bool {
    word.eq_ignore_ascii_case("no") || (word.len() >= 3 && abbreviates(word, "default"))
}

fn opens_client(line: &str) -> bool {
    line.split_whitespace().nth(2).is_some_and(|word| abbreviates(word, "client"))
}

fn fits(choice: &Choice, partial: &str) -> bool {
    if choice.keyword { abbreviates(partial, &choice.word) } else { choice.word != END }
}

fn in_mode(mode: Mode, negated: bool, words: &[&str], found: &mut Vec<Choice>) {
    // What is refused is not offered, nor what nobody need type.
    let offered = |command: &&Command| {
        (command.mode == mode || command.mode == Mode::Any)
            && match command.effect {
                Effect::Applies => !(negated && matches!(command.no, No::Absent)),
                Effect::Silent | Effect::Note(_) => {
                    matches!(command.grammar, [Piece::Word(_, help), ..] if !help.is_empty())
                }
                Effect::Refused { .. } => false,
            }
    };
    let here: Vec<_> = commands().filter(offered).collect();
    let exact = words.first().is_some_and(|word| here.iter().any(|c| c.keyword().eq_ignore_ascii_case(word)));
    for command in here {
        if exact && !words.first().is_some_and(|word| command.keyword().eq_ignore_ascii_case(word)) {
            continue;
        }
        follow(&mut vec![command.grammar], words, found);
    }
}

/// Walks `words` through what is left of a grammar, its pieces stacked with the nearest on top, and lists what can come
/// then.
fn follow(stack: &mut Vec<&'static [Piece]>, words: &[&str], found: &mut Vec<Choice>) {
    while stack.last().is_some_and(|pieces| pieces.is_empty()) {
        stack.pop();
    }
    let mut choose = |word: String, help, keyword| found.push(Choice { word, help, keyword, noun: None });
    let Some([piece, rest @ ..]) = stack.pop() else {
        if words.is_empty() {
            choose(END.to_owned(), "", false);
        }
        return;
    };
    stack.push(rest);
    match (*piece, words) {
        (Piece::Word(_, "" | MISPRINT), []) => {}
        (Piece::Word(keyword, help), []) => choose(keyword.to_owned(), help, true),
        (Piece::Slot(_, kind, help), []) => {
            let noun = if let Kind::Named(noun) = kind { Some(noun) } else { None };
            found.push(Choice { word: piece.to_string(), help, keyword: false, noun });
        }
        (Piece::Word(keyword, _), [word, words @ ..]) if abbreviates(word, keyword) => {
            follow(stack, words, found);
        }
        (Piece::Slot(_, kind, _), [word, words @ ..]) if kind.looks_like(word) => follow(stack, words, found),
        (Piece::Word(..) | Piece::Slot(..), _) => {}
        (Piece::Optional(pieces), words) => {
            let mut with = stack.clone();
            with.push(pieces);
            follow(&mut with, words, found);
            follow(stack, words, found);
        }
        (Piece::Either(choices), words) => {
            let is_exact = |pieces: &[Piece]| match (pieces, words) {
                ([Piece::Word(keyword, _), ..], [word, ..]) => keyword.eq_ignore_ascii_case(word),
                _ => false,
            };
            let exact = choices.iter().any(|pieces| is_exact(pieces));
            for pieces in choices.iter().filter(|pieces| !exact || is_exact(pieces)) {
                let mut with = stack.clone();
                with.push(pieces);
                follow(&mut with, words, found);
            }
        }
        (Piece::Rest, _) => {
            choose("LINE".to_owned(), "the rest of the line", false);
            choose(END.to_owned(), "", false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(lines: &[&str]) -> Cursor {
        lines.iter().fold(Cursor::default(), |cursor, line| cursor.step(4, line).cursor)
    }

    fn words(cursor: &Cursor, before: &str, partial: &str) -> Vec<String> {
        let before: Vec<_> = before.split_whitespace().collect();
        cursor.choices(&before, partial).into_iter().map(|choice| choice.word).collect()
    }

    #[test]
    fn the_prompt_follows_the_guide_through_every_mode() {
        for (lines, prompt) in [
            (&[][..], "config"),
            (&["int eth1"], "config-if"),
            (&["module csm 4"], "config-module-csm"),
            (&["mod csm 4", "vlan 2 client"], "config-slb-vlan-client"),
            (&["mod csm 4", "vlan 2 client", "vlan 3 s"], "config-slb-vlan-server"),
            (&["mod csm 4", "vserver vip1"], "config-slb-vserver"),
            (&["mod csm 4", "serverfarm a", "real 10.0.0.1"], "config-slb-real"),
            (&["mod csm 4", "serverfarm a", "real 10.0.0.1", "exit"], "config-slb-sfarm"),
            (&["mod csm 4", "serverfarm a", "real 10.0.0.1", "vserver b"], "config-slb-vserver"),
            (&["mod csm 4", "probe p tcp"], "config-slb-probe"),
            (&["mod csm 4", "ft group 1 vlan 9"], "config-slb-ft"),
            (&["mod csm 4", "vlan"], "vlan"),
            (&["vserver a"], "config-slb-vserver"),
            (&["mod csm 4", "vserver a", "exit", "exit"], "config"),
            (&["mod csm 4", "vserver a", "no vserver a"], "config-module-csm"),
        ] {
            assert_eq!(typed(lines).prompt(), prompt, "{lines:?}");
        }
    }

    #[test]
    fn a_line_is_a_change_with_the_lines_that_open_its_sections() {
        let cursor = typed(&["vserver a"]);
        let step = cursor.step(4, "idle 5");
        assert_eq!(step.change.as_deref(), Some("module csm 4\nvserver a\nidle 5\n"));
        let first = Cursor::default().step(4, "vserver a");
        assert_eq!(first.change.as_deref(), Some("vserver a\n"));
        assert_eq!(cursor.step(4, "exit").change, None, "it changes nothing");
        assert_eq!(Cursor::default().step(4, "interface eth1").change.as_deref(), Some("interface eth1\n"));
    }

    #[test]
    fn a_faulty_line_leaves_typing_where_it_stands_and_has_its_column() {
        let cursor = typed(&["mod csm 4", "vserver a"]);
        let step = cursor.step(4, "idel 5");
        assert_eq!((step.cursor, step.change), (cursor.clone(), None));
        assert_eq!((step.findings[0].line, step.findings[0].column), (3, 1), "{:?}", step.findings);
        assert_eq!(step.findings[0].remedy.as_deref(), Some("did you mean `idle`?"));
        assert_eq!(cursor.step(4, "sticky 70000").findings[0].column, 8);
        let refused = cursor.step(4, "parse-length 5");
        assert!(refused.findings[0].message.contains("is not supported"), "{:?}", refused.findings);
    }

    #[test]
    fn what_stands_below_a_refused_or_faulty_section_goes_nowhere() {
        let nowhere = |lines: &[&str], line: &str| {
            let step = typed(lines).step(4, line);
            assert_eq!((step.change, step.findings.len()), (None, 1), "{lines:?} {line}");
            step.findings[0].message.clone()
        };
        let script = ["mod csm 4", "probe T tcp", "probe H script"];
        assert_eq!(typed(&script).prompt(), "config-refused");
        assert_eq!(nowhere(&script, "interval 60"), "not taken: `probe H script` above it is not in force");
        assert_eq!(typed(&script).step(4, "! a comment").findings, []);
        let after = typed(&script).step(4, "probe U tcp");
        assert_eq!(after.change.as_deref(), Some("mod csm 4\nprobe U tcp\n"));
        assert_eq!(
            after.cursor.step(4, "interval 5").change.as_deref(),
            Some("mod csm 4\nprobe U tcp\ninterval 5\n")
        );
        assert_eq!(typed(&[&script[..], &["exit"]].concat()).prompt(), "config-module-csm");
        let owner = ["mod csm 4", "xml-config"];
        assert!(nowhere(&owner, "port 80").contains("xml-config"));
        assert_eq!(typed(&owner).step(4, "vserver V").change.as_deref(), Some("mod csm 4\nvserver V\n"));
        let real = ["mod csm 4", "serverfarm F", "real 10.0.0.1", "real 10.0.0.300"];
        assert_eq!(typed(&real).prompt(), "config-slb-real");
        assert!(nowhere(&real, "inservice").contains("real 10.0.0.300"));
        let again = typed(&real).step(4, "real 10.0.0.3");
        assert_eq!(again.change.as_deref(), Some("mod csm 4\nserverfarm F\nreal 10.0.0.3\n"));
        let farm = ["mod csm 4", "serverfarm F", "serverfarm NAMEOFMORETHAN15", "real 10.0.0.1"];
        assert!(nowhere(&farm, "inservice").contains("NAMEOFMORETHAN15"));
    }

    #[test]
    fn a_section_that_csmd_refuses_is_not_entered() {
        let before = typed(&["mod csm 4", "vlan 2 client"]);
        let cursor = before.step(4, "vlan 9 server").cursor.refused(&before);
        let step = cursor.step(4, "gateway 10.0.0.1");
        assert_eq!((step.change, step.findings.len()), (None, 1));
        assert_eq!(cursor.step(4, "vlan 9 server").change.as_deref(), Some("mod csm 4\nvlan 9 server\n"));
        assert_eq!(before.step(4, "no vlan 2").cursor.refused(&before), before);
    }

    #[test]
    fn what_can_come_next_is_the_tables() {
        let cursor = typed(&["mod csm 4", "vserver a"]);
        assert_eq!(words(&cursor, "replicate", ""), ["csrp"]);
        assert_eq!(words(&cursor, "rep csrp", ""), ["connection", "sticky"]);
        assert_eq!(words(&cursor, "", "in"), ["inservice"]);
        assert_eq!(words(&cursor, "idle", ""), ["SECONDS<0-13500000>"]);
        assert_eq!(words(&cursor, "inservice", ""), ["<cr>"]);
        assert_eq!(words(&cursor, "", "vs"), ["vserver"], "of the mode above");
        assert!(words(&cursor, "no", "").contains(&"idle".to_owned()));
        assert!(words(&cursor, "", "").contains(&"default".to_owned()));
        let all = words(&cursor, "", "");
        assert!(all.contains(&"exit".to_owned()) && !all.contains(&"parse-length".to_owned()), "{all:?}");
        let module = typed(&["mod csm 4"]);
        assert_eq!(words(&module, "vlan 2", ""), ["client", "server", "<cr>"]);
        assert_eq!(words(&Cursor::default(), "module", ""), ["csm"]);
    }

    #[test]
    fn a_place_for_a_name_says_of_what() {
        let module = &["mod csm 4"][..];
        let (farm, vserver) = (&["serverfarm f"][..], &["vserver v"][..]);
        for (lines, before, expected) in [
            (module, "vserver", Some(Noun::Vserver)),
            (module, "no serverfarm", Some(Noun::Serverfarm)),
            (module, "natpool", Some(Noun::Natpool)),
            (module, "owner", Some(Noun::Owner)),
            (module, "policy", Some(Noun::Policy)),
            (module, "probe", Some(Noun::Probe)),
            (module, "real", Some(Noun::NamedReal)),
            (farm, "probe", Some(Noun::Probe)),
            (farm, "no probe", Some(Noun::Probe)),
            (farm, "nat client", Some(Noun::Natpool)),
            (farm, "real name", Some(Noun::NamedReal)),
            (farm, "real", None),
            (vserver, "serverf", Some(Noun::Serverfarm)),
            (vserver, "serverfarm a backup", Some(Noun::Serverfarm)),
            (vserver, "slb-policy", Some(Noun::Policy)),
            (vserver, "owner", Some(Noun::Owner)),
            (vserver, "vserver", Some(Noun::Vserver)),
            (vserver, "idle", None),
            (&["policy p"], "client-group", Some(Noun::AccessList)),
            (&["policy p"], "serverfarm", Some(Noun::Serverfarm)),
            (&["serverfarm f", "real 10.0.0.1"], "health probe", Some(Noun::Probe)),
            (&["serverfarm f", "real 10.0.0.1"], "backup real name", Some(Noun::NamedReal)),
            (&["ft group 1 vlan 9"], "track serverfarm", Some(Noun::Serverfarm)),
            (&[], "ip access-list standard", Some(Noun::AccessList4)),
            (&[], "no ipv6 access-list", Some(Noun::AccessList6)),
        ] {
            let words: Vec<_> = before.split_whitespace().collect();
            let found = typed(lines).choices(&words, "");
            let noun = found.iter().find_map(|choice| choice.noun);
            assert_eq!(noun, expected, "{lines:?} {before}: {found:?}");
        }
    }
}
