//! Lines typed on top of the configuration in force.

use std::collections::HashSet;

use super::diagnostic::{Diagnostic, render};
use super::{HostFacts, Outcome, Source, build, check, parse, print, validate};
use crate::config::Severity;
use crate::model::Config;

/// What came of an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The candidate, and what is said of the edited lines; findings about lines of the running configuration that the
    /// edit caused are in [`Edit::running`].
    pub outcome: Outcome,
    /// Findings about the running configuration's own lines.
    pub running: Vec<Diagnostic>,
    /// The running configuration, as printed.
    pub base: String,
}

impl Edit {
    /// All findings, as `csm check` prints them. `name` and `lines` are those given to [`edit`].
    #[must_use]
    pub fn report(&self, name: &str, lines: &str) -> String {
        render(name, lines, &self.outcome.diagnostics) + &render(Source::RUNNING, &self.base, &self.running)
    }
}

/// Reads `lines` as typed in `configure terminal` on top of `running`: later lines replace, `no` forms remove. What was
/// said of the running configuration before is not said again.
#[must_use]
pub fn edit(running: &Config, name: &str, lines: &str, host: &HostFacts) -> Edit {
    let base = print(running);
    let count = base.lines().count() + 1;
    let known: HashSet<Diagnostic> = check(Source::RUNNING, &base, host).diagnostics.into_iter().collect();
    // Whatever mode the last line of the running configuration is in, typing begins at the top.
    let (mut tree, mut found) = parse::parse(&format!("{base}end\n{lines}"));
    let source = Source { name, running: count };
    let draft = build::build(&mut tree, source, &mut found);
    validate::validate(&draft, &tree, source, host, &mut found);
    found.sort_by_key(|found| (found.line, found.column, found.severity));
    found.dedup();
    found.retain(|finding| !known.contains(finding));
    let refused = found.iter().any(|finding| finding.severity == Severity::Error);
    let (mut typed, mut of_running) = (Vec::new(), Vec::new());
    for finding in found {
        match finding.line.checked_sub(count) {
            Some(line) if line > 0 => typed.push(Diagnostic { line, ..finding }),
            _ => of_running.push(finding),
        }
    }
    let outcome = Outcome { config: (!refused).then_some(draft.config), diagnostics: typed };
    Edit { outcome, running: of_running, base }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: &str = "interface eth1
 switchport access vlan 2
interface eth2
 switchport access vlan 3
module csm 5
 vlan 2 client
  ip address 192.158.38.10 255.255.255.0
 vlan 3 server
  ip address 192.158.39.10 255.255.255.0
 serverfarm WEB
  real 192.158.39.101
   inservice
  real 192.158.39.102
   inservice
 vserver VIP1
  virtual 192.158.38.30 tcp www
  serverfarm WEB
  inservice
";

    fn running() -> Config {
        check("a.cfg", RUNNING, &HostFacts::default()).config.expect("good")
    }

    fn typed(lines: &str) -> Edit {
        edit(&running(), "terminal", lines, &HostFacts::default())
    }

    #[test]
    fn typed_lines_replace_add_and_remove_without_a_word() {
        let edit = typed(
            "vserver VIP1\n virtual 192.158.38.31 tcp 8080\n idle 60\n exit\nserverfarm WEB\n no real 192.158.39.101\n \
             real 192.158.39.103\n  weight 3\n  inservice\nvserver VIP2\n virtual 192.158.38.32 udp 53\n serverfarm WEB\n",
        );
        assert_eq!(edit.report("terminal", ""), "");
        let config = edit.outcome.config.expect("good");
        let text = print(&config);
        assert!(
            text.contains("  virtual 192.158.38.31 tcp 8080\n") && text.contains("  idle 60\n"),
            "{text}"
        );
        assert!(
            !text.contains("192.158.39.101") && text.contains("  real 192.158.39.103\n   weight 3\n"),
            "{text}"
        );
        assert_eq!(config.vservers.len(), 2);
        assert_eq!(edit_again(&config), config, "an empty edit changes nothing");
    }

    fn edit_again(config: &Config) -> Config {
        edit(config, "terminal", "", &HostFacts::default()).outcome.config.expect("good")
    }

    #[test]
    fn faults_are_placed_in_what_was_typed_or_in_the_running_configuration() {
        let edit = typed(
            "serverfarm WEB\n frobnicate\nvserver VIP1\n serverfarm GONE\nvserver VIP3\n virtual 192.158.38.30 tcp www\n",
        );
        assert!(edit.outcome.config.is_none());
        let report = edit.report("terminal", "serverfarm WEB\n frobnicate\nvserver VIP1\n serverfarm GONE\n");
        assert!(
            report.contains("terminal:2:2: error:") && report.contains("terminal:4:13: error:"),
            "{report}"
        );
        assert!(report.contains("terminal:6:"), "{report}");
        let edit = typed("no serverfarm WEB\n");
        assert!(edit.outcome.config.is_none());
        let report = edit.report("terminal", "no serverfarm WEB\n");
        assert!(report.contains("running-config:19:14: error:"), "{report}");
        assert!(report.contains("\n  serverfarm WEB\n"), "{report}");
    }

    #[test]
    fn what_was_incomplete_before_is_not_told_again() {
        let lines = "vserver NEW\n virtual 192.158.38.33 tcp 80\n inservice\n";
        let first = typed(lines);
        assert!(first.report("terminal", lines).contains("NEW has no server farm"));
        let config = first.outcome.config.expect("accepted");
        let again = edit(&config, "terminal", "vserver VIP1\n idle 5\n", &HostFacts::default());
        assert_eq!(again.report("terminal", ""), "");
    }
}
