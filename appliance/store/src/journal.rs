//! The journal's file: opening it, its format, and the transactions on it.
//!
//! The journal is not a log but the state of the tree with, for each entry, the number of the change
//! that made it so ([`crate::rows`]); what is gone leaves a tombstone. So it stays as small as the
//! tree is, and "what changed since" is one range of an index.
//!
//! A path is kept with `/` as the byte 1. No name holds that, and it sorts before all that names do
//! hold, so the database's plain order of bytes is [`RelPath`]'s order, and a folder's contents are
//! one range of keys.

use crate::beneath::{Folder, Onto};
use crate::contents;
use crate::error::OpenError;
use nix::libc;
use raspbox_protocol::info::DriveId;
use raspbox_protocol::{Cursor, Epoch, RelPath, Version};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use std::cell::Cell;
use std::io;
use std::path::Path;
use std::time::Duration;

/// The newest format that is understood, `user_version` of the file.
const FORMAT: i64 = 1;

/// How long one connection waits for another. Only readers and a checkpoint can meet.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// How many absences are remembered; a client whose cursor is older compares the whole tree.
pub(crate) const TOMBSTONES_MAX: u32 = 200_000;

/// How many starts of the appliance a client may miss before it has to compare everything.
const LINEAGE_MAX: u32 = 10_000;

/// How many commits' outcomes are remembered.
pub(crate) const RESULTS_MAX: u32 = 1_000;

/// The journal's file in our own folder.
const FILE: &str = "journal.db";

const SCHEMA: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) WITHOUT ROWID;
CREATE TABLE entry (
    path TEXT PRIMARY KEY, kind INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    executable INTEGER NOT NULL, digest BLOB, target TEXT, version INTEGER NOT NULL,
    by TEXT NOT NULL,
    disk_mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
    recorded_ns INTEGER NOT NULL, since_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX entry_version ON entry (version);
CREATE TABLE tombstone (path TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX tombstone_version ON tombstone (version);
CREATE TABLE displaced (
    id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT, kind INTEGER NOT NULL, digest BLOB,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, executable INTEGER NOT NULL, target TEXT,
    version INTEGER NOT NULL, by TEXT NOT NULL, since_ns INTEGER NOT NULL,
    displaced_at_ns INTEGER NOT NULL, displaced_by TEXT NOT NULL, how INTEGER NOT NULL,
    moved_to TEXT
);
CREATE INDEX displaced_path ON displaced (path);
CREATE TABLE intent (
    staged TEXT PRIMARY KEY, path TEXT NOT NULL, source TEXT, digest BLOB, target TEXT
) WITHOUT ROWID;
CREATE TABLE result (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB UNIQUE NOT NULL,
    outcomes BLOB NOT NULL);
";

/// A journal that was opened.
#[derive(Debug)]
pub(crate) struct Journal {
    /// The one connection that writes.
    pub(crate) db: Connection,
    /// Its newest position.
    pub(crate) cursor: Cursor,
    /// Whether it was made just now: what is in our own folder is unknown to it.
    pub(crate) new: bool,
}

impl Journal {
    /// Opens the journal in our own folder; one that is broken is set aside for a new one.
    ///
    /// A journal of another drive (a folder copied from one to the other) keeps its contents and
    /// gets a new epoch.
    pub(crate) fn open(own: &Folder, at: &Path, drive: DriveId) -> Result<Journal, OpenError> {
        let path = at.join(FILE);
        let cannot = |source| OpenError::Journal {
            path: path.clone(),
            source,
        };
        let failed = |source| OpenError::Folder {
            path: at.into(),
            source,
        };
        let lost = own.look(FILE).map_err(failed)?.is_none();
        if lost {
            // A log without its database would be played into the new one.
            set_aside(own).map_err(failed)?;
        }
        // To SQLite a page that can't be read is a broken one (`unixRead`: EIO is `SQLITE_CORRUPT` in the
        // end). Most such errors don't come twice.
        let opened = match open_checked(&path) {
            Err(error) if is_broken(&error) => {
                tracing::warn!(path = %path.display(), %error, "journal broken, looking again");
                open_checked(&path)
            }
            opened => opened,
        };
        let (db, new) = match opened {
            Ok(db) => (db, lost),
            Err(error) if is_broken(&error) => {
                tracing::error!(path = %path.display(), %error, "journal broken, set aside");
                set_aside(own).map_err(failed)?;
                (open_checked(&path).map_err(cannot)?, true)
            }
            Err(error) => return Err(cannot(error)),
        };
        let format: i64 = db
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(cannot)?;
        let new = new || format == 0;
        match format {
            0 => make(&db, drive).map_err(cannot)?,
            FORMAT => adopt(&db, drive).map_err(cannot)?,
            found => return Err(OpenError::Newer { path, found }),
        }
        // Tables that came later; a raspboxd that doesn't know them needn't.
        db.execute_batch(crate::damage::SCHEMA).map_err(cannot)?;
        db.execute_batch(contents::SCHEMA).map_err(cannot)?;
        if contents::is_behind(&db).map_err(cannot)?
            && let Err(error) = contents::catch_up(&db)
        {
            // Where there is no room for them, say: recovery looks contents up one by one, and slower then.
            tracing::warn!(%error, "cannot prepare looking contents up");
        }
        let cursor = read_cursor(&db).map_err(cannot)?;
        Ok(Journal { db, cursor, new })
    }
}

/// A connection for reading; `at` is our own folder.
pub(crate) fn reader(at: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let db = connect(&at.join(FILE), flags)?;
    db.busy_timeout(BUSY_WAIT)?;
    db.pragma_update(None, "query_only", true)?;
    Ok(db)
}

/// The newest position.
pub(crate) fn read_cursor(db: &Connection) -> rusqlite::Result<Cursor> {
    let epoch = meta::<Vec<u8>>(db, "epoch")?;
    Ok(Cursor {
        epoch: Epoch(epoch.try_into().unwrap_or_default()),
        seq: meta::<i64>(db, "seq")?.cast_unsigned(),
    })
}

/// The position from which on absences are known.
pub(crate) fn read_floor(db: &Connection) -> rusqlite::Result<u64> {
    Ok(meta::<i64>(db, "floor_seq")?.cast_unsigned())
}

/// Gives the journal a new epoch: what clients know of it doesn't hold any more.
pub(crate) fn renew_epoch(db: &Connection) -> rusqlite::Result<()> {
    db.execute("DELETE FROM lineage", [])?;
    set_meta(db, "epoch", raspbox_beneath::random().as_slice())
}

/// Gives the journal a new epoch that goes on from the last one, at each start. What happened since
/// to a copy of it, or to the original that a copy is put in the place of, has another epoch: so it
/// is noticed, though the numbers may fit.
fn continue_epoch(db: &Connection) -> rusqlite::Result<()> {
    let last = read_cursor(db)?;
    db.execute(
        "INSERT OR REPLACE INTO lineage (epoch, ended) VALUES (?, ?)",
        params![last.epoch.0.as_slice(), last.seq.cast_signed()],
    )?;
    db.execute(
        "DELETE FROM lineage WHERE number <= (SELECT max(number) FROM lineage) - ?",
        [LINEAGE_MAX],
    )?;
    set_meta(db, "epoch", raspbox_beneath::random().as_slice())
}

/// Whether a position is one that this journal has been at.
pub(crate) fn knows(db: &Connection, cursor: Cursor) -> rusqlite::Result<bool> {
    let now = read_cursor(db)?;
    if cursor.epoch == now.epoch {
        return Ok(cursor.seq <= now.seq);
    }
    let sql = "SELECT ended FROM lineage WHERE epoch = ?";
    let ended: Option<i64> = db
        .prepare_cached(sql)?
        .query_row([cursor.epoch.0.as_slice()], |row| row.get(0))
        .optional()?;
    Ok(ended.is_some_and(|ended| cursor.seq <= ended.cast_unsigned()))
}

/// What the history's clock shows: not earlier than what has happened, and earlier than what will.
/// `time_ns` is the time that is believed.
pub(crate) fn clock(db: &Connection, time_ns: i64) -> rusqlite::Result<i64> {
    Ok(tick(time_ns, last(db)?) - 1)
}

/// The time of the newest change.
pub(crate) fn last(db: &Connection) -> rusqlite::Result<i64> {
    meta(db, "clock_ns")
}

/// The time of the next change: later than the last one, whatever clocks say.
fn tick(time_ns: i64, last: i64) -> i64 {
    time_ns.max(last.saturating_add(1))
}

/// When the history began, by its clock.
pub(crate) fn begun(db: &Connection) -> rusqlite::Result<i64> {
    meta(db, "begun_ns")
}

/// The system's clock, in nanoseconds since 1970. For the racy rule, and for the history's clock.
pub(crate) fn now_ns() -> i64 {
    raspbox_beneath::now().0
}

/// A path as the database keeps it.
pub(crate) fn key(path: &RelPath) -> String {
    path.as_str().replace('/', "\u{1}")
}

/// A path as the database kept it.
pub(crate) fn path(key: &str) -> rusqlite::Result<RelPath> {
    RelPath::parse(&key.replace('\u{1}', "/")).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// One transaction of the writer, with the number of the last change in it.
///
/// Dropped without [`Tx::commit`], nothing of it was.
#[derive(Debug)]
pub(crate) struct Tx<'c> {
    pub(crate) db: &'c Connection,
    seq: Cell<u64>,
    buried: Cell<u32>,
    open: Cell<bool>,
    time_ns: i64,
    now_ns: Cell<Option<i64>>,
}

impl<'c> Tx<'c> {
    /// Begins one; `time_ns` is the time that is believed.
    pub(crate) fn begin(db: &'c Connection, time_ns: i64) -> rusqlite::Result<Tx<'c>> {
        db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let tx = Tx {
            db,
            seq: Cell::new(0),
            buried: Cell::new(0),
            open: Cell::new(true),
            time_ns,
            now_ns: Cell::new(None),
        };
        tx.seq.set(meta::<i64>(db, "seq")?.cast_unsigned());
        Ok(tx)
    }

    /// The number of the last change.
    pub(crate) fn seq(&self) -> u64 {
        self.seq.get()
    }

    /// The time of everything in it, by the history's clock: later than all before it.
    pub(crate) fn now(&self) -> rusqlite::Result<i64> {
        if let Some(now) = self.now_ns.get() {
            return Ok(now);
        }
        let now = tick(self.time_ns, last(self.db)?);
        set_meta(self.db, "clock_ns", now)?;
        self.now_ns.set(Some(now));
        Ok(now)
    }

    /// A new change's number.
    pub(crate) fn next(&self) -> Version {
        self.seq.set(self.seq.get() + 1);
        Version(self.seq.get())
    }

    /// Notes that this many tombstones were written.
    pub(crate) fn buried(&self, tombstones: usize) {
        let more = u32::try_from(tombstones).unwrap_or(u32::MAX);
        self.buried.set(self.buried.get().saturating_add(more));
    }

    /// Makes what was done so far durable and goes on, so that a long scan is no long transaction.
    pub(crate) fn renew(&self) -> rusqlite::Result<()> {
        set_meta(self.db, "seq", self.seq.get().cast_signed())?;
        self.db.execute_batch("COMMIT; BEGIN IMMEDIATE")
    }

    /// Makes it durable. Returns the newest position.
    pub(crate) fn commit(self) -> rusqlite::Result<Cursor> {
        set_meta(self.db, "seq", self.seq.get().cast_signed())?;
        if is_time_to_prune(self.buried.get(), self.seq.get()) {
            prune_tombstones(self.db, TOMBSTONES_MAX)?;
        }
        let cursor = read_cursor(self.db)?;
        self.db.prepare_cached("COMMIT")?.execute([])?;
        self.open.set(false);
        Ok(cursor)
    }
}

impl Drop for Tx<'_> {
    fn drop(&mut self) {
        if self.open.get() && !self.db.is_autocommit() {
            // Where this fails the connection is beyond use, and the next BEGIN says so.
            let _ = self.db.execute_batch("ROLLBACK");
        }
    }
}

/// Whether it is to be looked if there are too many tombstones, after so many and at this number of the
/// last change. Counting them is a walk over an index; for a few at a time, now and then is enough.
fn is_time_to_prune(buried: u32, seq: u64) -> bool {
    buried >= 1_000 || (buried > 0 && seq.is_multiple_of(256))
}

/// Forgets the oldest tombstones beyond `max`, and notes from where on they are known.
pub(crate) fn prune_tombstones(db: &Connection, max: u32) -> rusqlite::Result<()> {
    let oldest: Option<i64> = db
        .prepare_cached("SELECT version FROM tombstone ORDER BY version DESC LIMIT 1 OFFSET ?")?
        .query_row([max], |row| row.get(0))
        .optional()?;
    if let Some(version) = oldest {
        db.execute("DELETE FROM tombstone WHERE version <= ?", [version])?;
        set_meta(db, "floor_seq", version)?;
    }
    Ok(())
}

pub(crate) fn meta<T: rusqlite::types::FromSql>(db: &Connection, key: &str) -> rusqlite::Result<T> {
    db.prepare_cached("SELECT value FROM meta WHERE key = ?")?
        .query_row([key], |row| row.get(0))
}

pub(crate) fn set_meta(
    db: &Connection,
    key: &str,
    value: impl rusqlite::ToSql,
) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?, ?)")?
        .execute(params![key, value])?;
    Ok(())
}

pub(crate) fn forget_meta(db: &Connection, key: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM meta WHERE key = ?")?
        .execute([key])?;
    Ok(())
}

/// A connection, on whatever disk the path is.
fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    match raspbox_beneath::vfs_of(path) {
        None => Connection::open_with_flags(path, flags),
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
    }
}

fn open_checked(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let db = connect(path, flags)?;
    db.busy_timeout(BUSY_WAIT)?;
    db.set_prepared_statement_cache_capacity(64);
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        Ok(db)
    } else {
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
            Some(verdict),
        ))
    }
}

fn is_broken(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

fn make(db: &Connection, drive: DriveId) -> rusqlite::Result<()> {
    db.execute_batch("BEGIN IMMEDIATE")?;
    db.execute_batch(SCHEMA)?;
    db.execute_batch(LINEAGE)?;
    set_meta(db, "drive", drive.0.as_slice())?;
    set_meta(db, "seq", 0)?;
    set_meta(db, "floor_seq", 0)?;
    let now = now_ns();
    set_meta(db, "begun_ns", now)?;
    set_meta(db, "clock_ns", now)?;
    renew_epoch(db)?;
    db.pragma_update(None, "user_version", FORMAT)?;
    db.execute_batch("COMMIT")
}

/// The epochs that came before, and where each ended.
const LINEAGE: &str = "CREATE TABLE IF NOT EXISTS lineage (
    number INTEGER PRIMARY KEY AUTOINCREMENT, epoch BLOB UNIQUE NOT NULL, ended INTEGER NOT NULL)";

/// What a journal lacks that was made before there was a history, which begins now.
const HISTORY: &str = "
ALTER TABLE entry ADD COLUMN since_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE displaced ADD COLUMN since_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE displaced ADD COLUMN how INTEGER NOT NULL DEFAULT 0;
ALTER TABLE displaced ADD COLUMN moved_to TEXT;
UPDATE displaced SET since_ns = displaced_at_ns;
";

fn adopt(db: &Connection, drive: DriveId) -> rusqlite::Result<()> {
    if last(db).is_err() {
        let tx = db.unchecked_transaction()?;
        db.execute_batch(HISTORY)?;
        let now = now_ns();
        db.execute("UPDATE entry SET since_ns = ?", [now])?;
        set_meta(db, "begun_ns", now)?;
        set_meta(db, "clock_ns", now)?;
        tx.commit()?;
    }
    db.execute_batch(LINEAGE)?;
    if meta::<Vec<u8>>(db, "drive")? != drive.0 {
        tracing::warn!(%drive, "the journal is of another drive, it gets a new epoch");
        let tx = db.unchecked_transaction()?;
        set_meta(db, "drive", drive.0.as_slice())?;
        renew_epoch(db)?;
        return tx.commit();
    }
    let tx = db.unchecked_transaction()?;
    continue_epoch(db)?;
    tx.commit()
}

/// Renames the journal and what belongs to it to the first free `journal.db.broken-N`.
fn set_aside(own: &Folder) -> io::Result<()> {
    const ENDS: [&str; 3] = ["", "-wal", "-shm"];
    let aside = |n: u32, end: &str| format!("{FILE}.broken-{n}{end}");
    let mut free = None;
    for n in 1..1_000 {
        let mut taken = false;
        for end in ENDS {
            taken |= own.look(&aside(n, end))?.is_some();
        }
        if !taken {
            free = Some(n);
            break;
        }
    }
    let n = free.ok_or_else(|| io::Error::from_raw_os_error(libc::EEXIST))?;
    for end in ENDS {
        match own.rename(&format!("{FILE}{end}"), own, &aside(n, end), Onto::Nothing) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A new one in memory, with all its tables.
#[cfg(test)]
pub(crate) fn in_memory() -> Connection {
    let db = Connection::open_in_memory().expect("memory");
    make(&db, DriveId([1; 16])).expect("a journal");
    db.execute_batch(crate::damage::SCHEMA).expect("its tables");
    db.execute_batch(contents::SCHEMA).expect("its tables");
    db
}

#[cfg(test)]
mod tests {
    use super::{Tx, in_memory, is_time_to_prune, key, path, prune_tombstones, read_floor};
    use crate::rows;
    use raspbox_protocol::RelPath;

    #[test]
    fn the_oldest_tombstones_are_forgotten_and_the_floor_says_so() {
        let db = in_memory();
        let tx = Tx::begin(&db, 1).expect("begin");
        for n in 0..5 {
            let gone = RelPath::parse(&format!("{n}")).expect("good");
            rows::bury(&tx, &gone, tx.next()).expect("buried");
        }
        prune_tombstones(&db, 5).expect("nothing to do");
        assert_eq!(read_floor(&db).expect("a floor"), 0);
        prune_tombstones(&db, 3).expect("pruned");
        assert_eq!(read_floor(&db).expect("a floor"), 2);
        let sql = "SELECT group_concat(version) FROM tombstone ORDER BY version";
        let left: String = db.query_row(sql, [], |row| row.get(0)).expect("some");
        assert_eq!(left, "3,4,5");
    }

    #[test]
    fn tombstones_are_counted_now_and_then_however_few_come_at_a_time() {
        let cases = [
            (1_000, 1, true),
            (999, 1, false),
            (999, 256, true),
            (1, 512, true),
            (1, 511, false),
            (0, 512, false),
            (0, 1, false),
        ];
        for (buried, seq, expect) in cases {
            assert_eq!(is_time_to_prune(buried, seq), expect, "{buried} at {seq}");
        }
    }

    #[test]
    fn keys_sort_as_paths_do() {
        let mut paths = [
            "a.b",
            "a/b",
            "a-b",
            "a",
            "a b",
            "a/b/c",
            "ä",
            "a\u{10ffff}/x",
        ]
        .map(|text| RelPath::parse(text).expect("good"));
        let mut keys = paths.clone().map(|path| key(&path));
        paths.sort();
        keys.sort();
        assert_eq!(keys.map(|key| path(&key).expect("a path")), paths);
    }

    #[test]
    fn a_transaction_that_is_dropped_never_was() {
        let db = in_memory();
        let tx = Tx::begin(&db, 1).expect("begin");
        let gone = RelPath::parse("a").expect("good");
        rows::bury(&tx, &gone, tx.next()).expect("buried");
        drop(tx);
        let tx = Tx::begin(&db, 1).expect("begin again");
        assert_eq!(
            (tx.seq(), rows::tombstone(&db, &gone).expect("none")),
            (0, None)
        );
    }
}
