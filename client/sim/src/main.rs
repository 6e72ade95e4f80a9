//! `cargo sim`: runs scenarios until one fails or all are through.

use anyhow::{Context, bail};
use clap::Parser;
use raspbox_sim::outcome::Outcome;
use raspbox_sim::real;
use raspbox_sim::scenario::Scenario;
use raspbox_sim::world;
use raspbox_sim::{agree, generate, shrink};
use raspbox_try::bed;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Workstations and an appliance on simulated disks, clocks and networks: does anything ever get
/// lost?
#[derive(Debug, Parser)]
#[command(name = "cargo sim")]
struct Args {
    /// How many seeds [default: 10000, or 20 with --real].
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this seed.
    #[arg(long, conflicts_with_all = ["seeds", "from", "minutes"])]
    seed: Option<u64>,
    /// As many seeds as fit into so many minutes, for a night.
    #[arg(long, conflicts_with = "seeds")]
    minutes: Option<u64>,
    /// A scenario from a file, as a failure prints it.
    #[arg(long, conflicts_with_all = ["seeds", "from", "seed", "minutes"])]
    scenario: Option<PathBuf>,
    /// On real folders, with real processes of the daemon and the client. Before each seed comes
    /// another of its scenarios in which nothing goes wrong, next to the simulation: both must come
    /// to the same after each step.
    #[arg(long, conflicts_with = "minutes")]
    real: bool,
    /// Print what happens.
    #[arg(long)]
    trace: bool,
    /// Don't look for a smaller scenario that fails alike.
    #[arg(long)]
    no_shrink: bool,
    /// How many threads [default: as many as there are cores, thrice that with --real].
    #[arg(long)]
    threads: Option<usize>,
}

/// What all seeds together came to.
#[derive(Default)]
struct Total {
    seeds: u64,
    steps: u64,
    calls: u64,
    faults: BTreeMap<&'static str, u64>,
    skipped: BTreeMap<&'static str, u64>,
    failures: Vec<(u64, String, Scenario)>,
}

fn main() -> ExitCode {
    real::hold();
    if let Some(exit) = bed::play() {
        return exit;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(path) = &args.scenario {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let scenario: Scenario = serde_json::from_str(&text)
            .with_context(|| format!("{} is no scenario", path.display()))?;
        return one(&scenario, &args);
    }
    if let (Some(seed), true) = (args.seed, args.real) {
        one_real(&generate::peaceful(seed), &args)?;
    }
    if let Some(seed) = args.seed {
        return one(&generate::scenario(seed), &args);
    }
    // A failing seed's panic is reported with its seed, not in between.
    std::panic::set_hook(Box::new(|_| {}));
    let total = many(&args);
    drop(std::panic::take_hook());
    for (seed, failure, _) in total.failures.iter().take(10) {
        println!("seed {seed}: {failure}");
    }
    if let Some((seed, _, scenario)) = total.failures.first()
        && !args.no_shrink
    {
        std::panic::set_hook(Box::new(|_| {}));
        let small = smaller(scenario, args.real);
        drop(std::panic::take_hook());
        println!("seed {seed}, made smaller:");
        println!("{}", serde_json::to_string_pretty(&small)?);
        let real = if args.real { " --real" } else { "" };
        println!("again, with all that happens: cargo sim{real} --seed {seed} --trace");
    }
    println!("{}", total.summary(args.real));
    if total.failures.is_empty() {
        Ok(())
    } else {
        bail!("{} of {} seeds failed", total.failures.len(), total.seeds)
    }
}

/// One scenario, with what happens in it.
fn one(scenario: &Scenario, args: &Args) -> anyhow::Result<()> {
    if args.real {
        return one_real(scenario, args);
    }
    let outcome = world::run(scenario, args.trace);
    for line in &outcome.trace {
        println!("{line}");
    }
    let again = world::run(scenario, false);
    let Some(failure) = outcome.failure else {
        if again.fingerprint != outcome.fingerprint {
            bail!("determinism: two runs of the same scenario differ");
        }
        println!(
            "{} steps, {} calls on disks, no failure",
            outcome.steps, outcome.calls
        );
        return Ok(());
    };
    if !args.no_shrink {
        std::panic::set_hook(Box::new(|_| {}));
        let small = shrink::shrink(scenario);
        drop(std::panic::take_hook());
        println!("{}", serde_json::to_string_pretty(&small)?);
        for line in world::run(&small, true).trace {
            println!("{line}");
        }
    }
    bail!("{failure}")
}

/// The same with real processes.
fn one_real(scenario: &Scenario, args: &Args) -> anyhow::Result<()> {
    let outcome = real_run(scenario, args.trace);
    for line in &outcome.trace {
        println!("{line}");
    }
    let Some(failure) = outcome.failure else {
        println!("{} steps, no failure", outcome.steps);
        return Ok(());
    };
    if !args.no_shrink {
        let small = smaller(scenario, true);
        println!("{}", serde_json::to_string_pretty(&small)?);
    }
    bail!("{failure}")
}

/// A scenario with real processes: its calm form next to the simulation, and then as it is.
fn real_run(scenario: &Scenario, trace: bool) -> Outcome {
    let program = std::env::current_exe().expect("it has a path");
    let agreed = agree::agree(&program, scenario);
    if agreed.failure.is_some() || agree::calm(scenario) == *scenario {
        return agreed;
    }
    real::run(&program, scenario, trace)
}

fn real_seed(seed: u64) -> (Scenario, Outcome) {
    let peaceful = agree::calm(&generate::peaceful(seed));
    let outcome = real_run(&peaceful, false);
    if outcome.failure.is_some() {
        return (peaceful, outcome);
    }
    let scenario = generate::scenario(seed);
    let program = std::env::current_exe().expect("it has a path");
    let outcome = real::run(&program, &scenario, false);
    (scenario, outcome)
}

fn smaller(scenario: &Scenario, real: bool) -> Scenario {
    if real {
        shrink::shrink_real(scenario, |scenario| real_run(scenario, false).failure)
    } else {
        shrink::shrink(scenario)
    }
}

fn many(args: &Args) -> Total {
    let until = args
        .minutes
        .map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let seeds = args.seeds.unwrap_or(if args.real { 20 } else { 10_000 });
    let next = AtomicU64::new(args.from);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Total::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Real processes mostly wait for the disk.
    let threads = args
        .threads
        .unwrap_or(if args.real { 3 * cores } else { cores });
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let over = match until {
                        Some(until) => Instant::now() >= until,
                        None => seed >= args.from + seeds,
                    };
                    if over {
                        break;
                    }
                    let (scenario, outcome) = if args.real {
                        real_seed(seed)
                    } else {
                        checked(seed)
                    };
                    let mut total = total.lock().expect("nobody panics with it");
                    total.add(seed, scenario, outcome);
                    if total.failures.len() >= 100 {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    total.into_inner().expect("nobody panics with it")
}

/// Runs a seed; every fiftieth twice, which must be the same.
fn checked(seed: u64) -> (Scenario, Outcome) {
    let scenario = generate::scenario(seed);
    let mut outcome = world::run(&scenario, false);
    if seed.is_multiple_of(50) && outcome.failure.is_none() {
        let again = world::run(&scenario, false);
        if again.fingerprint != outcome.fingerprint {
            outcome.failure = Some("determinism: two runs of the same seed differ".into());
        }
    }
    (scenario, outcome)
}

impl Total {
    fn summary(&self, real: bool) -> String {
        let kinds = |kinds: &BTreeMap<&str, u64>| {
            let kinds = kinds.iter().map(|(kind, count)| format!("{count} {kind}"));
            kinds.collect::<Vec<_>>().join(", ")
        };
        let what = if real {
            format!("left out ({})", kinds(&self.skipped))
        } else {
            format!("{} calls on disks", self.calls)
        };
        format!(
            "{} seeds, {} steps, {what}, {} faults ({}), {} failures",
            self.seeds,
            self.steps,
            self.faults.values().sum::<u64>(),
            kinds(&self.faults),
            self.failures.len()
        )
    }

    fn add(&mut self, seed: u64, scenario: Scenario, outcome: Outcome) {
        self.seeds += 1;
        self.steps += outcome.steps;
        self.calls += outcome.calls;
        for (kind, count) in outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (kind, count) in outcome.skipped {
            *self.skipped.entry(kind).or_default() += count;
        }
        if let Some(failure) = outcome.failure {
            let _ = writeln!(std::io::stderr(), "seed {seed}: {failure}");
            self.failures.push((seed, failure, scenario));
            self.failures.sort_by_key(|(seed, ..)| *seed);
        }
        if self.seeds.is_multiple_of(1_000) {
            let _ = writeln!(std::io::stderr(), "{} seeds", self.seeds);
        }
    }
}
