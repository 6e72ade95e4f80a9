//! A check of the filesystem had to repair it: what it has cut short or taken is damaged, and nobody takes
//! it for an edit or a deletion.

mod common;

use common::{Box, Faults, by, delete, file, link, mkdir, op, options, path, put};
use raspbox_protocol::commit::{Expect, Op, Outcome};
use raspbox_protocol::damage::Place;
use raspbox_protocol::want::Want;
use raspbox_protocol::{Digest, Version};
use raspbox_store::{Store, StoreError, note_repair};
use std::fs;

const GOOD: &str = "a good content, longer than what is left of it";

/// Makes the store anew after a repair of its filesystem that has done this.
fn repair(my: &mut Box, what: impl Fn(&Box)) {
    my.close();
    what(my);
    my.store = Some(Store::open_repaired(my.dir.path(), options()).expect("opens"));
}

/// Cuts a file short as a repair does: its time stays.
fn cut_short(my: &Box, at: &str) {
    let file = fs::File::options().write(true).open(my.at(at));
    let file = file.expect("opens");
    let mtime = file.metadata().and_then(|m| m.modified()).expect("a time");
    file.set_len(6).expect("cut");
    file.set_modified(mtime).expect("as it was");
}

/// Which files are damaged, and with which content they were found.
fn damages(my: &Box) -> Vec<(String, Option<Digest>)> {
    let told = my.store().damages().expect("a list").into_iter();
    let files = told.filter_map(|damage| match damage.place {
        Place::File { path, version } => {
            assert_eq!(version, my.version(path.as_str()));
            Some((path.to_string(), damage.found))
        }
        // What was displaced is kept as what it is.
        Place::Kept => None,
    });
    files.collect()
}

fn fetch(my: &Box, at: &str) -> Result<(), StoreError> {
    let want = Want {
        path: path(at),
        version: my.version(at),
        offset: 0,
    };
    my.store().read_version(&want).map(drop)
}

fn with_files(names: &[&str]) -> Box {
    let my = Box::new();
    let puts: Vec<_> = names
        .iter()
        .map(|name| put(name, Expect::Absent, &format!("{GOOD}: {name}")))
        .collect();
    let done = my.commit(200, &puts);
    assert!(done.iter().all(|one| matches!(one, Outcome::Done(_))));
    my
}

fn held(at: &str) -> (String, Option<Digest>) {
    (at.into(), None)
}

#[test]
fn what_a_repair_has_taken_is_not_deleted() {
    let mut my = with_files(&["a", "stays"]);
    let more = [
        mkdir("d"),
        put("d/b", Expect::Absent, GOOD),
        mkdir("empty"),
        link("l", Expect::Absent, "a"),
    ];
    my.commit(1, &more);
    let (before, cursor) = (my.tree(), my.store().cursor());
    repair(&mut my, |my| {
        fs::remove_file(my.at("a")).expect("gone");
        fs::remove_dir_all(my.at("d")).expect("gone");
        fs::remove_dir(my.at("empty")).expect("gone");
        fs::remove_file(my.at("l")).expect("gone");
    });
    for _ in 0..2 {
        assert_eq!(my.tree(), before);
        assert_eq!(
            my.store().cursor().seq,
            cursor.seq,
            "nobody is told of anything"
        );
        assert_eq!(damages(&my), [held("a"), held("d/b")]);
        assert!(matches!(fetch(&my, "d/b"), Err(StoreError::Damaged(_))));
        assert!(
            my.at("empty").is_dir(),
            "what is all in its row is made again"
        );
        assert!(my.at("l").is_symlink());
        fetch(&my, "stays").expect("good");
        my.reopen();
    }
    let good = |at| put(at, Expect::Version(before[&path(at)].1), GOOD);
    assert!(matches!(my.one(2, good("d/b")), Outcome::Done(_)));
    assert_eq!(my.on_disk("d/b").as_deref(), Some(GOOD));
    assert_eq!(damages(&my), [held("a")]);
    fetch(&my, "d/b").expect("good again");
}

#[test]
fn what_a_repair_has_cut_short_is_not_edited() {
    let mut my = with_files(&["a", "b", "edited"]);
    let before = my.tree();
    repair(&mut my, |my| {
        cut_short(my, "a");
        cut_short(my, "b");
        fs::write(my.at("edited"), "by somebody").expect("written");
    });
    let found = Some(Digest::of(&GOOD.as_bytes()[..6]));
    for _ in 0..2 {
        assert_eq!(damages(&my), [("a".into(), found), ("b".into(), found)]);
        assert_eq!(my.version("a"), before[&path("a")].1);
        assert_ne!(my.version("edited"), before[&path("edited")].1);
        assert!(matches!(fetch(&my, "a"), Err(StoreError::Damaged(_))));
        my.reopen();
    }
    let good = format!("{GOOD}: a");
    assert!(matches!(
        my.one(2, put("a", Expect::Absent, &good)),
        Outcome::Done(_)
    ));
    assert_eq!(my.on_disk("a"), Some(good));
    let kept = my.versions();
    assert!(kept.iter().any(|(_, digest)| *digest == found), "{kept:?}");
    assert_eq!(damages(&my), [("b".into(), found)]);
    // Whoever touches it has looked at it.
    let now = std::time::SystemTime::now();
    let file = fs::File::options().write(true).open(my.at("b"));
    file.and_then(|file| file.set_modified(now))
        .expect("touched");
    my.reopen();
    assert_eq!(damages(&my), []);
    assert_ne!(my.version("b"), before[&path("b")].1);
}

/// Whatever somebody decides about what is held, it is done, and ends it.
#[test]
fn what_is_held_ends_as_somebody_decides() {
    type Decide = fn(&Box, &str, Version) -> Outcome;
    let decisions: [(Decide, Option<&str>); 5] = [
        (|my, at, version| my.one(2, delete(at, version)), None),
        (
            |my, at, version| my.one(2, put(at, Expect::Version(version), "new")),
            Some("new"),
        ),
        (
            |my, at, _| Outcome::Done(my.put(at, "new").expect("put")),
            Some("new"),
        ),
        (
            |my, at, _| {
                let over = my.store().rename(&path("other"), &path(at), &by());
                Outcome::Done(over.expect("renamed"))
            },
            Some("other"),
        ),
        (
            |my, at, version| {
                let restore = Op::Restore {
                    path: path(at),
                    expect: Expect::Version(version),
                    file: file("old"),
                };
                my.one(2, op(restore))
            },
            Some("old"),
        ),
    ];
    for (number, (decide, left)) in decisions.into_iter().enumerate() {
        for taken in [true, false] {
            for no_copies in [false, true] {
                let mut my = with_files(&["a"]);
                my.put("other", "other").expect("put");
                my.put("version", "old").expect("put");
                my.store()
                    .delete_file(&path("version"), &by())
                    .expect("deleted");
                repair(&mut my, |my| match taken {
                    true => fs::remove_file(my.at("a")).expect("gone"),
                    false => cut_short(my, "a"),
                });
                let faults = Faults {
                    no_copies,
                    ..Faults::default()
                };
                my.open_with(faults).expect("opens");
                assert_eq!(damages(&my).len(), 1);
                let outcome = decide(&my, "a", my.version("a"));
                let what = format!("{number}, taken: {taken}, without room: {no_copies}");
                assert!(matches!(outcome, Outcome::Done(_)), "{what}: {outcome:?}");
                assert_eq!(my.on_disk("a").as_deref(), left, "{what}");
                assert_eq!(damages(&my), [], "{what}");
                my.reopen();
                assert_eq!(my.on_disk("a").as_deref(), left, "{what}");
                assert_eq!(my.tree().contains_key(&path("a")), left.is_some(), "{what}");
            }
        }
    }
}

/// What was under way when the power went, and is found half done, was asked for.
#[test]
fn what_was_being_done_is_not_taken_for_the_repairs_doing() {
    let asked: [fn(&Box); 4] = [
        |my| drop(my.store().rename(&path("a"), &path("n"), &by())),
        |my| drop(my.store().delete_file(&path("a"), &by())),
        |my| drop(my.put("a", "new")),
        |my| drop(my.store().rename(&path("a"), &path("b"), &by())),
    ];
    for (number, ask) in asked.into_iter().enumerate() {
        for step in 0.. {
            let mut my = with_files(&["a", "b"]);
            let faults = Faults {
                stop_at: Some(step),
                ..Faults::default()
            };
            let whole = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                if my.open_with(faults).is_ok() {
                    ask(&my);
                }
                my.store.as_ref().is_some_and(|store| store.steps() < step)
            }));
            repair(&mut my, |_| ());
            assert_eq!(damages(&my), [], "{number}, step {step}");
            if whole.is_ok_and(|whole| whole) {
                assert!(step > 3);
                break;
            }
        }
    }
}

/// The next check finds nothing to repair any more; so it is remembered until all was looked at.
#[test]
fn a_crash_while_it_is_opened_forgets_nothing_of_it() {
    for step in 0.. {
        let mut my = with_files(&["a", "b"]);
        my.close();
        fs::remove_file(my.at("a")).expect("gone");
        let faults = Faults {
            stop_at: Some(step),
            ..Faults::default()
        };
        let opened = std::panic::catch_unwind(|| {
            Store::open_repaired_with(my.dir.path(), options(), faults).is_ok()
        });
        my.reopen();
        assert_eq!(damages(&my), [held("a")], "step {step}");
        if opened.is_ok() {
            return;
        }
    }
}

/// The power goes after the repair and before anybody has opened the store, and at each step of opening it.
#[test]
fn what_root_has_noted_of_a_repair_is_forgotten_by_no_crash() {
    for step in 0.. {
        let mut my = with_files(&["a", "b"]);
        my.close();
        fs::remove_file(my.at("a")).expect("gone");
        note_repair(my.dir.path()).expect("noted");
        let faults = Faults {
            stop_at: Some(step),
            ..Faults::default()
        };
        let opened =
            std::panic::catch_unwind(|| Store::open_with(my.dir.path(), options(), faults).is_ok());
        my.reopen();
        assert_eq!(damages(&my), [held("a")], "step {step}");
        if opened.is_ok() {
            // And it is forgotten once it was looked through.
            my.close();
            fs::remove_file(my.at("b")).expect("deleted by somebody");
            my.reopen();
            assert_eq!(damages(&my), [held("a")]);
            return;
        }
    }
}

#[test]
fn where_there_is_no_store_there_is_nothing_to_note() {
    let dir = tempfile::tempdir().expect("a folder");
    note_repair(dir.path()).expect("nothing to do");
    assert_eq!(fs::read_dir(dir.path()).expect("a list").count(), 0);
}
