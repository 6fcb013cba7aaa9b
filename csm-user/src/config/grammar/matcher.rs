//! How the words of a line are matched with a command's grammar.
//!
//! One word of look-ahead decides every optional part and every choice, so a fault has one place and one list of what
//! would have fitted there. Keywords may be shortened as long as they stay unique, as in IOS.

use super::{Arg, Fault, FaultKind, Kind, Piece, Value, interface_name, is_channel};
use crate::config::token::Token;

/// Matches all of `words` with `grammar`. `open_ended` lets the words end after any piece (a `no` form need not repeat
/// the arguments).
///
/// # Errors
/// The first word that does not fit.
pub fn fit(grammar: &[Piece], words: &[Token<'_>], open_ended: bool) -> Result<Vec<Arg>, Fault> {
    let mut matcher = Matcher { words, at: 0, args: Vec::new(), expected: Vec::new() };
    match matcher.sequence(grammar, open_ended) {
        Ok(()) if matcher.at == words.len() => Ok(matcher.args),
        Ok(()) => {
            matcher.expected.push("the end of the line".to_owned());
            Err(matcher.fault())
        }
        Err(fault) => Err(fault),
    }
}

struct Matcher<'a> {
    words: &'a [Token<'a>],
    at: usize,
    args: Vec<Arg>,
    /// What could have stood at `at`.
    expected: Vec<String>,
}

impl Matcher<'_> {
    fn fault(&mut self) -> Fault {
        Fault { at: self.at, kind: FaultKind::Expected(std::mem::take(&mut self.expected)) }
    }

    fn take(&mut self, slot: &'static str, value: Value) {
        let span = self.words[self.at].span;
        self.args.push(Arg { slot, value, span });
        self.at += 1;
        self.expected.clear();
    }

    fn sequence(&mut self, pieces: &[Piece], open_ended: bool) -> Result<(), Fault> {
        for piece in pieces {
            if open_ended && self.at > 0 && self.at == self.words.len() {
                return Ok(());
            }
            self.piece(piece, open_ended)?;
        }
        Ok(())
    }

    fn piece(&mut self, piece: &Piece, open_ended: bool) -> Result<(), Fault> {
        if matches!(piece, Piece::Rest) {
            self.at = self.words.len();
            return Ok(());
        }
        let word = self.words.get(self.at).map(|token| token.text);
        let Some(word) = word.filter(|word| piece.starts(word)) else {
            piece.first(&mut self.expected);
            return if matches!(piece, Piece::Optional(_)) { Ok(()) } else { Err(self.fault()) };
        };
        match *piece {
            Piece::Word(keyword, _) => self.take(keyword, Value::Word(keyword)),
            Piece::Slot(name, Kind::Interface, _) if self.joined(word).is_some() => {
                let joined = self.joined(word).unwrap_or_default();
                self.take(name, Value::Text(joined));
                self.at += 1;
            }
            Piece::Slot(name, Kind::Line, _) => {
                let words: Vec<&str> = self.words[self.at..].iter().map(|word| word.text).collect();
                match Kind::Line.read(name, &words.join(" ")) {
                    Ok(value) => self.take(name, value),
                    Err(message) => return Err(Fault { at: self.at, kind: FaultKind::Value(message) }),
                }
                self.at = self.words.len();
            }
            Piece::Slot(name, kind, _) => match kind.read(name, word) {
                Ok(value) => self.take(name, value),
                Err(message) => return Err(Fault { at: self.at, kind: FaultKind::Value(message) }),
            },
            Piece::Optional(pieces) => self.sequence(pieces, open_ended)?,
            Piece::Either(choices) => {
                let choice = self.choose(choices, word)?;
                self.sequence(choice, open_ended)?;
            }
            Piece::Rest => {}
        }
        Ok(())
    }

    /// The name of an interface whose place stands apart from its kind, as `fastethernet 3/6`.
    fn joined(&self, word: &str) -> Option<String> {
        let place = self.words.get(self.at + 1)?.text;
        let is_kind = word.bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_apart = is_kind && place.contains('/') || is_channel(word);
        let joined = interface_name(&format!("{word}{place}")).filter(|_| is_apart)?;
        // Only what is a place has become one word that Linux takes.
        (joined != format!("{word}{place}")).then_some(joined)
    }

    /// The one of `choices` that `word` begins.
    fn choose(&self, choices: &'static [&'static [Piece]], word: &str) -> Result<&'static [Piece], Fault> {
        let fitting: Vec<_> = choices.iter().filter(|c| c.first().is_some_and(|p| p.starts(word))).collect();
        let keyword = |choice: &[Piece]| match choice.first() {
            Some(Piece::Word(keyword, _)) => Some(*keyword),
            _ => None,
        };
        let exact = fitting.iter().find(|c| keyword(c).is_some_and(|k| k.eq_ignore_ascii_case(word)));
        match (exact, fitting.as_slice()) {
            (Some(choice), _) | (None, [choice]) => Ok(choice),
            _ => {
                let words = fitting.iter().filter_map(|choice| keyword(choice)).collect();
                Err(Fault { at: self.at, kind: FaultKind::Ambiguous(words) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::token::lex;

    const GRAMMAR: &[Piece] = &[
        Piece::Word("virtual", ""),
        Piece::Slot("ADDRESS", Kind::Host, ""),
        Piece::Optional(&[Piece::Slot("MASK", Kind::Mask, "")]),
        Piece::Either(&[&[Piece::Word("tcp", "")], &[Piece::Word("telnet", "")], &[Piece::Word("udp", "")]]),
        Piece::Slot("PORT", Kind::Number(0, 99), ""),
    ];

    fn check(line: &str, open_ended: bool) -> Result<usize, Fault> {
        fit(GRAMMAR, &lex(line)[0], open_ended).map(|args| args.len())
    }

    fn expected(at: usize, words: &[&str]) -> Result<usize, Fault> {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        Err(Fault { at, kind: FaultKind::Expected(words) })
    }

    #[test]
    fn words_fit_in_full_or_shortened_with_and_without_the_optional_part() {
        assert_eq!(check("virtual 1.2.3.4 255.255.0.0 tcp 80", false), Ok(5));
        assert_eq!(check("v 1.2.3.4 u 80", false), Ok(4));
        assert_eq!(check("VIRTUAL 1.2.3.4 Tcp 80", false), Ok(4));
    }

    #[test]
    fn a_fault_names_the_word_and_what_would_have_fitted() {
        assert_eq!(
            check("virtual 1.2.3.4 icmp 80", false),
            expected(2, &["a mask", "`tcp`", "`telnet`", "`udp`"])
        );
        assert_eq!(check("virtual 1.2.3.4 tcp", false), expected(3, &["port 0-99"]));
        assert_eq!(check("virtual 1.2.3.4 tcp 8 9", false), expected(4, &["the end of the line"]));
        let ambiguous = Fault { at: 2, kind: FaultKind::Ambiguous(vec!["tcp", "telnet"]) };
        assert_eq!(check("virtual 1.2.3.4 t 80", false), Err(ambiguous));
        let range = Fault { at: 3, kind: FaultKind::Value("port is 0-99, not 100".to_owned()) };
        assert_eq!(check("virtual 1.2.3.4 tcp 100", false), Err(range));
    }

    #[test]
    fn a_no_form_may_stop_early() {
        assert_eq!(check("virtual", true), Ok(1));
        assert_eq!(check("virtual 1.2.3.4 tcp", true), Ok(3));
        assert!(check("virtual bad", true).is_err());
    }
}
