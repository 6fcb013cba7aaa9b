//! Runs a command: asks the daemon, or for `check` reads the file, and writes what the renderers make of it.

use std::fmt::{self, Write as _};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::check::{check, check_host, import};
use super::configure;
use super::filter::Filter;
use super::grammar::{self, Meaning, Request, Show};
use super::show;
use crate::api::client::{Client, ClientError, DEADLINE};
use crate::api::path;
use crate::api::reply::{
    ConnFilter, CountersReply, DifferenceReply, ExplainReply, FtReply, NeighbourReply, ReadyReply, RealReply,
    RunningConfigReply, ServerfarmReply, StandbyReply, StickiesReply, SystemReply, TraceQuery, VlanReply,
    VserverReply, WAIT_MAX_MS,
};

/// Exit status: done.
pub const OK: u8 = 0;
/// Exit status: refused, or no answer.
pub const FAILED: u8 = 1;
/// Exit status: the words or the file make no sense.
pub const BAD_INPUT: u8 = 2;

/// What does not stand in the command itself.
#[derive(Clone)]
pub struct Options {
    /// Where the daemon listens.
    pub socket: PathBuf,
    /// JSON even without `| json`.
    pub json: bool,
    /// Takes the parts of a long listing as they come; what it took is not in [`Output::stdout`].
    pub part: Option<Part>,
}

/// Writes a part of the output.
pub type Part = Arc<dyn Fn(&str) -> io::Result<()> + Send + Sync>;

/// What a command left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// For standard output.
    pub stdout: String,
    /// For standard error.
    pub stderr: String,
    /// One of [`OK`], [`FAILED`], [`BAD_INPUT`].
    pub status: u8,
}

impl Output {
    /// The daemon did not do it.
    #[must_use]
    pub fn failure(error: &ClientError) -> Self {
        let remedy = error.remedy().map_or_else(String::new, |remedy| format!("  remedy: {remedy}\n"));
        Self { stderr: format!("% {error}\n{remedy}"), status: FAILED, ..Self::default() }
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("there is no module csm {asked} here: this node is module csm {module}")]
    Module { asked: u8, module: u8 },
    #[error("the reply cannot be written: {0}")]
    Fmt(#[from] fmt::Error),
    #[error("the reply cannot be written: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the reply cannot be written: {0}")]
    Io(#[from] io::Error),
}

impl Error {
    const fn status(&self) -> u8 {
        match self {
            Self::Module { .. } => BAD_INPUT,
            Self::Client(_) | Self::Fmt(_) | Self::Json(_) | Self::Io(_) => FAILED,
        }
    }

    fn remedy(&self) -> Option<&str> {
        match self {
            Self::Client(error) => error.remedy(),
            Self::Module { .. } | Self::Fmt(_) | Self::Json(_) | Self::Io(_) => None,
        }
    }
}

/// Runs the command that `args` say.
pub async fn run(args: &[String], options: &Options) -> Output {
    let (request, json, stages) = match grammar::parse_all(args) {
        Ok(Meaning::Command { request, json, stages }) => (request, json || options.json, stages),
        Ok(Meaning::Help(words)) => return Output { stdout: lines(&words), ..Output::default() },
        Err(error) => return Output { stderr: format!("{error}\n"), status: BAD_INPUT, ..Output::default() },
    };
    if stages.is_empty() {
        return carry_out(request, json, options, options.part.clone()).await;
    }
    let filter = Arc::new(Mutex::new(Filter::new(&stages)));
    let through = |text: &str| lock(&filter).push(text);
    let part = options.part.clone().map(|part| -> Part {
        let filter = Arc::clone(&filter);
        Arc::new(move |text| {
            let kept = lock(&filter).push(text);
            if kept.is_empty() { Ok(()) } else { part(&kept) }
        })
    });
    let mut output = carry_out(request, json, options, part).await;
    output.stdout = through(&output.stdout);
    output.stdout += &lock(&filter).finish();
    output
}

fn lock(filter: &Mutex<Filter>) -> MutexGuard<'_, Filter> {
    filter.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn carry_out(request: Request, json: bool, options: &Options, part: Option<Part>) -> Output {
    let client = Client::new(&options.socket, DEADLINE);
    let answer = match request {
        Request::Shell(_) => {
            let stderr = "% this means something in the shell only: give `csm` alone\n".to_owned();
            return Output { stderr, status: BAD_INPUT, ..Output::default() };
        }
        Request::Check { file } => return check(&file, json),
        Request::Configure { change, revert_s } => {
            return configure::change(&client, &change, revert_s, json).await;
        }
        Request::Confirm => return configure::confirm(&client).await,
        Request::State(action) => return super::state::run(&client, action, json).await,
        Request::SetStartup { file } => return configure::set_startup(&client, &file, json).await,
        Request::SetImage { file } => return super::state::set_image(&client, &file, json).await,
        Request::Difference { file } => return configure::difference(&client, file.as_deref(), json).await,
        Request::CheckHost { file } => return check_host(file.as_deref(), json),
        Request::Trace { client: address, vserver, count } => {
            let query = TraceQuery { client: address, vserver, wait_ms: Some(WAIT_MAX_MS) };
            trace(&client, &query, count, json, part).await
        }
        Request::RunningConfig => running_config(&client, json).await,
        Request::Standby { brief } => standby(&client, brief, json).await,
        Request::ForceStandby { slot } => force_standby(&client, slot, json).await,
        Request::ClearConns { slot, filter } => clear_conns(&client, slot, &filter, json).await,
        Request::Sync { slot } => {
            if let Err(error) = require_module(&client, slot).await {
                Err(error)
            } else {
                return super::state::run(&client, super::state::Action::Sync, json).await;
            }
        }
        Request::Import { file } => return import(&file, json),
        Request::TechSupport => return super::select::tech_support(&client, options, json).await,
        Request::Select { slot, what } => match require_module(&client, slot).await {
            Ok(()) => return super::select::run(&client, what, json).await,
            Err(error) => Err(error),
        },
        Request::Readiness { slot } => return readiness(&client, slot, json).await,
        Request::Show { slot, what } => show_module(&client, slot, what, json, part).await,
    };
    match answer {
        Ok(stdout) => Output { stdout, ..Output::default() },
        Err(error) => failed(&error),
    }
}

fn lines(words: &[grammar::Continuation]) -> String {
    words.iter().map(|word| format!("{word}\n")).collect()
}

/// The reply as JSON, or as `render` writes it.
fn output<T: Serialize>(
    reply: &T,
    json: bool,
    render: impl FnOnce(&mut String, &T) -> fmt::Result,
) -> Result<String, Error> {
    let mut text = String::new();
    if json {
        text = serde_json::to_string_pretty(reply)?;
        text.push('\n');
    } else {
        render(&mut text, reply)?;
    }
    Ok(text)
}

async fn standby(client: &Client, brief: bool, json: bool) -> Result<String, Error> {
    let reply: Vec<StandbyReply> = client.get(path::STANDBY).await?;
    output(&reply, json, |out, groups| match brief {
        true => show::standby::write_brief(out, groups),
        false => show::standby::write(out, groups),
    })
}

async fn running_config(client: &Client, json: bool) -> Result<String, Error> {
    let reply: RunningConfigReply = client.get(path::RUNNING_CONFIG).await?;
    output(&reply, json, |out, reply| {
        out.push_str(&reply.text);
        Ok(())
    })
}

async fn force_standby(client: &Client, slot: u8, json: bool) -> Result<String, Error> {
    require_module(client, slot).await?;
    client.force_standby().await?;
    // Like IOS, a command that worked says nothing.
    output(&crate::api::reply::Done {}, json, |_, _| Ok(()))
}

async fn require_module(client: &Client, asked: u8) -> Result<(), Error> {
    let SystemReply { module, .. } = client.get(path::SYSTEM).await?;
    if asked == module { Ok(()) } else { Err(Error::Module { asked, module }) }
}

async fn show_module(
    client: &Client,
    slot: Option<u8>,
    what: Show,
    json: bool,
    part: Option<Part>,
) -> Result<String, Error> {
    if let Some(slot) = slot {
        require_module(client, slot).await?;
    }
    match what {
        Show::Ft { detail } => {
            let reply: Option<FtReply> = client.get(path::FT).await?;
            let out_of_sync = reply.as_ref().is_some_and(|ft| ft.config_in_sync == Some(false));
            let mut text = output(&reply, json, |out, ft| show::ft::write(out, ft.as_ref(), detail))?;
            if detail && out_of_sync && !json {
                text += &differing(client).await;
            }
            Ok(text)
        }
        Show::Explain => {
            let reply: Option<ExplainReply> = client.get(path::EXPLAIN).await?;
            output(&reply, json, |out, reply| show::ready::explain(out, reply.as_ref()))
        }
        Show::Track => {
            let reply: Option<FtReply> = client.get(path::FT).await?;
            let tracking = reply.and_then(|ft| ft.tracking);
            output(&tracking, json, |out, tracking| show::track::write(out, tracking.as_ref()))
        }
        Show::Vservers { detail } => {
            let reply: Vec<VserverReply> = client.get(path::VSERVERS).await?;
            output(&reply, json, |out, vservers| match detail {
                true => show::vserver::write_detail(out, vservers),
                false => show::vserver::write(out, vservers),
            })
        }
        Show::Reals { detail } => {
            let reply: Vec<RealReply> = client.get(path::REALS).await?;
            output(&reply, json, |out, reals| match detail {
                true => show::real::write_detail(out, reals),
                false => show::real::write(out, reals),
            })
        }
        Show::Serverfarms => {
            let reply: Vec<ServerfarmReply> = client.get(path::SERVERFARMS).await?;
            output(&reply, json, |out, farms| show::serverfarm::write(out, farms))
        }
        Show::Conns { filter, detail } => conns(client, &filter, detail, json, part).await,
        Show::Sticky => {
            let reply: StickiesReply = client.get(path::STICKY).await?;
            output(&reply, json, show::sticky::write)
        }
        Show::Vlan => {
            let reply: Vec<VlanReply> = client.get(path::VLANS).await?;
            output(&reply, json, |out, vlans| show::vlan::write(out, vlans))
        }
        Show::Arp => {
            let reply: Vec<NeighbourReply> = client.get(path::NEIGHBOURS).await?;
            output(&reply, json, |out, neighbours| show::neighbour::write(out, neighbours))
        }
        Show::Stats => {
            let reply: CountersReply = client.get(path::COUNTERS).await?;
            output(&reply, json, show::counter::write)
        }
        Show::All => output(&All::ask(client).await?, json, All::write),
    }
}

/// The answer is also the exit status: 0 for yes.
async fn readiness(client: &Client, slot: Option<u8>, json: bool) -> Output {
    let ask = async {
        if let Some(slot) = slot {
            require_module(client, slot).await?;
        }
        let reply: ReadyReply = client.get(path::READINESS).await?;
        Ok((reply.ready, output(&reply, json, show::ready::write)?))
    };
    match ask.await {
        Ok((ready, stdout)) => {
            Output { stdout, status: if ready { OK } else { FAILED }, ..Output::default() }
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &Error) -> Output {
    let remedy = error.remedy().map_or_else(String::new, |remedy| format!("  remedy: {remedy}\n"));
    Output { stderr: format!("% {error}\n{remedy}"), status: error.status(), ..Output::default() }
}

/// All connections, page by page: `part` takes each page as it comes, and the end is returned.
/// The commands in which the pair differs; what stands against asking is a line, too.
async fn differing(client: &Client) -> String {
    match client.get::<Vec<DifferenceReply>>(path::SYNC_DIFFERENCES).await {
        Ok(rows) => show::ft::differing(&rows),
        Err(error) => format!(" differing commands: unknown, {error}\n"),
    }
}

async fn conns(
    client: &Client,
    filter: &ConnFilter,
    detail: bool,
    json: bool,
    part: Option<Part>,
) -> Result<String, Error> {
    let mut text = String::new();
    if json {
        text.push_str("{\n  \"connections\": [");
    } else {
        show::conn::heading(&mut text)?;
    }
    let (mut after, mut total) = (None, 0_u64);
    loop {
        let page = client.conns(filter, after.as_deref()).await?;
        if json {
            for conn in &page.connections {
                text.push_str(if total == 0 { "\n    " } else { ",\n    " });
                text.push_str(&serde_json::to_string(conn)?);
                total += 1;
            }
        } else {
            show::conn::write(&mut text, &page.connections, detail)?;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
        if let Some(part) = &part {
            part(&text)?;
            text.clear();
        }
    }
    if json {
        writeln!(text, "\n  ],\n  \"total\": {total}\n}}")?;
    }
    Ok(text)
}

async fn clear_conns(client: &Client, slot: u8, filter: &ConnFilter, json: bool) -> Result<String, Error> {
    require_module(client, slot).await?;
    let reply = client.clear_conns(filter).await?;
    output(&reply, json, |out, reply| writeln!(out, "connections cleared: {}", reply.cleared))
}

/// Walks as they come, `count` of them, in JSON one a line: `part` takes them at once.
async fn trace(
    client: &Client,
    query: &TraceQuery,
    count: Option<u64>,
    json: bool,
    part: Option<Part>,
) -> Result<String, Error> {
    let mut left = count.unwrap_or(u64::MAX);
    let (mut began_ns, mut text) = (None, String::new());
    while left > 0 {
        for walk in client.trace(query).await?.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            left -= 1;
            if json {
                writeln!(text, "{}", serde_json::to_string(walk)?)?;
            } else {
                show::trace::write(&mut text, walk, *began_ns.get_or_insert(walk.at_ns))?;
            }
        }
        if let Some(part) = &part {
            part(&text)?;
            text.clear();
        }
    }
    Ok(text)
}

/// `show module csm N all`.
#[derive(Serialize)]
struct All {
    ft: Option<FtReply>,
    vlan: Vec<VlanReply>,
    vservers: Vec<VserverReply>,
    serverfarms: Vec<ServerfarmReply>,
    reals: Vec<RealReply>,
    arp: Vec<NeighbourReply>,
    stats: CountersReply,
}

impl All {
    async fn ask(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            ft: client.get(path::FT).await?,
            vlan: client.get(path::VLANS).await?,
            vservers: client.get(path::VSERVERS).await?,
            serverfarms: client.get(path::SERVERFARMS).await?,
            reals: client.get(path::REALS).await?,
            arp: client.get(path::NEIGHBOURS).await?,
            stats: client.get(path::COUNTERS).await?,
        })
    }

    fn write(out: &mut String, all: &Self) -> fmt::Result {
        let Self { ft, vlan, vservers, serverfarms, reals, arp, stats } = all;
        heading(out, "ft")?;
        show::ft::write(out, ft.as_ref(), true)?;
        heading(out, "vlan")?;
        show::vlan::write(out, vlan)?;
        heading(out, "vservers")?;
        show::vserver::write_detail(out, vservers)?;
        heading(out, "serverfarms")?;
        show::serverfarm::write(out, serverfarms)?;
        heading(out, "reals")?;
        show::real::write_detail(out, reals)?;
        heading(out, "arp")?;
        show::neighbour::write(out, arp)?;
        heading(out, "stats")?;
        show::counter::write(out, stats)
    }
}

fn heading(out: &mut impl fmt::Write, title: &str) -> fmt::Result {
    writeln!(out, "\n{:-^72}\n", format!(" {title} "))
}

#[cfg(test)]
mod tests;
