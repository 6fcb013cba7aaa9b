//! `show standby [brief]`, in the shape of IOS.

use std::fmt::{self, Write};
use std::net::IpAddr;

use crate::api::reply::{StandbyReply, StandbyRouterReply, StandbyState, StandbyTrackReply};

/// Writes all about each group.
pub fn write(out: &mut impl Write, groups: &[StandbyReply]) -> fmt::Result {
    for group in groups {
        let StandbyReply { interface, group: number, version, changes, virtual_mac, .. } = group;
        let version = if *version == 2 { " (version 2)" } else { "" };
        writeln!(out, "{interface} - Group {number}{version}")?;
        let listens = if group.listen_only { ", this box only listens" } else { "" };
        writeln!(out, "  State is {}{listens}", name(group.state))?;
        writeln!(out, "    {changes} state changes, last state change {}", clock(group.changed_ms_ago))?;
        match group.virtual_address {
            Some(address @ IpAddr::V4(_)) => {
                let how = if group.learned { " (learned)" } else { "" };
                writeln!(out, "  Virtual IP address is {address}{how}")?;
            }
            Some(address @ IpAddr::V6(_)) => {
                let made = if group.autoconfigured { "conf auto EUI64" } else { "conf" };
                writeln!(out, "  Link-Local Virtual IPv6 address is {} ({made})", upper(address))?;
            }
            None => writeln!(out, "  Virtual IP address is unknown")?,
        }
        for address in &group.global {
            writeln!(out, "    Virtual IPv6 address {}", address.to_uppercase())?;
        }
        writeln!(out, "  Active virtual MAC address is {}", dotted(virtual_mac))?;
        if !group.listen_only {
            writeln!(
                out,
                "    Local virtual MAC address is {} (v{}{} default)",
                dotted(virtual_mac),
                group.version,
                if group.virtual_address.is_some_and(|address| address.is_ipv6()) { " IPv6" } else { "" }
            )?;
        }
        writeln!(out, "  Hello time {}, hold time {}", time(group.hello_ms), time(group.hold_ms))?;
        if let Some(ms) = group.next_hello_ms {
            writeln!(out, "    Next hello sent in {}.{:03} secs", ms / 1000, ms % 1000)?;
        }
        if !group.listen_only {
            writeln!(out, "  Preemption {}", preemption(group))?;
        }
        writeln!(out, "  Active router is {}", router(group.active))?;
        writeln!(out, "  Standby router is {}", router(group.standby))?;
        configured(out, group)?;
        let StandbyReply { received, malformed, authentication_failed, conflicting, .. } = group;
        writeln!(
            out,
            "  {received} messages received, {malformed} malformed, {authentication_failed} of other authentication, \
             {conflicting} conflicting"
        )?;
    }
    Ok(())
}

fn preemption(group: &StandbyReply) -> String {
    match (group.preempt, group.preempt_delay_s) {
        (false, _) => "disabled".to_owned(),
        (true, 0) => "enabled".to_owned(),
        (true, delay) => format!("enabled, delay min {delay} secs"),
    }
}

/// Priority, what is tracked, and the name: of a group that this box speaks for.
fn configured(out: &mut impl Write, group: &StandbyReply) -> fmt::Result {
    if let (Some(priority), Some(configured)) = (group.priority, group.configured_priority) {
        writeln!(out, "  Priority {priority} (configured {configured})")?;
    }
    for StandbyTrackReply { interface, decrement, up } in &group.track {
        let state = if *up { "Up" } else { "Down" };
        writeln!(out, "    Track interface {interface} state {state} decrement {decrement}")?;
    }
    match &group.name {
        Some(name) => writeln!(out, "  Group name is \"{name}\" (cfgd)"),
        None => Ok(()),
    }
}

/// Writes a line for each group.
pub fn write_brief(out: &mut impl Write, groups: &[StandbyReply]) -> fmt::Result {
    writeln!(out, "{:22}P indicates configured to preempt.", "")?;
    writeln!(out, "{:22}|", "")?;
    writeln!(
        out,
        "{:<12}{:<5}{:<5}P {:<9}{:<16}{:<16}Virtual IP",
        "Interface", "Grp", "Pri", "State", "Active", "Standby"
    )?;
    for group in groups {
        let StandbyReply { interface, group: number, state, .. } = group;
        let (active, standby) = (short(group.active), short(group.standby));
        let address = group.virtual_address.map_or_else(|| "unknown".to_owned(), upper);
        let priority = group.priority.map_or_else(|| "-".to_owned(), |priority| priority.to_string());
        let preempt = if group.preempt { 'P' } else { ' ' };
        let (state, routers) = (name(*state), format!("{active:<15} {standby:<15} {address}"));
        let interface = format!("{:<12}", format!("{interface} "));
        writeln!(out, "{interface}{number:<5}{priority:<5}{preempt} {state:<9}{routers}")?;
    }
    Ok(())
}

const fn name(state: StandbyState) -> &'static str {
    match state {
        StandbyState::Init => "Init",
        StandbyState::Learn => "Learn",
        StandbyState::Listen => "Listen",
        StandbyState::Speak => "Speak",
        StandbyState::Standby => "Standby",
        StandbyState::Active => "Active",
    }
}

fn router(router: Option<StandbyRouterReply>) -> String {
    match router {
        None => "unknown".to_owned(),
        Some(StandbyRouterReply { local: true, .. }) => "local".to_owned(),
        Some(StandbyRouterReply { address, priority, expires_ms, .. }) => {
            let expires = expires_ms.map(|ms| format!(" (expires in {}.{:03} sec)", ms / 1000, ms % 1000));
            format!("{}, priority {priority}{}", upper(address), expires.unwrap_or_default())
        }
    }
}

fn short(router: Option<StandbyRouterReply>) -> String {
    match router {
        None => "unknown".to_owned(),
        Some(StandbyRouterReply { local: true, .. }) => "local".to_owned(),
        Some(StandbyRouterReply { address, .. }) => upper(address),
    }
}

/// As IOS writes IPv6.
fn upper(address: IpAddr) -> String {
    address.to_string().to_uppercase()
}

/// `3 sec` or `200 msec`.
fn time(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("{} sec", ms / 1000) } else { format!("{ms} msec") }
}

/// `00:30:59`.
fn clock(ms: u64) -> String {
    let seconds = ms / 1000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `0000.0c07.ac01` of `00:00:0c:07:ac:01`.
fn dotted(mac: &str) -> String {
    let digits: Vec<char> = mac.chars().filter(char::is_ascii_hexdigit).collect();
    digits.chunks(4).map(|part| part.iter().collect::<String>()).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn group() -> StandbyReply {
        let router = |host, priority, local| StandbyRouterReply {
            address: IpAddr::from([10, 6, 0, host]),
            priority,
            local,
            expires_ms: (!local).then_some(9_184),
        };
        StandbyReply {
            interface: "eth1".to_owned(),
            group: 1,
            version: 1,
            state: StandbyState::Listen,
            listen_only: true,
            changes: 2,
            changed_ms_ago: 1_859_000,
            virtual_address: Some(IpAddr::from([10, 6, 0, 1])),
            autoconfigured: false,
            learned: false,
            global: Vec::new(),
            virtual_mac: "00:00:0c:07:ac:01".to_owned(),
            priority: None,
            configured_priority: None,
            preempt: false,
            preempt_delay_s: 0,
            name: None,
            track: Vec::new(),
            next_hello_ms: None,
            hello_ms: 3_000,
            hold_ms: 10_000,
            active: Some(router(2, 110, false)),
            standby: Some(router(3, 100, true)),
            received: 7,
            malformed: 1,
            authentication_failed: 2,
            conflicting: 3,
        }
    }

    #[test]
    fn all_about_a_group() {
        let mut text = String::new();
        write(&mut text, &[group()]).expect("a string takes everything");
        expect![[r#"
            eth1 - Group 1
              State is Listen, this box only listens
                2 state changes, last state change 00:30:59
              Virtual IP address is 10.6.0.1
              Active virtual MAC address is 0000.0c07.ac01
              Hello time 3 sec, hold time 10 sec
              Active router is 10.6.0.2, priority 110 (expires in 9.184 sec)
              Standby router is local
              7 messages received, 1 malformed, 2 of other authentication, 3 conflicting
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn an_address_that_was_learned_is_marked() {
        let mut text = String::new();
        let learned = StandbyReply { learned: true, ..spoken() };
        write(&mut text, &[learned]).expect("a string takes everything");
        assert!(text.contains("  Virtual IP address is 10.6.0.1 (learned)\n"), "{text}");
    }

    /// One that this box speaks for.
    fn spoken() -> StandbyReply {
        StandbyReply {
            listen_only: false,
            priority: Some(90),
            configured_priority: Some(100),
            preempt: true,
            preempt_delay_s: 30,
            name: Some("INSIDE".to_owned()),
            track: vec![StandbyTrackReply { interface: "fa3-6".to_owned(), decrement: 10, up: false }],
            next_hello_ms: Some(1_412),
            ..group()
        }
    }

    #[test]
    fn what_is_configured_of_a_group_that_this_box_speaks_for() {
        let mut text = String::new();
        write(&mut text, &[spoken()]).expect("a string takes everything");
        expect![[r#"
            eth1 - Group 1
              State is Listen
                2 state changes, last state change 00:30:59
              Virtual IP address is 10.6.0.1
              Active virtual MAC address is 0000.0c07.ac01
                Local virtual MAC address is 0000.0c07.ac01 (v1 default)
              Hello time 3 sec, hold time 10 sec
                Next hello sent in 1.412 secs
              Preemption enabled, delay min 30 secs
              Active router is 10.6.0.2, priority 110 (expires in 9.184 sec)
              Standby router is local
              Priority 90 (configured 100)
                Track interface fa3-6 state Down decrement 10
              Group name is "INSIDE" (cfgd)
              7 messages received, 1 malformed, 2 of other authentication, 3 conflicting
        "#]]
        .assert_eq(&text);
    }

    fn of_ipv6() -> StandbyReply {
        let address = |host| IpAddr::from([0xfe80, 0, 0, 0, 0, 0x73ff, 0xfea0, host]);
        let active =
            StandbyRouterReply { address: address(2), priority: 110, local: false, expires_ms: None };
        StandbyReply {
            version: 2,
            virtual_address: Some(IpAddr::from([0xfe80, 0, 0, 0, 5, 0x73ff, 0xfea0, 1])),
            autoconfigured: true,
            global: vec!["2001:db8:6::f/64".to_owned()],
            virtual_mac: "00:05:73:a0:00:01".to_owned(),
            active: Some(active),
            ..spoken()
        }
    }

    #[test]
    fn a_group_of_ipv6_is_written_as_ios_writes_it() {
        let mut text = String::new();
        write(&mut text, &[of_ipv6()]).expect("a string takes everything");
        let head: Vec<&str> = text.lines().take(7).collect();
        expect![[r#"
            eth1 - Group 1 (version 2)
              State is Listen
                2 state changes, last state change 00:30:59
              Link-Local Virtual IPv6 address is FE80::5:73FF:FEA0:1 (conf auto EUI64)
                Virtual IPv6 address 2001:DB8:6::F/64
              Active virtual MAC address is 0005.73a0.0001
                Local virtual MAC address is 0005.73a0.0001 (v2 IPv6 default)"#]]
        .assert_eq(&head.join("\n"));
        assert!(text.contains("  Active router is FE80::73FF:FEA0:2, priority 110\n"), "{text}");
        let mut brief = String::new();
        write_brief(&mut brief, &[of_ipv6()]).expect("a string takes everything");
        assert!(brief.ends_with("FE80::73FF:FEA0:2 local           FE80::5:73FF:FEA0:1\n"), "{brief}");
    }

    #[test]
    fn a_line_for_each() {
        let mut text = String::new();
        let unknown = StandbyReply { virtual_address: None, active: None, ..group() };
        write_brief(&mut text, &[spoken(), unknown]).expect("a string takes everything");
        expect![[r#"
                                  P indicates configured to preempt.
                                  |
            Interface   Grp  Pri  P State    Active          Standby         Virtual IP
            eth1        1    90   P Listen   10.6.0.2        local           10.6.0.1
            eth1        1    -      Listen   unknown         local           unknown
        "#]]
        .assert_eq(&text);
    }
}
