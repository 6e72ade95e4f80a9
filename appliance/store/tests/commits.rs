//! Commits: expectations, refusals, sending again, and streams that are none.

mod common;

use common::{Box, Faults, LONG_AGO, by, delete, file, id, link, mkdir, mv, op, path, put, stream};
use raspbox_protocol::commit::{CommitFrame, Expect, OPS_MAX, Op, Outcome, Refusal};
use raspbox_protocol::special::CommitSummary;
use raspbox_protocol::want::Want;
use raspbox_protocol::wire::to_bytes;
use raspbox_protocol::{Digest, Entry, Version};
use raspbox_store::{Options, Store, StoreError};
use std::io::{self, Read};

const ABSENT: Expect = Expect::Absent;

fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal)
}

fn at(version: Version) -> Expect {
    Expect::Version(version)
}

#[test]
fn a_commit_applies_everything_in_order() {
    let my = Box::new();
    let ops = [
        mkdir("d"),
        put("d/a", ABSENT, "one"),
        put("d/empty", ABSENT, ""),
        link("d/l", ABSENT, "/etc/passwd"),
    ];
    let summary = my.try_commit(1, &stream(&ops)).expect("a commit");
    let first = Version(1);
    assert_eq!(summary, CommitSummary::All { ops: 4, first });
    my.check_tree();
    let entry = my.tree()[&path("d/a")].0.clone();
    assert_eq!(entry, Entry::File(file("one")));
    assert_eq!(my.staged(), 0);
}

/// Whose changes stand between two positions decides what a client isn't told.
#[test]
fn a_receipt_tells_where_the_journal_has_what_a_commit_did_alone() {
    let mut my = Box::new();
    let alone = |my: &Box, n| {
        let receipt = my.store().receipt(id(n)).expect("an answer");
        receipt.expect("it is known").alone
    };
    let from = |my: &Box| my.store().cursor();

    let before = from(&my);
    my.commit(1, &[mkdir("d"), put("d/a", ABSENT, "one")]);
    let stretch = alone(&my, 1).expect("alone");
    assert_eq!((stretch.after, stretch.end()), (before, from(&my)));

    // What changed nothing is at no place of its own, and what was refused neither.
    let before = from(&my);
    my.commit(2, &[mkdir("d"), delete("never", Version(7))]);
    my.commit(3, &[mkdir("d/e"), put("no/folder", ABSENT, "x")]);
    let [nothing, some] = [2, 3].map(|n| alone(&my, n).expect("alone"));
    assert_eq!((nothing.after, nothing.end()), (before, before));
    assert_eq!((some.after, some.end()), (before, from(&my)));

    // What others wrote on the drive is found by the commit, and comes before it.
    let before = from(&my);
    std::fs::write(my.at("d/theirs"), "theirs").expect("written");
    std::fs::write(my.at("d/a"), "another").expect("written");
    let a = my.version("d/a");
    assert_eq!(
        my.one(4, put("d/a", at(a), "two")),
        refused(Refusal::Changed)
    );
    let stretch = alone(&my, 4).expect("alone");
    assert!(stretch.after.seq > before.seq, "{stretch:?}");
    assert_eq!(stretch.end(), from(&my));

    // Who comes later doesn't matter, and a restart forgets.
    my.commit(5, &[put("b", ABSENT, "b")]);
    let stretch = alone(&my, 5);
    my.put("c", "c").expect("put");
    assert_eq!(alone(&my, 5), stretch);
    my.reopen();
    assert_eq!(alone(&my, 5), None);
    assert_eq!(my.store().receipt(id(6)).expect("unknown"), None);
}

#[test]
fn a_commit_is_applied_once() {
    let my = Box::new();
    let bytes = stream(&[put("a", ABSENT, "one")]);
    let first = my.try_commit(1, &bytes).expect("a commit");
    my.put("a", "two").expect("put");
    assert_eq!(my.try_commit(1, &bytes).expect("again"), first);
    assert_eq!(my.on_disk("a").as_deref(), Some("two"));
    assert_eq!(my.store().summary(id(1)).expect("known"), Some(first));
    assert_eq!(my.store().summary(id(2)).expect("unknown"), None);
}

#[test]
fn a_known_commit_is_read_to_its_end() {
    let my = Box::new();
    let bytes = stream(&[put("a", ABSENT, "one")]);
    my.try_commit(1, &bytes).expect("a commit");
    let mut input = bytes.as_slice();
    my.store()
        .commit(id(1), &by(), &|_| true, &mut input)
        .expect("again");
    assert!(input.is_empty());
}

/// What a change displaces is noted before any of its commit is done, or a crash could lose it.
#[test]
fn nothing_replaces_what_came_in_the_same_commit() {
    let mut my = Box::new();
    my.put("b", "three").expect("put");
    my.one(50, delete("b", my.version("b")));
    my.open_with(Faults {
        no_copies: true,
        ..Faults::default()
    })
    .expect("opens");
    for n in 0..3 {
        let a = format!("a{n}");
        let first = Version(my.store().cursor().seq + 1);
        let change = match n {
            0 => put(&a, at(first), "two"),
            1 => delete(&a, first),
            _ => op(Op::Restore {
                path: path(&a),
                expect: at(first),
                file: file("three"),
            }),
        };
        let done = my.commit(n, &[put(&a, ABSENT, "one"), change]);
        let expected = [Outcome::Done(first), refused(Refusal::Changed)];
        assert_eq!(done, expected, "{n}");
        assert_eq!(my.on_disk(&a).as_deref(), Some("one"));
    }
    my.check_tree();
}

#[test]
fn folders_that_others_made_are_known_with_what_is_put_into_them() {
    let my = Box::new();
    std::fs::create_dir_all(my.at("x/y/z")).expect("made");
    let done = my.one(1, put("x/y/z/a", ABSENT, "one"));
    assert!(matches!(done, Outcome::Done(_)), "{done:?}");
    my.check_tree();
}

#[test]
fn outcomes_survive_a_restart() {
    let mut my = Box::new();
    my.commit(1, &[put("a", ABSENT, "one"), put("x/y", ABSENT, "z")]);
    my.reopen();
    let outcomes = my.store().outcome(id(1)).expect("an answer");
    let expected = vec![Outcome::Done(Version(1)), refused(Refusal::NoParent)];
    assert_eq!(outcomes, Some(expected));
}

#[test]
fn what_was_done_is_found_done() {
    let my = Box::new();
    let a = my.put("a", "one").expect("put");
    assert_eq!(my.one(1, put("a", ABSENT, "one")), Outcome::Done(a));
    assert_eq!(
        my.one(2, put("a", at(Version(99)), "one")),
        Outcome::Done(a)
    );
    my.one(3, mkdir("d"));
    let d = my.version("d");
    assert_eq!(my.one(4, mkdir("d")), Outcome::Done(d));
    assert!(matches!(
        my.one(5, delete("never", Version(7))),
        Outcome::Done(_)
    ));
    let Outcome::Done(moved) = my.one(6, mv("a", a, "d/a")) else {
        panic!("moved");
    };
    assert_eq!(my.one(7, mv("a", a, "d/a")), Outcome::Done(moved));
    let Outcome::Done(gone) = my.one(8, delete("d/a", moved)) else {
        panic!("gone");
    };
    assert_eq!(my.one(9, delete("d/a", moved)), Outcome::Done(gone));
    assert_eq!(my.one(10, mv("a", a, "d/a")), refused(Refusal::Changed));
    my.one(11, link("l", ABSENT, "x"));
    let l = my.version("l");
    assert_eq!(my.one(12, link("l", ABSENT, "x")), Outcome::Done(l));
    assert_eq!(my.staged(), 0);
}

#[test]
fn what_is_not_as_expected_is_refused() {
    let my = Box::new();
    let a = my.put("a", "one").expect("put");
    let b = my.put("b", "other").expect("put");
    my.one(1, mkdir("d"));
    let d = my.version("d");
    my.put("d/x", "in it").expect("put");
    let before = (my.tree(), my.versions());
    let changed = || refused(Refusal::Changed);
    let old = Version(99);
    let cases = vec![
        (put("a", ABSENT, "two"), changed()),
        (put("a", at(old), "two"), changed()),
        (put("gone", at(a), "two"), changed()),
        (put("d", at(d), "two"), changed()),
        (link("a", ABSENT, "t"), changed()),
        (link("d", at(d), "t"), changed()),
        (mkdir("a"), changed()),
        (delete("a", old), changed()),
        (mv("a", old, "n"), changed()),
        (mv("a", a, "b"), changed()),
        (mv("gone", a, "n"), changed()),
        (mv("gone", a, "b"), changed()),
        (set_meta("a", old), changed()),
        (set_meta("d", d), changed()),
        (set_meta("gone", a), changed()),
        (put("n/x", ABSENT, "two"), refused(Refusal::NoParent)),
        (put("a/x", ABSENT, "two"), refused(Refusal::NoParent)),
        (mkdir("n/x"), refused(Refusal::NoParent)),
        (link("n/x", ABSENT, "t"), refused(Refusal::NoParent)),
        (mv("a", a, "n/x"), refused(Refusal::NoParent)),
        (delete("d", d), refused(Refusal::NotEmpty)),
        (lie("n", "short"), refused(Refusal::BadContent)),
        (lie("n", "as longer as said"), refused(Refusal::BadContent)),
    ];
    for (n, (op, expected)) in cases.into_iter().enumerate() {
        let n = u8::try_from(n + 10).expect("few");
        let outcome = my.one(n, op.clone());
        assert_eq!(outcome, expected, "{op:?}");
    }
    assert!(matches!(
        my.one(2, mv("d", d, "d/y")),
        Outcome::Refused(Refusal::Name(_))
    ));
    assert_eq!((my.tree(), my.versions()), before);
    assert_eq!((my.staged(), my.version("b")), (0, b));
    my.check_tree();
}

#[test]
fn one_refusal_leaves_the_others_alone() {
    let my = Box::new();
    my.put("a", "one").expect("put");
    let ops = [
        put("x", ABSENT, "1"),
        put("a", ABSENT, "two"),
        lie("n", "damaged"),
        put("y", ABSENT, "2"),
    ];
    let expected = vec![
        Outcome::Done(Version(2)),
        refused(Refusal::Changed),
        refused(Refusal::BadContent),
        Outcome::Done(Version(3)),
    ];
    assert_eq!(my.commit(1, &ops), expected);
    assert_eq!(
        my.store().summary(id(1)).expect("known"),
        Some(CommitSummary::Mixed { ops: 4 })
    );
    assert_eq!(my.staged(), 0);
}

#[test]
fn who_may_not_is_refused() {
    let my = Box::new();
    let ops = [put("a", ABSENT, "one"), mkdir("d")];
    let bytes = stream(&ops);
    let may = |op: &Op| matches!(op, Op::MakeFolder { .. });
    my.store()
        .commit(id(1), &by(), &may, &mut bytes.as_slice())
        .expect("a commit");
    let outcomes = my.store().outcome(id(1)).expect("an answer");
    let expected = vec![refused(Refusal::Denied), Outcome::Done(Version(1))];
    assert_eq!(outcomes, Some(expected));
}

#[test]
fn a_full_drive_refuses_puts_and_nothing_else() {
    let dir = tempfile::tempdir().expect("temp dir");
    let options = Options {
        floor_bytes: u64::MAX / 2,
    };
    let store = Store::open(dir.path(), options).expect("opens");
    let bytes = stream(&[put("a", ABSENT, "one"), mkdir("d")]);
    store
        .commit(id(1), &by(), &|_| true, &mut bytes.as_slice())
        .expect("a commit");
    let expected = vec![refused(Refusal::NoSpace), Outcome::Done(Version(1))];
    assert_eq!(store.outcome(id(1)).expect("an answer"), Some(expected));
}

#[test]
fn metadata_changes_alone() {
    let my = Box::new();
    let a = my.put("a", "one").expect("put");
    let Outcome::Done(version) = my.one(1, set_meta("a", a)) else {
        panic!("done");
    };
    assert!(version > a);
    let (entry, _) = my.tree()[&path("a")].clone();
    let Entry::File(found) = entry else {
        panic!("a file");
    };
    assert_eq!((found.mtime, found.executable), (LONG_AGO, true));
    assert_eq!(my.one(2, set_meta("a", version)), Outcome::Done(version));
    my.check_tree();
}

#[test]
fn a_stream_cut_anywhere_applies_nothing() {
    let my = Box::new();
    let a = my.put("a", "one").expect("put");
    let before = my.tree();
    let ops = [
        mkdir("d"),
        put("d/x", ABSENT, "content"),
        put("a", at(a), "two"),
        link("l", ABSENT, "t"),
        delete("a", Version(3)),
    ];
    let bytes = stream(&ops);
    for len in 0..bytes.len() {
        let result = my.try_commit(1, &bytes[..len]);
        assert!(matches!(result, Err(StoreError::Request(_))), "{len}");
    }
    assert_eq!((my.tree(), my.staged()), (before, 0));
    assert_eq!(my.store().outcome(id(1)).expect("an answer"), None);
    my.check_tree();
    my.try_commit(1, &bytes).expect("whole");
}

#[test]
fn streams_that_break_the_rules_apply_nothing() {
    let my = Box::new();
    let end = |ops| vec![CommitFrame::End { ops }];
    let data = || vec![CommitFrame::Data(b"x".to_vec())];
    let cases: Vec<(&str, Vec<Vec<CommitFrame>>)> = vec![
        ("data first", vec![data(), end(0)]),
        ("data after a mkdir", vec![mkdir("d"), data(), end(1)]),
        (
            "too much data",
            vec![put("a", ABSENT, "one"), data(), end(1)],
        ),
        ("too few ops", vec![mkdir("d"), end(2)]),
        ("too many ops", vec![mkdir("d"), end(0)]),
        ("more after the end", vec![mkdir("d"), end(1), end(1)]),
    ];
    for (name, frames) in cases {
        let result = my.try_commit(1, &to_bytes(&frames.concat()));
        assert!(matches!(result, Err(StoreError::BadRequest(_))), "{name}");
    }
    let mut garbage = stream(&[mkdir("d")]);
    garbage[0] = 99;
    assert!(matches!(
        my.try_commit(1, &garbage),
        Err(StoreError::Request(_))
    ));
    assert_eq!((my.tree().len(), my.staged()), (0, 0));
}

#[test]
fn the_most_operations_are_taken_and_one_more_is_not() {
    let my = Box::new();
    let ops = vec![delete("none", Version(1)); OPS_MAX];
    let summary = my.try_commit(1, &stream(&ops)).expect("the most");
    assert!(matches!(summary, CommitSummary::Mixed { ops } if ops as usize == OPS_MAX));
    let ops = vec![delete("none", Version(1)); OPS_MAX + 1];
    let result = my.try_commit(2, &stream(&ops));
    assert!(matches!(result, Err(StoreError::BadRequest(_))));
}

#[test]
fn a_connection_that_breaks_after_the_end_breaks_nothing() {
    struct Broken<'a>(&'a [u8]);
    impl Read for Broken<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(io::ErrorKind::ConnectionReset.into()),
                count => Ok(count),
            }
        }
    }
    let my = Box::new();
    let bytes = stream(&[mkdir("d")]);
    let result = my
        .store()
        .commit(id(1), &by(), &|_| true, &mut Broken(&bytes));
    assert!(result.is_ok());
    let cut = &bytes[..bytes.len() - 1];
    let result = my.store().commit(id(2), &by(), &|_| true, &mut Broken(cut));
    assert!(matches!(result, Err(StoreError::Request(_))));
}

#[test]
fn what_others_wrote_meanwhile_is_not_what_was_expected() {
    let my = Box::new();
    let a = my.put("a", "one").expect("put");
    std::fs::write(my.at("a"), "by hand").expect("write");
    assert_eq!(my.one(1, put("a", at(a), "two")), refused(Refusal::Changed));
    assert_eq!(my.on_disk("a").as_deref(), Some("by hand"));
    let by_hand = my.version("a");
    assert!(matches!(
        my.one(2, put("a", at(by_hand), "two")),
        Outcome::Done(_)
    ));
    assert!(my.keeps("a", "by hand"));
    std::fs::write(my.at("new"), "by hand").expect("write");
    assert_eq!(
        my.one(3, put("new", ABSENT, "x")),
        refused(Refusal::Changed)
    );
    std::fs::create_dir(my.at("made")).expect("mkdir");
    std::fs::write(my.at("made/in it"), "by hand").expect("write");
    assert!(matches!(
        my.one(4, put("made/x", ABSENT, "x")),
        Outcome::Done(_)
    ));
    std::fs::remove_file(my.at("new")).expect("remove");
    assert!(matches!(
        my.one(5, put("new", ABSENT, "x")),
        Outcome::Done(_)
    ));
    my.check_tree();
}

#[test]
fn a_file_that_is_a_folder_now_and_the_other_way_round() {
    let my = Box::new();
    let a = my.put("a", "one").expect("put");
    my.store().make_folder(&path("d"), &by()).expect("mkdir");
    my.put("d/x", "one").expect("put");
    std::fs::remove_file(my.at("a")).expect("remove");
    std::fs::create_dir(my.at("a")).expect("mkdir");
    std::fs::write(my.at("a/in"), "new").expect("write");
    std::fs::remove_dir_all(my.at("d")).expect("remove");
    std::fs::write(my.at("d"), "new").expect("write");
    assert_eq!(my.one(1, put("a", at(a), "two")), refused(Refusal::Changed));
    assert_eq!(
        my.one(2, put("d/x", ABSENT, "two")),
        refused(Refusal::NoParent)
    );
    my.check_tree();
}

#[test]
fn wanted_versions_are_read_from_their_offset_or_not_at_all() {
    let my = Box::new();
    let version = my.put("a", "hello").expect("put");
    let want = |version, offset| Want {
        path: path("a"),
        version,
        offset,
    };
    let mut file = my.store().read_version(&want(version, 2)).expect("opens");
    let left = file.left_bytes();
    let mut text = String::new();
    file.read_to_string(&mut text).expect("read");
    assert_eq!((text.as_str(), left), ("llo", 3));
    let result = my.store().read_version(&want(version, 6));
    assert!(matches!(result, Err(StoreError::Range(_))));
    let result = my.store().read_version(&want(Version(99), 0));
    assert!(matches!(result, Err(StoreError::Changed(_))));
    std::fs::write(my.at("a"), "other").expect("write");
    let result = my.store().read_version(&want(version, 0));
    assert!(matches!(result, Err(StoreError::Changed(_))));
    assert_eq!(
        my.store().digest(&path("a")).expect("a hash"),
        Digest::of(b"other")
    );
}

#[test]
fn later_operations_see_what_earlier_ones_did() {
    let my = Box::new();
    my.one(1, mkdir("d"));
    let x = my.put("d/x", "one").expect("put");
    let d = my.version("d");
    let ops = [
        delete("d/x", x),
        delete("d", d),
        put("d", ABSENT, "a file now"),
        put("d", ABSENT, "and another"),
        mkdir("e"),
        mkdir("e/f"),
        put("e/f/g", ABSENT, "deep"),
    ];
    let outcomes = my.commit(2, &ops);
    assert_eq!(outcomes[3], refused(Refusal::Changed));
    let done = outcomes
        .iter()
        .filter(|o| matches!(o, Outcome::Done(_)))
        .count();
    assert_eq!(done, 6, "{outcomes:?}");
    my.check_tree();
}

#[test]
fn writes_to_a_moved_folder_go_to_where_it_is() {
    let my = Box::new();
    my.one(1, mkdir("d"));
    let x = my.put("d/x", "one").expect("put");
    let d = my.version("d");
    let ops = [
        put("d/y", ABSENT, "before"),
        mv("d", d, "e"),
        put("d/z", ABSENT, "nowhere"),
        put("e/z", ABSENT, "after"),
        put("e/x", at(x), "its version is another now"),
    ];
    let outcomes = my.commit(2, &ops);
    assert_eq!(outcomes[2], refused(Refusal::NoParent));
    assert_eq!(outcomes[4], refused(Refusal::Changed));
    assert_eq!(my.on_disk("e/z").as_deref(), Some("after"));
    my.check_tree();
}

/// A put whose content isn't what it says.
fn lie(at: &str, content: &str) -> Vec<CommitFrame> {
    let file = file("as long as said..");
    let expect = ABSENT;
    let path = path(at);
    let data = CommitFrame::Data(content.as_bytes().to_vec());
    vec![CommitFrame::Op(Op::Put { path, expect, file }), data]
}

fn set_meta(at: &str, expect: Version) -> Vec<CommitFrame> {
    op(Op::SetMeta {
        path: path(at),
        expect,
        mtime: LONG_AGO,
        executable: true,
    })
}
