//! The same scenarios on real folders, by a real `raspboxd` and real `raspbox` processes.
//!
//! What people do to files and what must hold of them is the simulation's own code; here it works on
//! folders of this computer. A death is a `kill -9`, so that what a program had handed to the kernel
//! stays; what reality can't do at all (other clocks, other disks) is left out and counted.
//!
//! The programs are built with the feature `sim`, as all are that are built together with the
//! simulation. It adds a second disk, clock and randomness that are used in a thread which has
//! entered a simulated computer, and by paths on which it has mounted a simulated disk; no process
//! here does either, so each call goes to the kernel by the same code as without the feature.

mod appliance;
mod folder;
mod ftp;
mod rounds;
mod settle;
mod steps;
mod tracer;

use crate::alike::Side;
use crate::oracle::Oracle;
use crate::outcome::{self, Outcome};
use crate::place::{Files, Place, TICK, carry_out, confirmed, files_of, visible};
use crate::scenario::{Edit, How, Scenario, Who};
use anyhow::Context;
use folder::Folder;
use ftp::{Ftp, Not};
use raspbox_protocol::Digest;
use raspbox_try::bed::{Appliance, Workstation};
pub use rounds::hold;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A run that is under way.
struct World {
    appliance: Appliance,
    // Removed after the process in it has ended.
    dir: tempfile::TempDir,
    /// Whether its process should run.
    up: bool,
    /// Which drive is in it; the first is the one of the pairing.
    plugged: Option<usize>,
    has_backup: bool,
    has_journal: bool,
    stations: Vec<Station>,
    ftp: Option<Ftp>,
    oracle: Oracle,
    trace: bool,
    outcome: Outcome,
}

struct Station {
    workstation: Workstation,
    has_copy: bool,
}

/// It is shared with what carries out edits in the middle of a round.
#[derive(Clone)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, World> {
        // A failure is a panic or an error, and ends the run either way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a scenario; `program` plays the parts, see [`raspbox_try::bed::play`].
#[must_use]
pub fn run(program: &Path, scenario: &Scenario, trace: bool) -> Outcome {
    let world = match World::new(program, scenario, trace) {
        Ok(world) => world,
        Err(error) => {
            return Outcome {
                failure: Some(format!("it did not begin: {error:#}")),
                ..Outcome::default()
            };
        }
    };
    let shared = Shared(Arc::new(Mutex::new(world)));
    let played = steps::play(&shared, scenario);
    let mut world = shared.lock();
    if let Err(error) = played {
        world.judge(Err(format!("{error:#}")));
    }
    std::mem::take(&mut world.outcome)
}

impl World {
    fn new(program: &Path, scenario: &Scenario, trace: bool) -> anyhow::Result<World> {
        let dir = tempfile::Builder::new().prefix("raspbox-real-").tempdir()?;
        let appliance = Appliance::start(program, dir.path())?;
        let mut stations = Vec::new();
        for number in 0..scenario.stations.len() {
            let name = format!("station{number}");
            let workstation = Workstation::new(program, dir.path(), &name);
            workstation.pair(&appliance)?;
            stations.push(Station {
                workstation,
                has_copy: false,
            });
        }
        let mut world = World {
            dir,
            appliance,
            up: true,
            plugged: Some(0),
            has_backup: false,
            has_journal: false,
            stations,
            ftp: None,
            oracle: Oracle::default(),
            trace,
            outcome: Outcome::default(),
        };
        let disks = scenario.stations.iter().chain([&scenario.drive]);
        for _ in disks.filter(|disk| **disk != crate::scenario::Disk::Ext4) {
            world.skip("another kind of disk");
        }
        Ok(world)
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if self.trace {
            self.outcome.trace.push(line());
        }
    }

    fn fault(&mut self, kind: &'static str) {
        *self.outcome.faults.entry(kind).or_default() += 1;
        self.say(|| format!("    ! {kind}"));
    }

    /// Notes something that can't be done here.
    fn skip(&mut self, kind: &'static str) {
        *self.outcome.skipped.entry(kind).or_default() += 1;
        self.say(|| format!("    (left out: {kind})"));
    }

    /// Remembers the first thing that was wrong.
    fn judge(&mut self, verdict: Result<(), String>) {
        if let Err(failure) = verdict {
            self.say(|| format!("    FAILURE {failure}"));
            self.outcome.failure.get_or_insert(failure);
        }
    }

    /// A path in the run's own folder.
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn station(&self, number: usize) -> Folder {
        Folder(self.stations[number].workstation.folder.clone())
    }

    /// The drive that is plugged in.
    fn drive(&self) -> Option<Folder> {
        self.plugged.map(|_| Folder(self.appliance.drive()))
    }

    /// All contents that can still be had by somebody.
    fn everywhere(&self, also_hidden: bool) -> BTreeSet<Digest> {
        let mut all = BTreeSet::new();
        for number in 0..self.stations.len() {
            let tree = self.station(number).tree();
            let tree = if also_hidden { tree } else { visible(tree) };
            all.extend(files_of(tree).into_values());
        }
        let parked = [0, 1].map(|number| Folder(self.parked(number)));
        for drive in self.drive().into_iter().chain(parked) {
            all.extend(files_of(confirmed(drive.tree())).into_values());
        }
        all
    }

    /// Lets go of what nobody has any more, of which nobody but its owner is to blame.
    fn excuse(&mut self, destroyed: &[Digest]) {
        let all = self.everywhere(true);
        for digest in destroyed {
            if !all.contains(digest) {
                self.say(|| "    (its last copy)".into());
                self.oracle.destroyed(digest);
            }
        }
    }

    fn sides(&self) -> Vec<Side> {
        let side = |whose: String, folder: &Folder| Side {
            whose,
            tree: visible(folder.tree()),
            keeps_bits: true,
        };
        let drive = self.drive();
        let drive = drive.map(|folder| side("the drive".into(), &folder));
        (0..self.stations.len())
            .map(|number| side(format!("station {number}"), &self.station(number)))
            .chain(drive)
            .collect()
    }

    /// Invariants that hold at any time; and notes what everybody has, where that was asked for.
    fn look_around(&mut self) {
        let mut seen = outcome::Seen::new();
        for side in self.sides() {
            outcome::add_to(&mut seen, &side.whose, &side.tree);
            let verdict = (self.oracle).integrity(&side.whose, &files_of(side.tree));
            self.judge(verdict);
        }
        if self.trace {
            self.outcome.seen.push(seen);
        }
    }

    // --- edits ---------------------------------------------------------------------------------

    /// Somebody changes something.
    fn edit(&mut self, who: Who, edit: &Edit) -> anyhow::Result<()> {
        let folder = match who {
            Who::Station(number) => Some(self.station(number)),
            Who::Drive | Who::Ftp => self.drive(),
        };
        let Some(folder) = folder else {
            return Ok(());
        };
        let before = files_of(visible(folder.tree()));
        self.oracle.sees(who, &before);
        let done = match who {
            Who::Ftp => self.by_ftp(edit)?,
            Who::Station(_) | Who::Drive => by_hand(&folder, edit),
        };
        let after = files_of(visible(folder.tree()));
        self.note(who, edit, done, &before, &after);
        Ok(())
    }

    fn note(&mut self, who: Who, edit: &Edit, done: bool, before: &Files, after: &Files) {
        self.say(|| {
            let done = if done { "done" } else { "can't" };
            format!("  {who:?} {edit:?}: {done}")
        });
        let gone = self.oracle.edited(who, edit, before, after);
        if !gone.is_empty() {
            self.excuse(&gone);
        }
    }

    fn by_ftp(&mut self, edit: &Edit) -> anyhow::Result<bool> {
        if !self.up {
            return Ok(false);
        }
        let mut ftp = match self.ftp.take() {
            Some(ftp) => ftp,
            None => self.open_ftp()?,
        };
        match ftp.edit(edit) {
            Ok(()) => {
                self.ftp = Some(ftp);
                Ok(true)
            }
            // The daemon ends a session in which a transfer from a position on failed, since libunftp keeps the
            // position for the next; what comes next is done in another session, as FTP programs do.
            Err(Not::Refused) if appends(edit) => Ok(false),
            Err(Not::Refused) => {
                self.ftp = Some(ftp);
                Ok(false)
            }
            Err(Not::Lost(why)) => {
                anyhow::bail!("the FTP client lost its connection in {edit:?}: {why}")
            }
        }
    }

    fn open_ftp(&self) -> anyhow::Result<Ftp> {
        let endpoint = appliance::endpoint(&self.appliance)?;
        Ftp::open(&endpoint)
            .ok()
            .context("the FTP client can't log in")
    }
}

fn appends(edit: &Edit) -> bool {
    matches!(
        edit,
        Edit::Write {
            how: How::Append,
            ..
        }
    )
}

fn by_hand(folder: &Folder, edit: &Edit) -> bool {
    let keeps_time = matches!(
        edit,
        Edit::Write {
            how: How::KeepTime,
            ..
        }
    );
    if keeps_time {
        std::thread::sleep(TICK);
    }
    carry_out(folder, edit)
}
