//! The project's own commands, one file each; this one only tells them apart.

mod bench;
mod build;
mod ci;
mod clean;
mod docs;
mod exec;
mod host;
mod kernels;
mod lint;
mod packages;
mod run;
mod soak;
mod test;
mod tidy;
mod toolchain;

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

/// The project's own commands. What they need and is missing they install, telling what they do.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build csmd and csm, with the XDP program inside csmd
    Build(build::Build),
    /// Raise the lab and take the active node away under traffic; with `-- --config FILE`, run one csmd on this host
    Run(run::Run),
    /// Run all tests: unit, property, simulation, packet fixtures, lab
    Test(test::Test),
    /// Check format, lints and the tree's own rules
    Lint,
    /// Measure: packet path, wire codecs, configuration, planning
    Bench(bench::Bench),
    /// Do what the continuous integration does
    Ci,
    /// Repeat lab and property tests for hours, until one fails
    Soak(soak::Soak),
    /// Write the programming documentation (rustdoc)
    Docs,
    /// Remove what was built
    Clean(clean::Clean),
}

fn main() -> ExitCode {
    // No name given is no mistake: it asks for the list.
    let arguments = if std::env::args_os().len() < 2 {
        Arguments::parse_from(["cargo xtask", "--help"])
    } else {
        Arguments::parse()
    };
    match run(arguments.task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The names that `cargo xtask` knows.
fn command_names() -> BTreeSet<String> {
    Arguments::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Build(build) => build.run(),
        Task::Run(run) => run.run(),
        Task::Test(test) => test.run(),
        Task::Lint => lint::run(),
        Task::Bench(bench) => bench.run(),
        Task::Ci => ci::run(),
        Task::Soak(soak) => soak.run(),
        Task::Docs => docs::run(),
        Task::Clean(clean) => clean.run(),
    }
}
