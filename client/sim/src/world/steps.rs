//! The steps of a scenario.

use super::edits::carry_out;
use super::idle::{idle, restore_any, rot};
use super::processes::{
    open_store, power_cut, power_cut_appliance, restart, revive, start_appliance, stop_appliance,
};
use super::rounds::round;
use super::settle::settle;
use super::{World, on_appliance, with};
use crate::disks;
use crate::place::Place;
use crate::scenario::{Scenario, Step, Unsynced};
use crate::server::SERVER;
use raspbox_protocol::Digest;
use std::time::Duration;

pub(super) fn play(scenario: &Scenario) -> Result<(), String> {
    with(|world| world.plugged = Some(0));
    with(|world| world.drives[0].mount());
    start_appliance();
    // Everybody is paired.
    settle()?;
    for step in &scenario.steps {
        with(|world| {
            world.say(|| format!("{step:?}"));
            world.outcome.steps += 1;
        });
        revive();
        take(step)?;
        with(World::integrity);
        with(World::watch);
        with(World::look_around);
        if let Some(failure) = with(|world| world.failure.clone()) {
            return Err(failure);
        }
    }
    settle()?;
    with(World::look_around);
    Ok(())
}

fn take(step: &Step) -> Result<(), String> {
    match step {
        Step::Wait(ms) => wait(Duration::from_millis(*ms)),
        Step::Edit(who, edit) => carry_out(*who, edit),
        Step::Sync(sync) => drop(round(sync, false)),
        Step::Restart(number) => restart(*number),
        Step::PowerCut(number, unsynced) => {
            with(|world| world.fault("power cut"));
            power_cut(*number, *unsynced);
        }
        Step::AppliancePowerCut(unsynced) => {
            with(|world| world.fault("power cut"));
            power_cut_appliance(*unsynced);
        }
        Step::ApplianceRestart => {
            stop_appliance();
            start_appliance();
        }
        Step::Unplug => unplug(),
        Step::Plug => plug(with(|world| world.plugged.unwrap_or(0))),
        Step::Swap => {
            with(|world| world.fault("drive swapped"));
            let other = with(|world| usize::from(world.plugged == Some(0)));
            unplug();
            plug(other);
        }
        Step::Backup => with(|world| {
            world.backup = world.drive().map(disks::Drive::copy);
        }),
        Step::RestoreBackup => restore_backup(),
        Step::LoseJournal => on_stopped(Some("journal lost"), |world| {
            if let Some(drive) = world.drive() {
                drive.lose_journal();
            }
        }),
        Step::SaveJournal => on_stopped(None, |world| {
            world.journal_copy = world.drive().map(disks::Drive::save_journal);
        }),
        Step::RollBackJournal => on_stopped(Some("journal rolled back"), |world| {
            if let (Some(copy), Some(0), Some(drive)) =
                (&world.journal_copy, world.plugged, world.drive())
            {
                drive.restore_journal(copy);
            }
        }),
        Step::LoseState(number) => {
            restart(*number);
            with(|world| {
                world.fault("database lost");
                world.oracle.forgetful = true;
                world.stations[*number].disk.empty("state");
            });
        }
        Step::SaveState(number) => {
            restart(*number);
            with(|world| {
                let station = &mut world.stations[*number];
                station.saved = Some(station.disk.save("state"));
            });
        }
        Step::RollBackState(number) => {
            restart(*number);
            with(|world| {
                let station = &world.stations[*number];
                if let Some(saved) = &station.saved {
                    station.disk.restore("state", saved);
                    world.fault("database rolled back");
                    world.oracle.forgetful = true;
                }
            });
        }
        Step::Deny(number, path, on) => with(|world| {
            let station = &mut world.stations[*number];
            station.disk.deny(&format!("folder/{path}"), *on);
            if !station.disk.access("folder").exists(path) {
                return;
            }
            if *on {
                station.denied.insert(path.clone());
                world.fault("folder unreadable");
            } else {
                station.denied.remove(path);
            }
        }),
        Step::Clock(who, seconds) => with(|world| {
            world.fault("clock jumped");
            let machine = match who.checked_sub(1) {
                None => &world.appliance,
                Some(station) => &world.stations[station].machine,
            };
            machine.jump(*seconds);
        }),
        Step::Restore(number, version) => restore_any(*number, *version),
        Step::Rot(number) => rot(*number),
        Step::Idle => idle(),
        Step::Settle => return settle(),
    }
    Ok(())
}

pub(super) fn wait(time: Duration) {
    with(|world| {
        world.appliance.wait(time);
        for station in &world.stations {
            station.machine.wait(time);
        }
    });
}

pub(super) fn unplug() {
    let unplugged = with(|world| {
        let drive = world.drive()?;
        drive.unplug();
        world.fault("drive unplugged");
        Some(())
    });
    if unplugged.is_none() {
        return;
    }
    let store = SERVER.with_borrow_mut(|server| server.store.take());
    on_appliance(|| drop(store));
    with(|world| {
        if let Some(drive) = world.drive() {
            drive.crash(Unsynced::Some);
            drive.unmount();
        }
        world.oracle.forgetful = true;
        world.kept.blink();
        world.plugged = None;
    });
}

pub(super) fn plug(number: usize) {
    if with(|world| world.plugged.is_some()) {
        return;
    }
    with(|world| {
        world.plugged = Some(number);
        world.drives[number].mount();
        world.drives[number].plug();
    });
    SERVER.with_borrow_mut(|server| server.up = true);
    open_store();
}

/// Changes something on the drive while nobody uses it.
fn on_stopped(fault: Option<&'static str>, change: impl FnOnce(&mut World)) {
    stop_appliance();
    with(|world| {
        if let Some(kind) = fault {
            world.fault(kind);
            world.oracle.forgetful = true;
            world.kept.forget();
        }
        change(world);
    });
    start_appliance();
}

fn restore_backup() {
    if with(|world| world.backup.is_none() || world.plugged != Some(0)) {
        return;
    }
    on_stopped(Some("drive restored"), |world| {
        let backup = world.backup.as_ref().expect("looked for above");
        world.drives[0].restore_whole(backup);
        world.oracle.let_go();
        // What was only on it is gone, and nobody can help that.
        let all: Vec<Digest> = world.oracle.kept().copied().collect();
        world.excuse(&all);
    });
}
