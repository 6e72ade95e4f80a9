//! Disks and machines as the world handles them, on those of `raspbox-beneath`.

use crate::alike::{Side, composed};
use crate::place::{BESIDE, Files, OWN, Place, Tree, files_of, visible};
use crate::scenario::{self, Call, Unsynced};
use crate::world;
use raspbox_beneath::sim::{self, Computer, Fault, Traits, User};
use raspbox_protocol::Mtime;
use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// 2026-01-01, in nanoseconds since 1970: when all runs begin.
const BEGIN: Mtime = Mtime(1_767_225_600_000_000_000);

/// What is remembered of a whole drive.
pub(crate) type Copy = sim::Disk;

/// What is remembered of a part of a disk.
pub(crate) type Saved = Vec<(String, sim::Saved)>;

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

/// A folder, for somebody's hands.
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

    /// The power was cut and came back.
    pub(crate) fn reboot(&self) {
        self.0.reboot();
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

    /// Whether two writes within a second may leave the same times.
    pub(crate) fn is_coarse(&self) -> bool {
        match self.kind {
            scenario::Disk::Coarse | scenario::Disk::Fat => true,
            scenario::Disk::Ext4 | scenario::Disk::Mac => false,
        }
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

    /// Lets a file rot.
    pub(crate) fn rot(&self, path: &str) {
        self.disk().rot(path);
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

    /// Removes what programs left that were just saving something.
    pub(crate) fn tidy(&self, folder: &str) {
        let user = self.disk().user();
        for path in user.tree(folder).into_keys() {
            if path.ends_with(BESIDE) {
                let removed = user.remove_all(&format!("{folder}/{path}"));
                removed.expect("it can be removed");
            }
        }
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

    /// The same for somebody who syncs nothing.
    pub(crate) fn careless_access(&self, folder: &str) -> Access {
        Access {
            user: self.disk().user().careless(),
            folder: folder.to_owned(),
        }
    }

    /// Everything below a folder, but for what is ours; composed where the disk decomposes names.
    pub(crate) fn tree(&self, folder: &str) -> Tree {
        let tree = visible(self.disk().user().tree(folder));
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

    /// All that is on it.
    pub(crate) fn whole(&self) -> Tree {
        self.disk().user().tree("")
    }

    /// All that would be left on it if the power were cut now.
    pub(crate) fn durable(&self) -> Tree {
        self.disk().durable().user().tree("")
    }

    /// The files in what is ours, below folders whose names begin so.
    pub(crate) fn files_from(&self, prefix: &str) -> Files {
        let mut tree = self.whole();
        tree.retain(|path, _| path.starts_with(prefix));
        files_of(tree)
    }

    /// A folder of it, to be compared with others.
    pub(crate) fn side(&self, whose: &str, folder: &str) -> Side {
        Side {
            whose: whose.to_owned(),
            tree: self.tree(folder),
            keeps_bits: self.kind != scenario::Disk::Fat,
        }
    }
}

impl Access {
    fn at(&self, path: &str) -> String {
        if self.folder.is_empty() {
            path.to_owned()
        } else {
            format!("{}/{path}", self.folder)
        }
    }
}

impl Place for Access {
    fn tree(&self) -> Tree {
        self.user.tree(&self.folder)
    }

    fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
        self.user.write(&self.at(path), content)
    }

    fn append(&self, path: &str, content: &[u8]) -> io::Result<()> {
        self.user.append(&self.at(path), content)
    }

    fn remove_all(&self, path: &str) -> io::Result<()> {
        self.user.remove_all(&self.at(path))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.user.rename(&self.at(from), &self.at(to))
    }

    fn make_folders(&self, path: &str) -> io::Result<()> {
        self.user.mkdir(&self.at(path))
    }

    fn symlink(&self, target: &str, path: &str) -> io::Result<()> {
        self.user.symlink(target, &self.at(path))
    }

    fn set_mtime(&self, path: &str, mtime: Mtime) -> io::Result<()> {
        self.user.set_mtime(&self.at(path), mtime)
    }

    fn set_executable(&self, path: &str, on: bool) -> io::Result<()> {
        self.user.set_executable(&self.at(path), on)
    }

    fn exists(&self, path: &str) -> bool {
        self.user.exists(&self.at(path))
    }
}
