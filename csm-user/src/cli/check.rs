//! `check FILE`: the configuration against itself and this host, without a daemon.

use std::collections::BTreeSet;

use serde_json::json;

use super::exec::{BAD_INPUT, OK, Output};
use crate::config::{self, Diagnostic, HostFacts, Severity};

/// Checks `file`. Findings go to standard error, as a compiler's; with `as_json` to standard output.
#[must_use]
pub fn check(file: &str, as_json: bool) -> Output {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            return Output {
                stderr: format!("% cannot read {file}: {error}\n"),
                status: BAD_INPUT,
                ..Output::default()
            };
        }
    };
    report(file, &text, &host(), as_json)
}

fn report(file: &str, text: &str, host: &HostFacts, as_json: bool) -> Output {
    let outcome = config::check(file, text, host);
    let status = if outcome.config.is_some() { OK } else { BAD_INPUT };
    if as_json {
        let findings: Vec<_> = outcome.diagnostics.iter().map(finding).collect();
        let reply = json!({ "file": file, "good": outcome.config.is_some(), "findings": findings });
        return Output { stdout: format!("{reply:#}\n"), status, ..Output::default() };
    }
    let stdout = if outcome.config.is_some() { format!("{file} is good\n") } else { String::new() };
    Output { stdout, stderr: config::render(file, text, &outcome.diagnostics), status }
}

fn finding(diagnostic: &Diagnostic) -> serde_json::Value {
    let Diagnostic { severity, line, column, width, message, remedy } = diagnostic;
    let severity = match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    json!({
        "severity": severity, "line": line, "column": column, "width": width, "message": message, "remedy": remedy,
    })
}

/// Whether real-time scheduling is to be had is left open: the user who checks is not the one who runs the daemon.
fn host() -> HostFacts {
    let interfaces = nix::net::if_::if_nameindex().ok().map(|interfaces| {
        interfaces
            .iter()
            .map(|interface| interface.name().to_string_lossy().into_owned())
            .collect::<BTreeSet<_>>()
    });
    HostFacts { interfaces, realtime: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "interface lo\n switchport access vlan 2\nmodule csm 5\n vlan 2 client\n  ip address 192.158.38.10 255.255.255.0\n";

    #[test]
    fn a_good_file_is_good() {
        let output = report("a.cfg", GOOD, &host(), false);
        assert_eq!((output.status, output.stdout.as_str()), (OK, "a.cfg is good\n"), "{}", output.stderr);
    }

    #[test]
    fn a_fault_is_shown_with_its_place_in_both_forms() {
        let text = GOOD.replace("interface lo", "interface nosuch0").replace(" client", " clienthood");
        let output = report("a.cfg", &text, &host(), false);
        assert_eq!((output.status, output.stdout.as_str()), (BAD_INPUT, ""));
        assert!(
            output.stderr.contains("a.cfg:1:") && output.stderr.contains("a.cfg:4:"),
            "{}",
            output.stderr
        );

        let output = report("a.cfg", &text, &host(), true);
        let reply: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
        assert_eq!((output.status, &reply["good"]), (BAD_INPUT, &json!(false)));
        let lines: Vec<_> =
            reply["findings"].as_array().expect("a list").iter().map(|f| f["line"].clone()).collect();
        assert!(lines.contains(&json!(1)) && lines.contains(&json!(4)), "{lines:?}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_bad_input() {
        let output = check("/nonexistent/pair.cfg", false);
        assert_eq!(output.status, BAD_INPUT);
        assert!(
            output.stderr.starts_with("% cannot read /nonexistent/pair.cfg: No such file"),
            "{}",
            output.stderr
        );
    }
}
