//! What recovery makes of what it finds after a crash, where `crash.rs` and `power.rs` would let more than one
//! outcome pass: of contents that look alike, of what rotted, of empty files, of folders that somebody removed
//! meanwhile, and of who had saved what.
//!
//! As in `crash.rs`, each case is stopped one step later each time, until it isn't stopped any more.

mod common;

use common::{Box, Faults, by, delete, file, link, op, path, put, rot, stream};
use raspbox_protocol::commit::{CommitFrame, Expect, Op};
use raspbox_protocol::{Digest, Entry};
use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// A case: what is there before, what is stopped, and what somebody does before the store is opened again.
struct Case<'a> {
    faults: Faults,
    before: &'a dyn Fn(&Box),
    act: &'a dyn Fn(&Box),
    meanwhile: &'a dyn Fn(&Box),
}

impl Case<'_> {
    /// Stops it at every step; `check` is told the step, and whether it was stopped.
    fn stop_everywhere(&self, check: &dyn Fn(&Box, u32, bool)) {
        for step in 0.. {
            let mut my = Box::with(self.faults.clone());
            (self.before)(&my);
            let stop = Faults {
                stop_at: Some(step),
                ..self.faults.clone()
            };
            my.open_with(stop).expect("nothing to recover: no steps");
            let stopped = catch_unwind(AssertUnwindSafe(|| (self.act)(&my))).is_err();
            my.close();
            (self.meanwhile)(&my);
            let opened = my.open_with(self.faults.clone());
            opened.unwrap_or_else(|error| panic!("step {step}: {error}"));
            assert_eq!((my.staged(), my.intents()), (0, 0), "step {step}");
            check(&my, step, stopped);
            if !stopped {
                assert!(step > 2, "there were steps to stop at");
                return;
            }
        }
    }
}

fn fat() -> Faults {
    Faults {
        fat: true,
        ..Faults::default()
    }
}

/// Names can be exchanged, or not, or not even inode numbers last; and nothing can be copied either.
fn all_disks() -> [Faults; 4] {
    let no_exchange = Faults {
        no_exchange: true,
        ..Faults::default()
    };
    let no_copies = Faults {
        no_copies: true,
        ..fat()
    };
    [Faults::default(), no_exchange, fat(), no_copies]
}

fn restore(at: &str, expect: Expect, content: &str) -> Vec<CommitFrame> {
    op(Op::Restore {
        path: path(at),
        expect,
        file: file(content),
    })
}

fn run(my: &Box, ops: &[Vec<CommitFrame>]) {
    my.try_commit(1, &stream(ops)).expect("a commit");
}

/// The content that the journal says stands there.
fn journalled(my: &Box, at: &str) -> Option<Digest> {
    match my.tree().get(&path(at)) {
        Some((Entry::File(file), _)) => Some(file.digest),
        Some((Entry::Folder | Entry::Symlink(_), _)) | None => None,
    }
}

/// The contents in the staging folder.
fn in_staging(my: &Box) -> Vec<String> {
    let staging = fs::read_dir(my.at(".raspbox/staging")).expect("staging");
    let staged = staging.map(|entry| entry.expect("an entry").path());
    staged
        .filter_map(|at| fs::read_to_string(at).ok())
        .collect()
}

/// All of one size, saved at one time.
const ALIKE: [&str; 3] = ["the first", "the other", "a version"];

fn put_alike(my: &Box) {
    let [first, other, kept] = ALIKE;
    let ops = [
        put("a", Expect::Absent, first),
        put("b", Expect::Absent, other),
        put("c", Expect::Absent, kept),
    ];
    my.commit(200, &ops);
    my.one(201, delete("c", my.version("c")));
}

/// All that puts something else where "a" stands.
const IN_PLACE_OF_A: [fn(&Box); 3] = [
    |my| {
        let expect = Expect::Version(my.version("a"));
        run(my, &[put("a", expect, "brand new")]);
    },
    |my| {
        drop(my.store().rename(&path("b"), &path("a"), &by()));
    },
    |my| {
        let expect = Expect::Version(my.version("a"));
        run(my, &[restore("a", expect, ALIKE[2])]);
    },
];

/// On FAT a file's size and time are all there is to tell it by; here they tell nothing.
#[test]
fn what_took_the_place_of_what_looks_the_same_is_known_after_a_crash() {
    for faults in all_disks() {
        for act in IN_PLACE_OF_A {
            let case = Case {
                faults: faults.clone(),
                before: &put_alike,
                act: &act,
                meanwhile: &|_| (),
            };
            case.stop_everywhere(&|my, _, _| my.check_tree());
        }
    }
}

/// On FAT what was to be displaced is read after a crash, since it may have been. What rotted meanwhile is no
/// edit all the same: it would replace every good copy.
#[test]
fn what_rotted_is_not_taken_for_what_was_to_come() {
    let rotten = "r0tten!!!";
    let delete: fn(&Box) = |my| {
        drop(my.store().delete_file(&path("a"), &by()));
    };
    for faults in all_disks() {
        for act in IN_PLACE_OF_A.into_iter().chain([delete]) {
            let case = Case {
                faults: faults.clone(),
                before: &|my| {
                    put_alike(my);
                    rot(my, "a", rotten);
                },
                act: &act,
                meanwhile: &|_| (),
            };
            case.stop_everywhere(&|my, step, _| {
                let found = journalled(my, "a");
                let edit = Some(Digest::of(rotten.as_bytes()));
                assert_ne!(found, edit, "step {step}");
            });
        }
    }
}

#[test]
fn an_empty_file_that_is_replaced_is_no_name_without_its_content() {
    for faults in all_disks() {
        let case = Case {
            faults,
            before: &|my| {
                my.put("a", "").expect("put");
            },
            act: &|my| {
                my.put("a", "new").expect("put");
            },
            meanwhile: &|_| (),
        };
        case.stop_everywhere(&|my, step, _| {
            let found = my.on_disk("a");
            let good = matches!(found.as_deref(), Some("" | "new"));
            assert!(good, "step {step}: {found:?}");
            my.check_tree();
        });
    }
}

/// Where a name never comes without its content, an empty file is somebody's.
#[test]
fn a_file_that_somebody_emptied_is_there_after_a_crash() {
    for no_exchange in [false, true] {
        let case = Case {
            faults: Faults {
                no_exchange,
                ..Faults::default()
            },
            before: &|my| {
                my.put("a", "old").expect("put");
            },
            act: &|my| {
                my.put("a", "new").expect("put");
            },
            meanwhile: &|my| fs::write(my.at("a"), "").expect("emptied"),
        };
        case.stop_everywhere(&|my, step, _| {
            let found = my.on_disk("a");
            assert_eq!(found.as_deref(), Some(""), "step {step}");
            my.check_tree();
        });
    }
}

/// Puts an empty name beside each that was about to displace something, as a repair of FAT leaves one.
fn cut_off(my: &Box) {
    let db = rusqlite::Connection::open(my.at(".raspbox/journal.db")).expect("opens");
    let mut intents = db.prepare("SELECT staged FROM intent").expect("a table");
    let staged = intents.query_map([], |row| row.get::<_, String>(0));
    for staged in staged.expect("rows") {
        let name = format!(".raspbox/staging/old-{}", staged.expect("a name"));
        let made = fs::File::create_new(my.at(&name));
        assert!(made.is_ok() || my.at(&name).exists(), "{name}");
    }
}

/// The drive was in another computer after the crash, and somebody has removed the folder there.
#[test]
fn what_was_displaced_is_kept_where_its_folder_is_gone() {
    let acts: [fn(&Box); 5] = [
        |my| {
            my.put("d/c", "new c").expect("put");
        },
        |my| {
            my.store().delete_file(&path("d/c"), &by()).expect("gone");
        },
        |my| {
            my.store()
                .rename(&path("a"), &path("d/c"), &by())
                .expect("moved");
        },
        |my| {
            my.store()
                .rename(&path("d/c"), &path("a"), &by())
                .expect("moved");
        },
        |my| {
            let expect = Expect::Version(my.version("d/c"));
            run(my, &[restore("d/c", expect, "kept")]);
        },
    ];
    for faults in all_disks() {
        for act in acts {
            let displaced = Cell::new(None::<String>);
            let case = Case {
                faults: faults.clone(),
                before: &|my| {
                    my.store().make_folder(&path("d"), &by()).expect("made");
                    my.put("d/c", "old c").expect("put");
                    my.put("a", "old a").expect("put");
                    my.put("k", "kept").expect("put");
                    my.store().delete_file(&path("k"), &by()).expect("gone");
                },
                act: &act,
                meanwhile: &|my| {
                    let was = in_staging(my)
                        .into_iter()
                        .find(|old| old.starts_with("old"));
                    displaced.set(was);
                    if faults.fat {
                        cut_off(my);
                    }
                    fs::remove_dir_all(my.at("d")).expect("removed");
                },
            };
            case.stop_everywhere(&|my, step, _| {
                my.check_tree();
                my.check_history();
                if let Some(was) = displaced.take() {
                    let at_hand = my.kept().contains(&Digest::of(was.as_bytes()))
                        || my.on_disk("a") == Some(was.clone());
                    assert!(at_hand, "step {step}: {was:?} is lost");
                }
            });
        }
    }
}

/// Whoever looks for the right version goes by who saved it, and when.
#[test]
fn who_had_saved_what_a_crash_displaced_is_known() {
    for no_exchange in [false, true] {
        let case = Case {
            faults: Faults {
                no_exchange,
                ..Faults::default()
            },
            before: &|my| {
                my.put("a", "old").expect("put");
            },
            act: &|my| {
                my.put("a", "new").expect("put");
            },
            meanwhile: &|_| (),
        };
        case.stop_everywhere(&|my, step, _| {
            let history = my.store().history(&path("a")).expect("a history");
            let old = history.last().expect("it was there");
            let content = Digest::of(b"old");
            assert!(
                matches!(old.entry, Entry::File(file) if file.digest == content),
                "step {step}: {history:?}"
            );
            assert_eq!((old.by.as_str(), old.version.0), ("ann", 1), "step {step}");
        });
    }
}

/// Somebody saves just before it is replaced, and the crash comes before that is noticed.
#[test]
fn what_somebody_saved_before_a_crash_is_a_version_of_its_path() {
    let mut displaced = 0;
    for no_exchange in [false, true] {
        for step in 0.. {
            let mut my = Box::new();
            my.put("a", "old").expect("put");
            my.open_with(Faults {
                meddle: Some((step, my.at("a"), "saved".into())),
                stop_at: Some(step + 1),
                no_exchange,
                ..Faults::default()
            })
            .expect("opens");
            let stopped = catch_unwind(AssertUnwindSafe(|| my.put("a", "new"))).is_err();
            my.reopen();
            my.check_history();
            let saved = (Some("a".to_owned()), Some(Digest::of(b"saved")));
            let there = my.on_disk("a").as_deref() == Some("saved");
            if stopped && !there {
                assert!(my.versions().contains(&saved), "step {step}");
                displaced += 1;
            }
            if !stopped {
                break;
            }
        }
    }
    assert!(displaced > 0);
}

/// What was staged and never acknowledged is no version of anything.
#[test]
fn what_never_got_its_name_never_stood_there() {
    let replace: [fn(&Box); 2] = [
        |my| {
            let expect = Expect::Version(my.version("a"));
            run(my, &[put("a", expect, "new")]);
        },
        |my| {
            let expect = Expect::Version(my.version("l"));
            run(my, &[link("l", expect, "new")]);
        },
    ];
    for faults in all_disks() {
        for (act, at) in replace.into_iter().zip(["a", "l"]) {
            let case = Case {
                faults: faults.clone(),
                before: &|my| {
                    my.put("a", "old").expect("put");
                    my.one(200, link("l", Expect::Absent, "old"));
                },
                act: &act,
                meanwhile: &|_| (),
            };
            case.stop_everywhere(&|my, step, _| {
                my.check_tree();
                let new = my.on_disk("a").as_deref() == Some("new")
                    || fs::read_link(my.at("l")).ok() == Some(PathBuf::from("new"));
                let stood = my.store().history(&path(at)).expect("a history").len();
                assert_eq!(stood, 1 + usize::from(new), "{at}, step {step}");
                assert!(!my.kept().contains(&Digest::of(b"new")), "step {step}");
            });
        }
    }
}

/// One of both is kept, and the other is still where it was put aside.
#[test]
fn of_two_names_without_their_content_each_gets_the_old_one_back() {
    let journalled_new = |my: &Box| {
        let db = rusqlite::Connection::open(my.at(".raspbox/journal.db")).expect("opens");
        let sql = "SELECT count(*) FROM entry WHERE size = 3 AND path IN ('a', 'b')";
        let count = db.query_row(sql, [], |row| row.get::<_, u32>(0));
        count.expect("a count") > 0
    };
    let cut = Cell::new(0);
    let case = Case {
        faults: fat(),
        before: &|my| {
            my.put("a", "same").expect("put");
            my.put("b", "same").expect("put");
        },
        act: &|my| {
            let [a, b] = ["a", "b"].map(|at| {
                let expect = Expect::Version(my.version(at));
                put(at, expect, "new")
            });
            run(my, &[a, b]);
        },
        meanwhile: &|my| {
            // Once it is journalled, it was synced.
            if journalled_new(my) {
                return;
            }
            for at in ["a", "b"] {
                if my.on_disk(at).as_deref() == Some("new") {
                    let emptied = fs::File::create(my.at(at)).and_then(|mut file| file.flush());
                    emptied.expect("cut off");
                    cut.set(cut.get() + 1);
                }
            }
        },
    };
    case.stop_everywhere(&|my, step, stopped| {
        let both = ["a", "b"].map(|at| my.on_disk(at));
        let old = both.iter().all(|found| found.as_deref() == Some("same"));
        let new = both.iter().all(|found| found.as_deref() == Some("new"));
        assert!(
            old || (new && !stopped) || journalled_new(my),
            "step {step}: {both:?}"
        );
        my.check_tree();
    });
    assert!(cut.get() > 2);
}

/// A move over a file begins by exchanging both; whoever saves under the old name then has an edit there.
#[test]
fn what_is_saved_in_the_middle_of_a_move_stays_under_its_name() {
    let (saved, steps) = (Cell::new(false), Cell::new(0));
    let case = Case {
        faults: Faults::default(),
        before: &|my| {
            my.put("a", "old a").expect("put");
            my.put("b", "old b").expect("put");
        },
        act: &|my| {
            my.store()
                .rename(&path("a"), &path("b"), &by())
                .expect("moved");
        },
        meanwhile: &|my| {
            if my.on_disk("a").as_deref() == Some("old b") {
                fs::write(my.at("a"), "an edit").expect("written");
                saved.set(true);
            }
        },
    };
    case.stop_everywhere(&|my, step, _| {
        if saved.take() {
            assert_eq!(my.on_disk("a").as_deref(), Some("an edit"), "step {step}");
            assert_eq!(my.on_disk("b").as_deref(), Some("old a"), "step {step}");
            steps.set(steps.get() + 1);
        }
        my.check_tree();
    });
    assert!(steps.get() > 0, "there was such a step");
}

/// Each start looks through what is kept; what it knows already it doesn't note again, and what isn't ours there it
/// passes over.
#[test]
fn what_is_kept_is_noted_once_whatever_else_is_there() {
    let mut my = Box::new();
    my.put("a", "old").expect("put");
    my.put("a", "new").expect("put");
    let noted = my.versions();
    my.close();
    fs::write(my.at(".raspbox/versions/note"), "somebody's").expect("written");
    my.reopen();
    my.reopen();
    assert_eq!(my.versions(), noted);
    assert!(my.at(".raspbox/versions/note").exists());
}
