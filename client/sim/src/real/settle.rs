//! The end: everything is put right, and what came of it is judged.

use super::Shared;
use super::rounds::{Report, round};
use super::steps::wait;
use crate::scenario::{Look, Sync};
use anyhow::{Context, bail};
use raspbox::scan::QUIET;
use std::collections::BTreeSet;

/// How many rounds of all workstations it may take until everything is quiet.
const ROUNDS_MAX: usize = 12;

/// Puts everything right, syncs until nothing happens any more, and looks at what came of it.
pub(super) fn settle(shared: &Shared) -> anyhow::Result<()> {
    let count = {
        let mut world = shared.lock();
        if world.plugged != Some(0) {
            world.unplug()?;
            world.plug(0)?;
        }
        // What somebody wrote on the drive is found when it is scanned.
        world.on_stopped(None, |_| Ok(()))?;
        world.stations.len()
    };
    let mut stuck = BTreeSet::new();
    for round_number in 0.. {
        // What was just written is left alone until then.
        wait(QUIET);
        let mut quiet = true;
        let mut problems = Vec::new();
        for station in 0..count {
            let report = calm_round(shared, station)?;
            quiet &= report.is_quiet();
            problems.extend(report.list("problems"));
        }
        if quiet {
            // Two spellings of one name are all that may be left.
            for problem in problems {
                let Some((path, _)) = problem.split_once(" can't be synced: ") else {
                    bail!("quiescence: a problem remains: {problem}");
                };
                stuck.insert(path.to_owned());
            }
            break;
        }
        if round_number >= ROUNDS_MAX {
            bail!("quiescence: it goes on and on");
        }
    }
    let mut world = shared.lock();
    let everywhere = world.everywhere(false);
    let mut sides = world.sides();
    let drive = sides.pop().context("the drive is plugged in")?;
    let verdict = (world.oracle).at_the_end(&everywhere, &drive, &sides, &stuck);
    world.judge(verdict);
    Ok(())
}

/// A round in which nothing goes wrong and everything is confirmed.
fn calm_round(shared: &Shared, station: usize) -> anyhow::Result<Report> {
    let sync = Sync {
        station,
        look: Look::Everywhere,
        confirmed: true,
        faults: Vec::new(),
    };
    let mut report = round(shared, &sync)?.context("nobody kills it")?;
    if report.is_other_drive() {
        // It had lost its memory while another drive was in: somebody pairs it anew.
        shared.lock().lose_state(station)?;
        report = round(shared, &sync)?.context("nobody kills it")?;
    }
    if report.is_done() {
        return Ok(report);
    }
    bail!("station {station} does not recover: {}", report.words())
}
