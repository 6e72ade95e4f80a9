//! Whole rounds on a simulated disk, with a remote that is made up: somebody writes at every step of a
//! round, and the power is cut at every step.
#![allow(missing_docs)]

mod guard;
mod ignored;
mod modes;
mod motion;
mod moved;
mod power;
mod sealed;

use raspbox::engine::{Engine, Options, Scope};
use raspbox::local::Workspace;
use raspbox::remote::{Events, Look, Progress, Pushed, Remote, RemoteError, RemoteTree, Sink};
use raspbox_beneath::File;
use raspbox_beneath::sim::{Computer, Disk, Entered, Node, Traits, Unsynced, enter};
use raspbox_core::guard::Displaced;
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
    /// How often somebody looked at all of them.
    looks: u32,
    /// Whether its cursor says nothing of what changes, as that of an ordinary FTP server.
    silent: bool,
}

impl Shelf {
    fn open(&self) -> MutexGuard<'_, Shelved> {
        self.0.lock().expect("nobody panicked")
    }

    fn cursor(&self) -> Cursor {
        let shelved = self.open();
        Cursor {
            epoch: Epoch([1; 16]),
            seq: if shelved.silent { 0 } else { shelved.seq },
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

    fn remove(&mut self, name: &str) {
        self.seq += 1;
        self.entries.remove(&path(name)).expect("it was there");
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
                self.seq += 1;
                let version = Version(self.seq);
                let below = |path: &RelPath| path == from || path.is_in(from);
                let moved: Vec<RelPath> =
                    self.entries.keys().filter(|p| below(p)).cloned().collect();
                for old in moved {
                    let (entry, bytes, _) = self.entries.remove(&old).expect("it was just there");
                    let new = path(&old.as_str().replacen(from.as_str(), to.as_str(), 1));
                    self.entries.insert(new, (entry, bytes, version));
                }
                Ok(version)
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
            Op::Symlink {
                path,
                expect,
                target,
            } => {
                if !self.meets(path, *expect) {
                    return Err(Refusal::Changed);
                }
                Ok(self.put(path, Entry::Symlink(target.clone()), Vec::new()))
            }
            Op::Patch { .. } | Op::Restore { .. } | Op::Keep { .. } => {
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
            zstd: false,
        })
    }

    fn look(
        &mut self,
        _: Option<Cursor>,
        _: &RemoteTree,
        _: &dyn Fn(&RelPath) -> Option<(u64, bool)>,
    ) -> Result<Look, RemoteError> {
        let cursor = self.cursor();
        self.open().looks += 1;
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
        _: &mut dyn FnMut(Progress),
    ) -> Result<Pushed, RemoteError> {
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
            sink.begin(index, 0, bytes.len() as u64)?;
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
        !self.open().silent
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
        Station::on(Traits::ext4())
    }

    fn on(traits: Traits) -> Station {
        let computer = Computer::new(NOON, 1);
        let entered = enter(&computer);
        let disk = Disk::new(traits);
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
