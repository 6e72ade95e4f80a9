//! The end: everything is put right, and what came of it is judged.

use super::idle::{check_kept, idle};
use super::processes::{on_appliance, restart, revive, start_appliance, stop_appliance};
use super::rounds::round;
use super::steps::{plug, unplug, wait};
use super::with;
use crate::alike::Side;
use crate::disks;
use crate::place::digest;
use crate::scenario::{Look, Sync};
use crate::server::{self, SERVER};
use raspbox::engine::SyncError;
use raspbox::report::Summary;
use raspbox::scan::WRITEBACK_MAX;
use raspbox_beneath::sim::Node;
use raspbox_core::guard::Halt;
use raspbox_protocol::damage::Place;
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
    // What rotted is known then, and given to nobody.
    idle();
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
    problems.extend(held_as_damaged()?);
    rest(count)?;
    check_kept()?;
    with(|world| {
        world.integrity();
        let everywhere = world.everywhere(false);
        let drive = world.drive().expect("plugged in above");
        let drive = drive.side("the drive", "");
        let stations: Vec<Side> = (world.stations.iter().enumerate())
            .map(|(number, station)| station.disk.side(&format!("station {number}"), "folder"))
            .collect();
        // It looks as before where its times didn't come to the disk: that only `verify` finds.
        for station in &stations {
            let torn = station.tree.iter().filter(|(path, node)| {
                digest(node).is_some_and(|digest| world.oracle.is_torn(&digest))
                    && drive
                        .tree
                        .get(*path)
                        .is_some_and(|there| look_alike(node, there))
            });
            problems.extend(torn.map(|(path, _)| path.clone()));
        }
        let verdict = (world.oracle).at_the_end(&everywhere, &drive, &stations, &problems);
        world.judge(verdict);
        match &world.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    })
}

/// Whether two files have the same size and time.
fn look_alike(a: &Node, b: &Node) -> bool {
    let look = |node: &Node| match node {
        Node::File { content, mtime, .. } => Some((content.len(), *mtime)),
        Node::Folder | Node::Symlink(_) => None,
    };
    look(a).is_some_and(|look_of_a| look(b) == Some(look_of_a))
}

/// Nothing happens for so long that hashes may be believed; then each sync is ended, and begins anew with what it
/// remembers.
fn rest(count: usize) -> Result<(), String> {
    wait(WRITEBACK_MAX + Duration::from_secs(10));
    for station in 0..count {
        if calm_round(station)?.changed_anything() {
            return Err(format!(
                "quiescence: station {station} changes something at rest"
            ));
        }
        restart(station);
    }
    Ok(())
}

/// What the appliance holds back because its content changed and nothing else did. Where times are coarse,
/// an edit of the same size on the drive itself, within one tick of the write before, looks like that. Else
/// nothing may be held but what rotted.
fn held_as_damaged() -> Result<Vec<String>, String> {
    let store = SERVER.with_borrow(|server| server.store.clone());
    let store = store.ok_or("no store after all was put right")?;
    let damages = on_appliance(|| store.damages()).map_err(|error| error.to_string())?;
    let places = damages.into_iter().map(|damage| damage.place);
    let paths = places.filter_map(|place| match place {
        Place::File { path, .. } => Some(path.to_string()),
        Place::Kept => None,
    });
    let paths: Vec<String> = paths.collect();
    let coarse = with(|world| world.drive().is_some_and(disks::Drive::is_coarse));
    let files = with(|world| world.drive().map(|drive| drive.files("", false)));
    let files = files.unwrap_or_default();
    let rotten = |path: &&String| {
        let digest = files.get(*path);
        digest.is_some_and(|digest| with(|world| world.kept.is_rotten(digest)))
    };
    match paths.iter().find(|path| !rotten(path)) {
        Some(path) if !coarse => Err(format!("no damage: {path} is held as damaged")),
        Some(_) | None => Ok(paths),
    }
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
