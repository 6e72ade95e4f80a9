//! Whole rounds on a simulated disk, with a remote that is made up: somebody writes at every step of a
//! round, and the power is cut at every step.
#![allow(missing_docs)]

use raspbox::engine::{Engine, Options, Scope, SyncError};
use raspbox::local::Workspace;
use raspbox::remote::{Events, Look, Remote, RemoteError, RemoteTree, Sink};
use raspbox::report::Event;
use raspbox_beneath::File;
use raspbox_beneath::sim::{Computer, Disk, Entered, Fault, Node, Traits, Unsynced, User, enter};
use raspbox_core::guard::{Allowances, Displaced, Halt, LATELY};
use raspbox_core::plan::Trouble;
use raspbox_protocol::commit::{Expect, Op, Outcome, Refusal};
use raspbox_protocol::info::{DriveId, Holds, Info};
use raspbox_protocol::want::Want;
use raspbox_protocol::{Cursor, Digest, Entry, Epoch, Mtime, RelPath, Version};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

const AT: &str = "/rounds";

/// 2026-01-31 12:00 in UTC.
const NOON: Mtime = Mtime(1_769_860_800_000_000_000);

const OLD: &[u8] = b"what was there";
const EDIT: &[u8] = b"what somebody writes";
const LATER: &[u8] = b"what is written later";

/// A remote in memory: it never fails, and what it has is durable.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Shelved>>);

#[derive(Default)]
struct Shelved {
    entries: BTreeMap<RelPath, (Entry, Vec<u8>, Version)>,
    seq: u64,
}

impl Shelf {
    fn open(&self) -> MutexGuard<'_, Shelved> {
        self.0.lock().expect("nobody panicked")
    }

    fn cursor(&self) -> Cursor {
        Cursor {
            epoch: Epoch([1; 16]),
            seq: self.open().seq,
        }
    }

    /// The files, by path.
    fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let shelved = self.open();
        let files = shelved
            .entries
            .iter()
            .filter_map(|(path, entry)| match entry {
                (Entry::File(_), bytes, _) => Some((path.to_string(), bytes.clone())),
                (Entry::Folder | Entry::Symlink(_), ..) => None,
            });
        files.collect()
    }

    fn holds(&self, content: &[u8]) -> bool {
        self.contents().values().any(|bytes| bytes == content)
    }
}

impl Shelved {
    fn put(&mut self, path: &RelPath, entry: Entry, bytes: Vec<u8>) -> Version {
        self.seq += 1;
        let version = Version(self.seq);
        self.entries.insert(path.clone(), (entry, bytes, version));
        version
    }

    fn put_file(&mut self, name: &str, content: &[u8]) {
        let file = raspbox_protocol::File {
            digest: Digest::of(content),
            size: content.len() as u64,
            mtime: Mtime(NOON.0 - 3_600_000_000_000),
            executable: false,
        };
        self.put(&path(name), Entry::File(file), content.to_vec());
    }

    fn meets(&self, path: &RelPath, expect: Expect) -> bool {
        let there = self.entries.get(path).map(|(.., version)| *version);
        match expect {
            Expect::Absent => there.is_none(),
            Expect::Version(version) => there == Some(version),
        }
    }

    fn carry_out(
        &mut self,
        op: &Op,
        open: &mut dyn FnMut() -> io::Result<File>,
    ) -> Result<Version, Refusal> {
        match op {
            Op::Put { path, expect, file } => {
                let mut bytes = Vec::new();
                let read = open().and_then(|mut file| file.read_to_end(&mut bytes));
                read.map_err(|error| Refusal::Failed(error.to_string()))?;
                if Digest::of(&bytes) != file.digest {
                    return Err(Refusal::BadContent);
                }
                if !self.meets(path, *expect) {
                    return Err(Refusal::Changed);
                }
                Ok(self.put(path, Entry::File(*file), bytes))
            }
            Op::MakeFolder { path } => Ok(self.put(path, Entry::Folder, Vec::new())),
            Op::Delete { path, expect } => {
                if !self.meets(path, Expect::Version(*expect)) {
                    return Err(Refusal::Changed);
                }
                if self
                    .entries
                    .keys()
                    .any(|other| other != path && other.is_in(path))
                {
                    return Err(Refusal::NotEmpty);
                }
                self.entries.remove(path);
                self.seq += 1;
                Ok(Version(self.seq))
            }
            Op::Move { from, expect, to } => {
                if !self.meets(from, Expect::Version(*expect)) || !self.meets(to, Expect::Absent) {
                    return Err(Refusal::Changed);
                }
                let (entry, bytes, _) = self.entries.remove(from).expect("looked for above");
                Ok(self.put(to, entry, bytes))
            }
            Op::SetMeta {
                path,
                expect,
                mtime,
                executable,
            } => {
                let Some((Entry::File(file), bytes, version)) = self.entries.get(path).cloned()
                else {
                    return Err(Refusal::Changed);
                };
                if version != *expect {
                    return Err(Refusal::Changed);
                }
                let file = raspbox_protocol::File {
                    mtime: *mtime,
                    executable: *executable,
                    ..file
                };
                Ok(self.put(path, Entry::File(file), bytes))
            }
            Op::Symlink { .. } | Op::Restore { .. } | Op::Keep { .. } => {
                panic!("not in these tests: {op:?}")
            }
        }
    }
}

impl Remote for Shelf {
    fn info(&mut self) -> Result<Info, RemoteError> {
        Ok(Info {
            protocol: raspbox_protocol::PROTOCOL_VERSION,
            drive: DriveId([2; 16]),
            cursor: self.cursor(),
            free_bytes: 1 << 30,
            size_bytes: 1 << 30,
            holds: Holds {
                case_sensitive: true,
                symlinks: true,
                dos_names: false,
                file_max_bytes: u64::MAX,
                granularity: Duration::from_nanos(1),
            },
            now: NOON,
            writable: true,
            keeps: false,
        })
    }

    fn look(
        &mut self,
        _: Option<Cursor>,
        _: &RemoteTree,
        _: &dyn Fn(&RelPath) -> Option<(u64, bool)>,
    ) -> Result<Look, RemoteError> {
        let cursor = self.cursor();
        let entries = &self.open().entries;
        let changes = entries
            .iter()
            .map(|(path, (entry, _, version))| (path.clone(), Some(entry.clone()), *version));
        Ok(Look {
            whole: true,
            changes: changes.collect(),
            unknown: Vec::new(),
            cursor,
        })
    }

    fn push(
        &mut self,
        ops: &[Op],
        open: &mut dyn FnMut(usize) -> io::Result<File>,
        _: &mut dyn FnMut(u64),
    ) -> Result<Vec<Outcome>, RemoteError> {
        let done = ops.iter().enumerate().map(|(index, op)| {
            match self.open().carry_out(op, &mut || open(index)) {
                Ok(version) => Outcome::Done(version),
                Err(refusal) => Outcome::Refused(refusal),
            }
        });
        Ok(done.collect())
    }

    fn pull(&mut self, wants: &[Want], sink: &mut dyn Sink) -> Result<(), RemoteError> {
        for (index, want) in wants.iter().enumerate() {
            let bytes = self.open().entries[&want.path].1.clone();
            sink.begin(index, bytes.len() as u64)?;
            for piece in bytes.chunks(4096) {
                sink.data(index, piece)?;
            }
            sink.done(index);
        }
        Ok(())
    }

    fn knows(&mut self, _: Cursor) -> Result<bool, RemoteError> {
        Ok(true)
    }

    fn knows_hashes(&self) -> bool {
        true
    }

    fn displaced(&self) -> Displaced {
        Displaced::Kept
    }

    fn events(&self, _: Cursor) -> Result<Option<Box<dyn Events>>, RemoteError> {
        Ok(None)
    }
}

/// A computer with a paired folder `box`, in sync with an empty shelf.
struct Station {
    computer: Computer,
    _entered: Entered,
    disk: Disk,
    shelf: Shelf,
    engine: Option<Engine>,
}

impl Station {
    fn new() -> Station {
        let computer = Computer::new(NOON, 1);
        let entered = enter(&computer);
        let disk = Disk::new(Traits::ext4());
        disk.mount(Path::new(AT));
        Workspace::mark(&Path::new(AT).join("box"), "pair1").expect("marked");
        let mut station = Station {
            computer,
            _entered: entered,
            disk,
            shelf: Shelf::default(),
            engine: None,
        };
        station.sync();
        let top = raspbox_beneath::Top::open(Path::new(AT)).expect("opens");
        let top = top.folder(None).expect("opens");
        top.sync_filesystem().expect("synced");
        station
    }

    fn open(&mut self) {
        if self.engine.is_none() {
            let (folder, database) = (Path::new(AT).join("box"), Path::new(AT).join("state.db"));
            let remote = Box::new(self.shelf.clone());
            self.engine = Engine::open(&folder, "pair1", "laptop", &database, remote).ok();
        }
    }

    /// One round, if the disk lets it.
    fn round(&mut self) -> bool {
        self.open();
        let Some(engine) = &mut self.engine else {
            return false;
        };
        let round = engine.round(&Scope::All, Options::default(), &mut |_| {});
        round.is_ok()
    }

    /// A round that works, long after what was done last.
    fn sync(&mut self) {
        self.computer.advance(Duration::from_secs(600));
        assert!(self.round(), "nothing is in its way");
    }

    /// The power is cut and comes back, or the program is killed: then all is kept.
    fn crash(&mut self, unsynced: Unsynced) {
        if unsynced != Unsynced::Kept {
            self.computer.reboot();
        }
        self.engine = None;
        self.disk.forgive();
        self.disk.crash(unsynced);
    }

    /// The files that people see, by name.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let tree = self.disk.user().tree("box");
        let visible = tree.into_iter().filter_map(|(path, node)| match node {
            Node::File { content, .. } if !path.starts_with(".raspbox/") => Some((path, content)),
            Node::File { .. } | Node::Folder | Node::Symlink(_) => None,
        });
        visible.collect()
    }
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text).expect("a good path")
}

/// A station with a file that has been in sync for long, to which the remote then does something.
fn in_sync(remotely: fn(&mut Shelved)) -> Station {
    let mut station = Station::new();
    station.disk.user().write("box/f", OLD).expect("written");
    station.sync();
    station.sync();
    assert!(station.shelf.holds(OLD));
    remotely(&mut station.shelf.open());
    station.computer.advance(Duration::from_secs(600));
    station
}

/// Somebody writes to the file, whatever it is called, at each step of the round that pulls this.
fn edit_at_each_step(remotely: fn(&mut Shelved)) {
    let mut station = in_sync(remotely);
    let before = station.disk.steps();
    assert!(station.round());
    let steps = station.disk.steps() - before;
    assert!(steps > 20, "{steps}");
    for step in 0..steps {
        let mut station = in_sync(remotely);
        let user = station.disk.user();
        station
            .disk
            .meanwhile(station.disk.steps() + step, move || {
                let at = ["box/f", "box/g"].into_iter().find(|at| user.exists(at));
                if let Some(at) = at {
                    user.write(at, EDIT).expect("written");
                }
            });
        assert!(station.round());
        station.sync();
        let there = station.shelf.holds(EDIT);
        assert!(there, "step {step}: {:?}", station.files());
    }
}

#[test]
fn what_is_written_while_a_file_is_moved_for_the_remote_is_an_edit() {
    edit_at_each_step(|shelved| {
        let (entry, bytes, _) = shelved.entries.remove(&path("f")).expect("there");
        shelved.put(&path("g"), entry, bytes);
    });
}

#[test]
fn what_is_written_while_a_file_gets_its_bits_is_an_edit() {
    edit_at_each_step(|shelved| {
        let (entry, bytes, _) = shelved.entries.remove(&path("f")).expect("there");
        let Entry::File(file) = entry else {
            panic!("a file")
        };
        let file = raspbox_protocol::File {
            executable: true,
            ..file
        };
        shelved.put(&path("f"), Entry::File(file), bytes);
    });
}

/// So many files come, and the power is cut at each step.
fn cut_while_they_come(count: usize) {
    let content: Vec<u8> = (0..30_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let prepared = || {
        let station = Station::new();
        for number in 0..count {
            let name = format!("f{number}");
            station.shelf.open().put_file(&name, &content);
        }
        station.computer.advance(Duration::from_secs(600));
        station
    };
    let mut station = prepared();
    let before = station.disk.steps();
    assert!(station.round());
    let steps = station.disk.steps() - before;
    for (step, seed) in (0..steps).flat_map(|step| (0..12).map(move |seed| (step, seed))) {
        let mut station = prepared();
        station.disk.fail(station.disk.steps() + step, Fault::Die);
        station.round();
        station.crash(Unsynced::Random(seed * 10_000 + step));
        station.sync();
        let files = station.files();
        assert!(files.len() >= count, "step {step}, seed {seed}");
        let torn = files.iter().find(|(_, found)| **found != content);
        let torn = torn.map(|(name, found)| (name, found.len()));
        assert!(torn.is_none(), "step {step}, seed {seed}: {torn:?}");
    }
}

#[test]
fn what_comes_is_seen_whole_or_not_at_all() {
    cut_while_they_come(1);
    // More than are synced one by one.
    cut_while_they_come(9);
}

/// What the brakes ask in a round in which somebody has said yes to so many deletions.
fn halts(station: &mut Station, deletions: usize) -> Option<Halt> {
    let options = Options {
        allow: Allowances {
            deletions,
            changes: 0,
        },
        ..Options::default()
    };
    let engine = station.engine.as_mut().expect("opened");
    match engine.round(&Scope::All, options, &mut |_| {}) {
        Ok(_) => None,
        Err(SyncError::Halt(halt)) => Some(halt),
        Err(other) => panic!("{other}"),
    }
}

fn remove(station: &Station, n: u32) {
    let name = format!("box/f{n}");
    station.disk.user().remove(&name).expect("removed");
}

/// A workstation that had 60 files and deleted 24 of them, one in each round: one more is asked about.
fn slowly_emptied() -> Station {
    let mut station = Station::new();
    for n in 0..60 {
        let name = format!("box/f{n}");
        station.disk.user().write(&name, EDIT).expect("written");
    }
    station.sync();
    station.computer.advance(2 * LATELY);
    for n in 0..24 {
        remove(&station, n);
        station.computer.advance(LATELY / 30);
        assert_eq!(halts(&mut station, 0), None, "{n}");
    }
    station
}

fn asks(halt: Option<&Halt>, now: usize, before: usize) -> bool {
    matches!(halt, Some(Halt::Deletions { deletions, lately, .. }) if (*deletions, *lately) == (now, before))
}

/// One file goes in each round, as `watch` sees a slow `rm -r`: the brakes judge the sum, and wait for an
/// answer for as long as it takes.
#[test]
fn a_slow_mishap_is_asked_about_like_a_fast_one() {
    let mut station = slowly_emptied();
    remove(&station, 24);
    for wait in [0, 1, 2] {
        station.computer.advance(wait * LATELY);
        station.engine = None;
        station.open();
        let halt = halts(&mut station, 0);
        assert!(asks(halt.as_ref(), 1, 24), "{wait}: {halt:?}");
    }
    assert_eq!(halts(&mut station, 1), None, "somebody said yes");
    remove(&station, 25);
    assert_eq!(
        halts(&mut station, 0),
        None,
        "and has looked at those before"
    );
    // What is long past is no part of anything.
    for n in 26..35 {
        remove(&station, n);
        station.computer.advance(LATELY / 4);
        assert_eq!(halts(&mut station, 0), None, "{n}");
    }
    assert_eq!(station.shelf.contents().len(), 25);
}

/// Somebody said yes to what was shown, and meanwhile it became more: nobody has looked at all of it.
#[test]
fn a_yes_to_less_than_was_asked_forgets_nothing() {
    let mut station = slowly_emptied();
    remove(&station, 24);
    remove(&station, 25);
    for yes in [0, 1, 1, 0] {
        let halt = halts(&mut station, yes);
        assert!(asks(halt.as_ref(), 2, 24), "{yes}: {halt:?}");
    }
    assert_eq!(station.shelf.contents().len(), 60 - 24);
    assert_eq!(halts(&mut station, 2), None, "somebody said yes to all");
    assert_eq!(station.shelf.contents().len(), 60 - 26);
}

/// At each step of a round the kernel fails to write out what has come, and another program is told of
/// it first. What the round takes for done is whole after a power cut all the same.
fn lost_while_they_come(count: usize) {
    let prepared = || {
        in_sync(match count {
            1 => |shelved| shelved.put_file("new0", EDIT),
            _ => |shelved| {
                for n in 0..12 {
                    shelved.put_file(&format!("new{n}"), EDIT);
                }
            },
        })
    };
    let mut station = prepared();
    let before = station.disk.steps();
    assert!(station.round());
    let steps = station.disk.steps() - before;
    let mut told = 0;
    for step in 0..steps {
        let mut station = prepared();
        let disk = station.disk.clone();
        station
            .disk
            .meanwhile(station.disk.steps() + step, move || {
                disk.lose_writes();
                disk.tell_another();
            });
        let had = station.shelf.contents();
        told += u32::from(!station.round());
        station.crash(Unsynced::Dropped);
        station.sync();
        station.sync();
        assert_eq!(station.shelf.contents(), had, "step {step}");
        assert_eq!(station.files(), had, "step {step}");
    }
    assert!(told > 0, "some rounds are told of it");
}

#[test]
fn a_write_that_failed_is_told_to_the_round_whoever_heard_of_it_first() {
    lost_while_they_come(1);
    // More than are synced one by one.
    lost_while_they_come(12);
}

/// Somebody saves and syncs nothing, a round is cut short at each step and after its last, and the
/// power goes. What the remote had by then it still has, at the same place.
fn cut_at_each_step(save: fn(&User)) {
    let prepared = || {
        let station = in_sync(|_| ());
        save(&station.disk.user().careless());
        station.computer.advance(Duration::from_secs(600));
        station
    };
    let mut station = prepared();
    let before = station.disk.steps();
    assert!(station.round());
    let steps = station.disk.steps() - before;
    for (step, seed) in (0..=steps).flat_map(|step| (0..4).map(move |seed| (step, seed))) {
        let mut station = prepared();
        station.disk.fail(station.disk.steps() + step, Fault::Die);
        station.round();
        let had = station.shelf.contents();
        station.crash(match seed {
            0 => Unsynced::Dropped,
            _ => Unsynced::Random(seed * 10_000 + step),
        });
        station.sync();
        station.sync();
        let has = station.shelf.contents();
        for (path, content) in had.iter().filter(|(_, content)| *content == EDIT) {
            let now = has.get(path);
            assert_eq!(now, Some(content), "step {step}, seed {seed}: {path}");
        }
    }
}

#[test]
fn what_was_pushed_outlives_a_power_cut_here() {
    cut_at_each_step(|user| user.write("box/new", EDIT).expect("written"));
    cut_at_each_step(|user| user.write("box/f", EDIT).expect("written"));
    cut_at_each_step(|user| user.write_new_and_rename("box/f", EDIT).expect("written"));
    cut_at_each_step(|user| {
        user.mkdir("box/d/e").expect("made");
        user.write("box/d/e/f", EDIT).expect("written");
    });
    cut_at_each_step(|user| {
        user.mkdir("box/d").expect("made");
        for number in 0..12 {
            let name = format!("box/d/{number}");
            user.write(&name, EDIT).expect("written");
        }
    });
}

#[test]
fn what_both_have_outlives_a_power_cut_here() {
    let prepared = || {
        let mut station = in_sync(|shelved| shelved.put_file("g", EDIT));
        station
            .disk
            .user()
            .careless()
            .write("box/g", EDIT)
            .expect("written");
        station.computer.advance(Duration::from_secs(600));
        assert!(station.round());
        station
    };
    for unsynced in [Unsynced::Dropped, Unsynced::Random(1), Unsynced::Random(2)] {
        let mut station = prepared();
        station.crash(unsynced);
        station.sync();
        station.sync();
        let has = station.shelf.contents();
        assert_eq!(has.get("g").map(Vec::as_slice), Some(EDIT), "{unsynced:?}");
        assert_eq!(station.files().get("g").map(Vec::as_slice), Some(EDIT));
    }
}

/// Somebody does this, the client is killed at each step of the round that sends it, and then somebody saves
/// at a path of it again.
fn killed_at_each_step(act: fn(&User), again: &str) {
    let prepared = || {
        let station = in_sync(|_| ());
        act(&station.disk.user());
        station.computer.advance(Duration::from_secs(600));
        station
    };
    let mut station = prepared();
    let before = station.disk.steps();
    assert!(station.round());
    let steps = station.disk.steps() - before;
    let mut unheard = 0;
    // Nothing is sent before the last of them.
    for step in (0..=steps).rev().take(60) {
        let mut station = prepared();
        let before = station.shelf.contents();
        station.disk.fail(station.disk.steps() + step, Fault::Die);
        let whole = station.round();
        unheard += u32::from(!whole && station.shelf.contents() != before);
        station.crash(Unsynced::Kept);
        let saved = station.disk.user().write(&format!("box/{again}"), LATER);
        saved.expect("written");
        station.sync();
        station.sync();
        let files = station.files();
        let found = files.get(again).map(Vec::as_slice);
        assert_eq!(found, Some(LATER), "step {step}: {files:?}");
        assert_eq!(files, station.shelf.contents(), "step {step}");
        let copies = files.keys().filter(|name| name.contains("conflict"));
        assert_eq!(copies.count(), 0, "step {step}: {files:?}");
    }
    assert!(
        unheard > 0,
        "some were killed before they heard that it arrived"
    );
}

#[test]
fn what_arrived_unheard_of_is_no_conflict_with_what_is_saved_next() {
    killed_at_each_step(|user| user.write("box/f", EDIT).expect("written"), "f");
    killed_at_each_step(|user| user.write("box/new", EDIT).expect("written"), "new");
    killed_at_each_step(|user| user.rename("box/f", "box/g").expect("renamed"), "g");
    let in_folders = |user: &User| {
        user.mkdir("box/d/e").expect("made");
        user.write("box/d/e/f", EDIT).expect("written");
    };
    killed_at_each_step(in_folders, "d/e/f");
}

/// What somebody else saved on top of what arrived was not seen here.
#[test]
fn what_was_changed_there_since_it_arrived_is_a_conflict_all_the_same() {
    let mut station = (0..)
        .find_map(|step| {
            let mut station = in_sync(|_| ());
            station.disk.user().write("box/f", EDIT).expect("written");
            station.computer.advance(Duration::from_secs(600));
            station.disk.fail(station.disk.steps() + step, Fault::Die);
            station.round();
            station.crash(Unsynced::Kept);
            station.shelf.holds(EDIT).then_some(station)
        })
        .expect("it arrives at some step");
    station.shelf.open().put_file("f", b"somebody else's");
    station.disk.user().write("box/f", LATER).expect("written");
    station.sync();
    station.sync();
    let files = station.files();
    assert_eq!(files.len(), 2, "{files:?}");
    assert_eq!(files["f"], b"somebody else's");
    assert!(station.shelf.holds(LATER));
}

/// Somebody saves `.raspboxignore` in two steps, of which the second comes at each step of a round, if
/// soon enough.
fn save_rules_at_each_step(first: fn(&User)) {
    const RULES: &[u8] = b"secret\n";
    let prepared = || {
        let mut station = Station::new();
        let user = station.disk.user();
        user.write("box/.raspboxignore", RULES).expect("written");
        station.sync();
        user.write("box/secret", EDIT).expect("written");
        station.sync();
        station.computer.advance(Duration::from_secs(600));
        first(&user);
        station
    };
    let mut station = prepared();
    let before = station.disk.steps();
    assert!(station.round());
    let steps = station.disk.steps() - before;
    assert!(station.shelf.holds(EDIT), "it was meant so");
    let mut soon = 0;
    for step in 0..steps {
        let mut station = prepared();
        let (user, computer) = (station.disk.user(), station.computer.clone());
        let saved = Arc::new(Mutex::new(None));
        let (began, when) = (computer.now(), saved.clone());
        station
            .disk
            .meanwhile(station.disk.steps() + step, move || {
                user.write("box/.raspboxignore", RULES).expect("written");
                *when.lock().expect("nobody panicked") = Some(computer.now());
            });
        assert!(station.round());
        let saved: Option<Mtime> = *saved.lock().expect("nobody panicked");
        // There may be fewer steps where it never comes to be sent.
        if saved.is_some_and(|saved| saved.0 - began.0 < 90_000_000) {
            soon += 1;
            assert!(!station.shelf.holds(EDIT), "step {step}");
        }
    }
    assert!(soon > 5, "{soon} of {steps}");
}

#[test]
fn rules_that_are_being_saved_are_waited_for() {
    save_rules_at_each_step(|user| user.write("box/.raspboxignore", b"").expect("written"));
    save_rules_at_each_step(|user| user.remove("box/.raspboxignore").expect("removed"));
}

/// What a round says, and that it was the only lap.
fn troubles(station: &mut Station) -> Vec<(String, Trouble)> {
    let engine = station.engine.as_mut().expect("opened before");
    let mut plans = 0;
    let round = engine.round(&Scope::All, Options::default(), &mut |event| {
        plans += usize::from(matches!(event, Event::Planned(_)));
    });
    let problems = round.expect("a round").problems;
    assert_eq!(plans, 1, "{problems:?}");
    let said = problems
        .into_iter()
        .map(|problem| (problem.path.to_string(), problem.what));
    said.collect()
}

/// A station whose rules ignore folders called `build`.
fn ignoring() -> Station {
    let mut station = Station::new();
    let user = station.disk.user();
    user.write("box/.raspboxignore", b"build/\n")
        .expect("written");
    station.sync();
    station
}

#[test]
fn a_folder_in_which_something_ignored_stands_there_is_said_and_not_tried_for_ever() {
    let mut station = Station::new();
    let user = station.disk.user();
    user.mkdir("box/p/build").expect("made");
    user.write("box/p/build/x", OLD).expect("written");
    station.sync();
    user.write("box/.raspboxignore", b"build/\n")
        .expect("written");
    station.sync();
    user.remove_all("box/p").expect("removed");
    station.computer.advance(Duration::from_secs(600));
    let said = [("p".to_owned(), Trouble::HoldsUnsynced)];
    assert_eq!(troubles(&mut station), said);
    // It goes as soon as nothing is in it.
    for gone in ["p/build/x", "p/build"] {
        station.shelf.open().entries.remove(&path(gone));
    }
    station.sync();
    assert!(!station.shelf.open().entries.contains_key(&path("p")));
}

#[test]
fn what_is_ignored_and_in_the_way_is_said_and_not_tried_for_ever() {
    let in_the_way = |said: &[(String, Trouble)]| {
        let [(path, Trouble::Failed(why))] = said else {
            panic!("{said:?}")
        };
        assert!(path == "build" && why.contains("not synced"), "{said:?}");
    };
    let mut here = ignoring();
    here.disk.user().mkdir("box/build").expect("made");
    here.shelf.open().put_file("build", EDIT);
    in_the_way(&troubles(&mut here));
    let mut there = ignoring();
    there
        .shelf
        .open()
        .put(&path("build"), Entry::Folder, Vec::new());
    there.disk.user().write("box/build", EDIT).expect("written");
    there.computer.advance(Duration::from_secs(600));
    in_the_way(&troubles(&mut there));
}
