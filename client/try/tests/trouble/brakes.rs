//! Rounds that stop before anything is done, and what it takes to go on.

use crate::common::{Round, home, output, put, round, round_with, synced, text, users_names, wait};
use raspbox_try::bed::Workstation;
use raspbox_try::tree;
use std::fs;
use std::path::Path;

pub(crate) fn fill(root: &Path, count: usize) {
    for n in 0..count {
        put(root, &format!("dir {}/{n}", n % 3), format!("file {n}"));
    }
}

pub(crate) fn count_files(root: &Path) -> usize {
    tree::read(root)
        .expect("a tree")
        .values()
        .filter(|e| matches!(e, tree::Entry::File(..)))
        .count()
}

#[track_caller]
pub(crate) fn halts(station: &Workstation, words: &[&str]) -> Round {
    let round = round(station);
    assert_eq!(round.code, 5, "{round:#?}");
    round.says(words);
    assert_eq!(status(station).code, 5);
    assert_eq!(status(station).json["result"], "halted");
    round
}

pub(crate) fn status(station: &Workstation) -> Round {
    Round::of(&output(&mut station.command(&["status", "--json"])))
}

#[test]
fn an_emptied_folder_deletes_nothing_until_it_is_confirmed() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 20);
    home.settle(&[&laptop, &desktop]);
    let empty = |station: &Workstation| {
        for name in users_names(&station.folder) {
            fs::remove_dir_all(station.folder.join(name)).expect("remove");
        }
    };
    empty(&laptop);
    halts(
        &laptop,
        &[
            "has nothing any more",
            "Nothing was done",
            "raspbox sync --confirm-deletions=23",
        ],
    );
    halts(&laptop, &["has nothing any more"]);
    assert_eq!(count_files(&home.drive()), 20);
    // A yes to something else is none to this.
    assert_eq!(round_with(&laptop, &["--confirm-changes"]).code, 5);
    assert_eq!(count_files(&home.drive()), 20);
    // The other one goes on.
    put(&desktop.folder, "new", "new");
    synced(&desktop);
    let confirmed = round_with(&laptop, &["--confirm-deletions=23"]);
    assert_eq!(confirmed.code, 0, "{confirmed:#?}");
    assert_eq!(users_names(&home.drive()), ["new"]);
    // The deletions are many for the other one as well: fewer than are asked about.
    assert_eq!(round_with(&desktop, &["--confirm-deletions"]).code, 0);
    home.settle(&[&laptop, &desktop]);
    assert_eq!(users_names(&desktop.folder), ["new"]);
}

#[test]
fn many_deletions_wait_for_a_yes_on_either_side() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 100);
    home.settle(&[&laptop, &desktop]);
    for n in 0..26 {
        fs::remove_file(laptop.folder.join(format!("dir {}/{n}", n % 3))).expect("remove");
    }
    put(&laptop.folder, "new", "new");
    let halt = halts(
        &laptop,
        &[
            "26 of 100 files",
            "on the appliance",
            "--confirm-deletions=26",
        ],
    );
    halt.says(&["dir 0/0"]);
    assert_eq!(count_files(&home.drive()), 100);
    assert_eq!(round_with(&laptop, &["--confirm-deletions"]).code, 0);
    assert_eq!(count_files(&home.drive()), 75);
    halts(
        &desktop,
        &["26 of 100 files", "on this computer", "--confirm-deletions"],
    );
    assert_eq!(count_files(&desktop.folder), 100);
    // A watch waits as well, and goes on when somebody has said yes.
    let _watch = desktop.watch().expect("a watch");
    wait("the watch to halt", || {
        status(&desktop).json["message"]
            .as_str()
            .is_some_and(|m| m.contains("26 of 100"))
    });
    assert_eq!(count_files(&desktop.folder), 100);
    assert_eq!(round_with(&desktop, &["--confirm-deletions"]).code, 0);
    assert_eq!(count_files(&desktop.folder), 75);
}

#[test]
fn a_folder_without_its_mark_is_another_one() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 20);
    home.settle(&[&laptop, &desktop]);
    let away = home.dir().join("away");
    // The disk isn't mounted: there is no folder, or an empty one.
    fs::rename(&laptop.folder, &away).expect("rename");
    halts(
        &laptop,
        &["the synced folder", "isn't there", "Nothing was done"],
    );
    fs::create_dir(&laptop.folder).expect("a folder");
    halts(&laptop, &["the synced folder", "mount"]);
    assert_eq!(
        round_with(&laptop, &["--confirm-deletions"]).code,
        5,
        "there is no yes to that"
    );
    // Or it has our folder, and not the mark in it.
    fs::create_dir(laptop.folder.join(".raspbox")).expect("a folder");
    halts(&laptop, &["the synced folder"]);
    // Or another one's.
    put(&laptop.folder, ".raspbox/pair", "somebody else's\n");
    halts(&laptop, &["the synced folder"]);
    assert_eq!(count_files(&home.drive()), 20);
    fs::remove_dir_all(&laptop.folder).expect("remove");
    fs::rename(&away, &laptop.folder).expect("rename");
    home.settle(&[&laptop, &desktop]);
}

#[test]
fn another_drive_is_not_taken_for_an_emptied_one() {
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 20);
    home.settle(&[&laptop, &desktop]);
    let (drive, away) = (home.drive(), home.dir().join("drive.away"));
    home.appliance.stop().expect("stopped");
    fs::rename(&drive, &away).expect("rename");
    fs::create_dir(&drive).expect("another drive");
    home.appliance.restart().expect("started");
    for station in [&laptop, &desktop] {
        halts(
            station,
            &[
                "another drive",
                "Nothing was done",
                "Plug the right drive back in",
                "raspbox unpair",
            ],
        );
        // No option is a yes to that.
        let all = ["--confirm-deletions", "--confirm-changes"];
        assert_eq!(round_with(station, &all).code, 5);
        assert_eq!(count_files(&station.folder), 20);
    }
    assert_eq!(users_names(&drive), [""; 0], "nothing is sent to it either");
    home.appliance.stop().expect("stopped");
    fs::remove_dir_all(&drive).expect("remove");
    fs::rename(&away, &drive).expect("rename");
    home.appliance.restart().expect("started");
    home.settle(&[&laptop, &desktop]);
}

/// Deletes the files from the first to before the last of those that [`fill`] made.
fn delete(root: &Path, files: std::ops::Range<usize>) {
    for n in files {
        fs::remove_file(root.join(format!("dir {}/{n}", n % 3))).expect("remove");
    }
}

#[test]
fn a_yes_is_to_what_was_shown_and_to_no_more() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 100);
    home.settle(&[&laptop, &desktop]);
    delete(&laptop.folder, 0..26);
    halts(&laptop, &["26 of 100 files", "--confirm-deletions=26"]);
    // Meanwhile something goes on deleting.
    delete(&laptop.folder, 26..27);
    let more = round_with(&laptop, &["--confirm-deletions=26"]);
    assert_eq!(more.code, 5, "{more:#?}");
    more.says(&["27 of 100 files", "--confirm-deletions=27"]);
    assert_eq!(count_files(&home.drive()), 100);
    assert_eq!(round_with(&laptop, &["--confirm-deletions=27"]).code, 0);
    assert_eq!(count_files(&home.drive()), 73);
}

#[test]
fn a_yes_is_for_one_round() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 100);
    home.settle(&[&laptop, &desktop]);
    delete(&laptop.folder, 0..30);
    halts(&laptop, &["30 of 100 files"]);
    assert_eq!(round_with(&laptop, &["--confirm-deletions"]).code, 0);
    delete(&laptop.folder, 30..60);
    halts(&laptop, &["30 of 70 files", "--confirm-deletions=30"]);
    assert_eq!(count_files(&home.drive()), 70);
}

#[test]
fn everything_changed_at_once_waits_for_a_yes_of_its_own() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 150);
    home.settle(&[&laptop, &desktop]);
    for n in 0..120 {
        put(&laptop.folder, &format!("dir {}/{n}", n % 3), "encrypted");
    }
    halts(
        &laptop,
        &[
            "120 of 150 files",
            "on the appliance",
            "raspbox sync --confirm-changes=120",
        ],
    );
    assert_eq!(round_with(&laptop, &["--confirm-deletions"]).code, 5);
    assert_eq!(round_with(&laptop, &["--confirm-changes=119"]).code, 5);
    assert_eq!(text(&home.drive(), "dir 0/0").as_deref(), Some("file 0"));
    assert_eq!(round_with(&laptop, &["--confirm-changes=120"]).code, 0);
    // And on the way down as well.
    halts(&desktop, &["120 of 150 files", "on this computer"]);
    assert_eq!(text(&desktop.folder, "dir 0/0").as_deref(), Some("file 0"));
    assert_eq!(round_with(&desktop, &["--confirm-changes"]).code, 0);
    home.settle(&[&laptop, &desktop]);
}

#[test]
fn renames_are_found_first_and_wait_for_nothing() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    for n in 0..60 {
        put(
            &laptop.folder,
            &format!("old/{n}"),
            format!("content {n} {}", "x".repeat(5_000)),
        );
    }
    home.settle(&[&laptop, &desktop]);
    fs::create_dir(laptop.folder.join("new")).expect("a folder");
    for n in 0..60 {
        let old = laptop.folder.join(format!("old/{n}"));
        fs::rename(old, laptop.folder.join(format!("new/renamed {n}"))).expect("rename");
    }
    for station in [&laptop, &desktop] {
        let renamed = synced(station);
        assert_eq!(renamed.count("moved"), 60, "{renamed:#?}");
    }
    home.settle(&[&laptop, &desktop]);
}

#[test]
fn of_several_folders_a_yes_says_which() {
    let (home, [laptop]) = home(["laptop"]);
    let mut second = laptop.clone();
    second.folder = home.dir().join("second");
    second.name = "laptop-2".into();
    second.pair(&home.appliance).expect("paired");
    for option in ["--confirm-deletions", "--confirm-changes=3"] {
        let unclear = output(&mut laptop.command(&["sync", option]));
        assert_eq!(unclear.status.code(), Some(2), "{unclear:?}");
        let clear = output(laptop.command(&["sync", option]).arg(&laptop.folder));
        assert_eq!(clear.status.code(), Some(0), "{clear:?}");
    }
}
