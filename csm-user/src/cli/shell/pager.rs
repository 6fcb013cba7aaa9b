//! Pages of a listing. Pure.

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// To write this, and no more.
    Write(String),
    /// To write this, and then to ask whether to go on.
    Ask(String),
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Another page.
    Page,
    /// Another line.
    Line,
    /// No more.
    Quit,
}

impl Answer {
    /// As in IOS: blank, Enter, anything else.
    #[must_use]
    pub const fn of(key: u8) -> Self {
        match key {
            b' ' => Self::Page,
            b'\r' | b'\n' => Self::Line,
            _ => Self::Quit,
        }
    }
}

/// Counts lines.
#[derive(Clone, Debug)]
pub struct Pager {
    /// Lines to a page; 0: no pages.
    length: usize,
    /// Lines until the next question.
    left: usize,
    waiting: String,
}

impl Pager {
    /// Pages of `length` lines.
    #[must_use]
    pub const fn new(length: usize) -> Self {
        Self { length, left: length, waiting: String::new() }
    }

    /// More of the listing.
    pub fn push(&mut self, text: &str) -> Page {
        if self.length == 0 {
            return Page::Write(text.to_owned());
        }
        self.waiting.push_str(text);
        self.page()
    }

    /// Goes on after a question.
    pub fn answered(&mut self, answer: Answer) -> Page {
        self.left = match answer {
            Answer::Page => self.length,
            Answer::Line => 1,
            Answer::Quit => {
                self.waiting.clear();
                0
            }
        };
        self.page()
    }

    fn page(&mut self) -> Page {
        let mut end = 0;
        while self.left > 0 {
            let Some(at) = self.waiting[end..].find('\n') else { break };
            (end, self.left) = (end + at + 1, self.left - 1);
        }
        let rest = self.waiting.split_off(end);
        let out = std::mem::replace(&mut self.waiting, rest);
        if self.left == 0 && !self.waiting.is_empty() { Page::Ask(out) } else { Page::Write(out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_with_a_question_only_if_something_follows() {
        let mut pager = Pager::new(2);
        assert_eq!(pager.push("1\n2\n"), Page::Write("1\n2\n".to_owned()));
        assert_eq!(pager.push("3\n4\n5\n6\n"), Page::Ask(String::new()));
        assert_eq!(pager.answered(Answer::Line), Page::Ask("3\n".to_owned()));
        assert_eq!(pager.answered(Answer::Page), Page::Ask("4\n5\n".to_owned()));
        assert_eq!(pager.answered(Answer::Quit), Page::Write(String::new()));
        assert_eq!(Pager::new(0).push("1\n2\n3"), Page::Write("1\n2\n3".to_owned()));
    }
}
