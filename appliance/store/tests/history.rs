//! What stood where, when; and bringing it back.

mod common;

use common::{Box, Faults, LONG_AGO, by, delete, file, link, mkdir, mv, op, path, put};
use raspbox_protocol::commit::{CommitFrame, Expect, Op, Outcome, Refusal};
use raspbox_protocol::history::{How, Past};
use raspbox_protocol::{Digest, Entry, Mtime, RelPath};
use raspbox_store::{By, FeedError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

fn restore(at: &str, expect: Expect, content: &str) -> Vec<CommitFrame> {
    op(Op::Restore {
        path: path(at),
        expect,
        file: file(content),
    })
}

/// A history in words: what, by whom, and what became of it.
fn words(my: &Box, at: &str) -> Vec<String> {
    let word = |past: &Past| {
        let what = match &past.entry {
            Entry::File(file) => format!("{} bytes", file.size),
            Entry::Folder => "folder".into(),
            Entry::Symlink(target) => format!("-> {}", target.as_str()),
        };
        let ended = past.ended.as_ref().map(|ended| match &ended.how {
            How::Replaced => format!(", replaced by '{}'", ended.by),
            How::Deleted => format!(", deleted by '{}'", ended.by),
            How::Moved(to) => format!(", moved to {to} by '{}'", ended.by),
        });
        let kept = if past.kept { "" } else { ", lost" };
        format!("{what} by '{}'{}{kept}", past.by, ended.unwrap_or_default())
    };
    my.check_history();
    let history = my.store().history(&path(at)).expect("a history");
    history.iter().map(word).collect()
}

fn done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done(_))
}

#[test]
fn a_history_tells_who_did_what() {
    let my = Box::new();
    let bob = By("bob".into());
    my.put("a", "1").expect("put");
    my.put("a", "22").expect("put");
    my.store().delete_file(&path("a"), &bob).expect("delete");
    assert_eq!(
        words(&my, "a"),
        [
            "2 bytes by 'ann', deleted by 'bob'",
            "1 bytes by 'ann', replaced by 'ann'",
        ]
    );
    my.one(1, link("a", Expect::Absent, "b"));
    assert_eq!(words(&my, "a")[0], "-> b by 'ann'");
    assert_eq!(words(&my, "never"), [""; 0]);
    let numbers: Vec<Option<u64>> = my
        .store()
        .history(&path("a"))
        .expect("a history")
        .iter()
        .map(|past| past.number)
        .collect();
    assert_eq!(numbers, [None, Some(2), Some(1)]);
    let second = my.store().version(&path("a"), 2).expect("an answer");
    assert!(matches!(second.expect("there").entry, Entry::File(f) if f.size == 2));
    assert_eq!(my.store().version(&path("b"), 2).expect("an answer"), None);
}

#[test]
fn what_moves_stood_where_it_was() {
    let my = Box::new();
    my.store().make_folder(&path("d"), &by()).expect("mkdir");
    my.put("d/a", "a").expect("put");
    let before = my.now();
    my.store()
        .rename(&path("d"), &path("n"), &by())
        .expect("rename");
    assert_eq!(
        words(&my, "d/a"),
        ["1 bytes by 'ann', moved to n/a by 'ann'"]
    );
    assert_eq!(words(&my, "d"), ["folder by 'ann', moved to n by 'ann'"]);
    assert_eq!(words(&my, "n/a"), ["1 bytes by 'ann'"]);
    // The content is where it moved to. Also when that is overwritten, and when it is deleted.
    for act in 0..3 {
        match act {
            0 => drop(my.put("n/a", "other").expect("put")),
            1 => drop(my.store().delete_file(&path("n/a"), &by()).expect("delete")),
            _ => drop(my.store().delete_folder(&path("n"), &by()).expect("rmdir")),
        }
        assert_eq!(words(&my, "d/a").len(), 1);
        assert!(words(&my, "d/a")[0].ends_with("by 'ann'"), "it can be had");
    }
    let then = my.tree_at(before);
    assert_eq!(then.keys().collect::<Vec<_>>(), [&path("d"), &path("d/a")]);
    assert_eq!(words(&my, "n")[0], "folder by 'ann', deleted by 'ann'");
}

#[test]
fn what_changed_by_other_means_is_known_to_have_stood_there() {
    let mut my = Box::new();
    my.put("a", "one").expect("put");
    my.put("b", "two").expect("put");
    let before = my.now();
    my.close();
    std::fs::write(my.at("a"), "other").expect("written");
    std::fs::remove_file(my.at("b")).expect("removed");
    my.reopen();
    assert_eq!(
        words(&my, "a"),
        ["5 bytes by ''", "3 bytes by 'ann', replaced by '', lost"]
    );
    assert_eq!(words(&my, "b"), ["3 bytes by 'ann', deleted by '', lost"]);
    assert_eq!(my.tree_at(before).len(), 2);
    let refused = my.one(1, restore("b", Expect::Absent, "two"));
    assert!(
        matches!(&refused, Outcome::Refused(Refusal::Failed(why)) if why.contains("isn't kept")),
        "{refused:?}"
    );
}

#[test]
fn a_touch_is_no_edit_and_a_mode_is() {
    let my = Box::new();
    my.put("a", "a").expect("put");
    let before = my.now();
    my.store()
        .set_mtime(&path("a"), LONG_AGO, &by())
        .expect("utime");
    assert_eq!(words(&my, "a").len(), 1);
    assert_eq!(my.tree_at(before), my.entries());
    my.store()
        .set_executable(&path("a"), true, &by())
        .expect("chmod");
    assert_eq!(words(&my, "a").len(), 2);
    let then = &my.tree_at(before)[&path("a")];
    assert!(matches!(then, Entry::File(file) if !file.executable));
}

#[test]
fn a_time_before_the_beginning_is_not_known() {
    let before = Mtime::from(SystemTime::now());
    let my = Box::new();
    let begun = my.store().clock().expect("a clock").begun;
    assert!(before <= begun && begun <= my.now());
    let early = Mtime(begun.0 - 1);
    let tree = my.store().tree_at(early, &mut |_| Ok(()));
    assert!(matches!(tree, Err(FeedError::Expired)));
    assert_eq!(my.tree_at(begun), BTreeMap::new());
}

#[test]
fn a_journal_without_a_history_begins_one() {
    let mut my = Box::new();
    my.put("a", "old").expect("put");
    my.put("a", "new").expect("put");
    my.close();
    let db = rusqlite::Connection::open(my.at(".raspbox/journal.db")).expect("opens");
    db.execute_batch(
        "CREATE INDEX displaced_digest ON displaced (digest);
         DROP TABLE entry_hint; DROP TABLE displaced_hint;
         ALTER TABLE entry DROP COLUMN since_ns;
         ALTER TABLE displaced DROP COLUMN since_ns; ALTER TABLE displaced DROP COLUMN how;
         ALTER TABLE displaced DROP COLUMN moved_to;
         DELETE FROM meta WHERE key IN ('begun_ns', 'clock_ns')",
    )
    .expect("as it was");
    drop(db);
    my.reopen();
    assert_eq!(words(&my, "a").len(), 2);
    let before = my.now();
    my.put("a", "newer").expect("put");
    assert_eq!(words(&my, "a").len(), 3);
    assert!(my.keeps("a", "old") && my.keeps("a", "new"));
    assert_eq!(my.tree_at(before).len(), 1);
}

#[test]
fn the_history_goes_on_where_the_clock_goes_back() {
    let clock = Arc::new(AtomicI64::new(i64::MAX / 2));
    let mut my = Box::new();
    let faults = Faults {
        clock: Some(Arc::clone(&clock)),
        ..Faults::default()
    };
    my.open_with(faults).expect("opens");
    let mut times = Vec::new();
    for (n, wall) in [i64::MAX / 2, 5, 7, i64::MIN, i64::MAX / 2]
        .iter()
        .enumerate()
    {
        clock.store(*wall, Ordering::Relaxed);
        my.put("a", &n.to_string()).expect("put");
        times.push(my.now());
    }
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    my.check_history();
    for (n, time) in times.iter().enumerate() {
        let then = my.tree_at(*time);
        let digest = Digest::of(n.to_string().as_bytes());
        assert!(matches!(&then[&path("a")], Entry::File(f) if f.digest == digest));
    }
}

#[test]
fn a_version_is_restored_as_a_change_like_any_other() {
    let my = Box::new();
    my.put("a", "old").expect("put");
    my.put("a", "new").expect("put");
    let cursor = my.store().cursor();
    let wrong = my.one(1, restore("a", Expect::Absent, "old"));
    assert_eq!(wrong, Outcome::Refused(Refusal::Changed));
    assert_eq!(my.on_disk("a").as_deref(), Some("new"));
    let expect = Expect::Version(my.version("a"));
    assert!(done(&my.one(2, restore("a", expect, "old"))));
    assert_eq!(my.on_disk("a").as_deref(), Some("old"));
    assert_eq!(my.changes(cursor), ["+a"]);
    assert_eq!(words(&my, "a").len(), 3);
    assert!(my.keeps("a", "new") && my.keeps("a", "old"));
    // And back.
    let expect = Expect::Version(my.version("a"));
    assert!(done(&my.one(3, restore("a", expect, "new"))));
    assert_eq!(my.on_disk("a").as_deref(), Some("new"));
    my.check_tree();
    assert_eq!(my.staged(), 0);
}

#[test]
fn what_is_restored_is_no_link_to_its_version() {
    let my = Box::new();
    my.put("a", "old").expect("put");
    my.put("a", "new").expect("put");
    let expect = Expect::Version(my.version("a"));
    assert!(done(&my.one(1, restore("a", expect, "old"))));
    // Somebody writes into it in place.
    std::fs::write(my.at("a"), "rot").expect("written");
    assert!(my.keeps("a", "old"));
}

#[test]
fn a_version_that_rotted_is_refused() {
    let my = Box::new();
    my.put("a", "old").expect("put");
    my.store().delete_file(&path("a"), &by()).expect("delete");
    let name = Digest::of(b"old").to_string();
    let kept = my.at(&format!(".raspbox/versions/{}/{name}", &name[..2]));
    std::fs::write(&kept, "rot").expect("written");
    let ops = [
        restore("a", Expect::Absent, "old"),
        put("b", Expect::Absent, "b"),
    ];
    let outcomes = my.commit(1, &ops);
    assert!(
        matches!(&outcomes[0], Outcome::Refused(Refusal::Failed(why)) if why.contains("damaged")),
        "{outcomes:?}"
    );
    assert!(done(&outcomes[1]), "the others go on");
    assert_eq!(my.on_disk("a"), None);
    assert_eq!(my.staged(), 0);
    // A file that has the same content helps out.
    my.put("c", "old").expect("put");
    assert!(done(&my.one(2, restore("a", Expect::Absent, "old"))));
    assert_eq!(my.on_disk("a").as_deref(), Some("old"));
}

#[test]
fn folders_show_what_was_displaced_below() {
    let my = Box::new();
    for folder in ["d", "d e", "empty", "d/e"] {
        my.store().make_folder(&path(folder), &by()).expect("mkdir");
    }
    for name in ["d/e/f", "d e/x", "d/e.txt", "z"] {
        my.put(name, name).expect("put");
    }
    my.put("stays", "stays").expect("put");
    for name in ["d/e/f", "d e/x", "d/e.txt", "z"] {
        my.store().delete_file(&path(name), &by()).expect("delete");
    }
    my.store()
        .delete_folder(&path("empty"), &by())
        .expect("rmdir");
    let names = |folder: Option<&str>| -> Vec<String> {
        let folder = folder.map(path);
        let found = my.store().displaced_in(folder.as_ref()).expect("names");
        found.into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(None), ["d", "d e", "z"]);
    assert_eq!(names(Some("d")), ["e", "e.txt"]);
    assert_eq!(names(Some("d/e")), ["f"]);
    assert_eq!(names(Some("d/e/f")), [""; 0]);
    assert_eq!(names(Some("nowhere")), [""; 0]);
}

/// A small generator, so that a seed says it all.
struct Dice(u64);

impl Dice {
    fn of(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn up_to(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).expect("small")
    }
}

const NAMES: [&str; 8] = ["a", "b", "d", "d/a", "d/e", "d/e/f", "d e", "d/e/g"];

/// One change at random; most of them are refused.
fn disturb(my: &mut Box, dice: &mut Dice, n: u32, by_hand: bool) {
    let at = NAMES[dice.up_to(NAMES.len())];
    let to = NAMES[dice.up_to(NAMES.len())];
    let content = format!("content {}", dice.up_to(4));
    let version = my.tree().get(&path(at)).map(|(_, version)| *version);
    let expect = version.map_or(Expect::Absent, Expect::Version);
    let request = u8::try_from(n % 200).expect("small");
    match dice.up_to(if by_hand { 12 } else { 11 }) {
        0..=2 => drop(my.put(at, &content)),
        3 => drop(my.store().delete_file(&path(at), &by())),
        4 => drop(my.store().delete_folder(&path(at), &by())),
        5 | 6 => drop(my.store().make_folder(&path(at), &by())),
        7 | 8 => drop(my.store().rename(&path(at), &path(to), &by())),
        9 => drop(
            my.store()
                .set_executable(&path(at), n.is_multiple_of(2), &by()),
        ),
        10 => drop(my.one(request, link(at, expect, "target"))),
        _ => {
            my.close();
            if n.is_multiple_of(3) {
                drop(std::fs::remove_dir_all(my.at(at)));
            } else {
                drop(std::fs::write(my.at(at), format!("by hand {n}")));
            }
            my.reopen();
        }
    }
}

/// Without times of modification, which are not part of the history.
fn timeless(mut tree: BTreeMap<RelPath, Entry>) -> BTreeMap<RelPath, Entry> {
    for entry in tree.values_mut() {
        if let Entry::File(file) = entry {
            file.mtime = Mtime(0);
        }
    }
    tree
}

#[test]
fn the_tree_as_it_was_at_any_time_is_known() {
    for seed in 1..=12 {
        let mut dice = Dice::of(seed);
        let mut my = Box::new();
        let mut seen = vec![(my.now(), timeless(my.entries()))];
        for n in 0..60 {
            disturb(&mut my, &mut dice, n, true);
            seen.push((my.now(), timeless(my.entries())));
        }
        my.check_history();
        my.reopen();
        for (n, (time, tree)) in seen.iter().enumerate() {
            assert_eq!(
                &timeless(my.tree_at(*time)),
                tree,
                "seed {seed}, change {n}"
            );
        }
    }
}

/// Brings the tree back as it was; returns what couldn't be had.
fn restore_all(my: &Box, request: u8, then: &BTreeMap<RelPath, Entry>) -> Vec<(String, Outcome)> {
    let now = my.tree();
    let same =
        |path: &RelPath, entry: &Entry| then.get(path).is_some_and(|then| then.same_content(entry));
    let is_folder = |entry: Option<&Entry>| matches!(entry, Some(Entry::Folder));
    let mut ops = Vec::new();
    for (at, (entry, version)) in now.iter().rev() {
        let replaced = then.contains_key(at) && !is_folder(then.get(at)) && !is_folder(Some(entry));
        if !same(at, entry) && !replaced {
            ops.push(delete(at.as_str(), *version));
        }
    }
    for (at, entry) in then {
        let there = now.get(at);
        if there.is_some_and(|(there, _)| there.same_content(entry)) {
            continue;
        }
        let expect = match there {
            Some((Entry::File(_) | Entry::Symlink(_), version)) => Expect::Version(*version),
            Some((Entry::Folder, _)) | None => Expect::Absent,
        };
        ops.push(match entry {
            Entry::Folder => mkdir(at.as_str()),
            Entry::Symlink(target) => link(at.as_str(), expect, target.as_str()),
            Entry::File(file) => op(Op::Restore {
                path: at.clone(),
                expect,
                file: *file,
            }),
        });
    }
    let outcomes = my.commit(request, &ops);
    let named = ops.iter().zip(outcomes).map(|(op, outcome)| {
        let CommitFrame::Op(op) = &op[0] else {
            unreachable!("an operation comes first")
        };
        (format!("{op:?}"), outcome)
    });
    named.filter(|(_, outcome)| !done(outcome)).collect()
}

#[test]
fn everything_comes_back_as_it_was_at_any_time() {
    for seed in 1..=8 {
        let mut dice = Dice::of(seed);
        let mut my = Box::new();
        let mut seen = Vec::new();
        for n in 0..40 {
            // Nothing is written past the store, so everything can be had.
            disturb(&mut my, &mut dice, n, false);
            seen.push((my.now(), timeless(my.entries())));
        }
        for n in 0..12_u8 {
            let (time, tree) = &seen[dice.up_to(seen.len())];
            let then = my.tree_at(*time);
            let refused = restore_all(&my, 210 + n, &then);
            assert_eq!(refused, [], "seed {seed}, round {n}");
            assert_eq!(&timeless(my.entries()), tree, "seed {seed}, round {n}");
            my.check_tree();
            my.check_history();
        }
    }
}

#[test]
fn a_content_moves_between_names_and_is_found_under_all() {
    let my = Box::new();
    my.put("a", "A").expect("put");
    my.put("b", "B").expect("put");
    let before = my.now();
    let versions = [my.version("a"), my.version("b")];
    // The names change places, through a third one.
    assert!(done(&my.one(1, mv("a", versions[0], "c"))));
    assert!(done(&my.one(2, mv("b", versions[1], "a"))));
    let version = my.version("c");
    assert!(done(&my.one(3, mv("c", version, "b"))));
    let refused = restore_all(&my, 4, &my.tree_at(before));
    assert_eq!(refused, []);
    assert_eq!(my.on_disk("a").as_deref(), Some("A"));
    assert_eq!(my.on_disk("b").as_deref(), Some("B"));
}
