//! The appliance's process and its drives.

use super::World;
use super::folder::{self, Folder};
use crate::place::{OWN, Place};
use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use raspbox::remote::connection::{Endpoint, Tls};
use raspbox_try::bed::{Appliance, wait_for};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// How an ordinary FTP client logs in.
pub(super) fn endpoint(appliance: &Appliance) -> anyhow::Result<Endpoint> {
    let fingerprint = appliance.fingerprint.parse();
    let fingerprint = fingerprint.map_err(|_| anyhow::anyhow!("no fingerprint"))?;
    Ok(Endpoint {
        host: "127.0.0.1".into(),
        port: appliance.port,
        user: "raspbox".into(),
        secret: appliance.password.clone(),
        tls: Tls::Pinned(fingerprint),
    })
}

impl World {
    /// Starts the process, where a drive is there.
    pub(super) fn start_appliance(&mut self) -> anyhow::Result<()> {
        if self.plugged.is_some() && !self.up {
            self.appliance.restart().context("raspboxd")?;
            self.up = true;
        }
        Ok(())
    }

    /// Asks the process to end.
    pub(super) fn stop_appliance(&mut self) -> anyhow::Result<()> {
        // It would wait for it.
        self.ftp = None;
        if std::mem::take(&mut self.up) {
            let status = self.appliance.stop()?;
            anyhow::ensure!(status.success(), "raspboxd ended with {status}");
        }
        Ok(())
    }

    /// Ends the process at once.
    pub(super) fn kill_appliance(&mut self) -> anyhow::Result<()> {
        self.oracle.forgetful = true;
        self.ftp = None;
        if std::mem::take(&mut self.up) {
            self.appliance.kill()?;
        }
        Ok(())
    }

    /// Changes something on the drive while nobody uses it.
    pub(super) fn on_stopped(
        &mut self,
        fault: Option<&'static str>,
        change: impl FnOnce(&mut World) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.stop_appliance()?;
        if let Some(kind) = fault {
            self.fault(kind);
            self.oracle.forgetful = true;
        }
        change(self)?;
        self.start_appliance()
    }

    /// Where a drive is while it isn't plugged in.
    pub(super) fn parked(&self, number: usize) -> PathBuf {
        self.at(&format!("drive.{number}"))
    }

    /// The drive goes, and the appliance's power with it: a folder can't be pulled out from under a
    /// running process.
    pub(super) fn unplug(&mut self) -> anyhow::Result<()> {
        self.kill_appliance()?;
        if let Some(number) = self.plugged.take() {
            self.fault("drive unplugged");
            fs::rename(self.appliance.drive(), self.parked(number))?;
        }
        Ok(())
    }

    pub(super) fn plug(&mut self, number: usize) -> anyhow::Result<()> {
        if self.plugged.is_some() {
            return Ok(());
        }
        let drive = self.appliance.drive();
        match fs::rename(self.parked(number), &drive) {
            // Nothing was ever on it.
            Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir(drive)?,
            renamed => renamed?,
        }
        self.plugged = Some(number);
        self.start_appliance()
    }

    /// Copies the whole drive while nothing on it moves.
    pub(super) fn back_up(&mut self) -> anyhow::Result<()> {
        let Some(Folder(drive)) = self.drive() else {
            return Ok(());
        };
        let copy = self.at("backup");
        Folder(self.at("")).remove_all("backup")?;
        self.has_backup = true;
        self.frozen(|_| Ok(folder::copy(&drive, &copy)?))
    }

    pub(super) fn restore_backup(&mut self) -> anyhow::Result<()> {
        if !self.has_backup || self.plugged != Some(0) {
            return Ok(());
        }
        self.on_stopped(Some("drive restored"), |world| {
            let drive = world.appliance.drive();
            fs::remove_dir_all(&drive)?;
            folder::copy(&world.at("backup"), &drive)?;
            // What was only on it is gone, and nobody can help that.
            let all: Vec<_> = world.oracle.kept().copied().collect();
            world.excuse(&all);
            Ok(())
        })
    }

    pub(super) fn save_journal(&mut self) -> anyhow::Result<()> {
        self.on_stopped(None, |world| {
            let Some(Folder(drive)) = world.drive() else {
                return Ok(());
            };
            world.has_journal = true;
            copy_database(&drive.join(OWN), "journal.db", &world.at("journal"))
        })
    }

    pub(super) fn lose_journal(&mut self) -> anyhow::Result<()> {
        self.on_stopped(Some("journal lost"), |world| match world.drive() {
            Some(Folder(drive)) => remove_database(&drive.join(OWN), "journal.db"),
            None => Ok(()),
        })
    }

    pub(super) fn roll_back_journal(&mut self) -> anyhow::Result<()> {
        self.on_stopped(Some("journal rolled back"), |world| {
            match (world.has_journal, world.plugged, world.drive()) {
                (true, Some(0), Some(Folder(drive))) => {
                    copy_database(&world.at("journal"), "journal.db", &drive.join(OWN))
                }
                _ => Ok(()),
            }
        })
    }

    /// Does something while the appliance's process stands still.
    fn frozen<T>(
        &mut self,
        act: impl FnOnce(&mut World) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        if !self.up {
            return act(self);
        }
        let id = self.appliance.pid();
        let pid = Pid::from_raw(i32::try_from(id)?);
        kill(pid, Signal::SIGSTOP)?;
        // proc(5): the state is the first letter behind the name in parentheses.
        let stat = PathBuf::from(format!("/proc/{id}/stat"));
        wait_for("raspboxd to stand still", || {
            let text = fs::read_to_string(&stat).ok()?;
            text.rsplit_once(") ")?.1.starts_with('T').then_some(())
        })?;
        let result = act(self);
        kill(pid, Signal::SIGCONT)?;
        result
    }
}

/// The files of an SQLite database.
fn files_of_database(name: &str) -> [String; 3] {
    ["", "-wal", "-shm"].map(|end| format!("{name}{end}"))
}

/// Removes a database.
pub(super) fn remove_database(folder: &Path, name: &str) -> anyhow::Result<()> {
    for file in files_of_database(name) {
        Folder(folder.to_owned()).remove_all(&file)?;
    }
    Ok(())
}

/// Puts a copy of a database into another folder, in place of the one that is there.
pub(super) fn copy_database(from: &Path, name: &str, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    remove_database(to, name)?;
    for file in files_of_database(name) {
        match fs::copy(from.join(&file), to.join(&file)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            copied => drop(copied?),
        }
    }
    Ok(())
}
