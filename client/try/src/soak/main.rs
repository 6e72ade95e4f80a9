//! `cargo soak`: very many clients at once, most of which misbehave, against a real appliance on loopback;
//! at the end nothing has leaked and every file that was acknowledged is whole.
//!
//! Visitors ([`visitor`]) speak FTP over TLS from an address of their own each, cut what they began, vanish,
//! guess, read slowly, leave ports open. Beside them some real computers sync the same drive, edit, and are
//! killed. A watcher sees that somebody who behaves is served all the time.

mod chance;
mod computers;
mod figures;
mod session;
mod tally;
mod visitor;
mod watcher;

use anyhow::{Context, ensure};
use clap::Parser;
use figures::Figures;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use raspbox::remote::Digest256;
use raspbox::remote::connection::{Endpoint, Tls};
use raspbox::remote::pairing;
use raspbox_try::bed::{Appliance, play};
use session::Door;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tally::Tally;
use visitor::Visitor;

/// Has very many clients misbehave, and looks what an appliance has lost or kept of it
#[derive(Debug, Parser)]
#[command(name = "cargo soak")]
struct Args {
    /// For how long, after a sixth of it to warm up
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// How many visitors at once
    #[arg(long, default_value_t = 200)]
    clients: u16,
    /// What they do by chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// How many computers sync the same drive, each of them killed now and then.
const COMPUTERS: usize = 3;

/// How many devices the visitors log in as; the others share them.
const DEVICES: u64 = 16;

/// In how many parts the time is cut, with a look at what the daemon holds after each: a leak grows in all of
/// them, a heap that fills in the first.
const STRETCHES: u32 = 4;

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
    allow_many_descriptors()?;
    let program = std::env::current_exe()?;
    let dir = tempfile::Builder::new().prefix("raspbox-soak-").tempdir()?;
    let dir = dir.path();
    let config = dir.join("soak.toml");
    // Room for all of them, the computers and the watcher; and for the sessions of those who have gone, each
    // of which has some seconds to end.
    let sessions = 2 * usize::from(args.clients) + 32;
    std::fs::write(&config, format!("[limits]\nmax_sessions = {sessions}\n"))?;
    let drive = dir.join("drive");
    for number in 0..args.clients {
        std::fs::create_dir_all(drive.join(visitor::FOLDER).join(number.to_string()))?;
    }
    std::fs::write(drive.join(visitor::BIG), vec![7; visitor::BIG_BYTES])?;
    let config = config.to_str().context("a temporary folder in UTF-8")?;
    let mut appliance = Appliance::start_silently(&program, dir, &["--config", config])?;
    println!(
        "{} clients for {} s and {} s, seed {}; raspboxd is process {}",
        args.clients,
        args.seconds / 6,
        args.seconds,
        args.seed,
        appliance.pid()
    );
    let door = Arc::new(door(&appliance)?);
    let mut visitors: Vec<Visitor> = (0..args.clients)
        .map(|number| Visitor::new(number, args.seed, Arc::clone(&door)))
        .collect();
    let mut computers = computers::pair(&program, dir, &appliance, COMPUTERS)?;

    let tally = Tally::default();
    let figures = |appliance: &Appliance| Figures::at_rest(&program, dir, appliance.pid());
    let first = figures(&appliance)?;
    let warm = Duration::from_secs(args.seconds / 6);
    let mut slowest = stretch(&door, &mut visitors, &mut computers, &tally, warm)?;
    let before = figures(&appliance)?;
    let mut looks = vec![first, before];
    let length = Duration::from_secs(args.seconds) / STRETCHES;
    for _ in 0..STRETCHES {
        let visited = stretch(&door, &mut visitors, &mut computers, &tally, length)?;
        slowest = slowest.max(visited);
        looks.push(figures(&appliance)?);
    }

    tally.print();
    println!("served all the time; the slowest visit of somebody who behaves took {slowest:.1?}");
    figures::print(&looks);
    let whole = visitor::check(&visitors, &drive)?;
    let synced = computers::converge(&mut computers, &drive)?;
    println!(
        "{whole} files of visitors are as they were acknowledged, {} of computers as they were saved, {} of them \
         as conflict copies",
        synced.files, synced.copies
    );
    let after = looks.last().expect("the first is in it");
    before.check(after)?;
    tally.check()?;
    let status = appliance.stop()?;
    ensure!(status.success(), "raspboxd ended with {status}");
    Ok(())
}

/// Has everybody come and go for so long; returns how long the slowest visit took of who behaves.
fn stretch(
    door: &Arc<Door>,
    visitors: &mut [Visitor],
    computers: &mut [computers::Computer],
    tally: &Tally,
    length: Duration,
) -> anyhow::Result<Duration> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = &stop;
        for visitor in visitors {
            thread::Builder::new()
                .stack_size(256 << 10)
                .spawn_scoped(scope, move || visitor.come_and_go(stop, tally))?;
        }
        let watched = scope.spawn(|| watcher::watch(door, stop));
        let synced: Vec<_> = computers
            .iter_mut()
            .map(|computer| scope.spawn(|| computer.live(stop, tally)))
            .collect();
        let end = Instant::now() + length;
        while Instant::now() < end && !watched.is_finished() {
            thread::sleep(Duration::from_millis(100));
        }
        stop.store(true, Ordering::Relaxed);
        for computer in synced {
            computer.join().expect("it returns its errors")?;
        }
        watched.join().expect("it returns its errors")
    })
}

/// Where everybody connects, and as whom.
fn door(appliance: &Appliance) -> anyhow::Result<Door> {
    let fingerprint: Digest256 = appliance.fingerprint.parse().map_err(anyhow::Error::msg)?;
    let at = Endpoint {
        host: "127.0.0.1".into(),
        port: appliance.port,
        user: "raspbox".into(),
        secret: appliance.password.clone(),
        tls: Tls::Pinned(fingerprint),
    };
    let mut logins = vec![(at.user.clone(), at.secret.clone())];
    for device in 0..DEVICES {
        let endpoint = pairing::pair(&at, &format!("visitor {device}"))?.endpoint(&at);
        logins.push((endpoint.user, endpoint.secret));
    }
    Ok(Door::new(appliance.port, fingerprint, logins))
}

/// For two sockets of each client here, and what a session takes there: the daemon inherits it.
fn allow_many_descriptors() -> anyhow::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot have more descriptors")
}

/// What a file is called, for messages.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
