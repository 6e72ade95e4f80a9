//! What a process holds: memory, descriptors, tasks.

use anyhow::{Context, ensure};
use raspbox_try::bed::{sessions, wait_for};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How long a process is left alone before it is looked at: its runtime ends threads that had nothing to do
/// for 10 s.
const REST: Duration = Duration::from_secs(15);

/// How many more descriptors there may be than before: the store keeps up to four connections of its database
/// for readers, and didn't need them all before perhaps. Each has three.
const DESCRIPTORS_SPARE: u64 = 12;

/// How many more tasks: threads that do what blocks come and go, also while nobody is there.
const TASKS_SPARE: u64 = 4;

/// How often it is looked at then; the least counts, since what it does while nobody comes is no leak.
const LOOKS: u32 = 20;

/// What a process holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
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
        let mut least = Figures::now(pid)?;
        for _ in 0..LOOKS {
            thread::sleep(Duration::from_millis(100));
            let now = Figures::now(pid)?;
            least = Figures {
                memory_kib: least.memory_kib.min(now.memory_kib),
                peak_kib: now.peak_kib,
                descriptors: least.descriptors.min(now.descriptors),
                tasks: least.tasks.min(now.tasks),
            };
        }
        Ok(least)
    }

    fn now(pid: u32) -> anyhow::Result<Figures> {
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
            memory_kib: kib("RssAnon:")?,
            peak_kib: kib("VmHWM:")?,
            descriptors: count("fd")?,
            tasks: count("task")?,
        })
    }

    /// Fails where there is more of anything than there was: thousands of sessions that leave something show.
    pub(crate) fn check(&self, after: &Figures, growth_max_kib: u64) -> anyhow::Result<()> {
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
        let grown = after.memory_kib.saturating_sub(self.memory_kib);
        ensure!(grown <= growth_max_kib, "memory grew by {grown} KiB");
        Ok(())
    }
}

/// Prints what was found before anything was used, once everything was, and from then on.
pub(crate) fn print(looks: &[Figures]) {
    println!(
        "{:<12} {:>12} {:>12} {:>12} {:>8}",
        "", "memory/KiB", "peak/KiB", "descriptors", "tasks"
    );
    for (number, figures) in looks.iter().enumerate() {
        let when = match number {
            0 => "at first".to_owned(),
            1 => "warmed up".to_owned(),
            later => format!("stretch {}", later - 1),
        };
        let Figures {
            memory_kib,
            peak_kib,
            descriptors,
            tasks,
        } = figures;
        println!("{when:<12} {memory_kib:>12} {peak_kib:>12} {descriptors:>12} {tasks:>8}");
    }
}
