//! `cargo bench-peers`: raspbox beside what its users would pick instead, in one run.
//!
//! All folders are in memory, and servers are all asked by the same client, our own. What is measured
//! is told as medians, and as ratios to the best of the others; a machine that does other things as well
//! slows them all down. So the rounds go around them all, and never one after the other.

mod client;
mod growth;
mod link;
mod meter;
#[path = "../../../tests/peers/mod.rs"]
mod peers;
mod programs;
mod server;
mod syncthing;
mod table;
mod usage;
mod wire;
mod work;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use link::{Link, Shape};
use programs::{Between, Program};
use server::Server;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;
use table::Table;
use wire::Network;
use work::Sizes;

/// Measures raspbox beside what its users would pick instead
#[derive(Debug, Parser)]
#[command(name = "cargo bench-peers")]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// raspboxd beside vsftpd, pure-ftpd, proftpd and pyftpdlib
    Server(How),
    /// raspbox beside rclone, lftp, Unison and Syncthing; as root
    Client(How),
    /// The same on a link like home Wi-Fi; as root
    Link(How),
    /// raspbox alone: how the cost grows with files and workstations; as root
    Growth(How),
}

/// How much is done
#[derive(Debug, Clone, clap::Args)]
struct How {
    /// Less of everything, and three rounds: to see that it works
    #[arg(long)]
    quick: bool,
    /// How often each thing is done
    #[arg(long)]
    rounds: Option<usize>,
    /// Raspbox, and of the others only whose name begins so; may be repeated, and `raspbox` is none of them
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

impl How {
    fn rounds(&self) -> anyhow::Result<usize> {
        let rounds = self.rounds.unwrap_or(if self.quick { 3 } else { 5 });
        ensure!(rounds > 0, "at least one round");
        Ok(rounds)
    }

    fn measures(&self, name: &str) -> bool {
        let is_ours = name.starts_with("raspbox");
        is_ours || self.only.is_empty() || self.only.iter().any(|only| name.starts_with(only))
    }

    /// The programs that are to be measured.
    fn programs(&self, between: Between<'_>) -> anyhow::Result<Vec<Program>> {
        let mut programs = Program::all(between);
        ensure!(
            programs.len() > 1,
            "there is nothing to compare with: run client/bench/install as root"
        );
        programs.retain(|program| self.measures(&program.name()));
        Ok(programs)
    }
}

/// Where the folders are: in memory, so that no disk is measured.
const MEMORY: &str = "/dev/shm";

fn main() -> ExitCode {
    if let Some(exit) = raspbox_try::bed::play() {
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
    if std::env::var_os("TMPDIR").is_none_or(|folder| folder != MEMORY) {
        let error = Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env("TMPDIR", MEMORY)
            .exec();
        return Err(error).context("cannot start anew with folders in memory");
    }
    match &args.what {
        What::Server(how) => {
            let sizes = if how.quick {
                Sizes::QUICK
            } else {
                Sizes::WHOLE
            };
            for encrypted in [true, false] {
                servers(encrypted, &sizes, how)?;
            }
        }
        What::Client(how) => {
            let sizes = if how.quick {
                client::Sizes::QUICK
            } else {
                client::Sizes::WHOLE
            };
            let (network, rounds) = (Network::new()?, how.rounds()?);
            let between = Between::Loopback(&network);
            let table = client::measure(&how.programs(between)?, between, &sizes, rounds)?;
            println!("\n### loopback, medians of {rounds}\n\n{table}");
        }
        What::Link(how) => {
            let sizes = if how.quick {
                client::Sizes::QUICK_LINK
            } else {
                client::Sizes::LINK
            };
            for lost_per_mille in [0, 10] {
                link(lost_per_mille, &sizes, how)?;
            }
        }
        What::Growth(how) => growth::measure(how.quick, how.rounds()?)?,
    }
    Ok(())
}

/// A link like home Wi-Fi.
fn link(lost_per_mille: u64, sizes: &client::Sizes, how: &How) -> anyhow::Result<()> {
    let link = Link::new(Shape {
        round_trip: Duration::from_millis(5),
        bits_per_second: 50_000_000,
        lost_per_mille,
    })?;
    let (round_trip, speed) = link.measured()?;
    let (between, rounds) = (Between::Ends(&link), how.rounds()?);
    let table = client::measure(&how.programs(between)?, between, sizes, rounds)?;
    println!(
        "\n### 50 Mbit/s, 5 ms there and back, {} % of the packets lost, medians of {rounds}\n\n\
         The link itself: {:.1} ms there and back, {speed:.2} MiB/s by one TCP connection\n\n{table}",
        lost_per_mille / 10,
        round_trip.as_secs_f64() * 1000.0
    );
    Ok(())
}

/// All servers, with TLS on both channels or on none.
fn servers(encrypted: bool, sizes: &Sizes, how: &How) -> anyhow::Result<()> {
    let rounds = how.rounds()?;
    let mut servers = Server::start_all(encrypted).context("cannot start the servers")?;
    servers.retain(|server| how.measures(server.name));
    let names: Vec<&str> = servers.iter().map(|server| server.name).collect();
    let mut table = Table::new(&names);
    for (n, server) in servers.iter().enumerate() {
        table.add(work::IDLE, n, server.memory_mib()?);
        work::prepare(server, sizes)?;
    }
    for round in 1..=rounds {
        for (n, server) in servers.iter().enumerate() {
            eprintln!("round {round} of {rounds}: {}", server.name);
            for (what, value) in work::round(server, sizes)? {
                table.add(what, n, value);
            }
        }
    }
    for (n, server) in servers.iter().enumerate() {
        let memory_mib = server.memory_of_sessions_mib(sizes.sessions)?;
        table.add(work::MANY_SESSIONS, n, memory_mib);
    }
    let channel = if encrypted { "TLS" } else { "plain" };
    println!("\n### {channel}, medians of {rounds}\n\n{table}");
    Ok(())
}
