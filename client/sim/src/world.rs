//! The simulated world: disks, clocks, processes, and the one thread in which all of it happens.
//!
//! It is a thread-local, since a workstation's call runs through the client, its connection and the
//! server down to the drive, and in the middle of it another workstation may sync. Nothing is
//! borrowed while any of them runs.

use crate::disks::{self, Access, Machine};
use crate::oracle::{Files, Oracle};
use crate::scenario::{Edit, Fault, How, Look, Net, Scenario, Step, Sync, Unsynced, Who};
use crate::server::{self, Endpoint, SERVER, Session};
use raspbox::engine::{Engine, Options, Scope, SyncError};
use raspbox::local::Workspace;
use raspbox::remote::appliance::ApplianceOver;
use raspbox::report::{Deed, Event, Summary};
use raspbox_beneath::sim::Node;
use raspbox_core::guard::{Allowances, Halt};
use raspbox_protocol::{Digest, RelPath};
use raspbox_store::{By, Store};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many rounds of all workstations it may take until everything is quiet.
const ROUNDS_MAX: usize = 12;

/// The pairing's name in every folder.
const PAIR: &str = "simulated";

/// What a run came to.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    /// What was wrong, if anything.
    pub failure: Option<String>,
    /// What happened, line by line, where that was asked for.
    pub trace: Vec<String>,
    /// A hash of all that happened, asked for or not.
    pub fingerprint: u64,
    /// Steps of the scenario that were carried out.
    pub steps: u64,
    /// Calls on the disks.
    pub calls: u64,
    /// Faults that took effect, by kind.
    pub faults: BTreeMap<&'static str, u64>,
}

struct World {
    stations: Vec<Station>,
    appliance: Machine,
    /// The drives; the first is the one of the pairing.
    drives: Vec<disks::Drive>,
    plugged: Option<usize>,
    backup: Option<disks::Copy>,
    journal_copy: Option<disks::Saved>,
    oracle: Oracle,
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
    saved: Option<disks::Saved>,
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
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(scenario)));
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
        let mut all = BTreeSet::new();
        for station in &self.stations {
            all.extend(station.disk.files("folder", also_hidden).into_values());
        }
        for drive in &self.drives {
            // What is staged there was never confirmed.
            all.extend(drive.files("", false).into_values());
            for kept in [".raspbox/versions", ".raspbox/staging.broken"] {
                all.extend(drive.files_from(kept).into_values());
            }
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

    fn integrity(&mut self) {
        for number in 0..self.stations.len() {
            let files = self.stations[number].disk.files("folder", false);
            let verdict = self.oracle.integrity(&format!("station {number}"), &files);
            self.judge(verdict);
        }
        if let Some(drive) = self.drive() {
            let files = drive.files("", false);
            let verdict = self.oracle.integrity("the drive", &files);
            self.judge(verdict);
        }
    }
}

// --- processes -------------------------------------------------------------------------------

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
fn start_appliance() {
    let store = SERVER.with_borrow_mut(|server| {
        server.up = true;
        server.life += 1;
        server.store.take()
    });
    on_appliance(|| drop(store));
    open_store();
}

/// Opens the store on the drive that is there.
fn open_store() {
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
fn stop_appliance() {
    let store = SERVER.with_borrow_mut(|server| {
        server.up = false;
        server.store.take()
    });
    on_appliance(|| drop(store));
}

/// Whatever died is put away, and what should run runs again.
fn revive() {
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

fn power_cut_appliance(unsynced: Unsynced) {
    with(|world| {
        world.oracle.forgetful = true;
        if let Some(drive) = world.drive() {
            drive.crash(unsynced);
        }
    });
    stop_appliance();
    start_appliance();
}

fn power_cut(number: usize, unsynced: Unsynced) {
    let engine = with(|world| {
        world.oracle.forgetful = true;
        let station = &mut world.stations[number];
        station.disk.crash(unsynced);
        station.dirty.clear();
        (station.engine.take(), station.machine.clone())
    });
    engine.1.on(|| drop(engine.0));
}

fn restart(number: usize) {
    let (engine, machine) = with(|world| {
        let station = &mut world.stations[number];
        station.dirty.clear();
        (station.engine.take(), station.machine.clone())
    });
    machine.on(|| drop(engine));
}

// --- the network -----------------------------------------------------------------------------

/// What happens to the next thing that goes over the network.
pub(crate) fn net_event() -> Option<Net> {
    let fate = with(|world| {
        let round = world.rounds.last_mut()?;
        let at = round.events;
        round.events += 1;
        let index = round.net.iter().position(|(n, _)| *n == at)?;
        let (_, fate) = round.net.swap_remove(index);
        let kind = match &fate {
            Net::Cut(_) => "connection cut",
            Net::LoseReply => "reply lost",
            Net::Late => "request late",
            Net::Double => "request doubled",
            Net::Busy => "server busy",
            Net::Edit(..) => "edit meanwhile",
            Net::Sync(_) => "sync meanwhile",
        };
        world.fault(kind);
        Some(fate)
    })?;
    match &fate {
        Net::Edit(who, edit) => carry_out(*who, edit),
        Net::Sync(station) => {
            let free = with(|world| {
                let depth = world.rounds.len();
                depth < 3 && !world.rounds.iter().any(|round| round.station == *station)
            });
            if free {
                round(
                    &Sync {
                        station: *station,
                        look: Look::Everywhere,
                        confirmed: false,
                        faults: Vec::new(),
                    },
                    false,
                );
            }
        }
        _ => return Some(fate),
    }
    None
}

// --- edits -----------------------------------------------------------------------------------

/// Somebody changes something.
fn carry_out(who: Who, edit: &Edit) {
    match who {
        Who::Station(number) => by_hand(who, edit, Some(number)),
        Who::Drive => by_hand(who, edit, None),
        Who::Ftp => by_ftp(edit),
    }
}

/// The place where somebody works directly.
fn access(world: &World, station: Option<usize>) -> Option<(Machine, Access)> {
    match station {
        Some(number) => {
            let station = &world.stations[number];
            (!station.disk.is_dead())
                .then(|| (station.machine.clone(), station.disk.access("folder")))
        }
        None => {
            let drive = world.drive()?;
            (!drive.is_dead()).then(|| (world.appliance.clone(), drive.access("")))
        }
    }
}

fn by_hand(who: Who, edit: &Edit, station: Option<usize>) {
    let done = with(|world| {
        let (machine, access) = access(world, station)?;
        let before = access.files();
        world.oracle.sees(who, &before);
        if let Edit::Write {
            how: How::KeepTime, ..
        } = edit
        {
            // Within one tick of the kernel's clock nothing at all could tell.
            machine.wait(Duration::from_millis(5));
        }
        let done = machine.on(|| apply(&access, edit));
        let after = access.files();
        world.say(|| {
            format!(
                "  {who:?} {edit:?}: {}",
                if done { "done" } else { "can't" }
            )
        });
        note(world, who, edit, &before, &after);
        Some(())
    });
    if done.is_some()
        && let Some(number) = station
    {
        with(|world| {
            for path in touched(edit) {
                if let Ok(path) = RelPath::parse(path) {
                    world.stations[number].dirty.insert(path);
                }
                // What was moved or removed is another folder than the one that can't be read.
                let touched = path.to_owned();
                let denied = &mut world.stations[number].denied;
                denied.retain(|path| *path != touched && !path.starts_with(&format!("{touched}/")));
            }
        });
    }
}

fn touched(edit: &Edit) -> Vec<&str> {
    match edit {
        Edit::Rename(from, to) => vec![from, to],
        Edit::Write { path, .. }
        | Edit::Remove(path)
        | Edit::MakeFolder(path)
        | Edit::Age(path, _)
        | Edit::Executable(path, _)
        | Edit::Symlink(path, _) => vec![path],
    }
}

/// Tells the oracle what an edit came to.
fn note(world: &mut World, who: Who, edit: &Edit, before: &Files, after: &Files) {
    for path in touched(edit) {
        world.oracle.touch(who, path);
        world.oracle.made_again(path);
    }
    for (path, digest) in after {
        if before.get(path) != Some(digest) {
            let what = match edit {
                Edit::Write { size: 0, .. } => "nothing".to_owned(),
                Edit::Write { content, size, .. } => format!("content {content} of {size} bytes"),
                _ => "a content".to_owned(),
            };
            let what = if *digest == Digest::of(b"") {
                "nothing".into()
            } else {
                what
            };
            world.oracle.wrote(who, path, *digest, &what);
        }
    }
    for (path, digest) in before {
        if !after.contains_key(path) && matches!(edit, Edit::Remove(_)) {
            world.oracle.deleted(who, path, *digest);
        }
    }
    // What somebody destroys on the drive itself leaves no version, and the workstations follow.
    let gone: Vec<Digest> = before
        .iter()
        .filter(|(path, digest)| after.get(*path) != Some(digest))
        .map(|(_, digest)| *digest)
        .collect();
    if who == Who::Drive {
        for digest in &gone {
            world.oracle.destroyed(digest);
        }
    }
    // Others keep what they have; the last copy is its owner's to destroy.
    if who != Who::Ftp && !gone.is_empty() {
        world.excuse(&gone);
    }
}

/// Does an edit on a disk, as programs do. Returns whether it could be done.
fn apply(access: &Access, edit: &Edit) -> bool {
    match edit {
        Edit::Write {
            path,
            content,
            size,
            how,
        } => {
            let bytes = content_of(*content, *size);
            match how {
                How::InPlace => access.write(path, &bytes),
                How::Rename => access.replace(path, &bytes),
                How::Append => access.append(path, &bytes),
                How::KeepTime => access.write_keeping_time(path, &bytes),
            }
        }
        Edit::Remove(path) => access.remove(path),
        Edit::Rename(from, to) => access.rename(from, to),
        Edit::MakeFolder(path) => access.make_folder(path),
        Edit::Age(path, seconds) => access.age(path, *seconds),
        Edit::Executable(path, on) => access.set_executable(path, *on),
        Edit::Symlink(path, target) => access.symlink(path, target),
    }
}

/// A content that says which one it is.
fn content_of(number: u32, size: usize) -> Vec<u8> {
    let head = format!("{number:06}:");
    let mut bytes = head.into_bytes();
    let mut state = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < size {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.push(state.to_le_bytes()[6]);
    }
    bytes.truncate(size);
    bytes
}

/// The same through the store, as an ordinary FTP client's commands end there.
fn by_ftp(edit: &Edit) {
    let Some(store) = SERVER.with_borrow(|server| server.store.clone().filter(|_| server.up))
    else {
        return;
    };
    let Some(before) = with(|world| {
        let files = world.drive()?.files("", false);
        world.oracle.sees(Who::Ftp, &files);
        Some(files)
    }) else {
        return;
    };
    let by = By("ftp".into());
    let done = on_appliance(|| ftp_edit(&store, edit, &by));
    with(|world| {
        world.say(|| format!("  Ftp {edit:?}: {}", done.is_some()));
        let Some(after) = world.drive().map(|drive| drive.files("", false)) else {
            return;
        };
        note(world, Who::Ftp, edit, &before, &after);
    });
}

fn ftp_edit(store: &Store, edit: &Edit, by: &By) -> Option<()> {
    let parse = |path: &str| RelPath::parse(path).ok();
    let with_parents = |path: &RelPath| {
        let mut above = Vec::new();
        let mut at = path.parent();
        while let Some(folder) = at {
            at = folder.parent();
            above.push(folder);
        }
        for folder in above.iter().rev() {
            // There already, or in the way; the write will tell.
            drop(store.make_folder(folder, by));
        }
    };
    match edit {
        Edit::Write {
            path,
            content,
            size,
            how,
        } => {
            let path = parse(path)?;
            with_parents(&path);
            let bytes = content_of(*content, *size);
            let mut staged = match how {
                How::Append => {
                    let len = match store.stat(Some(&path)) {
                        Ok(raspbox_store::Stat::File { size_bytes, .. }) => size_bytes,
                        _ => 0,
                    };
                    store.stage_from(&path, len).ok()?
                }
                _ => store.stage().ok()?,
            };
            staged.write_all(&bytes).ok()?;
            store.put(staged, &path, by).ok()?;
        }
        Edit::Remove(path) => ftp_remove(store, &parse(path)?, by)?,
        Edit::Rename(from, to) => {
            let (from, to) = (parse(from)?, parse(to)?);
            with_parents(&to);
            store.rename(&from, &to, by).ok()?;
        }
        Edit::MakeFolder(path) => {
            let path = parse(path)?;
            with_parents(&path);
            store.make_folder(&path, by).ok()?;
        }
        Edit::Age(path, seconds) => {
            let path = parse(path)?;
            let now = raspbox_beneath::now();
            let then = raspbox_protocol::Mtime(now.0 - seconds * 1_000_000_000);
            store.set_mtime(&path, then, by).ok()?;
        }
        Edit::Executable(path, on) => {
            store.set_executable(&parse(path)?, *on, by).ok()?;
        }
        // There is no such command.
        Edit::Symlink(..) => return None,
    }
    Some(())
}

fn ftp_remove(store: &Store, path: &RelPath, by: &By) -> Option<()> {
    match store.stat(Some(path)).ok()? {
        raspbox_store::Stat::Folder { .. } => {
            for listed in store.list(Some(path)).ok()? {
                let below = RelPath::child(Some(path), &listed.name).ok()?;
                ftp_remove(store, &below, by)?;
            }
            store.delete_folder(path, by).ok()?;
        }
        _ => {
            store.delete_file(path, by).ok()?;
        }
    }
    Some(())
}

// --- rounds ----------------------------------------------------------------------------------

/// A round of a workstation; what it came to, where it came to an end.
fn round(sync: &Sync, strict: bool) -> Option<Result<Summary, SyncError>> {
    let number = sync.station;
    let (machine, disk_at) = with(|world| {
        let station = &world.stations[number];
        (station.machine.clone(), station.disk.at(""))
    });
    arm(sync);
    let engine = with(|world| world.stations[number].engine.take());
    let opened = match engine {
        Some(engine) => Ok(engine),
        None => machine.on(|| open_engine(number, &disk_at)),
    };
    let mut engine = match opened {
        Ok(engine) => engine,
        Err(error) => {
            disarm(number);
            with(|world| world.say(|| format!("  station {number} can't start: {error}")));
            return Some(Err(error));
        }
    };
    let scope = scope(number, sync.look);
    let options = Options {
        dry_run: false,
        allow: Allowances {
            deletions: if sync.confirmed { usize::MAX } else { 0 },
            changes: if sync.confirmed { usize::MAX } else { 0 },
        },
    };
    let result = machine.on(|| engine.round(&scope, options, &mut |event| heard(number, &event)));
    disarm(number);
    with(|world| {
        world.say(|| match &result {
            Ok(summary) => format!(
                "  station {number}: {} up, {} down, {} moved, {} deleted, {} conflicts, \
                 problems {:?}",
                summary.pushed,
                summary.pulled,
                summary.moved,
                summary.deleted,
                summary.conflicts.len(),
                summary.problems
            ),
            Err(error) => format!("  station {number}: {error}"),
        });
        let station = &mut world.stations[number];
        if !station.disk.is_dead() {
            station.engine = Some(engine);
            if strict || sync.look != Look::Lost {
                station.dirty.clear();
            }
        }
    });
    Some(result)
}

fn open_engine(number: usize, at: &Path) -> Result<Engine, SyncError> {
    let remote = ApplianceOver::<Session>::new(Endpoint { station: number });
    Engine::open(
        &at.join("folder"),
        PAIR,
        &format!("station{number}"),
        &database(at),
        Box::new(remote),
    )
}

fn database(at: &Path) -> PathBuf {
    at.join("state").join("state.db")
}

fn scope(number: usize, look: Look) -> Scope {
    with(|world| match look {
        Look::Everywhere => Scope::All,
        Look::Watched => Scope::Paths(world.stations[number].dirty.clone()),
        Look::Lost => {
            world.fault("events lost");
            Scope::Paths(BTreeSet::new())
        }
    })
}

/// Sets up what goes wrong in a round.
fn arm(sync: &Sync) {
    with(|world| {
        let mut net = Vec::new();
        for fault in &sync.faults {
            match fault {
                Fault::Net(at, what) => net.push((*at, what.clone())),
                Fault::Disk(at, call) => world.stations[sync.station].disk.arm(*at, call),
                Fault::Drive(at, call) => {
                    if let Some(drive) = world.drive() {
                        drive.arm(*at, call);
                    }
                }
            }
        }
        world.rounds.push(Round {
            station: sync.station,
            events: 0,
            net,
        });
    });
}

fn disarm(number: usize) {
    with(|world| {
        world.rounds.pop();
        let mut hit = world.stations[number].disk.disarm();
        if world.rounds.is_empty()
            && let Some(drive) = world.drive()
        {
            hit.extend(drive.disarm());
        }
        for kind in hit {
            world.fault(kind);
        }
    });
}

/// The hand of somebody at the n-th call on a disk.
pub(crate) fn edit_at_call(who: Who, edit: &Edit) {
    with(|world| world.fault("edit under the hands"));
    carry_out(who, edit);
}

fn heard(number: usize, event: &Event<'_>) {
    with(|world| match event {
        Event::Did(deed, path) => {
            world.say(|| format!("    station {number} {deed:?} {path}"));
            let denied = world.stations[number].denied.iter().any(|denied| {
                path.as_str() != denied && path.as_str().starts_with(&format!("{denied}/"))
            });
            if denied && matches!(deed, Deed::PushedDelete) {
                world.judge(Err(format!(
                    "no deletion from an unread folder: {path} of station {number}"
                )));
            }
        }
        Event::Conflict(path, copy) => {
            world.say(|| format!("    station {number}: {path} is also {copy}"));
            let here = world.stations[number].disk.files("folder", false);
            let there = world.drive().map(|drive| drive.files("", false));
            let there = there.and_then(|files| files.get(path.as_str()).copied());
            if let (Some(copy), Some(there)) = (here.get(copy.as_str()), there) {
                let verdict = world
                    .oracle
                    .no_spurious_conflict(path.as_str(), copy, &there);
                world.judge(verdict);
            }
        }
        Event::NewJournal => {
            world.oracle.forgetful = true;
            world.say(|| format!("    station {number}: another journal"));
        }
        Event::Recovered(path) => world.say(|| format!("    station {number} recovered {path}")),
        Event::Trouble(problem) => {
            world.say(|| format!("    station {number}: {}: {:?}", problem.path, problem.what));
        }
        Event::Reading(..) | Event::Planned(_) | Event::Sent(_) | Event::Received(_) => {}
    });
}

// --- steps -----------------------------------------------------------------------------------

fn play(scenario: &Scenario) -> Result<(), String> {
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
        if let Some(failure) = with(|world| world.failure.clone()) {
            return Err(failure);
        }
    }
    settle()
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
        Step::Settle => return settle(),
    }
    Ok(())
}

fn wait(time: Duration) {
    with(|world| {
        world.appliance.wait(time);
        for station in &world.stations {
            station.machine.wait(time);
        }
    });
}

fn unplug() {
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
        world.plugged = None;
    });
}

fn plug(number: usize) {
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
        // What was only on it is gone, and nobody can help that.
        let all: Vec<Digest> = world.oracle.kept().copied().collect();
        world.excuse(&all);
    });
}

// --- the end ---------------------------------------------------------------------------------

/// Puts everything right, syncs until nothing happens any more, and looks at what came of it.
fn settle() -> Result<(), String> {
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
