//! What a server and all its processes have used, by what the kernel says in /proc (proc(5)).

use anyhow::Context;
use std::fs;

/// Processor time of a process and of everything that it has started, in seconds.
pub(crate) fn cpu_s(root: u32) -> anyhow::Result<f64> {
    let mut ticks = 0;
    for pid in family(root) {
        // It may have ended just now; then its parent has its time.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let [own, ended] = times(&stat)?;
        ticks += own + ended;
    }
    seconds(ticks)
}

/// Processor time of all that this process has started and seen the end of, in seconds.
pub(crate) fn children_cpu_s() -> anyhow::Result<f64> {
    let [_, ended] = times(&fs::read_to_string("/proc/self/stat")?)?;
    seconds(ended)
}

/// What a process has given the system to write, to files mostly, in bytes.
pub(crate) fn written_bytes(pid: u32) -> anyhow::Result<u64> {
    let counts = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let line = counts.lines().find_map(|line| line.strip_prefix("wchar: "));
    Ok(line.context("no wchar in io")?.parse()?)
}

/// A process's own ticks and those of its children that have ended.
fn times(stat: &str) -> anyhow::Result<[u64; 2]> {
    // Behind the name, which may hold anything, come the fields from the third on: utime, stime,
    // cutime and cstime are the 14th to the 17th.
    let (_, fields) = stat.rsplit_once(')').context("a stat has a name")?;
    let fields = fields.split_whitespace().skip(11).take(4);
    let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>()?;
    match ticks[..] {
        [user, system, ended_user, ended_system] => Ok([user + system, ended_user + ended_system]),
        _ => anyhow::bail!("a stat with {} times", ticks.len()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "hours at most")]
fn seconds(ticks: u64) -> anyhow::Result<f64> {
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
    Ok(ticks as f64 / per_second.context("the kernel's clock has ticks")? as f64)
}

/// Memory of a process and of everything that it has started, in MiB: what is shared by several counts
/// for each by its part.
pub(crate) fn memory_mib(root: u32) -> anyhow::Result<f64> {
    let mut kib = 0;
    for pid in family(root) {
        let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
            continue;
        };
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib += value
            .context("no Pss in smaps_rollup")?
            .trim()
            .parse::<u64>()?;
    }
    #[expect(clippy::cast_precision_loss, reason = "less than a PiB")]
    Ok(kib as f64 / 1024.0)
}

/// The most memory that one process ever had, in MiB, what it shares with others included.
pub(crate) fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib = value.context("no VmHWM in status")?.trim().parse::<u32>()?;
    Ok(f64::from(kib) / 1024.0)
}

/// A process and all below it, whichever of its threads has started them.
fn family(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        // Whoever has ended meanwhile has no children.
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children"));
            let children = children.unwrap_or_default();
            let pids = children.split_whitespace().map(str::parse::<u32>);
            all.extend(pids.flatten());
        }
        next += 1;
    }
    all
}
