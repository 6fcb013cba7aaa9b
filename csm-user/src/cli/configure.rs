//! `configure …`: lines or a file to the daemon, which makes all of the change or none. Shell: reads files and standard
//! input.

use std::io::Read as _;
use std::time::Duration;

use super::exec::{BAD_INPUT, Output};
use crate::api::client::{Client, ClientError};
use crate::api::path;
use crate::api::reply::{ChangeMode, ChangeReply, ChangeRequest, Done, RunningConfigReply};
use crate::config::{self, HostFacts, difference};

/// Longest wait until a change is in force: thousands of virtual servers take seconds on a busy host.
const CHANGE_DEADLINE: Duration = Duration::from_secs(60);

/// Where the lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `configure replace FILE`.
    Replace(String),
    /// `configure terminal`: standard input.
    Terminal,
}

/// Changes the configuration in force; `revert_s`: taken back after so many seconds unless confirmed.
pub async fn change(client: &Client, change: &Change, revert_s: Option<u32>, json: bool) -> Output {
    let (mode, name) = match change {
        Change::Replace(file) => (ChangeMode::Replace, file.clone()),
        Change::Terminal => (ChangeMode::Edit, "terminal".to_owned()),
    };
    let text = match change {
        Change::Replace(file) => std::fs::read(file),
        Change::Terminal => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        }
    };
    let text = match text {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return unreadable(&name, &error),
    };
    lines(client, ChangeRequest { mode, name, text, revert_s }, json).await
}

/// Sends `request` and says what came of it.
pub async fn lines(client: &Client, request: ChangeRequest, json: bool) -> Output {
    match client.patient(CHANGE_DEADLINE).configure(&request).await {
        Ok(reply) if json => Output { stdout: pretty(&reply), ..Output::default() },
        Ok(ChangeReply { findings, revert_in_s, .. }) => {
            let revert = revert_in_s.filter(|_| request.revert_s.is_some()).map_or_else(String::new, |seconds| {
                format!("This change is taken back in {seconds} s unless `configure confirm` is given before.\n")
            });
            Output { stdout: revert, stderr: findings, ..Output::default() }
        }
        Err(error) => rejected(error),
    }
}

/// `configure confirm`.
pub async fn confirm(client: &Client) -> Output {
    match client.post::<Done>(path::CONFIRM).await {
        Ok(Done {}) => Output::default(),
        Err(error) => Output::failure(&error),
    }
}

/// `copy FILE startup-config`: checked as any configuration, saved, not put in force.
pub async fn set_startup(client: &Client, file: &str, json: bool) -> Output {
    let text = match std::fs::read(file) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return unreadable(file, &error),
    };
    let request = ChangeRequest { mode: ChangeMode::Replace, name: file.to_owned(), text, revert_s: None };
    match client.ask(path::STARTUP_CONFIG, &request).await {
        Ok(reply) => Output { stdout: super::state::saved(&reply, json), ..Output::default() },
        Err(error) => rejected(error),
    }
}

/// What the daemon, or the peer, found wrong with a configuration, or why it did not do it.
pub(super) fn rejected(error: ClientError) -> Output {
    match error {
        ClientError::Refused(reply) if reply.report.is_some() => Output {
            stderr: format!("{}% {}: nothing was changed\n", reply.report.unwrap_or_default(), reply.error),
            status: BAD_INPUT,
            ..Output::default()
        },
        error => Output::failure(&error),
    }
}

/// `show running-config diff FILE`, or `diff startup-config` without a file: `-` stands there only, `+` in the running
/// configuration only.
pub async fn difference(client: &Client, file: Option<&str>, json: bool) -> Output {
    let (file, text) = match file {
        Some(file) => match std::fs::read(file) {
            Ok(bytes) => (file, String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => return unreadable(file, &error),
        },
        None => match client.get::<RunningConfigReply>(path::STARTUP_CONFIG).await {
            Ok(reply) => ("startup-config", reply.text),
            Err(error) => return Output::failure(&error),
        },
    };
    // As the daemon would print it, so that only what is meant differently differs.
    let outcome = config::check(file, &text, &HostFacts::default());
    let Some(config) = outcome.config else {
        let stderr = config::render(file, &text, &outcome.diagnostics);
        return Output { stderr, status: BAD_INPUT, ..Output::default() };
    };
    match client.get::<RunningConfigReply>(path::RUNNING_CONFIG).await {
        Ok(RunningConfigReply { text }) => {
            let found = difference::differences(&config::print(&config), &text);
            let stdout = if json {
                let rows: Vec<_> = found.iter().map(ToString::to_string).collect();
                pretty(&rows)
            } else {
                difference::render(&found)
            };
            Output { stdout, ..Output::default() }
        }
        Err(error) => Output::failure(&error),
    }
}

/// A file as it is.
pub(super) fn octets(file: &str) -> Result<Vec<u8>, Output> {
    std::fs::read(file).map_err(|error| unreadable(file, &error))
}

fn unreadable(name: &str, error: &std::io::Error) -> Output {
    Output { stderr: format!("% cannot read {name}: {error}\n"), status: BAD_INPUT, ..Output::default() }
}

/// Plain values are always JSON.
fn pretty(reply: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(reply).map_or_else(|error| format!("{error}\n"), |text| text + "\n")
}
