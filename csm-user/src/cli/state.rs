//! The startup configuration and its two copies: `write memory`, `copy …`, `show running-directory`, `reload`.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::exec::Output;
use crate::api::client::{Client, ClientError};
use crate::api::path;
use crate::api::reply::{
    CertifyRequest, CopyState, DirectoryReply, Done, ReloadRequest, RunningConfigReply, SavedReply,
    StateDirectory, SyncReply,
};

/// Longest wait until a configuration is in force on the peer.
const SYNC_DEADLINE: Duration = Duration::from_secs(90);

/// What is to be done with the copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `write memory`.
    Write,
    /// `copy working certified`.
    Certify {
        /// `flash-synchro`.
        flash_synchro: bool,
    },
    /// `show running-directory`.
    Directory,
    /// `show startup-config`.
    Startup,
    /// `hw-module csm N standby config-sync`.
    Sync,
    /// `reload`.
    Reload {
        /// From which.
        directory: Option<StateDirectory>,
    },
}

/// Asks the daemon to do it.
pub async fn run(client: &Client, action: Action, json: bool) -> Output {
    let done = match action {
        Action::Write => client.post(path::WRITE_MEMORY).await.map(|reply| saved(&reply, json)),
        Action::Certify { flash_synchro } => {
            let request = CertifyRequest { flash_synchro };
            client.ask::<SavedReply>(path::CERTIFY, &request).await.map(|reply| saved(&reply, json))
        }
        Action::Directory => client
            .get(path::DIRECTORY)
            .await
            .map(|reply| if json { pretty(&reply) } else { directory(&reply).unwrap_or_default() }),
        Action::Startup => client
            .get(path::STARTUP_CONFIG)
            .await
            .map(|reply: RunningConfigReply| if json { pretty(&reply) } else { reply.text }),
        Action::Sync => client.patient(SYNC_DEADLINE).post(path::SYNC).await.map(|reply: SyncReply| {
            let reloads = if reply.peer_reloads { "The peer starts anew with it.\n" } else { "" };
            match json {
                true => pretty(&reply),
                false => reply.messages.join("\n") + "\n" + reloads,
            }
        }),
        Action::Reload { directory } => {
            client.ask::<Done>(path::RELOAD, &ReloadRequest { directory }).await.map(|_| String::new())
        }
    };
    answered(done)
}

fn answered(done: Result<String, ClientError>) -> Output {
    match done {
        Ok(stdout) => Output { stdout, ..Output::default() },
        Err(error) => super::configure::rejected(error),
    }
}

/// As IOS says it; and what else there is to do.
pub(super) fn saved(reply: &SavedReply, json: bool) -> String {
    match reply {
        _ if json => pretty(reply),
        SavedReply { certified: true, .. } => "[OK]\n".to_owned(),
        SavedReply { certified: false, .. } => {
            "[OK] saved in `working`; once it has proven itself: `copy working \
                                                 certified`, which starts are made from\n"
                .to_owned()
        }
    }
}

/// In the shape of the stack's `show running-directory`.
fn directory(reply: &DirectoryReply) -> Result<String, fmt::Error> {
    let mut out = String::new();
    let DirectoryReply {
        module,
        primary,
        pair,
        booted,
        working,
        certified,
        certify_needed,
        saved,
        peer_in_sync,
    } = *reply;
    writeln!(out, "Running CMM              : {},", if primary { "PRIMARY" } else { "SECONDARY" })?;
    writeln!(out, "CMM Mode                 : {},", if pair { "DUAL CMMs" } else { "MONO CMM" })?;
    writeln!(out, "Current CMM Slot         : {module},")?;
    let running = match booted {
        Some(StateDirectory::Working) => "WORKING",
        Some(StateDirectory::Certified) => "CERTIFIED",
        None => "INITIAL FILE",
    };
    writeln!(out, "Running configuration    : {running},")?;
    let status = match (working, certified, certify_needed) {
        (CopyState::Absent, CopyState::Absent, _) => "NOTHING SAVED",
        (CopyState::Damaged, ..) => "WORKING DAMAGED",
        (_, CopyState::Damaged, _) => "CERTIFIED DAMAGED",
        (.., true) => "CERTIFY NEEDED",
        (.., false) => "CERTIFIED",
    };
    writeln!(out, "Certify/Restore Status   : {status},")?;
    writeln!(out, "Running Changes          : {},", if saved { "SAVED" } else { "NOT SAVED" })?;
    let peer = match peer_in_sync {
        Some(true) => "SYNCHRONIZED",
        Some(false) => "NOT SYNCHRONIZED",
        None => "NOT AVAILABLE",
    };
    writeln!(out, "Running Configuration    : {peer},")?;
    writeln!(out, "Stacks Reload on Takeover: PRIMARY ONLY")?;
    Ok(out)
}

/// Plain values are always JSON.
fn pretty(reply: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(reply).map_or_else(|error| format!("{error}\n"), |text| text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_directories_are_shown_in_the_stacks_shape() {
        let reply = DirectoryReply {
            module: 5,
            primary: true,
            pair: true,
            booted: Some(StateDirectory::Working),
            working: CopyState::Whole,
            certified: CopyState::Whole,
            certify_needed: true,
            saved: true,
            peer_in_sync: None,
        };
        expect![[r#"
            Running CMM              : PRIMARY,
            CMM Mode                 : DUAL CMMs,
            Current CMM Slot         : 5,
            Running configuration    : WORKING,
            Certify/Restore Status   : CERTIFY NEEDED,
            Running Changes          : SAVED,
            Running Configuration    : NOT AVAILABLE,
            Stacks Reload on Takeover: PRIMARY ONLY
        "#]]
        .assert_eq(&directory(&reply).expect("text"));
    }
}
