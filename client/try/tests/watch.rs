//! Workstations that stay in sync live.

mod common;

use common::{Home, home, noise, put, stands, synced, text, wait};
use raspbox_protocol::Digest;
use raspbox_try::bed::{Watch, Workstation};
use raspbox_try::tree;
use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Watches that have done their first round.
fn watching(stations: [&Workstation; 2]) -> [Watch; 2] {
    let mut watches = stations.map(|station| station.watch().expect("a watch"));
    for watch in &mut watches {
        watch.ready().expect("its first round");
    }
    watches
}

#[track_caller]
fn arrives(root: &Path, path: &str, content: &str) {
    wait(&format!("{path} in {}", root.display()), || {
        text(root, path).as_deref() == Some(content)
    });
}

/// Waits until all are the same, without anybody calling `sync`.
#[track_caller]
fn become_the_same(home: &Home, stations: [&Workstation; 2]) {
    wait("the trees to be the same", || {
        // Something may vanish while it is compared.
        stations
            .iter()
            .all(|station| tree::compare(&station.folder, &home.drive()).is_ok())
    });
    home.same_everywhere(&stations);
}

#[test]
fn edits_arrive_both_ways() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "before", "it began");
    let _watches = watching([&laptop, &desktop]);
    arrives(&desktop.folder, "before", "it began");
    put(&laptop.folder, "from the laptop", "one");
    arrives(&desktop.folder, "from the laptop", "one");
    put(&desktop.folder, "from the laptop", "two");
    arrives(&laptop.folder, "from the laptop", "two");
    for n in 0..10 {
        put(&laptop.folder, "ping", n.to_string());
        arrives(&desktop.folder, "ping", &n.to_string());
        put(&desktop.folder, "ping", format!("{n} back"));
        arrives(&laptop.folder, "ping", &format!("{n} back"));
    }
    become_the_same(&home, [&laptop, &desktop]);
    assert!(!stands(&laptop.folder, "ping (conflict"));
    assert_eq!(
        common::users_names(&laptop.folder).len(),
        3,
        "no conflict was made"
    );
}

#[test]
fn new_folders_arrive_with_what_is_in_them() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let _watches = watching([&laptop, &desktop]);
    // The kernel's watch of a folder begins a little after the folder does.
    for n in 0..20 {
        put(&laptop.folder, &format!("{n}/a/b/c/d/file"), n.to_string());
        put(&laptop.folder, &format!("{n}/a/b/other"), n.to_string());
    }
    fs::create_dir_all(laptop.folder.join("empty/empty")).expect("folders");
    become_the_same(&home, [&laptop, &desktop]);
    assert_eq!(
        text(&desktop.folder, "19/a/b/c/d/file").as_deref(),
        Some("19")
    );
    // And they are watched from now on, on both sides.
    put(&laptop.folder, "3/a/b/c/d/file", "edited");
    arrives(&desktop.folder, "3/a/b/c/d/file", "edited");
    put(&desktop.folder, "4/a/b/c/d/file", "edited");
    arrives(&laptop.folder, "4/a/b/c/d/file", "edited");
}

#[test]
fn renames_and_deletes_arrive() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    for n in 0..50 {
        put(
            &laptop.folder,
            &format!("dir/{}/{n}", n % 5),
            noise(n, 2000),
        );
    }
    put(&laptop.folder, "file", "file");
    let _watches = watching([&laptop, &desktop]);
    become_the_same(&home, [&laptop, &desktop]);
    fs::rename(laptop.folder.join("dir"), laptop.folder.join("other")).expect("rename");
    fs::rename(
        laptop.folder.join("file"),
        laptop.folder.join("other/3/file"),
    )
    .expect("rename");
    wait("the renames", || {
        !stands(&desktop.folder, "dir") && stands(&desktop.folder, "other/3/file")
    });
    become_the_same(&home, [&laptop, &desktop]);
    // What was renamed is still watched.
    put(&laptop.folder, "other/1/6", "edited");
    arrives(&desktop.folder, "other/1/6", "edited");
    put(&desktop.folder, "other/2/7", "edited");
    arrives(&laptop.folder, "other/2/7", "edited");
    fs::remove_file(desktop.folder.join("other/3/file")).expect("remove");
    fs::remove_dir_all(laptop.folder.join("other/4")).expect("remove");
    wait("the deletes", || {
        !stands(&desktop.folder, "other/4") && !stands(&laptop.folder, "other/3/file")
    });
    become_the_same(&home, [&laptop, &desktop]);
    assert_eq!(common::users_names(&laptop.folder), ["other"]);
}

#[test]
fn a_burst_of_five_hundred_files_arrives() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let _watches = watching([&laptop, &desktop]);
    for n in 0..500 {
        put(&laptop.folder, &format!("{}/{n}", n % 7), n.to_string());
        put(&desktop.folder, &format!("desktop/{n}"), n.to_string());
    }
    wait("the last", || {
        stands(&desktop.folder, "2/499") && stands(&laptop.folder, "desktop/499")
    });
    become_the_same(&home, [&laptop, &desktop]);
    assert_eq!(common::contents(&laptop.folder).len(), 500);
}

#[test]
fn a_file_that_is_being_written_is_not_sent_half() {
    let (_home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let _watches = watching([&laptop, &desktop]);
    // A new folder, so that the folder's own event is about the file as well.
    fs::create_dir(laptop.folder.join("new")).expect("folder");
    let (source, target) = (
        laptop.folder.join("new/growing"),
        desktop.folder.join("new/growing"),
    );
    let mut states = HashSet::from([Digest::of(b"")]);
    let mut content = Vec::new();
    let writing = AtomicBool::new(true);
    let seen = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = HashSet::new();
            while writing.load(Ordering::Relaxed) {
                seen.extend(fs::read(&target).ok().map(|found| Digest::of(&found)));
                std::thread::yield_now();
            }
            seen
        });
        let mut file = fs::File::create(&source).expect("create");
        // Never quiet, for as long as several quiet times. A pause is what is tested here.
        for n in 0..60 {
            let line = format!("{n} {}\n", "x".repeat(1000));
            file.write_all(line.as_bytes()).expect("write");
            content.extend(line.as_bytes());
            if n % 20 == 19 {
                // In between somebody else wakes the round.
                put(&laptop.folder, &format!("other {n}"), "wakes");
            }
            std::thread::sleep(raspbox::watch::QUIET / 5);
        }
        drop(file);
        states.insert(Digest::of(&content));
        wait("the whole of it", || {
            fs::read(&target).is_ok_and(|found| found == content)
        });
        writing.store(false, Ordering::Relaxed);
        watcher.join().expect("it looked")
    });
    assert!(
        seen.is_subset(&states),
        "{} half-written states arrived",
        seen.difference(&states).count()
    );
}

#[test]
fn an_appliance_that_starts_again_is_found_again() {
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let _watches = watching([&laptop, &desktop]);
    put(&laptop.folder, "a", "before");
    arrives(&desktop.folder, "a", "before");
    for way in ["killed", "stopped"] {
        if way == "killed" {
            home.appliance.kill().expect("killed");
        } else {
            home.appliance.stop().expect("stopped");
        }
        put(&laptop.folder, "a", format!("while {way}"));
        put(&desktop.folder, "b", format!("while {way}"));
        home.appliance.restart().expect("started");
        arrives(&desktop.folder, "a", &format!("while {way}"));
        arrives(&laptop.folder, "b", &format!("while {way}"));
        // And live again in both directions.
        put(&desktop.folder, "a", format!("after being {way}"));
        arrives(&laptop.folder, "a", &format!("after being {way}"));
        put(&laptop.folder, "b", format!("after being {way}"));
        arrives(&desktop.folder, "b", &format!("after being {way}"));
    }
    become_the_same(&home, [&laptop, &desktop]);
    assert_eq!(common::users_names(&laptop.folder), ["a", "b"]);
}

#[test]
fn a_signal_ends_watch_cleanly_and_what_was_written_meanwhile_is_synced_later() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let mut watches = watching([&laptop, &desktop]);
    for watch in &mut watches {
        assert_eq!(watch.stop().expect("stopped").code(), Some(0));
    }
    put(&laptop.folder, "a", "later");
    assert!(synced(&laptop).moved());
    home.settle(&[&desktop, &laptop]);
}

#[test]
fn a_sync_beside_a_watch_of_the_same_folder_does_no_harm() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let _watches = watching([&laptop, &desktop]);
    for n in 0..5 {
        put(&laptop.folder, &format!("{n}"), "content");
        put(&desktop.folder, "edited", n.to_string());
        assert_eq!(common::round(&laptop).code, 0);
        assert_eq!(common::round(&desktop).code, 0);
    }
    become_the_same(&home, [&laptop, &desktop]);
    put(&desktop.folder, "edited", "at the end");
    arrives(&laptop.folder, "edited", "at the end");
}

#[test]
fn what_ignored_files_do_wakes_nobody_and_a_new_pattern_holds_at_once() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let _watches = watching([&laptop, &desktop]);
    put(&laptop.folder, ".raspboxignore", "*.log\nbuild/\n");
    arrives(&desktop.folder, ".raspboxignore", "*.log\nbuild/\n");
    put(&laptop.folder, "a.log", "ignored");
    put(&laptop.folder, "build/out", "ignored");
    put(&laptop.folder, "kept", "kept");
    arrives(&desktop.folder, "kept", "kept");
    put(&laptop.folder, "build/out2", "ignored");
    put(&laptop.folder, "kept", "more");
    arrives(&desktop.folder, "kept", "more");
    for name in ["a.log", "build"] {
        assert!(!stands(&home.drive(), name), "{name}");
    }
}
