//! Contents that change though nobody writes to them: found, told, never handed out as good, and
//! repaired.

mod common;

use common::{Box, Faults, LONG_AGO, by, delete, file, know, mv, path, put, rot, scrub};
use raspbox_protocol::commit::{CommitFrame, Expect, Op, Outcome, Refusal};
use raspbox_protocol::damage::{Damage, Place};
use raspbox_protocol::holds::Held;
use raspbox_protocol::want::Want;
use raspbox_protocol::{Digest, RelPath, Version};
use raspbox_store::{Step, StoreError, Tally};
use std::io::Read;
use std::os::unix::fs::MetadataExt;

fn rot_version(my: &Box, good: &str, content: &str) {
    let name = Digest::of(good.as_bytes()).to_string();
    let kept = my.at(&format!(".raspbox/versions/{}/{name}", &name[..2]));
    assert!(kept.exists());
    std::fs::write(kept, content).expect("rots");
}

/// What is known to be damaged, in words: the path, or the hash's content of a kept one.
fn damages(my: &Box) -> Vec<(Option<String>, Digest, Option<Digest>)> {
    let told = my.store().damages().expect("a list");
    let words = told.into_iter().map(|damage| {
        let Damage {
            place,
            expected,
            found,
            ..
        } = damage;
        match place {
            Place::File { path, version } => {
                assert_eq!(version, my.version(path.as_str()));
                (Some(path.to_string()), expected, found)
            }
            Place::Kept => (None, expected, found),
        }
    });
    words.collect()
}

fn of(content: &str) -> Digest {
    Digest::of(content.as_bytes())
}

fn damaged(at: &str, expected: &str, found: &str) -> (Option<String>, Digest, Option<Digest>) {
    (Some(at.into()), of(expected), Some(of(found)))
}

fn commit(my: &Box, n: u8, at: &str, expect: Expect, content: &str) -> Outcome {
    my.one(n, put(at, expect, content))
}

/// A box with this file in it, whose hash may be believed.
fn with_file(at: &str, content: &str) -> Box {
    let my = Box::new();
    if let Some((folder, _)) = at.rsplit_once('/') {
        my.store().make_folder(&path(folder), &by()).expect("mkdir");
    }
    let done = commit(&my, 200, at, Expect::Absent, content);
    assert!(matches!(done, Outcome::Done(_)), "{done:?}");
    my
}

fn want(my: &Box, at: &str) -> Want {
    Want {
        path: path(at),
        version: my.version(at),
        offset: 0,
    }
}

/// Reads a version as a client does.
fn fetch(my: &Box, at: &str) -> Result<String, StoreError> {
    let mut content = my.store().read_version(&want(my, at))?;
    let mut text = String::new();
    content.read_to_string(&mut text).expect("read");
    content.finish().map(|()| text)
}

#[test]
fn a_file_that_rots_is_found_and_told() {
    let mut my = with_file("d/a", "good content");
    commit(&my, 1, "b", Expect::Absent, "another");
    assert_eq!(scrub(&my).damaged, 0);
    assert_eq!(damages(&my), []);
    let (version, cursor) = (my.version("d/a"), my.store().cursor());
    rot(&my, "d/a", "evil content");
    assert_eq!(
        scrub(&my),
        Tally {
            files: 2,
            bytes: 19,
            damaged: 1
        }
    );
    let expected = [damaged("d/a", "good content", "evil content")];
    assert_eq!(damages(&my), expected);
    assert_eq!(my.store().count_damages().expect("counts"), (1, 0));
    // It is no change: nobody is to take it for an edit.
    assert_eq!((my.version("d/a"), my.store().cursor()), (version, cursor));
    my.reopen();
    let now = (my.version("d/a"), my.store().cursor().seq);
    assert_eq!(now, (version, cursor.seq));
    assert_eq!(damages(&my), expected, "it is remembered");
    assert_eq!(scrub(&my).damaged, 1);
    assert_eq!(damages(&my), expected, "and known once");
}

#[test]
fn a_scan_does_not_take_what_rotted_for_an_edit() {
    let mut my = with_file("a", "good content");
    let cursor = my.store().cursor();
    my.close();
    rot(&my, "a", "evil content");
    my.reopen();
    assert_eq!(my.store().cursor().seq, cursor.seq);
    assert_eq!(my.changes(cursor), [""; 0]);
    let entry = &my.tree()[&path("a")].0;
    assert!(entry.same_content(&raspbox_protocol::Entry::File(file("good content"))));
}

#[test]
fn an_edit_by_other_means_is_no_damage() {
    let my = with_file("a", "good content");
    std::fs::write(my.at("a"), "new  content").expect("write");
    assert_eq!(scrub(&my).damaged, 0);
    assert_eq!(damages(&my), []);
    // Nor is one between two looks at a file that somebody wrote, and whose row is so young that nothing
    // tells them apart.
    let mut my = Box::new();
    std::fs::write(my.at("a"), "one").expect("write");
    my.reopen();
    std::fs::write(my.at("a"), "two").expect("write");
    let now = std::fs::metadata(my.at("a")).expect("there");
    let db = rusqlite::Connection::open(my.at(".raspbox/journal.db")).expect("opens");
    let mtime = now.mtime() * 1_000_000_000 + now.mtime_nsec();
    db.execute("UPDATE entry SET disk_mtime_ns = ?", [mtime])
        .expect("updated");
    know(&my, "a");
    let cursor = my.store().cursor();
    assert_eq!(scrub(&my).damaged, 0);
    assert_eq!(damages(&my), []);
    assert_eq!(my.changes(cursor), ["+a"]);
    my.check_tree();
}

/// A stick that never stored what it was given shows that at the first reading, which may be when the row
/// is still young.
#[test]
fn what_the_drive_garbled_is_damaged_however_young_its_row_is() {
    for fat in [false, true] {
        for by_what in ["a scrub", "a want", "a scan", "a change"] {
            let faults = Faults {
                fat,
                ..Faults::default()
            };
            let mut my = Box::with(faults.clone());
            my.put("a", "good content").expect("put");
            let cursor = my.store().cursor();
            rot(&my, "a", "evil content");
            match by_what {
                "a scrub" => drop(scrub(&my)),
                "a want" => assert!(matches!(fetch(&my, "a"), Err(StoreError::Damaged(_)))),
                "a scan" => my.open_with(faults).expect("opens"),
                _ => {
                    // It is damaged, so that nothing but its own version may replace it; and where
                    // only time and size are left to go by, this reads it.
                    let blind = commit(&my, 1, "a", Expect::Version(Version(0)), "an edit");
                    assert_eq!(blind, Outcome::Refused(Refusal::Changed));
                    if !fat {
                        continue;
                    }
                }
            }
            let expected = [damaged("a", "good content", "evil content")];
            assert_eq!(damages(&my), expected, "{by_what}, {fat}");
            assert_eq!(my.store().cursor().seq, cursor.seq, "nobody's change");
            let done = commit(
                &my,
                2,
                "a",
                Expect::Version(my.version("a")),
                "good content",
            );
            assert!(matches!(done, Outcome::Done(_)), "{done:?}");
            assert_eq!(fetch(&my, "a").expect("good"), "good content");
            assert!(my.keeps("a", "evil content"), "{by_what}, {fat}");
        }
    }
}

#[test]
fn young_rows_are_believed_once_their_content_was_read_again() {
    let mut my = Box::new();
    my.put("a", "one").expect("put");
    let racy = || {
        let db = rusqlite::Connection::open(my.at(".raspbox/journal.db")).expect("opens");
        let sql = "SELECT abs(recorded_ns - disk_mtime_ns) < 2000000000 FROM entry";
        db.query_row(sql, [], |row| row.get::<_, bool>(0))
            .expect("a row")
    };
    assert!(racy());
    // As if it had been written, and noted, ten seconds ago.
    let db = rusqlite::Connection::open(my.at(".raspbox/journal.db")).expect("opens");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(10);
    let written = std::fs::File::open(my.at("a")).expect("open");
    written.set_modified(old).expect("its time");
    let old = raspbox_protocol::Mtime::from(old).0;
    db.execute(
        "UPDATE entry SET mtime_ns = ?1, disk_mtime_ns = ?1, recorded_ns = ?1",
        [old],
    )
    .expect("updated");
    know(&my, "a");
    assert!(racy());
    scrub(&my);
    assert!(!racy());
    drop(db);
    my.reopen();
    my.check_tree();
}

#[test]
fn what_is_damaged_is_not_handed_out_as_good() {
    let my = with_file("a", "good content");
    rot(&my, "a", "evil content");
    // Nobody knew; but it is read, and so it is known.
    assert!(matches!(fetch(&my, "a"), Err(StoreError::Damaged(_))));
    assert_eq!(damages(&my), [damaged("a", "good content", "evil content")]);
    let refused = my.store().read_version(&want(&my, "a"));
    assert!(matches!(refused, Err(StoreError::Damaged(_))));
    // To an ordinary client it is all there is; its hash is that of what it gets.
    let mut text = String::new();
    let mut open = my.store().read(&path("a")).expect("open");
    open.read_to_string(&mut text).expect("read");
    assert_eq!(text, "evil content");
    assert_eq!(
        my.store().digest(&path("a")).expect("a hash"),
        of("evil content")
    );
}

/// What is staged on top of a damaged content would be a good one to everybody.
#[test]
fn nothing_is_appended_to_what_is_damaged() {
    for known in [false, true] {
        for keep_bytes in [0, 1, 4, 12] {
            let my = with_file("a", "good content");
            rot(&my, "a", "good c?ntent");
            if known {
                scrub(&my);
            }
            let refused = my.store().stage_from(&path("a"), keep_bytes);
            assert!(
                matches!(refused, Err(StoreError::Damaged(_))),
                "{refused:?}"
            );
            assert_eq!(my.store().count_damages().expect("counts"), (1, 0));
            assert_eq!(my.staged(), 0);
        }
    }
    let my = with_file("a", "good content");
    let staged = my.store().stage_from(&path("a"), 4).expect("good");
    assert_eq!(staged.digest(), of("good"));
    std::fs::write(my.at("a"), "changed by other means").expect("write");
    let staged = my.store().stage_from(&path("a"), 7).expect("an edit");
    assert_eq!(staged.digest(), of("changed"));
}

#[test]
fn a_file_that_changes_while_it_is_fetched_is_changed_and_not_damaged() {
    let my = with_file("a", "good content");
    let mut content = my.store().read_version(&want(&my, "a")).expect("open");
    std::fs::write(my.at("a"), "new  content").expect("write");
    let mut text = String::new();
    content.read_to_string(&mut text).expect("read");
    assert!(matches!(content.finish(), Err(StoreError::Changed(_))));
    assert_eq!(damages(&my), []);
}

#[test]
fn the_good_content_repairs_it_whatever_is_expected() {
    for expect in ["its version", "an older one", "nothing"] {
        let my = with_file("a", "good content");
        rot(&my, "a", "evil content");
        scrub(&my);
        let version = my.version("a");
        let expected = match expect {
            "its version" => Expect::Version(version),
            "an older one" => Expect::Version(Version(0)),
            _ => Expect::Absent,
        };
        let outcome = commit(&my, 1, "a", expected, "good content");
        assert_eq!(outcome, Outcome::Done(Version(version.0 + 1)), "{expect}");
        assert_eq!(my.on_disk("a").as_deref(), Some("good content"), "{expect}");
        assert_eq!(fetch(&my, "a").expect("good"), "good content", "{expect}");
        // What it had become is kept as what it is, and not under the hash of the good one.
        assert!(!my.keeps("a", "good content"), "{expect}");
        assert!(my.keeps("a", "evil content"), "{expect}");
        let kept = (None, of("evil content"), Some(of("evil content")));
        assert_eq!(damages(&my), [kept], "{expect}");
        my.check_tree();
    }
}

#[test]
fn without_damage_the_same_content_again_is_no_change() {
    let my = with_file("a", "good content");
    let version = my.version("a");
    let outcome = commit(&my, 1, "a", Expect::Version(version), "good content");
    assert_eq!(outcome, Outcome::Done(version));
    assert_eq!(my.versions(), []);
}

#[test]
fn another_content_over_it_is_an_edit_and_needs_the_right_version() {
    let my = with_file("a", "good content");
    rot(&my, "a", "evil content");
    scrub(&my);
    let blind = commit(&my, 1, "a", Expect::Version(Version(0)), "an edit");
    assert_eq!(blind, Outcome::Refused(Refusal::Changed));
    let edit = commit(&my, 2, "a", Expect::Version(my.version("a")), "an edit");
    assert!(matches!(edit, Outcome::Done(_)), "{edit:?}");
    assert!(my.keeps("a", "evil content"));
    assert!(!my.keeps("a", "good content"));
    assert_eq!(my.store().count_damages().expect("counts"), (0, 1));
}

#[test]
fn the_mark_goes_with_the_file_and_ends_with_it() {
    let my = with_file("d/a", "good content");
    rot(&my, "d/a", "evil content");
    scrub(&my);
    my.one(1, mv("d", my.version("d"), "e"));
    assert_eq!(
        damages(&my),
        [damaged("e/a", "good content", "evil content")]
    );
    my.one(2, mv("e/a", my.version("e/a"), "b"));
    assert_eq!(damages(&my), [damaged("b", "good content", "evil content")]);
    my.store()
        .set_mtime(&path("b"), LONG_AGO, &by())
        .expect("its time");
    my.store()
        .set_executable(&path("b"), true, &by())
        .expect("its bit");
    assert_eq!(damages(&my), [damaged("b", "good content", "evil content")]);
    my.one(3, delete("b", my.version("b")));
    assert_eq!(my.store().count_damages().expect("counts"), (0, 1));
    assert!(my.keeps("b", "evil content"));
}

#[test]
fn what_somebody_repaired_on_the_drive_is_found_good() {
    let mut my = with_file("a", "good content");
    rot(&my, "a", "evil content");
    scrub(&my);
    my.close();
    std::fs::write(my.at("a"), "good content").expect("write");
    my.reopen();
    assert_eq!(damages(&my), []);
    assert_eq!(fetch(&my, "a").expect("good"), "good content");
}

/// A stick that sat loose for a moment: all of it is well, and nobody had to bring it again.
#[test]
fn what_is_read_again_and_good_is_not_damaged_any_more() {
    let mut my = with_file("a", "good content");
    commit(
        &my,
        1,
        "a",
        Expect::Version(my.version("a")),
        "good as well",
    );
    rot(&my, "a", "evil as well");
    rot_version(&my, "good content", "evil content");
    assert_eq!(scrub(&my).damaged, 2);
    assert!(matches!(fetch(&my, "a"), Err(StoreError::Damaged(_))));
    let (version, cursor) = (my.version("a"), my.store().cursor());
    rot(&my, "a", "good as well");
    rot_version(&my, "good content", "good content");
    assert_eq!(scrub(&my).damaged, 0);
    assert_eq!(damages(&my), []);
    assert_eq!(fetch(&my, "a").expect("good"), "good as well");
    // To nobody it was a change.
    assert_eq!((my.version("a"), my.store().cursor()), (version, cursor));
    my.reopen();
    assert_eq!(damages(&my), [], "it is remembered");
}

#[test]
fn a_version_that_rots_is_found_and_gives_way_to_a_good_one() {
    let my = with_file("a", "first content");
    for (n, content) in [(1, "second"), (2, "third")] {
        commit(&my, n, "a", Expect::Version(my.version("a")), content);
    }
    assert_eq!(scrub(&my).files, 3, "one file and two versions");
    rot_version(&my, "first content", "f!rst content");
    assert_eq!(scrub(&my).damaged, 1);
    let kept = (None, of("first content"), Some(of("f!rst content")));
    assert_eq!(damages(&my), [kept]);
    // The same content once more, and displaced once more.
    for (n, content) in [(3, "first content"), (4, "fourth")] {
        commit(&my, n, "a", Expect::Version(my.version("a")), content);
    }
    assert!(my.keeps("a", "first content"));
    assert_eq!(damages(&my), []);
    assert_eq!(scrub(&my).damaged, 0);
}

#[test]
fn a_good_content_is_not_dropped_for_a_rotten_version_that_nobody_has_noticed() {
    let my = with_file("a", "first content");
    for (n, content) in [(1, "second"), (2, "first content")] {
        commit(&my, n, "a", Expect::Version(my.version("a")), content);
    }
    rot_version(&my, "first content", "f!rst content");
    commit(&my, 3, "a", Expect::Version(my.version("a")), "third");
    assert!(my.keeps("a", "first content"));
}

fn holds(my: &Box, content: &str) -> bool {
    let Held(held) = my.store().holds(&[of(content)]).expect("an answer");
    held == [true]
}

/// A computer gives up its copy on the strength of this.
#[test]
fn what_rotted_before_it_was_replaced_is_not_said_to_be_kept() {
    for by_what in ["replaced", "deleted", "replaced by whoever expects nothing"] {
        let my = with_file("a", "good content");
        rot(&my, "a", "evil content");
        match by_what {
            "replaced" => {
                commit(&my, 1, "a", Expect::Version(my.version("a")), "an edit");
            }
            "deleted" => drop(my.one(1, delete("a", my.version("a")))),
            _ => drop(my.put("a", "an edit").expect("put")),
        }
        assert!(!holds(&my, "good content"), "{by_what}");
        let kept = (None, of("good content"), Some(of("evil content")));
        assert_eq!(damages(&my), [kept], "{by_what}");
        // So it is brought by who has it.
        let keep = CommitFrame::Op(Op::Keep {
            path: path("a"),
            file: file("good content"),
        });
        let content = CommitFrame::Data(b"good content".to_vec());
        let done = my.one(2, vec![keep, content]);
        assert!(matches!(done, Outcome::Done(_)), "{done:?}");
        assert!(holds(&my, "good content"), "{by_what}");
        assert!(my.keeps("a", "good content"), "{by_what}");
        assert_eq!(damages(&my), [], "{by_what}");
    }
}

#[test]
fn what_is_kept_is_read_again_once_another_took_its_place() {
    let my = with_file("a", "good content");
    let edit = |n, content| commit(&my, n, "a", Expect::Version(my.version("a")), content);
    edit(1, "an edit");
    assert!(holds(&my, "good content"));
    // The kept one rots, is found to have, and what takes its place has rotted as well.
    rot_version(&my, "good content", "g##d content");
    edit(2, "good content");
    rot(&my, "a", "evil content");
    edit(3, "another edit");
    assert!(!holds(&my, "good content"));
}

#[test]
fn a_rotten_version_does_not_count_as_good_for_what_took_its_place_unread() {
    let my = with_file("a", "good content");
    let edit = |n, content| commit(&my, n, "a", Expect::Version(my.version("a")), content);
    edit(1, "an edit");
    rot_version(&my, "good content", "g##d content");
    scrub(&my);
    edit(2, "good content");
    rot(&my, "a", "evil content");
    edit(3, "another edit");
    let kept = |expected, found| (None, of(expected), Some(of(found)));
    let mut expected = [
        kept("good content", "g##d content"),
        kept("evil content", "evil content"),
    ];
    expected.sort_by_key(|(_, expected, _)| *expected);
    assert_eq!(damages(&my), expected);
    assert!(my.keeps("a", "evil content"));
    // It has the name of what it is, and is found so.
    scrub(&my);
    assert_eq!(damages(&my), expected);
}

#[test]
fn the_content_that_stands_there_mends_what_became_of_it_though_nobody_knew() {
    let put_it = |my: &Box, n, expect| commit(my, n, "a", expect, "good content");
    for expect in ["its version", "nothing"] {
        let my = with_file("a", "good content");
        rot(&my, "a", "evil content");
        let version = my.version("a");
        let outcome = match expect {
            "its version" => put_it(&my, 1, Expect::Version(version)),
            _ => put_it(&my, 1, Expect::Absent),
        };
        assert_eq!(outcome, Outcome::Done(Version(version.0 + 1)), "{expect}");
        assert_eq!(fetch(&my, "a").expect("good"), "good content", "{expect}");
        assert!(my.keeps("a", "evil content"), "{expect}");
        my.check_tree();
    }
}

#[test]
fn a_restore_of_what_stands_there_mends_it_though_nobody_knew_that_it_rotted() {
    for no_copies in [false, true] {
        let mut my = with_file("a", "good content");
        for (n, content) in [(1, "an edit"), (2, "good content")] {
            commit(&my, n, "a", Expect::Version(my.version("a")), content);
        }
        rot(&my, "a", "evil content");
        my.open_with(Faults {
            no_copies,
            ..Faults::default()
        })
        .expect("opens");
        let restore = CommitFrame::Op(Op::Restore {
            path: path("a"),
            expect: Expect::Version(my.version("a")),
            file: file("good content"),
        });
        let done = my.one(3, vec![restore]);
        assert!(matches!(done, Outcome::Done(_)), "{done:?}");
        assert_eq!(my.on_disk("a").as_deref(), Some("good content"));
        assert_eq!(fetch(&my, "a").expect("good"), "good content");
        assert!(my.keeps("a", "evil content"), "{no_copies}");
        my.check_tree();
    }
}

#[test]
fn a_pass_goes_on_where_it_was_stopped() {
    let mut my = Box::new();
    let contents: Vec<String> = (0..10).map(|n| format!("content {n}")).collect();
    for (n, content) in (0..).zip(&contents) {
        commit(&my, n, &format!("f{n}"), Expect::Absent, content);
    }
    commit(&my, 20, "f0", Expect::Version(my.version("f0")), "edited");
    let mut read = 0;
    let mut runs = 0;
    loop {
        runs += 1;
        assert!(runs < 100);
        assert_eq!(my.store().scrubbed_at().expect("known"), None);
        let mut left = 5;
        let mut pass = my.store().scrub().expect("a pass");
        let over = loop {
            let step = pass.next(&mut |_| {
                left -= 1;
                left > 0
            });
            match step.expect("a step") {
                Step::More => read += 1,
                Step::Stopped => break false,
                Step::Over(_) => break true,
            }
        };
        drop(pass);
        my.reopen();
        if over {
            break;
        }
    }
    // 11 contents, and the step from the files to the versions.
    assert_eq!(read, 12, "each was read once");
    assert!(runs > 3, "{runs} runs");
    assert!(my.store().scrubbed_at().expect("known").is_some());
}

#[test]
fn on_fat_size_and_time_must_do() {
    let fat = Faults {
        fat: true,
        ..Faults::default()
    };
    let my = Box::with(fat);
    commit(&my, 1, "a", Expect::Absent, "good content");
    rot(&my, "a", "evil content");
    assert_eq!(scrub(&my).damaged, 1);
    let outcome = commit(
        &my,
        2,
        "a",
        Expect::Version(my.version("a")),
        "good content",
    );
    assert!(matches!(outcome, Outcome::Done(_)));
    assert!(my.keeps("a", "evil content"));
    assert_eq!(my.store().count_damages().expect("counts"), (0, 1));
}

#[test]
fn a_crash_in_a_repair_loses_neither_content() {
    for fat in [false, true] {
        crash_in_a_repair(&Faults {
            fat,
            ..Faults::default()
        });
    }
}

fn crash_in_a_repair(faults: &Faults) {
    for step in 0.. {
        let mut my = with_file("a", "good content");
        rot(&my, "a", "evil content");
        scrub(&my);
        my.open_with(Faults {
            stop_at: None,
            ..faults.clone()
        })
        .expect("opens");
        let begun = my.store().steps();
        my.open_with(Faults {
            stop_at: Some(begun + step),
            ..faults.clone()
        })
        .expect("opens");
        let version = my.version("a");
        let bytes = common::stream(&[put("a", Expect::Version(version), "good content")]);
        let whole = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            my.try_commit(1, &bytes).is_ok()
        }))
        .is_ok_and(|done| done);
        my.store().forgive();
        my.open_with(faults.clone()).expect("opens again");
        let stands = my.on_disk("a").expect("it is there");
        let known: Vec<RelPath> = my.tree().into_keys().collect();
        assert_eq!(known, [path("a")], "step {step}");
        match stands.as_str() {
            "good content" => {
                my.check_tree();
                assert_eq!(fetch(&my, "a").expect("good"), "good content", "{step}");
                assert_eq!(my.store().count_damages().expect("counts").0, 0, "{step}");
            }
            _ => assert!(matches!(fetch(&my, "a"), Err(StoreError::Damaged(_)))),
        }
        // Where a crash came between keeping it and noting it, nobody knows its path.
        let kept = my.versions();
        assert!(
            stands == "evil content" || kept.iter().any(|(_, d)| *d == Some(of("evil content"))),
            "step {step}: {kept:?}"
        );
        if whole {
            assert_eq!(stands, "good content");
            assert!(step > 4, "only {step} steps");
            return;
        }
    }
}

/// After a filesystem was repaired, what was written last is looked at, whatever it looks like.
#[test]
fn after_a_repair_what_was_written_last_is_read_again() {
    for young in [false, true] {
        check_after_a_repair(young);
    }
}

fn check_after_a_repair(young: bool) {
    let hour = std::time::Duration::from_secs(3600);
    let clock = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(5_000_000_000_000_000_000));
    let mut my = Box::with(Faults {
        clock: Some(std::sync::Arc::clone(&clock)),
        ..Faults::default()
    });
    my.commit(1, &[put("old", Expect::Absent, "old")]);
    clock.fetch_add(
        i64::try_from((2 * hour).as_nanos()).expect("small"),
        std::sync::atomic::Ordering::Relaxed,
    );
    let new = ["new", "good"].map(|name| put(name, Expect::Absent, name));
    my.commit(2, &new);
    if young {
        for name in ["new", "good"] {
            my.put(name, name).expect("put");
        }
    }
    rot(&my, "old", "odd");
    rot(&my, "new", "nil");
    my.reopen();
    let tally = my.store().recheck(hour).expect("read");
    assert_eq!((tally.files, tally.damaged), (2, 1));
    assert_eq!(damages(&my), [damaged("new", "new", "nil")]);
    assert_eq!(scrub(&my).damaged, 2, "the rest is for the scrub");
}

/// What is young by other means is an edit; what came by other means long ago has rotted like anything else.
#[test]
fn what_came_by_other_means_rots_too() {
    let mut my = Box::new();
    my.close();
    std::fs::write(my.at("a"), "good").expect("written");
    let file = std::fs::File::options().write(true).open(my.at("a"));
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_500_000_000);
    file.and_then(|file| file.set_modified(long_ago))
        .expect("its time");
    my.reopen();
    common::rot(&my, "a", "evil");
    common::scrub(&my);
    assert_eq!(damages(&my), [damaged("a", "good", "evil")]);
}

/// Where there is no room for a copy the version itself takes its place, and it is read before.
#[test]
fn a_version_that_rotted_takes_no_place_where_there_is_no_room_for_a_copy() {
    let mut my = Box::with(Faults {
        no_copies: true,
        ..Faults::default()
    });
    my.put("a", "good").expect("put");
    my.store().delete_file(&path("a"), &by()).expect("gone");
    rot_version(&my, "good", "evil");
    let restore = common::op(raspbox_protocol::commit::Op::Restore {
        path: path("a"),
        expect: Expect::Absent,
        file: common::file("good"),
    });
    let outcome = my.one(1, restore);
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    assert_eq!(my.on_disk("a"), None);
    my.close();
}
