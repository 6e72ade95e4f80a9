//! `growth`: how what raspbox costs grows with files and with workstations, and how often it waits for
//! the drive.

use crate::client::{Layout, USUAL, fill, fill_as};
use crate::programs::{Between, Pair, Program};
use crate::table::{Row, Table};
use crate::usage;
use crate::wire::Network;
use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use raspbox_try::bed::{Appliance, Workstation, wait_for};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

const FIRST: Row = Row::cost("first sync, each file", "µs");
const FIRST_HERE: Row = Row::cost("… processor time of the client", "µs");
const FIRST_THERE: Row = Row::cost("… of the daemon", "µs");
const FIRST_WRITTEN: Row = Row::cost("… what the daemon writes for it", "bytes");
const SAME: Row = Row::cost("nothing changed, each file", "µs");
const SAME_HERE: Row = Row::cost("… the client's processor time", "µs");
const SAME_THERE: Row = Row::cost("… the daemon's", "µs");
const MOVED: Row = Row::cost("all moved with their folder, each file", "µs");
const MOVED_WRITTEN: Row = Row::cost("… what the daemon writes for it then", "bytes");
const MEMORY_HERE: Row = Row::cost("the client's memory at most", "MiB");
const MEMORY_THERE: Row = Row::cost("the daemon's, by its part", "MiB");
const TOGETHER: Row = Row::cost("all bring new files at once, each file", "µs");
const ARRIVED: Row = Row::cost("… until all have all of them, each file", "µs");
const THEIR_THERE: Row = Row::cost(
    "… the daemon's processor time for each that was brought",
    "µs",
);

/// More than that are measured in one round only: they take minutes.
const OFTEN_MAX: usize = 100_000;

/// How many new files each workstation brings.
const BROUGHT: usize = 500;

/// How many files are in the batch whose syncs are counted.
const BATCH: usize = 1_000;

/// Measures and prints it all.
pub(crate) fn measure(quick: bool, rounds: usize) -> anyhow::Result<()> {
    let sizes: &[usize] = if quick {
        &[100, 1_000]
    } else {
        &[1_000, 10_000, 100_000, 1_000_000]
    };
    let network = Network::new()?;
    let mut table = Table::of_ours(sizes);
    for round in 1..=rounds {
        for (n, files) in sizes.iter().enumerate() {
            if round > 1 && *files > OFTEN_MAX {
                continue;
            }
            eprintln!("round {round} of {rounds}: {files} files");
            let mut add = |row, value| table.add(row, n, value);
            of_files(&network, *files, USUAL, &mut add)?;
        }
    }
    println!("\n### by number of files, medians of {rounds}\n\n{table}");

    let files = if quick { 1_000 } else { 10_000 };
    let layouts = [
        ("all in one", Layout::Each(files)),
        ("100 in each", Layout::Each(100)),
        ("10 in each", Layout::Each(10)),
        ("each in its own", Layout::Each(1)),
        ("10 deep", Layout::Deep(10)),
        ("100 deep", Layout::Deep(100)),
    ];
    let names: Vec<&str> = layouts.iter().map(|(name, _)| *name).collect();
    let mut table = Table::of_ours(&names);
    for round in 1..=rounds {
        for (n, (name, layout)) in layouts.into_iter().enumerate() {
            eprintln!("round {round} of {rounds}: {name}");
            let mut add = |row, value| table.add(row, n, value);
            of_files(&network, files, layout, &mut add)?;
        }
    }
    println!("\n### {files} files by folders, medians of {rounds}\n\n{table}");

    let counts: &[usize] = if quick { &[1, 2] } else { &[1, 2, 4, 8, 16] };
    let mut table = Table::of_ours(counts);
    for round in 1..=rounds {
        for (n, workstations) in counts.iter().enumerate() {
            eprintln!("round {round} of {rounds}: {workstations} workstations");
            of_workstations(*workstations, &mut |row, value| table.add(row, n, value))?;
        }
    }
    println!("\n### by number of workstations, medians of {rounds}\n\n{table}");
    println!("\n### waits for the drive, {BATCH} new files in one sync\n");
    for line in syncs(&network)? {
        println!("    {line}");
    }
    Ok(())
}

/// A first sync of so many, one with nothing to do, and one after they were moved.
fn of_files(
    network: &Network,
    files: usize,
    layout: Layout,
    add: &mut impl FnMut(Row, f64),
) -> anyhow::Result<()> {
    let pair = Pair::start(Program::Raspbox, Between::Loopback(network))?;
    fill_as(layout, &pair.here.join("new"), files)?;
    let rows = [
        [FIRST, FIRST_HERE, FIRST_THERE],
        [SAME, SAME_HERE, SAME_THERE],
    ];
    for [row, row_here, row_there] in rows {
        let (here, there) = (usage::children_cpu_s()?, usage::cpu_s(pair.server_pid())?);
        let written = usage::written_bytes(pair.server_pid())?;
        let cost = pair.sync()?;
        add(row, each(cost.seconds, files));
        if row == FIRST {
            add(FIRST_WRITTEN, written_since(&pair, written, files)?);
        }
        add(row_here, each(usage::children_cpu_s()? - here, files));
        let there = usage::cpu_s(pair.server_pid())? - there;
        add(row_there, each(there, files));
        if row == FIRST {
            // The next one is told once more what this one did, and that isn't measured.
            pair.sync()?;
        } else {
            add(MEMORY_HERE, cost.here_mib);
            add(MEMORY_THERE, cost.there_mib);
        }
    }
    fs::rename(pair.here.join("new"), pair.here.join("moved"))?;
    let written = usage::written_bytes(pair.server_pid())?;
    add(MOVED, each(pair.sync()?.seconds, files));
    add(MOVED_WRITTEN, written_since(&pair, written, files)?);
    ensure!(pair.there.join("moved").exists(), "not moved");
    Ok(())
}

/// So many workstations with one appliance, each with new files.
fn of_workstations(count: usize, add: &mut impl FnMut(Row, f64)) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let own = std::env::current_exe()?;
    let appliance = Appliance::start_silently(&own, dir.path(), &[])?;
    let workstations: Vec<Workstation> = (0..count)
        .map(|n| Workstation::new(&own, dir.path(), &format!("computer {n}")))
        .collect();
    for (n, workstation) in workstations.iter().enumerate() {
        workstation.pair(&appliance)?;
        workstation.sync()?;
        fill(&workstation.folder.join(format!("of {n}")), BROUGHT)?;
    }
    let before = usage::cpu_s(appliance.pid())?;
    let begin = Instant::now();
    let files = BROUGHT * count;
    for row in [TOGETHER, ARRIVED] {
        std::thread::scope(|scope| {
            let syncs: Vec<_> = workstations
                .iter()
                .map(|workstation| scope.spawn(|| workstation.sync()))
                .collect();
            syncs
                .into_iter()
                .try_for_each(|sync| sync.join().expect("it doesn't panic"))
        })?;
        add(row, each(begin.elapsed().as_secs_f64(), files));
    }
    let there = usage::cpu_s(appliance.pid())? - before;
    add(THEIR_THERE, each(there, files));
    Ok(())
}

/// What strace counts of the daemon's and the client's calls that wait for a disk.
fn syncs(network: &Network) -> anyhow::Result<Vec<String>> {
    let pair = Pair::start(Program::Raspbox, Between::Loopback(network))?;
    pair.sync()?;
    fill(&pair.here.join("new"), BATCH)?;
    let dir = tempfile::tempdir()?;
    let log = dir.path().join("strace");
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-U", "name,calls"])
        .args([
            "-e",
            "trace=fsync,fdatasync,sync_file_range,syncfs,sync,msync",
        ])
        .arg("-o")
        .arg(&log)
        .args(["-p", &pair.server_pid().to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("strace is not installed: run client/bench/install as root")?;
    let status = format!("/proc/{}/status", pair.server_pid());
    wait_for("strace", || {
        let status = fs::read_to_string(&status).ok()?;
        (!status.contains("TracerPid:\t0\n")).then_some(())
    })?;
    pair.sync()?;
    kill(Pid::from_raw(i32::try_from(strace.id())?), Signal::SIGINT)?;
    strace.wait()?;
    let counted = fs::read_to_string(log)?;
    ensure!(
        counted.contains("sync"),
        "strace counted nothing: {counted}"
    );
    Ok(counted.lines().map(str::to_owned).collect())
}

/// What the daemon has written since then, for each file in bytes.
#[expect(clippy::cast_precision_loss, reason = "less than a PiB")]
fn written_since(pair: &Pair<'_>, before: u64, files: usize) -> anyhow::Result<f64> {
    let written = usage::written_bytes(pair.server_pid())? - before;
    Ok(written as f64 / files as f64)
}

/// Of so many seconds, in microseconds.
#[expect(clippy::cast_precision_loss, reason = "thousands")]
fn each(seconds: f64, files: usize) -> f64 {
    seconds * 1e6 / files as f64
}
