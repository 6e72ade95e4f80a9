//! The end: everything is put right, and what came of it is judged.

use super::processes::{restart, revive, start_appliance, stop_appliance};
use super::rounds::round;
use super::steps::{plug, unplug, wait};
use super::{Station, with};
use crate::disks;
use crate::scenario::{Look, Sync, Who};
use crate::server::{self, SERVER};
use raspbox::engine::SyncError;
use raspbox::report::Summary;
use raspbox_beneath::sim::Node;
use raspbox_core::guard::Halt;
use raspbox_protocol::Digest;
use std::collections::BTreeSet;
use std::time::Duration;

/// How many rounds of all workstations it may take until everything is quiet.
const ROUNDS_MAX: usize = 12;

/// Puts everything right, syncs until nothing happens any more, and looks at what came of it.
pub(super) fn settle() -> Result<(), String> {
    revive();
    with(|world| {
        for station in &mut world.stations {
            for denied in std::mem::take(&mut station.denied) {
                station.disk.deny(&format!("folder/{denied}"), false);
            }
        }
    });
    if with(|world| world.plugged != Some(0)) {
        unplug();
        plug(0);
    }
    // What somebody wrote on the drive is found when it is scanned.
    stop_appliance();
    start_appliance();
    for (id, station, bytes) in SERVER.with_borrow_mut(|server| std::mem::take(&mut server.late)) {
        drop(server::take_commit(id, station, &bytes));
    }
    let count = with(|world| world.stations.len());
    let mut problems = BTreeSet::new();
    for round_number in 0.. {
        wait(Duration::from_secs(10));
        let mut quiet = true;
        problems.clear();
        for station in 0..count {
            let summary = calm_round(station)?;
            quiet &= !summary.changed_anything()
                && summary.sent_bytes == 0
                && summary.received_bytes == 0;
            problems.extend(summary.problems.iter().map(|p| p.path.to_string()));
            problems.extend(summary.unsyncable.into_iter().map(|(name, _)| name));
        }
        if quiet {
            break;
        }
        if round_number >= ROUNDS_MAX {
            return Err("quiescence: it goes on and on".into());
        }
    }
    with(|world| {
        world.integrity();
        let everywhere = world.everywhere(false);
        let verdict = world.oracle.no_loss(&everywhere);
        world.judge(verdict);
        let drive = world.drive().expect("plugged in above").clone();
        let verdict = converged(&world.stations, &drive, &problems);
        world.judge(verdict);
        let files = drive.files("", false);
        let verdict = world.oracle.no_resurrection(&files);
        world.judge(verdict);
        world.oracle.settled();
        for number in 0..world.stations.len() {
            let files = world.stations[number].disk.files("folder", false);
            world.oracle.sees(Who::Station(number), &files);
        }
        match &world.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    })
}

/// A round in which nothing goes wrong and everything is confirmed.
fn calm_round(station: usize) -> Result<Summary, String> {
    let sync = Sync {
        station,
        look: Look::Everywhere,
        confirmed: true,
        faults: Vec::new(),
    };
    let done = round(&sync, true).expect("nothing dies");
    match done {
        Ok(summary) => Ok(summary),
        // It had lost its memory while another drive was in: somebody pairs it anew.
        Err(SyncError::Halt(Halt::DriveChanged { .. })) => {
            restart(station);
            with(|world| {
                world.oracle.forgetful = true;
                world.stations[station].disk.empty("state");
            });
            match round(&sync, true).expect("nothing dies") {
                Ok(summary) => Ok(summary),
                Err(error) => Err(format!("station {station} does not recover: {error}")),
            }
        }
        Err(error) => Err(format!("station {station} does not recover: {error}")),
    }
}

/// Invariant: all sides have the same, but for what a side can't hold and says so.
fn converged(
    stations: &[Station],
    drive: &disks::Drive,
    problems: &BTreeSet<String>,
) -> Result<(), String> {
    let there = drive.tree("");
    let excused = |path: &str| {
        problems.iter().any(|problem| {
            let (problem, path) = (disks::folded(problem), disks::folded(path));
            path == problem
                || path.starts_with(&format!("{problem}/"))
                || problem.starts_with(&format!("{path}/"))
        })
    };
    // What should move to a name that can't be held stays where it was, on one side.
    let stuck: BTreeSet<Digest> = stations
        .iter()
        .map(|station| station.disk.files("folder", false))
        .chain([drive.files("", false)])
        .flatten()
        .filter(|(path, _)| excused(path))
        .map(|(_, digest)| digest)
        .collect();
    let is_stuck = |path: &str, node: &Node, side: &disks::Tree| match disks::digest(node) {
        Some(digest) => stuck.contains(&digest),
        // A folder is where something in it is.
        None => {
            let below = format!("{path}/");
            let mut in_it = side.iter().filter(|(path, _)| path.starts_with(&below));
            in_it.any(|(_, node)| disks::digest(node).is_some_and(|d| stuck.contains(&d)))
        }
    };
    for (number, station) in stations.iter().enumerate() {
        let here = station.disk.tree("folder");
        for (path, node) in &there {
            let same = disks::same(here.get(path), Some(node), &station.disk, drive);
            if !same && !is_stuck(path, node, &there) && !excused(path) {
                return Err(format!(
                    "convergence: {path} is {} on the drive and {} on station {number}",
                    disks::describe(Some(node)),
                    disks::describe(here.get(path))
                ));
            }
        }
        let only_here = here.iter().find(|(path, node)| {
            !there.contains_key(*path) && !excused(path) && !is_stuck(path, node, &here)
        });
        if let Some((path, _)) = only_here {
            return Err(format!(
                "convergence: {path} is only on station {number}: {}",
                disks::describe(here.get(path))
            ));
        }
    }
    Ok(())
}
