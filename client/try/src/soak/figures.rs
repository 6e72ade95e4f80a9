//! What a process holds: memory, descriptors, tasks.

use anyhow::{Context, ensure};
use raspbox_try::bed::{LOG, sessions, wait_for};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How long a process is left alone before it is looked at: its runtime ends threads that had nothing to do
/// for 10 s.
const REST: Duration = Duration::from_secs(15);

/// How many more descriptors there may be than before: SQLite keeps a closed connection's for the next one while another
/// is open, so there are as many as connections were ever used at once. With tens of thousands of sessions, a leak
/// of one in a thousand shows.
const DESCRIPTORS_SPARE: u64 = 40;

/// How many more tasks: threads that do what blocks come and go, also while nobody is there.
const TASKS_SPARE: u64 = 4;

/// How much more memory may be in use. With thousands of sessions, each that leaves 1 KiB shows.
const IN_USE_SPARE_KIB: u64 = 2 << 10;

/// How much more memory the daemon may hold. What lies free between what is in use can't be given back but in whole
/// pages.
const HELD_SPARE_KIB: u64 = 16 << 10;

/// How often it is looked at then; the least counts, since what it does while nobody comes is no leak.
const LOOKS: u32 = 20;

/// What a process holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// What is in use of its own memory, as it says itself.
    in_use_kib: u64,
    /// Its own memory: what it has allocated and not given back.
    memory_kib: u64,
    /// The most that it ever held, its program included.
    peak_kib: u64,
    descriptors: u64,
    tasks: u64,
}

impl Figures {
    /// Looks at the daemon once nobody is there.
    pub(crate) fn at_rest(program: &Path, dir: &Path, pid: u32) -> anyhow::Result<Figures> {
        wait_for("all sessions to end", || {
            (sessions(program, dir).ok()? == 0).then_some(())
        })?;
        thread::sleep(REST);
        let in_use_kib = in_use_kib(dir)?;
        let mut least = Figures::now(pid, in_use_kib)?;
        for _ in 0..LOOKS {
            thread::sleep(Duration::from_millis(100));
            let now = Figures::now(pid, in_use_kib)?;
            least = Figures {
                in_use_kib,
                memory_kib: least.memory_kib.min(now.memory_kib),
                peak_kib: now.peak_kib,
                descriptors: least.descriptors.min(now.descriptors),
                tasks: least.tasks.min(now.tasks),
            };
        }
        Ok(least)
    }

    fn now(pid: u32, in_use_kib: u64) -> anyhow::Result<Figures> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("raspboxd ended")?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
            number
                .and_then(|number| number.parse().ok())
                .with_context(|| format!("no {name}"))
        };
        let count = |what: &str| {
            let entries = fs::read_dir(format!("/proc/{pid}/{what}"))?;
            anyhow::Ok(entries.count() as u64)
        };
        Ok(Figures {
            in_use_kib,
            memory_kib: kib("RssAnon:")?,
            peak_kib: kib("VmHWM:")?,
            descriptors: count("fd")?,
            tasks: count("task")?,
        })
    }

    /// Fails where there is more of anything than there was: thousands of sessions that leave something show.
    pub(crate) fn check(&self, after: &Figures) -> anyhow::Result<()> {
        ensure!(
            after.descriptors <= self.descriptors + DESCRIPTORS_SPARE,
            "descriptors leaked: {} more",
            after.descriptors - self.descriptors
        );
        ensure!(
            after.tasks <= self.tasks + TASKS_SPARE,
            "tasks leaked: {} more",
            after.tasks - self.tasks
        );
        let leaked = after.in_use_kib.saturating_sub(self.in_use_kib);
        ensure!(leaked <= IN_USE_SPARE_KIB, "memory leaked: {leaked} KiB");
        let grown = after.memory_kib.saturating_sub(self.memory_kib);
        ensure!(grown <= HELD_SPARE_KIB, "memory grew by {grown} KiB");
        Ok(())
    }
}

/// What the daemon said when nobody was there any more, and it had freed what it could.
fn in_use_kib(dir: &Path) -> anyhow::Result<u64> {
    let log = fs::read_to_string(dir.join(LOG))?;
    let said = log.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once("in_use_kib=")?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    });
    said.context("raspboxd doesn't say how much memory is in use; RUST_LOG must not be set")
}

/// Prints what was found before anything was used, once everything was, and from then on.
pub(crate) fn print(looks: &[Figures]) {
    println!(
        "{:<12} {:>11} {:>12} {:>12} {:>12} {:>8}",
        "", "in use/KiB", "memory/KiB", "peak/KiB", "descriptors", "tasks"
    );
    for (number, figures) in looks.iter().enumerate() {
        let when = match number {
            0 => "at first".to_owned(),
            1 => "warmed up".to_owned(),
            later => format!("stretch {}", later - 1),
        };
        let Figures {
            in_use_kib,
            memory_kib,
            peak_kib,
            descriptors,
            tasks,
        } = figures;
        println!(
            "{when:<12} {in_use_kib:>11} {memory_kib:>12} {peak_kib:>12} {descriptors:>12} {tasks:>8}"
        );
    }
}
