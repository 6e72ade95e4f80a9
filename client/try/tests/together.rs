//! Workstations that sync with one appliance in turn: what one does, the others get.

mod common;

use common::{
    Home, contents, home, names, noise, output, put, round, round_with, set_time, stands, synced,
    text, users_names,
};
use raspbox_try::bed::Workstation;
use raspbox_try::tree;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

#[test]
fn what_one_creates_edits_and_deletes_the_others_get() {
    let (home, [laptop, desktop, phone]) = home(["laptop", "desktop", "phone"]);
    let all = [&laptop, &desktop, &phone];
    put(&laptop.folder, "notes.txt", "first");
    put(&laptop.folder, "deep/er/still/file", "deep");
    home.settle(&all);
    assert_eq!(
        text(&phone.folder, "deep/er/still/file").as_deref(),
        Some("deep")
    );

    put(&phone.folder, "notes.txt", "second, and longer");
    put(&desktop.folder, "from the desktop", "");
    home.settle(&all);
    assert_eq!(
        text(&laptop.folder, "notes.txt").as_deref(),
        Some("second, and longer")
    );
    assert_eq!(
        text(&laptop.folder, "from the desktop").as_deref(),
        Some("")
    );

    fs::remove_file(desktop.folder.join("notes.txt")).expect("remove");
    fs::remove_dir_all(desktop.folder.join("deep/er")).expect("remove");
    home.settle(&all);
    assert_eq!(users_names(&laptop.folder), ["deep", "from the desktop"]);
    assert_eq!(names(&phone.folder.join("deep")), [""; 0]);
}

#[test]
fn an_edit_that_keeps_size_and_time_arrives() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "a", "one");
    set_time(&laptop.folder.join("a"), 1_000_000_000);
    home.settle(&[&laptop, &desktop]);
    put(&laptop.folder, "a", "two");
    set_time(&laptop.folder.join("a"), 1_000_000_000);
    home.settle(&[&laptop, &desktop]);
    assert_eq!(text(&desktop.folder, "a").as_deref(), Some("two"));
}

#[test]
fn the_second_sync_moves_nothing() {
    let (_home, [laptop, desktop]) = home(["laptop", "desktop"]);
    tree::make_sample(&laptop.folder).expect("a sample");
    assert!(synced(&laptop).moved());
    assert!(!synced(&laptop).moved());
    assert!(synced(&desktop).moved());
    for station in [&desktop, &laptop, &desktop] {
        let round = synced(station);
        assert!(!round.moved(), "{round:#?}");
        assert_eq!(round.count("sent_bytes") + round.count("received_bytes"), 0);
    }
}

#[test]
fn a_rename_moves_no_content() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "file", noise(1, 300_000));
    put(&laptop.folder, "album/1/a", noise(2, 300_000));
    put(&laptop.folder, "album/1/b", noise(3, 300_000));
    put(&laptop.folder, "album/c", noise(4, 300_000));
    home.settle(&[&laptop, &desktop]);

    let moves = |from: &str, to: &str| {
        fs::create_dir_all(laptop.folder.join(to).parent().expect("a parent")).expect("folder");
        fs::rename(laptop.folder.join(from), laptop.folder.join(to)).expect("rename");
        let (there, here) = (synced(&laptop), synced(&desktop));
        assert_eq!(there.count("sent_bytes"), 0, "{from} {there:#?}");
        assert_eq!(here.count("received_bytes"), 0, "{from} {here:#?}");
        assert_eq!(
            (there.count("moved"), here.count("moved")),
            (1, 1),
            "{from} {there:#?} {here:#?}"
        );
        assert!(
            !stands(&desktop.folder, from) && stands(&desktop.folder, to),
            "{from}"
        );
        home.settle(&[&laptop, &desktop]);
    };
    moves("file", "file with another name");
    moves("album", "pictures");
    moves("pictures/1", "first");
    moves("first/a", "new/folder/a");
    // Case only.
    moves("first", "First");
}

#[test]
fn a_file_that_is_renamed_and_edited_arrives_as_it_is() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "dir/a", noise(1, 1000));
    put(&laptop.folder, "dir/b", noise(2, 1000));
    home.settle(&[&laptop, &desktop]);
    fs::rename(laptop.folder.join("dir"), laptop.folder.join("moved")).expect("rename");
    put(&laptop.folder, "moved/a", "edited");
    put(&laptop.folder, "moved/new", "new");
    home.settle(&[&laptop, &desktop]);
    assert_eq!(users_names(&desktop.folder), ["moved"]);
    assert_eq!(text(&desktop.folder, "moved/a").as_deref(), Some("edited"));
}

#[test]
fn two_files_that_change_names_arrive_so() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "a", "A");
    put(&laptop.folder, "b", "B");
    home.settle(&[&laptop, &desktop]);
    for (from, to) in [("a", "c"), ("b", "a"), ("c", "b")] {
        fs::rename(laptop.folder.join(from), laptop.folder.join(to)).expect("rename");
    }
    home.settle(&[&laptop, &desktop]);
    assert_eq!(text(&desktop.folder, "a").as_deref(), Some("B"));
    assert_eq!(text(&desktop.folder, "b").as_deref(), Some("A"));
    assert_eq!(users_names(&desktop.folder), ["a", "b"]);
}

#[test]
fn a_rename_here_and_an_edit_there_both_hold() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "a", "one");
    home.settle(&[&laptop, &desktop]);
    fs::rename(laptop.folder.join("a"), laptop.folder.join("b")).expect("rename");
    put(&desktop.folder, "a", "edited");
    home.settle(&[&desktop, &laptop]);
    // The edit is somewhere, under the old name or the new.
    assert!(contents(&laptop.folder).contains(&raspbox_protocol::Digest::of(b"edited")));
}

#[test]
fn empty_folders_bits_and_times_go_along() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fs::create_dir_all(laptop.folder.join("empty/in empty")).expect("folders");
    put(&laptop.folder, "run.sh", "#!/bin/sh\n");
    put(&laptop.folder, "old", "old");
    put(&laptop.folder, "older", "older");
    set_time(&laptop.folder.join("old"), 86_400);
    set_time(&laptop.folder.join("older"), 1_000_000_007);
    let mode = |station: &Workstation, mode| {
        let run = station.folder.join("run.sh");
        fs::set_permissions(run, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    let executable = |station: &Workstation| {
        let run = station.folder.join("run.sh");
        run.metadata().expect("there").permissions().mode() & 0o111 != 0
    };
    mode(&laptop, 0o755);
    home.settle(&[&laptop, &desktop]);
    assert!(desktop.folder.join("empty/in empty").is_dir());
    assert!(executable(&desktop));
    let time = |path: &str| desktop.folder.join(path).metadata().expect("there").mtime();
    assert_eq!((time("old"), time("older")), (86_400, 1_000_000_007));

    mode(&desktop, 0o644);
    fs::remove_dir(desktop.folder.join("empty/in empty")).expect("remove");
    let (up, down) = (synced(&desktop), synced(&laptop));
    assert_eq!(up.count("sent_bytes") + down.count("received_bytes"), 0);
    home.settle(&[&laptop, &desktop]);
    assert!(!executable(&laptop));
    assert!(!stands(&laptop.folder, "empty/in empty") && stands(&laptop.folder, "empty"));
}

#[test]
fn symlinks_are_kept_and_never_followed() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let outside = home.dir().join("outside");
    put(&outside, "secret", "not to be synced");
    put(&laptop.folder, "dir/file", "in it");
    let link = |station: &Workstation, target: &str, name: &str| {
        symlink(target, station.folder.join(name)).expect("a symlink");
    };
    link(&laptop, "dir/file", "to a file");
    link(&laptop, "dir", "to a folder");
    link(&laptop, "nowhere at all", "dangling");
    link(&laptop, outside.to_str().expect("UTF-8"), "out");
    link(&laptop, "../../..", "up");
    home.settle(&[&laptop, &desktop]);
    let target = |name: &str| fs::read_link(desktop.folder.join(name)).expect("a symlink");
    assert_eq!(target("to a file"), Path::new("dir/file"));
    assert_eq!(target("to a folder"), Path::new("dir"));
    assert_eq!(target("dangling"), Path::new("nowhere at all"));
    assert_eq!(target("out"), outside);
    let secret = raspbox_protocol::Digest::of(b"not to be synced");
    assert!(!contents(&home.drive()).contains(&secret));

    // Changed target, symlink to file and back, folder to symlink out.
    fs::remove_file(desktop.folder.join("dangling")).expect("remove");
    link(&desktop, "elsewhere", "dangling");
    fs::remove_file(desktop.folder.join("to a file")).expect("remove");
    put(&desktop.folder, "to a file", "a file now");
    fs::remove_dir_all(desktop.folder.join("dir")).expect("remove");
    link(&desktop, outside.to_str().expect("UTF-8"), "dir");
    home.settle(&[&desktop, &laptop]);
    assert_eq!(
        text(&laptop.folder, "to a file").as_deref(),
        Some("a file now")
    );
    assert_eq!(
        fs::read_link(laptop.folder.join("dangling")).expect("kept"),
        Path::new("elsewhere")
    );
    assert_eq!(
        names(&outside),
        ["secret"],
        "nothing is written or deleted through a symlink"
    );
    assert_eq!(
        text(&outside, "secret").as_deref(),
        Some("not to be synced")
    );
}

#[test]
fn a_file_that_arrives_below_what_is_a_symlink_here_is_not_written_through_it() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let outside = home.dir().join("outside");
    put(&outside, "kept", "kept");
    put(&laptop.folder, "dir/a", "a");
    home.settle(&[&laptop, &desktop]);
    // Both at once: one adds to the folder, the other replaces it by a symlink.
    put(&laptop.folder, "dir/b", "b");
    fs::remove_dir_all(desktop.folder.join("dir")).expect("remove");
    symlink(&outside, desktop.folder.join("dir")).expect("a symlink");
    synced(&laptop);
    for _ in 0..2 {
        round(&desktop);
        round(&laptop);
    }
    home.settle(&[&desktop, &laptop]);
    assert_eq!(names(&outside), ["kept"]);
    assert!(contents(&desktop.folder).contains(&raspbox_protocol::Digest::of(b"b")));
}

/// The one conflict copy in a folder.
#[track_caller]
fn conflict_copy(station: &Workstation, device: &str, begin: &str, end: &str) -> String {
    let all = names(&station.folder);
    let mark = format!("{begin} (conflict {device} ");
    let copies: Vec<&String> = all
        .iter()
        .filter(|n| n.starts_with(&mark) && n.ends_with(&format!("){end}")))
        .collect();
    assert_eq!(copies.len(), 1, "{all:?}");
    copies[0].clone()
}

#[test]
fn of_two_edits_the_first_keeps_the_name_and_both_end_up_everywhere() {
    let (home, [laptop, desktop, phone]) = home(["laptop", "desktop", "phone"]);
    put(&laptop.folder, "plan.txt", "base");
    home.settle(&[&laptop, &desktop, &phone]);
    put(&laptop.folder, "plan.txt", "the laptop's");
    put(&desktop.folder, "plan.txt", "the desktop's");
    synced(&laptop);
    let conflict = round(&desktop);
    assert_eq!(conflict.code, 1, "{conflict:#?}");
    let copies = conflict.list("conflicts");
    let said = "conflict plan.txt: yours is plan (conflict desktop ";
    assert!(copies[0].starts_with(said), "{conflict:#?}");
    home.settle(&[&desktop, &laptop, &phone]);
    for station in [&laptop, &desktop, &phone] {
        assert_eq!(
            text(&station.folder, "plan.txt").as_deref(),
            Some("the laptop's")
        );
        let copy = conflict_copy(station, "desktop", "plan", ".txt");
        assert_eq!(
            text(&station.folder, &copy).as_deref(),
            Some("the desktop's")
        );
        assert_eq!(users_names(&station.folder).len(), 2);
    }
}

#[test]
fn three_edits_of_one_file_are_all_kept() {
    let (home, [laptop, desktop, phone]) = home(["laptop", "desktop", "phone"]);
    let all = [&laptop, &desktop, &phone];
    put(&laptop.folder, "a", "base");
    home.settle(&all);
    for station in all {
        put(&station.folder, "a", format!("of {}", station.name));
    }
    home.settle(&all);
    let kept = contents(&laptop.folder);
    for station in all {
        let edit = raspbox_protocol::Digest::of(format!("of {}", station.name).as_bytes());
        assert!(kept.contains(&edit), "the edit of {}", station.name);
    }
    assert_eq!(users_names(&laptop.folder).len(), 3);
}

#[test]
fn the_same_edit_on_both_is_no_conflict() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "a", "base");
    home.settle(&[&laptop, &desktop]);
    put(&laptop.folder, "a", "alike");
    put(&desktop.folder, "a", "alike");
    home.settle(&[&laptop, &desktop]);
    assert_eq!(users_names(&laptop.folder), ["a"]);
}

#[test]
fn an_edit_beats_a_delete_both_ways() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    for name in ["a", "b", "dir/c", "tree/d", "tree/e"] {
        put(&laptop.folder, name, "base");
    }
    home.settle(&[&laptop, &desktop]);
    // Deleted first, edited later; edited first, deleted later; a folder deleted around an edit.
    fs::remove_file(laptop.folder.join("a")).expect("remove");
    put(&desktop.folder, "a", "edited");
    put(&laptop.folder, "b", "edited");
    fs::remove_file(desktop.folder.join("b")).expect("remove");
    fs::remove_dir_all(laptop.folder.join("dir")).expect("remove");
    put(&desktop.folder, "dir/c", "edited");
    put(&laptop.folder, "tree/d", "edited");
    fs::remove_dir_all(desktop.folder.join("tree")).expect("remove");
    home.settle(&[&laptop, &desktop]);
    for name in ["a", "b", "dir/c", "tree/d"] {
        assert_eq!(
            text(&laptop.folder, name).as_deref(),
            Some("edited"),
            "{name}"
        );
    }
    assert!(!stands(&laptop.folder, "tree/e"));
    assert_eq!(users_names(&laptop.folder), ["a", "b", "dir", "tree"]);
}

#[test]
fn what_is_ignored_later_is_deleted_nowhere() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "target/out.bin", "built");
    put(&laptop.folder, "debug.log", "log");
    put(&laptop.folder, "kept", "kept");
    home.settle(&[&laptop, &desktop]);

    put(&laptop.folder, ".raspboxignore", "target/\n*.log\n");
    synced(&laptop);
    // Deleted here, edited there: none of the sync's business any more.
    fs::remove_dir_all(laptop.folder.join("target")).expect("remove");
    put(&laptop.folder, "debug.log", "more log");
    for _ in 0..2 {
        synced(&laptop);
        synced(&desktop);
    }
    assert_eq!(
        text(&desktop.folder, "target/out.bin").as_deref(),
        Some("built")
    );
    assert_eq!(text(&desktop.folder, "debug.log").as_deref(), Some("log"));
    assert_eq!(
        text(&home.drive(), "target/out.bin").as_deref(),
        Some("built")
    );
    put(&laptop.folder, "new.log", "never sent");
    synced(&laptop);
    assert!(!stands(&home.drive(), "new.log"));
    // Ignored no more: what was deleted meanwhile was deleted, the edit is an edit.
    put(&laptop.folder, ".raspboxignore", "*.tmp\n");
    home.settle(&[&laptop, &desktop]);
    assert_eq!(
        text(&desktop.folder, "debug.log").as_deref(),
        Some("more log")
    );
    assert_eq!(
        text(&desktop.folder, "new.log").as_deref(),
        Some("never sent")
    );
}

#[test]
fn editors_temporary_files_stay_where_they_are() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "notes.txt~", "backup");
    put(&laptop.folder, ".notes.txt.swp", "swap");
    put(&laptop.folder, "notes.txt", "notes");
    synced(&laptop);
    synced(&desktop);
    assert_eq!(users_names(&home.drive()), ["notes.txt"]);
    assert_eq!(users_names(&desktop.folder), ["notes.txt"]);
}

#[test]
fn a_folder_replaced_by_a_file_and_back_arrives() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "x/in/it", "deep");
    put(&laptop.folder, "y", "file");
    home.settle(&[&laptop, &desktop]);
    fs::remove_dir_all(laptop.folder.join("x")).expect("remove");
    put(&laptop.folder, "x", "a file now");
    fs::remove_file(laptop.folder.join("y")).expect("remove");
    put(&laptop.folder, "y/in", "a folder now");
    home.settle(&[&laptop, &desktop]);
    assert_eq!(text(&desktop.folder, "x").as_deref(), Some("a file now"));
    assert_eq!(
        text(&desktop.folder, "y/in").as_deref(),
        Some("a folder now")
    );

    fs::remove_file(desktop.folder.join("x")).expect("remove");
    put(&desktop.folder, "x/again", "a folder again");
    fs::remove_dir_all(desktop.folder.join("y")).expect("remove");
    put(&desktop.folder, "y", "a file again");
    home.settle(&[&desktop, &laptop]);
    assert_eq!(
        text(&laptop.folder, "x/again").as_deref(),
        Some("a folder again")
    );
    assert_eq!(text(&laptop.folder, "y").as_deref(), Some("a file again"));
}

#[test]
fn names_of_all_kinds_arrive_as_they_are() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let long = "ü".repeat(127);
    let all = [
        "Straße/Ärger ß.txt",
        "日本語/ファイル",
        "🎉🎊",
        "العربية",
        " leading and trailing ",
        "%20 #?&=;'\"`$()",
        "-rf",
        "--help",
        "a\\b",
        "*",
        "con",
        ".hidden",
        "...",
        "[x]{y}",
        "e\u{301}",
        "tab\u{a0}nbsp",
        &long,
        "250 ok",
        "QUIT",
        "!x",
    ];
    for name in all {
        put(&laptop.folder, name, name);
    }
    let round = synced(&laptop);
    assert!(round.list("problems").is_empty(), "{round:#?}");
    home.settle(&[&laptop, &desktop]);
    for name in all {
        assert_eq!(text(&desktop.folder, name).as_deref(), Some(name));
    }
}

#[test]
fn ten_megabytes_there_and_back() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let first = noise(1, 10 << 20);
    put(&laptop.folder, "big", &first);
    home.settle(&[&laptop, &desktop]);
    assert!(fs::read(desktop.folder.join("big")).expect("there") == first);
    let mut second = first;
    second[5 << 20] ^= 1;
    second.truncate((10 << 20) - 1);
    put(&desktop.folder, "big", &second);
    home.settle(&[&desktop, &laptop]);
    assert!(fs::read(laptop.folder.join("big")).expect("there") == second);
}

#[test]
fn ten_thousand_small_files_there_and_gone_again() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    for n in 0..10_000 {
        put(
            &laptop.folder,
            &format!("many/{:02}/{n}", n % 50),
            format!("file {n}"),
        );
    }
    assert_eq!(synced(&laptop).count("sent"), 10_051);
    assert_eq!(synced(&desktop).count("received"), 10_051);
    home.same_everywhere(&[&laptop, &desktop]);
    // Renamed as a whole: not one byte.
    fs::rename(desktop.folder.join("many"), desktop.folder.join("moved")).expect("rename");
    assert_eq!(synced(&desktop).count("sent_bytes"), 0);
    assert_eq!(synced(&laptop).count("received_bytes"), 0);
    home.same_everywhere(&[&laptop, &desktop]);
    fs::remove_dir_all(laptop.folder.join("moved")).expect("remove");
    let round = round_with(&laptop, &["--confirm-deletions"]);
    assert_eq!(
        (round.code, round.count("deleted")),
        (0, 10_051),
        "{round:#?}"
    );
    let round = round_with(&desktop, &["--confirm-deletions"]);
    assert_eq!(round.code, 0, "{round:#?}");
    home.settle(&[&laptop, &desktop]);
    assert_eq!(users_names(&desktop.folder), [""; 0]);
}

#[test]
fn one_gibibyte_there() {
    let (_home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let piece = noise(7, 8 << 20);
    let mut file = fs::File::create(laptop.folder.join("huge")).expect("create");
    for number in 0..128_u64 {
        file.write_all(&number.to_le_bytes()).expect("write");
        file.write_all(&piece[8..]).expect("write");
    }
    drop(file);
    assert_eq!(synced(&laptop).count("sent_bytes"), 1 << 30);
    assert_eq!(synced(&desktop).count("received_bytes"), 1 << 30);
    let mut file = fs::File::open(desktop.folder.join("huge")).expect("there");
    let mut found = vec![0; 8 << 20];
    for number in 0..128_u64 {
        file.read_exact(&mut found).expect("read");
        assert!(
            found[..8] == number.to_le_bytes() && found[8..] == piece[8..],
            "{number}"
        );
    }
    assert_eq!(file.read(&mut found).expect("read"), 0);
    assert!(!synced(&laptop).moved());
}

#[test]
fn two_folders_with_content_of_their_own_become_one() {
    let home = Home::new();
    let (laptop, desktop) = (home.unpaired("laptop"), home.unpaired("desktop"));
    for station in [&laptop, &desktop] {
        put(&station.folder, "alike.txt", "alike");
        put(
            &station.folder,
            "both/differs.txt",
            format!("of {}", station.name),
        );
        put(
            &station.folder,
            &format!("both/only {}", station.name),
            "only here",
        );
    }
    set_time(&laptop.folder.join("alike.txt"), 1_000_000_000);
    set_time(&desktop.folder.join("alike.txt"), 1_100_000_000);
    laptop.pair(&home.appliance).expect("paired");
    synced(&laptop);
    desktop.pair(&home.appliance).expect("paired");
    let first = round(&desktop);
    assert_eq!(first.code, 1, "{first:#?}");
    assert_eq!(first.list("conflicts").len(), 1, "{first:#?}");
    assert_eq!(first.count("deleted"), 0);
    home.settle_but_for_times(&[&desktop, &laptop]);
    assert_eq!(
        text(&desktop.folder, "both/differs.txt").as_deref(),
        Some("of laptop")
    );
    assert_eq!(names(&laptop.folder.join("both")).len(), 4);
    assert!(contents(&laptop.folder).contains(&raspbox_protocol::Digest::of(b"of desktop")));
    assert_eq!(users_names(&laptop.folder), ["alike.txt", "both"]);
}

#[test]
fn what_a_plain_ftp_client_writes_arrives() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "edited by ftp", "before");
    put(&laptop.folder, "deleted by ftp", "before");
    home.settle(&[&laptop, &desktop]);
    let source = home.dir().join("to send");
    fs::write(&source, "from curl").expect("write");
    let curl = |args: &[&str], path: &str| {
        let (port, password) = (home.appliance.port, &home.appliance.password);
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "--insecure",
            "--ssl-reqd",
            "--user",
            &format!("raspbox:{password}"),
        ]);
        command
            .args(args)
            .arg(format!("ftp://127.0.0.1:{port}/{path}"));
        let output = output(&mut command);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let source = source.to_str().expect("UTF-8");
    curl(
        &["--upload-file", source, "--ftp-create-dirs"],
        "new/folder/file",
    );
    curl(&["--upload-file", source], "edited%20by%20ftp");
    curl(&["--quote", "DELE /deleted by ftp", "--list-only"], "");
    home.settle(&[&laptop, &desktop]);
    for station in [&laptop, &desktop] {
        assert_eq!(
            text(&station.folder, "new/folder/file").as_deref(),
            Some("from curl")
        );
        assert_eq!(
            text(&station.folder, "edited by ftp").as_deref(),
            Some("from curl")
        );
        assert!(!stands(&station.folder, "deleted by ftp"));
    }
}

#[test]
fn what_was_changed_on_the_drive_while_it_was_elsewhere_arrives() {
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "dir/edited", "before");
    put(&laptop.folder, "dir/deleted", "before");
    put(&laptop.folder, "dir/renamed", "the renamed one");
    home.settle(&[&laptop, &desktop]);
    home.appliance.stop().expect("stopped");
    let drive = home.drive();
    put(&drive, "dir/edited", "after!");
    put(&drive, "dir/new", "new");
    fs::remove_file(drive.join("dir/deleted")).expect("remove");
    fs::rename(drive.join("dir/renamed"), drive.join("other name")).expect("rename");
    home.appliance.restart().expect("started");
    home.settle(&[&laptop, &desktop]);
    for station in [&laptop, &desktop] {
        assert_eq!(
            text(&station.folder, "dir/edited").as_deref(),
            Some("after!")
        );
        assert_eq!(text(&station.folder, "dir/new").as_deref(), Some("new"));
        assert_eq!(
            text(&station.folder, "other name").as_deref(),
            Some("the renamed one")
        );
        assert!(!stands(&station.folder, "dir/deleted"));
    }
}

#[test]
fn two_folders_of_one_workstation_and_one_state_are_both_synced() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let mut second = home.unpaired("second");
    second.state_dir.clone_from(&laptop.state_dir);
    second.pair(&home.appliance).expect("paired");
    put(&laptop.folder, "a", "a");
    // `sync` without a folder means both.
    assert_eq!(
        output(&mut laptop.command(&["sync"])).status.code(),
        Some(0)
    );
    assert_eq!(
        output(&mut laptop.command(&["sync"])).status.code(),
        Some(0)
    );
    synced(&desktop);
    assert_eq!(text(&second.folder, "a").as_deref(), Some("a"));
    assert_eq!(text(&desktop.folder, "a").as_deref(), Some("a"));
}
