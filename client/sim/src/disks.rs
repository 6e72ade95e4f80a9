//! Disks and machines as the world handles them, on those of `raspbox-beneath`.

use crate::oracle::Files;
use crate::scenario::{self, Call, Unsynced};
use crate::world;
use raspbox_beneath::sim::{self, Computer, Fault, Node, Traits, User};
use raspbox_protocol::{Digest, Mtime};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// 2026-01-01, in nanoseconds since 1970: when all runs begin.
const BEGIN: Mtime = Mtime(1_767_225_600_000_000_000);

/// Everything of ours on a disk.
const OWN: &str = ".raspbox";

/// What is remembered of a whole drive.
pub(crate) type Copy = sim::Disk;

/// What is remembered of a part of a disk.
pub(crate) type Saved = Vec<(String, sim::Saved)>;

/// What stands below a folder, by path.
pub(crate) type Tree = BTreeMap<String, Node>;

/// A computer without its disks.
#[derive(Clone)]
pub(crate) struct Machine(Computer);

/// A disk, and where it is mounted.
#[derive(Clone)]
pub(crate) struct Drive {
    disk: Rc<RefCell<sim::Disk>>,
    kind: scenario::Disk,
    mount: PathBuf,
    death: Rc<RefCell<Option<Unsynced>>>,
    /// What was armed since the last [`Drive::disarm`].
    armed: Rc<RefCell<Vec<Fault>>>,
    /// Decides what a crash keeps; another number each time.
    crashes: Rc<RefCell<u64>>,
}

/// A folder as a program without a clue works in it.
pub(crate) struct Access {
    user: User,
    folder: String,
}

/// Empties the thread of what an earlier run left.
pub(crate) fn begin() {
    end();
}

/// See [`begin`].
pub(crate) fn end() {
    sim::unmount(Path::new("/sim/drive"));
    for number in 0..8 {
        sim::unmount(&PathBuf::from(format!("/sim/station{number}")));
    }
}

/// How the store is opened: with no floor of free space, so that a full disk is met.
pub(crate) fn store_options() -> raspbox_store::Options {
    raspbox_store::Options { floor_bytes: 0 }
}

impl Machine {
    pub(crate) fn new(seed: u64, number: usize) -> Machine {
        let seed = seed
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(number as u64);
        Machine(Computer::new(BEGIN, seed))
    }

    /// Runs something on it.
    pub(crate) fn on<T>(&self, f: impl FnOnce() -> T) -> T {
        let _entered = sim::enter(&self.0);
        f()
    }

    pub(crate) fn wait(&self, time: Duration) {
        self.0.advance(time);
    }

    pub(crate) fn jump(&self, seconds: i64) {
        let now = self.0.now().0;
        self.0
            .set_now(Mtime(now.saturating_add(seconds * 1_000_000_000)));
    }
}

impl Drive {
    pub(crate) fn new(kind: scenario::Disk, mount: &str) -> Drive {
        let traits = match kind {
            scenario::Disk::Ext4 => Traits::ext4(),
            scenario::Disk::Coarse => Traits::network(),
            scenario::Disk::Fat => Traits::fat(),
            scenario::Disk::Mac => Traits::hfs_plus(),
        };
        let drive = Drive {
            disk: Rc::new(RefCell::new(sim::Disk::new(traits))),
            kind,
            mount: mount.into(),
            death: Rc::default(),
            armed: Rc::default(),
            crashes: Rc::default(),
        };
        drive.mount();
        drive
    }

    fn disk(&self) -> sim::Disk {
        self.disk.borrow().clone()
    }

    pub(crate) fn mount(&self) {
        self.disk().mount(&self.mount);
    }

    pub(crate) fn unmount(&self) {
        sim::unmount(&self.mount);
    }

    /// The path of something on it.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() {
            self.mount.clone()
        } else {
            self.mount.join(path)
        }
    }

    pub(crate) fn calls(&self) -> u64 {
        self.disk().steps()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.disk().is_dead()
    }

    /// Whether it died, and what becomes of what wasn't synced.
    pub(crate) fn death(&self) -> Option<Unsynced> {
        let died = self.is_dead();
        died.then(|| self.death.borrow().unwrap_or(Unsynced::Dropped))
    }

    pub(crate) fn crash(&self, unsynced: Unsynced) {
        *self.crashes.borrow_mut() += 1;
        let chance = *self.crashes.borrow();
        self.disk().crash(match unsynced {
            Unsynced::Dropped => sim::Unsynced::Dropped,
            Unsynced::Kept => sim::Unsynced::Kept,
            Unsynced::Some => sim::Unsynced::Random(chance),
        });
        *self.death.borrow_mut() = None;
    }

    pub(crate) fn unplug(&self) {
        self.disk().detach(true);
    }

    pub(crate) fn plug(&self) {
        self.disk().detach(false);
    }

    pub(crate) fn deny(&self, path: &str, on: bool) {
        self.disk().deny(path, on);
    }

    /// Lets something go wrong at the n-th call from now.
    pub(crate) fn arm(&self, at: u32, call: &Call) {
        let disk = self.disk();
        let step = disk.steps() + u64::from(at);
        let fault = match call {
            Call::Die(unsynced) => {
                *self.death.borrow_mut() = Some(*unsynced);
                Fault::Die
            }
            Call::Full => Fault::NoSpace,
            Call::Fail => Fault::Io,
            Call::TooMany => Fault::TooManyFiles,
            Call::Deny => Fault::Denied,
            Call::Edit(who, edit) => {
                let (who, edit) = (*who, edit.clone());
                disk.meanwhile(step, move || world::edit_at_call(who, &edit));
                return;
            }
        };
        self.armed.borrow_mut().push(fault);
        disk.fail(step, fault);
    }

    /// Forgets what didn't happen, and tells what did.
    pub(crate) fn disarm(&self) -> Vec<&'static str> {
        let mut armed = std::mem::take(&mut *self.armed.borrow_mut());
        for left in self.disk().forgive() {
            if let Some(at) = armed.iter().position(|&fault| fault == left) {
                armed.swap_remove(at);
            }
        }
        let kinds = armed.into_iter().map(|fault| match fault {
            Fault::NoSpace => "disk full",
            Fault::Io => "disk error",
            Fault::TooManyFiles => "too many files",
            Fault::Denied => "access denied",
            Fault::Die | Fault::Torn => "power cut",
        });
        kinds.collect()
    }

    pub(crate) fn make_folder(&self, path: &str) {
        self.disk().user().mkdir(path).expect("an empty disk");
    }

    /// Removes all that is in a folder.
    pub(crate) fn empty(&self, path: &str) {
        let user = self.disk().user();
        user.remove_all(path).expect("it can be removed");
        user.mkdir(path).expect("there is nothing now");
    }

    pub(crate) fn save(&self, path: &str) -> Saved {
        vec![(path.to_owned(), self.disk().save(path))]
    }

    pub(crate) fn restore(&self, _path: &str, saved: &Saved) {
        for (path, saved) in saved {
            self.disk().restore(path, saved).expect("there is room");
        }
    }

    /// The names of the journal's files.
    fn journal() -> [String; 3] {
        ["", "-wal", "-shm"].map(|end| format!("{OWN}/journal.db{end}"))
    }

    pub(crate) fn lose_journal(&self) {
        let user = self.disk().user();
        for file in Drive::journal() {
            user.remove_all(&file).expect("it can be removed");
        }
    }

    pub(crate) fn save_journal(&self) -> Saved {
        let save = |file: String| {
            let saved = self.disk().save(&file);
            (file, saved)
        };
        Drive::journal().map(save).into()
    }

    pub(crate) fn restore_journal(&self, saved: &Saved) {
        self.restore("", saved);
    }

    pub(crate) fn copy(&self) -> Copy {
        self.disk().copy()
    }

    /// Puts a copy of the whole disk in its place.
    pub(crate) fn restore_whole(&self, copy: &Copy) {
        *self.disk.borrow_mut() = copy.copy();
        self.mount();
    }

    pub(crate) fn access(&self, folder: &str) -> Access {
        Access {
            user: self.disk().user(),
            folder: folder.to_owned(),
        }
    }

    /// Everything below a folder, but for what is ours; composed where the disk decomposes names.
    pub(crate) fn tree(&self, folder: &str) -> Tree {
        let mut tree = self.disk().user().tree(folder);
        tree.retain(|path, _| path != OWN && !path.starts_with(".raspbox/"));
        if self.kind == scenario::Disk::Mac {
            let composed = tree.into_iter().map(|(path, node)| (composed(&path), node));
            return composed.collect();
        }
        tree
    }

    /// The files below a folder; what is ours too where `also_hidden`.
    pub(crate) fn files(&self, folder: &str, also_hidden: bool) -> Files {
        if also_hidden {
            return files_of(self.disk().user().tree(folder));
        }
        files_of(self.tree(folder))
    }

    /// The files in what is ours, below folders whose names begin so.
    pub(crate) fn files_from(&self, prefix: &str) -> Files {
        let mut tree = self.disk().user().tree("");
        tree.retain(|path, _| path.starts_with(prefix));
        files_of(tree)
    }

    /// Whether it keeps executable bits.
    fn keeps_bits(&self) -> bool {
        self.kind != scenario::Disk::Fat
    }
}

fn files_of(tree: Tree) -> Files {
    let file = |(path, node)| match node {
        Node::File { content, .. } => Some((path, Digest::of(&content))),
        Node::Folder | Node::Symlink(_) => None,
    };
    tree.into_iter().filter_map(file).collect()
}

/// The digest of a file.
pub(crate) fn digest(node: &Node) -> Option<Digest> {
    match node {
        Node::File { content, .. } => Some(Digest::of(content)),
        Node::Folder | Node::Symlink(_) => None,
    }
}

/// Whether two nodes are the same to people.
pub(crate) fn same(a: Option<&Node>, b: Option<&Node>, here: &Drive, there: &Drive) -> bool {
    match (a, b) {
        (
            Some(Node::File {
                content,
                executable,
                ..
            }),
            Some(Node::File {
                content: other,
                executable: bit,
                ..
            }),
        ) => {
            let bits = here.keeps_bits() && there.keeps_bits();
            content == other && (!bits || executable == bit)
        }
        (Some(Node::Folder), Some(Node::Folder)) | (None, None) => true,
        (Some(Node::Symlink(a)), Some(Node::Symlink(b))) => a == b,
        _ => false,
    }
}

/// What stands there, for messages.
pub(crate) fn describe(node: Option<&Node>) -> String {
    match node {
        None => "nothing".into(),
        Some(Node::Folder) => "a folder".into(),
        Some(Node::Symlink(target)) => format!("a symlink to {target}"),
        Some(Node::File {
            content,
            executable,
            ..
        }) => {
            let head = String::from_utf8_lossy(&content[..content.len().min(7)]).into_owned();
            let bit = if *executable { ", executable" } else { "" };
            format!("a file of {} bytes '{head}'{bit}", content.len())
        }
    }
}

/// How a name reads without regard to case and composition.
pub(crate) fn folded(name: &str) -> String {
    composed(&name.to_lowercase())
}

/// The one character of all names that can be written in two ways, written in one.
fn composed(name: &str) -> String {
    name.replace("e\u{301}", "\u{e9}")
}

impl Access {
    fn at(&self, path: &str) -> String {
        if self.folder.is_empty() {
            path.to_owned()
        } else {
            format!("{}/{path}", self.folder)
        }
    }

    /// The files in it.
    pub(crate) fn files(&self) -> Files {
        let mut tree = self.user.tree(&self.folder);
        tree.retain(|path, _| path != OWN && !path.starts_with(".raspbox/"));
        files_of(tree)
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.user.exists(&self.at(path))
    }

    /// Makes the folders that a path is in.
    fn parents(&self, path: &str) -> bool {
        match path.rsplit_once('/') {
            Some((folder, _)) => self.user.mkdir(&self.at(folder)).is_ok(),
            None => true,
        }
    }

    pub(crate) fn write(&self, path: &str, content: &[u8]) -> bool {
        self.parents(path) && self.user.write(&self.at(path), content).is_ok()
    }

    pub(crate) fn replace(&self, path: &str, content: &[u8]) -> bool {
        self.parents(path)
            && self
                .user
                .write_new_and_rename(&self.at(path), content)
                .is_ok()
    }

    pub(crate) fn append(&self, path: &str, content: &[u8]) -> bool {
        self.parents(path) && self.user.append(&self.at(path), content).is_ok()
    }

    /// Writes a file in place, and sets its time back to what it was.
    pub(crate) fn write_keeping_time(&self, path: &str, content: &[u8]) -> bool {
        let old = match self.user.tree(&self.folder).get(path) {
            Some(Node::File { mtime, .. }) => Some(*mtime),
            _ => None,
        };
        let written = self.write(path, content);
        if let (true, Some(old)) = (written, old) {
            self.user
                .set_mtime(&self.at(path), old)
                .expect("it is there");
        }
        written
    }

    pub(crate) fn remove(&self, path: &str) -> bool {
        let there = self.user.exists(&self.at(path));
        there && self.user.remove_all(&self.at(path)).is_ok()
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> bool {
        let there = self.user.exists(&self.at(from));
        there && self.parents(to) && self.user.rename(&self.at(from), &self.at(to)).is_ok()
    }

    pub(crate) fn make_folder(&self, path: &str) -> bool {
        self.user.mkdir(&self.at(path)).is_ok()
    }

    pub(crate) fn age(&self, path: &str, seconds: i64) -> bool {
        let then = Mtime(raspbox_beneath::now().0 - seconds * 1_000_000_000);
        self.user.set_mtime(&self.at(path), then).is_ok()
    }

    pub(crate) fn set_executable(&self, path: &str, on: bool) -> bool {
        let tree = self.user.tree(&self.folder);
        let file = matches!(tree.get(path), Some(Node::File { .. }));
        file && self.user.set_executable(&self.at(path), on).is_ok()
    }

    pub(crate) fn symlink(&self, path: &str, target: &str) -> bool {
        self.parents(path) && self.user.symlink(target, &self.at(path)).is_ok()
    }
}
