//! `cargo fuzz-all [SECONDS]`: builds the program that libFuzzer drives, runs each target for that long, and
//! ends with a table of what was executed and what broke.

use anyhow::{Context, bail, ensure};
use clap::Parser;
use raspbox_fuzz::{TARGETS, Target};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;

/// What the compiler adds, so that the fuzzer sees which bytes lead where: what cargo-fuzz passes. All of it
/// is stable; the sanitizers aren't, and are of little use where there is no unsafe code.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// How long one input may take, in seconds: more than any takes on a busy machine.
const TIMEOUT_S: u32 = 60;

/// Looks for bytes that break a parser
#[derive(Debug, Parser)]
#[command(name = "cargo fuzz-all")]
struct Args {
    /// How long each target runs
    #[arg(default_value_t = 60)]
    seconds: u32,
    /// Only these targets
    #[arg(long, value_name = "TARGET")]
    only: Vec<String>,
    /// Try the bytes of this file alone, with the one target of --only
    #[arg(long, value_name = "FILE", conflicts_with = "seconds")]
    input: Option<PathBuf>,
    /// Begin as another run with this number did, so that what fails, fails again; without it, each looks
    /// elsewhere
    #[arg(long)]
    seed: Option<u32>,
    /// Put what led somewhere new among the seeds, the fewest files that do
    #[arg(long)]
    keep_seeds: bool,
}

/// What became of a target's run.
struct Outcome {
    executed: u64,
    /// Where the bytes are that broke it, if any did.
    broke: Vec<PathBuf>,
    /// What was printed, where it broke or didn't run.
    said: Option<String>,
}

fn main() -> ExitCode {
    let result = run(&Args::parse());
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing broke.
fn run(args: &Args) -> anyhow::Result<bool> {
    let targets = chosen(&args.only)?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz");
    let program = build(&folder)?;
    if let Some(input) = &args.input {
        let [target] = targets[..] else {
            bail!("--input goes with one --only");
        };
        let status = command(&program, &target).arg(input).status()?;
        return Ok(status.success());
    }
    println!(
        "{} targets, {} s each, {} at once",
        targets.len(),
        args.seconds,
        at_once()
    );
    let outcomes = all(&program, &folder, &targets, args)?;
    print_table(&targets, &outcomes);
    if args.keep_seeds {
        for target in &targets {
            keep_seeds(&program, &folder, target)?;
        }
    }
    Ok(outcomes.values().all(|outcome| outcome.said.is_none()))
}

fn chosen(only: &[String]) -> anyhow::Result<Vec<Target>> {
    if only.is_empty() {
        return Ok(TARGETS.to_vec());
    }
    only.iter()
        .map(|name| {
            let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>();
            Target::named(name)
                .with_context(|| format!("no target {name}, but {}", names().join(" ")))
        })
        .collect()
}

/// Builds the program that is all targets; in a folder of its own, since everything is compiled otherwise.
fn build(folder: &Path) -> anyhow::Result<PathBuf> {
    let host = host()?;
    let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--locked", "--profile=fuzz"])
        .args(["--package=raspbox-fuzz", "--features=libfuzzer"])
        .args(["--bin=fuzz-target", "--target", &host])
        .arg("--target-dir")
        .arg(folder)
        // Given a target, cargo keeps them from what runs while it builds.
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the fuzz targets can't be built");
    Ok(folder.join(host).join("fuzz/fuzz-target"))
}

/// This computer, as the compiler names it.
fn host() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output();
    let said = String::from_utf8(output.context("cannot run rustc")?.stdout)?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host
        .context("rustc doesn't say what this computer is")?
        .to_owned())
}

fn command(program: &Path, target: &Target) -> Command {
    let mut command = Command::new(program);
    command
        .env("RASPBOX_FUZZ", target.name)
        .env("RUST_BACKTRACE", "1")
        .args([
            format!("-max_len={}", target.len_max_bytes),
            format!("-timeout={TIMEOUT_S}"),
        ])
        .stdin(Stdio::null());
    command
}

fn at_once() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Runs each, as many at once as there are processors.
fn all(
    program: &Path,
    folder: &Path,
    targets: &[Target],
    args: &Args,
) -> anyhow::Result<BTreeMap<&'static str, Outcome>> {
    let waiting = Mutex::new(targets.iter());
    let outcomes = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once())
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    loop {
                        let next = waiting.lock().expect("nobody panics with it").next();
                        let Some(target) = next else {
                            return Ok(());
                        };
                        let outcome = one(program, folder, target, args)
                            .with_context(|| format!("cannot run {}", target.name))?;
                        let mut outcomes = outcomes.lock().expect("nobody panics with it");
                        outcomes.insert(target.name, outcome);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("it returns its errors")?;
        }
        anyhow::Ok(())
    })?;
    Ok(outcomes.into_inner().expect("nobody panics with it"))
}

fn one(program: &Path, folder: &Path, target: &Target, args: &Args) -> anyhow::Result<Outcome> {
    let (corpus, broken) = (
        corpus(folder, target),
        folder.join("broken").join(target.name),
    );
    fs::create_dir_all(&corpus)?;
    // Of this run alone.
    if broken.exists() {
        fs::remove_dir_all(&broken)?;
    }
    fs::create_dir_all(&broken)?;
    let output = command(program, target)
        .arg(format!("-max_total_time={}", args.seconds))
        // libFuzzer takes 0 for "any".
        .arg(format!("-seed={}", args.seed.unwrap_or(0)))
        .arg(format!("-artifact_prefix={}/", broken.display()))
        .arg("-print_final_stats=1")
        .arg(&corpus)
        .arg(target.seeds())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let executed = said
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .and_then(|number| number.trim().parse().ok());
    let mut broke = Vec::new();
    for file in fs::read_dir(&broken)? {
        broke.push(file?.path());
    }
    // One that executed nothing has shown nothing.
    let good =
        output.status.success() && broke.is_empty() && executed.is_some_and(|count| count > 0);
    Ok(Outcome {
        executed: executed.unwrap_or(0),
        broke,
        said: (!good).then_some(said),
    })
}

/// What the fuzzer has found so far that leads somewhere new, from one run to the next.
fn corpus(folder: &Path, target: &Target) -> PathBuf {
    folder.join("corpus").join(target.name)
}

fn print_table(targets: &[Target], outcomes: &BTreeMap<&str, Outcome>) {
    for target in targets {
        let outcome = &outcomes[target.name];
        if let Some(said) = &outcome.said {
            println!("\n{}:\n{said}", target.name);
        }
    }
    println!("\n{:<20} {:>12} {:>8}", "target", "executions", "crashes");
    for target in targets {
        let Outcome {
            executed,
            broke,
            said,
        } = &outcomes[target.name];
        // libFuzzer ends at the first one.
        let crashes = broke.len().max(usize::from(said.is_some()));
        println!("{:<20} {executed:>12} {crashes:>8}", target.name);
        for file in broke {
            println!(
                "  cargo fuzz-all --only {} --input {}",
                target.name,
                file.display()
            );
        }
    }
}

/// Puts into the seeds what the fuzzer has found and they don't reach yet.
fn keep_seeds(program: &Path, folder: &Path, target: &Target) -> anyhow::Result<()> {
    let output = command(program, target)
        .arg("-merge=1")
        .arg(target.seeds())
        .arg(corpus(folder, target))
        .output()?;
    ensure!(
        output.status.success(),
        "cannot merge the seeds of {}: {}",
        target.name,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
