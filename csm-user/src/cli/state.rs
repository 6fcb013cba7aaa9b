//! The startup configuration and its two copies: `write memory`, `copy …`, `show running-directory`, `reload`.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::exec::Output;
use crate::api::client::{Client, ClientError};
use crate::api::path;
use crate::api::reply::{
    CertifyRequest, CopyReply, CopyState, DirectoryReply, Done, ImageReply, ReloadRequest,
    RunningConfigReply, SavedReply, StateDirectory, SyncReply,
};

/// Longest wait until a configuration is in force on the peer.
const SYNC_DEADLINE: Duration = Duration::from_secs(90);

/// Longest wait until an image has reached the peer.
const IMAGE_DEADLINE: Duration = Duration::from_secs(600);
/// Longest wait until a start has been prepared.
const RELOAD_DEADLINE: Duration = Duration::from_secs(60);

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
    /// `delete working image`.
    DropImage,
    /// `reload`.
    Reload(ReloadRequest),
    /// `reload cancel`.
    CancelReload,
}

/// Asks the daemon to do it.
pub async fn run(client: &Client, action: Action, json: bool) -> Output {
    let done = match action {
        Action::Write => client.post(path::WRITE_MEMORY).await.map(|reply| saved(&reply, json)),
        Action::Certify { flash_synchro } => {
            let request = CertifyRequest { flash_synchro };
            let client = if flash_synchro { client.patient(IMAGE_DEADLINE) } else { client.clone() };
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
        Action::DropImage => client.delete(path::IMAGE).await.map(|reply: SavedReply| saved(&reply, json)),
        Action::Reload(request) => {
            // A new image says first whether it takes the configuration.
            let client = client.patient(RELOAD_DEADLINE);
            client.ask::<Done>(path::RELOAD, &request).await.map(|_| String::new())
        }
        Action::CancelReload => client.post::<Done>(path::RELOAD_CANCEL).await.map(|_| String::new()),
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
        ..
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
    let same = |same: Option<bool>| match same {
        Some(true) => "SYNCHRONIZED",
        Some(false) => "NOT SYNCHRONIZED",
        None => "NOT AVAILABLE",
    };
    let flash = reply.differing.as_ref().map(Vec::is_empty);
    writeln!(out, "Flash Between CMMs       : {},", same(flash))?;
    writeln!(out, "Running Configuration    : {},", same(peer_in_sync))?;
    writeln!(out, "Stacks Reload on Takeover: PRIMARY ONLY")?;
    copies(&mut out, reply)?;
    for differs in reply.differing.iter().flatten() {
        writeln!(out, "not the same on both boxes: {differs}")?;
    }
    if let Some(seconds) = reply.reload_in_s {
        writeln!(out, "reload in {seconds} s; `reload cancel` calls it off")?;
    }
    if let Some(seconds) = reply.rollback_in_s {
        writeln!(
            out,
            "back to `certified` in {seconds} s, unless `copy working certified` or `reload cancel` is given"
        )?;
    }
    Ok(out)
}

/// What stands in the directories of both boxes, and what runs.
fn copies(out: &mut String, reply: &DirectoryReply) -> fmt::Result {
    writeln!(out)?;
    writeln!(out, "{:<10}{:<11}{:<18}image", "box", "directory", "configuration")?;
    writeln!(out, "{:-<72}", "")?;
    let mut rows =
        vec![("this", "working", &reply.working_copy), ("this", "certified", &reply.certified_copy)];
    if let Some(peer) = &reply.peer {
        rows.push(("peer", "working", &peer.working_copy));
        rows.push(("peer", "certified", &peer.certified_copy));
    }
    for (of, directory, CopyReply { shared_checksum, image }) in rows {
        let shared = shared_checksum.as_deref().unwrap_or("-");
        write!(out, "{of:<10}{directory:<11}{shared:<18}")?;
        match (image, shared_checksum) {
            (Some(ImageReply { checksum, version, .. }), _) => {
                writeln!(out, "{version}, {}", checksum.get(..16).unwrap_or(checksum))?;
            }
            (None, Some(_)) => writeln!(out, "as installed")?,
            (None, None) => writeln!(out, "-")?,
        }
    }
    let peer =
        reply.peer.as_ref().map_or_else(String::new, |peer| format!("; on the peer: {}", peer.running));
    writeln!(out, "running: {}{peer}", reply.running)
}

/// `copy FILE working image`.
pub(super) async fn set_image(client: &Client, file: &str, json: bool) -> Output {
    let octets = match super::configure::octets(file) {
        Ok(octets) => octets,
        Err(refused) => return refused,
    };
    let done = client.patient(RELOAD_DEADLINE).send(path::IMAGE, octets).await;
    answered(done.map(|reply: ImageReply| match json {
        true => pretty(&reply),
        false => format!(
            "[OK] {}, checksum {}; `reload working` tries it\n",
            reply.version,
            reply.checksum.get(..16).unwrap_or(&reply.checksum)
        ),
    }))
}

/// Plain values are always JSON.
fn pretty(reply: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(reply).map_or_else(|error| format!("{error}\n"), |text| text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reply::PeerDirectoryReply;
    use expect_test::expect;

    #[test]
    fn the_directories_are_shown_in_the_stacks_shape() {
        let image = |first: &str| ImageReply {
            checksum: first.repeat(32),
            octets: 7,
            version: "csmd 0.2.0 layout 1".to_owned(),
        };
        let copy = |checksum: &str, image| CopyReply { shared_checksum: Some(checksum.to_owned()), image };
        let mut reply = DirectoryReply {
            module: 5,
            primary: true,
            pair: true,
            booted: Some(StateDirectory::Working),
            working: CopyState::Whole,
            certified: CopyState::Whole,
            certify_needed: true,
            saved: true,
            peer_in_sync: None,
            running: "csmd 0.2.0 layout 1".to_owned(),
            working_copy: copy("7a1e3f00c0ffee42", Some(image("0a"))),
            certified_copy: copy("7a1e3f00c0ffee42", None),
            peer: None,
            differing: None,
            reload_in_s: None,
            rollback_in_s: Some(290),
        };
        expect![[r#"
            Running CMM              : PRIMARY,
            CMM Mode                 : DUAL CMMs,
            Current CMM Slot         : 5,
            Running configuration    : WORKING,
            Certify/Restore Status   : CERTIFY NEEDED,
            Running Changes          : SAVED,
            Flash Between CMMs       : NOT AVAILABLE,
            Running Configuration    : NOT AVAILABLE,
            Stacks Reload on Takeover: PRIMARY ONLY

            box       directory  configuration     image
            ------------------------------------------------------------------------
            this      working    7a1e3f00c0ffee42  csmd 0.2.0 layout 1, 0a0a0a0a0a0a0a0a
            this      certified  7a1e3f00c0ffee42  as installed
            running: csmd 0.2.0 layout 1
            back to `certified` in 290 s, unless `copy working certified` or `reload cancel` is given
        "#]]
        .assert_eq(&directory(&reply).expect("text"));
        reply.peer = Some(PeerDirectoryReply {
            running: "csmd 0.1.0 layout 1".to_owned(),
            booted: None,
            saved: false,
            working_copy: copy("7a1e3f00c0ffee42", None),
            certified_copy: CopyReply { shared_checksum: None, image: None },
        });
        reply.differing = Some(vec!["the image in `working`".to_owned()]);
        (reply.peer_in_sync, reply.rollback_in_s) = (Some(true), None);
        expect![[r#"
            Running CMM              : PRIMARY,
            CMM Mode                 : DUAL CMMs,
            Current CMM Slot         : 5,
            Running configuration    : WORKING,
            Certify/Restore Status   : CERTIFY NEEDED,
            Running Changes          : SAVED,
            Flash Between CMMs       : NOT SYNCHRONIZED,
            Running Configuration    : SYNCHRONIZED,
            Stacks Reload on Takeover: PRIMARY ONLY

            box       directory  configuration     image
            ------------------------------------------------------------------------
            this      working    7a1e3f00c0ffee42  csmd 0.2.0 layout 1, 0a0a0a0a0a0a0a0a
            this      certified  7a1e3f00c0ffee42  as installed
            peer      working    7a1e3f00c0ffee42  as installed
            peer      certified  -                 -
            running: csmd 0.2.0 layout 1; on the peer: csmd 0.1.0 layout 1
            not the same on both boxes: the image in `working`
        "#]]
        .assert_eq(&directory(&reply).expect("text"));
    }
}
