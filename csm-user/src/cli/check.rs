//! `check FILE`: the configuration against itself and this host; `check host [FILE]`: this host against what csmd needs.
//! Both without a daemon.

use std::collections::BTreeSet;

use serde_json::json;

use super::exec::{BAD_INPUT, FAILED, OK, Output};
use crate::config::{self, Diagnostic, HostFacts, Imported, NotCarried, Severity};
use crate::host::{self, Finding, Grade, Wanted, survey};

/// Checks `file`. Findings go to standard error, as a compiler's; with `as_json` to standard output.
#[must_use]
pub fn check(file: &str, as_json: bool) -> Output {
    match read(file) {
        Ok(text) => report(file, &text, &host(), as_json),
        Err(output) => output,
    }
}

/// Makes a configuration of a CSM's listing: the text on standard output, what did not come along on standard error.
#[must_use]
pub fn import(file: &str, as_json: bool) -> Output {
    match read(file) {
        Ok(text) => imported(file, &text, as_json),
        Err(output) => output,
    }
}

fn imported(file: &str, listing: &str, as_json: bool) -> Output {
    let Imported { config, text, not_carried, without_port } = config::import(listing);
    if config.is_none() {
        let stderr = format!("% {file} holds no `module csm N`, or nothing of it can be had here\n");
        return Output { stderr, status: BAD_INPUT, ..Output::default() };
    }
    if as_json {
        let rows: Vec<_> = not_carried
            .iter()
            .map(|NotCarried { line, text, why, remedy }| {
                json!({ "line": line, "text": text, "why": why, "remedy": remedy })
            })
            .collect();
        let reply = json!({ "text": text, "not_carried": rows, "vlans_without_port": without_port });
        return Output { stdout: format!("{reply:#}\n"), ..Output::default() };
    }
    let mut list = String::new();
    for NotCarried { line, text, why, remedy } in &not_carried {
        list += &format!("{file}:{line}: not carried: {text}\n  {why}\n");
        list.extend(remedy.iter().map(|remedy| format!("  remedy: {remedy}\n")));
    }
    for vlan in &without_port {
        list += &format!(
            "vlan {vlan} has no port yet: add `interface NAME` with `switchport access vlan {vlan}`, or a trunk\n"
        );
    }
    Output { stdout: text, stderr: list, ..Output::default() }
}

fn read(file: &str) -> Result<String, Output> {
    std::fs::read_to_string(file).map_err(|error| Output {
        stderr: format!("% cannot read {file}: {error}\n"),
        status: BAD_INPUT,
        ..Output::default()
    })
}

/// Checks this host: for the ports of the configuration in `file`, or for all its Ethernet interfaces.
#[must_use]
pub fn check_host(file: Option<&str>, as_json: bool) -> Output {
    let wanted = match file.map(wanted_by).transpose() {
        Ok(wanted) => wanted.unwrap_or_default(),
        Err(output) => return output,
    };
    let ports: Vec<_> = wanted.ports.iter().map(|port| port.name.clone()).collect();
    match survey::survey(&ports) {
        Ok(facts) => report_host(&host::judge(&facts, &wanted), as_json),
        Err(error) => Output {
            stderr: format!("% the kernel does not list its interfaces: {error}\n"),
            status: FAILED,
            ..Output::default()
        },
    }
}

/// What the file wants of the host. Its other faults must be gone first: what is wrong is not known to want anything.
fn wanted_by(file: &str) -> Result<Wanted, Output> {
    let text = read(file)?;
    // Whether its ports exist is for the host's own check to say.
    let outcome = config::check(file, &text, &HostFacts::default());
    match outcome.config {
        Some(config) => Ok(Wanted::of(&config)),
        None => {
            let stderr = config::render(file, &text, &outcome.diagnostics);
            Err(Output { stderr, status: BAD_INPUT, ..Output::default() })
        }
    }
}

fn report_host(findings: &[Finding], as_json: bool) -> Output {
    let worst = findings.iter().map(|finding| finding.grade).max();
    let status = if worst == Some(Grade::Fault) { FAILED } else { OK };
    let stdout = if as_json {
        let list: Vec<_> = findings
            .iter()
            .map(|Finding { grade, about, found, remedy }| {
                json!({ "grade": grade.to_string(), "about": about, "found": found, "remedy": remedy })
            })
            .collect();
        format!("{:#}\n", json!({ "good": status == OK, "findings": list }))
    } else {
        findings.iter().map(line).collect()
    };
    Output { stdout, status, ..Output::default() }
}

fn line(finding: &Finding) -> String {
    let Finding { grade, about, found, remedy } = finding;
    let remedy = remedy.as_ref().map_or_else(String::new, |remedy| format!("{:24}remedy: {remedy}\n", ""));
    format!("{grade:<8} {about:<14} {found}\n{remedy}")
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
    fn a_fault_of_the_host_is_shown_with_its_remedy_in_both_forms() {
        let finding = |grade, remedy: Option<&str>| Finding {
            grade,
            about: "eth9".to_owned(),
            found: "is small".to_owned(),
            remedy: remedy.map(str::to_owned),
        };
        let output =
            report_host(&[finding(Grade::Good, None), finding(Grade::Fault, Some("grow it"))], false);
        let expected = "ok       eth9           is small\nfault    eth9           is small\n                        remedy: grow it\n";
        assert_eq!((output.status, output.stdout.as_str()), (FAILED, expected));
        let output = report_host(&[finding(Grade::Warning, Some("grow it"))], true);
        let reply: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
        assert_eq!((output.status, &reply["good"]), (OK, &json!(true)));
        assert_eq!(reply["findings"][0]["remedy"], json!("grow it"));
    }

    #[test]
    fn a_host_is_checked_for_a_good_file_only() {
        let output = check_host(Some("/nonexistent/pair.cfg"), false);
        assert_eq!(output.status, BAD_INPUT);
        assert!(check_host(None, false).stdout.contains("kernel"));
    }

    #[test]
    fn what_an_import_leaves_out_is_listed_with_its_line() {
        let output = imported("cat.cfg", "hostname x\nmodule csm 4\n vlan 11 client\n map A url\n", false);
        assert_eq!((output.status, output.stdout.as_str()), (OK, "module csm 4\n vlan 11 client\n"));
        let list = output.stderr;
        assert!(
            list.contains("cat.cfg:4: not carried: map A url\n  `map A url` is not supported: "),
            "{list}"
        );
        assert!(list.contains("vlan 11 has no port yet: add `interface NAME`"), "{list}");
        assert_eq!(imported("cat.cfg", "hostname x\n", false).status, BAD_INPUT);
        let json = imported("cat.cfg", "module csm 4\n vlan 11 client\n", true).stdout;
        let reply: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(reply["vlans_without_port"], json!([11]));
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
