//! Statements about probes.

use std::time::Duration;

use super::{entry, number, put, seconds};
use crate::config::command::Id;
use crate::config::grammar::Value;
use crate::config::parse::Statement;
use crate::config::table::default;
use crate::model::{Name, Probe, ProbeKind, Question, Secret};

/// Applies `statement` to the probe `name`; `None` if it lacks a word that it needs.
pub(super) fn apply(probes: &mut Vec<Probe>, name: &Name, statement: &Statement) -> Option<()> {
    let no = statement.negated;
    if no && statement.id == Id::Probe {
        probes.retain(|probe| probe.name != *name);
        return Some(());
    }
    let kind = ProbeKind::ALL.into_iter().find(|kind| statement.has(kind.word())).unwrap_or(ProbeKind::Tcp);
    let probe = entry(probes, |probe| probe.name == *name, || new(name.clone(), kind));
    match statement.id {
        Id::Probe => probe.kind = kind,
        Id::Interval => probe.interval = seconds(statement, default::INTERVAL)?,
        Id::Retries => probe.retries = number(statement, "COUNT", default::RETRIES)?,
        Id::Failed => probe.failed = seconds(statement, default::FAILED)?,
        Id::Receive => probe.receive = seconds(statement, default::RECEIVE)?,
        Id::Open => probe.open = seconds(statement, default::OPEN)?,
        Id::Recover => probe.recover = number(statement, "COUNT", default::RECOVER)?,
        Id::Port => probe.port = if no { None } else { Some(statement.number("PORT")?) },
        Id::ProbeAddress => probe.address = if no { None } else { Some(statement.address("ADDRESS")?) },
        _ => return question(&mut probe.question, statement),
    }
    Some(())
}

fn question(question: &mut Question, statement: &Statement) -> Option<()> {
    let no = statement.negated;
    match statement.id {
        Id::ProbeRequest => {
            question.is_head = !no && statement.has("head");
            question.path = if no { None } else { statement.text("PATH").filter(|path| path != "/") };
        }
        Id::ProbeHeader => {
            put(&mut question.headers, (statement.text("FIELD")?, statement.text("VALUE")?), no);
        }
        Id::ProbeCredentials if no => question.credentials = None,
        Id::ProbeCredentials => {
            let word = statement.arg("PASSWORD").or(statement.arg("HIDDEN")).map(|arg| &arg.value);
            let password = match word {
                Some(Value::Key(password)) => password.clone(),
                _ => Secret::new(""),
            };
            question.credentials = Some((statement.text("USER")?, password));
        }
        Id::ExpectStatus => {
            let first = statement.number("MIN")?;
            put(&mut question.statuses, (first, statement.number("MAX").unwrap_or(first)), no);
        }
        Id::ProbeName => question.domain = if no { None } else { Some(statement.text("DOMAIN")?) },
        Id::ExpectAddress => put(&mut question.addresses, statement.address("ADDRESS")?, no),
        _ => return None,
    }
    Some(())
}

fn new(name: Name, kind: ProbeKind) -> Probe {
    let count = |default: u64| u16::try_from(default).unwrap_or(u16::MAX);
    Probe {
        name,
        kind,
        interval: Duration::from_secs(default::INTERVAL),
        retries: count(default::RETRIES),
        failed: Duration::from_secs(default::FAILED),
        receive: Duration::from_secs(default::RECEIVE),
        open: Duration::from_secs(default::OPEN),
        recover: count(default::RECOVER),
        port: None,
        address: None,
        question: Question::default(),
    }
}
