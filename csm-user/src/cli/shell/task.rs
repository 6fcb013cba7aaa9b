//! Shell: the terminal. Reads lines with history, completion and help, carries them out, shows the answers page by page.

use std::cell::OnceCell;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use rustyline::completion::{Completer, Pair};
use rustyline::config::{BellStyle, CompletionType};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::{DefaultHistory, History as _, SearchDirection};
use rustyline::validate::Validator;
use rustyline::{
    Cmd, ConditionalEventHandler, Context, Editor, Event, EventContext, EventHandler, Helper, KeyEvent,
    RepeatCount,
};
use tokio::runtime::Runtime;

use super::pager::{Answer, Page, Pager};
use super::{Act, Session};
use crate::api::client::{Client, DEADLINE};
use crate::api::path;
use crate::api::reply::{ChangeReply, SystemReply};
use crate::cli::configure;
use crate::cli::exec::{self, Options, Output};
use crate::cli::select;
use crate::config::Noun;
use crate::config::table::default;

/// Lines of a page where the terminal does not say.
const LENGTH: usize = 24;
/// Longest wait for names at a key.
const PATIENCE: Duration = Duration::from_secs(1);
const MORE: &str = " --More-- ";

/// Runs until the operator leaves. Where standard input is no terminal its lines are carried out one after the other, and
/// the exit status is that of the last one that failed.
///
/// # Errors
/// If the terminal cannot be read or written.
pub fn run(runtime: &Runtime, socket: PathBuf, host: Option<String>) -> anyhow::Result<u8> {
    let client = Client::new(&socket, DEADLINE);
    let slot = match runtime.block_on(client.get::<SystemReply>(path::SYSTEM)) {
        Ok(reply) => reply.module,
        Err(error) => {
            eprint!("{}", Output::failure(&error).stderr);
            default::SLOT
        }
    };
    let host = host.unwrap_or_else(own_name);
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let mut shell = Shell {
        runtime,
        client,
        socket,
        session: Arc::new(Mutex::new(Session::new(host, slot))),
        length: 0,
        colour: io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        status: exec::OK,
    };
    if terminal {
        // Who typed saw what failed.
        shell.interactive()?;
        return Ok(exec::OK);
    }
    shell.piped()?;
    Ok(shell.status)
}

/// The first label of this host's name.
fn own_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim().split('.').next() {
        Some(label) if !label.is_empty() => label.to_owned(),
        _ => "Router".to_owned(),
    }
}

struct Shell<'a> {
    runtime: &'a Runtime,
    client: Client,
    socket: PathBuf,
    session: Arc<Mutex<Session>>,
    /// Lines to a page; 0: no pages.
    length: usize,
    colour: bool,
    status: u8,
}

/// Whether the operator stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Stay,
    Leave,
}

impl Shell<'_> {
    fn session(&self) -> MutexGuard<'_, Session> {
        lock(&self.session)
    }

    fn interactive(&mut self) -> anyhow::Result<()> {
        let settings = rustyline::Config::builder()
            .completion_type(CompletionType::List)
            .bell_style(BellStyle::None)
            .auto_add_history(false)
            .build();
        let names = Names { runtime: self.runtime, client: Client::new(&self.socket, PATIENCE) };
        let mut editor: Editor<Assistant<'_>, DefaultHistory> = Editor::with_config(settings)?;
        // The question stands on the last line of the screen.
        self.length = editor.dimensions().map_or(LENGTH, |(_, rows)| usize::from(rows)).saturating_sub(1);
        let key = Arc::new(Mutex::new(Key::Enter));
        editor.set_helper(Some(Assistant { session: Arc::clone(&self.session), names: names.clone() }));
        for (event, means) in [(KeyEvent::from('?'), Key::Help), (KeyEvent::ctrl('Z'), Key::End)] {
            let handler = Remember { key: Arc::clone(&key), means };
            editor.bind_sequence(event, EventHandler::Conditional(Box::new(handler)));
        }
        let mut typed = String::new();
        loop {
            *lock(&key) = Key::Enter;
            let prompt = self.session().prompt();
            let line = match editor.readline_with_initial(&prompt, (&typed, "")) {
                Ok(line) => line,
                // Nothing was sent, so nothing is half done.
                Err(ReadlineError::Interrupted) => {
                    self.session().end();
                    typed.clear();
                    continue;
                }
                Err(ReadlineError::Eof) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            typed.clear();
            let key = *lock(&key);
            if key == Key::Help {
                let columns = editor.dimensions().map_or(0, |(columns, _)| usize::from(columns));
                // As IOS shows it: the question mark stands in the line, and is none of it.
                if prompt.chars().count() + line.chars().count() + 1 < columns {
                    println!("\x1b[1A\r{prompt}{line}?");
                }
                let help = self.session().help(&line, names.known());
                self.show(&help)?;
                typed = line;
                continue;
            }
            if !line.trim().is_empty() {
                editor.add_history_entry(line.trim())?;
            }
            let next = self.carry_out(&line, Some(&editor))?;
            if key == Key::End {
                self.session().end();
            }
            if next == Next::Leave {
                return Ok(());
            }
        }
    }

    fn piped(&mut self) -> anyhow::Result<()> {
        for line in io::stdin().lock().lines() {
            if self.carry_out(&line?, None)? == Next::Leave {
                break;
            }
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        line: &str,
        editor: Option<&Editor<Assistant<'_>, DefaultHistory>>,
    ) -> anyhow::Result<Next> {
        let act = self.session().line(line);
        match act {
            Act::Nothing => {}
            Act::Leave => return Ok(Next::Leave),
            Act::Say(said) if said.contains('%') => self.complain(&said)?,
            Act::Say(said) => self.show(&said)?,
            Act::Length(lines) => self.length = lines,
            Act::History => {
                if let Some(editor) = editor {
                    let history = history(editor);
                    self.show(&history)?;
                }
            }
            Act::Run(command, question) => {
                if let (Some(question), Some(_)) = (question, editor)
                    && !confirmed(question)?
                {
                    return Ok(Next::Stay);
                }
                self.command(&command)?;
            }
            Act::Change(request, said) => {
                io::stdout().write_all(said.as_bytes())?;
                let asked = self.interruptible(self.client.configure(&request));
                let (done, said) = match asked {
                    None => {
                        (false, "% interrupted: see `show running-config` whether it was done\n".to_owned())
                    }
                    Some(Ok(ChangeReply { findings, .. })) => (true, findings),
                    Some(Err(error)) => (false, configure::rejected(error).stderr),
                };
                let said = self.session().changed(done, &said);
                if done { self.show(&said)? } else { self.complain(&said)? }
            }
        }
        Ok(Next::Stay)
    }

    /// What `asked` says; nothing if Ctrl-C comes first. The daemon does what it was asked to or does not, as a whole.
    fn interruptible<T>(&self, asked: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(async {
            tokio::select! {
                answer = asked => Some(answer),
                _ = tokio::signal::ctrl_c() => None,
            }
        })
    }

    fn command(&mut self, command: &str) -> anyhow::Result<()> {
        let screen = Arc::new(Mutex::new(Screen { pager: Pager::new(self.length), over: false }));
        let part: exec::Part = {
            let screen = Arc::clone(&screen);
            Arc::new(move |text| lock(&screen).write(text))
        };
        let options = Options { socket: self.socket.clone(), json: false, part: Some(part) };
        let words = [command.to_owned()];
        let Some(Output { stdout, stderr, status }) = self.interruptible(exec::run(&words, &options)) else {
            self.status = exec::FAILED;
            println!();
            return Ok(());
        };
        let written = lock(&screen).write(&stdout);
        if let Err(error) = written
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        if status != exec::OK {
            self.status = status;
        }
        // Who has seen enough need not hear that the rest could not be written.
        if lock(&screen).over || stderr.is_empty() { Ok(()) } else { self.complain(&stderr) }
    }

    fn show(&self, text: &str) -> anyhow::Result<()> {
        let mut screen = Screen { pager: Pager::new(self.length), over: false };
        match screen.write(text) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn complain(&mut self, text: &str) -> anyhow::Result<()> {
        self.status = exec::FAILED;
        let text = if self.colour { format!("\x1b[31m{text}\x1b[0m") } else { text.to_owned() };
        Ok(io::stderr().write_all(text.as_bytes())?)
    }
}

fn history(editor: &Editor<Assistant<'_>, DefaultHistory>) -> String {
    let history = editor.history();
    let entry = |at| {
        history.get(at, SearchDirection::Forward).ok().flatten().map(|found| format!("  {}\n", found.entry))
    };
    (0..history.len()).filter_map(entry).collect()
}

fn confirmed(question: &str) -> io::Result<bool> {
    print!("{question}");
    io::stdout().flush()?;
    let key = key()?;
    println!();
    Ok(matches!(key, b'\r' | b'\n' | b'y' | b'Y'))
}

/// Pages on the terminal.
struct Screen {
    pager: Pager,
    /// The operator has seen enough.
    over: bool,
}

impl Screen {
    /// # Errors
    /// [`io::ErrorKind::Interrupted`] once the operator has seen enough.
    fn write(&mut self, text: &str) -> io::Result<()> {
        if self.over {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut page = self.pager.push(text);
        loop {
            let mut out = io::stdout().lock();
            match page {
                Page::Write(text) => {
                    out.write_all(text.as_bytes())?;
                    return out.flush();
                }
                Page::Ask(text) => {
                    out.write_all(text.as_bytes())?;
                    out.write_all(MORE.as_bytes())?;
                    out.flush()?;
                    let answer = Answer::of(key()?);
                    write!(out, "\r{:width$}\r", "", width = MORE.len())?;
                    if answer == Answer::Quit {
                        self.over = true;
                        out.flush()?;
                        return Err(io::ErrorKind::Interrupted.into());
                    }
                    page = self.pager.answered(answer);
                }
            }
        }
    }
}

/// A terminal that gives each key as it is struck, until this is dropped.
struct Raw(Termios);

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal is gone, then.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

fn key() -> io::Result<u8> {
    let before = tcgetattr(io::stdin())?;
    let mut raw = before.clone();
    cfmakeraw(&mut raw);
    tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
    let _restored = Raw(before);
    let mut key = [0];
    io::stdin().lock().read_exact(&mut key)?;
    Ok(key[0])
}

/// What ended a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Enter,
    Help,
    End,
}

/// Ends the line, and remembers by which key.
struct Remember {
    key: Arc<Mutex<Key>>,
    means: Key,
}

impl ConditionalEventHandler for Remember {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        *lock(&self.key) = self.means;
        Some(Cmd::AcceptLine)
    }
}

/// Where the names are from that are configured.
#[derive(Clone)]
struct Names<'a> {
    runtime: &'a Runtime,
    client: Client,
}

impl Names<'_> {
    /// The names at one key: csmd is asked once, at the first place where one can stand. If it does not answer there are none.
    fn known(&self) -> impl Fn(Noun) -> Vec<String> {
        let config = OnceCell::new();
        move |noun| {
            let asked = || self.runtime.block_on(select::running(&self.client)).ok();
            config.get_or_init(asked).as_ref().map_or_else(Vec::new, |config| noun.names(config))
        }
    }
}

/// Completes from the tables, and by what is configured.
struct Assistant<'a> {
    session: Arc<Mutex<Session>>,
    names: Names<'a>,
}

impl Helper for Assistant<'_> {}
impl Validator for Assistant<'_> {}

impl Hinter for Assistant<'_> {
    type Hint = String;
}

impl Highlighter for Assistant<'_> {}

impl Completer for Assistant<'_> {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = line.get(..pos).unwrap_or_default();
        let (length, hints) = lock(&self.session).hints(typed, self.names.known());
        let words = hints.into_iter().filter(|hint| hint.keyword);
        let pairs = words.map(|hint| Pair { replacement: format!("{} ", hint.word), display: hint.word });
        Ok((pos - length, pairs.collect()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
