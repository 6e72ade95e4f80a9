//! Larger trees, made by a small random generator: two copies of a tree that two people work on.
//!
//! A failure prints its seed; `case(seed)` makes the same trees again.

use crate::check::{assert_good, assert_survives_a_crash};
use crate::world::{DISKS, World, path};
use raspbox_core::names::{Disk, Disks};
use raspbox_core::tree::{Folder, Node, Unknown};
use raspbox_protocol::{Digest, Entry, File, LinkTarget, Mtime, RelPath};
use std::collections::BTreeSet;

pub(crate) const CASES: u64 = 3_000;

const NAMES: &[&str] = &["a", "b", "c", "d", "e", "f"];

/// How often each person does something, at most.
const STEPS_MAX: usize = 8;

/// xorshift64*: enough to mix trees.
struct Random(u64, &'static [&'static str]);

impl Random {
    fn new(seed: u64, names: &'static [&'static str]) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, names)
    }

    fn name(&mut self) -> &'static str {
        self.1[self.below(self.1.len())]
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(mixed).expect("31 bits fit") % limit
    }
}

type Tree = Folder<()>;

fn paths(tree: &Tree) -> Vec<RelPath> {
    let mut paths = Vec::new();
    tree.walk(&mut |path, _| paths.push(path.clone()));
    paths
}

fn any_path(tree: &Tree, random: &mut Random) -> Option<RelPath> {
    let paths = paths(tree);
    (!paths.is_empty()).then(|| paths[random.below(paths.len())].clone())
}

/// A free or taken name in some folder.
fn any_place(tree: &Tree, random: &mut Random) -> RelPath {
    let name = random.name();
    let folders: Vec<RelPath> = paths(tree)
        .into_iter()
        .filter(|path| tree.get(path).is_some_and(|node| node.folder().is_some()))
        .filter(|path| path.names().count() < 5)
        .collect();
    match random.below(folders.len() + 1) {
        0 => path(name),
        at => RelPath::child(Some(&folders[at - 1]), name).expect("a good path"),
    }
}

fn any_node(random: &mut Random) -> Node<()> {
    let entry = match random.below(10) {
        0..4 => Entry::Folder,
        4 => Entry::Symlink(LinkTarget::parse(["s", "t"][random.below(2)]).expect("good")),
        _ => {
            let content = random.below(40);
            Entry::File(File {
                digest: Digest::of(&content.to_le_bytes()),
                size: content as u64,
                mtime: Mtime(0),
                executable: random.below(4) == 0,
            })
        }
    };
    Node::new(entry, ())
}

fn step(tree: &mut Tree, random: &mut Random) {
    match random.below(6) {
        0 | 1 => {
            let (place, node) = (any_place(tree, random), any_node(random));
            tree.insert(&place, node).expect("the folder is there");
        }
        2 => {
            if let Some(path) = any_path(tree, random) {
                tree.remove(&path);
            }
        }
        3 => {
            if let Some(path) = any_path(tree, random)
                && let Some(Node::File(file, ())) = tree.get_mut(&path)
            {
                file.digest = Digest::of(&random.below(40).to_le_bytes());
                file.executable ^= random.below(3) == 0;
            }
        }
        _ => {
            if let Some(from) = any_path(tree, random) {
                let to = any_place(tree, random);
                if !to.is_in(&from) && !from.is_in(&to) {
                    let node = tree.remove(&from).expect("it is there");
                    tree.insert(&to, node).expect("the folder is there");
                }
            }
        }
    }
}

/// Things that can't be known, or that aren't synced, now and then.
fn trouble(tree: &mut Tree, random: &mut Random) {
    if let Some(path) = any_path(tree, random) {
        match tree.get_mut(&path) {
            Some(Node::Folder(folder, ())) if random.below(2) == 0 => folder.holds_unsynced = true,
            Some(node) => *node = Node::Unknown(Unknown::Busy),
            None => {}
        }
    }
}

fn case(seed: u64) -> World {
    case_on(seed, NAMES, DISKS)
}

/// The same with these names on these disks: each side has what its disk can hold.
pub(crate) fn case_on(seed: u64, names: &'static [&'static str], disks: Disks) -> World {
    let mut random = Random::new(seed, names);
    let mut base = Tree::default();
    for _ in 0..random.below(30) {
        let (place, node) = (any_place(&base, &mut random), any_node(&mut random));
        base.insert(&place, node).expect("the folder is there");
    }
    let base = held(&held(&base, &disks.local), &disks.remote);
    let (mut local, mut remote) = (base.clone(), base.clone());
    for (side, disk) in [(&mut local, &disks.local), (&mut remote, &disks.remote)] {
        for _ in 0..random.below(STEPS_MAX + 1) {
            step(side, &mut random);
        }
        *side = held(side, disk);
        if random.below(4) == 0 {
            trouble(side, &mut random);
        }
    }
    World::new(&base, &local, &remote).on(disks)
}

/// As much of a tree as a disk can hold; of names that are one, the first.
fn held(tree: &Tree, disk: &Disk) -> Tree {
    let mut held = Tree::default();
    let mut keys = BTreeSet::new();
    tree.walk(&mut |path, node| {
        let entry = node.entry().expect("nothing is unknown yet");
        let key = (path.parent(), disk.key(path.name()).into_owned());
        let fits = disk.check(path, &entry).is_ok() && keys.insert(key);
        let parent = path.parent();
        if fits && parent.is_none_or(|parent| held.get(&parent).is_some()) {
            drop(held.insert(path, Node::new(entry, ())));
        }
    });
    held
}

#[test]
fn two_people_at_work() {
    for seed in 0..CASES {
        assert_good(&case(seed), &seed);
    }
}

/// A tenth of the cases, since each is many.
#[test]
fn a_crash_anywhere_is_survived() {
    for seed in 0..CASES / 10 {
        assert_survives_a_crash(&case(seed), &seed);
    }
}
