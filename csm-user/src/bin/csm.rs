//! The command line: `csm show module csm 5 ft`.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use csm_user::api;
use csm_user::cli::exec::{self, Options, Output};
use csm_user::cli::shell;

/// The Content Switching Module's commands, for the csmd of this host.
#[derive(Parser)]
#[command(
    name = "csm",
    version,
    after_help = "Without a command: the shell.\n\
                  `csm ?` lists the commands, `csm WORDS ?` what can follow.\n\
                  Exit status: 0 done, 1 refused or no answer, 2 bad input."
)]
struct Flags {
    /// Socket of the daemon.
    #[arg(long, default_value = api::SOCKET)]
    socket: PathBuf,
    /// Print JSON, as `| json` does.
    #[arg(long)]
    json: bool,
    /// `check --host [FILE]`: the same as `check host`.
    #[arg(long)]
    host: bool,
    /// What stands in the shell's prompt; the name of this host unless it is given.
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// A command, in one argument or several, e.g. `show module csm 5 ft`.
    #[arg(value_name = "WORDS")]
    words: Vec<String>,
}

fn main() -> anyhow::Result<ExitCode> {
    let Flags { socket, json, host, hostname, mut words } = Flags::parse();
    if host {
        words.insert(words.len().min(1), "host".to_owned());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if words.is_empty() {
        return shell::task::run(&runtime, socket, hostname).map(ExitCode::from);
    }
    let part: exec::Part = Arc::new(part);
    finish(&runtime.block_on(exec::run(&words, &Options { socket, json, part: Some(part) })))
}

fn part(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader of a pipe has seen enough, and so have we.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written,
    }
}

fn finish(output: &Output) -> anyhow::Result<ExitCode> {
    let Output { stdout, stderr, status } = output;
    let written =
        io::stdout().write_all(stdout.as_bytes()).and_then(|()| io::stderr().write_all(stderr.as_bytes()));
    match written {
        // The reader of a pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(ExitCode::from(*status)),
    }
}
