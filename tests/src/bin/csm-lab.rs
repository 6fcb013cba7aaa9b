//! `csm-lab`: the demonstration, and the traffic programs that the lab starts inside its namespaces.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use csm_tests::apps::{self, Program, Way};
use csm_tests::edits::{self, Summary};
use csm_tests::endure::{self, CONNECTIONS, Deed, Endurance};
use csm_tests::figure::{Figure, Timers};
use csm_tests::guest::{Image, deed};
use csm_tests::lab::{Lab, Options};
use csm_tests::matrix::{self, Bench, Mode, Trouble, table};
use csm_tests::node::{Fault, NegativeControl};
use csm_tests::programs::Programs;
use csm_tests::scale;
use csm_tests::scenario::{self, Outline, Traffic};
use csm_tests::traffic::{http, msg_client, msg_server, stream, udp};
use csm_tests::{cuts, netns, picture, report, standin, timers, topology, wait};

#[derive(Debug, Parser)]
#[command(
    about = "Two nodes, a switch, clients and servers in network namespaces; faults under real traffic"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Raise the lab, take the active node away under traffic, print what the clients saw.
    Run(RunArgs),
    /// Each way of forwarding through each fault, in both families; prints a table.
    Matrix(MatrixArgs),
    /// Real programs through each way of forwarding, in each family; prints a table.
    Apps(AppsArgs),
    /// Many failovers for each setting of the timers: how soon, and what a client saw; prints a table.
    Timers(TimersArgs),
    /// What must not be noticed, under a steady load of which every datagram is accounted for; prints a table.
    Endure(EndureArgs),
    /// Random changes of the active node's configuration under traffic, against a start from the final text.
    Edits(EditsArgs),
    /// A large configuration put in force on a running pair under traffic: how long it takes, and that nobody notices
    Scale(ScaleArgs),
    /// Ends csmd before each step of what it writes, in turn: what is left is whole, and starts; prints a table.
    Cuts {
        /// Directory of the logs
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// A virtual machine as node A: its clock is set, and it stands still; prints a table.
    Guest(GuestArgs),
    /// Remove what labs whose process has died have left behind.
    Clean,
    #[command(hide = true, about = "Remove a lab at the end of standard input")]
    Reap { lab: String },
    #[command(hide = true, subcommand, about = "A traffic program")]
    Traffic(TrafficCommand),
    #[command(hide = true, subcommand, about = "The product's stand-in")]
    StandIn(StandInCommand),
}

#[derive(Debug, Args)]
struct EditsArgs {
    /// How many
    #[arg(default_value_t = 10_000)]
    count: usize,
    /// Another seed gives other edits
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Directory of the logs
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ScaleArgs {
    /// Virtual servers, each with four real servers
    #[arg(default_value_t = 5_000)]
    vservers: u32,
    /// Directory of the logs
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// How the active node goes; each in turn when not given
    #[arg(long)]
    fault: Vec<Fault>,
    /// Long-lived connections
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    /// heartbeat-time/failover, milliseconds; the CSM's default is 1000/3000
    #[arg(long, default_value_t = Timers::FAST)]
    timers: Timers,
    /// How often to go through the faults
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Leave the lab up at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Directory for logs, captures and the picture
    #[arg(long)]
    out: Option<PathBuf>,
    /// Give both nodes a defect that the checks must notice
    #[arg(long)]
    control: Option<NegativeControl>,
    /// Size of the download, millions of bytes
    #[arg(long, default_value_t = 200)]
    download: u64,
    /// Run the lab's stand-in instead of the product
    #[arg(long)]
    stand_in: bool,
}

#[derive(Debug, Args)]
struct MatrixArgs {
    /// Ways of forwarding; all when not given
    #[arg(long)]
    mode: Vec<Mode>,
    /// Only faults whose name in the table holds this
    #[arg(long)]
    fault: Option<String>,
    /// Long-lived connections in each family
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// heartbeat-time/failover, milliseconds
    #[arg(long, default_value = "100/300")]
    timers: Timers,
    /// Directory for logs and captures
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct AppsArgs {
    /// Ways of forwarding; all when not given
    #[arg(long)]
    way: Vec<Way>,
    /// Programs; all when not given
    #[arg(long)]
    program: Vec<Program>,
    /// Directory for logs and captures
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct TimersArgs {
    /// heartbeat-time/failover, milliseconds; from the CSM's own down to 10/30 when not given
    #[arg(long)]
    timers: Vec<Timers>,
    /// Failovers with each
    #[arg(long, default_value_t = 30)]
    failovers: usize,
    /// Directory for logs
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct EndureArgs {
    /// What is done to the active node; each in turn when not given
    #[arg(long)]
    deed: Vec<Deed>,
    /// How often
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Length of a round in which nothing is done, seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Datagrams a second
    #[arg(long, default_value_t = 100_000)]
    rate: u64,
    /// heartbeat-time/failover, milliseconds
    #[arg(long, default_value = "100/300")]
    timers: Timers,
    /// Directory for logs and captures
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct GuestArgs {
    /// Its kernel; `cargo xtask test --guest` names both
    #[arg(long)]
    kernel: PathBuf,
    /// Its root
    #[arg(long)]
    initrd: PathBuf,
    /// Directory for logs
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Subcommand)]
enum TrafficCommand {
    MsgServer { listen: SocketAddr, interval_ms: u64 },
    MsgClient { target: SocketAddr, connections: usize, interval_ms: u64, first: u64 },
    UdpEcho { listen: SocketAddr },
    UdpProbe { target: SocketAddr, source: IpAddr, interval_us: u64 },
    Http { target: SocketAddr, clients: usize, interval_ms: u64 },
    Stream { target: SocketAddr, rate: u64, sources: Vec<IpAddr> },
    Sink { listen: SocketAddr },
}

#[derive(Debug, Subcommand)]
enum StandInCommand {
    Csmd(standin::Options),
    Csm {
        #[arg(long)]
        socket: PathBuf,
        #[arg(long)]
        json: bool,
        words: Vec<String>,
    },
}

fn main() -> ExitCode {
    match obey(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("csm-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn obey(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(arguments) => return run(&arguments),
        Command::Matrix(arguments) => return matrix(&arguments),
        Command::Apps(arguments) => return apps(&arguments),
        Command::Timers(arguments) => return failovers(&arguments),
        Command::Endure(arguments) => return endure(&arguments),
        Command::Edits(arguments) => return edit(&arguments),
        Command::Scale(arguments) => return enlarge(&arguments),
        Command::Cuts { out } => cut(out)?,
        Command::Guest(arguments) => return stand_still(&arguments),
        Command::Clean => {
            let removed = netns::sweep_dead();
            println!("{} namespaces removed{}", removed.len(), if removed.is_empty() { "" } else { ":" });
            for name in removed {
                println!("  {name}");
            }
        }
        Command::Reap { lab } => {
            std::io::stdin().read_to_end(&mut Vec::new())?;
            netns::sweep(&lab);
        }
        Command::Traffic(command) => traffic(command)?,
        Command::StandIn(StandInCommand::Csmd(options)) => standin::csmd(&options)?,
        Command::StandIn(StandInCommand::Csm { socket, words, .. }) => standin::csm(&socket, &words)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Every deed that writes, cut before each of its steps.
fn cut(out: Option<PathBuf>) -> Result<()> {
    let out = out.unwrap_or_else(|| std::env::temp_dir().join(format!("csm-cuts-{}", std::process::id())));
    for deed in cuts::Deed::ALL {
        std::fs::create_dir_all(&out)?;
        let mut lab = cuts::lab(deed, Programs::beside_this_one()?, out.clone())?;
        let cut = cuts::walk(&mut lab, deed, 1)?;
        lab.take_down()?;
        println!("{deed:?}: cut before each of {cut} steps, whole and started each time");
    }
    Ok(())
}

fn traffic(command: TrafficCommand) -> Result<()> {
    match command {
        TrafficCommand::MsgServer { listen, interval_ms } => {
            msg_server::serve(listen, Duration::from_millis(interval_ms))
        }
        TrafficCommand::MsgClient { target, connections, interval_ms, first } => {
            let sources = topology::clients(target.ip(), usize::from(topology::CLIENTS));
            let interval = Duration::from_millis(interval_ms);
            msg_client::run(&msg_client::Options { target, sources, connections, interval, first })
        }
        TrafficCommand::UdpEcho { listen } => udp::echo(listen),
        TrafficCommand::UdpProbe { target, source, interval_us } => {
            udp::probe(target, source, Duration::from_micros(interval_us))
        }
        TrafficCommand::Http { target, clients, interval_ms } => {
            let sources = topology::clients(target.ip(), clients);
            http::run(target, &sources, Duration::from_millis(interval_ms))
        }
        TrafficCommand::Stream { target, rate, sources } => stream::send(target, &sources, rate),
        TrafficCommand::Sink { listen } => stream::sink(listen),
    }
}

/// Root, signals, and nothing left of labs that were killed.
fn prepare() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab makes network namespaces: run it as root (sudo)");
    }
    wait::watch_signals()?;
    for name in netns::sweep_dead() {
        eprintln!("removed {name}, left behind by a lab that was killed");
    }
    Ok(())
}

fn matrix(arguments: &MatrixArgs) -> Result<ExitCode> {
    prepare()?;
    let out = arguments.out.clone().map_or_else(default_out, Ok)?;
    let modes = if arguments.mode.is_empty() { Mode::ALL.to_vec() } else { arguments.mode.clone() };
    println!("{}", table::head());
    let (mut cells, mut wrong) = (0, 0);
    for (mode, preempt, troubles) in matrix::plan(&modes) {
        let wanted = |trouble: &Trouble| {
            arguments.fault.as_ref().is_none_or(|wanted| trouble.name().contains(wanted.as_str()))
        };
        let troubles: Vec<_> = troubles.into_iter().filter(wanted).collect();
        if troubles.is_empty() {
            continue;
        }
        let out = out.join(format!("{}-{preempt}", mode.name()));
        let programs = Programs::beside_this_one()?;
        let mut bench = Bench::raise(mode, preempt, arguments.timers, arguments.connections, programs, out)?;
        for trouble in troubles {
            let cell = bench.cell(trouble).with_context(|| format!("{}: {}", mode.name(), trouble.name()));
            cells += 1;
            match cell {
                Ok(cell) => {
                    println!("{}", table::row(&cell));
                    wrong += usize::from(!cell.complaints().is_empty());
                }
                Err(error) => {
                    println!("{error:#}");
                    wrong += 1;
                    break;
                }
            }
        }
        let leaks = bench.take_down()?;
        if !leaks.is_empty() {
            bail!("left behind: {leaks:?}");
        }
    }
    println!("\n{} of {cells} without a loss", cells - wrong);
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A small lab whose nodes give one another their configuration, and where its logs go.
fn synchronized_lab(out: Option<&PathBuf>) -> Result<(Lab, PathBuf)> {
    let out = out.cloned().map_or_else(default_out, Ok)?;
    let auto = "  sync auto\n".to_owned();
    let mut options = Options::small(Programs::beside_this_one()?, out.clone());
    options.group = [auto.clone(), auto];
    Ok((Lab::build(options)?, out))
}

fn edit(arguments: &EditsArgs) -> Result<ExitCode> {
    prepare()?;
    let (mut lab, out) = synchronized_lab(arguments.out.as_ref())?;
    let found = edits::run(&mut lab, arguments.count, arguments.seed);
    let leaks = lab.take_down()?;
    let Summary { taken, refused, compared, took_ms: (average, longest) } =
        found.with_context(|| format!("logs are in {}", out.display()))?;
    println!(
        "{taken} edits in force, {refused} refused, {average} ms each, {longest} ms at most; no connection lost; {compared} \
         entries of the maps are those of a start from the final text"
    );
    if !leaks.is_empty() {
        bail!("left behind: {leaks:?}");
    }
    Ok(ExitCode::SUCCESS)
}

fn enlarge(arguments: &ScaleArgs) -> Result<ExitCode> {
    prepare()?;
    let (mut lab, out) = synchronized_lab(arguments.out.as_ref())?;
    let found = scale::run(&mut lab, arguments.vservers);
    let leaks = lab.take_down()?;
    let scale::Summary { octets, checked, applied, synchronized, printed, changed, silence, takeover } =
        found.with_context(|| format!("logs are in {}", out.display()))?;
    println!(
        "{} virtual servers more, {} real servers, {octets} octets:\n\
         checked in {checked:.2?}, in force in {applied:.2?}, on both nodes in {synchronized:.2?}, printed in {printed:.2?}\n\
         one real server more out of service: {changed:.2?}\n\
         {} of {} connections kept; longest silence {silence:.2?}, around a kill {takeover:.2?}",
        arguments.vservers,
        arguments.vservers * scale::REALS,
        scale::CONNECTIONS,
        scale::CONNECTIONS,
    );
    if !leaks.is_empty() {
        bail!("left behind: {leaks:?}");
    }
    Ok(ExitCode::SUCCESS)
}

fn apps(arguments: &AppsArgs) -> Result<ExitCode> {
    prepare()?;
    let out = arguments.out.clone().map_or_else(default_out, Ok)?;
    let all = |given: &[Way]| if given.is_empty() { Way::ALL.to_vec() } else { given.to_vec() };
    let programs =
        if arguments.program.is_empty() { Program::ALL.to_vec() } else { arguments.program.clone() };
    println!("{}", apps::head(&programs));
    let mut good = true;
    for way in all(&arguments.way) {
        let report = apps::run(way, &programs, Programs::beside_this_one()?, out.join(way.name()))?;
        print!("{}", report.rows());
        good &= report.complaints().is_empty();
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn failovers(arguments: &TimersArgs) -> Result<ExitCode> {
    prepare()?;
    let out = arguments.out.clone().map_or_else(default_out, Ok)?;
    let settings = if arguments.timers.is_empty() {
        let parsed: Result<Vec<Timers>, _> = timers::SETTINGS.iter().map(|text| text.parse()).collect();
        parsed.map_err(anyhow::Error::msg)?
    } else {
        arguments.timers.clone()
    };
    println!("{}", timers::head());
    let mut kept = true;
    for timers in settings {
        let out = out.join(timers.to_string().replace('/', "-"));
        let setting =
            timers::Setting::measure(timers, arguments.failovers, Programs::beside_this_one()?, out)?;
        println!("{}", setting.row());
        kept &= setting.connections[0] == setting.connections[1];
    }
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn endure(arguments: &EndureArgs) -> Result<ExitCode> {
    prepare()?;
    let out = arguments.out.clone().map_or_else(default_out, Ok)?;
    let deeds = match arguments.deed.as_slice() {
        [] => &[Deed::Nothing, Deed::Restart, Deed::Switchover, Deed::Kill][..],
        chosen => chosen,
    };
    println!("{}", endure::head());
    let mut whole = true;
    for deed in deeds {
        let out = out.join(format!("{deed:?}"));
        let mut lab = Endurance::begin(arguments.timers, arguments.rate, Programs::beside_this_one()?, out)?;
        let mut rounds = Vec::new();
        for _ in 0..arguments.rounds {
            rounds.push(lab.round(*deed, Duration::from_secs(arguments.seconds))?);
        }
        let connections = lab.connections()?;
        println!("{}", endure::row(*deed, &rounds, connections));
        if let Some(lost) = endure::where_lost(&rounds) {
            println!("{lost}");
        }
        whole &= connections == CONNECTIONS
            && rounds.iter().all(|round| round.unprovoked == 0)
            && (*deed == Deed::Kill || rounds.iter().all(|round| round.account.lost() == 0));
        lab.end()?;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn stand_still(arguments: &GuestArgs) -> Result<ExitCode> {
    prepare()?;
    let out = arguments.out.clone().map_or_else(default_out, Ok)?;
    let image = Image { kernel: arguments.kernel.clone(), initrd: arguments.initrd.clone() };
    println!("{}", deed::head());
    let good = deed::all(&image, Programs::beside_this_one()?, out, |outcome| println!("{}", outcome.row()))?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run(arguments: &RunArgs) -> Result<ExitCode> {
    prepare()?;
    let out = arguments.out.clone().map_or_else(default_out, Ok)?;
    let programs = if arguments.stand_in { Programs::stand_in()? } else { Programs::beside_this_one()? };
    let options = Options {
        figure: Figure { timers: arguments.timers, preempt: false, wiring: topology::Wiring::Access },
        control: arguments.control,
        download: arguments.download * 1_000_000,
        message_interval: Duration::from_millis(250),
        ..Options::small(programs, out.clone())
    };
    let clock = Instant::now();
    let progress = |what: &str| eprintln!("[{:6.1} s] {what}", clock.elapsed().as_secs_f64());
    progress("raising the lab");
    let mut lab = Lab::build(options)?;
    let mut outlines = Vec::new();
    let result = demonstrate(&mut lab, arguments, &progress, &mut outlines);
    lab.capture.save(&lab.out("control.pcapng"))?;
    if !outlines.is_empty() {
        conclude(&outlines, arguments, &out)?;
    }
    if arguments.keep {
        println!("The lab {} is up. On node A, then on node B:", lab.id.as_str());
        for way in lab.ways_in() {
            println!("  {way}");
        }
        println!("Ctrl-C takes it down.");
        let _ =
            wait::until::<()>("Ctrl-C", Duration::from_secs(86_400), Duration::from_millis(100), || Ok(None));
    }
    let leaks = lab.take_down()?;
    for leak in &leaks {
        eprintln!("left behind: {leak}");
    }
    result.with_context(|| format!("logs and captures are in {}", out.display()))?;
    let good = leaks.is_empty() && outlines.iter().all(Outline::clean);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn demonstrate(
    lab: &mut Lab,
    arguments: &RunArgs,
    progress: &impl Fn(&str),
    outlines: &mut Vec<Outline>,
) -> Result<()> {
    let failover = arguments.timers.failover;
    progress(&format!("starting both nodes, timers {} ms", arguments.timers));
    let active = lab.start(failover * 4 + Duration::from_secs(20))?;
    progress(&format!("node {active:?} is active, {:?} could take over", active.peer()));
    let mut traffic = Traffic::start(lab, arguments.connections)?;
    progress(&format!("{} connections exchange messages", arguments.connections));
    let faults =
        if arguments.fault.is_empty() { Fault::DEMONSTRATED.to_vec() } else { arguments.fault.clone() };
    // The download has to last from before the fault until after the slowest takeover that is allowed.
    let seconds = (5.0 + 2.0 * failover.as_secs_f64()).ceil();
    let rate = Duration::from_secs_f64(seconds).as_secs().max(1);
    let rate = arguments.download * 1_000_000 / rate;
    for round in 1..=arguments.rounds {
        for fault in &faults {
            progress(&format!("round {round} of {}: {}", arguments.rounds, fault.name()));
            let outline = scenario::apply(lab, &mut traffic, *fault, rate)?;
            progress(&format!(
                "  {:?} took over; {} of {} connections live, silence {} ms",
                outline.to,
                outline.survived,
                outline.connections,
                outline.silence_ns / 1_000_000
            ));
            outlines.push(outline);
        }
    }
    let last = traffic.messages("finish")?;
    progress(&format!("{} messages sent and {} received, every byte checked", last.sent, last.received));
    if !last.lost.is_empty() {
        bail!("connections were lost: {:?}", last.lost);
    }
    Ok(())
}

fn conclude(outlines: &[Outline], arguments: &RunArgs, out: &Path) -> Result<()> {
    println!();
    print!("{}", report::table(outlines));
    println!("{}", report::legend());
    let path = out.join("failover.svg");
    let title = format!(
        "What clients saw: {} connections, heartbeat/failover {} ms",
        arguments.connections, arguments.timers
    );
    std::fs::write(&path, picture::draw(&title, outlines)).with_context(|| path.display().to_string())?;
    std::fs::write(out.join("outline.json"), serde_json::to_vec_pretty(outlines)?)?;
    println!("picture: {}", path.display());
    println!("logs and captures: {}", out.display());
    Ok(())
}

fn default_out() -> Result<PathBuf> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(std::env::current_dir()?.join("out").join(format!("run-{seconds}-{}", std::process::id())))
}
