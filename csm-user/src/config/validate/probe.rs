//! Probes: what their type has no use for, and who names one that is not there.

use super::Checker;
use super::address::is_link_local;
use crate::config::command::Id;
use crate::config::grammar::Value;
use crate::config::parse::Section;
use crate::model::{Name, Probe, ProbeKind, Serverfarm};

pub(super) fn check(checker: &mut Checker<'_>) {
    for probe in &checker.config.probes {
        let section = Section::Probe(probe.name.clone());
        means_something(checker, probe, &section);
        for (first, last) in &probe.question.statuses {
            if first > last {
                let place = checker.tree.place_of(
                    &section,
                    Id::ExpectStatus,
                    "MAX",
                    &Value::Number(u64::from(*last)),
                );
                checker.error(
                    place,
                    format!("no status is from {first} to {last}"),
                    "write the lesser number first",
                );
            }
        }
        credentials(checker, probe, &section);
        if let Some(address) = probe.address.filter(|address| is_link_local(*address)) {
            let place = checker.tree.place(&section, Id::ProbeAddress, "ADDRESS");
            let message = format!(
                "{address} is link-local: no route says on which VLAN it is, so it cannot be checked"
            );
            checker.error(place, message, "use a global address of that host");
        }
        let asks = probe.kind == ProbeKind::Dns && !probe.question.addresses.is_empty();
        if asks && probe.question.domain.is_none() {
            let place = checker.tree.place(&section, Id::ExpectAddress, "ADDRESS");
            checker.error(place, "whose address is not said", "add `name DOMAIN`");
        }
    }
}

/// Who asks is said once, and can be told from the password.
fn credentials(checker: &mut Checker<'_>, probe: &Probe, section: &Section) {
    let Some((user, _)) = &probe.question.credentials else { return };
    if user.contains(':') {
        let place = checker.tree.place(section, Id::ProbeCredentials, "USER");
        checker.error(
            place,
            "the name of a user has no colon: the password would begin behind it",
            "use another user",
        );
    }
    if probe.question.headers.iter().any(|(field, _)| field.eq_ignore_ascii_case("authorization")) {
        let place = checker.tree.place(section, Id::ProbeCredentials, "credentials");
        checker.error(place, "a `header` says who asks, too", "keep one of the lines");
    }
}

/// A line that nothing is done with is a misunderstanding.
fn means_something(checker: &mut Checker<'_>, probe: &Probe, section: &Section) {
    let kind = probe.kind;
    let remedy = match kind {
        ProbeKind::Icmp => "remove the line, or make it a tcp probe",
        _ => "remove the line, or make it a probe of another type",
    };
    for (id, word, means) in [
        (Id::Port, "port", kind.port().is_some()),
        (Id::Open, "open", kind.connects()),
        (Id::ProbeRequest, "request", kind == ProbeKind::Http),
        (Id::ProbeHeader, "header", kind == ProbeKind::Http),
        (Id::ProbeCredentials, "credentials", kind == ProbeKind::Http),
        (Id::ExpectStatus, "expect status", kind.has_status()),
        (Id::ProbeName, "name", kind == ProbeKind::Dns),
        (Id::ExpectAddress, "expect address", kind == ProbeKind::Dns),
    ] {
        if let Some(statement) = checker.tree.all(section, id).next_back().filter(|_| !means) {
            let article = match kind {
                ProbeKind::Icmp | ProbeKind::Http | ProbeKind::Ftp | ProbeKind::Smtp => "an",
                _ => "a",
            };
            let message = format!("`{word}` has no meaning for {article} {} probe", kind.word());
            checker.error(statement.span, message, remedy);
        }
    }
}

/// The probes that `farm`, configured in `section`, and its reals name are there.
pub(super) fn of_farm(checker: &mut Checker<'_>, farm: &Serverfarm, section: &Section) {
    for name in &farm.probes {
        named(checker, name, section, Id::FarmProbe);
    }
    for real in farm.reals.iter().filter(|real| !real.probes.is_empty()) {
        let section = Section::of_real(farm, real);
        for name in &real.probes {
            named(checker, name, &section, Id::RealProbe);
        }
    }
}

fn named(checker: &mut Checker<'_>, name: &Name, section: &Section, id: Id) {
    if checker.config.probes.iter().any(|probe| probe.name == *name) {
        return;
    }
    let place = checker.tree.place_of(section, id, "NAME", &Value::Name(name.clone()));
    let remedy = format!("add `probe {name} tcp` or `probe {name} icmp`");
    checker.error(place, format!("there is no probe {name}"), remedy);
}
