//! Files that can't be read or written, or not be named.

use crate::common::{Round, home, names, output, put, round, synced, text, users_names};
use raspbox_try::bed::Workstation;
use raspbox_try::tree;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The client as somebody who isn't root, whom permissions hold for.
fn as_nobody(station: &Workstation, args: &[&str]) -> Round {
    const NOBODY: u32 = 65_534;
    let whose = output(
        Command::new("chown")
            .args(["-R", "65534:65534"])
            .args([&station.folder, &station.state_dir]),
    );
    assert!(
        whose.status.success(),
        "{}",
        String::from_utf8_lossy(&whose.stderr)
    );
    let mut command = station.command(&["sync", "--json"]);
    Round::of(&output(command.args(args).uid(NOBODY).gid(NOBODY)))
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: only root may be somebody else");
    }
    root
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

#[test]
fn what_may_not_be_read_is_said_and_deleted_nowhere() {
    if !is_root() {
        return;
    }
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "secret", "secret");
    put(&laptop.folder, "closed/file", "in it");
    put(&laptop.folder, "open", "open");
    assert_eq!(as_nobody(&laptop, &[]).code, 0);
    synced(&desktop);
    set_mode(&laptop.folder.join("secret"), 0);
    set_mode(&laptop.folder.join("closed"), 0);
    put(&laptop.folder, "unreadable and new", "new");
    set_mode(&laptop.folder.join("unreadable and new"), 0);
    put(&laptop.folder, "open", "edited");
    let unread = as_nobody(&laptop, &[]);
    assert_eq!(unread.code, 1, "{unread:#?}");
    for name in ["closed", "unreadable and new"] {
        unread.says(&[name, "cannot be read", "ermission denied"]);
    }
    synced(&desktop);
    assert_eq!(text(&desktop.folder, "open").as_deref(), Some("edited"));
    assert_eq!(text(&desktop.folder, "secret").as_deref(), Some("secret"));
    assert_eq!(
        text(&desktop.folder, "closed/file").as_deref(),
        Some("in it")
    );
    // Edited elsewhere, it isn't overwritten blindly either.
    put(&desktop.folder, "closed/file", "edited");
    synced(&desktop);
    assert_eq!(as_nobody(&laptop, &[]).code, 1);
    set_mode(&laptop.folder.join("secret"), 0o600);
    set_mode(&laptop.folder.join("closed"), 0o700);
    set_mode(&laptop.folder.join("unreadable and new"), 0o600);
    assert_eq!(as_nobody(&laptop, &[]).code, 0);
    home.settle(&[&desktop]);
    tree::compare(&laptop.folder, &desktop.folder).expect("the same");
    assert_eq!(
        text(&laptop.folder, "closed/file").as_deref(),
        Some("edited")
    );
}

#[test]
fn what_may_not_be_written_is_said_and_the_rest_comes() {
    if !is_root() {
        return;
    }
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "dir/a", "a");
    put(&laptop.folder, "dir/gone", "gone");
    synced(&laptop);
    assert_eq!(as_nobody(&desktop, &[]).code, 0);
    put(&laptop.folder, "dir/a", "edited");
    put(&laptop.folder, "dir/new", "new");
    put(&laptop.folder, "other/new", "new");
    fs::remove_file(laptop.folder.join("dir/gone")).expect("remove");
    synced(&laptop);
    set_mode(&desktop.folder.join("dir"), 0o555);
    let denied = as_nobody(&desktop, &[]);
    assert_eq!(denied.code, 1, "{denied:#?}");
    for name in ["dir/a", "dir/new", "dir/gone"] {
        denied.says(&[name, "ermission denied"]);
    }
    assert_eq!(text(&desktop.folder, "other/new").as_deref(), Some("new"));
    assert_eq!(text(&desktop.folder, "dir/a").as_deref(), Some("a"));
    set_mode(&desktop.folder.join("dir"), 0o755);
    assert_eq!(as_nobody(&desktop, &[]).code, 0);
    home.settle(&[&laptop]);
    tree::compare(&laptop.folder, &desktop.folder).expect("the same");
    assert_eq!(names(&desktop.folder.join(".raspbox/staging")), [""; 0]);
}

#[test]
fn pipes_and_sockets_stay_where_they_are() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "a", "a");
    put(&laptop.folder, "was a file", "was a file");
    home.settle(&[&laptop, &desktop]);
    let fifo =
        |name: &str| nix::unistd::mkfifo(&laptop.folder.join(name), nix::sys::stat::Mode::S_IRWXU);
    fifo("pipe").expect("a pipe");
    fs::remove_file(laptop.folder.join("was a file")).expect("remove");
    fifo("was a file").expect("a pipe");
    let _socket = UnixListener::bind(laptop.folder.join("socket")).expect("a socket");
    put(&laptop.folder, "b", "b");
    let special = round(&laptop);
    assert_eq!(special.code, 1, "{special:#?}");
    for name in ["pipe", "socket", "was a file"] {
        special.says(&[name, "is a socket, pipe or device"]);
    }
    synced(&desktop);
    assert_eq!(users_names(&desktop.folder), ["a", "b", "was a file"]);
    for name in ["pipe", "socket", "was a file"] {
        fs::remove_file(laptop.folder.join(name)).expect("remove");
    }
    home.settle(&[&laptop, &desktop]);
    assert_eq!(users_names(&desktop.folder), ["a", "b"]);
}

#[test]
fn names_that_cannot_be_synced_are_said_and_the_rest_goes() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let bad: [&[u8]; 3] = [b"latin1 \xfc", b"two\nlines", b"bell\x07"];
    put(&laptop.folder, "dir/good", "good");
    for name in bad {
        fs::write(
            laptop.folder.join("dir").join(OsStr::from_bytes(name)),
            "bad",
        )
        .expect("write");
    }
    fs::create_dir(laptop.folder.join(OsStr::from_bytes(b"folder \xff"))).expect("a folder");
    symlink(OsStr::from_bytes(b"to \xff"), laptop.folder.join("link")).expect("a symlink");
    let named = round(&laptop);
    assert_eq!(named.code, 1, "{named:#?}");
    for words in [
        "dir/latin1",
        "dir/two\\nlines",
        "dir/bell",
        "folder ",
        "link",
    ] {
        named.says(&[words, "can't be synced"]);
    }
    synced(&desktop);
    assert_eq!(names(&desktop.folder.join("dir")), ["good"]);
    // A folder that holds such things isn't removed with them.
    fs::remove_dir_all(desktop.folder.join("dir")).expect("remove");
    synced(&desktop);
    let kept = round(&laptop);
    assert_eq!(kept.code, 1, "{kept:#?}");
    assert!(bad.iter().all(|name| {
        laptop
            .folder
            .join("dir")
            .join(OsStr::from_bytes(name))
            .exists()
    }));
    for (n, name) in bad.iter().enumerate() {
        let old = laptop.folder.join("dir").join(OsStr::from_bytes(name));
        fs::rename(old, laptop.folder.join(format!("renamed {n}"))).expect("rename");
    }
    fs::remove_dir(laptop.folder.join(OsStr::from_bytes(b"folder \xff"))).expect("remove");
    fs::remove_file(laptop.folder.join("link")).expect("remove");
    home.settle(&[&laptop, &desktop]);
    assert_eq!(
        users_names(&desktop.folder)
            .iter()
            .filter(|name| name.starts_with("renamed"))
            .count(),
        3
    );
}
