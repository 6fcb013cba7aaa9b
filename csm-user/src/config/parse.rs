//! Lines to a tree of statements: each with its entry of the table, the section it is about, and its places.
//!
//! Never stops: a line that is wrong becomes a diagnostic, and the lines after it are read as if it had been right.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::command::{Command, Effect, Id, Match, Miss, Mode, No, find_in};
use super::cursor::is_negation;
use super::diagnostic::{Diagnostic, Severity, has_secret};
use super::grammar::{Arg, Fault, FaultKind, Value, interface_name};
use super::suggest;
use super::table::default;
use super::token::{Span, Token, lex};
use crate::model::{Family, Name, Real, Serverfarm, StaticAction, VlanId, VlanSet};

/// How a farm refers to a real.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum RealOf {
    /// `real A`.
    Address(IpAddr),
    /// `real name NAME`.
    Name(Name),
}

/// What a statement is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Section {
    /// Nothing in particular.
    #[default]
    Global,
    /// A port.
    Interface(String),
    /// A VLAN of the switch.
    SwitchVlan,
    /// The module.
    Module,
    /// IOS VLAN database.
    VlanDatabase,
    /// A VLAN of the module.
    Vlan(VlanId),
    /// A probe.
    Probe(Name),
    /// What becomes of connections that servers open.
    Static(StaticAction),
    /// A server farm.
    Serverfarm(Name),
    /// A real of the module.
    NamedReal(Name),
    /// A real of a farm.
    Real(Name, RealOf, Option<u16>),
    /// A virtual server.
    Vserver(Name),
    /// A sticky group.
    StickyGroup(u8),
    /// A policy.
    Policy(Name),
    /// An owner.
    Owner(Name),
    /// An access list.
    AccessList(Family, Name),
    /// The FT group.
    Ft,
    /// Opened by a line that is wrong or refused: read for more faults, never applied.
    Lost(Mode, Box<Section>),
}

impl Section {
    /// That of `real` of `farm`.
    #[must_use]
    pub(super) fn of_real(farm: &Serverfarm, real: &Real) -> Self {
        let named = real.name.clone().map_or(RealOf::Address(real.address), RealOf::Name);
        Self::Real(farm.name.clone(), named, real.port)
    }

    /// Its mode.
    #[must_use]
    pub(super) const fn mode(&self) -> Mode {
        match self {
            Self::Global => Mode::Global,
            Self::Interface(_) => Mode::Interface,
            Self::SwitchVlan => Mode::SwitchVlan,
            Self::Module => Mode::Module,
            Self::VlanDatabase => Mode::VlanDatabase,
            Self::Vlan(_) => Mode::Vlan,
            Self::Probe(_) => Mode::Probe,
            Self::Static(_) => Mode::Static,
            Self::Serverfarm(_) => Mode::Serverfarm,
            Self::NamedReal(_) => Mode::NamedReal,
            Self::Real(..) => Mode::Real,
            Self::Vserver(_) => Mode::Vserver,
            Self::StickyGroup(_) => Mode::StickyGroup,
            Self::Policy(_) => Mode::Policy,
            Self::Owner(_) => Mode::Owner,
            Self::AccessList(..) => Mode::AccessList,
            Self::Ft => Mode::Ft,
            Self::Lost(mode, _) => *mode,
        }
    }

    /// Where `exit` leads.
    #[must_use]
    pub(super) fn parent(&self) -> Self {
        match self {
            Self::Global | Self::Interface(_) | Self::SwitchVlan | Self::Module | Self::AccessList(..) => {
                Self::Global
            }
            Self::VlanDatabase
            | Self::Vlan(_)
            | Self::Probe(_)
            | Self::Static(_)
            | Self::NamedReal(_)
            | Self::Serverfarm(_)
            | Self::Vserver(_)
            | Self::Policy(_)
            | Self::StickyGroup(_)
            | Self::Owner(_)
            | Self::Ft => Self::Module,
            Self::Real(farm, ..) => Self::Serverfarm(farm.clone()),
            Self::Lost(_, parent) => (**parent).clone(),
        }
    }
}

/// A line that is applied.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    /// What it does.
    pub(super) id: Id,
    /// `no` stood before it.
    pub(super) negated: bool,
    /// What it is about; of a line that opens a section, that section.
    pub(super) section: Section,
    /// Its words.
    pub(super) args: Vec<Arg>,
    /// As written, blanks made one.
    pub(super) text: String,
    /// Where it begins.
    pub(super) span: Span,
}

impl Statement {
    /// The argument in `slot`.
    #[must_use]
    pub(super) fn arg(&self, slot: &str) -> Option<&Arg> {
        self.args.iter().find(|arg| arg.slot == slot)
    }

    /// Whether keyword `word` is there.
    #[must_use]
    pub(super) fn has(&self, word: &str) -> bool {
        self.arg(word).is_some()
    }

    /// The number in `slot`.
    #[must_use]
    pub(super) fn number<T: TryFrom<u64>>(&self, slot: &str) -> Option<T> {
        match self.arg(slot)?.value {
            Value::Number(number) => T::try_from(number).ok(),
            _ => None,
        }
    }

    /// The address in `slot`.
    #[must_use]
    pub(super) fn address(&self, slot: &str) -> Option<IpAddr> {
        match self.arg(slot)?.value {
            Value::Address(address) => Some(address),
            Value::Net(net) => Some(net.addr()),
            _ => None,
        }
    }

    /// The IPv4 address or mask in `slot`.
    #[must_use]
    pub(super) fn address4(&self, slot: &str) -> Option<Ipv4Addr> {
        match self.address(slot)? {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    /// The network of `slot`: of an IPv4 address with the mask in slot `mask`, or all of it without one.
    #[must_use]
    pub(super) fn net(&self, slot: &str, mask: &str) -> Option<IpNet> {
        match self.arg(slot)?.value {
            Value::Net(net) => Some(net),
            Value::Address(address) if self.arg(mask).is_none() => Some(address.into()),
            Value::Address(address) => IpNet::with_netmask(address, self.address(mask)?).ok(),
            _ => None,
        }
    }

    /// The text in `slot`.
    #[must_use]
    pub(super) fn text(&self, slot: &str) -> Option<String> {
        match &self.arg(slot)?.value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// The name in `NAME`.
    #[must_use]
    pub(super) fn name(&self) -> Option<&Name> {
        match &self.arg("NAME")?.value {
            Value::Name(name) => Some(name),
            _ => None,
        }
    }

    /// The VLANs in `VLANS`.
    #[must_use]
    pub(super) fn vlans(&self) -> Option<&VlanSet> {
        match &self.arg("VLANS")?.value {
            Value::Vlans(vlans) => Some(vlans),
            _ => None,
        }
    }

    /// The VLAN in `VLAN`.
    #[must_use]
    pub(super) fn vlan(&self) -> Option<VlanId> {
        VlanId::new(self.number("VLAN")?)
    }

    /// Where `slot` is, or the whole line.
    #[must_use]
    pub(super) fn place(&self, slot: &str) -> Span {
        self.arg(slot).map_or(self.span, |arg| arg.span)
    }
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    /// In the order of the file.
    pub(super) statements: Vec<Statement>,
    index: HashMap<(Section, Id), Vec<usize>>,
}

impl Tree {
    fn push(&mut self, statement: Statement) {
        let key = (statement.section.clone(), statement.id);
        self.index.entry(key).or_default().push(self.statements.len());
        self.statements.push(statement);
    }

    /// Leaves the statements `refused` (in rising order) out of what is asked for below.
    pub(super) fn forget(&mut self, refused: &[usize]) {
        for places in self.index.values_mut() {
            places.retain(|at| refused.binary_search(at).is_err());
        }
    }

    /// The statements of `section` that say `id`, without `no`.
    pub(super) fn all(&self, section: &Section, id: Id) -> impl DoubleEndedIterator<Item = &Statement> {
        // A section is cheap to clone beside what is done with the answer.
        let found = self.index.get(&(section.clone(), id)).map_or(&[][..], Vec::as_slice);
        found.iter().filter_map(|&at| self.statements.get(at)).filter(|statement| !statement.negated)
    }

    /// Where the last of them has `slot`.
    #[must_use]
    pub(super) fn place(&self, section: &Section, id: Id, slot: &str) -> Span {
        self.all(section, id).next_back().map_or(Span::FILE, |statement| statement.place(slot))
    }

    /// Where one of them has `value` in `slot`.
    #[must_use]
    pub(super) fn place_of(&self, section: &Section, id: Id, slot: &str, value: &Value) -> Span {
        self.place_where(section, id, slot, |line| line.arg(slot).is_some_and(|arg| arg.value == *value))
    }

    /// The place of `slot` in the last statement `id` of `section` that is `meant`.
    pub(super) fn place_where(
        &self,
        section: &Section,
        id: Id,
        slot: &str,
        meant: impl Fn(&Statement) -> bool,
    ) -> Span {
        let mut all = self.all(section, id);
        all.rfind(|statement| meant(statement)).map_or(Span::FILE, |statement| statement.place(slot))
    }
}

/// Reads `text`; every fault found is in the second part.
#[must_use]
pub(super) fn parse(text: &str) -> (Tree, Vec<Diagnostic>) {
    let parser = Parser::default().read(text);
    (parser.tree, parser.diagnostics)
}

/// What typed lines come to, the last of them apart from the others.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    /// The section that the last line left open.
    pub(super) section: Section,
    /// Each section that was entered, with the line that did it.
    pub(super) openers: Vec<(Section, String)>,
    /// What is said of the lines by themselves.
    pub(super) findings: Vec<Diagnostic>,
    /// The entry of the last line, as the reference names it.
    pub(super) command: Option<String>,
    /// Numbers of the lines that configure something.
    pub(super) statements: HashSet<usize>,
    /// The last line opened its section, or was to.
    pub(super) opened: bool,
}

/// Reads `text` as typed on top of a configuration that has its module.
#[must_use]
pub(super) fn typed(text: &str) -> Typed {
    let parser = Parser { module_seen: true, ..Parser::default() }.read(text);
    let Parser { section, openers, tree, diagnostics: findings, last, opened, .. } = parser;
    let command = last.map(Command::name);
    let statements = tree.statements.iter().map(|statement| statement.span.line).collect();
    Typed { section, openers, findings, command, statements, opened }
}

#[derive(Default)]
struct Parser {
    section: Section,
    openers: Vec<(Section, String)>,
    /// The entry of the line before.
    last: Option<&'static Command>,
    /// That line opened a section, or was to.
    opened: bool,
    module_seen: bool,
    tree: Tree,
    diagnostics: Vec<Diagnostic>,
}

impl Parser {
    fn read(mut self, text: &str) -> Self {
        for words in lex(text) {
            self.line(&words);
        }
        self
    }

    fn line(&mut self, line: &[Token<'_>]) {
        let negated = line.first().is_some_and(|word| is_negation(word.text));
        let words = if negated { &line[1..] } else { line };
        (self.last, self.opened) = (None, false);
        let Some(place) = line.first().map(|word| word.span) else { return };
        match self.find(negated, words) {
            Ok((found, section)) => self.found(found, section, line, place),
            Err(_) if matches!(self.section.mode(), Mode::Refused) => {}
            Err(miss) => self.missed(miss, negated, words, place),
        }
    }

    /// The entry for `words`: in this mode, else in the nearest above that has it, else, outside of the module, in the
    /// module's (the guide's task tables leave `module csm` out).
    fn find(&self, negated: bool, words: &[Token<'_>]) -> Result<(Match, Section), Miss> {
        let mut miss = Miss::Unknown;
        for section in within_reach(&self.section) {
            match find_in(section.mode(), negated, words) {
                // A name refused as a whole explains nothing about an argument that is wrong in a nearer mode.
                Ok(found) if found.command.takes_anything() && matches!(miss, Miss::Fault(..)) => {}
                // Nor does the module's `real NAME` take what was meant for a farm.
                Ok(found) if found.command.id == Id::NamedReal && matches!(miss, Miss::Fault(..)) => {}
                Ok(found) => return Ok((found, section)),
                Err(other) if other.is_ambiguous() => return Err(other),
                Err(other) => miss = nearer(miss, other),
            }
        }
        Err(miss)
    }

    fn found(&mut self, found: Match, section: Section, line: &[Token<'_>], place: Span) {
        let Match { command, negated, mut args } = found;
        join_unit(&mut args);
        self.last = Some(command);
        match command.id {
            Id::Exit => return self.section = self.section.parent(),
            Id::End => return self.section = Section::Global,
            _ => {}
        }
        if section == Section::Module && !self.module_seen {
            self.module_assumed(place);
        }
        self.module_seen |= command.id == Id::Module;
        let effect = match (negated, command.no) {
            (false, _) => command.effect,
            (true, No::Other(effect)) => effect,
            (true, _) => Effect::Applies,
        };
        let text = line.iter().map(|word| word.text).collect::<Vec<_>>().join(" ");
        // A section has no default form: it is there, or it is not.
        if negated && matches!(command.no, No::RemovesSection) && !text.starts_with(['n', 'N']) {
            let fault = Diagnostic::error(place, "this command has no default form");
            return self.diagnostics.push(fault.remedy("remove the section with `no`"));
        }
        match effect {
            Effect::Note(why) => {
                let note = Diagnostic::new(Severity::Note, place, format!("`{text}`: {why}"));
                return self.diagnostics.push(note);
            }
            Effect::Refused { why, remedy } => {
                // The last word that the entry knows is the one it refuses.
                let culprit = args.last().map_or(place, |arg| arg.span);
                let message = format!("`{text}` is not supported: {why}");
                self.diagnostics.push(Diagnostic::error(culprit, message).remedy(remedy));
                if command.opens.is_some() && !negated {
                    self.enter(
                        Section::Lost(command.opens.unwrap_or(Mode::Refused), Box::new(section)),
                        text,
                    );
                }
                return;
            }
            Effect::Applies | Effect::Silent => {}
        }
        let mut statement = Statement { id: command.id, negated, section, args, text, span: place };
        self.section = statement.section.clone();
        if command.id == Id::SyncAuto {
            // `ft sync auto`, too, which leaves typing where it stands.
            statement.section = Section::Ft;
        }
        if let Some(mode) = command.opens {
            match opened(&statement, mode) {
                Some(section) => statement.section = section,
                None => return self.incomplete(line),
            }
            if !negated {
                self.enter(statement.section.clone(), statement.text.clone());
            }
        }
        let lost = matches!(statement.section, Section::Lost(..));
        if matches!(effect, Effect::Applies) && !lost {
            self.tree.push(statement);
        }
    }

    fn enter(&mut self, section: Section, line: String) {
        self.openers.push((section.clone(), line));
        (self.section, self.opened) = (section, true);
    }

    fn module_assumed(&mut self, place: Span) {
        self.module_seen = true;
        let slot = default::SLOT;
        let message = format!("no `module csm N` stands before this line: taken as `module csm {slot}`");
        self.diagnostics.push(Diagnostic::warning(place, message));
    }

    fn incomplete(&mut self, line: &[Token<'_>]) {
        let place = line.last().map_or(Span::FILE, |word| word.span.after());
        self.diagnostics.push(Diagnostic::error(place, "incomplete command: it does not say which"));
    }

    fn missed(&mut self, miss: Miss, negated: bool, words: &[Token<'_>], place: Span) {
        let diagnostic = match miss {
            Miss::Unknown => match words.first() {
                Some(word) => suggest::unknown(word, &self.section),
                None => Diagnostic::error(place.after(), "incomplete command: `no` what?"),
            },
            Miss::NoForm => Diagnostic::error(place, "this command has no `no` form"),
            Miss::Fault(fault, command) => {
                // What follows belongs to the section that this line meant to open.
                if let Some(mode) = command.opens.filter(|_| command.id != Id::Inert && !negated) {
                    self.module_seen |= mode == Mode::Module;
                    let parent = within_reach(&self.section).into_iter().find(|at| at.mode() == command.mode);
                    let line = words.iter().map(|word| word.text).collect::<Vec<_>>().join(" ");
                    self.enter(Section::Lost(mode, Box::new(parent.unwrap_or(Section::Global))), line);
                }
                faulty(&fault, words, place)
            }
        };
        self.diagnostics.push(diagnostic);
    }
}

/// `FastEthernet 3/6` is `FastEthernet3/6`.
fn join_unit(args: &mut Vec<Arg>) {
    let Some(at) = args.iter().position(|arg| arg.slot == "UNIT") else { return };
    let Arg { value: Value::Text(unit), .. } = args.remove(at) else { return };
    if let Some(Arg { value: Value::Text(name), .. }) = args.iter_mut().find(|arg| arg.slot == "NAME")
        && let Some(joined) = interface_name(&format!("{name}{unit}"))
    {
        *name = joined;
    }
}

/// `section` and what is above it; the module as well, for lines that leave `module csm` out.
fn within_reach(section: &Section) -> Vec<Section> {
    let mut reach = vec![section.clone()];
    while let Some(last) = reach.last().filter(|last| last.mode() != Mode::Global) {
        reach.push(last.parent());
    }
    if !reach.iter().any(|section| section.mode() == Mode::Module) {
        reach.push(Section::Module);
    }
    reach
}

/// Of two misses, the one that got further; the inner mode's if equal.
fn nearer(first: Miss, second: Miss) -> Miss {
    match (&first, &second) {
        (Miss::Unknown, _) => second,
        (Miss::Fault(mine, _), Miss::Fault(theirs, _)) if theirs.at > mine.at => second,
        (Miss::NoForm, Miss::Fault(..)) => second,
        _ => first,
    }
}

/// The section that `statement` opens.
fn opened(statement: &Statement, mode: Mode) -> Option<Section> {
    let name = || statement.name().cloned();
    Some(match mode {
        Mode::Interface => match &statement.arg("NAME")?.value {
            Value::Text(name) => Section::Interface(name.clone()),
            _ => return None,
        },
        Mode::SwitchVlan => Section::SwitchVlan,
        Mode::Module => Section::Module,
        Mode::VlanDatabase => Section::VlanDatabase,
        Mode::Vlan => Section::Vlan(statement.vlan()?),
        Mode::Probe => Section::Probe(name()?),
        Mode::Static => Section::Static(match statement.address("ADDRESS") {
            Some(address) => StaticAction::Nat(address),
            None if statement.has("virtual") => StaticAction::NatVirtual,
            None if statement.has("drop") => StaticAction::Drop,
            None => return None,
        }),
        Mode::NamedReal => Section::NamedReal(name()?),
        Mode::Serverfarm => Section::Serverfarm(name()?),
        Mode::Real => match &statement.section {
            Section::Serverfarm(farm) => {
                let real = match statement.name() {
                    Some(name) => RealOf::Name(name.clone()),
                    None => RealOf::Address(statement.address("ADDRESS")?),
                };
                Section::Real(farm.clone(), real, statement.number("PORT"))
            }
            _ => Section::Lost(Mode::Real, Box::new(statement.section.clone())),
        },
        Mode::Vserver => Section::Vserver(name()?),
        Mode::StickyGroup => Section::StickyGroup(statement.number("GROUP")?),
        Mode::Policy => Section::Policy(name()?),
        Mode::Owner => Section::Owner(name()?),
        Mode::AccessList if statement.id == Id::NamedList6 => Section::AccessList(Family::V6, name()?),
        Mode::AccessList => Section::AccessList(Family::V4, name()?),
        Mode::Ft => Section::Ft,
        Mode::Any | Mode::Global | Mode::Refused => return None,
    })
}

/// Words a fault.
fn faulty(fault: &Fault, words: &[Token<'_>], place: Span) -> Diagnostic {
    let word = words.get(fault.at);
    let span = word.map(|word| word.span).or_else(|| words.last().map(|word| word.span.after()));
    let span = span.unwrap_or(place);
    match &fault.kind {
        FaultKind::Value(message) => Diagnostic::error(span, message.clone()),
        FaultKind::Ambiguous(keywords) => {
            let list: Vec<_> = keywords.iter().map(|keyword| format!("`{keyword}`")).collect();
            let word = word.map_or("", |word| word.text);
            Diagnostic::error(span, format!("ambiguous: `{word}` may be {}", alternatives(&list)))
                .remedy("write more of the word")
        }
        FaultKind::Expected(expected) => {
            let list = alternatives(expected);
            match word {
                // A part of a key, or of a password with a blank in it, is not to be said.
                Some(_) if (0..fault.at).any(|at| has_secret(words[at].text, at == 0)) => {
                    Diagnostic::error(span, format!("too many words, or none of those that fit here: {list}"))
                }
                Some(word) => {
                    Diagnostic::error(span, format!("`{}` does not fit here: expected {list}", word.text))
                }
                None => Diagnostic::error(span, format!("incomplete command: expected {list}")),
            }
        }
    }
}

/// `a, b or c`.
fn alternatives(list: &[String]) -> String {
    match list {
        [] => String::new(),
        [only] => only.clone(),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}
