//! When the brakes are put on, at their edges, and what they say.

use raspbox_core::guard::{
    Allowances, Direction, Displaced, Halt, LATELY, Lately, Recent, counts_later, guard,
};
use raspbox_core::names::{Accents, Disk, Disks};
use raspbox_core::reconcile::reconcile;
use raspbox_core::renames::find_moves;
use raspbox_core::tree::{Folder, Node};
use raspbox_protocol::info::{DriveId, Holds};
use raspbox_protocol::{Digest, Entry, File, Mtime, RelPath};
use std::time::Duration;

type Tree = Folder<()>;

const ANYTHING: Disk = Disk {
    called: "ext4",
    holds: Holds {
        case_sensitive: true,
        symlinks: true,
        dos_names: false,
        file_max_bytes: u64::MAX,
        granularity: Duration::from_nanos(1),
    },
    accents: Accents::Apart,
};

const DISKS: Disks = Disks {
    local: ANYTHING,
    remote: ANYTHING,
};

/// Files `f0`, `f1` … with these contents.
fn files(contents: impl IntoIterator<Item = usize>) -> Tree {
    let mut tree = Tree::default();
    for (number, content) in contents.into_iter().enumerate() {
        put(&mut tree, &format!("f{number:05}"), content);
    }
    tree
}

fn put(tree: &mut Tree, path: &str, content: usize) {
    put_at(tree, path, content, Mtime(0));
}

fn put_at(tree: &mut Tree, path: &str, content: usize, mtime: Mtime) {
    let file = File {
        digest: Digest::of(&content.to_le_bytes()),
        size: 8,
        mtime,
        executable: false,
    };
    let path = RelPath::parse(path).expect("a good path");
    tree.insert(&path, Node::new(Entry::File(file), ()))
        .expect("the top is there");
}

fn halt_with(base: &Tree, local: &Tree, remote: &Tree, allow: Allowances) -> Option<Halt> {
    halt_after(&Recent::default(), base, local, remote, allow)
}

/// The same after this was done lately.
fn halt_after(
    recent: &Recent,
    base: &Tree,
    local: &Tree,
    remote: &Tree,
    allow: Allowances,
) -> Option<Halt> {
    let plan = find_moves(reconcile(base, local, remote), &DISKS);
    guard(&plan, base, local, remote, Displaced::Kept, recent, &allow).err()
}

/// The same with an ordinary FTP server.
fn halt_for_good(base: &Tree, local: &Tree, remote: &Tree, deletions: usize) -> Option<Halt> {
    let plan = find_moves(reconcile(base, local, remote), &DISKS);
    let allow = Allowances {
        deletions,
        changes: 0,
    };
    let recent = Recent::default();
    guard(&plan, base, local, remote, Displaced::Gone, &recent, &allow).err()
}

fn halt(base: &Tree, local: &Tree, remote: &Tree) -> Option<Halt> {
    halt_with(base, local, remote, Allowances::default())
}

#[test]
fn an_emptied_side_is_asked_about_from_ten_entries_on() {
    for (entries, asked) in [(0, false), (9, false), (10, true), (500, true)] {
        let (full, empty) = (files(0..entries), Tree::default());
        let expected = |direction| asked.then_some(Halt::Emptied { direction, entries });
        assert_eq!(halt(&full, &empty, &full), expected(Direction::Remote));
        assert_eq!(halt(&full, &full, &empty), expected(Direction::Local));
        assert_eq!(halt(&full, &empty, &empty), None, "nothing is deleted");
        assert_eq!(halt(&empty, &full, &empty), None, "the first sync");
    }
}

#[test]
fn where_nothing_keeps_what_is_deleted_an_emptied_side_is_asked_about_from_one_entry_on() {
    for entries in [1, 9, 10] {
        // In the place of a disk that isn't mounted may be something that was never in sync.
        let mut stray = Tree::default();
        let folder = Node::new(Entry::Folder, ());
        stray.children.insert("lost+found".into(), folder);
        let full = files(0..entries);
        for emptied in [&Tree::default(), &stray] {
            for (local, remote, direction) in [
                (emptied, &full, Direction::Remote),
                (&full, emptied, Direction::Local),
            ] {
                let expected = Some(Halt::Emptied { direction, entries });
                let halt = |allowed| halt_for_good(&full, local, remote, allowed);
                assert_eq!((halt(0), halt(entries - 1)), (expected.clone(), expected));
                assert_eq!(halt(entries), None);
            }
        }
        let mut renamed = Tree::default();
        (0..entries).for_each(|content| put(&mut renamed, &format!("new{content}"), content));
        assert_eq!(halt_for_good(&full, &renamed, &full, 0), None, "moved");
        // Without hashes, the size is all that a rename is known by.
        let mut elsewhere = Tree::default();
        let folder = Node::Folder(files(1_000_000..1_000_000 + entries), ());
        elsewhere.children.insert("new".into(), folder);
        assert_eq!(halt_for_good(&full, &full, &elsewhere, 0), None, "renamed");
        // What was never in sync may be as long as what was, but is hardly as old.
        let mut strays = Tree::default();
        (0..entries).for_each(|n| {
            put_at(
                &mut strays,
                &format!("stray{n}"),
                1_000_000 + n,
                Mtime::from_parts(1, 0),
            );
        });
        assert_eq!(
            halt_for_good(&full, &full, &strays, 0),
            Some(Halt::Emptied {
                direction: Direction::Local,
                entries
            })
        );
        let none = Tree::default();
        assert_eq!(
            halt_for_good(&full, &none, &none, 0),
            None,
            "nothing is deleted"
        );
        assert_eq!(
            halt_for_good(&none, &full, &none, 0),
            None,
            "the first sync"
        );
    }
}

#[test]
fn where_nothing_keeps_what_is_deleted_fewer_deletions_are_asked_about() {
    let check = |files_before: usize, deleted: usize, asked: bool| {
        let (full, fewer) = (files(0..files_before), files(0..files_before - deleted));
        for (local, remote) in [(&fewer, &full), (&full, &fewer)] {
            let halt = halt_for_good(&full, local, remote, 0);
            assert_eq!(
                matches!(halt, Some(Halt::Deletions { .. })),
                asked,
                "{halt:?}"
            );
        }
    };
    check(11, 9, false);
    check(11, 10, true);
    check(40, 10, false);
    check(40, 11, true);
}

#[test]
fn where_nothing_keeps_what_is_deleted_what_was_lost_lately_counts() {
    let (full, fewer) = (files(0..30), files(0..25));
    let plan = find_moves(reconcile(&full, &fewer, &full), &DISKS);
    for (before, asked) in [(4, false), (5, true)] {
        let lately = Lately {
            deleted: paths(before),
            lost: paths(before),
            ..Lately::default()
        };
        let recent = recent(Direction::Remote, lately);
        let judge = |displaced| {
            let allow = Allowances::default();
            guard(&plan, &full, &fewer, &full, displaced, &recent, &allow)
        };
        assert_eq!(judge(Displaced::Gone).is_err(), asked, "{before}");
        assert_eq!(judge(Displaced::Kept), Ok(()), "they can be had back");
    }
}

#[test]
fn folders_alone_make_an_emptied_side_too() {
    let mut full = Tree::default();
    for number in 0..10 {
        let name = format!("d{number}");
        full.children
            .insert(name.into(), Node::new(Entry::Folder, ()));
    }
    assert!(matches!(
        halt(&full, &Tree::default(), &full),
        Some(Halt::Emptied { entries: 10, .. })
    ));
}

#[test]
fn what_is_in_folders_counts() {
    for (inside, asked) in [(8, false), (9, true)] {
        let mut full = Tree::default();
        let folder = Node::Folder(files(0..inside), ());
        full.children.insert("d".into(), folder);
        assert_eq!(full.count(), inside + 1);
        let halt = halt(&full, &Tree::default(), &full);
        assert_eq!(halt.is_some(), asked, "{halt:?}");
    }
}

#[test]
fn deletions_are_counted_in_each_direction() {
    let check = |files_before: usize, deleted: usize, asked: bool| {
        let (full, fewer) = (files(0..files_before), files(0..files_before - deleted));
        for (local, remote, direction) in [
            (&fewer, &full, Direction::Remote),
            (&full, &fewer, Direction::Local),
        ] {
            let halt = halt(&full, local, remote);
            match &halt {
                Some(Halt::Deletions {
                    direction: found,
                    deletions,
                    lately: 0,
                    files,
                    examples,
                }) => {
                    assert!(asked, "{halt:?}");
                    assert_eq!(
                        (*found, *deletions, *files),
                        (direction, deleted, files_before)
                    );
                    assert_eq!(examples.len(), 2);
                }
                None => assert!(!asked, "{deleted} of {files_before}"),
                other => panic!("{other:?}"),
            }
        }
    };
    check(26, 24, false);
    check(26, 25, true);
    check(100, 25, false);
    check(100, 26, true);
    check(1_000, 250, false);
    check(1_000, 251, true);
    check(8_000, 1_000, false);
    check(8_000, 1_001, true);
}

fn paths(count: usize) -> std::collections::BTreeSet<RelPath> {
    let path = |n| RelPath::parse(&format!("lately{n}")).expect("a good path");
    (0..count).map(path).collect()
}

/// What was done lately on one side.
fn recent(direction: Direction, lately: Lately) -> Recent {
    let mut recent = Recent::default();
    match direction {
        Direction::Local => recent.local = lately,
        Direction::Remote => recent.remote = lately,
    }
    recent
}

#[test]
fn what_was_deleted_lately_counts_with_what_is_deleted_now() {
    let (full, fewer) = (files(0..60), files(0..55));
    for (local, remote, direction, other) in [
        (&fewer, &full, Direction::Remote, Direction::Local),
        (&full, &fewer, Direction::Local, Direction::Remote),
    ] {
        let halt = |direction, before, deletions| {
            let lately = Lately {
                deleted: paths(before),
                ..Lately::default()
            };
            let allow = Allowances {
                deletions,
                changes: 0,
            };
            halt_after(&recent(direction, lately), &full, local, remote, allow)
        };
        assert_eq!(halt(direction, 19, 0), None);
        assert!(
            matches!(
                halt(direction, 20, 4),
                Some(Halt::Deletions {
                    deletions: 5,
                    lately: 20,
                    files: 60,
                    ..
                })
            ),
            "{:?}",
            halt(direction, 20, 4)
        );
        assert_eq!(halt(direction, 20, 5), None, "somebody said yes to five");
        assert_eq!(halt(other, 1_000, 0), None, "that was the other side");
        // They were part of more files, then.
        assert_eq!(halt(direction, 20, 0).is_some(), 25 * 100 > 80 * 25);
    }
    // What was tried lately and is tried again is one deletion.
    let lately = Lately {
        deleted: ["f00055", "f00056", "f00057", "f00058", "f00059"]
            .map(|name| RelPath::parse(name).expect("a good path"))
            .into_iter()
            .chain(paths(19))
            .collect(),
        ..Lately::default()
    };
    let before = recent(Direction::Remote, lately);
    assert_eq!(
        halt_after(&before, &full, &fewer, &full, Allowances::default()),
        None
    );
    // Nothing goes: nothing is asked.
    let lately = Lately {
        deleted: paths(500),
        changed: paths(500),
        ..Lately::default()
    };
    let before = recent(Direction::Remote, lately);
    assert_eq!(
        halt_after(&before, &full, &full, &full, Allowances::default()),
        None
    );
}

#[test]
fn what_was_replaced_lately_counts_with_what_is_replaced_now() {
    let before = files(0..150);
    let after = files((0..150).map(|n| if n == 0 { 1_000_000 } else { n }));
    for (lately, asked) in [(98, false), (99, true)] {
        let lately = Lately {
            changed: paths(lately),
            ..Lately::default()
        };
        let recent = recent(Direction::Remote, lately);
        let halt = halt_after(&recent, &before, &after, &before, Allowances::default());
        assert_eq!(
            matches!(
                halt,
                Some(Halt::Changes {
                    changes: 1,
                    lately: 99,
                    ..
                })
            ),
            asked,
            "{halt:?}"
        );
    }
}

#[test]
fn a_side_that_is_emptied_slowly_is_asked_about() {
    let (full, empty) = (files(0..5), Tree::default());
    for (lately, asked) in [(4, false), (5, true)] {
        let lately = Lately {
            deleted: paths(lately),
            ..Lately::default()
        };
        let recent = recent(Direction::Remote, lately);
        let halt = halt_after(&recent, &full, &empty, &full, Allowances::default());
        assert_eq!(
            matches!(halt, Some(Halt::Emptied { entries: 5, .. })),
            asked
        );
    }
}

/// Programs make files and delete them all day long.
#[test]
fn of_what_is_deleted_only_what_was_old_counts_later() {
    let now = Mtime::from_parts(1_769_860_800, 0);
    let ago = |seconds: u64| Mtime::from_parts(1_769_860_800 - seconds.cast_signed(), 0);
    let mut before = files(0..2);
    put_at(&mut before, "old", 10, ago(LATELY.as_secs()));
    put_at(&mut before, "young", 11, ago(LATELY.as_secs() - 1));
    let mut after = files([0, 1_000_000]);
    put(&mut after, "new", 12);
    let plan = find_moves(reconcile(&before, &after, &before), &DISKS);
    let paths = |names: &[&str]| {
        let path = |name: &&str| RelPath::parse(name).expect("a good path");
        names.iter().map(path).collect()
    };
    let found = counts_later(&plan, now);
    let expected = Lately {
        deleted: paths(&["old"]),
        // "new" is as long as one of the two.
        lost: paths(&[]),
        changed: paths(&["f00001"]),
    };
    assert_eq!(found.local, Lately::default());
    assert!(
        found.remote == expected || found.remote.lost == paths(&["old"]),
        "{found:?}"
    );
    assert_eq!(found.remote.deleted, expected.deleted);
    assert_eq!(found.remote.changed, expected.changed);
}

#[test]
fn moves_are_no_deletions() {
    let old = files(0..500);
    let mut new = Tree::default();
    for content in 0..500 {
        put(&mut new, &format!("renamed{content}"), content);
    }
    assert_eq!(halt(&old, &new, &old), None);
}

#[test]
fn everything_changed_at_once_is_asked_about() {
    let check = |files_before: usize, changed: usize, asked: bool| {
        let before = files(0..files_before);
        let after = files((0..files_before).map(|n| if n < changed { n + 1_000_000 } else { n }));
        for (local, remote, direction) in [
            (&after, &before, Direction::Remote),
            (&before, &after, Direction::Local),
        ] {
            match halt(&before, local, remote) {
                Some(Halt::Changes {
                    direction: found,
                    changes,
                    ..
                }) => assert_eq!((asked, found, changes), (true, direction, changed)),
                None => assert!(!asked, "{changed} of {files_before}"),
                other => panic!("{other:?}"),
            }
        }
    };
    check(100, 99, false);
    check(100, 100, true);
    check(200, 100, false);
    check(200, 101, true);
}

#[test]
fn what_was_confirmed_goes_through_and_nothing_else() {
    let deletions = |deletions| Allowances {
        deletions,
        changes: 0,
    };
    let changes = |changes| Allowances {
        deletions: 0,
        changes,
    };
    let (before, none) = (files(0..200), Tree::default());
    let fewer = files(0..100);
    let other = files(1_000..1_200);
    for (after, count) in [(&none, 200), (&fewer, 100)] {
        for (local, remote) in [(after, &before), (&before, after)] {
            let halt = |allow| halt_with(&before, local, remote, allow);
            assert_eq!(halt(deletions(count)), None);
            assert_eq!(halt(deletions(usize::MAX)), None);
            // One more than was shown is another plan.
            assert!(halt(deletions(count - 1)).is_some());
            assert!(halt(changes(usize::MAX)).is_some());
        }
    }
    for (local, remote) in [(&other, &before), (&before, &other)] {
        let halt = |allow| halt_with(&before, local, remote, allow);
        assert_eq!(halt(changes(200)), None);
        assert!(halt(changes(199)).is_some());
        assert!(halt(deletions(usize::MAX)).is_some());
    }
}

#[test]
fn the_number_that_a_halt_names_is_the_one_that_lets_it_through() {
    let before = files(0..200);
    for after in [files(0..100), Tree::default(), files(1_000..1_200)] {
        let halt = halt(&before, &after, &before).expect("a halt").to_string();
        let number = |option: &str| {
            let (_, number) = halt.split_once(option)?;
            number.parse().ok()
        };
        let allow = Allowances {
            deletions: number("raspbox sync --confirm-deletions=").unwrap_or(0),
            changes: number("raspbox sync --confirm-changes=").unwrap_or(0),
        };
        assert_ne!(allow, Allowances::default(), "{halt}");
        assert_eq!(halt_with(&before, &after, &before, allow), None, "{halt}");
    }
}

#[test]
fn a_halt_says_what_would_happen_and_how_to_go_on() {
    let path = |text| RelPath::parse(text).expect("a good path");
    let check = |halt: Halt, words: &[&str]| {
        let text = halt.to_string();
        for word in words.iter().chain(&["Nothing was done."]) {
            assert!(text.contains(word), "{word:?} in {text:?}");
        }
        assert!(!text.contains("  "), "{text:?}");
    };
    check(
        Halt::Emptied {
            direction: Direction::Remote,
            entries: 12,
        },
        &[
            "The synced folder on this computer has nothing any more",
            "12 entries",
            "deleted on the appliance.",
            "raspbox sync --confirm-deletions=12",
        ],
    );
    check(
        Halt::Deletions {
            direction: Direction::Local,
            deletions: 30,
            lately: 0,
            files: 40,
            examples: vec![path("a"), path("b/c")],
        },
        &[
            "30 of 40 files would be deleted on this computer (such as 'a' and 'b/c').",
            "raspbox sync --confirm-deletions=30",
        ],
    );
    check(
        Halt::Deletions {
            direction: Direction::Local,
            deletions: 1,
            lately: 24,
            files: 40,
            examples: vec![path("a")],
        },
        &[
            "1 of 40 files would be deleted on this computer (such as 'a'), after 24 others in the last hour.",
        ],
    );
    check(
        Halt::Changes {
            direction: Direction::Remote,
            changes: 101,
            lately: 0,
            files: 200,
            examples: vec![path("a")],
        },
        &[
            "101 of 200 files",
            "(such as 'a')",
            "raspbox sync --confirm-changes=101",
        ],
    );
    check(
        Halt::DriveChanged {
            expected: DriveId([1; 16]),
            found: DriveId([2; 16]),
        },
        &[
            "(0202",
            "(0101",
            "Plug the right drive back in",
            "raspbox unpair",
        ],
    );
    check(Halt::LocalRootGone, &["raspbox unpair"]);
}
