//! Commands of probes.

use super::{SECONDS, default, unless};
use crate::config::Noun;
use crate::config::command::{
    Command, Id,
    Mode::{Module, Probe},
    Print, Repeat,
};
use crate::config::grammar::Kind::{self, Number};
use crate::config::grammar::Piece::{Either, Optional, Slot, Word};
use crate::model::Question;

pub(super) static APPLIED: &[Command] = &[
    Command::new(
        Id::Probe,
        Module,
        &[
            Word("probe", "Health probe"),
            Slot("NAME", Kind::Named(Noun::Probe), "Name"),
            Either(&[
                &[Word("icmp", "Echo request")],
                &[Word("tcp", "Connection set-up")],
                &[Word("udp", "A datagram that nobody refuses")],
                &[Word("http", "An HTTP request")],
                &[Word("dns", "A query to a name server")],
                &[Word("ftp", "The greeting of an FTP server")],
                &[Word("telnet", "Whether a telnet server begins to speak")],
                &[Word("smtp", "The greeting of an SMTP server")],
            ]),
        ],
        "Enters the configuration of a probe. A datagram of udp is empty: the check fails if the server's host says that nobody is \
         there, or is not there itself; the latter takes ARP three seconds to find, so with a `receive` below 4 use an icmp probe beside it. A connection is ended by a reset.",
    )
    .removes_section()
    .repeats(Repeat::Conflicts)
    .opens(Probe)
    .prints(Print::Probe(|probe| vec![format!("probe {} {}", probe.name, probe.kind.word())])),
    Command::new(
        Id::Interval,
        Probe,
        &[
            Word("interval", "Time between two checks"),
            Slot("SECONDS", INTERVAL, "From the end of one to the next"),
        ],
        "Sets the time from the end of a check to the beginning of the next.",
    )
    .restores(Some(default::INTERVAL))
    .prints(Print::Probe(|probe| unless(default::INTERVAL, "interval", probe.interval.as_secs()))),
    Command::new(
        Id::Retries,
        Probe,
        &[Word("retries", "Failures that count"), Slot("COUNT", Number(0, 65535), "In a row")],
        "Sets how many checks must fail in a row before the real is out.",
    )
    .restores(Some(default::RETRIES))
    .prints(Print::Probe(|probe| unless(default::RETRIES, "retries", u64::from(probe.retries)))),
    Command::new(
        Id::Failed,
        Probe,
        &[Word("failed", "Time between two checks of a failed real"), Slot("SECONDS", INTERVAL, "Seconds")],
        "Sets the time between two checks while the real is failed.",
    )
    .restores(Some(default::FAILED))
    .prints(Print::Probe(|probe| unless(default::FAILED, "failed", probe.failed.as_secs()))),
    Command::new(
        Id::Receive,
        Probe,
        &[Word("receive", "Time allowed for an answer"), Slot("SECONDS", SECONDS, "Seconds")],
        "Sets how long an answer is waited for.",
    )
    .restores(Some(default::RECEIVE))
    .prints(Print::Probe(|probe| unless(default::RECEIVE, "receive", probe.receive.as_secs()))),
    Command::new(
        Id::Open,
        Probe,
        &[Word("open", "Time allowed for a TCP connection"), Slot("SECONDS", SECONDS, "Seconds")],
        "Sets how long a TCP connection is waited for.",
    )
    .restores(Some(default::OPEN))
    .prints(Print::Probe(|probe| unless(default::OPEN, "open", probe.open.as_secs()))),
    Command::new(
        Id::Recover,
        Probe,
        &[Word("recover", "Successes that count"), Slot("COUNT", SECONDS, "In a row")],
        "Sets how many checks must succeed in a row before a failed real is back.",
    )
    .restores(Some(default::RECOVER))
    .prints(Print::Probe(|probe| unless(default::RECOVER, "recover", u64::from(probe.recover)))),
    Command::new(
        Id::Port,
        Probe,
        &[
            Word("port", "Port that is checked"),
            Slot("PORT", SECONDS, "Instead of the real's or the virtual server's"),
        ],
        "Sets the port, which else is the real's, the virtual server's, or that of the probe's type.",
    )
    .restores(None)
    .prints(Print::Probe(|probe| probe.port.iter().map(|port| format!("port {port}")).collect())),
    Command::new(
        Id::ProbeAddress,
        Probe,
        &[
            Word("address", "What is checked in the real's place"),
            Slot("ADDRESS", Kind::AnyHost, "Its address"),
            Word("routed", "Reached as the routes say"),
        ],
        "Checks this host in the place of the real, whose health it decides.",
    )
    .restores(None)
    .prints(Print::Probe(|probe| probe.address.iter().map(|address| format!("address {address} routed")).collect())),
    Command::new(
        Id::ProbeRequest,
        Probe,
        &[
            Word("request", "What is asked of an HTTP server"),
            Optional(&[
                Word("method", "How"),
                Either(&[&[Word("get", "Head and body")], &[Word("head", "The head alone")]]),
            ]),
            Optional(&[Word("url", "For what"), Slot("PATH", Kind::Path, "Begins with /; without, / itself")]),
        ],
        "Sets the request of an HTTP probe; by default `GET /`.",
    )
    .restores(None)
    .prints(Print::Probe(|probe| request(&probe.question))),
    Command::new(
        Id::ProbeHeader,
        Probe,
        &[
            Word("header", "A line of the request's head"),
            Slot("FIELD", Kind::Field, "Name of the field"),
            Slot("VALUE", Kind::Text255, "Its value, without blanks"),
        ],
        "Adds a field to the request of an HTTP probe. Without one named Host the server's address stands there.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Probe(|probe| {
        probe.question.headers.iter().map(|(field, value)| format!("header {field} {value}")).collect()
    })),
    Command::new(
        Id::ProbeCredentials,
        Probe,
        &[
            Word("credentials", "Who asks"),
            Slot("USER", Kind::Text255, "Name, without blanks and colons"),
            Optional(&[Either(&[
                &[
                    Word("7", "Written as IOS hides passwords"),
                    Slot("HIDDEN", Kind::ObscuredKey, "As show running-config prints it"),
                ],
                &[Slot("PASSWORD", Kind::Key, "As it is, 1-64 characters; without, none")],
            ])]),
        ],
        "Has an HTTP probe say who asks, by the Basic scheme: readable by whoever sees its packets. The password is printed hidden, which \
         keeps it from eyes that pass over it, and left out of logs and `show tech-support`.",
    )
    .restores(None)
    .prints(Print::Probe(|probe| {
        let line = |(user, password): &(String, crate::model::Secret)| match password.text() {
            "" => format!("credentials {user}"),
            _ => format!("credentials {user} 7 {}", password.obscured()),
        };
        probe.question.credentials.iter().map(line).collect()
    })),
    Command::new(
        Id::ExpectStatus,
        Probe,
        &[
            Word("expect", "Which answers are good"),
            Word("status", "By the number that the server says"),
            Slot("MIN", STATUS, "Number"),
            Optional(&[Slot("MAX", STATUS, "Last of several")]),
        ],
        "Names numbers with which an HTTP, FTP or SMTP server is well; several such lines add up. Without any each HTTP answer is \
         good, and of FTP and SMTP the greeting 220.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Probe(|probe| probe.question.statuses.iter().map(|range| status(*range)).collect())),
    Command::new(
        Id::ProbeName,
        Probe,
        &[Word("name", "What a name server is asked for"), Slot("DOMAIN", Kind::Domain, "Name of a host")],
        "Sets the name that a DNS probe asks for: the answer has an address of it. Without, any answer is good.",
    )
    .restores(None)
    .prints(Print::Probe(|probe| probe.question.domain.iter().map(|domain| format!("name {domain}")).collect())),
    Command::new(
        Id::ExpectAddress,
        Probe,
        &[
            Word("expect", "Which answers are good"),
            Word("address", "By the addresses that are answered"),
            Slot("ADDRESS", Kind::AnyHost, "One of these is among them"),
        ],
        "Names an address that the name of a DNS probe may have; several such lines add up.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Probe(|probe| {
        probe.question.addresses.iter().map(|address| format!("expect address {address}")).collect()
    })),
];

const INTERVAL: Kind = Number(2, 65535);
const STATUS: Kind = Number(100, 999);

fn request(question: &Question) -> Vec<String> {
    let Question { is_head, path, .. } = question;
    let method = if *is_head { " method head" } else { "" };
    let url = path.as_ref().map(|path| format!(" url {path}")).unwrap_or_default();
    if *is_head || path.is_some() { vec![format!("request{method}{url}")] } else { Vec::new() }
}

fn status((first, last): (u16, u16)) -> String {
    if first == last { format!("expect status {first}") } else { format!("expect status {first} {last}") }
}
