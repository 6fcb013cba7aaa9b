//! `cargo xtask run`: the lab as a demonstration, or one `csmd` on this host.

use std::ffi::OsString;

use anyhow::Result;

use crate::build::{Profile, binaries};
use crate::toolchain::Toolchain;
use crate::{exec, host};

/// `run`'s arguments, handed on to `csm-lab run` or `csmd`.
#[derive(clap::Args)]
#[command(
    after_help = "cargo xtask run [OPTION…]               options of the lab; `cargo xtask run -- --help` lists them\n\
                        cargo xtask run -- --config FILE        one csmd in the foreground on this host"
)]
pub(crate) struct Run {
    /// Handed on to `csm-lab run`; with --config FILE among them, to `csmd`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Run {
    /// Ends by becoming the program, so Ctrl-C, terminal and exit code are its own and its clean-up is not cut short.
    pub(crate) fn run(self) -> Result<()> {
        let (mut command, arguments) = match Target::of(&self.arguments) {
            Target::Daemon(arguments) => {
                host::require("csmd")?;
                let toolchain = Toolchain::ensure()?;
                (
                    exec::command(binaries(&toolchain, Profile::Release, &["csm-user"])?.join("csmd")),
                    arguments,
                )
            }
            Target::Lab(arguments) => {
                let toolchain = Toolchain::ensure_with_lab("the lab")?;
                let dir = binaries(&toolchain, Profile::Release, &["csm-user", "csm-tests"])?;
                let mut command = exec::command(dir.join("csm-lab"));
                command.arg("run");
                (command, arguments)
            }
        };
        if let Ok(dir) = std::env::current_dir() {
            // A relative FILE is relative to where the user stands.
            command.current_dir(dir);
        }
        match exec::replace(command.args(arguments))? {}
    }
}

/// Which program the arguments are meant for.
#[derive(Debug, Eq, PartialEq)]
enum Target<'a> {
    Daemon(&'a [OsString]),
    Lab(&'a [OsString]),
}

impl<'a> Target<'a> {
    /// The separating `--` is the user's habit, not an argument.
    fn of(arguments: &'a [OsString]) -> Self {
        let arguments = match arguments {
            [first, rest @ ..] if first == "--" => rest,
            all => all,
        };
        let names_config = |word: &OsString| {
            word.to_str().is_some_and(|word| word == "--config" || word.starts_with("--config="))
        };
        if arguments.iter().any(names_config) { Target::Daemon(arguments) } else { Target::Lab(arguments) }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Harness {
        #[command(subcommand)]
        task: Sub,
    }

    #[derive(clap::Subcommand)]
    enum Sub {
        Run(Run),
    }

    /// What `cargo xtask LINE` makes of its arguments.
    fn parsed(line: &str) -> Vec<OsString> {
        let words = std::iter::once("xtask").chain(line.split_whitespace());
        let Sub::Run(run) = Harness::parse_from(words).task;
        run.arguments
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn a_configuration_asks_for_the_daemon_with_and_without_the_separator() {
        for line in ["run -- --config a.cfg", "run --config a.cfg"] {
            assert_eq!(Target::of(&parsed(line)), Target::Daemon(&words("--config a.cfg")), "{line}");
        }
        assert_eq!(Target::of(&parsed("run --config=a.cfg")), Target::Daemon(&words("--config=a.cfg")));
    }

    #[test]
    fn anything_else_is_the_labs() {
        assert_eq!(Target::of(&parsed("run")), Target::Lab(&[]));
        for line in ["run --fault kill --keep", "run -- --fault kill --keep"] {
            assert_eq!(Target::of(&parsed(line)), Target::Lab(&words("--fault kill --keep")), "{line}");
        }
        assert_eq!(Target::of(&parsed("run -- --help")), Target::Lab(&words("--help")));
    }
}
