//! Best and median of some rounds, as text.

use std::time::Duration;

/// Durations by line and round.
#[derive(Debug)]
pub struct Table {
    title: String,
    lines: Vec<Vec<Duration>>,
}

impl Table {
    /// An empty table of so many lines.
    #[must_use]
    pub fn new(title: &str, lines: usize) -> Self {
        Self { title: title.to_owned(), lines: vec![Vec::new(); lines] }
    }

    /// Another round of line `index`.
    pub fn add(&mut self, index: usize, duration: Duration) {
        self.lines[index].push(duration);
    }

    /// Prints it, in nanoseconds.
    pub fn print(&self, names: &[&str]) {
        println!("\n{:<52} {:>7} {:>7}", self.title, "best", "median");
        for (name, rounds) in names.iter().zip(&self.lines) {
            let (best, median) = best_and_median(rounds, Duration::as_nanos);
            println!("{name:<52} {best:>7} {median:>7}");
        }
    }
}

/// The least and the middle of `rounds`, by `measure`; 0 for none.
pub fn best_and_median<T, M: Ord + Copy + Default>(rounds: &[T], measure: impl Fn(&T) -> M) -> (M, M) {
    let mut sorted: Vec<M> = rounds.iter().map(measure).collect();
    sorted.sort_unstable();
    (sorted.first().copied().unwrap_or_default(), sorted.get(sorted.len() / 2).copied().unwrap_or_default())
}
