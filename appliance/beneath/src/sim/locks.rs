//! SQLite's locks on a database, and the memory that its connections share.
//!
//! As its Unix way of doing it has them between the connections of one process: `unixLock` and
//! `unixShmLock` in SQLite's `os_unix.c`.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

/// How many locks the shared memory has: `SQLITE_SHM_NLOCK`.
pub(super) const SLOTS: usize = 8;

/// How far a connection has locked a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Level {
    #[default]
    None,
    Shared,
    Reserved,
    Pending,
    Exclusive,
}

/// All locks on one file, by who holds them.
#[derive(Debug, Default)]
pub(super) struct Locks {
    levels: BTreeMap<u64, Level>,
    slots: BTreeMap<u64, Slots>,
    memory: Arc<Memory>,
}

/// What one connection has locked of the shared memory, a bit for each slot.
#[derive(Debug, Clone, Copy, Default)]
struct Slots {
    shared: u32,
    exclusive: u32,
}

/// The shared memory. Who has it keeps it, also when the locks are forgotten.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Vec<Box<[AtomicU64]>>>);

impl Memory {
    /// The region of this number, each of so many bytes; `None` where it isn't there and isn't to
    /// be made.
    pub(super) fn region(&self, number: usize, bytes: usize, make: bool) -> Option<*mut u64> {
        let mut regions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while make && regions.len() <= number {
            let region = (0..bytes.div_ceil(8)).map(|_| AtomicU64::new(0));
            regions.push(region.collect());
        }
        regions.get(number).map(|region| region[0].as_ptr())
    }
}

impl Locks {
    pub(super) fn level(&self, who: u64) -> Level {
        self.levels.get(&who).copied().unwrap_or_default()
    }

    /// Whether anybody is about to write.
    pub(super) fn is_reserved(&self) -> bool {
        self.levels.values().any(|&level| level >= Level::Reserved)
    }

    /// Locks further; `false` where others are in the way.
    pub(super) fn lock(&mut self, who: u64, to: Level) -> bool {
        let mine = self.level(who);
        if mine >= to {
            return true;
        }
        let others = self.levels.iter().filter(|&(&other, _)| other != who);
        let highest = others.map(|(_, &level)| level).max().unwrap_or_default();
        let free = match to {
            Level::None => true,
            Level::Shared => highest < Level::Pending,
            Level::Reserved | Level::Pending | Level::Exclusive => highest < Level::Reserved,
        };
        if !free {
            return false;
        }
        if to == Level::Exclusive && highest > Level::None {
            // Nobody new may begin to read, and those who do will end.
            self.levels.insert(who, Level::Pending);
            return false;
        }
        self.levels.insert(who, to);
        true
    }

    pub(super) fn unlock(&mut self, who: u64, to: Level) {
        if self.level(who) > to {
            self.levels.insert(who, to);
        }
        self.levels.retain(|_, &mut level| level != Level::None);
    }

    pub(super) fn memory(&mut self, who: u64) -> Arc<Memory> {
        self.slots.entry(who).or_default();
        Arc::clone(&self.memory)
    }

    /// Locks slots of the shared memory; `false` where others are in the way.
    pub(super) fn lock_slots(&mut self, who: u64, mask: u32, exclusive: bool) -> bool {
        let others = self.slots.iter().filter(|&(&other, _)| other != who);
        let in_the_way = others.fold(0, |all, (_, slots)| {
            all | slots.exclusive | if exclusive { slots.shared } else { 0 }
        });
        if in_the_way & mask != 0 {
            return false;
        }
        let mine = self.slots.entry(who).or_default();
        if exclusive {
            mine.exclusive |= mask;
        } else {
            mine.shared |= mask;
        }
        true
    }

    pub(super) fn unlock_slots(&mut self, who: u64, mask: u32) {
        let mine = self.slots.entry(who).or_default();
        mine.exclusive &= !mask;
        mine.shared &= !mask;
    }

    /// A connection doesn't use the shared memory any more; the last one takes it away.
    pub(super) fn leave_memory(&mut self, who: u64) {
        self.slots.remove(&who);
        if self.slots.is_empty() {
            self.memory = Arc::default();
        }
    }

    pub(super) fn is_unused(&self) -> bool {
        self.levels.is_empty() && self.slots.is_empty()
    }
}
