//! Feeds, what others write on the drive, and journals that are lost, broken or set back.

mod common;

use common::{Box, by, options, path};
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::{Cursor, Epoch};
use raspbox_store::{FeedError, OpenError, Options, Store, StoreError};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_feed_has_a_head_the_tree_and_a_mark() {
    let my = Box::new();
    my.store().make_folder(&path("d"), &by()).expect("mkdir");
    my.put("d/a", "one").expect("put");
    my.put("d-", "two").expect("put");
    let frames = my.feed(None).expect("a feed");
    assert_eq!(frames[0], FeedFrame::Head { whole: true });
    assert_eq!(frames[4], FeedFrame::Mark(my.store().cursor()));
    assert_eq!((frames.len(), my.tree().len()), (5, 3));
    let frames = my.feed(Some(my.store().cursor())).expect("a feed");
    let mark = FeedFrame::Mark(my.store().cursor());
    assert_eq!(frames, [FeedFrame::Head { whole: false }, mark]);
}

#[test]
fn changes_are_each_paths_present_state_once() {
    let my = Box::new();
    my.put("a", "one").expect("put");
    let cursor = my.store().cursor();
    my.put("b", "1").expect("put");
    my.put("b", "2").expect("put");
    my.store().delete_file(&path("a"), &by()).expect("delete");
    my.put("c", "1").expect("put");
    my.store().delete_file(&path("c"), &by()).expect("delete");
    my.put("a", "again").expect("put");
    assert_eq!(my.changes(cursor), ["-c", "+b", "+a"]);
}

#[test]
fn a_cursor_of_another_journal_is_expired() {
    let my = Box::new();
    let other = Cursor {
        epoch: Epoch([7; 16]),
        seq: 0,
    };
    assert!(matches!(my.feed(Some(other)), Err(FeedError::Expired)));
}

#[test]
fn a_journal_knows_where_it_has_been_and_nothing_that_happened_to_a_copy() {
    let mut my = Box::new();
    my.put("a", "one").expect("put");
    let first = my.store().cursor();
    my.reopen();
    let second = my.store().cursor();
    assert_ne!(first.epoch, second.epoch);
    assert!(my.store().knows(first).expect("read"));
    // A copy of the drive lives on by itself, to the same number.
    my.close();
    let copy = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(copy.path().join(".raspbox")).expect("mkdir");
    for entry in std::fs::read_dir(my.at(".raspbox")).expect("list") {
        let from = entry.expect("list").path();
        if from.is_file() {
            let name = from.file_name().expect("a name");
            std::fs::copy(&from, copy.path().join(".raspbox").join(name)).expect("copy");
        }
    }
    std::fs::copy(my.at("a"), copy.path().join("a")).expect("copy");
    my.reopen();
    my.put("b", "two").expect("put");
    my.put("b", "two and a half").expect("put");
    let here = my.store().cursor();
    // It notices that the copied file is another inode, which takes a number too.
    let other = Store::open(copy.path(), options()).expect("opens");
    let mut staged = other.stage().expect("stage");
    staged.write_all(b"three").expect("write");
    other.put(staged, &path("c"), &by()).expect("put");
    assert_eq!(other.cursor().seq, here.seq);
    assert!(other.knows(first).expect("read") && other.knows(second).expect("read"));
    assert!(!other.knows(here).expect("read"));
    assert!(!my.store().knows(other.cursor()).expect("read"));
    let past_its_end = Cursor {
        seq: second.seq + 1,
        ..second
    };
    assert!(!my.store().knows(past_its_end).expect("read"));
}

#[test]
fn a_cursor_from_the_future_shows_a_journal_that_went_back() {
    let my = Box::new();
    my.put("a", "one").expect("put");
    let now = my.store().cursor();
    let future = Cursor {
        seq: now.seq + 1,
        ..now
    };
    assert!(matches!(my.feed(Some(future)), Err(FeedError::Expired)));
    assert_ne!(my.store().cursor().epoch, now.epoch);
    assert!(matches!(my.feed(Some(now)), Err(FeedError::Expired)));
    assert_eq!(my.tree().len(), 1);
}

#[test]
fn a_sink_that_fails_ends_the_feed() {
    let my = Box::new();
    let result = my
        .store()
        .feed(None, &mut |_| Err(io::ErrorKind::BrokenPipe.into()));
    assert!(matches!(result, Err(FeedError::Sink(_))));
    assert!(my.feed(None).is_ok());
}

#[test]
fn what_was_not_touched_keeps_its_version_over_a_restart() {
    let mut my = Box::new();
    my.store().make_folder(&path("d"), &by()).expect("mkdir");
    my.put("d/a", "one").expect("put");
    std::os::unix::fs::symlink("x", my.at("l")).expect("symlink");
    my.reopen();
    let (tree, seq) = (my.tree(), my.store().cursor().seq);
    my.reopen();
    assert_eq!((my.tree(), my.store().cursor().seq), (tree, seq));
}

#[test]
fn what_others_did_while_it_was_closed_is_journalled() {
    let mut my = Box::new();
    for folder in ["d", "d/e", "gone"] {
        my.store().make_folder(&path(folder), &by()).expect("mkdir");
    }
    for file in ["d/a", "d/e/b", "gone/c", "same", "z"] {
        my.put(file, file).expect("put");
    }
    let cursor = my.store().cursor();
    my.close();
    std::fs::write(my.at("d/a"), "edited").expect("write");
    // As long as before: only its times tell.
    std::fs::write(my.at("z"), "y").expect("write");
    std::fs::remove_dir_all(my.at("gone")).expect("remove");
    std::fs::create_dir(my.at("made")).expect("mkdir");
    std::fs::write(my.at("made/new"), "new").expect("write");
    std::fs::rename(my.at("d/e"), my.at("d/f")).expect("rename");
    let mut mode = std::fs::metadata(my.at("same"))
        .expect("there")
        .permissions();
    mode.set_mode(0o755);
    std::fs::set_permissions(my.at("same"), mode).expect("chmod");
    my.reopen();
    my.check_tree();
    let mut changes = my.changes(cursor);
    changes.sort();
    let expected = [
        "+d/a",
        "+d/f",
        "+d/f/b",
        "+made",
        "+made/new",
        "+same",
        "+z",
        "-d/e",
        "-d/e/b",
        "-gone",
        "-gone/c",
    ];
    assert_eq!(changes, expected);
}

#[test]
fn a_touch_is_told_and_no_edit() {
    let mut my = Box::new();
    my.put("a", "one").expect("put");
    let before = my.version("a");
    my.close();
    let file = std::fs::File::open(my.at("a")).expect("open");
    file.set_modified(common::LONG_AGO.into()).expect("touch");
    my.reopen();
    assert!(my.version("a") > before);
    my.check_tree();
}

#[test]
fn an_edit_that_keeps_size_and_time_is_found() {
    let mut my = Box::new();
    let n = common::put("a", raspbox_protocol::commit::Expect::Absent, "one");
    my.one(1, n);
    let cursor = my.store().cursor();
    my.close();
    // Its time is from long ago, so nothing is in doubt; only its ctime tells.
    let before = std::fs::metadata(my.at("a")).expect("there");
    std::fs::write(my.at("a"), "two").expect("write");
    let file = std::fs::File::options().write(true).open(my.at("a"));
    file.and_then(|file| file.set_modified(before.modified()?))
        .expect("its time");
    my.reopen();
    assert_eq!(my.changes(cursor), ["+a"]);
    my.check_tree();
}

#[test]
fn an_edit_that_its_times_hide_is_found_where_the_row_is_young() {
    let fat = common::Faults {
        fat: true,
        ..common::Faults::default()
    };
    let mut my = Box::with(fat.clone());
    // By other means: what we wrote ourselves and looks as it did is damaged, not edited.
    std::fs::write(my.at("a"), "one").expect("write");
    my.open_with(fat.clone()).expect("opens");
    my.close();
    let mtime = std::fs::metadata(my.at("a"))
        .expect("there")
        .modified()
        .expect("a time");
    std::fs::write(my.at("a"), "two").expect("write");
    let file = std::fs::File::options()
        .write(true)
        .open(my.at("a"))
        .expect("open");
    file.set_modified(mtime).expect("touch");
    my.open_with(fat).expect("opens");
    my.check_tree();
}

#[test]
fn odd_things_on_the_drive_are_left_alone() {
    use std::os::unix::ffi::OsStrExt;
    let mut my = Box::new();
    my.close();
    let odd = std::ffi::OsStr::from_bytes(b"not \xff text");
    std::fs::write(my.dir.path().join(odd), "x").expect("write");
    std::fs::write(my.at("line\nbreak"), "x").expect("write");
    std::os::unix::net::UnixListener::bind(my.at("socket")).expect("bind");
    std::fs::write(my.at("fine"), "x").expect("write");
    my.reopen();
    assert_eq!(my.tree().into_keys().collect::<Vec<_>>(), [path("fine")]);
    assert_eq!(my.store().list(None).expect("list").len(), 1);
    assert!(matches!(
        my.store().read(&path("socket")),
        Err(StoreError::NotAFile(_))
    ));
    assert!(my.put("socket", "x").is_err());
    assert!(my.at("socket").exists() && my.dir.path().join(odd).exists());
}

#[test]
fn what_can_not_be_read_is_not_gone() {
    let mut my = Box::new();
    for folder in ["d", "d/e"] {
        my.store().make_folder(&path(folder), &by()).expect("mkdir");
    }
    for file in ["a", "d/a", "d/e/b", "d x", "e"] {
        my.put(file, file).expect("put");
    }
    let (tree, cursor) = (my.tree(), my.store().cursor());
    my.close();
    std::fs::remove_dir_all(my.at("d/e")).expect("remove");
    std::fs::remove_file(my.at("d/a")).expect("remove");
    my.open_with(common::Faults {
        unreadable: Some("d".into()),
        ..common::Faults::default()
    })
    .expect("opens");
    assert_eq!((my.tree(), my.store().cursor().seq), (tree, cursor.seq));
    my.reopen();
    assert_eq!(my.changes(cursor), ["-d/a", "-d/e", "-d/e/b"]);
}

#[test]
fn a_cursor_from_before_the_floor_is_expired() {
    let mut my = Box::new();
    for name in ["a", "b", "c"] {
        my.put(name, name).expect("put");
    }
    let now = my.store().cursor();
    assert!(my.feed(Some(Cursor { seq: 0, ..now })).is_ok());
    my.close();
    let db = rusqlite::Connection::open(my.at(".raspbox/journal.db")).expect("opens");
    db.execute("UPDATE meta SET value = 2 WHERE key = 'floor_seq'", [])
        .expect("set");
    drop(db);
    my.reopen();
    let at = |seq| my.feed(Some(Cursor { seq, ..now }));
    assert!(matches!(at(1), Err(FeedError::Expired)));
    assert!(at(2).is_ok());
}

#[test]
fn a_lost_journal_is_a_new_epoch_of_the_same_drive() {
    let mut my = Box::new();
    my.put("a", "one").expect("put");
    my.put("a", "two").expect("put");
    let (drive, old) = facts(&my);
    my.close();
    for name in ["journal.db", "journal.db-shm"] {
        let _ = std::fs::remove_file(my.at(&format!(".raspbox/{name}")));
    }
    my.reopen();
    let (same, new) = facts(&my);
    assert_eq!(drive, same);
    assert_ne!(old.epoch, new.epoch);
    my.check_tree();
    // What it kept is found again, though nobody knows where it stood.
    assert_eq!(my.versions().len(), 1);
}

#[test]
fn a_broken_journal_is_set_aside() {
    let mut my = Box::new();
    my.put("a", "one").expect("put");
    let (drive, old) = facts(&my);
    for (n, garbage) in [(1, "no database at all"), (2, "again")] {
        my.close();
        std::fs::write(my.at(".raspbox/journal.db"), garbage.repeat(500)).expect("write");
        my.reopen();
        let (same, new) = facts(&my);
        assert_eq!(drive, same);
        assert_ne!(old.epoch, new.epoch);
        let aside = std::fs::read_to_string(my.at(&format!(".raspbox/journal.db.broken-{n}")));
        assert!(aside.expect("kept").starts_with(garbage));
        my.check_tree();
    }
}

#[test]
fn a_journal_with_a_broken_page_is_set_aside() {
    let mut my = Box::new();
    for n in 0..200 {
        my.store()
            .make_folder(&path(&format!("folder {n}")), &by())
            .expect("mkdir");
    }
    let (_, old) = facts(&my);
    my.close();
    let db = my.at(".raspbox/journal.db");
    let mut bytes = std::fs::read(&db).expect("read");
    assert!(bytes.len() > 5 * 4096);
    bytes[4096..].fill(0x55);
    std::fs::write(&db, bytes).expect("write");
    my.reopen();
    assert_ne!(old.epoch, facts(&my).1.epoch);
    assert_eq!(my.tree().len(), 200);
}

#[test]
fn what_was_staged_for_a_lost_journal_is_set_aside() {
    let mut my = Box::new();
    my.close();
    // Perhaps an upload that was cut, perhaps what was displaced at that moment.
    std::fs::write(my.at(".raspbox/staging/1234"), "precious").expect("write");
    std::fs::remove_file(my.at(".raspbox/journal.db")).expect("remove");
    my.reopen();
    assert_eq!(my.staged(), 0);
    let own = std::fs::read_dir(my.at(".raspbox")).expect("own");
    let mut names = own.map(|e| {
        e.expect("an entry")
            .file_name()
            .into_string()
            .expect("UTF-8")
    });
    let aside = names
        .find(|name| name.starts_with("staging.broken-"))
        .expect("set aside");
    let kept = my.on_disk(&format!(".raspbox/{aside}/1234"));
    assert_eq!(kept.as_deref(), Some("precious"));
}

#[test]
fn leftovers_of_a_known_journal_are_removed() {
    let mut my = Box::new();
    my.close();
    std::fs::write(my.at(".raspbox/staging/1234"), "half").expect("write");
    my.reopen();
    assert_eq!(my.staged(), 0);
}

#[test]
fn a_journal_of_another_drive_gets_a_new_epoch() {
    let mut my = Box::new();
    my.put("a", "one").expect("put");
    let (_, old) = facts(&my);
    my.close();
    std::fs::write(my.at(".raspbox/drive"), "ab".repeat(16)).expect("write");
    my.reopen();
    let (drive, new) = facts(&my);
    assert_eq!(drive, "ab".repeat(16));
    assert_ne!(old.epoch, new.epoch);
}

#[test]
fn a_newer_format_is_not_touched() {
    let mut my = Box::new();
    my.close();
    let db = rusqlite::Connection::open(my.at(".raspbox/journal.db")).expect("opens");
    db.pragma_update(None, "user_version", 2).expect("set");
    drop(db);
    let result = Store::open(my.dir.path(), options());
    assert!(matches!(result, Err(OpenError::Newer { found: 2, .. })));
}

#[test]
fn a_folder_that_is_not_there_can_not_be_opened() {
    let my = Box::new();
    let result = Store::open(&my.at("none"), options());
    assert!(matches!(result, Err(OpenError::Folder { .. })));
    my.put("file", "x").expect("put");
    let result = Store::open(&my.at("file"), options());
    assert!(matches!(result, Err(OpenError::Folder { .. })));
}

#[test]
fn readers_see_one_state_while_others_write() {
    let my = Box::new();
    for n in 0..50 {
        my.put(&format!("{n:02}"), "x").expect("put");
    }
    let store = my.store().clone();
    let mut seen = Vec::new();
    my.store()
        .feed(None, &mut |frame| {
            if let FeedFrame::Entry { path, .. } = frame {
                // Behind and before where the feed is.
                let _ = store.delete_file(&path, &by());
                let mut staged = store.stage().expect("stage");
                staged.write_all(b"y").expect("write");
                store.put(staged, &common::path("zz"), &by()).expect("put");
                seen.push(path);
            }
            Ok(())
        })
        .expect("a feed");
    assert_eq!(seen.len(), 50);
    assert_eq!(my.tree().len(), 1);
}

fn facts(my: &Box) -> (String, Cursor) {
    let info = my.store().info(common::LONG_AGO, true).expect("info");
    (info.drive.to_string(), info.cursor)
}

#[test]
fn versions_are_not_let_go_where_that_would_not_be_enough() {
    let mut my = Box::new();
    my.put("a", "one").expect("put");
    my.put("a", "two").expect("put");
    my.close();
    let floor_bytes = u64::MAX / 2;
    my.store = Some(Store::open(my.dir.path(), Options { floor_bytes }).expect("opens"));
    assert!(matches!(my.store().stage(), Err(StoreError::NoSpace)));
    assert!(my.keeps("a", "one"));
}
