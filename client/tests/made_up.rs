//! Remotes that are made up, for what no real one does on demand: contents that aren't what they are
//! said to be, and drives that can't hold everything.
#![allow(missing_docs)]

use raspbox::engine::{Engine, Options, Scope, SyncError};
use raspbox::local::Workspace;
use raspbox::remote::{Events, Look, Progress, Pushed, Remote, RemoteError, RemoteTree, Sink};
use raspbox::verify::{Cure, Finding, Side};
use raspbox_beneath::File;
use raspbox_core::guard::{Allowances, Displaced, Halt};
use raspbox_core::plan::Trouble;
use raspbox_core::tree::Unknown;
use raspbox_protocol::commit::{Op, Outcome, Refusal};
use raspbox_protocol::info::{DriveId, Holds, Info};
use raspbox_protocol::want::Want;
use raspbox_protocol::{Cursor, Digest, Entry, Epoch, Mtime, RelPath, Version};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One file `a`, whose bytes are never those of its hash, on a drive that holds what FAT does.
#[derive(Clone, Default)]
struct Spoilt {
    version: Arc<AtomicU64>,
    fetched: Arc<AtomicU64>,
    /// The paths that were pushed.
    pushed: Arc<Mutex<Vec<RelPath>>>,
    /// Which drive it says that it is.
    drive: Arc<AtomicU8>,
}

impl Spoilt {
    fn cursor(&self) -> Cursor {
        Cursor {
            epoch: Epoch([1; 16]),
            seq: self.version.load(Ordering::SeqCst),
        }
    }
}

impl Remote for Spoilt {
    fn info(&mut self) -> Result<Info, RemoteError> {
        Ok(Info {
            protocol: raspbox_protocol::PROTOCOL_VERSION,
            drive: DriveId([self.drive.load(Ordering::SeqCst); 16]),
            cursor: self.cursor(),
            free_bytes: 1 << 30,
            size_bytes: 1 << 30,
            holds: Holds {
                case_sensitive: false,
                symlinks: false,
                dos_names: true,
                file_max_bytes: u64::MAX,
                granularity: Duration::from_nanos(1),
            },
            now: Mtime(0),
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
        let file = raspbox_protocol::File {
            digest: Digest::of(b"good"),
            size: 4,
            mtime: Mtime(0),
            executable: false,
        };
        let version = Version(self.cursor().seq);
        Ok(Look {
            whole: true,
            changes: vec![(
                RelPath::parse("a").expect("good"),
                Some(Entry::File(file)),
                version,
            )],
            unknown: Vec::new(),
            cursor: self.cursor(),
        })
    }

    fn push(
        &mut self,
        ops: &[Op],
        _: &mut dyn FnMut(usize) -> io::Result<File>,
        _: &mut dyn FnMut(Progress),
    ) -> Result<Pushed, RemoteError> {
        let mut pushed = self.pushed.lock().expect("nobody panicked");
        for op in ops {
            let Op::Put { path, .. } = op else {
                panic!("only files: {op:?}")
            };
            pushed.push(path.clone());
        }
        Ok(ops.iter().map(|_| Outcome::Done(Version(9))).collect())
    }

    fn pull(&mut self, wants: &[Want], sink: &mut dyn Sink) -> Result<(), RemoteError> {
        for index in 0..wants.len() {
            self.fetched.fetch_add(1, Ordering::SeqCst);
            sink.begin(index, 0, 4)?;
            sink.data(index, b"evil")?;
            sink.done(index);
        }
        Ok(())
    }

    fn knows(&mut self, _cursor: Cursor) -> Result<bool, RemoteError> {
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

/// A paired folder, and an engine for it.
fn engine(dir: &Path, remote: &Spoilt) -> (PathBuf, Engine) {
    let folder = dir.join("folder");
    Workspace::mark(&folder, "pair").expect("marked");
    let (database, remote) = (dir.join("sync.db"), Box::new(remote.clone()));
    let engine = Engine::open(&folder, "pair", "laptop", &database, remote);
    (folder, engine.expect("an engine"))
}

fn problems(engine: &mut Engine) -> Vec<Trouble> {
    let summary = engine.round(&Scope::All, Options::default(), &mut |_| {});
    let problems = summary.expect("a round").problems;
    problems.into_iter().map(|problem| problem.what).collect()
}

/// Writes a file as if long ago.
fn write(path: &Path, content: &str) {
    std::fs::write(path, content).expect("write");
    let file = std::fs::File::options().append(true).open(path);
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    file.and_then(|file| file.set_modified(long_ago))
        .expect("its time");
}

#[test]
fn a_content_that_is_spoilt_again_and_again_is_damaged_and_not_fetched_for_ever() {
    let dir = tempfile::tempdir().expect("temp dir");
    let remote = Spoilt::default();
    let (folder, mut engine) = engine(dir.path(), &remote);
    let mut round = || {
        let damaged = Trouble::Remote(Unknown::Damaged);
        assert_eq!(problems(&mut engine), [damaged]);
        remote.fetched.load(Ordering::SeqCst)
    };
    assert_eq!([round(), round(), round()], [2, 2, 2]);
    // Another version may be another content.
    remote.version.store(2, Ordering::SeqCst);
    assert_eq!([round(), round()], [4, 4]);
    assert!(!folder.join("a").exists());
    let staging = std::fs::read_dir(folder.join(".raspbox/staging"));
    assert_eq!(staging.expect("staging").count(), 0);
}

#[test]
fn who_is_another_drive_at_each_answer_is_told_nothing_and_deletes_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    let remote = Spoilt::default();
    let (folder, mut engine) = engine(dir.path(), &remote);
    write(&folder.join("a"), "good");
    assert_eq!(problems(&mut engine), []);
    write(&folder.join("mine"), "mine");
    for drive in [1, 2, 1] {
        remote.drive.store(drive, Ordering::SeqCst);
        remote.version.fetch_add(1, Ordering::SeqCst);
        let round = engine.round(&Scope::All, Options::default(), &mut |_| {});
        let halt = round.expect_err("another drive");
        assert!(
            matches!(halt, SyncError::Halt(Halt::DriveChanged { expected, found })
                if expected == DriveId([0; 16]) && found == DriveId([drive; 16])),
            "{halt}"
        );
    }
    assert!(remote.pushed.lock().expect("nobody panicked").is_empty());
    assert_eq!(remote.fetched.load(Ordering::SeqCst), 0);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("there");
    assert_eq!((read("a"), read("mine")), ("good".into(), "mine".into()));
    // The one that it was first goes on.
    remote.drive.store(0, Ordering::SeqCst);
    assert_eq!(problems(&mut engine), []);
    assert_eq!(remote.pushed.lock().expect("nobody panicked").len(), 1);
}

#[test]
fn a_repair_takes_nothing_that_is_spoilt_itself() {
    let dir = tempfile::tempdir().expect("temp dir");
    let remote = Spoilt::default();
    let (folder, mut engine) = engine(dir.path(), &remote);
    write(&folder.join("a"), "good");
    assert_eq!(problems(&mut engine), []);
    // It rots: its client knows the looks that it has then.
    write(&folder.join("a"), "rots");
    let now = std::fs::metadata(folder.join("a")).expect("there");
    let ctime = now.ctime() * 1_000_000_000 + now.ctime_nsec();
    let db = rusqlite::Connection::open(dir.path().join("sync.db")).expect("the state");
    let changed = db.execute("UPDATE print SET ctime = ?", [ctime]);
    assert_eq!(changed.expect("updated"), 1);
    let reread = engine.reread(&mut |_| {}).expect("read");
    engine.remember(&reread).expect("remembered");
    let found = engine
        .compare(&reread, true, &mut |_| {})
        .expect("compared");
    let expected = Finding {
        path: RelPath::parse("a").expect("good"),
        side: Side::Here,
        cure: Cure::Other,
        repaired: false,
    };
    assert_eq!(found.files, [expected]);
    assert_eq!(remote.fetched.load(Ordering::SeqCst), 1);
    let left = std::fs::read_to_string(folder.join("a"));
    assert_eq!(left.expect("there"), "rots");
    let staging = std::fs::read_dir(folder.join(".raspbox/staging"));
    assert_eq!(staging.expect("staging").count(), 0);
}

#[test]
fn what_the_drive_cannot_hold_is_said_and_not_sent() {
    let dir = tempfile::tempdir().expect("temp dir");
    let remote = Spoilt::default();
    let (folder, mut engine) = engine(dir.path(), &remote);
    for name in ["a", "fine", "why?", "Name", "name"] {
        write(&folder.join(name), "good");
    }
    let troubles = problems(&mut engine);
    let cannot_hold = |trouble: &&Trouble| matches!(trouble, Trouble::CannotHold(_));
    assert!(
        troubles.iter().filter(cannot_hold).count() >= 2,
        "{troubles:?}"
    );
    let pushed = remote.pushed.lock().expect("nobody panicked").clone();
    let is = |name: &str| pushed.iter().any(|path| path.as_str() == name);
    assert!(is("fine") && !is("why?"), "{pushed:?}");
    assert!(!(is("Name") && is("name")), "{pushed:?}");
}

/// A drive that takes everything; at the first deletion, something happens on this computer.
struct Drive {
    files: BTreeMap<RelPath, raspbox_protocol::File>,
    meanwhile: Option<Box<dyn FnOnce() + Send>>,
}

impl Remote for Drive {
    fn info(&mut self) -> Result<Info, RemoteError> {
        Spoilt::default().info()
    }

    fn knows(&mut self, _: Cursor) -> Result<bool, RemoteError> {
        Ok(true)
    }

    fn look(
        &mut self,
        _: Option<Cursor>,
        _: &RemoteTree,
        _: &dyn Fn(&RelPath) -> Option<(u64, bool)>,
    ) -> Result<Look, RemoteError> {
        let files = self.files.iter();
        Ok(Look {
            whole: true,
            changes: files
                .map(|(path, file)| (path.clone(), Some(Entry::File(*file)), Version(0)))
                .collect(),
            unknown: Vec::new(),
            cursor: Spoilt::default().cursor(),
        })
    }

    fn push(
        &mut self,
        ops: &[Op],
        _: &mut dyn FnMut(usize) -> io::Result<File>,
        _: &mut dyn FnMut(Progress),
    ) -> Result<Pushed, RemoteError> {
        let done = ops.iter().map(|op| match op {
            Op::Put { path, file, .. } => {
                self.files.insert(path.clone(), *file);
                Outcome::Done(Version(0))
            }
            Op::Delete { path, .. } => match self.meanwhile.take() {
                // Refused as changed, so that the round looks again.
                Some(meanwhile) => {
                    meanwhile();
                    Outcome::Refused(Refusal::Changed)
                }
                None => {
                    self.files.remove(path);
                    Outcome::Done(Version(0))
                }
            },
            other => panic!("neither put nor delete: {other:?}"),
        });
        Ok(done.collect())
    }

    fn pull(&mut self, _: &[Want], _: &mut dyn Sink) -> Result<(), RemoteError> {
        panic!("there is nothing to pull")
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

#[test]
fn a_yes_is_for_all_laps_of_a_round_together() {
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = dir.path().join("folder");
    Workspace::mark(&folder, "pair").expect("marked");
    let name = |n: usize| folder.join(format!("file {n}"));
    for n in 0..100 {
        write(&name(n), &format!("content {n}"));
    }
    let more: Vec<PathBuf> = (30..55).map(name).collect();
    let meanwhile = move || {
        for path in more {
            std::fs::remove_file(path).expect("remove");
        }
    };
    let remote = Drive {
        files: BTreeMap::new(),
        meanwhile: Some(Box::new(meanwhile)),
    };
    let database = dir.path().join("sync.db");
    let engine = Engine::open(&folder, "pair", "laptop", &database, Box::new(remote));
    let mut engine = engine.expect("an engine");
    let mut round = |deletions| {
        let allow = Allowances {
            deletions,
            changes: 0,
        };
        let options = Options {
            dry_run: false,
            allow,
        };
        engine.round(&Scope::All, options, &mut |_| {})
    };
    assert!(round(0).is_ok_and(|summary| summary.pushed == 100));
    for n in 0..30 {
        std::fs::remove_file(name(n)).expect("remove");
    }
    assert!(matches!(round(29), Err(SyncError::Halt(_))));
    // 30 were confirmed, and 29 went before 25 others did: with the one that is left, fewer than 30.
    match round(30) {
        Err(SyncError::Halt(Halt::Deletions { deletions, .. })) => assert_eq!(deletions, 26),
        other => panic!("{other:?}"),
    }
}

/// A drive on which others replace and delete without the appliance, and that is full or isn't.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<OnDrive>>);

#[derive(Default)]
struct OnDrive {
    files: BTreeMap<RelPath, &'static str>,
    seq: u64,
    kept: BTreeMap<Digest, RelPath>,
    full: bool,
    asked: usize,
    /// Does something on this computer while it is asked.
    meanwhile: Option<Box<dyn FnOnce() + Send>>,
}

fn file_of(content: &str) -> raspbox_protocol::File {
    raspbox_protocol::File {
        digest: Digest::of(content.as_bytes()),
        size: content.len() as u64,
        mtime: Mtime(0),
        executable: false,
    }
}

impl Written {
    fn on(&self) -> std::sync::MutexGuard<'_, OnDrive> {
        self.0.lock().expect("nobody panicked")
    }

    /// Somebody writes on it, or deletes.
    fn write(&self, files: &[(&str, Option<&'static str>)]) {
        let mut on = self.on();
        on.seq += 1;
        for (path, content) in files {
            let path = RelPath::parse(path).expect("good");
            match content {
                Some(content) => drop(on.files.insert(path, content)),
                None => drop(on.files.remove(&path)),
            }
        }
    }
}

impl Remote for Written {
    fn displaced(&self) -> Displaced {
        Displaced::Kept
    }

    fn info(&mut self) -> Result<Info, RemoteError> {
        let keeps = true;
        let info = Spoilt::default().info()?;
        let cursor = Cursor {
            seq: self.on().seq,
            ..info.cursor
        };
        Ok(Info {
            keeps,
            cursor,
            ..info
        })
    }

    fn knows(&mut self, _: Cursor) -> Result<bool, RemoteError> {
        Ok(true)
    }

    fn look(
        &mut self,
        _: Option<Cursor>,
        _: &RemoteTree,
        _: &dyn Fn(&RelPath) -> Option<(u64, bool)>,
    ) -> Result<Look, RemoteError> {
        let cursor = self.info()?.cursor;
        let on = self.on();
        let files = on.files.iter().map(|(path, content)| {
            let entry = Entry::File(file_of(content));
            (path.clone(), Some(entry), Version(1))
        });
        Ok(Look {
            whole: true,
            changes: files.collect(),
            unknown: Vec::new(),
            cursor,
        })
    }

    fn holds(&mut self, digests: &[Digest]) -> Result<Vec<bool>, RemoteError> {
        let mut on = self.on();
        on.asked += 1;
        if let Some(meanwhile) = on.meanwhile.take() {
            meanwhile();
        }
        Ok(digests.iter().map(|d| on.kept.contains_key(d)).collect())
    }

    fn push(
        &mut self,
        ops: &[Op],
        open: &mut dyn FnMut(usize) -> io::Result<File>,
        _: &mut dyn FnMut(Progress),
    ) -> Result<Pushed, RemoteError> {
        let mut on = self.on();
        let keep = |(n, op): (usize, &Op)| {
            let Op::Keep { path, file } = op else {
                return Ok(Outcome::Refused(Refusal::NoSpace));
            };
            let content = io::read_to_string(open(n)?.into_std())?;
            Ok(if Digest::of(content.as_bytes()) != file.digest {
                Outcome::Refused(Refusal::BadContent)
            } else if on.full {
                Outcome::Refused(Refusal::NoSpace)
            } else {
                on.kept.insert(file.digest, path.clone());
                Outcome::Done(Version(on.seq))
            })
        };
        ops.iter().enumerate().map(keep).collect()
    }

    fn pull(&mut self, wants: &[Want], sink: &mut dyn Sink) -> Result<(), RemoteError> {
        for (index, want) in wants.iter().enumerate() {
            let content = self.on().files[&want.path];
            sink.begin(index, 0, content.len() as u64)?;
            sink.data(index, content.as_bytes())?;
            sink.done(index);
        }
        Ok(())
    }

    fn knows_hashes(&self) -> bool {
        true
    }

    fn events(&self, _: Cursor) -> Result<Option<Box<dyn Events>>, RemoteError> {
        Ok(None)
    }
}

/// An engine that has everything that is on the drive.
fn in_sync(dir: &Path, drive: &Written) -> (PathBuf, Engine) {
    let folder = dir.join("folder");
    Workspace::mark(&folder, "pair").expect("marked");
    let (database, remote) = (dir.join("sync.db"), Box::new(drive.clone()));
    let engine = Engine::open(&folder, "pair", "laptop", &database, remote);
    let mut engine = engine.expect("an engine");
    assert_eq!(problems(&mut engine), []);
    assert_eq!(drive.on().asked, 0, "nothing is given up, nothing asked");
    (folder, engine)
}

#[test]
fn what_the_drive_has_no_room_to_keep_stays_here_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().expect("temp dir");
    let drive = Written::default();
    drive.write(&["a", "b", "d"].map(|name| (name, Some("old"))));
    drive.write(&[("c", Some("known"))]);
    let c = RelPath::parse("c").expect("good");
    drive.on().kept.insert(Digest::of(b"known"), c);
    let (folder, mut engine) = in_sync(dir.path(), &drive);
    drive.on().full = true;
    drive.write(&[
        ("a", Some("new")),
        ("b", None),
        ("c", Some("newer")),
        ("new", Some("n")),
    ]);
    let stands = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    for asked in 1..3 {
        let troubles = problems(&mut engine);
        let is_said = |trouble: &Trouble| matches!(trouble, Trouble::Failed(why) if why.contains("stays here") && why.contains("full"));
        assert!(
            troubles.len() == 2 && troubles.iter().all(is_said),
            "{troubles:?}"
        );
        assert_eq!(drive.on().asked, asked, "one question a round");
        assert_eq!(
            (stands("a"), stands("b")),
            (Some("old".into()), Some("old".into()))
        );
        assert_eq!(
            (stands("c"), stands("new")),
            (Some("newer".into()), Some("n".into()))
        );
    }
    drive.on().full = false;
    assert_eq!(problems(&mut engine), []);
    assert_eq!((stands("a"), stands("b")), (Some("new".into()), None));
    let kept: Vec<Digest> = drive.on().kept.keys().copied().collect();
    let mut expected = [Digest::of(b"old"), Digest::of(b"known")];
    expected.sort();
    assert_eq!(kept, expected);
    // Nothing is left to ask.
    let asked = drive.on().asked;
    assert_eq!(problems(&mut engine), []);
    assert_eq!(drive.on().asked, asked);
}

#[test]
fn what_is_edited_while_it_is_to_be_kept_is_an_edit() {
    let dir = tempfile::tempdir().expect("temp dir");
    let drive = Written::default();
    drive.write(&[("a", Some("old"))]);
    let (folder, mut engine) = in_sync(dir.path(), &drive);
    drive.write(&[("a", Some("new"))]);
    let at = folder.join("a");
    drive.on().meanwhile = Some(Box::new(move || write(&at, "mine")));
    let summary = engine.round(&Scope::All, Options::default(), &mut |_| {});
    let copy = &summary.expect("a round").conflicts[0].1;
    assert!(folder.join(copy.as_str()).exists());
    let mut contents: Vec<String> = std::fs::read_dir(&folder)
        .expect("a folder")
        .filter_map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).ok())
        .collect();
    contents.sort();
    assert_eq!(contents, ["mine", "new"]);
}
