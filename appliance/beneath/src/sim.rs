//! A computer in memory: disk, clock and randomness, all of which follow from a seed.
//!
//! A [`Disk`] is mounted at a path of this thread. From then on what the program under test does
//! there, SQLite included, happens on it; each call is a *step*, which may be made to fail and at
//! which the power may be cut. What a person or another program does there goes through
//! [`Disk::user`]: no steps, no faults, durable at once unless told otherwise.
//!
//! A file's content and metadata become durable by syncing the file, names by syncing their folder
//! (see `durable`). That is what POSIX promises and no more, so that a forgotten sync is found here,
//! though ext4 would have forgiven it.
//!
//! It has no hard links, no special files, no other users, and one thread at a time makes sense of it.

mod chance;
pub(crate) mod computer;
mod data;
mod durable;
mod errors;
mod handle;
mod locks;
pub(crate) mod mounts;
mod names;
mod saved;
mod tree;
mod user;
pub(crate) mod vfs;

pub use computer::{Computer, Entered, enter};
pub(crate) use handle::{File, Folder, Written, make_folders};
pub use mounts::unmount;
pub use saved::Saved;
pub use user::{Node, User};

use chance::Chance;
use locks::Locks;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tree::{Content, NodeId, ROOT, Tree};

/// A simulated disk; a clone is the same one.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<State>>);

/// What kind of filesystem a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits {
    /// Its type, as `statfs(2)` numbers them.
    pub magic: i64,
    /// The step in which times are kept.
    pub granularity_ns: i64,
    /// The step of the clock by which the kernel stamps them, where that is coarser: its tick.
    pub tick_ns: i64,
    /// Whether `a` and `A` are two names.
    pub case_sensitive: bool,
    /// Whether `é` and `É` are two names where `a` and `A` are one, as on FAT mounted by Linux.
    pub minds_accents: bool,
    /// Whether it keeps names decomposed (NFD), and finds them by either form.
    pub decomposes: bool,
    /// Which names it takes.
    pub names: Allowed,
    /// Whether it has symlinks.
    pub symlinks: bool,
    /// Whether it has permissions; else no file is executable.
    pub modes: bool,
    /// Whether names can change places.
    pub exchange: bool,
    /// Whether a rename can be told to replace nothing.
    pub noreplace: bool,
    /// Whether inode numbers and change times outlive a mount.
    pub stable_inodes: bool,
    /// How much there is.
    pub size_bytes: u64,
}

/// Which names a filesystem takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// All.
    Any,
    /// Those that Windows takes.
    Fat,
}

/// What of that which wasn't synced a power cut leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// Nothing.
    Dropped,
    /// All: the program was killed, the disk was not.
    Kept,
    /// Each change of names and each file by itself, as this seed has it.
    Random(u64),
}

/// What goes wrong at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `ENOSPC`, at what may need space.
    NoSpace,
    /// `EIO`, at anything.
    Io,
    /// `EMFILE`, at what opens something.
    TooManyFiles,
    /// `EACCES`, at what opens something.
    Denied,
    /// This and everything after it fails until [`Disk::crash`].
    Die,
    /// Half of a write is made, and then as [`Fault::Die`].
    Torn,
}

/// What a step does, as far as it says which faults it can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Opens or lists what is there.
    Open,
    /// Makes and opens what may not be there.
    Create,
    /// Writes to a file.
    Write,
    /// Gives a name.
    Name,
    /// Anything else.
    Other,
}

/// What somebody else does just before a step.
type Meanwhile = Box<dyn FnOnce() + Send>;

struct State {
    tree: Tree,
    /// Which life of the disk this is; what was opened in an earlier one is dead.
    life: u64,
    dead: bool,
    detached: bool,
    steps: u64,
    armed: Vec<(u64, Fault)>,
    meanwhile: Vec<(u64, Meanwhile)>,
    /// SQLite's locks and shared memory, by file.
    locks: BTreeMap<NodeId, Locks>,
    next_handle: u64,
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new(traits: Traits) -> Disk {
        Disk::with(Tree::new(traits))
    }

    fn with(tree: Tree) -> Disk {
        Disk(Arc::new(Mutex::new(State {
            tree,
            life: 0,
            dead: false,
            detached: false,
            steps: 0,
            armed: Vec::new(),
            meanwhile: Vec::new(),
            locks: BTreeMap::new(),
            next_handle: 0,
        })))
    }

    /// Another disk with the same content, live and durable. Nothing is open on it.
    #[must_use]
    pub fn copy(&self) -> Disk {
        let mut tree = self.state().tree.clone();
        tree.start_anew();
        Disk::with(tree)
    }

    /// Another disk with what would be left of this one if the power were cut now, and all that isn't durable were dropped.
    #[must_use]
    pub fn durable(&self) -> Disk {
        let mut tree = self.state().tree.clone();
        tree.cut(None);
        Disk::with(tree)
    }

    /// What kind of filesystem it has.
    #[must_use]
    pub fn traits(&self) -> Traits {
        self.state().tree.traits
    }

    /// How much may still be written.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.state().tree.free_bytes()
    }

    /// How many steps there were.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Lets a step fail, counted as [`Disk::steps`] does: `fail(disk.steps(), …)` hits the very next
    /// one. Where that one can't fail so, the next that can does.
    pub fn fail(&self, at_step: u64, fault: Fault) {
        self.state().armed.push((at_step, fault));
    }

    /// Does something just before a step, counted as for [`Disk::fail`]: somebody else works on the
    /// disk at the same time. It may use [`Disk::user`], and other disks as it likes.
    pub fn meanwhile(&self, at_step: u64, act: impl FnOnce() + Send + 'static) {
        self.state().meanwhile.push((at_step, Box::new(act)));
    }

    /// Forgets the faults that didn't happen yet, which it returns, and what [`Disk::meanwhile`] was
    /// told.
    pub fn forgive(&self) -> Vec<Fault> {
        let mut state = self.state();
        state.meanwhile.clear();
        let left = std::mem::take(&mut state.armed);
        left.into_iter().map(|(_, fault)| fault).collect()
    }

    /// The kernel writes out what wasn't synced, and the device refuses: what was written stays to be
    /// read until the next power cut, and whoever syncs it is told once.
    pub fn lose_writes(&self) {
        self.state().tree.lose_writes();
    }

    /// Another program syncs everything, and is told of what could not be written.
    pub fn tell_another(&self) {
        let tree = &mut self.state().tree;
        tree.sync_all();
        let told = tree.errors.sample();
        // What it makes of it is its own business.
        let _ = tree.errors.tell(&told);
    }

    /// Whether nothing works any more until [`Disk::crash`].
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// The program dies, and with it or not the disk. What was open is dead from here on, the disk
    /// works again.
    pub fn crash(&self, unsynced: Unsynced) {
        let mut state = self.state();
        match unsynced {
            Unsynced::Dropped => state.tree.cut(None),
            Unsynced::Random(seed) => state.tree.cut(Some(Chance::new(seed))),
            Unsynced::Kept => state.tree.start_anew(),
        }
        if unsynced != Unsynced::Kept {
            state.tree.renumber();
        }
        state.life += 1;
        state.dead = false;
        state.locks.clear();
    }

    /// Pulls the disk out or plugs it in. What was open before is dead only after a
    /// [`Disk::crash`], which a stick that is pulled has as well.
    pub fn detach(&self, detached: bool) {
        self.state().detached = detached;
    }

    /// Takes the right to read a file or folder away, or gives it back. In such a folder nothing can
    /// be found or changed. Nothing happens where there is nothing.
    pub fn deny(&self, path: &str, denied: bool) {
        let mut state = self.state();
        if let Ok(Some(id)) = state.tree.find_path(Path::new(path)) {
            state.tree.node_mut(id).denied = denied;
        }
    }

    /// Lets a file rot: its first byte becomes another one, and nothing else shows that. Nothing happens where
    /// there is no such file, or it isn't synced.
    pub fn rot(&self, path: &str) {
        let mut state = self.state();
        if let Ok(Some(id)) = state.tree.find_path(Path::new(path))
            && !state.tree.dirty.contains(&id)
            && let Content::File { live, durable, .. } = &mut state.tree.node_mut(id).content
        {
            live.rot();
            durable.rot();
        }
    }

    /// The disk as a person or another program has it.
    #[must_use]
    pub fn user(&self) -> User {
        User::of(self)
    }

    /// Lets others do what they do before the next step.
    fn let_others(&self) {
        let mut state = self.state();
        let next = state.steps;
        let due = state.meanwhile.extract_if(.., |(at, _)| *at <= next);
        let due: Vec<(u64, Meanwhile)> = due.collect();
        drop(state);
        for (_, act) in due {
            act();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A mount, where inode numbers don't outlive it.
    fn renumber(&self) {
        self.state().tree.renumber();
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("Disk")
            .field("life", &state.life)
            .field("steps", &state.steps)
            .field("dead", &state.dead)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Counts a step of a program that was started in this life of the disk, and lets it fail.
    fn step(&mut self, life: u64, step: Step) -> io::Result<()> {
        match self.step_or_tear(life, step)? {
            None => Ok(()),
            Some(_) => Err(Errno::IO.into()),
        }
    }

    /// The same; `Some` where a write is to be torn.
    fn step_or_tear(&mut self, life: u64, step: Step) -> io::Result<Option<Fault>> {
        let now = computer::step();
        if let Some(now) = now {
            self.tree.clock_ns = now;
        }
        if self.dead || self.detached || life != self.life {
            return Err(Errno::IO.into());
        }
        let number = self.steps;
        self.steps += 1;
        let mut armed = self.armed.iter();
        let hit = armed.position(|&(at, fault)| at <= number && fault.can_hit(step));
        let Some(hit) = hit else {
            return Ok(None);
        };
        let (_, fault) = self.armed.remove(hit);
        Err(match fault {
            Fault::NoSpace => Errno::NOSPC.into(),
            Fault::Io => Errno::IO.into(),
            Fault::TooManyFiles => Errno::MFILE.into(),
            Fault::Denied => Errno::ACCESS.into(),
            Fault::Die => {
                self.dead = true;
                Errno::IO.into()
            }
            Fault::Torn => {
                self.dead = true;
                return Ok(Some(fault));
            }
        })
    }
}

impl Fault {
    fn can_hit(self, step: Step) -> bool {
        match self {
            Fault::NoSpace => matches!(step, Step::Create | Step::Write | Step::Name),
            Fault::TooManyFiles | Fault::Denied => matches!(step, Step::Open | Step::Create),
            Fault::Torn => step == Step::Write,
            Fault::Io | Fault::Die => true,
        }
    }
}

impl Traits {
    /// A Linux computer's: 64 GB.
    #[must_use]
    pub fn ext4() -> Traits {
        Traits {
            magic: 0xef53,
            granularity_ns: 1,
            tick_ns: 4_000_000,
            case_sensitive: true,
            minds_accents: false,
            decomposes: false,
            names: Allowed::Any,
            symlinks: true,
            modes: true,
            exchange: true,
            noreplace: true,
            stable_inodes: true,
            size_bytes: 64 << 30,
        }
    }

    /// A stick as it is bought: times of two seconds, names in any case, nothing but files.
    #[must_use]
    pub fn fat() -> Traits {
        Traits {
            magic: 0x4d44,
            granularity_ns: 2_000_000_000,
            case_sensitive: false,
            minds_accents: true,
            names: Allowed::Fat,
            symlinks: false,
            modes: false,
            exchange: false,
            noreplace: false,
            stable_inodes: false,
            ..Traits::ext4()
        }
    }

    /// A larger stick.
    #[must_use]
    pub fn exfat() -> Traits {
        Traits {
            magic: 0x2011_bab0,
            granularity_ns: 10_000_000,
            minds_accents: false,
            ..Traits::fat()
        }
    }

    /// A Mac's of today: either form and case of a name finds it, and it is kept as it was given.
    #[must_use]
    pub fn apfs() -> Traits {
        Traits {
            magic: 0x4253_5041,
            case_sensitive: false,
            tick_ns: 1,
            ..Traits::ext4()
        }
    }

    /// A Mac's of before: it decomposes names, and keeps whole seconds.
    #[must_use]
    pub fn hfs_plus() -> Traits {
        Traits {
            magic: 0x482b,
            granularity_ns: 1_000_000_000,
            case_sensitive: false,
            decomposes: true,
            exchange: false,
            noreplace: false,
            ..Traits::ext4()
        }
    }

    /// A network drive: whole seconds, and renames without promises.
    #[must_use]
    pub fn network() -> Traits {
        Traits {
            magic: 0x6969,
            granularity_ns: 1_000_000_000,
            exchange: false,
            noreplace: false,
            ..Traits::ext4()
        }
    }
}
