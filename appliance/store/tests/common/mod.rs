//! A store in a folder of its own, and words for what tests do to it.
#![allow(dead_code, missing_docs, unreachable_pub)]

use raspbox_protocol::commit::{CommitFrame, Expect, Op, Outcome};
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::patch::{Patch, Piece};
use raspbox_protocol::special::{CommitSummary, RequestId};
use raspbox_protocol::wire::{DATA_MAX_BYTES, to_bytes};
use raspbox_protocol::{Cursor, Digest, Entry, File, LinkTarget, Mtime, RelPath, Version};
use raspbox_store::{By, FeedError, OpenError, Options, Step, Store, StoreError, Tally};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use tempfile::TempDir;

pub use raspbox_store::Faults;

/// Long ago, so that no fingerprint is racy.
pub const LONG_AGO: Mtime = Mtime(1_500_000_000_123_456_789);

pub struct Box {
    pub dir: TempDir,
    pub store: Option<Store>,
}

pub fn path(text: &str) -> RelPath {
    RelPath::parse(text).expect("a good path")
}

pub fn by() -> By {
    By("ann".into())
}

pub fn options() -> Options {
    Options { floor_bytes: 0 }
}

pub fn id(n: u8) -> RequestId {
    RequestId([n; 16])
}

pub fn file(content: &str) -> File {
    File {
        digest: Digest::of(content.as_bytes()),
        size: content.len() as u64,
        mtime: LONG_AGO,
        executable: false,
    }
}

/// The frames of a put of this content.
pub fn put(at: &str, expect: Expect, content: &str) -> Vec<CommitFrame> {
    let mut frames = vec![CommitFrame::Op(Op::Put {
        path: path(at),
        expect,
        file: file(content),
    })];
    for piece in content.as_bytes().chunks(DATA_MAX_BYTES) {
        frames.push(CommitFrame::Data(piece.to_vec()));
    }
    frames
}

/// The frames of a patch that makes `content` of a base: where both begin and end alike, it is copied.
pub fn patch(at: &str, expect: Expect, base: &str, content: &str) -> Vec<CommitFrame> {
    let alike = |a: &mut dyn Iterator<Item = u8>, b: &mut dyn Iterator<Item = u8>| {
        a.zip(b).take_while(|(a, b)| a == b).count()
    };
    let (old, new) = (base.as_bytes(), content.as_bytes());
    let begin = alike(&mut old.iter().copied(), &mut new.iter().copied());
    let (old_rest, new_rest) = (&old[begin..], &new[begin..]);
    let end = alike(
        &mut old_rest.iter().rev().copied(),
        &mut new_rest.iter().rev().copied(),
    );
    let sent = &new_rest[..new_rest.len() - end];
    let pieces = [
        Piece::Copied {
            offset: 0,
            len_bytes: begin as u64,
        },
        Piece::Sent {
            len_bytes: sent.len() as u64,
        },
        Piece::Copied {
            offset: (old.len() - end) as u64,
            len_bytes: end as u64,
        },
    ];
    let pieces = pieces.into_iter().filter(|piece| piece.len_bytes() > 0);
    let patch = Patch::new(Digest::of(old), old.len() as u64, pieces.collect());
    let mut frames = op(Op::Patch {
        path: path(at),
        expect,
        file: file(content),
        patch: patch.expect("good pieces"),
    });
    for piece in sent.chunks(DATA_MAX_BYTES) {
        frames.push(CommitFrame::Data(piece.to_vec()));
    }
    frames
}

pub fn op(op: Op) -> Vec<CommitFrame> {
    vec![CommitFrame::Op(op)]
}

pub fn mkdir(at: &str) -> Vec<CommitFrame> {
    op(Op::MakeFolder { path: path(at) })
}

pub fn delete(at: &str, expect: Version) -> Vec<CommitFrame> {
    op(Op::Delete {
        path: path(at),
        expect,
    })
}

pub fn mv(from: &str, expect: Version, to: &str) -> Vec<CommitFrame> {
    op(Op::Move {
        from: path(from),
        expect,
        to: path(to),
    })
}

pub fn link(at: &str, expect: Expect, target: &str) -> Vec<CommitFrame> {
    op(Op::Symlink {
        path: path(at),
        expect,
        target: LinkTarget::parse(target).expect("a good target"),
    })
}

/// A whole commit's bytes.
pub fn stream(ops: &[Vec<CommitFrame>]) -> Vec<u8> {
    let mut frames = ops.concat();
    frames.push(CommitFrame::End {
        ops: u32::try_from(ops.len()).expect("few"),
    });
    to_bytes(&frames)
}

impl Default for Box {
    fn default() -> Self {
        Box::new()
    }
}

impl Box {
    pub fn new() -> Box {
        Box::with(Faults::default())
    }

    pub fn with(faults: Faults) -> Box {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut new = Box { dir, store: None };
        new.open_with(faults).expect("opens");
        new
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("open")
    }

    /// How many files of the store this process has open.
    pub fn descriptors(&self) -> usize {
        let dir = self.dir.path().canonicalize().expect("there");
        let open = std::fs::read_dir("/proc/self/fd").expect("Linux");
        let targets = open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        targets.filter(|target| target.starts_with(&dir)).count()
    }

    pub fn close(&mut self) {
        self.store = None;
    }

    pub fn open_with(&mut self, faults: Faults) -> Result<(), OpenError> {
        self.store = None;
        self.store = Some(Store::open_with(self.dir.path(), options(), faults)?);
        Ok(())
    }

    pub fn reopen(&mut self) {
        self.open_with(Faults::default()).expect("opens again");
    }

    /// An ordinary upload.
    pub fn put(&self, at: &str, content: &str) -> Result<Version, StoreError> {
        let mut staged = self.store().stage()?;
        staged.write_all(content.as_bytes()).expect("written");
        self.store().put(staged, &path(at), &by())
    }

    pub fn try_commit(&self, n: u8, bytes: &[u8]) -> Result<CommitSummary, StoreError> {
        let mut bytes = bytes;
        self.store().commit(id(n), &by(), &|_| true, &mut bytes)
    }

    /// Commits and returns the outcomes.
    pub fn commit(&self, n: u8, ops: &[Vec<CommitFrame>]) -> Vec<Outcome> {
        self.try_commit(n, &stream(ops)).expect("a commit");
        let outcomes = self.store().outcome(id(n)).expect("an answer");
        outcomes.expect("it is known")
    }

    /// Commits one operation.
    pub fn one(&self, n: u8, op: Vec<CommitFrame>) -> Outcome {
        self.commit(n, &[op]).pop().expect("one outcome")
    }

    /// What stands in a file on the disk.
    pub fn on_disk(&self, at: &str) -> Option<String> {
        std::fs::read_to_string(self.at(at)).ok()
    }

    pub fn feed(&self, since: Option<Cursor>) -> Result<Vec<FeedFrame>, FeedError> {
        let mut frames = Vec::new();
        self.store().feed(since, &mut |frame| {
            frames.push(frame);
            Ok(())
        })?;
        Ok(frames)
    }

    /// The whole tree by the journal.
    pub fn tree(&self) -> BTreeMap<RelPath, (Entry, Version)> {
        let frames = self.feed(None).expect("a feed");
        let mut last: Option<RelPath> = None;
        let mut tree = BTreeMap::new();
        for frame in frames {
            if let FeedFrame::Entry {
                path,
                entry,
                version,
            } = frame
            {
                assert!(last.as_ref().is_none_or(|last| *last < path), "in order");
                last = Some(path.clone());
                tree.insert(path, (entry, version));
            }
        }
        tree
    }

    pub fn version(&self, at: &str) -> Version {
        self.tree()[&path(at)].1
    }

    /// Each change after a cursor in one word: `+path` or `-path`.
    pub fn changes(&self, since: Cursor) -> Vec<String> {
        let frames = self.feed(Some(since)).expect("a feed");
        frames
            .iter()
            .filter_map(|frame| match frame {
                FeedFrame::Entry { path, .. } => Some(format!("+{path}")),
                FeedFrame::Gone { path, .. } => Some(format!("-{path}")),
                _ => None,
            })
            .collect()
    }

    /// The contents that are kept as versions, by the path that they stood at.
    pub fn versions(&self) -> Vec<(Option<String>, Option<Digest>)> {
        let db = rusqlite::Connection::open(self.at(".raspbox/journal.db")).expect("opens");
        let mut statement = db
            .prepare("SELECT path, digest FROM displaced ORDER BY id")
            .expect("a statement");
        let rows = statement.query_map([], |row| {
            let path: Option<String> = row.get(0)?;
            let digest: Option<[u8; 32]> = row.get(1)?;
            Ok((
                path.map(|path| path.replace('\u{1}', "/")),
                digest.map(Digest::from_bytes),
            ))
        });
        rows.expect("rows").map(|row| row.expect("a row")).collect()
    }

    /// The contents that are kept, each under its own hash.
    pub fn kept(&self) -> BTreeSet<Digest> {
        let mut kept = BTreeSet::new();
        for shelf in std::fs::read_dir(self.at(".raspbox/versions")).expect("versions") {
            for file in std::fs::read_dir(shelf.expect("a shelf").path()).expect("a shelf") {
                let file = file.expect("a file").path();
                let digest = Digest::of(&std::fs::read(&file).expect("content"));
                let name = file.file_name().and_then(|name| name.to_str());
                assert_eq!(name, Some(&*digest.to_string()), "kept under its own hash");
                kept.insert(digest);
            }
        }
        kept
    }

    /// What the history says can be had is there; what is kept, it knows of; and at every moment
    /// something stands where it says so.
    pub fn check_history(&self) {
        let versions = self.versions();
        let noted: BTreeSet<Digest> = versions.iter().filter_map(|(_, digest)| *digest).collect();
        for digest in self.kept() {
            assert!(noted.contains(&digest), "{digest} is kept and nobody knows");
        }
        let paths: BTreeSet<&str> = versions.iter().filter_map(|(p, _)| p.as_deref()).collect();
        for at in paths {
            let mut later: Option<Mtime> = None;
            for past in self.store().history(&path(at)).expect("a history") {
                if let Some(ended) = &past.ended {
                    assert!(past.since <= ended.at, "{at}: {past:?}");
                    assert!(
                        later.is_none_or(|later| ended.at <= later),
                        "{at}: {past:?}"
                    );
                }
                later = Some(past.since);
                if let (Entry::File(file), true) = (&past.entry, past.kept) {
                    let open = self.store().read_kept(file).expect("an answer");
                    let open = open.expect("it can be had").into_std();
                    let text = std::io::read_to_string(open);
                    let digest = Digest::of(text.expect("it can be read").as_bytes());
                    assert_eq!(digest, file.digest, "{at}: {past:?}");
                }
            }
        }
        assert_eq!(self.tree_at(self.now()), self.entries(), "the tree now");
    }

    /// The history's clock.
    pub fn now(&self) -> Mtime {
        self.store().clock().expect("a clock").now
    }

    /// The tree without its versions.
    pub fn entries(&self) -> BTreeMap<RelPath, Entry> {
        let tree = self.tree().into_iter();
        tree.map(|(path, (entry, _))| (path, entry)).collect()
    }

    /// The tree as it was.
    pub fn tree_at(&self, at: Mtime) -> BTreeMap<RelPath, Entry> {
        let mut tree = BTreeMap::new();
        let mut last: Option<RelPath> = None;
        let mut take = |frame| {
            if let FeedFrame::Entry { path, entry, .. } = frame {
                assert!(last.as_ref().is_none_or(|last| *last < path), "in order");
                last = Some(path.clone());
                tree.insert(path, entry);
            }
            Ok(())
        };
        self.store().tree_at(at, &mut take).expect("a tree");
        tree
    }

    /// Whether this content of this path is a version that can be had.
    pub fn keeps(&self, at: &str, content: &str) -> bool {
        let digest = Digest::of(content.as_bytes());
        let name = digest.to_string();
        let kept = self.at(&format!(".raspbox/versions/{}/{name}", &name[..2]));
        self.versions()
            .contains(&(Some(at.to_owned()), Some(digest)))
            && std::fs::read_to_string(kept).is_ok_and(|found| found == content)
    }

    pub fn staged(&self) -> usize {
        let staging = self.at(".raspbox/staging");
        std::fs::read_dir(staging).expect("staging").count()
    }

    /// How many things are about to be displaced, as the journal has it.
    pub fn intents(&self) -> u32 {
        let db = rusqlite::Connection::open(self.at(".raspbox/journal.db")).expect("opens");
        db.query_row("SELECT count(*) FROM intent", [], |row| row.get(0))
            .expect("a count")
    }

    /// Checks that the journal says exactly what is on the disk, and that nothing is left to settle.
    pub fn check_tree(&self) {
        assert_eq!(self.intents(), 0, "intents are left");
        let mut found = BTreeMap::new();
        walk(self, "", &mut found);
        let told: BTreeMap<RelPath, Entry> = self
            .tree()
            .into_iter()
            .map(|(path, (entry, _))| (path, entry))
            .collect();
        assert_eq!(told, found, "journal (left) and disk");
    }
}

/// Lets a file rot: its bytes become others, and to the journal it looks as it did. (A write changes
/// the ctime, and nothing can set that back; so the journal is made to know the new one.)
pub fn rot(my: &Box, at: &str, content: &str) {
    let disk = my.at(at);
    let before = std::fs::metadata(&disk).expect("there");
    assert_eq!(before.len(), content.len() as u64, "it looks the same");
    std::fs::write(&disk, content).expect("rots");
    let written = std::fs::File::options()
        .write(true)
        .open(&disk)
        .expect("open");
    written
        .set_modified(before.modified().expect("a time"))
        .expect("its time");
    know(my, at);
}

/// Makes the journal know what a file looks like now.
pub fn know(my: &Box, at: &str) {
    use std::os::unix::fs::MetadataExt;
    let now = std::fs::metadata(my.at(at)).expect("there");
    let ctime = now.ctime() * 1_000_000_000 + now.ctime_nsec();
    let db = rusqlite::Connection::open(my.at(".raspbox/journal.db")).expect("opens");
    let changed = db
        .execute(
            "UPDATE entry SET ctime_ns = ? WHERE path = ?",
            rusqlite::params![ctime, at.replace('/', "\u{1}")],
        )
        .expect("updated");
    assert_eq!(changed, 1);
}

/// A whole pass, in one go.
pub fn scrub(my: &Box) -> Tally {
    let mut pass = my.store().scrub().expect("a pass");
    loop {
        match pass.next(&mut |_| true).expect("a step") {
            Step::More => {}
            Step::Over(tally) => return tally,
            Step::Stopped => panic!("nobody stopped it"),
        }
    }
}

fn walk(within: &Box, at: &str, found: &mut BTreeMap<RelPath, Entry>) {
    use std::os::unix::fs::MetadataExt;
    for child in std::fs::read_dir(within.at(at)).expect("a folder") {
        let name = child.expect("an entry").file_name();
        let name = name.to_str().expect("UTF-8");
        if at.is_empty() && name == ".raspbox" {
            continue;
        }
        let at = if at.is_empty() {
            name.to_owned()
        } else {
            format!("{at}/{name}")
        };
        let meta = std::fs::symlink_metadata(within.at(&at)).expect("metadata");
        let entry = if meta.is_dir() {
            walk(within, &at, found);
            Entry::Folder
        } else if meta.is_symlink() {
            let target = std::fs::read_link(within.at(&at)).expect("a target");
            Entry::Symlink(LinkTarget::parse(target.to_str().expect("UTF-8")).expect("good"))
        } else {
            let content = std::fs::read(within.at(&at)).expect("content");
            Entry::File(File {
                digest: Digest::of(&content),
                size: content.len() as u64,
                mtime: Mtime::from_parts(meta.mtime(), meta.mtime_nsec()),
                executable: meta.mode() & 0o100 != 0,
            })
        };
        found.insert(path(&at), entry);
    }
}
