//! Ways out of the drive.

use crate::harness::Daemon;
use crate::oracle::Oracle;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// As they are spelled.
const OUT: [&str; 13] = [
    "../outside/secret",
    "/../outside/secret",
    "/./../outside/secret",
    "//../outside/secret",
    "/x/../../outside/secret",
    "/folder/../../outside/secret",
    "/folder/..//../outside/secret",
    "..//outside/secret",
    "/..\\outside\\secret",
    "/%2e%2e/outside/secret",
    "/link/secret",
    "/folder/link/secret",
    "/.raspbox/../../outside/secret",
];

#[test]
fn no_spelling_leads_out() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let outside = daemon.folder().parent().unwrap().join("outside");
    fs::create_dir(daemon.folder().join("folder")).unwrap();
    symlink(&outside, daemon.folder().join("link")).unwrap();
    symlink("../../outside", daemon.folder().join("folder/link")).unwrap();
    let mut client = daemon.client();
    client.store("/mine", b"x").expect(226);
    for path in OUT {
        for verb in [
            "SIZE",
            "MDTM",
            "MLST",
            "DELE",
            "RMD",
            "SITE HASH",
            "SITE CHMOD 755",
            "SITE UTIME 20010909014640",
        ] {
            let reply = client.command(&format!("{verb} {path}"));
            assert!(reply.code >= 400, "{verb} {path}: {}", reply.text);
        }
        let read = client.retrieve(path);
        assert!(read.is_err(), "RETR {path}");
        let wrote = client.store(path, b"evil");
        assert!(
            wrote.code != 226 || path.contains(['\\', '%']),
            "STOR {path}"
        );
        let reply = client.command("RNFR /mine");
        reply.expect(350);
        let moved = client.command(&format!("RNTO {path}"));
        if moved.code == 250 {
            // A name like any other, in the drive.
            assert!(path.contains(['\\', '%']), "RNTO {path}");
            client.store("/mine", b"x").expect(226);
        }
    }
    for folder in ["..", "/..", "/link", "/folder/link", "/link/.."] {
        client.command(&format!("CWD {folder}"));
        let listed = client.take_text("NLST");
        assert!(
            listed.lines().all(|name| name != "secret"),
            "CWD {folder}: {listed}"
        );
        client.command("CWD /").expect(250);
    }
    oracle.after(&daemon);
}

#[test]
fn a_folder_that_becomes_a_symlink_in_between_leads_nowhere() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let (drive, stop) = (daemon.folder(), AtomicBool::new(false));
    let outside = drive.parent().unwrap().join("outside");
    fs::create_dir(drive.join("real")).unwrap();
    fs::write(drive.join("real/secret"), "harmless").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| swap(&drive, &outside, &stop));
        let mut client = daemon.client();
        for round in 0..60 {
            if let Ok(content) = client.retrieve("/swapped/secret") {
                assert_ne!(content, b"secret", "read from outside");
            }
            client.store(&format!("/swapped/{round}"), b"evil");
            client.command(&format!("MKD /swapped/m{round}"));
            client.command("DELE /swapped/secret");
            fs::write(drive.join("real/secret"), "harmless").ok();
        }
        stop.store(true, Ordering::Relaxed);
    });
    oracle.after(&daemon);
}

/// Makes `swapped` a folder and a symlink out, in turn, without end.
fn swap(drive: &Path, outside: &Path, stop: &AtomicBool) {
    let swapped = drive.join("swapped");
    while !stop.load(Ordering::Relaxed) {
        fs::rename(drive.join("real"), &swapped).unwrap();
        fs::rename(&swapped, drive.join("real")).unwrap();
        symlink(outside, &swapped).unwrap();
        fs::remove_file(&swapped).unwrap();
    }
}

#[test]
fn a_rename_goes_into_none_of_our_own_folders() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let mut client = daemon.client();
    client.store("/mine", b"x").expect(226);
    for to in [
        "/.raspbox/x",
        "/.raspbox/staging/x",
        "/.raspbox/versions/x",
        "/.raspbox",
        "/x/../.raspbox/y",
        "/mine/x",
    ] {
        client.command("RNFR /mine").expect(350);
        let reply = client.command(&format!("RNTO {to}"));
        assert!(reply.code >= 500, "{to}: {}", reply.text);
    }
    for from in [
        "/.raspbox",
        "/.raspbox/journal.db",
        "/.raspbox/staging",
        "/",
    ] {
        let reply = client.command(&format!("RNFR {from}"));
        if reply.code == 350 {
            let reply = client.command("RNTO /taken");
            assert!(reply.code >= 500, "{from}: {}", reply.text);
        }
    }
    assert_eq!(daemon.content("mine").unwrap(), b"x");
    oracle.after(&daemon);
}

#[test]
fn paths_have_their_limits() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let mut client = daemon.client();
    for path in [
        format!("/{}", "x".repeat(256)),
        format!("/{}", "é".repeat(128)),
        "/x".repeat(129),
        "/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".repeat(120),
    ] {
        for verb in ["MKD", "SIZE", "DELE", "CWD", "MLST", "SITE HASH"] {
            let reply = client.command(&format!("{verb} {path}"));
            assert!(reply.code >= 400, "{verb} {} bytes", path.len());
        }
    }
    oracle.after(&daemon);
}
