//! No name and no symlink leads out of the store.

mod common;

use common::{Box, by, delete, link, mkdir, mv, path, put};
use raspbox_protocol::Version;
use raspbox_protocol::commit::{Expect, Outcome, Refusal};
use raspbox_store::{Stat, StoreError};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

/// A store, and a folder outside with something to steal or to spoil.
fn beside() -> (Box, tempfile::TempDir) {
    let outside = tempfile::tempdir().expect("temp dir");
    std::fs::write(outside.path().join("secret"), "secret").expect("write");
    let my = Box::new();
    symlink(outside.path(), my.at("out")).expect("symlink");
    symlink(outside.path().join("secret"), my.at("link")).expect("symlink");
    (my, outside)
}

fn untouched(outside: &tempfile::TempDir) {
    let names: Vec<_> = std::fs::read_dir(outside.path())
        .expect("a folder")
        .collect();
    assert_eq!(names.len(), 1);
    let secret = std::fs::read_to_string(outside.path().join("secret"));
    assert_eq!(secret.expect("there"), "secret");
}

#[test]
fn a_folder_that_is_a_symlink_leads_nowhere() {
    let (my, outside) = beside();
    let store = my.store();
    let secret = path("out/secret");
    assert!(matches!(store.read(&secret), Err(StoreError::NotFound(_))));
    assert!(matches!(
        store.stat(Some(&secret)),
        Err(StoreError::NotFound(_))
    ));
    assert!(matches!(
        store.digest(&secret),
        Err(StoreError::NotFound(_))
    ));
    assert!(matches!(
        store.list(Some(&path("out"))),
        Err(StoreError::NotAFolder(_))
    ));
    assert!(matches!(
        my.put("out/secret", "x"),
        Err(StoreError::NoParent(_))
    ));
    assert!(matches!(
        my.put("out/new", "x"),
        Err(StoreError::NoParent(_))
    ));
    assert!(store.delete_file(&secret, &by()).is_err());
    assert!(store.make_folder(&path("out/d"), &by()).is_err());
    assert!(store.set_mtime(&secret, common::LONG_AGO, &by()).is_err());
    assert!(store.set_executable(&secret, true, &by()).is_err());
    assert!(store.rename(&secret, &path("mine"), &by()).is_err());
    my.put("a", "one").expect("put");
    assert!(store.rename(&path("a"), &path("out/a"), &by()).is_err());
    let no = Version(1);
    for (n, op) in [
        put("out/new", Expect::Absent, "x"),
        mkdir("out/d"),
        link("out/l", Expect::Absent, "x"),
        mv("a", my.version("a"), "out/a"),
    ]
    .into_iter()
    .enumerate()
    {
        let outcome = my.one(u8::try_from(n).expect("few"), op);
        assert_eq!(outcome, Outcome::Refused(Refusal::NoParent));
    }
    my.one(9, delete("out/secret", no));
    untouched(&outside);
}

#[test]
fn a_name_that_is_a_symlink_is_the_symlink_itself() {
    let (my, outside) = beside();
    let store = my.store();
    let here = path("link");
    assert!(matches!(store.read(&here), Err(StoreError::NotAFile(_))));
    assert!(matches!(
        store.stage_from(&here, 1),
        Err(StoreError::NotAFile(_))
    ));
    assert!(matches!(store.stat(Some(&here)), Ok(Stat::Symlink { .. })));
    assert!(matches!(
        store.set_mtime(&here, common::LONG_AGO, &by()),
        Err(StoreError::NotAFile(_))
    ));
    my.put("link", "mine").expect("put");
    assert_eq!(my.on_disk("link").as_deref(), Some("mine"));
    untouched(&outside);
    store
        .rename(&path("out"), &path("away"), &by())
        .expect("rename");
    store.delete_file(&path("away"), &by()).expect("delete");
    untouched(&outside);
    my.check_tree();
}

#[test]
fn a_folder_swapped_for_a_symlink_again_and_again_leads_nowhere() {
    let (my, outside) = beside();
    my.store().make_folder(&path("d"), &by()).expect("mkdir");
    my.put("d/secret", "mine").expect("put");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = std::fs::rename(my.at("d"), my.at("d2"));
                let _ = std::fs::rename(my.at("out"), my.at("d"));
                let _ = std::fs::rename(my.at("d"), my.at("out"));
                let _ = std::fs::rename(my.at("d2"), my.at("d"));
            }
        });
        for n in 0..300 {
            if let Ok(mut file) = my.store().read(&path("d/secret")) {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut file, &mut text).expect("read");
                assert_ne!(text, "secret");
            }
            let _ = my.put("d/secret", &format!("mine {n}"));
            let _ = my.put(&format!("d/{n}"), "mine");
            let _ = my.store().delete_file(&path("d/secret"), &by());
        }
        done.store(true, Ordering::Relaxed);
    });
    untouched(&outside);
}

#[test]
fn our_own_folder_must_be_a_folder() {
    let outside = tempfile::tempdir().expect("temp dir");
    let top = tempfile::tempdir().expect("temp dir");
    symlink(outside.path(), top.path().join(".raspbox")).expect("symlink");
    assert!(raspbox_store::Store::open(top.path(), common::options()).is_err());
    assert_eq!(
        std::fs::read_dir(outside.path()).expect("a folder").count(),
        0
    );
}
