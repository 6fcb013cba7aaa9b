//! The picture of a run: for each fault a panel with requests a second, lost datagrams, and who forwarded.
//!
//! Plain SVG, written by hand. Its colours follow the reader's light or dark scheme.

use std::fmt::Write;

use crate::ports::Sample;
use crate::scenario::Outline;
use crate::topology::Side;
use crate::traffic::{BIN_NS, Bin};

const WIDTH: f64 = 1_000.0;
/// Left edge and right edge of every plot.
const LEFT: f64 = 90.0;
const RIGHT: f64 = 980.0;
/// Top of the first panel, and distance from panel to panel.
const TOP: f64 = 92.0;
const PANEL: f64 = 268.0;
/// Inside a panel: tops and heights of its three plots.
const REQUESTS: (f64, f64) = (34.0, 100.0);
const LOSSES: (f64, f64) = (142.0, 32.0);
const LANES: (f64, f64) = (182.0, 36.0);
/// Seconds before the fault that are drawn.
const BEFORE_S: f64 = 1.0;
/// Bins of [`BIN_NS`] that make one step of the requests' curve.
const STEP: usize = 5;
const STEP_BINS: u64 = STEP as u64;

const STYLE: &str = "
  text { font: 12px system-ui, 'DejaVu Sans', sans-serif; fill: #1f2328; }
  .title { font-size: 17px; font-weight: 600; } .name { font-size: 14px; font-weight: 600; }
  .soft { fill: #59636e; font-size: 11px; } .end { text-anchor: end; } .middle { text-anchor: middle; }
  rect { shape-rendering: crispEdges; }
  .back { fill: #ffffff; } .grid { stroke: #d8dee4; } .good { fill: #0969da; } .bad { fill: #cf222e; }
  .curve { fill: #0969da; fill-opacity: 0.18; stroke: #0969da; stroke-width: 1.5; }
  .a { fill: #1a7f37; } .b { fill: #bf8700; }
  .fault { stroke: #cf222e; stroke-width: 1.5; } .said { stroke: #59636e; stroke-dasharray: 3 3; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .soft { fill: #9198a1; } .back { fill: #0d1117; } .grid { stroke: #30363d; }
    .good { fill: #58a6ff; } .bad { fill: #ff7b72; } .curve { fill: #58a6ff; stroke: #58a6ff; }
    .a { fill: #3fb950; } .b { fill: #d29922; } .fault { stroke: #ff7b72; } .said { stroke: #9198a1; }
  }
";

/// Draws one panel for each fault, all on the same scale of time.
pub fn draw(title: &str, outlines: &[Outline]) -> String {
    let after_s = outlines.iter().map(last_second).fold(2.0, f64::max);
    let panels = f64::from(u32::try_from(outlines.len()).unwrap_or(u32::MAX));
    let height = TOP + PANEL * panels;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">\n\
         <style>{STYLE}</style>\n<rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\"/>"
    );
    text(&mut svg, LEFT, 30.0, "title", title);
    legend(&mut svg);
    let busiest = outlines.iter().flat_map(|outline| rates(&outline.request_bins)).map(|(_, rate)| rate);
    let most = round_up(busiest.fold(1.0, f64::max));
    let mut top = TOP;
    for outline in outlines {
        Panel { outline, top, after_s, most }.draw(&mut svg);
        top += PANEL;
    }
    svg.push_str("</svg>\n");
    svg
}

/// The end of what was recorded, seconds after the fault.
fn last_second(outline: &Outline) -> f64 {
    outline.probe_bins.last().map_or(0.0, |bin| seconds(bin.at_ns, outline.at_ns))
}

fn legend(svg: &mut String) {
    let entries = [
        ("good", LEFT, "requests a second"),
        ("bad", LEFT + 215.0, "lost datagrams (one is sent each ms)"),
        ("a", LEFT + 500.0, "node A forwards"),
        ("b", LEFT + 670.0, "node B forwards"),
    ];
    for (class, x, words) in entries {
        let _ = writeln!(svg, "<rect class=\"{class}\" x=\"{x}\" y=\"46\" width=\"12\" height=\"12\"/>");
        text(svg, x + 18.0, 56.0, "", words);
    }
    let _ = writeln!(svg, "<path class=\"fault\" d=\"M{LEFT} 68v12\"/>");
    text(svg, LEFT + 18.0, 78.0, "", "the fault");
    let _ = writeln!(svg, "<path class=\"said\" d=\"M{} 68v12\"/>", LEFT + 215.0);
    text(svg, LEFT + 233.0, 78.0, "", "first announcement of the new active node");
}

struct Panel<'a> {
    outline: &'a Outline,
    top: f64,
    after_s: f64,
    /// Requests a second at the top of the scale.
    most: f64,
}

impl Panel<'_> {
    fn draw(&self, svg: &mut String) {
        let Outline { fault, from, survived, connections, silence_ns, probes_lost, probes, .. } =
            self.outline;
        text(svg, LEFT, self.top + 12.0, "name", &format!("{}: node {from:?} goes", fault.name()));
        let facts = format!(
            "{survived} of {connections} connections kept · longest silence {} ms · {probes_lost} of {probes} datagrams lost",
            millis(*silence_ns)
        );
        text(svg, RIGHT, self.top + 12.0, "end", &facts);
        self.time_axis(svg);
        self.requests(svg);
        self.losses(svg);
        self.lanes(svg);
        let bottom = self.top + LANES.0 + LANES.1;
        let (from_y, x) = (self.top + REQUESTS.0 - 8.0, self.x(0.0));
        let _ = writeln!(svg, "<path class=\"fault\" d=\"M{x:.1} {from_y}V{bottom}\"/>");
        if let Some(at_ns) = self.outline.announced_ns {
            let x = self.x(seconds(at_ns, self.outline.at_ns));
            let _ = writeln!(svg, "<path class=\"said\" d=\"M{x:.1} {from_y}V{bottom}\"/>");
        }
    }

    fn x(&self, at_s: f64) -> f64 {
        let share = (at_s + BEFORE_S) / (self.after_s + BEFORE_S);
        LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    fn shown(&self, at_ns: u64) -> bool {
        (-BEFORE_S..=self.after_s).contains(&seconds(at_ns, self.outline.at_ns))
    }

    fn time_axis(&self, svg: &mut String) {
        let bottom = self.top + LANES.0 + LANES.1;
        let step = if self.after_s > 6.0 { 1.0 } else { 0.5 };
        let mut at = -BEFORE_S;
        while at <= self.after_s {
            let x = self.x(at);
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{x:.1} {}V{bottom}\"/>", self.top + REQUESTS.0);
            text(svg, x, bottom + 15.0, "soft middle", &format!("{at:+.1} s").replace("+0.0 s", "0"));
            at += step;
        }
    }

    fn requests(&self, svg: &mut String) {
        let (top, height) = (self.top + REQUESTS.0, REQUESTS.1);
        let last = |at_ns: u64| at_ns + BIN_NS * (STEP_BINS - 1);
        let points: Vec<(u64, f64)> = rates(&self.outline.request_bins)
            .filter(|(at_ns, _)| self.shown(*at_ns) || self.shown(last(*at_ns)))
            .collect();
        let most = self.most;
        let y = |rate: f64| top + height * (1.0 - rate / most);
        for share in [0.0, 0.5, 1.0] {
            let at = y(most * share);
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/>");
            text(svg, LEFT - 8.0, at + 4.0, "soft end", &format!("{:.0}", most * share));
        }
        text(svg, LEFT - 8.0, top - 10.0, "soft end", "requests/s");
        let Some(first) = points.first() else { return };
        let mut path = format!("M{:.1} {:.1}", self.x_of(first.0), y(0.0));
        for (at_ns, rate) in &points {
            let end = at_ns + BIN_NS * STEP_BINS;
            let _ = write!(path, "H{:.1}V{:.1}H{:.1}", self.x_of(*at_ns), y(*rate), self.x_of(end));
        }
        let _ = write!(path, "V{:.1}", y(0.0));
        let _ = writeln!(svg, "<path class=\"curve\" d=\"{path}\"/>");
    }

    fn losses(&self, svg: &mut String) {
        let (top, height) = (self.top + LOSSES.0, LOSSES.1);
        // A probe each millisecond: at most this many in a bin, give or take the client's own lateness.
        let most = 10.0;
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {}H{RIGHT}\"/>", top + height);
        text(svg, LEFT - 8.0, top + 12.0, "soft end", "lost per");
        text(svg, LEFT - 8.0, top + 25.0, "soft end", "10 ms");
        let lossy = |bin: &&Bin| bin.bad > 0 && self.shown(bin.at_ns);
        for bin in self.outline.probe_bins.iter().filter(lossy) {
            let tall = height * (f64::from(bin.bad) / most).min(1.0);
            let (x, wide) = self.span(bin.at_ns, bin.at_ns + BIN_NS);
            let y = top + height - tall;
            let _ = writeln!(
                svg,
                "<rect class=\"bad\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\"/>"
            );
        }
    }

    fn lanes(&self, svg: &mut String) {
        let lane = LANES.1 / 2.0;
        for (row, side) in [0.0, 1.0].into_iter().zip(Side::BOTH) {
            let y = self.top + LANES.0 + row * lane;
            text(svg, LEFT - 8.0, y + 13.0, "soft end", &format!("node {side:?}"));
            for (from_ns, to_ns) in runs(&self.outline.forwarded, side) {
                let (x, wide) = self.span(from_ns, to_ns);
                let _ = writeln!(
                    svg,
                    "<rect class=\"{}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{:.1}\"/>",
                    side.letter(),
                    y + 2.0,
                    lane - 4.0
                );
            }
        }
    }

    fn x_of(&self, at_ns: u64) -> f64 {
        self.x(seconds(at_ns, self.outline.at_ns))
    }

    /// Left edge and width; never so narrow that it cannot be seen, and nothing outside the plot.
    fn span(&self, from_ns: u64, to_ns: u64) -> (f64, f64) {
        let (from, to) = (self.x_of(from_ns), self.x_of(to_ns));
        (from, if to > from { (to - from).max(1.0) } else { 0.0 })
    }
}

/// Requests a second, step by step, with the begin of each step.
fn rates(bins: &[Bin]) -> impl Iterator<Item = (u64, f64)> {
    let steps_per_second = 1e9 / f64_of(BIN_NS * STEP_BINS);
    bins.chunks_exact(STEP).map(move |step| {
        let done: u32 = step.iter().map(|bin| bin.good).sum();
        (step[0].at_ns, f64::from(done) * steps_per_second)
    })
}

/// Stretches of time in which a node forwarded.
fn runs(samples: &[Sample], side: Side) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut before_ns = None;
    for sample in samples {
        let begin = before_ns.unwrap_or_else(|| sample.at_ns.saturating_sub(BIN_NS));
        before_ns = Some(sample.at_ns);
        if sample.forwarded(side) {
            match runs.last_mut() {
                Some((_, end)) if *end == begin => *end = sample.at_ns,
                _ => runs.push((begin, sample.at_ns)),
            }
        }
    }
    runs
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>");
}

fn seconds(at_ns: u64, origin_ns: u64) -> f64 {
    if at_ns >= origin_ns { f64_of(at_ns - origin_ns) / 1e9 } else { -f64_of(origin_ns - at_ns) / 1e9 }
}

/// Differences of times and rates, all far below 2^53.
fn f64_of(number: u64) -> f64 {
    number as f64
}

fn millis(ns: u64) -> String {
    format!("{}.{}", ns / 1_000_000, ns / 100_000 % 10)
}

/// The next of 1, 2, 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let mut unit = 1.0;
    loop {
        for factor in [1.0, 2.0, 5.0] {
            if value <= unit * factor {
                return unit * factor;
            }
        }
        unit *= 10.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_time_is_drawn_in_unbroken_stretches() {
        let frames = [[9, 0], [9, 0], [0, 0], [0, 9], [0, 9]];
        let samples: Vec<Sample> = (1..)
            .zip(frames)
            .map(|(n, frames)| Sample { at_ns: n * BIN_NS, length_ns: BIN_NS, frames })
            .collect();
        assert_eq!(runs(&samples, Side::A), [(0, 2 * BIN_NS)]);
        assert_eq!(runs(&samples, Side::B), [(3 * BIN_NS, 5 * BIN_NS)]);
    }

    #[test]
    fn scales_end_on_round_numbers() {
        assert_eq!([0.3, 1.0, 3.0, 420.0, 1_001.0].map(round_up), [1.0, 1.0, 5.0, 500.0, 2_000.0]);
    }

    #[test]
    fn words_cannot_break_the_drawing() {
        let mut svg = String::new();
        text(&mut svg, 1.0, 2.0, "", "<&>");
        assert!(svg.contains("&lt;&amp;>"));
    }
}
