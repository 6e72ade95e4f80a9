//! Files that change while they are sent or fetched.

use crate::common::{
    Round, contents, home, names, noise, put, set_time, synced, text, users_names, wait,
};
use raspbox_protocol::Digest;
use raspbox_try::bed::Workstation;
use std::fs;
use std::path::Path;
use std::process::Stdio;

/// Whether a process has this file open.
fn has_open(pid: u32, path: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    open.filter_map(|fd| fs::read_link(fd.path()).ok())
        .any(|target| target == path)
}

/// Lets a sync begin, does something to a file that it has open when `reached` holds too, and waits
/// for its end.
fn sync_disturbed(
    station: &Workstation,
    file: &Path,
    reached: impl Fn() -> bool,
    disturb: impl FnOnce(),
) -> Round {
    let mut command = station.command(&["sync", "--json"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a client");
    wait("the file to be read", || {
        assert!(
            child.try_wait().expect("its state").is_none(),
            "it was over before"
        );
        has_open(child.id(), file) && reached()
    });
    disturb();
    Round::of(&child.wait_with_output().expect("its output"))
}

#[test]
fn a_file_that_vanishes_while_it_is_read_is_no_trouble() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let large = laptop.folder.join("large");
    let make = || {
        let file = fs::File::create(&large).expect("create");
        file.set_len(400 << 20).expect("its length");
    };
    make();
    put(&laptop.folder, "another", "another");
    let begun = || {
        home.own("staging").read_dir().is_ok_and(|mut all| {
            all.any(|e| e.is_ok_and(|e| e.metadata().is_ok_and(|m| m.len() > 0)))
        })
    };
    // While it is hashed: it never was.
    let round = sync_disturbed(
        &laptop,
        &large,
        || true,
        || fs::remove_file(&large).expect("remove"),
    );
    assert_eq!(round.code, 0, "{round:#?}");
    assert_eq!(users_names(&home.drive()), ["another"]);
    // While it is sent: it comes whole or not, and goes with the next round.
    make();
    let round = sync_disturbed(&laptop, &large, begun, || {
        fs::remove_file(&large).expect("remove");
    });
    assert_eq!(round.code, 0, "{round:#?}");
    home.settle(&[&laptop, &desktop]);
    assert_eq!(users_names(&desktop.folder), ["another"]);
    // While it is sent, it becomes another.
    make();
    let round = sync_disturbed(&laptop, &large, begun, || {
        fs::write(&large, "short now").expect("write");
    });
    assert!(round.code <= 1, "{round:#?}");
    home.settle(&[&laptop, &desktop]);
    assert_eq!(text(&desktop.folder, "large").as_deref(), Some("short now"));
}

/// Lets a sync begin, does something once a part of a content has come down, and waits for its end.
fn sync_disturbed_while_receiving(station: &Workstation, disturb: impl FnOnce()) -> Round {
    let staging = station.folder.join(".raspbox/staging");
    let mut command = station.command(&["sync", "--json"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("a client");
    wait("content to come", || {
        assert!(
            child.try_wait().expect("its state").is_none(),
            "it was over before"
        );
        !names(&staging).is_empty()
    });
    disturb();
    Round::of(&child.wait_with_output().expect("its output"))
}

#[test]
fn what_is_edited_while_the_new_content_comes_down_is_kept_beside_it() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    for name in ["edited", "replaced", "deleted", "made a folder"] {
        put(&laptop.folder, name, "before");
    }
    // Old enough that their hashes are believed, by their looks alone.
    for name in ["edited", "replaced"] {
        set_time(&laptop.folder.join(name), 1_000_000_000);
    }
    home.settle(&[&laptop, &desktop]);
    for name in ["edited", "replaced", "deleted", "made a folder", "new"] {
        put(&laptop.folder, name, format!("{name} by the laptop"));
    }
    // While this one comes, the others are as they were looked at, and not placed yet.
    put(&laptop.folder, "a large one", noise(1, 60 << 20));
    synced(&laptop);
    let here = &desktop.folder;
    let round = sync_disturbed_while_receiving(&desktop, || {
        put(here, "edited", "edited by the desktop");
        put(here, "aside", "replaced by the desktop");
        fs::rename(here.join("aside"), here.join("replaced")).expect("rename");
        fs::remove_file(here.join("deleted")).expect("remove");
        fs::remove_file(here.join("made a folder")).expect("remove");
        put(here, "made a folder/in it", "in it");
        put(here, "new", "new by the desktop");
    });
    assert_eq!(round.code, 1, "{round:#?}");
    assert!(round.list("conflicts").len() >= 3, "{round:#?}");
    home.settle(&[&desktop, &laptop]);
    let all = contents(&laptop.folder);
    for content in [
        "edited by the laptop",
        "edited by the desktop",
        "replaced by the laptop",
        "replaced by the desktop",
        "deleted by the laptop",
        "made a folder by the laptop",
        "in it",
        "new by the laptop",
        "new by the desktop",
    ] {
        assert!(all.contains(&Digest::of(content.as_bytes())), "{content}");
    }
    assert_eq!(
        text(&laptop.folder, "edited").as_deref(),
        Some("edited by the laptop")
    );
}
