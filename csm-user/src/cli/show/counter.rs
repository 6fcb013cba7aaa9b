//! `show module csm N stats`.

use std::fmt::{self, Write};

use csm_common::counter::Reason;

use super::time::measured;
use super::{figure, rule};
use crate::api::reply::{ConnectionCounters, CountersReply, PortCounters, ReasonCount, Verdict};

/// Writes the CSM's listing, and below it each reason that was counted.
///
/// The lines about L7, redirects and FTP are constants: there is no such function, so none of it ever happened. Checksum
/// failures and frames by kind are not counted, and therefore not printed; what is not measured is a dash.
pub fn write(out: &mut impl Write, counters: &CountersReply) -> fmt::Result {
    let ConnectionCounters { created, destroyed, current, timed_out, failed } = counters.connections;
    for (what, value) in [
        ("Created:", created),
        ("Destroyed:", destroyed),
        ("Current:", current),
        ("Timed-Out:", timed_out),
        ("Failed:", failed),
    ] {
        writeln!(out, "Connections {what:<14} {}", figure(value))?;
    }
    let ConnectionCounters { created, current, failed, .. } = counters.server_initiated;
    let (created, current, failed) = (figure(created), figure(current), figure(failed));
    writeln!(out, "Server initiated Connections:")?;
    writeln!(out, "      Created:{created}, Current:{current}, Failed:{failed}")?;
    decisions(out, counters)?;
    match counters.walked_ms_ago {
        Some(ms) => writeln!(out, "Tables walked:             {} ago", measured(ms.saturating_mul(1000)))?,
        None => writeln!(out, "Tables walked:             not yet")?,
    }
    reasons(out, &counters.reasons)?;
    ports(out, &counters.ports)
}

/// What each port has received, and what became of it.
fn ports(out: &mut impl Write, ports: &[PortCounters]) -> fmt::Result {
    if ports.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nframes by port and reason verdict  packets              bytes")?;
    rule(out, 68)?;
    for PortCounters { interface, packets, bytes, reasons } in ports {
        let name = interface.as_deref().unwrap_or("<others>");
        writeln!(out, "{name:<25}          {packets:<20} {bytes}")?;
        for count in reasons {
            write!(out, "  ")?;
            line(out, count, 23)?;
        }
    }
    Ok(())
}

fn line(out: &mut impl Write, count: &ReasonCount, width: usize) -> fmt::Result {
    let ReasonCount { reason, verdict, packets, bytes } = count;
    let verdict = match verdict {
        Verdict::Forward => "forward",
        Verdict::Pass => "pass",
        Verdict::Drop => "drop",
        Verdict::Hold => "hold",
    };
    writeln!(out, "{reason:<width$} {verdict:<8} {packets:<20} {bytes}")
}

fn decisions(out: &mut impl Write, counters: &CountersReply) -> fmt::Result {
    let no_policy = counters.packets(Reason::DropNoPolicy);
    let no_match = counters.packets(Reason::DropNoVserver) + counters.packets(Reason::DropNoMatch);
    let no_real = counters.packets(Reason::DropNoReal);
    let denied = counters.packets(Reason::DropDirect);
    let full = [Reason::DropTableFull, Reason::DropVserverFull, Reason::DropOwnerFull];
    let full: u64 = full.map(|reason| counters.packets(reason)).iter().sum();
    let rejected = no_policy + no_match + no_real + denied + full;
    writeln!(out, "L4 Load-Balanced Decisions:{}", counters.packets(Reason::ForwardedNew))?;
    writeln!(out, "L4 Rejected Connections:   {rejected}")?;
    writeln!(out, "L7 Load-Balanced Decisions:0")?;
    writeln!(out, "L7 Rejected Connections:")?;
    writeln!(out, "      Total:0, Parser:0,")?;
    writeln!(out, "      Reached max parse len:0, Cookie out of mem:0,")?;
    writeln!(out, "      Cfg version mismatch:0, Bad SSL2 format:0")?;
    writeln!(out, "L4/L7 Rejected Connections:")?;
    writeln!(out, "      No policy:{no_policy}, No policy match {no_match},")?;
    writeln!(out, "      No real:{no_real}, ACL denied {denied}, Server initiated:-")?;
    writeln!(out, "Redirect Connections:0,  Redirect Dropped:0")?;
    writeln!(out, "FTP Connections:           -")
}

fn reasons(out: &mut impl Write, reasons: &[ReasonCount]) -> fmt::Result {
    writeln!(out, "\nframes by reason          verdict  packets              bytes")?;
    rule(out, 68)?;
    reasons.iter().filter(|count| count.packets != 0).try_for_each(|count| line(out, count, 25))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn listing() {
        let count = |reason: Reason, verdict, packets| ReasonCount {
            reason: reason.name().to_owned(),
            verdict,
            packets,
            bytes: packets * 60,
        };
        let counters = CountersReply {
            connections: ConnectionCounters {
                created: Some(180),
                destroyed: Some(100),
                current: Some(80),
                timed_out: Some(4),
                failed: Some(2),
            },
            server_initiated: ConnectionCounters {
                current: Some(3),
                failed: Some(1),
                ..ConnectionCounters::default()
            },
            walked_ms_ago: Some(740),
            reasons: vec![
                count(Reason::ForwardedFlow, Verdict::Forward, 123_456_789),
                count(Reason::ForwardedNew, Verdict::Forward, 180),
                count(Reason::PassHost, Verdict::Pass, 17),
                count(Reason::DropNoVserver, Verdict::Drop, 5),
                count(Reason::DropNoPolicy, Verdict::Drop, 3),
                count(Reason::DropNoReal, Verdict::Drop, 2),
                count(Reason::DropTtl, Verdict::Drop, 0),
            ],
            ports: vec![PortCounters {
                interface: Some("eth1".to_owned()),
                packets: 197,
                bytes: 11_820,
                reasons: vec![
                    count(Reason::ForwardedNew, Verdict::Forward, 180),
                    count(Reason::PassHost, Verdict::Pass, 17),
                ],
            }],
        };
        let mut text = String::new();
        write(&mut text, &counters).expect("a string takes everything");
        expect![[r#"
            Connections Created:       180
            Connections Destroyed:     100
            Connections Current:       80
            Connections Timed-Out:     4
            Connections Failed:        2
            Server initiated Connections:
                  Created:-, Current:3, Failed:1
            L4 Load-Balanced Decisions:180
            L4 Rejected Connections:   10
            L7 Load-Balanced Decisions:0
            L7 Rejected Connections:
                  Total:0, Parser:0,
                  Reached max parse len:0, Cookie out of mem:0,
                  Cfg version mismatch:0, Bad SSL2 format:0
            L4/L7 Rejected Connections:
                  No policy:3, No policy match 5,
                  No real:2, ACL denied 0, Server initiated:-
            Redirect Connections:0,  Redirect Dropped:0
            FTP Connections:           -
            Tables walked:             740.0 msec ago

            frames by reason          verdict  packets              bytes
            --------------------------------------------------------------------
            forwarded_flow            forward  123456789            7407407340
            forwarded_new             forward  180                  10800
            pass_host                 pass     17                   1020
            drop_no_vserver           drop     5                    300
            drop_no_cfg_policy        drop     3                    180
            drop_no_active_server     drop     2                    120

            frames by port and reason verdict  packets              bytes
            --------------------------------------------------------------------
            eth1                               197                  11820
              forwarded_new           forward  180                  10800
              pass_host               pass     17                   1020
        "#]]
        .assert_eq(&text);
    }
}
