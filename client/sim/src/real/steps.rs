//! The steps of a scenario, as far as reality can take them.

use super::appliance::{copy_database, remove_database};
use super::rounds::round;
use super::settle::settle;
use super::{Shared, World};
use crate::scenario::{Scenario, Step};
use anyhow::Context;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// The longest wait that is waited: a moment more than a file needs to be quiet.
const WAIT_MAX: Duration = Duration::from_millis(150);

pub(super) fn play(shared: &Shared, scenario: &Scenario) -> anyhow::Result<()> {
    // Everybody is paired.
    settle(shared)?;
    for step in &scenario.steps {
        {
            let mut world = shared.lock();
            world.say(|| format!("{step:?}"));
            world.outcome.steps += 1;
            world.start_appliance()?;
        }
        take(shared, step)?;
        let mut world = shared.lock();
        world.look_around();
        if world.outcome.failure.is_some() {
            return Ok(());
        }
    }
    settle(shared)?;
    shared.lock().look_around();
    Ok(())
}

fn take(shared: &Shared, step: &Step) -> anyhow::Result<()> {
    let mut world = shared.lock();
    match step {
        Step::Wait(ms) => {
            let time = Duration::from_millis(*ms);
            if time > WAIT_MAX {
                world.skip("a long wait");
            }
            wait(time.min(WAIT_MAX));
        }
        Step::Edit(who, edit) => world.edit(*who, edit)?,
        Step::Restore(..) => world.skip("a restore"),
        Step::Rot(_) => world.skip("a file that rots"),
        Step::Idle => world.skip("an idle appliance"),
        Step::Sync(sync) => {
            drop(world);
            round(shared, sync)?;
        }
        // Between two rounds there is no process.
        Step::Restart(_) => {}
        Step::PowerCut(..) => world.skip("power cut between two rounds"),
        Step::AppliancePowerCut(_) => {
            world.fault("appliance killed");
            world.kill_appliance()?;
            world.start_appliance()?;
        }
        Step::ApplianceRestart => world.on_stopped(None, |_| Ok(()))?,
        Step::Unplug => world.unplug()?,
        Step::Plug => {
            let number = world.plugged.unwrap_or(0);
            world.plug(number)?;
        }
        Step::Swap => {
            world.fault("drive swapped");
            let other = usize::from(world.plugged == Some(0));
            world.unplug()?;
            world.plug(other)?;
        }
        Step::Backup => world.back_up()?,
        Step::RestoreBackup => world.restore_backup()?,
        Step::LoseJournal => world.lose_journal()?,
        Step::SaveJournal => world.save_journal()?,
        Step::RollBackJournal => world.roll_back_journal()?,
        Step::LoseState(number) => {
            world.fault("database lost");
            world.lose_state(*number)?;
        }
        Step::SaveState(number) => {
            let (from, to) = (world.state(*number)?, world.copy_of_state(*number));
            copy_database(&from, "sync.db", &to)?;
            world.stations[*number].has_copy = true;
        }
        Step::RollBackState(number) => {
            if world.stations[*number].has_copy {
                world.fault("database rolled back");
                world.oracle.forgetful = true;
                let (from, to) = (world.copy_of_state(*number), world.state(*number)?);
                copy_database(&from, "sync.db", &to)?;
            }
        }
        // The judge reads the same folders as the same user.
        Step::Deny(..) => world.skip("folder unreadable"),
        Step::Clock(..) => world.skip("clock jumped"),
        Step::Settle => {
            drop(world);
            settle(shared)?;
        }
    }
    Ok(())
}

/// Time passes. It is what a scenario says, and not to wait for something.
pub(super) fn wait(time: Duration) {
    std::thread::sleep(time);
}

impl World {
    /// A client forgets what was in sync.
    pub(super) fn lose_state(&mut self, number: usize) -> anyhow::Result<()> {
        self.oracle.forgetful = true;
        remove_database(&self.state(number)?, "sync.db")
    }

    /// Where a client keeps what it knows of its one pairing.
    fn state(&self, number: usize) -> anyhow::Result<PathBuf> {
        let mut pairs = fs::read_dir(&self.stations[number].workstation.state_dir)?;
        let is_pair = |path: &PathBuf| path.join("pair.toml").exists();
        let pair = pairs.find_map(|entry| Some(entry.ok()?.path()).filter(is_pair));
        pair.context("it isn't paired")
    }

    fn copy_of_state(&self, number: usize) -> PathBuf {
        self.at(&format!("copy of state {number}"))
    }
}
