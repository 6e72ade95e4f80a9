//! What a workstation remembers of one pairing, in SQLite.
//!
//! Three tables of paths: `baseline`, the state on which both sides last agreed; `remote`, what the
//! other side had at the last look, with the cursor of that look; `print`, the hash cache. (And `sent`, what is on
//! its way; `chunks`, how large contents are cut.) Losing
//! all of it is an empty baseline, and an older copy of it is an older baseline: neither loses a
//! file, so SQLite need not sync at every commit (`synchronous = NORMAL`).
//!
//! A row is written only after what it says is durable on the side that it speaks of.

mod chunks;
mod hashes;
mod lately;
mod rows;
mod sent;
mod writer;

use crate::remote::RemoteTree;
use crate::scan::ByNumber;
pub use hashes::Hashes;
use raspbox_core::tree::Folder;
use raspbox_protocol::info::DriveId;
use raspbox_protocol::{Cursor, Digest, RelPath, Version};
use rows::{FOLDER, entry, hashed, load, print};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use std::collections::{HashMap, HashSet};
use std::path::Path;
pub use writer::Writer;

/// The number of the tables' shape; an older one is migrated, a newer one refused.
const FORMAT: i64 = 1;

/// The database of one pairing.
#[derive(Debug)]
pub struct State {
    db: Connection,
    /// SQLite's own count of other connections' changes.
    data_version: i64,
}

/// Why a state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// SQLite failed.
    #[error(
        "cannot use the sync state {path}: {source}. If it is damaged, delete it: nothing is lost, the next sync compares everything anew"
    )]
    Sqlite {
        /// The database file.
        path: String,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A newer raspbox wrote it.
    #[error("the sync state {path} was written by a newer raspbox (format {found})")]
    Newer {
        /// The database file.
        path: String,
        /// Its format.
        found: i64,
    },
}

/// What a file looked like when it was hashed: the key of the hash cache, and what a replacement
/// looks for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Print {
    /// The length in bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime: i64,
    /// Nanoseconds since 1970.
    pub ctime: i64,
    /// The file's number on its filesystem.
    pub inode: u64,
}

impl Print {
    /// Whether both are the same file in the same state, as far as a rename leaves it the same
    /// (which changes the ctime).
    #[must_use]
    pub fn same_but_moved(&self, other: &Print) -> bool {
        (self.size, self.mtime, self.inode) == (other.size, other.mtime, other.inode)
    }
}

impl From<&raspbox_beneath::Stat> for Print {
    fn from(stat: &raspbox_beneath::Stat) -> Print {
        Print {
            size: stat.size,
            mtime: stat.mtime.0,
            ctime: stat.ctime.0,
            inode: stat.inode,
        }
    }
}

/// One row of the hash cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashed {
    /// What it looked like.
    pub print: Print,
    /// The hash of its content.
    pub digest: Digest,
    /// Whether the file was older than its filesystem's granularity when it was hashed, so that a
    /// later write can't have left the print the same.
    pub settled: bool,
}

impl State {
    /// Opens the database of a pairing, making it where there is none.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(path: &Path) -> Result<State, StateError> {
        let named = |source| StateError::Sqlite {
            path: path.display().to_string(),
            source,
        };
        let mut db = connect(path).map_err(named)?;
        let found = prepare(&mut db).map_err(named)?;
        if found > FORMAT {
            return Err(StateError::Newer {
                path: path.display().to_string(),
                found,
            });
        }
        let mut state = State {
            db,
            data_version: 0,
        };
        state.changed_elsewhere().map_err(named)?;
        Ok(state)
    }

    /// The drive that the folder was last synced with.
    ///
    /// # Errors
    /// Where SQLite fails; so for all methods.
    pub fn drive(&self) -> rusqlite::Result<Option<DriveId>> {
        Ok(self.meta("drive")?.and_then(|text| text.parse().ok()))
    }

    /// The newest position that the remote's journal is known to have been at.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn reached(&self) -> rusqlite::Result<Option<Cursor>> {
        Ok(self.meta("reached")?.and_then(|text| text.parse().ok()))
    }

    /// The cursor of the last look.
    pub fn cursor(&self) -> rusqlite::Result<Option<Cursor>> {
        Ok(self.meta("cursor")?.and_then(|text| text.parse().ok()))
    }

    /// What the folder looked like when a round found nothing to do, if nothing was written here since.
    pub fn seal(&self) -> rusqlite::Result<Option<Digest>> {
        Ok(self.meta("seal")?.and_then(|text| text.parse().ok()))
    }

    /// Whether both sides had anything at this path when they last agreed.
    pub fn had(&self, path: &RelPath) -> rusqlite::Result<bool> {
        self.db
            .prepare_cached("SELECT 1 FROM baseline WHERE path = ?1")?
            .exists([path.as_str()])
    }

    /// The newest version of all that the remote had at the last look.
    pub fn newest_version(&self) -> rusqlite::Result<Option<Version>> {
        let newest: Option<i64> =
            (self.db).query_row("SELECT max(version) FROM remote", [], |row| row.get(0))?;
        Ok(newest.map(|version| Version(version.cast_unsigned())))
    }

    /// Whether another process has written since this was last asked.
    pub fn changed_elsewhere(&mut self) -> rusqlite::Result<bool> {
        let now: i64 = self
            .db
            .query_row("PRAGMA data_version", [], |row| row.get(0))?;
        Ok(std::mem::replace(&mut self.data_version, now) != now)
    }

    /// The baseline, but for paths that `skip` names.
    pub fn baseline(&self, skip: &dyn Fn(&RelPath, bool) -> bool) -> rusqlite::Result<Folder<()>> {
        let mut statement = self.db.prepare(
            "SELECT path, kind, size, mtime, executable, digest, target FROM baseline
             ORDER BY path",
        )?;
        load(statement.query([])?, |row| Ok((entry(row)?, ())), skip)
    }

    /// The remote tree as of the last look, but for paths that `skip` names.
    pub fn remote(&self, skip: &dyn Fn(&RelPath, bool) -> bool) -> rusqlite::Result<RemoteTree> {
        let mut statement = self.db.prepare(
            "SELECT path, kind, size, mtime, executable, digest, target, version FROM remote
             ORDER BY path",
        )?;
        let read = |row: &Row<'_>| {
            let version: i64 = row.get(7)?;
            Ok((entry(row)?, Version(version.cast_unsigned())))
        };
        load(statement.query([])?, read, skip)
    }

    /// Whether the remote has a folder at a path, also where it isn't synced.
    pub fn remote_has_folder(&self, path: &RelPath) -> rusqlite::Result<bool> {
        self.db
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM remote WHERE path = ?1 AND kind = ?2)")?
            .query_row(params![path.as_str(), FOLDER], |row| row.get(0))
    }

    /// All cached hashes that may be believed, without their paths.
    pub fn settled(&self) -> rusqlite::Result<ByNumber> {
        let mut statement = self.db.prepare(
            "SELECT size, mtime, ctime, inode, digest, settled FROM print WHERE settled",
        )?;
        let rows = statement.query_map([], hashed)?;
        rows.collect()
    }

    /// All cached hashes.
    pub fn all_hashed(&self) -> rusqlite::Result<HashMap<RelPath, Hashed>> {
        let mut statement = self
            .db
            .prepare("SELECT size, mtime, ctime, inode, digest, settled, path FROM print")?;
        let mut rows = statement.query([])?;
        let mut all = HashMap::new();
        while let Some(row) = rows.next()? {
            if let Ok(path) = RelPath::parse(row.get_ref(6)?.as_str()?) {
                all.insert(path, hashed(row)?);
            }
        }
        Ok(all)
    }

    /// The files that were found damaged, with what they looked like.
    pub fn damaged(&self) -> rusqlite::Result<HashMap<RelPath, Print>> {
        let mut statement = self
            .db
            .prepare("SELECT size, mtime, ctime, inode, path FROM damaged")?;
        let mut rows = statement.query([])?;
        let mut all = HashMap::new();
        while let Some(row) = rows.next()? {
            if let Ok(path) = RelPath::parse(row.get_ref(4)?.as_str()?) {
                all.insert(path, print(row)?);
            }
        }
        Ok(all)
    }

    /// Which of these contents any entry of either side has, as last recorded. It looks through all of them:
    /// an index would be paid for by every file, and this is asked after a crash only.
    pub fn known_contents(&self, sought: &HashSet<Digest>) -> rusqlite::Result<HashSet<Digest>> {
        let mut statement = self.db.prepare(
            "SELECT digest FROM baseline WHERE digest IS NOT NULL
             UNION ALL SELECT digest FROM remote WHERE digest IS NOT NULL",
        )?;
        let mut rows = statement.query([])?;
        let mut known = HashSet::new();
        while let Some(row) = rows.next()? {
            known.extend(sought.get(&Digest::from_bytes(row.get(0)?)));
        }
        Ok(known)
    }

    /// Whether any symlink of either side, as last recorded, has this target.
    pub fn knows_target(&self, target: &str) -> rusqlite::Result<bool> {
        self.db
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM baseline WHERE target = ?1)
                     OR EXISTS (SELECT 1 FROM remote WHERE target = ?1)",
            )?
            .query_row([target], |row| row.get(0))
    }

    /// Where a file that a crash left in the staging folder belongs.
    pub fn placing(&self, staged: &str) -> rusqlite::Result<Option<RelPath>> {
        let path: Option<String> = self
            .db
            .prepare_cached("SELECT path FROM placing WHERE staged = ?1")?
            .query_row([staged], |row| row.get(0))
            .optional()?;
        Ok(path.and_then(|path| RelPath::parse(&path).ok()))
    }

    /// Forgets what both sides agreed on and where the look stopped. The hash cache stays.
    pub fn forget(&mut self) -> rusqlite::Result<()> {
        let tx = self.db.transaction()?;
        tx.execute_batch(
            "DELETE FROM baseline; DELETE FROM remote; DELETE FROM sent; DELETE FROM meta WHERE key IN ('cursor', 'reached', 'seal')",
        )?;
        tx.commit()
    }

    /// Nothing in the staging folder belongs anywhere.
    pub fn clear_placing(&mut self) -> rusqlite::Result<()> {
        self.db.execute_batch("DELETE FROM placing")
    }

    /// Writes all that `write` does, or nothing of it. It breaks the seal.
    pub fn write<T>(
        &mut self,
        write: impl FnOnce(&Writer<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let writer = Writer {
            tx: self.db.transaction()?,
        };
        writer.break_seal()?;
        let value = write(&writer)?;
        writer.tx.commit()?;
        Ok(value)
    }

    fn meta(&self, key: &str) -> rusqlite::Result<Option<String>> {
        self.db
            .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
                row.get(0)
            })
            .optional()
    }
}

/// A connection, on whatever disk the path is.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    match raspbox_beneath::vfs_of(path) {
        None => Connection::open(path),
        Some(vfs) => Connection::open_with_flags_and_vfs(path, OpenFlags::default(), vfs),
    }
}

/// Sets the connection up and makes the tables; returns the format that was found or made.
fn prepare(db: &mut Connection) -> rusqlite::Result<i64> {
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 10000",
    )?;
    let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found != 0 {
        // Tables that came later, and that a raspbox which doesn't know them needn't have.
        if found == FORMAT {
            db.execute_batch(DAMAGED)?;
            db.execute_batch(lately::TABLE)?;
            db.execute_batch(sent::TABLE)?;
            db.execute_batch(chunks::TABLE)?;
            db.execute_batch(WITHOUT_INDEXES)?;
        }
        return Ok(found);
    }
    let tx = db.transaction()?;
    tx.execute_batch(
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
         CREATE TABLE baseline (
             path TEXT PRIMARY KEY, kind INTEGER NOT NULL, size INTEGER, mtime INTEGER,
             executable INTEGER, digest BLOB, target TEXT) WITHOUT ROWID;
         CREATE TABLE remote (
             path TEXT PRIMARY KEY, kind INTEGER NOT NULL, size INTEGER, mtime INTEGER,
             executable INTEGER, digest BLOB, target TEXT, version INTEGER NOT NULL) WITHOUT ROWID;
         CREATE TABLE print (
             path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime INTEGER NOT NULL,
             ctime INTEGER NOT NULL, inode INTEGER NOT NULL, digest BLOB NOT NULL,
             settled INTEGER NOT NULL) WITHOUT ROWID;
         CREATE TABLE placing (staged TEXT PRIMARY KEY, path TEXT NOT NULL) WITHOUT ROWID;",
    )?;
    tx.execute_batch(DAMAGED)?;
    tx.execute_batch(lately::TABLE)?;
    tx.execute_batch(sent::TABLE)?;
    tx.execute_batch(chunks::TABLE)?;
    tx.pragma_update(None, "user_version", FORMAT)?;
    tx.commit()?;
    Ok(FORMAT)
}

/// Each file paid for them, and what they were for is as well without.
const WITHOUT_INDEXES: &str =
    "DROP INDEX IF EXISTS baseline_digest; DROP INDEX IF EXISTS remote_digest";

const DAMAGED: &str = "CREATE TABLE IF NOT EXISTS damaged (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime INTEGER NOT NULL,
    ctime INTEGER NOT NULL, inode INTEGER NOT NULL) WITHOUT ROWID";

#[cfg(test)]
mod tests {
    use super::{Hashed, Print, State};
    use raspbox_core::tree::Node;
    use raspbox_protocol::{Digest, Entry, File, LinkTarget, Mtime, RelPath, Version};

    fn path(text: &str) -> RelPath {
        RelPath::parse(text).expect("a good path")
    }

    fn file(content: &[u8]) -> Entry {
        Entry::File(File {
            digest: Digest::of(content),
            size: content.len() as u64,
            mtime: Mtime(-5),
            executable: true,
        })
    }

    #[test]
    fn what_is_skipped_is_on_no_tree_and_keeps_its_folder() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut state = State::open(&dir.path().join("state")).expect("open");
        let entries = [
            ("a", Entry::Folder),
            // Between these two in SQLite's order.
            ("a-b", Entry::Folder),
            ("a/b", Entry::Folder),
            ("a/b/c", file(b"c")),
            ("a/b/skipped", Entry::Folder),
            ("a/b/skipped/d", Entry::Folder),
            ("a/b/skipped/d/e", file(b"e")),
            ("a/z", file(b"z")),
            ("file", file(b"f")),
            ("file/below", file(b"what no disk has")),
            ("last", file(b"l")),
        ];
        let written = state.write(|w| {
            let mut all = entries.iter();
            all.try_for_each(|(name, entry)| w.set_baseline(&path(name), Some(entry)))
        });
        written.expect("written");
        let skip = |path: &RelPath, _: bool| path.name() == "skipped";
        let tree = state.baseline(&skip).expect("read");
        let mut found = Vec::new();
        tree.walk(&mut |path, node| found.push((path.to_string(), node.entry())));
        let expected = ["a", "a/b", "a/b/c", "a/z", "a-b", "file", "last"];
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, expected);
        assert_eq!(tree.count(), expected.len());
        for (name, entry) in &entries {
            let at = found.iter().find(|(found, _)| found == name);
            assert!(at.is_none_or(|(_, found)| found.as_ref() == Some(entry)));
        }
        let folder = |name: &str| tree.get(&path(name)).and_then(Node::folder).cloned();
        assert!(folder("a/b").expect("there").holds_unsynced);
        assert!(!folder("a").expect("there").holds_unsynced);
        assert!(!tree.holds_unsynced);
    }

    #[test]
    fn what_is_written_is_there_after_opening_again() {
        let dir = tempfile::tempdir().expect("temp dir");
        let db = dir.path().join("sync.db");
        let link = Entry::Symlink(LinkTarget::parse("x").expect("a target"));
        let mut state = State::open(&db).expect("open");
        state
            .write(|w| {
                w.set_baseline(&path("a-b"), Some(&link))?;
                w.set_baseline(&path("a"), Some(&Entry::Folder))?;
                w.set_baseline(&path("a/f"), Some(&file(b"f")))?;
                w.set_remote(&path("a"), Some((&Entry::Folder, Version(u64::MAX))))
            })
            .expect("write");
        let state = State::open(&db).expect("open again");
        let tree = state.baseline(&|_, _| false).expect("read");
        assert_eq!(tree.count(), 3);
        assert_eq!(
            tree.get(&path("a/f")).and_then(Node::entry),
            Some(file(b"f"))
        );
        assert_eq!(tree.get(&path("a-b")).and_then(Node::entry), Some(link));
        let remote = state.remote(&|_, _| false).expect("read");
        assert_eq!(
            remote.get(&path("a")).and_then(|n| n.tag()),
            Some(&Version(u64::MAX))
        );
        let contents = [b"f", b"g"].map(|content| Digest::of(content));
        let known = state.known_contents(&contents.into()).expect("read");
        assert_eq!(known, [contents[0]].into());
        let without = state
            .baseline(&|path, folder| folder && path.name() == "a")
            .expect("read");
        assert_eq!(without.count(), 1);
    }

    #[test]
    fn a_folder_that_goes_takes_what_is_in_it() {
        let mut state = State::open(std::path::Path::new(":memory:")).expect("open");
        let paths = ["a", "a/f", "a-b", "a0"].map(path);
        state
            .write(|w| {
                w.set_baseline(&paths[0], Some(&Entry::Folder))?;
                paths[1..]
                    .iter()
                    .try_for_each(|p| w.set_baseline(p, Some(&file(b"f"))))?;
                w.set_baseline(&paths[0], None)
            })
            .expect("write");
        let tree = state.baseline(&|_, _| false).expect("read");
        assert_eq!(
            tree.children.keys().map(|k| &**k).collect::<Vec<_>>(),
            ["a-b", "a0"]
        );
    }

    #[test]
    fn a_folder_that_moves_takes_what_is_in_it_and_nothing_else() {
        let mut state = State::open(std::path::Path::new(":memory:")).expect("open");
        // Of names with more bytes than characters, and one that begins as the folder's.
        let paths = ["ä", "ä/ö", "ä/ö/f", "ä-b", "ä0", "b/old"].map(path);
        let (from, to) = (path("ä"), path("b"));
        let moved = state.write(|w| {
            for path in &paths {
                let entry = match path.name() {
                    "ä" | "ö" => Entry::Folder,
                    _ => file(path.as_str().as_bytes()),
                };
                w.set_baseline(path, Some(&entry))?;
                w.set_remote(path, Some((&entry, Version(1))))?;
            }
            w.move_baseline(&from, &to)?;
            w.move_remote(&from, &to)?;
            w.set_version(&to, false, Version(2))
        });
        moved.expect("written");
        let remote = state.remote(&|_, _| false).expect("read");
        let mut found = Vec::new();
        remote.walk(&mut |path, node| {
            let tag = node.tag().expect("known").0;
            found.push((path.to_string(), tag));
        });
        let expected = [("b", 2), ("b/ö", 1), ("b/ö/f", 1), ("ä-b", 1), ("ä0", 1)];
        assert_eq!(found, expected.map(|(path, tag)| (path.to_owned(), tag)));
        let baseline = state.baseline(&|_, _| false).expect("read");
        assert_eq!(baseline.count(), expected.len());
        assert_eq!(
            baseline.get(&path("b/ö/f")).and_then(Node::entry),
            Some(file("ä/ö/f".as_bytes()))
        );
        let all = state.write(|w| w.set_version(&to, true, Version(3)));
        all.expect("written");
        let remote = state.remote(&|_, _| false).expect("read");
        let tag = |at: &str| remote.get(&path(at)).and_then(|node| node.tag().copied());
        assert_eq!(tag("b/ö/f"), Some(Version(3)));
        assert_eq!(tag("ä-b"), Some(Version(1)));
    }

    #[test]
    fn the_hash_cache_keeps_what_it_was_told() {
        let mut state = State::open(std::path::Path::new(":memory:")).expect("open");
        let print = Print {
            size: u64::MAX,
            mtime: -1,
            ctime: 2,
            inode: 3,
        };
        let hashed = Hashed {
            print,
            digest: Digest::of(b"x"),
            settled: true,
        };
        state
            .write(|w| w.set_hashed(&path("a"), &hashed))
            .expect("write");
        let all = state.all_hashed().expect("read");
        assert_eq!(all.into_iter().collect::<Vec<_>>(), [(path("a"), hashed)]);
        let forgotten = state.write(|w| {
            w.set_hashed(&path("a/b"), &hashed)?;
            w.set_hashed(&path("a-b"), &hashed)?;
            w.forget_hashes(&path("a"))
        });
        forgotten.expect("written");
        let all = state.all_hashed().expect("read");
        assert_eq!(all.into_keys().collect::<Vec<_>>(), [path("a-b")]);
    }

    #[test]
    fn each_folder_has_the_hashes_of_its_own_files() {
        let mut state = State::open(std::path::Path::new(":memory:")).expect("open");
        let names = [
            "a", "a-b", "b/a", "b/a-b", "b/a/x", "b/a/y/z", "b/a0", "b/a0b", "b/c/d", "b/c0", "b0",
            "c/d/e/f", "c/d/g", "ä/b", "ä0",
        ];
        let of = |name: &str| Hashed {
            print: Print::default(),
            digest: Digest::of(name.as_bytes()),
            settled: true,
        };
        let written = state.write(|w| {
            let mut names = names.iter();
            names.try_for_each(|name| w.set_hashed(&path(name), &of(name)))
        });
        written.expect("written");
        // In whatever order somebody asks.
        for step in 1..names.len() {
            let mut hashes = state.hashes();
            for index in 0..names.len() {
                let name = names[index * step % names.len()];
                let found = hashes.get(&path(name)).expect("read");
                assert_eq!(found, Some(of(name)), "{name}");
                for other in ["b/b", "x", "c/d/e/g", "b/a/y/z/a", "ä/a"] {
                    assert_eq!(hashes.get(&path(other)).expect("read"), None, "{other}");
                }
            }
        }
    }

    #[test]
    fn what_is_damaged_is_remembered_with_its_looks_also_by_an_older_state() {
        let dir = tempfile::tempdir().expect("temp dir");
        let db = dir.path().join("sync.db");
        let state = State::open(&db).expect("open");
        state
            .db
            .execute_batch("DROP TABLE damaged")
            .expect("as before there was one");
        drop(state);
        let mut state = State::open(&db).expect("open");
        let print = Print {
            size: u64::MAX,
            mtime: -1,
            ctime: 2,
            inode: 3,
        };
        state
            .write(|w| w.set_damaged(&path("a"), &print))
            .expect("write");
        let all = state.damaged().expect("read");
        assert_eq!(all.into_iter().collect::<Vec<_>>(), [(path("a"), print)]);
        state
            .write(|w| w.forget_damaged(&path("a")))
            .expect("write");
        assert!(state.damaged().expect("read").is_empty());
    }
}
