//! `cargo bench-count`: how many instructions the core, the protocol and the store take for pieces of
//! work, and whether that became more.
//!
//! Instructions are counted by valgrind's callgrind. They repeat within a fraction of a percent however
//! busy a machine is, which seconds don't, so that a table of them can be kept in the repository and
//! compared with on any machine. They say nothing of waiting: for a disk, for a network, for memory.

mod cases;

use anyhow::{Context, bail, ensure};
use cases::{ALL, Case};
use clap::Parser;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// How much dearer a case may be than the table says, in percent. Compilers, C libraries and processors
/// with other vector instructions make a difference of two or three.
const DEARER_MAX_PERCENT: u64 = 10;

/// Counts instructions and compares them with client/bench/counts.toml
#[derive(Debug, Parser)]
#[command(name = "cargo bench-count")]
struct Args {
    /// Only the cases whose name contains this
    #[arg(default_value = "")]
    filter: String,
    /// Write what is counted into the table
    #[arg(long)]
    save: bool,
    /// Do one case and count nothing: for callgrind, and for profilers
    #[arg(long, value_name = "CASE", conflicts_with = "save")]
    run: Option<String>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(name) = &args.run {
        let case = ALL.iter().find(|case| case.name == name);
        return case.with_context(|| format!("no case '{name}'"))?.run();
    }
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("counts.toml");
    let mut known = read_table(&table)?;
    let mut dearer = Vec::new();
    println!(
        "{:<42} {:>15} {:>12} {:>8}",
        "", "instructions", "each entry", "table"
    );
    for case in ALL.iter().filter(|case| case.name.contains(&args.filter)) {
        let counted = count(case)?;
        let each = counted / case.entries as u64;
        let change = known
            .get(case.name)
            .map(|&before| Change { before, counted });
        let said = change.map_or("new".to_owned(), |change| change.to_string());
        println!("{:<42} {counted:>15} {each:>12} {said:>8}", case.name);
        if change.is_none_or(Change::is_too_much) {
            dearer.push(case.name);
        }
        known.insert(case.name.to_owned(), counted);
    }
    if args.save {
        return write_table(&table, &known);
    }
    ensure!(
        dearer.is_empty(),
        "more than {DEARER_MAX_PERCENT} % dearer than {} says, or not in it: {}. If that is worth it, \
         say so with 'cargo bench-count --save'",
        table.display(),
        dearer.join(", ")
    );
    Ok(())
}

/// What a case took, and what it takes now.
#[derive(Debug, Clone, Copy)]
struct Change {
    before: u64,
    counted: u64,
}

impl Change {
    fn is_too_much(self) -> bool {
        self.counted > self.before + self.before / 100 * DEARER_MAX_PERCENT
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "for people, in percent")]
        let percent = (self.counted as f64 / self.before as f64 - 1.0) * 100.0;
        f.pad(&format!("{percent:+.1} %"))
    }
}

/// Runs one case under callgrind.
fn count(case: &Case) -> anyhow::Result<u64> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("counted");
    let output = Command::new(valgrind())
        .args(["--tool=callgrind", "--toggle-collect=*cases::measured*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(["--run", case.name])
        .output()
        .context("cannot run valgrind: run .ci/install as root")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{}: {said}\nWhere it says 'Function not implemented', valgrind is older than 3.24: run .ci/install",
        case.name
    );
    let counted = std::fs::read_to_string(&out)?;
    let total = counted
        .lines()
        .find_map(|line| line.strip_prefix("totals: "));
    match total.and_then(|total| total.trim().parse().ok()) {
        Some(total) if total > 0 => Ok(total),
        _ => bail!("{}: callgrind counted nothing", case.name),
    }
}

/// The one that .ci/install got, if any: before 3.24 it doesn't know openat2.
fn valgrind() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let own = workspace.join("target/peers/bin/valgrind");
    if own.exists() { own } else { "valgrind".into() }
}

fn read_table(path: &PathBuf) -> anyhow::Result<BTreeMap<String, u64>> {
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).with_context(|| path.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn write_table(path: &Path, table: &BTreeMap<String, u64>) -> anyhow::Result<()> {
    let mut text =
        "# Instructions that each case takes: 'cargo bench-count --save' writes this.\n".to_owned();
    for (name, count) in table {
        text += &format!("\"{name}\" = {count}\n");
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::{Change, cases};

    #[test]
    fn a_tenth_more_is_too_much_and_less_never_is() {
        let change = |counted| Change {
            before: 1_000,
            counted,
        };
        assert!(!change(1_100).is_too_much());
        assert!(change(1_101).is_too_much());
        assert!(!change(10).is_too_much());
        assert_eq!(change(1_050).to_string(), "+5.0 %");
    }

    #[test]
    fn every_case_does_its_work() {
        for case in cases::ALL {
            case.run()
                .unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
        }
    }
}
