//! `cargo try`: an appliance on loopback over a temporary folder, and two workstations that it keeps
//! the same.

use anyhow::Context;
use clap::Parser;
use raspbox_try::bed::{Appliance, Workstation, play, wait_for};
use raspbox_try::tree;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Tries raspbox on this machine: one appliance and two workstations, in temporary folders
#[derive(Debug, Parser)]
#[command(name = "cargo try")]
struct Args {
    /// What to sync; it is copied, never touched [default: a small tree made for it]
    folder: Option<PathBuf>,
    /// One round trip, compare both trees, and exit
    #[arg(long)]
    once: bool,
    /// Measure the time from saving a file on one workstation to its content on the other, over
    /// this many edits
    #[arg(long, value_name = "EDITS")]
    latency: Option<usize>,
}

fn main() -> ExitCode {
    if let Some(exit) = play() {
        return exit;
    }
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let dir = tempfile::Builder::new().prefix("raspbox-try-").tempdir()?;
    let dir = dir.path();
    println!(
        "everything is in {}, and goes away at the end",
        dir.display()
    );

    let appliance = Appliance::start(&program, dir)?;
    println!(
        "appliance   on 127.0.0.1:{}, its drive is {}",
        appliance.port,
        appliance.drive().display()
    );
    let laptop = Workstation::new(&program, dir, "laptop");
    let desktop = Workstation::new(&program, dir, "desktop");
    for workstation in [&laptop, &desktop] {
        workstation.pair(&appliance)?;
        println!(
            "{:<11} paired, its folder is {}",
            workstation.name,
            workstation.folder.display()
        );
    }
    match &args.folder {
        Some(folder) => {
            let size = tree::copy(folder, &laptop.folder)
                .with_context(|| format!("cannot copy {}", folder.display()))?;
            println!(
                "{:<11} has a copy of {}: {} files, {} MiB",
                "laptop",
                folder.display(),
                size.files,
                size.bytes >> 20
            );
        }
        None => tree::make_sample(&laptop.folder)?,
    }
    first_sync(&laptop)?;
    first_sync(&desktop)?;

    if let Some(edits) = args.latency {
        return latency(&laptop, &desktop, edits);
    }
    if args.once {
        return round_trip(&laptop, &desktop);
    }
    live(&appliance, &laptop, &desktop)
}

/// A sync whose progress a person sees.
fn first_sync(workstation: &Workstation) -> anyhow::Result<()> {
    println!("{:<11} syncs …", workstation.name);
    let begin = Instant::now();
    let status = workstation.command(&["sync"]).status()?;
    // 1: names or kinds of files that can't be synced; they were said, and the rest went.
    anyhow::ensure!(
        matches!(status.code(), Some(0 | 1)),
        "sync ended with {status}"
    );
    println!(
        "{:<11} took {:.1} s",
        workstation.name,
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}

/// There and back: what one makes the other gets, and the other way round.
fn round_trip(laptop: &Workstation, desktop: &Workstation) -> anyhow::Result<()> {
    tree::compare(&laptop.folder, &desktop.folder)?;
    std::fs::write(
        desktop.folder.join("from the desktop.txt"),
        "hello laptop\n",
    )?;
    first_sync(desktop)?;
    first_sync(laptop)?;
    let size = tree::compare(&laptop.folder, &desktop.folder)?;
    println!(
        "both have the same {} files, {} MiB",
        size.files,
        size.bytes >> 20
    );
    Ok(())
}

fn live(appliance: &Appliance, laptop: &Workstation, desktop: &Workstation) -> anyhow::Result<()> {
    let (stop, stopped) = channel();
    ctrlc::set_handler(move || {
        // Nobody waits for a second one.
        let _ = stop.send(());
    })?;
    let mut watches = Vec::new();
    for workstation in [laptop, desktop] {
        let mut watch = workstation.watch()?;
        let lines = BufReader::new(watch.stdout.take().expect("it was just started")).lines();
        let name = workstation.name.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                println!("{name:<11} {line}");
            }
        });
        watches.push(watch);
    }
    println!(
        "\nNow try it:\n  \
         echo hello >> {}/notes.txt\n  \
         cat {}/notes.txt\n  \
         curl --insecure --ssl-reqd --user raspbox:{} ftp://127.0.0.1:{}/\n\
         Ctrl-C ends it, and removes everything.\n",
        shell(&laptop.folder),
        shell(&desktop.folder),
        appliance.password,
        appliance.port
    );
    // The sender lives as long as the handler.
    stopped.recv()?;
    println!("stopping");
    for watch in &mut watches {
        // Ctrl-C reached them as well; then they have ended by themselves.
        drop(watch.stop());
    }
    Ok(())
}

/// From saving a file on one workstation to its content on the other, both in `watch`.
fn latency(laptop: &Workstation, desktop: &Workstation, edits: usize) -> anyhow::Result<()> {
    let (mut here, mut there) = (laptop.watch()?, desktop.watch()?);
    here.ready()?;
    there.ready()?;
    let mut times: Vec<Duration> = Vec::with_capacity(edits);
    for edit in 0..edits {
        let content = format!("edit {edit}\n");
        let name = format!("edited {}.txt", edit % 10);
        let target = desktop.folder.join(&name);
        let begin = Instant::now();
        std::fs::write(laptop.folder.join(&name), &content)?;
        wait_for("the edit to arrive", || {
            has(&target, &content).then_some(())
        })?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_millis();
    println!(
        "save to content on the other side, {edits} edits: p50 {} ms, p99 {} ms, most {} ms (of which \
         {} ms waiting for the file to be quiet)",
        at(50),
        at(99),
        at(100),
        raspbox::watch::QUIET.as_millis()
    );
    Ok(())
}

fn has(path: &Path, content: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|found| found == content)
}

/// A path as a shell takes it.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    if text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
    {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
