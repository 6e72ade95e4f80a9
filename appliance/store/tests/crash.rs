//! A crash between any two calls on the disk loses nothing.
//!
//! Each case is done again and again, stopped one step later each time, until it isn't stopped any
//! more. After each stop the store is opened again (and is stopped while it recovers, too), and then
//! must hold every content that was there before: under a path or as a version.

mod common;

use common::{Box, Faults, by, delete, id, link, mkdir, mv, path, put, stream};
use raspbox_protocol::commit::{CommitFrame, Expect, Op, Outcome};
use raspbox_protocol::{Digest, Entry, Mtime, Version};
use raspbox_store::{Policy, Store};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What there is before each case.
const OLD: [(&str, &str); 5] = [
    ("a", "old a"),
    ("b", "old b"),
    ("d/c", "old c"),
    ("d/e/f", "old f"),
    ("same", "old a"),
];

fn fill(my: &Box) {
    for folder in ["d", "d/e"] {
        my.store().make_folder(&path(folder), &by()).expect("mkdir");
    }
    for (name, content) in OLD {
        my.put(name, content).expect("put");
    }
    my.one(200, link("l", Expect::Absent, "a"));
}

/// Every content under a path or kept as a version.
fn contents(my: &Box) -> BTreeSet<Digest> {
    let files = my
        .tree()
        .into_values()
        .filter_map(|(entry, _)| match entry {
            Entry::File(file) => Some(file.digest),
            Entry::Folder | Entry::Symlink(_) => None,
        });
    my.check_history();
    let mut all: BTreeSet<Digest> = files.collect();
    all.extend(my.kept());
    all
}

/// What there is before, and a store that stops at this step of what it does next.
fn stopping_at(faults: &Faults, step: u32) -> Box {
    let mut my = Box::with(faults.clone());
    fill(&my);
    let stop = Faults {
        stop_at: Some(step),
        ..faults.clone()
    };
    my.open_with(stop).expect("nothing to recover: no steps");
    my
}

/// Stops `act` at every step; returns how many there are.
fn stop_everywhere(
    faults: &Faults,
    expected: &[&str],
    act: impl Fn(&Box),
    check: impl Fn(&Box, bool),
) -> u32 {
    for step in 0.. {
        let mut my = stopping_at(faults, step);
        let stopped = catch_unwind(AssertUnwindSafe(|| act(&my))).is_err();
        // The next start is stopped everywhere, too.
        my.close();
        for step in 0.. {
            let stop = Faults {
                stop_at: Some(step),
                ..faults.clone()
            };
            if catch_unwind(AssertUnwindSafe(|| my.open_with(stop))).is_ok_and(|open| open.is_ok())
            {
                break;
            }
        }
        my.open_with(faults.clone()).expect("opens again");
        my.check_tree();
        assert_eq!(my.staged(), 0, "step {step}");
        let there = contents(&my);
        for (name, content) in OLD {
            assert!(
                there.contains(&Digest::of(content.as_bytes())),
                "{name} at step {step}"
            );
        }
        let names = my.tree();
        for name in expected {
            assert!(names.contains_key(&path(name)), "{name} at step {step}");
        }
        check(&my, stopped);
        my.check_tree();
        if !stopped {
            return step;
        }
    }
    unreachable!("a case ends")
}

fn everywhere(expected: &[&str], act: impl Fn(&Box) + Copy, check: impl Fn(&Box, bool) + Copy) {
    everywhere_with_modes(expected, act, check);
    let fat = Faults {
        fat: true,
        ..Faults::default()
    };
    assert!(stop_everywhere(&fat, expected, act, check) > 1);
}

/// The same but where the disk has no executable bits (which it does have here).
fn everywhere_with_modes(
    expected: &[&str],
    act: impl Fn(&Box) + Copy,
    check: impl Fn(&Box, bool) + Copy,
) {
    let fallback = Faults {
        no_exchange: true,
        ..Faults::default()
    };
    for faults in [Faults::default(), fallback] {
        let steps = stop_everywhere(&faults, expected, act, check);
        assert!(steps > 1, "there were steps to stop at");
    }
}

fn run(my: &Box, ops: &[Vec<CommitFrame>]) {
    my.try_commit(1, &stream(ops)).expect("a commit");
}

/// Sends the commit again; it must come out as done.
fn again(my: &Box, ops: &[Vec<CommitFrame>]) {
    let outcomes = my.commit(1, ops);
    assert!(
        outcomes.iter().all(|o| matches!(o, Outcome::Done(_))),
        "{outcomes:?}"
    );
}

/// Linux writes the name that a rename gives on FAT before the place and the size of its content, and a power cut in
/// between leaves an empty file there.
#[test]
fn a_name_that_came_without_its_content_is_no_file() {
    let fat = Faults {
        fat: true,
        ..Faults::default()
    };
    for (at, before) in [("a", Some("old a")), ("new", None)] {
        let mut cut_off = 0;
        for step in 0.. {
            let mut my = stopping_at(&fat, step);
            let put = || my.put(at, "new content");
            if catch_unwind(AssertUnwindSafe(put)).is_ok() {
                break;
            }
            my.close();
            let db = rusqlite::Connection::open(my.at(".raspbox/journal.db")).expect("opens");
            let journalled = "SELECT count(*) FROM entry WHERE path = ? AND size = 11";
            let row = db.query_row(journalled, [at], |row| row.get::<_, u32>(0));
            let is_journalled = row.expect("a count") == 1;
            drop(db);
            // Once it is journalled, it was synced.
            if !is_journalled && my.on_disk(at).as_deref() == Some("new content") {
                std::fs::write(my.at(at), "").expect("cut off");
                cut_off += 1;
            }
            my.open_with(fat.clone()).expect("opens again");
            if !is_journalled {
                assert_eq!(my.on_disk(at).as_deref(), before, "{at} at step {step}");
            }
            my.check_tree();
        }
        assert!(cut_off > 0, "{at}");
    }
}

fn content_is_one_of(my: &Box, at: &str, expected: &[&str]) {
    let found = my.on_disk(at).unwrap_or_default();
    assert!(expected.contains(&found.as_str()), "{at}: {found}");
}

#[test]
fn putting_something_new() {
    let ops = || [put("new", Expect::Absent, "new")];
    everywhere(
        &[],
        |my| run(my, &ops()),
        |my, _| {
            again(my, &ops());
            content_is_one_of(my, "new", &["new"]);
        },
    );
}

#[test]
fn replacing() {
    everywhere(
        &["a"],
        |my| {
            my.put("a", "new a").expect("put");
        },
        |my, stopped| {
            content_is_one_of(my, "a", &["old a", "new a"]);
            assert!(stopped || my.keeps("a", "old a"));
        },
    );
}

#[test]
fn replacing_what_is_kept_already() {
    everywhere(
        &["a", "same"],
        |my| {
            my.put("a", "new a").expect("put");
            my.put("same", "new same").expect("put");
        },
        |my, stopped| {
            content_is_one_of(my, "same", &["old a", "new same"]);
            assert!(stopped || (my.keeps("a", "old a") && my.keeps("same", "old a")));
        },
    );
}

#[test]
fn replacing_by_commit_and_sending_it_again() {
    // The same history gives the same versions.
    let version = {
        let my = Box::new();
        fill(&my);
        my.version("a")
    };
    let ops = || [put("a", Expect::Version(version), "new a")];
    everywhere(
        &["a"],
        |my| run(my, &ops()),
        |my, _| {
            content_is_one_of(my, "a", &["old a", "new a"]);
            again(my, &ops());
            content_is_one_of(my, "a", &["new a"]);
            assert!(my.keeps("a", "old a"));
        },
    );
}

#[test]
fn deleting() {
    everywhere(
        &[],
        |my| {
            my.store().delete_file(&path("b"), &by()).expect("delete");
        },
        |my, stopped| {
            let there = my.on_disk("b").is_some();
            assert!(there || my.keeps("b", "old b"));
            assert!(stopped || !there);
        },
    );
}

#[test]
fn restoring() {
    restore_everywhere(&[Faults::default()], 2);
}

#[test]
fn restoring_without_room_for_a_copy() {
    let tight = Faults {
        no_copies: true,
        ..Faults::default()
    };
    let fat = Faults {
        fat: true,
        ..tight.clone()
    };
    // What is kept once takes one place, and what stands elsewhere is not taken from there.
    restore_everywhere(&[tight, fat], 1);
}

/// Brings back what was replaced and deleted, in all these ways to fail.
fn restore_everywhere(faults: &[Faults], copies: usize) {
    let versions = {
        let my = Box::new();
        fill(&my);
        (my.put("a", "new a").expect("put"), my.version("d/c"))
    };
    let restore = |at: &str, expect, content: &str| {
        common::op(Op::Restore {
            path: path(at),
            expect,
            file: common::file(content),
        })
    };
    let ops = || {
        [
            restore("a", Expect::Version(versions.0), "old a"),
            restore("b", Expect::Absent, "old b"),
            // From a file that stands somewhere.
            restore("copy", Expect::Absent, "old f"),
            // To where something else stands.
            restore("d/c", Expect::Version(versions.1), "old a"),
        ]
    };
    let act = |my: &Box| {
        my.put("a", "new a").expect("put");
        my.store().delete_file(&path("b"), &by()).expect("delete");
        run(my, &ops());
    };
    let check = |my: &Box, stopped: bool| {
        content_is_one_of(my, "a", &["old a", "new a"]);
        content_is_one_of(my, "d/c", &["old c", "old a"]);
        if stopped {
            return;
        }
        content_is_one_of(my, "a", &["old a"]);
        content_is_one_of(my, "b", &["old b"]);
        assert!(my.keeps("a", "new a"));
        if copies > 1 {
            content_is_one_of(my, "copy", &["old f"]);
            assert!(my.keeps("d/c", "old c"));
        }
    };
    for faults in faults {
        for no_exchange in [false, true] {
            let faults = Faults {
                no_exchange,
                ..faults.clone()
            };
            let expected = ["a", "d/c", "d/e/f", "same"];
            assert!(stop_everywhere(&faults, &expected, act, check) > 1);
        }
    }
}

#[test]
fn moving_a_file() {
    everywhere(
        &[],
        |my| {
            my.store()
                .rename(&path("b"), &path("d/n"), &by())
                .expect("rename");
        },
        |my, _| {
            let found = (my.on_disk("b").is_some(), my.on_disk("d/n").is_some());
            assert!(found.0 != found.1, "{found:?}");
        },
    );
}

#[test]
fn moving_over_a_file() {
    everywhere(
        &["b"],
        |my| {
            my.store()
                .rename(&path("a"), &path("b"), &by())
                .expect("rename");
        },
        |my, stopped| {
            content_is_one_of(my, "b", &["old a", "old b"]);
            // Never both half: either nothing happened, or all of it.
            let done = my.on_disk("b").as_deref() == Some("old a");
            assert_eq!(my.at("a").exists(), !done);
            assert_eq!(my.keeps("b", "old b"), done);
            assert!(stopped || done);
        },
    );
}

#[test]
fn moving_a_folder() {
    everywhere(
        &[],
        |my| {
            my.store()
                .rename(&path("d"), &path("n"), &by())
                .expect("rename");
        },
        |my, _| {
            let found = (my.at("d").exists(), my.at("n").exists());
            assert!(found.0 != found.1, "{found:?}");
            let there = my.on_disk("d/e/f").or(my.on_disk("n/e/f"));
            assert_eq!(there.as_deref(), Some("old f"));
        },
    );
}

#[test]
fn setting_times() {
    everywhere_with_modes(
        &["a"],
        |my| {
            let store = my.store();
            store
                .set_mtime(&path("a"), common::LONG_AGO, &by())
                .expect("utime");
            store
                .set_executable(&path("a"), true, &by())
                .expect("chmod");
        },
        |my, _| content_is_one_of(my, "a", &["old a"]),
    );
}

#[test]
fn a_batch_of_everything() {
    let versions: Vec<Version> = {
        let my = Box::new();
        fill(&my);
        ["a", "b", "d/c", "d/e", "l"]
            .map(|name| my.version(name))
            .to_vec()
    };
    let ops = || {
        vec![
            put("a", Expect::Version(versions[0]), "new a"),
            delete("b", versions[1]),
            mkdir("n"),
            mv("d/c", versions[2], "n/c"),
            put("d/c", Expect::Absent, "new c"),
            link("n/l", Expect::Absent, "c"),
            put("l", Expect::Version(versions[4]), "no link any more"),
            put("x1", Expect::Absent, "1"),
            put("x2", Expect::Absent, "2"),
            mv("d/e", versions[3], "n/e"),
        ]
    };
    everywhere(
        &["a", "l", "d"],
        |my| run(my, &ops()),
        |my, stopped| {
            content_is_one_of(my, "a", &["old a", "new a"]);
            let outcomes = my.commit(1, &ops());
            // A crash may turn up with changes of which nobody knows who made them; those are to be
            // looked at again, and no others.
            assert!(
                stopped || outcomes.iter().all(|o| matches!(o, Outcome::Done(_))),
                "{outcomes:?}"
            );
            content_is_one_of(my, "a", &["new a"]);
            content_is_one_of(my, "n/e/f", &["old f"]);
            content_is_one_of(my, "x2", &["2"]);
            assert!(my.keeps("a", "old a") && my.keeps("b", "old b"));
        },
    );
}

/// Somebody saves a file at every step of a change to it; what they saved must not be lost.
fn meddle_everywhere(
    at: &str,
    act: impl Fn(&Box) -> Result<Version, raspbox_store::StoreError> + Copy,
) {
    for no_exchange in [false, true] {
        for step in 0.. {
            let mut my = Box::new();
            fill(&my);
            my.open_with(Faults {
                meddle: Some((step, my.at(at), "saved".into())),
                no_exchange,
                no_copies: true,
                ..Faults::default()
            })
            .expect("opens");
            let result = act(&my);
            if my.store().steps() <= step {
                result.expect("nobody meddled");
                assert!(step > 2, "there were steps to meddle at");
                break;
            }
            my.reopen();
            my.check_tree();
            let there = contents(&my);
            let by_hand = there.contains(&Digest::of(b"saved"));
            assert!(by_hand, "step {step}: {result:?}");
            for (name, content) in OLD {
                let meddled = name == at;
                let digest = Digest::of(content.as_bytes());
                assert!(meddled || there.contains(&digest), "{name} at step {step}");
            }
        }
    }
}

#[test]
fn what_somebody_saves_while_it_is_replaced() {
    meddle_everywhere("a", |my| my.put("a", "new a"));
}

/// As `cp -p` does of another file.
#[test]
fn what_somebody_saves_with_the_time_that_the_old_one_had() {
    meddle_everywhere("a", |my| {
        // What is meddled with has this time.
        my.store().set_mtime(&path("a"), Mtime(0), &by())?;
        my.put("a", "new a")
    });
}

#[test]
fn what_somebody_saves_while_a_version_takes_its_place() {
    meddle_everywhere("a", |my| {
        // Not one of the old ones: who writes over it on the drive itself overwrites all there is.
        my.put("extra", "extra")?;
        my.store().delete_file(&path("extra"), &by())?;
        let restore = common::op(Op::Restore {
            path: path("a"),
            expect: Expect::Version(my.version("a")),
            file: common::file("extra"),
        });
        drop(my.try_commit(1, &stream(&[restore])));
        Ok(Version(0))
    });
}

#[test]
fn what_somebody_saves_while_it_is_deleted() {
    meddle_everywhere("b", |my| {
        my.store().delete_file(&path("b"), &by())?;
        Ok(Version(0))
    });
}

#[test]
fn what_somebody_saves_while_it_is_moved_over_and_while_it_moves() {
    meddle_everywhere("b", |my| my.store().rename(&path("a"), &path("b"), &by()));
    meddle_everywhere("b", |my| my.store().rename(&path("b"), &path("a"), &by()));
    meddle_everywhere("b", |my| my.store().rename(&path("b"), &path("d/n"), &by()));
}

#[test]
fn a_store_that_goes_on_after_a_panic_settles_first() {
    // One thread dies in the middle; the others go on with the same store.
    for step in 0..12 {
        let mut my = Box::new();
        fill(&my);
        my.open_with(Faults {
            stop_at: Some(step),
            ..Faults::default()
        })
        .expect("opens");
        let store: Store = my.store().clone();
        let died = catch_unwind(AssertUnwindSafe(|| my.put("a", "new a"))).is_err();
        store.forgive();
        content_is_one_of(&my, "a", &["old a", "new a"]);
        // Whatever takes the right to write settles; this changes nothing else.
        let policy = Policy::default();
        let settled = store.thin(&policy, Duration::ZERO, &mut || true);
        settled.expect("there is nothing to thin");
        my.check_tree();
        my.put("b", "new b").expect("put");
        my.check_tree();
        assert!(contents(&my).contains(&Digest::of(b"old a")), "step {step}");
        if !died {
            assert!(step > 3);
            return;
        }
    }
    let _ = id(0);
}
