//! The simulated world: disks, clocks, processes, and the one thread in which all of it happens.
//!
//! It is a thread-local, since a workstation's call runs through the client, its connection and the
//! server down to the drive, and in the middle of it another workstation may sync. Nothing is
//! borrowed while any of them runs.

mod edits;
mod idle;
mod processes;
mod rounds;
mod settle;
mod steps;

pub(crate) use processes::on_appliance;
pub(crate) use rounds::{edit_at_call, net_event};

use crate::disks::{self, Machine};
use crate::kept::Kept;
use crate::oracle::Oracle;
use crate::outcome::{self, Outcome};
use crate::place::{Tree, confirmed, files_of};
use crate::scenario::{Net, Scenario};
use crate::server::{self, SERVER};
use raspbox::engine::Engine;
use raspbox::local::Workspace;
use raspbox_protocol::{Digest, RelPath};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// The pairing's name in every folder.
const PAIR: &str = "simulated";

struct World {
    stations: Vec<Station>,
    appliance: Machine,
    /// The drives; the first is the one of the pairing.
    drives: Vec<disks::Drive>,
    plugged: Option<usize>,
    backup: Option<disks::Copy>,
    journal_copy: Option<disks::Saved>,
    oracle: Oracle,
    kept: Kept,
    rounds: Vec<Round>,
    trace: Trace,
    outcome: Outcome,
    failure: Option<String>,
}

struct Station {
    machine: Machine,
    disk: disks::Drive,
    engine: Option<Engine>,
    dirty: BTreeSet<RelPath>,
    denied: BTreeSet<String>,
    /// What its user has done since the power was last cut without syncing it.
    unsynced: Unsynced,
    saved: Option<disks::Saved>,
}

/// What a power cut may spoil without any fault of the sync's.
#[derive(Default)]
pub(crate) struct Unsynced {
    careless: bool,
    pub(crate) paths: BTreeSet<String>,
    pub(crate) contents: BTreeSet<Digest>,
    /// Files that were saved with the content that they had: that is no change to a sync, and durable it isn't.
    pub(crate) again: BTreeSet<String>,
}

/// A round that is under way.
struct Round {
    station: usize,
    events: u32,
    net: Vec<(u32, Net)>,
}

#[derive(Default)]
struct Trace {
    wanted: bool,
    hash: u64,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

fn with<T>(f: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(|world| f(world.as_mut().expect("a run is under way")))
}

/// Runs a scenario.
#[must_use]
pub fn run(scenario: &Scenario, trace: bool) -> Outcome {
    disks::begin();
    SERVER.set(server::Server::default());
    let world = World::new(scenario, trace);
    WORLD.set(Some(world));
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| steps::play(scenario)));
    let failure = match ran {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(panic) => Some(format!("panic: {}", message(&*panic))),
    };
    // Stores and engines end before their disks do.
    SERVER.set(server::Server::default());
    let world = WORLD.take();
    let Some(mut world) = world else {
        return Outcome {
            failure,
            ..Outcome::default()
        };
    };
    for station in &mut world.stations {
        station.engine = None;
    }
    let mut outcome = std::mem::take(&mut world.outcome);
    outcome.failure = world.failure.take().or(failure);
    outcome.fingerprint = world.trace.hash;
    outcome.calls = world.stations.iter().map(|s| s.disk.calls()).sum::<u64>()
        + world.drives.iter().map(disks::Drive::calls).sum::<u64>();
    drop(world);
    disks::end();
    outcome
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|&s| s.to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

impl World {
    fn new(scenario: &Scenario, trace: bool) -> World {
        let station = |(number, kind): (usize, &crate::scenario::Disk)| {
            let machine = Machine::new(scenario.seed, number + 1);
            let disk = disks::Drive::new(*kind, &format!("/sim/station{number}"));
            machine.on(|| {
                disk.make_folder("folder");
                disk.make_folder("state");
                Workspace::mark(&disk.at("folder"), PAIR).expect("a new folder");
            });
            Station {
                machine,
                disk,
                engine: None,
                dirty: BTreeSet::new(),
                denied: BTreeSet::new(),
                unsynced: Unsynced {
                    // One of two users saves as most programs do.
                    careless: number % 2 == 0,
                    ..Unsynced::default()
                },
                saved: None,
            }
        };
        let drive = || disks::Drive::new(scenario.drive, "/sim/drive");
        World {
            stations: scenario.stations.iter().enumerate().map(station).collect(),
            appliance: Machine::new(scenario.seed, 0),
            drives: vec![drive(), drive()],
            plugged: None,
            backup: None,
            journal_copy: None,
            oracle: Oracle::default(),
            kept: Kept::default(),
            rounds: Vec::new(),
            trace: Trace {
                wanted: trace,
                hash: 0xcbf2_9ce4_8422_2325,
            },
            outcome: Outcome::default(),
            failure: None,
        }
    }

    fn drive(&self) -> Option<&disks::Drive> {
        self.plugged.map(|number| &self.drives[number])
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        let line = line();
        for byte in line.bytes() {
            // FNV-1a, whose only use here is that two runs can be compared.
            self.trace.hash = (self.trace.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.trace.wanted {
            self.outcome.trace.push(line);
        }
    }

    fn fault(&mut self, kind: &'static str) {
        *self.outcome.faults.entry(kind).or_default() += 1;
        self.say(|| format!("    ! {kind}"));
    }

    /// Remembers the first thing that was wrong.
    fn judge(&mut self, verdict: Result<(), String>) {
        if let Err(failure) = verdict {
            self.say(|| format!("    FAILURE {failure}"));
            self.failure.get_or_insert(failure);
        }
    }

    /// All contents that can still be had by somebody.
    fn everywhere(&self, also_hidden: bool) -> BTreeSet<Digest> {
        self.contents(also_hidden, disks::Drive::whole)
    }

    /// The contents on all workstations, and those of what `drives` tells of the drives.
    fn contents(&self, also_hidden: bool, drives: fn(&disks::Drive) -> Tree) -> BTreeSet<Digest> {
        let mut all = BTreeSet::new();
        for station in &self.stations {
            all.extend(station.disk.files("folder", also_hidden).into_values());
        }
        for drive in &self.drives {
            all.extend(files_of(confirmed(drives(drive))).into_values());
        }
        all
    }

    /// Lets go of what a workstation had that its user hadn't made durable there, unless it is durable elsewhere. What only
    /// shows on the drive was confirmed to nobody: a batch that failed may leave as much.
    fn excuse_unsynced(&mut self, lost: &[Digest]) {
        let all = self.contents(true, disks::Drive::durable);
        self.excuse_all_but(&all, lost);
    }

    /// Lets go of what nobody has any more, of which nobody but its owner is to blame.
    fn excuse(&mut self, destroyed: &[Digest]) {
        let all = self.everywhere(true);
        self.excuse_all_but(&all, destroyed);
    }

    fn excuse_all_but(&mut self, all: &BTreeSet<Digest>, destroyed: &[Digest]) {
        for digest in destroyed {
            if !all.contains(digest) {
                self.say(|| "    (its last copy)".into());
                self.oracle.destroyed(digest);
            }
        }
    }

    /// Looks what was displaced on the drive.
    fn watch(&mut self) {
        match self.drive().filter(|drive| !drive.is_dead()) {
            Some(drive) if self.plugged == Some(0) => {
                let files = drive.files("", false);
                self.kept.look(files);
            }
            Some(_) | None => self.kept.blink(),
        }
    }

    /// Notes what everybody has, where that was asked for.
    fn look_around(&mut self) {
        if !self.trace.wanted {
            return;
        }
        let mut seen = outcome::Seen::new();
        for (number, station) in self.stations.iter().enumerate() {
            let tree = station.disk.tree("folder");
            outcome::add_to(&mut seen, &format!("station {number}"), &tree);
        }
        if let Some(drive) = self.drive() {
            outcome::add_to(&mut seen, "the drive", &drive.tree(""));
        }
        self.outcome.seen.push(seen);
    }

    fn integrity(&mut self) {
        for number in 0..self.stations.len() {
            let files = self.stations[number].disk.files("folder", false);
            let verdict = self.oracle.integrity(&format!("station {number}"), &files);
            self.judge(verdict);
        }
        if let Some(drive) = self.drive() {
            let mut files = drive.files("", false);
            files.retain(|_, digest| !self.kept.is_rotten(digest));
            let verdict = self.oracle.integrity("the drive", &files);
            self.judge(verdict);
        }
    }
}
