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
        // Behind the name, which may hold anything, come the fields from the third on: utime, stime,
        // cutime and cstime are the 14th to the 17th.
        let (_, fields) = stat.rsplit_once(')').context("a stat has a name")?;
        let fields = fields.split_whitespace().skip(11).take(4);
        ticks += fields
            .filter_map(|field| field.parse::<u64>().ok())
            .sum::<u64>();
    }
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
    #[expect(clippy::cast_precision_loss, reason = "hours at most")]
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

/// A process and all below it.
fn family(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        all.extend(
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
        next += 1;
    }
    all
}
