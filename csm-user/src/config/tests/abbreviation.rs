//! Keywords may be shortened as long as they stay unique in their mode.

use super::*;

/// Findings for `line` in the mode that `context` opens.
fn findings(context: &str, line: &str) -> Vec<Diagnostic> {
    let (_, diagnostics) = parse::parse(&format!("module csm 5\n{context}\n{line}\n"));
    diagnostics
}

#[test]
fn unique_beginnings_are_taken() {
    let table = [
        ("", "vs web"),
        ("", "se web"),
        ("", "pro web i"),
        ("", "ft g 1 v 9"),
        ("", "vl 2 c"),
        ("", "int eth1"),
        ("", "mod csm 5"),
        ("", "conf t"),
        ("", "VSERVER web"),
        ("vlan 2 client", "ip addr 10.0.0.1 255.0.0.0"),
        ("vlan 2 client", "ip a 10.0.0.1 255.0.0.0 al 10.0.0.2 255.0.0.0"),
        ("vlan 2 client", "g 10.0.0.1"),
        ("vlan 2 client", "al 10.0.0.1 255.0.0.0"),
        ("vlan 2 client", "ro 10.0.0.0 255.0.0.0 g 10.0.0.1"),
        ("interface eth1", "sw acc vl 2"),
        ("interface eth1", "sw m a"),
        ("serverfarm f", "nat s"),
        ("serverfarm f", "no nat c"),
        ("serverfarm f", "pred r"),
        ("serverfarm f\nreal 10.0.0.1", "ins"),
        ("serverfarm f\nreal 10.0.0.1", "no ins"),
        ("serverfarm f\nreal 10.0.0.1", "w 3"),
        ("vserver v", "virt 10.0.0.1 t www"),
        ("vserver v", "sti 30 g 3 n 255.0.0.0"),
        ("vserver v", "rep csrp c"),
        ("vserver v", "rep csrpf s"),
        ("vserver v", "in"),
        ("ft group 1 vlan 9", "pri 20 a 10"),
        ("ft group 1 vlan 9", "pre"),
        ("ft group 1 vlan 9", "h m 50"),
        ("ft group 1 vlan 9", "fa m 150"),
    ];
    for (context, line) in table {
        assert_eq!(findings(context, line), [], "{line}");
    }
}

#[test]
fn ambiguous_beginnings_name_what_they_may_be() {
    let table = [
        ("vserver v", "s 30", "ambiguous: `s` may be `serverfarm`, `slb-policy`, `ssl-sticky` or `sticky`"),
        ("ft group 1 vlan 9", "pr", "ambiguous: `pr` may be `preempt` or `priority`"),
        ("", "v 2", "ambiguous: `v` may be `variable`, `vlan` or `vserver`"),
        ("", "probe p t", "ambiguous: `t` may be `tcp` or `telnet`"),
    ];
    for (context, line, message) in table {
        let found = findings(context, line);
        let messages: Vec<_> = found.iter().map(|found| found.message.as_str()).collect();
        assert_eq!(messages, [message], "{line}");
    }
}
