//! Sides on disks that can't hold everything, or take two names for one.

use crate::check::{Planner, assert_nothing_lost};
use crate::enumerate::{combinations, trees};
use crate::random::{CASES, case_on};
use crate::world::{Baseline, EXT4, FAT, Side, TestPlan, World, path, tree};
use raspbox_core::names::{Accents, Disk, Disks, check_plan};
use raspbox_core::plan::Trouble;
use raspbox_core::reconcile::reconcile;
use raspbox_core::renames::find_moves;
use raspbox_protocol::info::Holds;

/// Neither symlinks nor large files; half of the contents are too large.
const POOR: Disk = Disk {
    holds: Holds {
        symlinks: false,
        file_max_bytes: 20,
        ..EXT4.holds
    },
    ..EXT4
};

/// A Mac's of before.
const MAC: Disk = Disk {
    holds: Holds {
        case_sensitive: false,
        ..EXT4.holds
    },
    accents: Accents::Rewritten,
    ..EXT4
};

const fn disks(local: Disk, remote: Disk) -> Disks {
    Disks { local, remote }
}

/// The pairs of disks, each with its planner.
const PAIRS: [(Disks, Planner); 6] = [
    (disks(FAT, EXT4), |b, l, r| on(&disks(FAT, EXT4), b, l, r)),
    (disks(EXT4, FAT), |b, l, r| on(&disks(EXT4, FAT), b, l, r)),
    (disks(FAT, FAT), |b, l, r| on(&disks(FAT, FAT), b, l, r)),
    (disks(MAC, EXT4), |b, l, r| on(&disks(MAC, EXT4), b, l, r)),
    (disks(POOR, EXT4), |b, l, r| on(&disks(POOR, EXT4), b, l, r)),
    (disks(EXT4, POOR), |b, l, r| on(&disks(EXT4, POOR), b, l, r)),
];

fn on(disks: &Disks, base: &Baseline, local: &Side, remote: &Side) -> TestPlan {
    let plan = find_moves(reconcile(base, local, remote), disks);
    check_plan(plan, local, remote, disks)
}

/// Whether no two names in it are one on this disk.
fn is_held(text: &str, disk: &Disk) -> bool {
    let mut keys = std::collections::BTreeSet::new();
    let mut held = true;
    tree(text).walk(&mut |path, node| {
        let key = (path.parent(), disk.key(path.name()).into_owned());
        let entry = node.entry();
        held &= keys.insert(key) && entry.is_none_or(|entry| disk.check(path, &entry).is_ok());
    });
    held
}

/// Every baseline against every pair of sides that their disks can hold.
fn enumerate(states: &[String]) {
    for (disks, planner) in PAIRS {
        let on_disk = |disk| {
            states
                .iter()
                .filter(move |text| is_held(text, disk))
                .cloned()
        };
        let (locals, remotes) = (on_disk(&disks.local), on_disk(&disks.remote));
        let bases = locals.clone().filter(|text| is_held(text, &disks.remote));
        let (locals, remotes) = (trees(locals), trees(remotes));
        for base in trees(bases) {
            for local in &locals {
                for remote in &remotes {
                    let world = World::new(&base, local, remote).on(disks);
                    assert_nothing_lost(&world, planner, &disks);
                }
            }
        }
    }
}

#[test]
fn files_in_two_spellings() {
    enumerate(&combinations(&[
        &["", "a=x", "a=y"],
        &["", "A=x", "A=z"],
        &["", "b=x", "B=y"],
    ]));
}

#[test]
fn folders_in_two_spellings() {
    enumerate(&combinations(&[
        &["", "d=x", "d/", "d/ d/a=x", "d/ d/a=y d/b=x", "d/ d/A=x"],
        &["", "D=x", "D/", "D/ D/a=x", "D/ D/a=z", "D>t"],
    ]));
}

#[test]
fn names_that_look_the_same() {
    enumerate(&combinations(&[
        &["", "\u{e9}=x", "\u{e9}=y"],
        &["", "e\u{301}=x", "e\u{301}/ e\u{301}/a=x"],
        &["", "\u{c9}=x", "\u{c9}/ \u{c9}/a=y"],
    ]));
}

#[test]
fn two_people_at_work() {
    let names = &["a", "A", "b", "B", "c", "d:", "\u{e9}", "e\u{301}"];
    for (disks, planner) in PAIRS {
        for seed in 0..CASES {
            let world = case_on(seed, names, disks);
            assert_nothing_lost(&world, planner, &(seed, &disks));
        }
    }
}

/// What was refused here was never recorded, so it isn't missed: nothing goes away there for it.
#[test]
fn what_is_refused_is_not_taken_for_deleted() {
    let check = |base: &str, local: &str, remote: &str, refused: &[&str]| {
        let (disks, planner) = PAIRS[0];
        let mut world = World::new(&tree(base), &tree(local), &tree(remote)).on(disks);
        for _ in 0..4 {
            let plan = planner(&world.base, &world.local, &world.remote);
            assert_eq!(plan.push, [], "{base}, {local}, {remote}");
            let told: Vec<_> = plan.problems.iter().map(|problem| &problem.path).collect();
            let refused: Vec<_> = refused.iter().map(|text| path(text)).collect();
            assert_eq!(told, refused.iter().collect::<Vec<_>>());
            for problem in &plan.problems {
                let said = matches!(&problem.what, Trouble::CannotHold(why) if why.contains("FAT"));
                assert!(said, "{problem:?}");
            }
            let order = crate::world::Order::PushFirst;
            world.execute(&plan, order).expect("it can be carried out");
        }
    };
    check("X/ X/a=1", "X/ X/a=1", "X/ X/a=1 x/ x/y/ x/y/a=2", &["x"]);
    check("", "", "X/ X/a=1 x/ x/y/ x/y/a=2", &["X", "x"]);
    check("", "", "d:/ d:/a=1", &["d:"]);
    check(
        "a=1",
        "a=1",
        "l>t a=1 big=more-than-twenty-bytes",
        &["big", "l"],
    );
    // In its place, or in the place of the folder that it is in.
    check("a=1", "a=1", "a>t", &["a"]);
    check("d/ d/a=1", "d/ d/a=1", "d>t", &["d"]);
    // It would have moved.
    check("a=1", "a=1", "a:=1", &["a:"]);
    check("d/ d/a=1", "d/ d/a=1", "e:/ e:/a=1", &["e:"]);
}
