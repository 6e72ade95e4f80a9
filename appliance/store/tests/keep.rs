//! What was replaced or deleted on the drive itself, and is brought by who still has it.

mod common;

use common::{Box, by, file, id, op, path, stream};
use raspbox_protocol::commit::{CommitFrame, Expect, Op, Outcome, Refusal};
use raspbox_protocol::holds::Held;
use raspbox_protocol::{Digest, Entry, File, Version};
use raspbox_store::{Policy, Step};
use std::time::Duration;

fn keep(at: &str, content: &str) -> Vec<CommitFrame> {
    let file = file(content);
    keep_as(at, file, content)
}

fn keep_as(at: &str, file: File, content: &str) -> Vec<CommitFrame> {
    let path = path(at);
    let mut frames = op(Op::Keep { path, file });
    if !content.is_empty() {
        frames.push(CommitFrame::Data(content.as_bytes().to_vec()));
    }
    frames
}

fn holds(my: &Box, contents: &[&str]) -> Vec<bool> {
    let digests: Vec<Digest> = contents.iter().map(|c| Digest::of(c.as_bytes())).collect();
    let Held(held) = my.store().holds(&digests).expect("an answer");
    held
}

/// Does something to the drive while the store isn't there.
fn meanwhile(my: &mut Box, act: impl FnOnce(&Box)) {
    my.close();
    act(my);
    my.reopen();
}

fn write(my: &Box, at: &str, content: &str) {
    std::fs::write(my.at(at), content).expect("written");
}

#[test]
fn what_was_overwritten_and_deleted_on_the_drive_becomes_a_version() {
    let mut my = Box::new();
    let (a, b) = (my.put("a", "old a"), my.put("b", "old b"));
    let (a, b) = (a.expect("put"), b.expect("put"));
    meanwhile(&mut my, |my| {
        write(my, "a", "new a");
        std::fs::remove_file(my.at("b")).expect("removed");
    });
    assert_eq!(holds(&my, &["old a", "old b", "new a"]), [false; 3]);
    let before = (my.tree(), my.store().cursor());
    let done = my.commit(1, &[keep("a", "old a"), keep("b", "old b")]);
    let newest = Outcome::Done(Version(before.1.seq));
    assert_eq!(done, [newest.clone(), newest]);
    assert_eq!(
        holds(&my, &["old a", "old b", "new a"]),
        [true, true, false]
    );
    assert!(my.keeps("a", "old a") && my.keeps("b", "old b"));
    // Nothing in the tree has changed, and it is known whose it was and when.
    assert_eq!((my.tree(), my.store().cursor()), before);
    for (at, version, content) in [("a", a, "old a"), ("b", b, "old b")] {
        let history = my.store().history(&path(at)).expect("a history");
        let past: Vec<_> = history.iter().filter(|past| past.ended.is_some()).collect();
        let [past] = past[..] else {
            panic!("one version of {at}: {history:?}");
        };
        assert_eq!((past.version, &*past.by, past.kept), (version, "ann", true));
        assert!(matches!(past.entry, Entry::File(f) if f.digest == file(content).digest));
    }
    my.check_history();
    let restore = op(Op::Restore {
        path: path("b"),
        expect: Expect::Absent,
        file: file("old b"),
    });
    assert!(matches!(my.one(2, restore), Outcome::Done(_)));
    assert_eq!(my.on_disk("b").as_deref(), Some("old b"));
    assert_eq!(my.staged(), 0);
    my.check_tree();
}

#[test]
fn what_nobody_knows_of_any_more_becomes_a_version_all_the_same() {
    // Retention let its note go, or the journal was lost meanwhile.
    let my = Box::new();
    my.put("a", "one").expect("put");
    my.put("a", "two").expect("put");
    std::fs::create_dir(my.at("d")).expect("made");
    let before = (my.entries(), my.now());
    for (n, at) in [(1, "a"), (2, "gone"), (3, "no/folder/here"), (4, "d")] {
        let content = format!("older {at}");
        assert!(matches!(my.one(n, keep(at, &content)), Outcome::Done(_)));
        assert!(my.keeps(at, &content), "{at}");
        my.check_history();
        my.put("a", &format!("more {n}")).expect("put");
        my.check_history();
    }
    assert_eq!(my.tree_at(before.1), before.0, "the past is as it was");
}

#[test]
fn a_content_is_kept_once() {
    let my = Box::new();
    my.put("a", "one").expect("put");
    my.put("a", "two").expect("put");
    let versions = my.versions();
    for n in 1..3 {
        assert!(matches!(my.one(n, keep("a", "one")), Outcome::Done(_)));
        assert!(
            matches!(my.one(n, keep("a", "one")), Outcome::Done(_)),
            "again"
        );
    }
    let both = my.commit(3, &[keep("x", "three"), keep("x", "three")]);
    assert!(
        both.iter()
            .all(|outcome| matches!(outcome, Outcome::Done(_)))
    );
    assert_eq!(my.versions().len(), versions.len() + 1);
    assert_eq!(my.kept().len(), 2);
    assert_eq!(my.staged(), 0);
}

#[test]
fn what_is_kept_is_what_was_said() {
    let my = Box::new();
    let refused = |refusal| Outcome::Refused(refusal);
    let bad = refused(Refusal::BadContent);
    assert_eq!(my.one(1, keep_as("a", file("one"), "two")), bad);
    assert_eq!(my.one(2, keep_as("a", file("longer"), "long")), bad);
    let mut frames = &stream(&[keep("a", "one")])[..];
    let committed = my.store().commit(id(3), &by(), &|_| false, &mut frames);
    committed.expect("a commit");
    let outcomes = my.store().outcome(id(3)).expect("an answer");
    assert_eq!(outcomes, Some(vec![refused(Refusal::Denied)]));
    assert_eq!(
        (my.versions().len(), my.kept().len(), my.staged()),
        (0, 0, 0)
    );
    assert!(matches!(my.one(4, keep("empty", "")), Outcome::Done(_)));
    assert!(my.keeps("empty", ""));
}

#[test]
fn only_what_is_kept_is_held() {
    let mut my = Box::new();
    my.put("a", "one").expect("put");
    // Whoever gives up a copy must not rely on a file that somebody may overwrite as well.
    assert_eq!(holds(&my, &["one"]), [false]);
    my.put("a", "two").expect("put");
    assert_eq!(holds(&my, &["one", "two", "one"]), [true, false, true]);
    let name = Digest::of(b"one").to_string();
    let kept = format!(".raspbox/versions/{}/{name}", &name[..2]);
    // It rotted; the scrub finds that.
    write(&my, &kept, "ONE");
    let mut pass = my.store().scrub().expect("a pass");
    while matches!(pass.next(&mut |_| true).expect("a step"), Step::More) {}
    drop(pass);
    assert_eq!(holds(&my, &["one"]), [false], "damaged");
    assert!(matches!(my.one(1, keep("a", "one")), Outcome::Done(_)));
    assert_eq!(holds(&my, &["one"]), [true], "and good again");
    meanwhile(&mut my, |my| {
        std::fs::remove_file(my.at(&kept)).expect("removed");
    });
    assert_eq!(holds(&my, &["one"]), [false], "gone");
    assert_eq!(holds(&my, &[]), []);
}

#[test]
fn retention_holds_for_what_was_brought() {
    let my = Box::new();
    my.put("a", "one").expect("put");
    assert!(matches!(my.one(1, keep("a", "older")), Outcome::Done(_)));
    assert!(matches!(my.one(2, keep("b", "gone")), Outcome::Done(_)));
    let policy = Policy {
        keep_all: Duration::ZERO,
        daily: Duration::ZERO,
        weekly: Duration::ZERO,
    };
    let thin = || {
        let thinned = my
            .store()
            .thin(&policy, Duration::from_secs(60), &mut || true);
        thinned.expect("thinned");
    };
    thin();
    assert!(
        my.keeps("a", "older"),
        "the newest version of what is there"
    );
    assert!(!my.keeps("b", "gone"), "the last of what isn't");
    my.put("a", "two").expect("put");
    thin();
    assert_eq!(my.kept(), [Digest::of(b"one")].into());
    my.check_history();
}
