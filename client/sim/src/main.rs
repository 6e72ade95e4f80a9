//! `cargo sim`: runs scenarios until one fails or all are through.

use anyhow::{Context, bail};
use clap::Parser;
use raspbox_sim::scenario::Scenario;
use raspbox_sim::world::{self, Outcome};
use raspbox_sim::{generate, shrink};
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
    /// How many seeds.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
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
    /// Print what happens.
    #[arg(long)]
    trace: bool,
    /// Don't look for a smaller scenario that fails alike.
    #[arg(long)]
    no_shrink: bool,
    /// How many threads; as many as there are cores unless said.
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
    failures: Vec<(u64, String)>,
}

fn main() -> ExitCode {
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
    if let Some(seed) = args.seed {
        return one(&generate::scenario(seed), &args);
    }
    // A failing seed's panic is reported with its seed, not in between.
    std::panic::set_hook(Box::new(|_| {}));
    let total = many(&args);
    drop(std::panic::take_hook());
    for (seed, failure) in total.failures.iter().take(10) {
        println!("seed {seed}: {failure}");
    }
    if let Some((seed, _)) = total.failures.first()
        && !args.no_shrink
    {
        std::panic::set_hook(Box::new(|_| {}));
        let small = shrink::shrink(&generate::scenario(*seed));
        drop(std::panic::take_hook());
        println!("seed {seed}, made smaller:");
        println!("{}", serde_json::to_string_pretty(&small)?);
        println!("again, with all that happens: cargo sim --seed {seed} --trace");
    }
    let faults: Vec<String> = total
        .faults
        .iter()
        .map(|(k, n)| format!("{n} {k}"))
        .collect();
    println!(
        "{} seeds, {} steps, {} calls on disks, {} faults ({}), {} failures",
        total.seeds,
        total.steps,
        total.calls,
        total.faults.values().sum::<u64>(),
        faults.join(", "),
        total.failures.len()
    );
    if total.failures.is_empty() {
        Ok(())
    } else {
        bail!("{} of {} seeds failed", total.failures.len(), total.seeds)
    }
}

/// One scenario, with what happens in it.
fn one(scenario: &Scenario, args: &Args) -> anyhow::Result<()> {
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

fn many(args: &Args) -> Total {
    let until = args
        .minutes
        .map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let next = AtomicU64::new(args.from);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Total::default());
    let threads = args
        .threads
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let over = match until {
                        Some(until) => Instant::now() >= until,
                        None => seed >= args.from + args.seeds,
                    };
                    if over {
                        break;
                    }
                    let outcome = checked(seed);
                    let mut total = total.lock().expect("nobody panics with it");
                    total.add(seed, outcome);
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
fn checked(seed: u64) -> Outcome {
    let scenario = generate::scenario(seed);
    let mut outcome = world::run(&scenario, false);
    if seed.is_multiple_of(50) && outcome.failure.is_none() {
        let again = world::run(&scenario, false);
        if again.fingerprint != outcome.fingerprint {
            outcome.failure = Some("determinism: two runs of the same seed differ".into());
        }
    }
    outcome
}

impl Total {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.seeds += 1;
        self.steps += outcome.steps;
        self.calls += outcome.calls;
        for (kind, count) in outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        if let Some(failure) = outcome.failure {
            let _ = writeln!(std::io::stderr(), "seed {seed}: {failure}");
            self.failures.push((seed, failure));
            self.failures.sort();
        }
        if self.seeds.is_multiple_of(1_000) {
            let _ = writeln!(std::io::stderr(), "{} seeds", self.seeds);
        }
    }
}
