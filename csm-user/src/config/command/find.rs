//! How a line finds its entry.

use super::{Command, Mode, No};
use crate::config::grammar::{Arg, Fault, FaultKind, Value, fit};
use crate::config::table;
use crate::config::token::Token;

/// What a line is.
#[derive(Clone, Debug)]
pub struct Match {
    /// Its entry.
    pub command: &'static Command,
    /// `no` stood before it.
    pub negated: bool,
    /// The words after `no`, as they were taken.
    pub args: Vec<Arg>,
}

/// Why a line is nothing.
#[derive(Clone, Debug)]
pub enum Miss {
    /// No command begins with this word here.
    Unknown,
    /// A command does, but has no `no` form.
    NoForm,
    /// A command does, but the rest does not fit; indices count from the word after `no`.
    Fault(Fault, &'static Command),
}

impl Miss {
    /// Whether a word stands for several commands: then no other mode is asked.
    #[must_use]
    pub const fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Fault(Fault { kind: FaultKind::Ambiguous(_), .. }, _))
    }
}

/// Finds the entry of `words` (without `no`) in `mode` alone.
///
/// # Errors
/// The miss that got furthest.
pub fn find_in(mode: Mode, negated: bool, words: &[Token<'_>]) -> Result<Match, Miss> {
    let Some(first) = words.first() else { return Err(Miss::Unknown) };
    let here = || table::commands().filter(|command| command.mode == mode || command.mode == Mode::Any);
    let begun = || here().filter(|command| command.begins_with(first.text));
    let Some(example) = begun().next() else { return Err(Miss::Unknown) };
    let mut keywords: Vec<&'static str> = begun().map(Command::keyword).collect();
    keywords.sort_unstable();
    keywords.dedup();
    let exact = keywords.iter().copied().find(|keyword| keyword.eq_ignore_ascii_case(first.text));
    let ((Some(keyword), _) | (None, &[keyword])) = (exact, keywords.as_slice()) else {
        return Err(Miss::Fault(Fault { at: 0, kind: FaultKind::Ambiguous(keywords) }, example));
    };
    let mut fitting = Vec::new();
    let mut miss: Option<(Fault, &'static Command)> = None;
    let named = || here().filter(|command| command.keyword() == keyword);
    let possible = |command: &&Command| !negated || !matches!(command.no, No::Absent);
    if !named().any(|command| possible(&command)) {
        return Err(Miss::NoForm);
    }
    for open_ended in [false, negated] {
        for command in named().filter(possible) {
            let open_ended = open_ended && !matches!(command.no, No::Removes);
            match fit(command.grammar, words, open_ended) {
                Ok(args) => fitting.push(Match { command, negated, args }),
                Err(fault) => miss = Some(further(miss, (fault, command))),
            }
        }
        // The words in full fit: nothing was left out.
        if !fitting.is_empty() {
            break;
        }
    }
    match (pick(fitting, words), miss) {
        (Some(Ok(found)), _) => Ok(found),
        (Some(Err((fault, command))), _) | (None, Some((fault, command))) => Err(Miss::Fault(fault, command)),
        (None, None) => Err(Miss::Unknown),
    }
}

/// The miss that got further; of two at the same word, what either expected.
fn further(
    first: Option<(Fault, &'static Command)>,
    second: (Fault, &'static Command),
) -> (Fault, &'static Command) {
    let Some((mut fault, command)) = first else { return second };
    if second.0.at > fault.at {
        return second;
    }
    if second.0.at == fault.at
        && let (FaultKind::Expected(mine), FaultKind::Expected(theirs)) = (&mut fault.kind, second.0.kind)
    {
        let new: Vec<_> = theirs.into_iter().filter(|word| !mine.contains(word)).collect();
        mine.extend(new);
    }
    (fault, command)
}

/// Of several entries that fit: the one whose keywords are written out most; none if a word stands for different ones.
fn pick(fitting: Vec<Match>, words: &[Token<'_>]) -> Option<Result<Match, (Fault, &'static Command)>> {
    let exact = |found: &Match| {
        let keywords = found.args.iter().zip(words);
        keywords.filter(|(arg, word)| arg.slot.eq_ignore_ascii_case(word.text)).count()
    };
    let most = fitting.iter().map(exact).max()?;
    let mut best = fitting.into_iter().filter(|found| exact(found) == most);
    let first = best.next()?;
    for other in best {
        let pairs = first.args.iter().zip(&other.args).enumerate();
        for (at, (mine, theirs)) in pairs {
            if let (Value::Word(mine), Value::Word(theirs)) = (&mine.value, &theirs.value)
                && mine != theirs
            {
                let kind = FaultKind::Ambiguous(vec![mine, theirs]);
                return Some(Err((Fault { at, kind }, first.command)));
            }
        }
    }
    Some(Ok(first))
}
