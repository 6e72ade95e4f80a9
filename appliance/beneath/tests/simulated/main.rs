//! The simulated disk: that it is as the real one, and what it keeps of what wasn't synced.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "tests say what they do in their names"
)]

mod as_real;
mod database;
mod durability;
mod faults;

use raspbox_beneath::sim::{Computer, Disk, Entered, Traits, enter};
use raspbox_beneath::{Folder, Top};
use raspbox_protocol::Mtime;
use std::io::Write;
use std::path::Path;

/// Where the disk is in these tests.
const AT: &str = "/simulated";

/// 2026-01-31 12:00 in UTC.
const NOON: Mtime = Mtime(1_769_860_800_000_000_000);

/// A disk that is mounted at [`AT`], in a computer whose clock shows [`NOON`].
struct Bed {
    disk: Disk,
    computer: Computer,
    _entered: Entered,
}

impl Bed {
    fn new(traits: Traits) -> Bed {
        let computer = Computer::new(NOON, 1);
        let entered = enter(&computer);
        let disk = Disk::new(traits);
        disk.mount(Path::new(AT));
        Bed {
            disk,
            computer,
            _entered: entered,
        }
    }

    fn top(&self) -> Folder {
        Top::open(Path::new(AT)).unwrap().folder(None).unwrap()
    }
}

/// Numbers that follow from a seed: xorshift.
struct Numbers(u64);

impl Numbers {
    fn new(seed: u64) -> Numbers {
        Numbers((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

fn write(folder: &Folder, name: &str, content: &[u8]) -> raspbox_beneath::File {
    let mut file = folder.open_or_create_file(name, 0o644).unwrap();
    file.write_all(content).unwrap();
    file
}
