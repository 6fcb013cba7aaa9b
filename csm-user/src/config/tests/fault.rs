//! `tests/data/config/bad-*.cfg` are refused and `warn-*.cfg` accepted, each with the findings beside it in `.diag`.

use super::*;

/// Runs every file whose name begins with `prefix`.
fn each(prefix: &str, check: impl Fn(&Outcome, &str)) {
    let mut names: Vec<_> = std::fs::read_dir(data(""))
        .expect("the directory of test data")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
        .filter_map(|file| Some(file.strip_suffix(".cfg")?.to_owned()))
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    for name in names {
        check(&golden(&name, &read(&format!("{name}.cfg"))), &name);
    }
}

#[test]
fn every_bad_file_is_refused_with_its_findings() {
    each("bad-", |outcome, name| assert!(outcome.config.is_none() && outcome.errors() > 0, "{name}"));
}

#[test]
fn every_incomplete_file_is_accepted_with_its_warnings() {
    each("warn-", |outcome, name| {
        assert!(outcome.config.is_some() && !outcome.diagnostics.is_empty(), "{name}");
    });
}

#[test]
fn all_faults_that_the_pair_must_name_are_found_at_once() {
    let outcome = golden("bad-all-at-once", &read("bad-all-at-once.cfg"));
    let lines: Vec<_> = outcome.diagnostics.iter().map(|found| found.line).collect();
    assert_eq!(lines, [4, 7, 12, 15, 24, 28, 30]);
}

#[test]
fn without_real_time_scheduling_a_failover_below_half_a_second_is_refused() {
    let errors = |failover: &str, realtime| {
        let text =
            format!("module csm 5\nft group 1 vlan 9\nheartbeat-time msec 50\nfailover msec {failover}\n");
        let host = HostFacts { interfaces: None, realtime };
        check("a.cfg", &text, &host).errors()
    };
    assert_eq!(errors("499", Some(false)), 1);
    assert_eq!(errors("500", Some(false)), 0);
    assert_eq!(errors("499", Some(true)), 0);
    assert_eq!(errors("499", None), 0);
}

#[test]
fn interfaces_are_checked_only_if_the_host_is_known() {
    let text = "interface nowhere\n switchport access vlan 2\nmodule csm 5\nvlan 2 client\n";
    assert_eq!(check("a.cfg", text, &HostFacts::default()).errors(), 0);
    assert_eq!(check("a.cfg", text, &host()).errors(), 1);
}

#[test]
fn a_no_form_takes_back_what_was_said() {
    let text = "module csm 5\nvlan 2 client\nip addr 10.0.0.1 255.0.0.0\ngateway 10.0.0.9\ngateway 10.0.0.8\n\
                no gateway 10.0.0.9\nvserver a\nvirtual 10.0.0.5 tcp www\nidle 5\nno idle\nno vserver a\n\
                vserver a\nvirtual 10.0.0.6 tcp www\nvserver b\nvirtual 10.0.0.5 tcp www\nno virtual\n";
    let outcome = check("a.cfg", text, &HostFacts::default());
    let config = outcome.config.unwrap_or_else(|| panic!("{}", render("a.cfg", text, &outcome.diagnostics)));
    assert_eq!(config.vlans[0].gateways, ["10.0.0.8".parse::<std::net::IpAddr>().expect("an address")]);
    assert_eq!(config.vservers[0].idle.as_secs(), 3600);
    assert_eq!(config.vservers[1].virtual_server, None);
}
