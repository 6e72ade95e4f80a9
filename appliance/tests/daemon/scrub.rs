//! What rots on the drive is found while nobody is served, told, and not handed out as good.

use crate::harness::{Daemon, eventually};
use raspbox_protocol::Digest;
use raspbox_protocol::damage::{self, Damage, Place};
use rusqlite::{Connection, params};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, UNIX_EPOCH};

fn journal(daemon: &Daemon) -> Connection {
    Connection::open(daemon.folder().join(".raspbox/journal.db")).unwrap()
}

/// Lets a file at the top rot: other bytes, and to the journal it looks as it did, and did long ago.
fn rot(daemon: &Daemon, name: &str, content: &[u8]) {
    let path = daemon.folder().join(name);
    fs::write(&path, content).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        .unwrap();
    let now = fs::metadata(&path).unwrap();
    let mtime = now.mtime() * 1_000_000_000;
    let ctime = now.ctime() * 1_000_000_000 + now.ctime_nsec();
    let sql = "UPDATE entry SET mtime_ns = ?1, disk_mtime_ns = ?1, ctime_ns = ?2 WHERE path = ?3";
    let changed = journal(daemon).execute(sql, params![mtime, ctime, name]);
    assert_eq!(changed.unwrap(), 1);
}

/// As if a month had gone by.
fn forget_last_pass(daemon: &Daemon) {
    let sql = "DELETE FROM meta WHERE key = 'scrub_ended_ns'";
    journal(daemon).execute(sql, []).unwrap();
}

fn has_ended(daemon: &Daemon) -> bool {
    let sql = "SELECT count(*) FROM meta WHERE key = 'scrub_ended_ns'";
    let count: i64 = journal(daemon)
        .query_row(sql, [], |row| row.get(0))
        .unwrap();
    count == 1
}

fn told(daemon: &Daemon) -> Vec<Damage> {
    let mut client = daemon.client();
    let text = client.take_text("RETR /.raspbox/damaged");
    damage::parse(&text).unwrap()
}

fn status(daemon: &Daemon) -> String {
    String::from_utf8(daemon.control(&["status"]).stdout).unwrap()
}

#[test]
fn what_rotted_is_found_told_and_remembered() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.store("a", b"good content").expect(226);
    client.store("b", b"another").expect(226);
    drop(client);
    // The first pass may have had nothing to do.
    eventually("a pass ends", || has_ended(&daemon));
    assert_eq!(told(&daemon), []);
    rot(&daemon, "a", b"evil content");
    forget_last_pass(&daemon);
    let daemon = daemon.restart();
    eventually("the damage is found", || !told(&daemon).is_empty());
    let found = told(&daemon);
    let Place::File { path, .. } = &found[0].place else {
        panic!("{found:?}")
    };
    assert_eq!((found.len(), path.as_str()), (1, "a"));
    assert_eq!(found[0].expected, Digest::of(b"good content"));
    assert_eq!(found[0].found, Some(Digest::of(b"evil content")));
    eventually("the status says it", || {
        status(&daemon).contains("DAMAGED: 1 file, run 'raspbox verify --repair'")
    });
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("damaged:"));
    assert!(line.is_some_and(|line| line.contains("path=a")), "{log}");
    let daemon = daemon.restart();
    assert_eq!(told(&daemon), found, "also after a restart");
    // An ordinary client gets what there is.
    let mut client = daemon.client();
    assert_eq!(client.retrieve("a").unwrap(), b"evil content");
    // And what it puts there ends it.
    client.store("a", b"good content").expect(226);
    drop(client);
    assert!(told(&daemon).iter().all(|d| d.place == Place::Kept));
    eventually("the status says it", || {
        !status(&daemon).contains("DAMAGED: 1 file,")
    });
}

#[test]
fn it_can_be_switched_off() {
    let daemon = Daemon::with("[scrub]\nevery_days = 0\n");
    let mut client = daemon.client();
    client.store("a", b"good content").expect(226);
    rot(&daemon, "a", b"evil content");
    // The list is there all the same.
    assert_eq!(told(&daemon), []);
    assert!(!has_ended(&daemon));
}

#[test]
fn it_ends_with_the_daemon_and_goes_on_with_the_next() {
    // So slow that a pass over this takes minutes.
    let daemon = Daemon::with("[scrub]\nmib_per_second = 1\n");
    let mut client = daemon.client();
    let content: Vec<u8> = (0..40 << 20).map(|n: u32| (n % 251) as u8).collect();
    client.store("z", &content).expect(226);
    client.store("a", b"small").expect(226);
    drop(client);
    forget_last_pass(&daemon);
    let mut daemon = daemon.restart();
    let thread_reads = |daemon: &Daemon| {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
        let names = tasks
            .flatten()
            .map(|task| fs::read_to_string(task.path().join("comm")));
        names.flatten().any(|name| name.trim() == "scrub")
    };
    eventually("the scrub begins", || thread_reads(&daemon));
    eventually("the large file is open", || {
        let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
        let mut targets = open
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok());
        targets.any(|target| target.ends_with("drive/z"))
    });
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(daemon.wait().success());
    assert!(!has_ended(&daemon));
}
