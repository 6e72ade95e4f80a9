//! What would be done, and how it stands.

use crate::brakes::fill;
use crate::brakes::status;
use crate::common::{home, noise, output, put, round, stands, synced};
use crate::refused::address;
use raspbox_try::tree;
use std::fs;

#[test]
fn a_dry_run_says_everything_and_does_nothing() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 20);
    put(&laptop.folder, "moves", noise(1, 5000));
    put(&laptop.folder, "both", "base");
    home.settle(&[&laptop, &desktop]);
    put(&desktop.folder, "comes", "comes");
    put(&desktop.folder, "both", "theirs");
    fs::remove_file(desktop.folder.join("dir 0/0")).expect("remove");
    synced(&desktop);
    put(&laptop.folder, "goes", "goes");
    put(&laptop.folder, "both", "ours");
    fs::remove_file(laptop.folder.join("dir 1/1")).expect("remove");
    fs::rename(laptop.folder.join("moves"), laptop.folder.join("moved")).expect("rename");
    let before = [
        tree::read(&laptop.folder).expect("a tree"),
        tree::read(&home.drive()).expect("a tree"),
    ];
    for _ in 0..2 {
        let dry = output(laptop.command(&["sync", "--dry-run"]).arg(&laptop.folder));
        assert_eq!(dry.status.code(), Some(0), "{dry:?}");
        let said = String::from_utf8_lossy(&dry.stdout).into_owned();
        for (what, path) in [
            ("conflict", "both"),
            ("send", "goes"),
            ("delete there", "dir 1/1"),
            ("delete here", "dir 0/0"),
            ("receive", "comes"),
            ("move there", "moves -> moved"),
            ("nothing was done", ""),
        ] {
            let found = said
                .lines()
                .any(|line| line.contains(what) && line.contains(path));
            assert!(found, "{what} {path}:\n{said}");
        }
    }
    let after = [
        tree::read(&laptop.folder).expect("a tree"),
        tree::read(&home.drive()).expect("a tree"),
    ];
    assert!(before == after);
    assert_eq!(
        status(&laptop).json["result"],
        "in-sync",
        "a dry run isn't a round"
    );
    assert_eq!(round(&laptop).code, 1);
    home.settle(&[&laptop, &desktop]);
    assert!(stands(&desktop.folder, "goes") && stands(&desktop.folder, "moved"));
}

#[test]
fn status_tells_what_is_paired_and_how_it_stands() {
    let (home, [laptop]) = home(["laptop"]);
    let never = status(&laptop);
    assert_eq!(never.code, 0);
    assert_eq!(never.json["folder"], laptop.folder.to_str().expect("UTF-8"));
    assert_eq!(never.json["with"], address(&home));
    assert_eq!(never.json["device"], "laptop");
    assert!(never.json["at"].is_null(), "{never:#?}");
    put(&laptop.folder, "a", "a");
    put(&laptop.folder, "b\n", "b");
    assert_eq!(round(&laptop).code, 1);
    let stands = status(&laptop);
    assert_eq!(stands.code, 1);
    assert_eq!(stands.json["result"], "attention");
    assert_eq!((stands.count("sent"), stands.count("sent_bytes")), (1, 1));
    assert!(stands.count("at") > 1_000_000_000);
    assert!(stands.list("problems")[0].contains("b\\n"), "{stands:#?}");
    let plain = output(&mut laptop.command(&["status"]));
    let plain = String::from_utf8_lossy(&plain.stdout).into_owned();
    assert!(
        plain.contains("127.0.0.1") && plain.contains("b\\n can't be synced"),
        "{plain}"
    );
}
