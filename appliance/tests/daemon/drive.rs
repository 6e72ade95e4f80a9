//! A drive that comes and goes: a filesystem in memory, mounted and unmounted by the test.

use crate::client::Client;
use crate::harness::{Daemon, eventually};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::path::{Path, PathBuf};

/// What is mounted goes before the folder that it is mounted on.
struct Drive(PathBuf);

impl Drive {
    fn plug(daemon: &Daemon) -> Drive {
        let point = daemon.folder();
        let size = Some("size=64m");
        mount(
            Some("raspbox"),
            &point,
            Some("tmpfs"),
            MsFlags::empty(),
            size,
        )
        .unwrap();
        Drive(point)
    }

    /// Unplugged in whatever state it is.
    fn pull(self) {}

    /// What the kernel does after an error can't be had from a filesystem in memory: the same is mounted
    /// over itself, without the right to write.
    fn becomes_read_only(&self) {
        let none: Option<&str> = None;
        let mount = |flags| mount(Some(&self.0), &self.0, none, flags, none).unwrap();
        mount(MsFlags::MS_BIND);
        mount(MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
    }

    fn unmount(&self) -> nix::Result<()> {
        umount2(&self.0, MntFlags::empty())
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        while umount2(&self.0, MntFlags::MNT_DETACH).is_ok() {}
    }
}

/// Mounting is for root; CI is.
fn may_mount() -> bool {
    let root = nix::unistd::Uid::effective().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "CI runs as root");
    root
}

fn served(daemon: &Daemon) -> Client {
    let mut client = daemon.client();
    eventually("the drive is served", || {
        if !client.is_served() {
            client = daemon.client();
        }
        client.retrieve("/.raspbox/info").is_ok()
    });
    client
}

fn says(daemon: &Daemon, part: &str) {
    eventually(&format!("the status says {part:?}"), || {
        daemon.status().contains(part)
    });
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn without_a_drive_everything_is_refused_for_now() {
    let daemon = Daemon::without_a_drive();
    let mut client = daemon.client();
    for command in [
        "CWD /a",
        "SIZE a",
        "MDTM a",
        "DELE a",
        "MKD a",
        "RMD a",
        "RNFR a",
        "SITE RBX CLOCK",
        "SITE RBX RESULT 00000000000000000000000000000000",
        "SITE HASH a",
        "SITE UTIME 20200101000000 a",
        "SITE CHMOD 755 a",
    ] {
        let reply = client.command(command);
        assert_eq!(reply.code, 450, "{command}: {}", reply.text);
    }
    // libunftp 0.24 has but one code for these two. Neither shows a folder without its files.
    client.command("MLST a").expect(550);
    client.take("NLST").unwrap_err().expect(550);
    for command in [
        "RETR a",
        "LIST",
        "MLSD",
        "RETR /.raspbox/info",
        "RETR /.raspbox/tree",
        "RETR /.raspbox/damaged",
        "LIST /.raspbox/versions",
    ] {
        let reply = client.take(command).unwrap_err();
        assert_eq!(reply.code, 450, "{command}: {}", reply.text);
    }
    for path in ["a", "/.raspbox/commit/00000000000000000000000000000000"] {
        let reply = client.store(path, b"content");
        assert_eq!(reply.code, 450, "{path}: {}", reply.text);
    }
    assert!(is_empty(&daemon.folder()), "nothing lands on the SD card");
    says(&daemon, "DEGRADED: no drive. Plug in");
}

#[test]
fn a_drive_is_served_while_it_is_there() {
    if !may_mount() {
        return;
    }
    let daemon = Daemon::without_a_drive();
    let mut before = daemon.client();
    let drive = Drive::plug(&daemon);
    let mut client = served(&daemon);
    assert!(before.is_served(), "who waits need not connect again");
    client.store("a", b"first").expect(226);
    let info = client.take_text("RETR /.raspbox/info");
    says(&daemon, "OK: ");

    drive.pull();
    assert!(client.is_gone(), "a session has one drive");
    assert!(before.is_gone());
    says(&daemon, "no drive");
    let reply = daemon.client().store("b", b"lost?");
    assert_eq!(reply.code, 450);
    assert!(is_empty(&daemon.folder()));

    let drive = Drive::plug(&daemon);
    let mut client = served(&daemon);
    let other = client.take_text("RETR /.raspbox/info");
    let id = |info: &str| {
        info.lines()
            .find(|line| line.starts_with("drive"))
            .map(str::to_owned)
    };
    assert_ne!(id(&info).unwrap(), id(&other).unwrap());
    assert_eq!(client.retrieve("a").unwrap_err().code, 550, "another drive");
    drive.pull();
}

#[test]
fn a_drive_that_is_to_leave_is_let_go() {
    if !may_mount() {
        return;
    }
    let daemon = Daemon::without_a_drive();
    let drive = Drive::plug(&daemon);
    let mut client = served(&daemon);
    client.store("a", b"a").expect(226);
    client.command("CWD /").expect(250);
    drive.unmount().expect_err("it is in use");
    let leaving = r#"{"device":"/dev/sdx1","label":"RASPBOX","filesystem":"ext4","check":"clean",
                      "leaving":true}"#;
    fs::write(daemon.run_dir().join("drive.json"), leaving).unwrap();
    eventually("it is let go", || drive.unmount().is_ok());
    assert!(client.is_gone());
    says(&daemon, "no drive");
}

#[test]
fn a_drive_that_cannot_be_written_to_is_for_saving_files_from() {
    if !may_mount() {
        return;
    }
    let daemon = Daemon::without_a_drive();
    let drive = Drive::plug(&daemon);
    let mut client = served(&daemon);
    client.store("a", b"only copy").expect(226);
    drive.becomes_read_only();
    assert!(client.is_gone());
    says(&daemon, "can only be read");
    let mut client = daemon.client();
    assert_eq!(client.retrieve("a").unwrap(), b"only copy");
    assert!(client.take_text("LIST").contains(" a\r\n"));
    client.command("SIZE a").expect(213);
    for command in ["DELE a", "MKD b", "SITE RBX CLOCK"] {
        client.command(command).expect(450);
    }
    client.store("a", b"another").expect(450);
    // Nobody syncs with it: what is missing there was perhaps lost, not deleted.
    for special in ["info", "tree"] {
        let reply = client.retrieve(&format!("/.raspbox/{special}"));
        assert_eq!(reply.unwrap_err().code, 450, "{special}");
    }
    drive.pull();
}

#[test]
fn sticks_that_are_not_served_are_said() {
    let daemon = Daemon::without_a_drive();
    let sticks = daemon.run_dir().join("sticks");
    fs::create_dir(&sticks).unwrap();
    let stick = r#"{"device":"/dev/sdb1","why":"it isn't raspbox's"}"#;
    fs::write(sticks.join("sdb1.json"), stick).unwrap();
    says(&daemon, "no drive, but /dev/sdb1: it isn't raspbox's");
}
