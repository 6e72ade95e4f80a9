//! What is counted: pieces of work on the core, the protocol and the store that must not become dearer
//! unnoticed.
//!
//! Each case prepares, and then does its work in [`measured`], whose name is what valgrind is told to
//! count in. Contents are small, so that hashing, for which each processor has other instructions, is a
//! small part of it.

use anyhow::Context;
use raspbox_core::guard::{Allowances, Displaced, Recent, guard};
use raspbox_core::names::{Accents, Disk, Disks, check_plan};
use raspbox_core::reconcile::reconcile;
use raspbox_core::renames::find_moves;
use raspbox_core::tree::{Folder, Node};
use raspbox_protocol::commit::{CommitFrame, Expect, Op, Outcome};
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::info::Holds;
use raspbox_protocol::special::RequestId;
use raspbox_protocol::want::Want;
use raspbox_protocol::wire::{FrameReader, to_bytes};
use raspbox_protocol::{Cursor, Digest, Entry, Epoch, File, Mtime, RelPath, Version};
use raspbox_store::{By, Options, Store};
use std::hint::black_box;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// One piece of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    /// As it stands in the table of counts.
    pub(crate) name: &'static str,
    /// How many entries it is about; a count is told for each of them.
    pub(crate) entries: usize,
    run: fn(usize) -> anyhow::Result<()>,
}

/// All of them.
pub(crate) const ALL: [Case; 12] = [
    case("core: nothing changed", 10_000, nothing_changed),
    case(
        "core: a tenth edited, on both sides",
        10_000,
        a_tenth_edited,
    ),
    case("core: a folder moved", 10_000, folder_moved),
    case("protocol: print a tree", 10_000, print_tree),
    case("protocol: parse a tree", 10_000, parse_tree),
    case("protocol: parse a commit", 1_000, parse_commit),
    case("store: a commit of new files", 1_000, commit_new),
    case(
        "store: a commit that replaces them",
        1_000,
        commit_replacing,
    ),
    case("store: one file at a time", 50, one_at_a_time),
    case("store: send the tree", 5_000, send_tree),
    case("store: fetch files", 1_000, fetch_files),
    case("store: open, nothing changed", 2_000, open_unchanged),
];

const fn case(name: &'static str, entries: usize, run: fn(usize) -> anyhow::Result<()>) -> Case {
    Case { name, entries, run }
}

impl Case {
    /// Prepares and does it.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        (self.run)(self.entries)
    }
}

/// The part that is counted. Its name must survive inlining and mangling.
#[inline(never)]
fn measured<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

/// How many files there are in a folder.
const FOLDER_FILES: usize = 100;

/// Long ago, so that no look at a file is too young to be believed.
const LONG_AGO: Mtime = Mtime(1_500_000_000_123_456_789);

fn path(text: &str) -> RelPath {
    RelPath::parse(text).expect("a good path")
}

fn folder_of(n: usize) -> String {
    format!("projects/folder {:03}", n / FOLDER_FILES)
}

fn path_of(n: usize) -> RelPath {
    path(&format!("{}/file number {n}.txt", folder_of(n)))
}

fn content_of(n: usize, edition: u8) -> Vec<u8> {
    let mut content = vec![edition; 1024];
    content[..8].copy_from_slice(&(n as u64).to_le_bytes());
    content
}

fn file_of(content: &[u8]) -> File {
    File {
        digest: Digest::of(content),
        size: content.len() as u64,
        mtime: LONG_AGO,
        executable: false,
    }
}

/// A file without the cost of a content.
fn made_up(n: usize, edition: u8) -> Entry {
    let mut digest = [edition; 32];
    digest[..8].copy_from_slice(&(n as u64).to_le_bytes());
    Entry::File(File {
        digest: Digest::from_bytes(digest),
        size: 1024,
        mtime: LONG_AGO,
        executable: false,
    })
}

fn folders(entries: usize) -> Vec<RelPath> {
    let mut all = vec![path("projects")];
    all.extend(
        (0..entries)
            .step_by(FOLDER_FILES)
            .map(|n| path(&folder_of(n))),
    );
    all
}

fn tree<T: Clone>(entries: usize, tag: &T) -> Folder<T> {
    let mut tree = Folder::default();
    let mut put = |path: &RelPath, entry| {
        let node = Node::new(entry, tag.clone());
        assert!(
            tree.insert(path, node).is_ok(),
            "its folder comes before it"
        );
    };
    for folder in folders(entries) {
        put(&folder, Entry::Folder);
    }
    for n in 0..entries {
        put(&path_of(n), made_up(n, 0));
    }
    tree
}

/// The three trees of a round, and everything that is decided about them.
fn decide(
    baseline: &Folder<()>,
    local: &Folder<u64>,
    remote: &Folder<Version>,
) -> anyhow::Result<usize> {
    let holds = Holds {
        case_sensitive: true,
        symlinks: true,
        dos_names: false,
        file_max_bytes: u64::MAX,
        granularity: Duration::from_nanos(1),
    };
    let disks = Disks {
        local: Disk::here(holds, Accents::Apart),
        remote: Disk::drive(holds),
    };
    let plan = find_moves(reconcile(baseline, local, remote), &disks);
    let plan = check_plan(plan, local, remote, &disks);
    let allow = Allowances {
        deletions: usize::MAX,
        changes: usize::MAX,
    };
    guard(
        &plan,
        baseline,
        local,
        remote,
        Displaced::Kept,
        &Recent::default(),
        &allow,
    )?;
    Ok(plan.push.len() + plan.pull.len())
}

fn nothing_changed(entries: usize) -> anyhow::Result<()> {
    let (baseline, local) = (tree(entries, &()), tree(entries, &1));
    let remote = tree(entries, &Version(1));
    let actions = measured(|| decide(&baseline, &local, &remote))?;
    anyhow::ensure!(actions == 0, "{actions} actions");
    Ok(())
}

fn a_tenth_edited(entries: usize) -> anyhow::Result<()> {
    let (baseline, mut local) = (tree(entries, &()), tree(entries, &1));
    let mut remote = tree(entries, &Version(1));
    for n in (0..entries).step_by(10) {
        drop(local.insert(&path_of(n), Node::new(made_up(n, 1), 2)));
        drop(remote.insert(&path_of(n + 1), Node::new(made_up(n + 1, 2), Version(2))));
    }
    let actions = measured(|| decide(&baseline, &local, &remote))?;
    anyhow::ensure!(actions == entries / 5, "{actions} actions");
    Ok(())
}

fn folder_moved(entries: usize) -> anyhow::Result<()> {
    let (baseline, mut local) = (tree(entries, &()), tree(entries, &1));
    let remote = tree(entries, &Version(1));
    let moved = local.remove(&path("projects")).context("it is there")?;
    drop(local.insert(&path("archive"), moved));
    let actions = measured(|| decide(&baseline, &local, &remote))?;
    anyhow::ensure!(actions == 1, "{actions} actions");
    Ok(())
}

fn feed(entries: usize) -> Vec<FeedFrame> {
    let entry = |(path, entry)| FeedFrame::Entry {
        path,
        entry,
        version: Version(7),
    };
    let folders = folders(entries)
        .into_iter()
        .map(|path| (path, Entry::Folder));
    let files = (0..entries).map(|n| (path_of(n), made_up(n, 0)));
    let mut frames = vec![FeedFrame::Head { whole: true }];
    frames.extend(folders.chain(files).map(entry));
    frames.push(FeedFrame::Mark(Cursor {
        epoch: Epoch([7; 16]),
        seq: 7,
    }));
    frames
}

fn print_tree(entries: usize) -> anyhow::Result<()> {
    let frames = feed(entries);
    let bytes = measured(|| to_bytes(&frames));
    anyhow::ensure!(!bytes.is_empty());
    Ok(())
}

fn parse_tree(entries: usize) -> anyhow::Result<()> {
    let bytes = to_bytes(&feed(entries));
    measured(|| {
        let mut frames = FrameReader::new(&bytes[..]);
        while !matches!(frames.read::<FeedFrame>()?, FeedFrame::Mark(_)) {}
        anyhow::Ok(())
    })
}

fn parse_commit(entries: usize) -> anyhow::Result<()> {
    let bytes = commit_of(entries, |_| Expect::Absent, 0);
    measured(|| {
        let mut frames = FrameReader::new(&bytes[..]);
        while !matches!(frames.read::<CommitFrame>()?, CommitFrame::End { .. }) {}
        anyhow::Ok(())
    })
}

/// The bytes of a commit that puts all files, and makes the folders first where they are new.
fn commit_of(entries: usize, expect: impl Fn(usize) -> Expect, edition: u8) -> Vec<u8> {
    let mut frames = Vec::new();
    let mut ops = 0;
    if edition == 0 {
        let made = folders(entries).into_iter();
        frames.extend(made.map(|path| CommitFrame::Op(Op::MakeFolder { path })));
        ops += u32::try_from(frames.len()).expect("few");
    }
    for n in 0..entries {
        let content = content_of(n, edition);
        frames.push(CommitFrame::Op(Op::Put {
            path: path_of(n),
            expect: expect(n),
            file: file_of(&content),
        }));
        frames.push(CommitFrame::Data(content));
        ops += 1;
    }
    frames.push(CommitFrame::End { ops });
    to_bytes(&frames)
}

/// A folder in memory where there is one: waiting for a disk isn't counted, and takes long.
fn folder() -> std::io::Result<TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

fn open(top: &Path) -> anyhow::Result<Store> {
    Ok(Store::open(top, Options { floor_bytes: 0 })?)
}

fn commit(store: &Store, number: u8, bytes: &[u8]) -> anyhow::Result<()> {
    let by = By("bench".into());
    let id = RequestId([number; 16]);
    store.commit(id, &by, &|_| true, &mut &bytes[..])?;
    let outcomes = store.outcome(id)?.context("it was just made")?;
    let is_done = |outcome: &Outcome| matches!(outcome, Outcome::Done(_));
    anyhow::ensure!(outcomes.iter().all(is_done), "something was refused");
    Ok(())
}

/// A store with all files in it.
fn filled(entries: usize) -> anyhow::Result<(TempDir, Store)> {
    let dir = folder()?;
    let store = open(dir.path())?;
    commit(&store, 1, &commit_of(entries, |_| Expect::Absent, 0))?;
    Ok((dir, store))
}

/// The version of each file, in the order of [`path_of`].
fn versions(store: &Store, entries: usize) -> anyhow::Result<Vec<Version>> {
    let mut found = std::collections::HashMap::new();
    store.feed(None, &mut |frame| {
        if let FeedFrame::Entry { path, version, .. } = frame {
            found.insert(path, version);
        }
        Ok(())
    })?;
    let version = |n| found.get(&path_of(n)).copied().context("it is in the tree");
    (0..entries).map(version).collect()
}

fn commit_new(entries: usize) -> anyhow::Result<()> {
    let dir = folder()?;
    let store = open(dir.path())?;
    let bytes = commit_of(entries, |_| Expect::Absent, 0);
    measured(|| commit(&store, 1, &bytes))
}

fn commit_replacing(entries: usize) -> anyhow::Result<()> {
    let (_dir, store) = filled(entries)?;
    let versions = versions(&store, entries)?;
    let bytes = commit_of(entries, |n| Expect::Version(versions[n]), 1);
    measured(|| commit(&store, 2, &bytes))
}

fn one_at_a_time(entries: usize) -> anyhow::Result<()> {
    let dir = folder()?;
    let store = open(dir.path())?;
    let by = By("bench".into());
    measured(|| {
        for n in 0..entries {
            let mut staged = store.stage()?;
            staged.write_all(&content_of(n, 0))?;
            store.put(staged, &path(&format!("file {n}")), &by)?;
        }
        anyhow::Ok(())
    })
}

fn send_tree(entries: usize) -> anyhow::Result<()> {
    let (_dir, store) = filled(entries)?;
    let mut sent = 0;
    measured(|| {
        store.feed(None, &mut |frame| {
            sent += to_bytes(&[frame]).len();
            Ok(())
        })
    })?;
    anyhow::ensure!(sent > entries);
    Ok(())
}

fn fetch_files(entries: usize) -> anyhow::Result<()> {
    let (_dir, store) = filled(entries)?;
    let versions = versions(&store, entries)?;
    let mut buffer = vec![0; 64 << 10];
    measured(|| {
        for (n, version) in versions.iter().enumerate() {
            let want = Want {
                path: path_of(n),
                version: *version,
                offset: 0,
            };
            let mut content = store.read_version(&want)?;
            while content.left_bytes() > 0 {
                anyhow::ensure!(content.read(&mut buffer)? > 0, "it became shorter");
            }
            content.finish()?;
        }
        anyhow::Ok(())
    })
}

fn open_unchanged(entries: usize) -> anyhow::Result<()> {
    let (dir, store) = filled(entries)?;
    drop(store);
    // The first look after a change reads what is too young to be believed; the second doesn't.
    drop(open(dir.path())?);
    let store = measured(|| open(dir.path()))?;
    anyhow::ensure!(store.cursor().seq > 0);
    Ok(())
}
