//! The language as a whole: the guide's listings, bad input, round trips, arbitrary bytes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use expect_test::expect_file;

use super::*;

mod abbreviation;
mod fault;
mod mutation;
mod oracle;
mod roundtrip;

fn data(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/config")).join(name)
}

fn read(name: &str) -> String {
    let path = data(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A host with eth1 to eth4, a port for the guide's HSRP listings, and real-time scheduling.
fn host() -> HostFacts {
    let mut interfaces: BTreeSet<String> = (1..=4).map(|n| format!("eth{n}")).collect();
    // What the guide calls FastEthernet3/6.
    interfaces.insert("fa3-6".to_owned());
    HostFacts { interfaces: Some(interfaces), realtime: Some(true) }
}

/// Compares the findings for `text` with `NAME.diag`; what is accepted is printed there too.
fn golden(name: &str, text: &str) -> Outcome {
    let file = format!("{name}.cfg");
    let outcome = check(&file, text, &host());
    let mut out = render(&file, text, &outcome.diagnostics);
    if let Some(config) = &outcome.config {
        out += "--- accepted:\n";
        out += &print(config);
    }
    expect_file![data(&format!("{name}.diag"))].assert_eq(&out);
    outcome
}

#[test]
fn the_lab_configurations_are_accepted_without_a_word() {
    for name in [
        "figure-7-1-a.cfg",
        "figure-7-1-b.cfg",
        "bridge.cfg",
        "services.cfg",
        "probes.cfg",
        "policies.cfg",
        "firewalls.cfg",
    ] {
        let text = read(name);
        let outcome = check(name, &text, &host());
        assert_eq!(render(name, &text, &outcome.diagnostics), "", "{name}");
        let config = outcome.config.expect("accepted");
        assert!(config.vservers.iter().all(crate::model::Vserver::is_operational));
        let plain: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('!'))
            .fold(String::new(), |text, line| text + line + "\n");
        assert_eq!(print(&config), plain, "{name} is written as it is printed");
    }
}

#[test]
fn a_key_is_printed_hidden_whichever_way_it_was_written() {
    let config = |key: &str| {
        let ft = " ft group 1 vlan 9\n";
        let text = read("figure-7-1-a.cfg").replace(ft, &format!("{ft}  authentication key-string {key}\n"));
        check("keys.cfg", &text, &host()).config.expect("accepted")
    };
    let printed = print(&config("cisco"));
    assert!(printed.contains("\n  authentication key-string 7 0508"), "{printed}");
    assert!(!printed.contains("cisco") && !format!("{:?}", config("cisco")).contains("cisco"));
    assert_eq!(print(&config("7 070C285F4D06")), printed);
}

#[test]
fn figure_7_1_as_printed_is_accepted_and_its_virtual_server_stays_out_of_service() {
    for box_name in ["active", "standby"] {
        let name = format!("seed-figure-7-1-{box_name}");
        let text = read(&format!("{name}.cfg")).replace("ft-group-number", "1");
        let outcome = golden(&name, &text);
        let config = outcome.config.expect("accepted");
        let [vserver] = config.vservers.as_slice() else { panic!("one virtual server") };
        assert!(vserver.inservice && !vserver.is_operational());
        assert_eq!(config.vlans.len(), 2);
        assert!(
            config.vlans[1].alias.is_some(),
            "step 9 belongs to the server VLAN, whatever its prompt says"
        );
        assert_eq!(config.ft.map(|ft| (ft.group, ft.vlan.get())), Some((1, 9)));
    }
}

#[test]
fn the_connection_redundancy_example_lacks_its_farm_and_nothing_else() {
    let text = read("seed-connection-redundancy.cfg");
    let outcome = golden("seed-connection-redundancy", &text);
    assert_eq!(outcome.errors(), 1);
    let farm = "serverfarm SF_NONAT\n real 10.5.0.7\n  inservice\n";
    let outcome = check("with-farm.cfg", &(farm.to_owned() + &text), &host());
    let config = outcome.config.expect("accepted");
    let vserver = &config.vservers[0];
    assert!(vserver.is_operational() && vserver.replicate_connection && vserver.replicate_sticky);
    assert_eq!(vserver.sticky.map(|sticky| (sticky.minutes, sticky.group)), Some((100, 35)));
}

#[test]
fn the_connection_redundancy_task_table_is_read_with_its_misprint() {
    let text = read("seed-connection-redundancy-task.cfg")
        .replace("virtserver-name", "vip1")
        .replace("ip-address [ip-mask] protocol port-number [service ftp]", "10.6.0.100 tcp telnet")
        .replace("serverfarm-name", "farm")
        .replace("duration [group group-id] [netmask ip-netmask]", "30 group 10 netmask 255.255.255.0")
        .replace("group-id vlan vlanid", "90 vlan 111")
        .replace("priority value", "priority 10")
        .replace("failover-time", "3");
    let outcome = golden("seed-connection-redundancy-task", &text);
    assert_eq!(outcome.errors(), 1, "only the farm is missing");
}

#[test]
fn the_synchronization_listing_is_accepted_with_its_broken_lines_joined() {
    let outcome = golden("seed-synchronization-active", &read("seed-synchronization-active.cfg"));
    let config = outcome.config.expect("accepted");
    assert!(config.vlans.iter().all(|vlan| vlan.alt_address.is_some()));
}

#[test]
fn the_hsrp_listings_are_accepted_as_printed() {
    for name in ["seed-hsrp-ft1", "seed-hsrp-ft2"] {
        let config = golden(name, &read(&format!("{name}.cfg"))).config.expect("accepted");
        let [outside, inside] = config.router.as_slice() else { panic!("two interfaces of the router") };
        assert_eq!((outside.name.as_str(), inside.name.as_str()), ("fa3-6", "vlan136"));
    }
}

#[test]
fn the_reference_names_every_command_and_the_document_is_up_to_date() {
    let reference = reference();
    expect_file![concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/config-reference.md")].assert_eq(&reference);
    for command in table::commands() {
        assert!(reference.contains(&format!("`{}`", grammar::Syntax(command.grammar))), "{}", command.name());
    }
}

#[test]
fn every_applied_command_explains_itself_and_each_of_its_words() {
    fn check(pieces: &[grammar::Piece], name: &str) {
        for piece in pieces {
            match piece {
                grammar::Piece::Word(word, help) | grammar::Piece::Slot(word, _, help) => {
                    assert!(!help.is_empty(), "{name}: {word}");
                }
                grammar::Piece::Optional(pieces) => check(pieces, name),
                grammar::Piece::Either(choices) => choices.iter().for_each(|choice| check(choice, name)),
                grammar::Piece::Rest => {}
            }
        }
    }
    let applied = table::commands().filter(|command| matches!(command.effect, command::Effect::Applies));
    for command in applied {
        assert!(!command.help.is_empty(), "{}", command.name());
        check(command.grammar, &command.name());
    }
}
