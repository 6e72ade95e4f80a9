//! SQLite on the simulated disk.

use crate::{AT, Bed};
use raspbox_beneath::sim::{Fault, Traits, Unsynced};
use raspbox_beneath::vfs_of;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// A connection whose commits are durable.
fn connect(mode: &str) -> rusqlite::Result<Connection> {
    let path = Path::new(AT).join("db");
    let vfs = vfs_of(&path).expect("it is on the disk");
    let db = Connection::open_with_flags_and_vfs(&path, OpenFlags::default(), vfs)?;
    db.pragma_update(None, "synchronous", "EXTRA")?;
    db.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |_| Ok(()))?;
    Ok(db)
}

/// Adds rows one by one, each in its transaction; returns how many were committed for sure.
fn work(mode: &str) -> i64 {
    let mut done = 0;
    let mut add_all = || -> rusqlite::Result<()> {
        let db = connect(mode)?;
        db.execute_batch("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, x BLOB)")?;
        for n in 0..6_u8 {
            db.execute("INSERT INTO t (x) VALUES (?)", [vec![n; 3_000]])?;
            done += 1;
            if n == 3 {
                db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            }
        }
        Ok(())
    };
    match add_all() {
        Ok(()) | Err(rusqlite::Error::SqliteFailure(..)) => done,
        Err(error) => panic!("{error}"),
    }
}

/// Lets every step of the work fail in turn, crashes where told, and looks whether what was
/// committed is there and nothing is broken.
fn survives(mode: &str, fault: Fault, crash: impl Fn(u64) -> Option<Unsynced>) {
    let bed = Bed::new(Traits::ext4());
    assert_eq!(work(mode), 6);
    let steps = bed.disk.steps();
    assert!(steps > 50, "{steps}");
    drop(bed);
    for step in 0..steps {
        let bed = Bed::new(Traits::ext4());
        bed.disk.fail(step, fault);
        let done = work(mode);
        bed.disk.forgive();
        if let Some(unsynced) = crash(step) {
            bed.disk.crash(unsynced);
        }
        let db = connect(mode).expect("opens again");
        let check = "PRAGMA integrity_check";
        let verdict: String = db.query_row(check, [], |row| row.get(0)).expect("looks");
        assert_eq!(verdict, "ok", "step {step}");
        let count = "SELECT count(*) FROM t";
        let found: i64 = db.query_row(count, [], |row| row.get(0)).unwrap_or(0);
        assert!(
            found == done || found == done + 1,
            "step {step}: {done} were committed, {found} are there"
        );
    }
}

#[test]
fn a_power_cut_at_any_step_loses_nothing_that_was_committed() {
    for mode in ["WAL", "DELETE"] {
        for fault in [Fault::Die, Fault::Torn] {
            survives(mode, fault, |_| Some(Unsynced::Dropped));
            survives(mode, fault, |_| Some(Unsynced::Kept));
            for seed in 0..5 {
                survives(mode, fault, |step| {
                    Some(Unsynced::Random(seed * 1_000 + step))
                });
            }
        }
    }
}

#[test]
fn an_error_at_any_step_breaks_nothing() {
    for mode in ["WAL", "DELETE"] {
        for fault in [Fault::Io, Fault::NoSpace, Fault::TooManyFiles] {
            survives(mode, fault, |_| None);
        }
    }
}

#[test]
fn connections_see_each_other_and_stand_in_each_others_way() {
    let bed = Bed::new(Traits::ext4());
    let one = connect("WAL").expect("opens");
    one.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        .expect("writes");
    let two = connect("WAL").expect("opens");
    two.busy_timeout(Duration::from_secs(10)).expect("set");
    let count = |db: &Connection| -> i64 {
        db.query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .expect("reads")
    };
    let snapshot = two.unchecked_transaction().expect("begins");
    assert_eq!(count(&two), 1);
    one.execute("INSERT INTO t VALUES (2)", []).expect("writes");
    assert_eq!((count(&one), count(&two)), (2, 1));
    drop(snapshot);
    assert_eq!(count(&two), 2);

    one.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (3)")
        .expect("writes");
    let before = bed.computer.now();
    let error = two
        .execute("INSERT INTO t VALUES (4)", [])
        .expect_err("locked");
    assert_eq!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy)
    );
    // It has waited, and no time went by outside.
    assert!(bed.computer.now().0 - before.0 > 9_000_000_000);
    one.execute_batch("COMMIT").expect("commits");
    two.execute("INSERT INTO t VALUES (4)", []).expect("writes");
    assert_eq!(count(&one), 4);
    drop((one, two));
    // The last one takes the log with it.
    assert_eq!(bed.top().names().expect("lists"), ["db"]);
}

#[test]
fn a_connection_of_before_a_crash_is_dead() {
    let bed = Bed::new(Traits::ext4());
    let db = connect("WAL").expect("opens");
    db.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        .expect("writes");
    bed.disk.crash(Unsynced::Kept);
    assert!(db.execute("INSERT INTO t VALUES (2)", []).is_err());
    let again = connect("WAL").expect("opens");
    again
        .execute("INSERT INTO t VALUES (3)", [])
        .expect("writes");
    drop(db);
    let all = "SELECT group_concat(x) FROM t";
    let all: String = again.query_row(all, [], |row| row.get(0)).expect("reads");
    assert_eq!(all, "1,3");
}
