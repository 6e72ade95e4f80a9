//! `cargo bench-peers`: raspboxd beside the FTP servers that its users would pick instead, in one run.
//!
//! All serve a folder in memory on loopback, and all are asked by the same client, our own. What is measured
//! is told as medians, and as ratios to the best of the others; a machine that does other things as well
//! slows them all down. So the rounds go around the servers, and never one server after the other.

#[path = "../../../tests/peers/mod.rs"]
mod peers;
mod server;
mod table;
mod usage;
mod work;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use server::Server;
use std::process::{Command, ExitCode};
use table::Table;
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
}

/// How much is done
#[derive(Debug, Clone, Copy, clap::Args)]
struct How {
    /// Less of everything, and three rounds: to see that it works
    #[arg(long)]
    quick: bool,
    /// How often each thing is done
    #[arg(long)]
    rounds: Option<usize>,
}

impl How {
    fn rounds(self) -> anyhow::Result<usize> {
        let rounds = self.rounds.unwrap_or(if self.quick { 3 } else { 5 });
        ensure!(rounds > 0, "at least one round");
        Ok(rounds)
    }
}

/// Where the folders are: in memory, so that no disk is measured.
const MEMORY: &str = "/dev/shm";

fn main() -> ExitCode {
    if let Some(exit) = raspbox_try::bed::play() {
        return exit;
    }
    match run(&Args::parse()) {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if std::env::var_os("TMPDIR").is_none_or(|folder| folder != MEMORY) {
        let again = Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env("TMPDIR", MEMORY)
            .status()?;
        return Ok(if again.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    match args.what {
        What::Server(how) => {
            let sizes = if how.quick {
                Sizes::QUICK
            } else {
                Sizes::WHOLE
            };
            for encrypted in [true, false] {
                servers(encrypted, &sizes, how.rounds()?)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// All servers, with TLS on both channels or on none.
fn servers(encrypted: bool, sizes: &Sizes, rounds: usize) -> anyhow::Result<()> {
    let servers = Server::start_all(encrypted).context("cannot start the servers")?;
    let mut table = Table::new(servers.iter().map(|server| server.name).collect());
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
