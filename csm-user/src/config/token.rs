//! Lines and words of a configuration, with their places. Prompts and comments are taken off here.
//!
//! A prompt is decoration: `Router(config-slb-vserver)#` says nothing about the mode, which is tracked by the commands
//! themselves (the printed listings show wrong prompts). With a mode in brackets the `#` may be missing or stand apart.

/// A place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Line, from 1; 0: the file as a whole.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// Bytes.
    pub width: usize,
}

impl Span {
    /// The file as a whole.
    pub const FILE: Self = Self { line: 0, column: 0, width: 0 };

    /// The column after this span: where the next word is missing.
    #[must_use]
    pub const fn after(self) -> Self {
        Self { line: self.line, column: self.column + self.width + 1, width: 1 }
    }
}

/// A word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// As written.
    pub text: &'a str,
    /// Where.
    pub span: Span,
}

/// The words of each command, blank lines and comments left out.
#[must_use]
pub(super) fn lex(text: &str) -> Vec<Vec<Token<'_>>> {
    let mut commands: Vec<Vec<Token<'_>>> = Vec::new();
    let mut pasted = false;
    for (index, line) in text.lines().enumerate() {
        let prompt = prompt_width(line);
        let words = words(line, prompt, index + 1);
        let Some(first) = words.first() else { continue };
        // Listings break long lines; no command starts with a digit.
        let continued = pasted && prompt == 0 && first.text.starts_with(|c: char| c.is_ascii_digit());
        match commands.last_mut() {
            Some(command) if continued => command.extend(words),
            _ => {
                pasted = prompt > 0;
                commands.push(words);
            }
        }
    }
    commands
}

/// The words of `line` from byte `start` on; a word that begins with `!` begins a comment.
fn words(line: &str, start: usize, number: usize) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = start;
    while let Some(rest) = line.get(at..) {
        let blank = rest.len() - rest.trim_start().len();
        let rest = &rest[blank..];
        if rest.is_empty() || rest.starts_with('!') {
            break;
        }
        let width = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let span = Span { line: number, column: at + blank + 1, width };
        tokens.push(Token { text: &rest[..width], span });
        at += blank + width;
    }
    tokens
}

/// The prompt that `line` begins with, as in a pasted listing, and the command behind it.
#[must_use]
pub fn split_prompt(line: &str) -> (&str, &str) {
    // The switches of the stack's guide ask by an arrow.
    let arrow = line.trim_start().strip_prefix("->").map(|rest| line.len() - rest.len());
    line.split_at(arrow.unwrap_or_else(|| prompt_width(line)))
}

/// Bytes of a leading prompt: `HOST#`, `HOST>`, or `HOST(MODE)` with or without a `#` after blanks.
fn prompt_width(line: &str) -> usize {
    let body = line.trim_start();
    let indent = line.len() - body.len();
    let host = body.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(body.len());
    if host == 0 {
        return 0;
    }
    let after = &body[host..];
    if after.starts_with(['#', '>']) {
        return indent + host + 1;
    }
    let Some(close) = after.strip_prefix('(').and_then(|inside| inside.find(')')) else { return 0 };
    // The brackets and what is between them.
    let mode = close + 2;
    let beyond = &after[mode..];
    let sign = beyond.trim_start();
    let blanks = beyond.len() - sign.len();
    let width = if sign.starts_with('#') { mode + blanks + 1 } else { mode };
    indent + host + width
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<Vec<&str>> {
        lex(text).iter().map(|line| line.iter().map(|token| token.text).collect()).collect()
    }

    #[test]
    fn prompts_are_taken_off_in_every_shape_the_listings_print() {
        for prompt in [
            "Router# ",
            "Router#",
            "Cat6k-2> ",
            "Router(config)# ",
            "Router(config-module-csm) # ",
            "Router(config-slb-vlan-server) ",
            "  Router(vlan)#  ",
        ] {
            assert_eq!(texts(&format!("{prompt}vlan 9")), [["vlan", "9"]], "{prompt:?}");
        }
        assert_eq!(texts("Router(config)#"), Vec::<Vec<&str>>::new());
    }

    #[test]
    fn what_is_no_prompt_stays() {
        assert_eq!(texts("vserver #1"), [["vserver", "#1"]]);
        assert_eq!(texts("vserver A(B)# x"), [["vserver", "A(B)#", "x"]]);
    }

    #[test]
    fn comments_end_a_line_and_columns_count_bytes_from_one() {
        let lines = lex("! all\n vlan\té 2 ! rest\n\n!\n");
        let places: Vec<_> = lines[0].iter().map(|token| (token.text, token.span.column)).collect();
        assert_eq!(places, [("vlan", 2), ("é", 7), ("2", 10)]);
        assert_eq!((lines.len(), lines[0][0].span.line), (1, 2));
    }

    #[test]
    fn a_pasted_line_that_the_listing_broke_is_put_together() {
        let text = "Router(config)# ip addr 1.2.3.4 255.0.0.0 alt 1.2.3.5\n255.0.0.0\n";
        let lines = lex(text);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0][6].span, Span { line: 2, column: 1, width: 9 });
        assert_eq!(texts("ip addr 1.2.3.4\n255.0.0.0").len(), 2, "only in pasted text");
    }
}
