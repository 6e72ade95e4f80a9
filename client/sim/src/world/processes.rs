//! The processes of the appliance and the workstations: starting, stopping, losing power.

use super::with;
use crate::disks;
use crate::place::{files_of, visible};
use crate::scenario::{Unsynced, Who};
use crate::server::SERVER;
use raspbox_protocol::Digest;
use raspbox_store::Store;

/// Runs something on the appliance's machine; whether it still runs afterwards is noted.
pub(crate) fn on_appliance<T>(f: impl FnOnce() -> T) -> T {
    let machine = with(|world| world.appliance.clone());
    let result = machine.on(f);
    let dead = with(|world| world.drive().is_some_and(disks::Drive::is_dead));
    if dead {
        SERVER.with_borrow_mut(|server| server.up = false);
    }
    result
}

/// Starts the appliance's process, if it can be.
pub(super) fn start_appliance() {
    let store = SERVER.with_borrow_mut(|server| {
        server.up = true;
        server.life += 1;
        server.store.take()
    });
    on_appliance(|| drop(store));
    open_store();
}

/// Opens the store on the drive that is there.
pub(super) fn open_store() {
    let Some(at) = with(|world| world.drive().map(|drive| drive.at(""))) else {
        return;
    };
    let opened = on_appliance(|| Store::open(&at, disks::store_options()));
    match opened {
        Ok(store) => SERVER.with_borrow_mut(|server| server.store = Some(store)),
        Err(error) => with(|world| world.say(|| format!("    the drive can't be used: {error}"))),
    }
}

/// Ends the appliance's process.
pub(super) fn stop_appliance() {
    let store = SERVER.with_borrow_mut(|server| {
        server.up = false;
        server.store.take()
    });
    on_appliance(|| drop(store));
}

/// Whatever died is put away, and what should run runs again.
pub(super) fn revive() {
    let dead = with(|world| world.drive().and_then(disks::Drive::death));
    if let Some(unsynced) = dead {
        power_cut_appliance(unsynced);
    }
    let up = SERVER.with_borrow(|server| server.up && server.store.is_some());
    if !up && with(|world| world.plugged.is_some()) {
        start_appliance();
    }
    let count = with(|world| world.stations.len());
    for number in 0..count {
        let dead = with(|world| world.stations[number].disk.death());
        if let Some(unsynced) = dead {
            power_cut(number, unsynced);
        }
    }
}

pub(super) fn power_cut_appliance(unsynced: Unsynced) {
    with(|world| {
        world.oracle.forgetful = true;
        world.kept.blink();
        if let Some(drive) = world.drive() {
            drive.crash(unsynced);
        }
    });
    stop_appliance();
    start_appliance();
}

pub(super) fn power_cut(number: usize, unsynced: Unsynced) {
    let engine = with(|world| {
        world.oracle.forgetful = true;
        let there = world
            .drive()
            .map(|drive| files_of(visible(drive.durable())));
        let station = &mut world.stations[number];
        let mut visible = station.disk.files("folder", false);
        visible.retain(|path, _| !station.unsynced.again.contains(path));
        let before = station.disk.files("folder", true);
        station.disk.crash(unsynced);
        station.dirty.clear();
        station.disk.tidy("folder");
        let after = station.disk.files("folder", true);
        let (lost, contents) = match unsynced {
            // Only the process ended: what its user didn't sync is still to be lost.
            Unsynced::Kept => Default::default(),
            Unsynced::Dropped | Unsynced::Some => {
                station.machine.reboot();
                station.unsynced.again.clear();
                (
                    std::mem::take(&mut station.unsynced.paths),
                    std::mem::take(&mut station.unsynced.contents),
                )
            }
        };
        let may_be_torn = |path: &str| {
            before
                .get(path)
                .is_some_and(|digest| contents.contains(digest))
                || lost.iter().any(|lost| is_in(path, lost))
        };
        let found = (station.engine.take(), station.machine.clone());
        let who = Who::Station(number);
        world.oracle.hold(who, &visible, &there.unwrap_or_default());
        world.oracle.torn(who, &after, &may_be_torn);
        let gone: Vec<Digest> = before
            .into_values()
            .filter(|digest| contents.contains(digest))
            .collect();
        world.excuse_unsynced(&gone);
        found
    });
    engine.1.on(|| drop(engine.0));
}

fn is_in(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(super) fn restart(number: usize) {
    let (engine, machine) = with(|world| {
        let station = &mut world.stations[number];
        station.dirty.clear();
        (station.engine.take(), station.machine.clone())
    });
    machine.on(|| drop(engine));
}
