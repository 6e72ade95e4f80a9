//! What ordinary FTP clients do: no expectations, one change at a time.

mod common;

use common::{Box, LONG_AGO, by, options, path};
use raspbox_protocol::Mtime;
use raspbox_store::{OpenError, Stat, Store, StoreError};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

#[test]
fn what_is_put_is_there_and_what_it_replaces_is_a_version() {
    let my = Box::new();
    let first = my.put("a", "one").expect("put");
    let second = my.put("a", "two").expect("put");
    assert!(second > first);
    assert_eq!(my.on_disk("a").as_deref(), Some("two"));
    assert!(my.keeps("a", "one"));
    assert_eq!(my.staged(), 0);
    my.check_tree();
}

#[test]
fn a_put_keeps_the_executable_bit_and_an_open_file_its_content() {
    let my = Box::new();
    my.put("a", "one").expect("put");
    my.store()
        .set_executable(&path("a"), true, &by())
        .expect("chmod");
    let mut open = my.store().read(&path("a")).expect("open");
    my.put("a", "two").expect("put");
    let mode = std::fs::metadata(my.at("a"))
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755);
    let mut content = String::new();
    open.read_to_string(&mut content).expect("read");
    assert_eq!(content, "one");
    my.check_tree();
}

#[test]
fn a_staged_file_that_is_dropped_leaves_nothing() {
    let my = Box::new();
    let mut staged = my.store().stage().expect("stage");
    staged.write_all(b"half").expect("write");
    assert_eq!((my.staged(), staged.len_bytes()), (1, 4));
    drop(staged);
    assert_eq!(my.staged(), 0);
}

#[test]
fn staging_goes_on_from_what_is_there() {
    let my = Box::new();
    my.put("a", "hello").expect("put");
    let mut staged = my.store().stage_from(&path("a"), 4).expect("stage");
    staged.write_all(b" yes").expect("write");
    my.store().put(staged, &path("a"), &by()).expect("put");
    assert_eq!(my.on_disk("a").as_deref(), Some("hell yes"));
    assert!(matches!(
        my.store().stage_from(&path("a"), 9),
        Err(StoreError::Range(_))
    ));
    assert!(my.store().stage_from(&path("none"), 0).is_ok());
    assert_eq!(my.staged(), 0);
}

#[test]
fn deleting_makes_versions_and_says_what_it_can_not() {
    let my = Box::new();
    let store = my.store();
    store.make_folder(&path("d"), &by()).expect("mkdir");
    my.put("d/a", "one").expect("put");
    assert!(matches!(
        store.delete_folder(&path("d"), &by()),
        Err(StoreError::NotEmpty(_))
    ));
    assert!(matches!(
        store.delete_file(&path("d"), &by()),
        Err(StoreError::NotAFile(_))
    ));
    assert!(matches!(
        store.delete_folder(&path("d/a"), &by()),
        Err(StoreError::NotAFolder(_))
    ));
    assert!(matches!(
        store.delete_file(&path("x"), &by()),
        Err(StoreError::NotFound(_))
    ));
    store.delete_file(&path("d/a"), &by()).expect("delete");
    assert!(my.keeps("d/a", "one"));
    store.delete_folder(&path("d"), &by()).expect("rmdir");
    assert!(!my.at("d").exists());
    assert_eq!(my.staged(), 0);
    my.check_tree();
}

#[test]
fn names_that_are_taken_or_lead_nowhere_are_errors() {
    let my = Box::new();
    let store = my.store();
    store.make_folder(&path("d"), &by()).expect("mkdir");
    assert!(matches!(
        store.make_folder(&path("d"), &by()),
        Err(StoreError::Exists(_))
    ));
    assert!(matches!(
        store.make_folder(&path("x/y"), &by()),
        Err(StoreError::NoParent(_))
    ));
    assert!(matches!(my.put("x/y", "z"), Err(StoreError::NoParent(_))));
    assert!(matches!(my.put("d", "z"), Err(StoreError::NotAFile(_))));
    assert_eq!(my.staged(), 0);
}

#[test]
fn a_rename_over_a_file_keeps_it_and_over_a_folder_is_refused() {
    let my = Box::new();
    let store = my.store();
    my.put("a", "one").expect("put");
    my.put("b", "two").expect("put");
    store.make_folder(&path("d"), &by()).expect("mkdir");
    store.rename(&path("a"), &path("b"), &by()).expect("rename");
    assert_eq!(
        (my.on_disk("a"), my.on_disk("b").as_deref()),
        (None, Some("one"))
    );
    assert!(my.keeps("b", "two"));
    assert!(matches!(
        store.rename(&path("b"), &path("d"), &by()),
        Err(StoreError::Exists(_))
    ));
    assert!(matches!(
        store.rename(&path("d"), &path("b"), &by()),
        Err(StoreError::Exists(_))
    ));
    assert!(matches!(
        store.rename(&path("x"), &path("y"), &by()),
        Err(StoreError::NotFound(_))
    ));
    assert!(matches!(
        store.rename(&path("d"), &path("d/e"), &by()),
        Err(StoreError::CannotHold { .. })
    ));
    assert_eq!(my.staged(), 0);
    my.check_tree();
}

#[test]
fn a_folder_moves_with_everything_in_it() {
    let my = Box::new();
    for folder in ["d", "d/e", "d x"] {
        my.store().make_folder(&path(folder), &by()).expect("mkdir");
    }
    my.put("d/a", "one").expect("put");
    my.put("d/e/b", "two").expect("put");
    my.put("d x/c", "not moved").expect("put");
    let before = my.store().cursor();
    let version = my
        .store()
        .rename(&path("d"), &path("n"), &by())
        .expect("rename");
    assert_eq!(
        my.changes(before),
        [
            "-d", "-d/a", "-d/e", "-d/e/b", "+n", "+n/a", "+n/e", "+n/e/b"
        ]
    );
    assert_eq!(my.version("n/e/b"), version);
    my.check_tree();
}

#[test]
fn times_and_modes_are_set_and_told() {
    let my = Box::new();
    my.put("a", "one").expect("put");
    my.store()
        .set_mtime(&path("a"), LONG_AGO, &by())
        .expect("utime");
    let stat = my.store().stat(Some(&path("a"))).expect("stat");
    let expected = Stat::File {
        size_bytes: 3,
        mtime: LONG_AGO,
        executable: false,
    };
    assert_eq!(stat, expected);
    my.store()
        .set_mtime(&path("a"), Mtime(-1), &by())
        .expect("utime");
    my.check_tree();
    assert!(matches!(
        my.store().set_mtime(&path("x"), LONG_AGO, &by()),
        Err(StoreError::NotFound(_))
    ));
}

#[test]
fn a_listing_is_sorted_and_hides_what_is_ours() {
    let my = Box::new();
    my.put("b", "one").expect("put");
    my.store().make_folder(&path("a"), &by()).expect("mkdir");
    std::os::unix::fs::symlink("b", my.at("c")).expect("symlink");
    let listed = my.store().list(None).expect("list");
    let names: Vec<_> = listed.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(matches!(
        listed[2].stat,
        Stat::Symlink {
            target: Some(_),
            ..
        }
    ));
    assert!(matches!(
        my.store().list(Some(&path("b"))),
        Err(StoreError::NotAFolder(_))
    ));
    assert!(matches!(
        my.store().list(Some(&path("x"))),
        Err(StoreError::NotFound(_))
    ));
    assert!(matches!(my.store().stat(None), Ok(Stat::Folder { .. })));
}

#[test]
fn a_second_store_in_the_same_folder_is_refused() {
    let my = Box::new();
    assert!(matches!(
        Store::open(my.dir.path(), options()),
        Err(OpenError::Locked(_))
    ));
}

#[test]
fn the_listener_hears_of_every_change() {
    let my = Box::new();
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let ears = std::sync::Arc::clone(&heard);
    my.store()
        .on_change(move |cursor| ears.lock().expect("whole").push(cursor.seq));
    let told = || heard.lock().expect("whole").clone();
    my.put("a", "one").expect("put");
    assert_eq!(told(), [1]);
    my.put("a", "two").expect("put");
    assert_eq!(told(), [1, 2]);
    assert!(my.store().delete_file(&path("x"), &by()).is_err());
    assert_eq!(told(), [1, 2]);
    assert_eq!(my.store().cursor().seq, 2);
}

#[test]
fn below_the_floor_nothing_is_written() {
    let dir = tempfile::tempdir().expect("temp dir");
    let options = raspbox_store::Options {
        floor_bytes: u64::MAX / 2,
    };
    let store = Store::open(dir.path(), options).expect("opens");
    assert!(matches!(store.stage(), Err(StoreError::NoSpace)));
    assert_eq!(store.info(LONG_AGO, true).expect("info").free_bytes, 0);
}

#[test]
fn caches_are_emptied_and_everything_still_answers() {
    let my = Box::new();
    my.put("a", "one").expect("put");
    my.check_tree();
    let before = my.descriptors();
    my.store().empty_caches();
    assert!(
        my.descriptors() < before,
        "a connection for reading was kept"
    );
    my.put("a", "two").expect("put");
    assert!(my.keeps("a", "one"));
    my.check_tree();
}
