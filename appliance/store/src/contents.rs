//! Which rows have a content.
//!
//! Hashes are random: in an index by them each row of a batch has a page of its own, and each of these goes to
//! the drive twice. With a hundred thousand files that was six times as much as their contents had. So what is looked
//! up by hash stands in tables of *hints*, which rows come to many at a time and sorted, when somebody looks something up
//! and too many have been left out. Until then those are looked through.
//!
//! Invariants:
//! - A row that was written after the mark of its table (by version; by number for what was displaced) is looked at
//!   itself. So none is missed: whoever gives a path another content gives it a new version.
//! - A hint is only a hint: what it says is looked for in the row, which may have changed or gone.

use crate::damage;
use crate::error::StoreError;
use crate::inner::Inner;
use crate::journal::{self, set_meta};
use raspbox_protocol::{Digest, RelPath};
use rusqlite::{Connection, OptionalExtension, ToSql, params};

/// The hints. The indexes are those of older journals.
pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS entry_hint (
    start BLOB NOT NULL, path TEXT NOT NULL, PRIMARY KEY (start, path)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS displaced_hint (
    start BLOB NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (start, id)
) WITHOUT ROWID;
DROP INDEX IF EXISTS entry_digest;
DROP INDEX IF EXISTS displaced_digest;
";

/// How many bytes of a hash a hint has: two contents that share them cost a look.
const START_BYTES: usize = 8;
const START_LEN: i64 = START_BYTES as i64;

/// How many rows may be without hints before a lookup makes some.
const LAG_MAX: i64 = 512;

/// For how many rows hints are made at once: so many are sorted in memory, some megabytes.
const SORTED_MAX: i64 = 1 << 16;

/// A table of hints, and what is noted of it.
struct Hints {
    /// Its name.
    table: &'static str,
    /// What its hints are of.
    rows: &'static str,
    /// How many were made since they were last made anew.
    made: &'static str,
    /// The rows up to here have hints.
    mark: &'static [&'static str],
}

/// Of files. The mark is a version, and of that version a path.
const FILES: Hints = Hints {
    table: "entry_hint",
    rows: "entry",
    made: "hint_entries_made",
    mark: &[ENTRY_VERSION, ENTRY_PATH],
};
const ENTRY_VERSION: &str = "hint_version";
const ENTRY_PATH: &str = "hint_path";

/// Of what was displaced. The mark is a number.
const VERSIONS: Hints = Hints {
    table: "displaced_hint",
    rows: "displaced",
    made: "hint_displaced_made",
    mark: &[DISPLACED_ID],
};
const DISPLACED_ID: &str = "hint_displaced";

/// The beginning of a hash.
type Start = [u8; START_BYTES];

const HINTED_FILES: &str = "SELECT path FROM entry_hint CROSS JOIN entry USING (path)
                            WHERE start = ? AND digest = ?";
const LATER_FILES: &str = "SELECT path FROM entry INDEXED BY entry_version
                           WHERE (version, path) > (?, ?) AND digest = ?";
const HINTED_VERSION: &str = "SELECT size FROM displaced_hint CROSS JOIN displaced USING (id)
                              WHERE start = ? AND digest = ? LIMIT 1";
const LATER_VERSION: &str = "SELECT size FROM displaced WHERE id > ? AND digest = ? LIMIT 1";

/// Whether some version needs this content.
pub(crate) fn is_displaced(db: &Connection, digest: &Digest) -> rusqlite::Result<bool> {
    Ok(size_of(db, digest)?.is_some())
}

/// How large a content is that some version needs, in bytes; `None` where none does.
pub(crate) fn size_of(db: &Connection, digest: &Digest) -> rusqlite::Result<Option<u64>> {
    let digest = digest.as_bytes().as_slice();
    let size = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0).map(i64::cast_unsigned);
    let found = db
        .prepare_cached(HINTED_VERSION)?
        .query_row(params![&digest[..START_BYTES], digest], size)
        .optional()?;
    if found.is_some() {
        return Ok(found);
    }
    db.prepare_cached(LATER_VERSION)?
        .query_row(params![displaced_mark(db)?, digest], size)
        .optional()
}

/// Whether some file has this content now.
pub(crate) fn has_copy(db: &Connection, digest: &Digest) -> rusqlite::Result<bool> {
    any_copy(db, digest, &mut |_| Ok(true))
}

/// Whether some file has this content now and isn't known to be damaged.
pub(crate) fn has_good_copy(db: &Connection, digest: &Digest) -> rusqlite::Result<bool> {
    any_copy(db, digest, &mut |key| Ok(!damage::has(db, key, digest)?))
}

/// Files that have this content now, so many at most.
pub(crate) fn copies(
    db: &Connection,
    digest: &Digest,
    max: usize,
) -> rusqlite::Result<Vec<RelPath>> {
    let mut found = Vec::new();
    any_copy(db, digest, &mut |key| {
        let path = journal::path(key)?;
        if !found.contains(&path) {
            found.push(path);
        }
        Ok(found.len() >= max)
    })?;
    Ok(found)
}

/// Goes through the keys of files that have this content now until one will do; whether one did. One may come twice.
fn any_copy(
    db: &Connection,
    digest: &Digest,
    will_do: &mut dyn FnMut(&str) -> rusqlite::Result<bool>,
) -> rusqlite::Result<bool> {
    let digest = digest.as_bytes().as_slice();
    let mut any = |sql: &str, values: &[&dyn ToSql]| {
        let mut statement = db.prepare_cached(sql)?;
        let mut rows = statement.query(values)?;
        while let Some(row) = rows.next()? {
            if will_do(row.get_ref(0)?.as_str()?)? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    if any(HINTED_FILES, &[&&digest[..START_BYTES], &digest])? {
        return Ok(true);
    }
    let (version, path) = entry_mark(db)?;
    any(LATER_FILES, &[&version, &path, &digest])
}

impl Inner {
    /// Makes hints where too many rows have none. Lookups are right without, and where nothing can be changed just now
    /// they take the longer.
    pub(crate) fn hint(&self) -> Result<(), StoreError> {
        if self.snapshot(is_behind)?
            && let Ok(writer) = self.writer()
            && let Err(error) = catch_up(&writer.db)
        {
            tracing::warn!(%error, "cannot prepare looking contents up");
        }
        Ok(())
    }
}

/// Whether too many rows have no hints.
pub(crate) fn is_behind(db: &Connection) -> rusqlite::Result<bool> {
    let entries = "SELECT count(*) FROM (SELECT 1 FROM entry INDEXED BY entry_version
                   WHERE (version, path) > (?, ?) LIMIT ?)";
    let displaced = "SELECT count(*) FROM (SELECT 1 FROM displaced WHERE id > ? LIMIT ?)";
    let (version, path) = entry_mark(db)?;
    let limit = LAG_MAX + 1;
    let lag: i64 = db
        .prepare_cached(entries)?
        .query_row(params![version, path, limit], |row| row.get(0))?;
    if lag > LAG_MAX {
        return Ok(true);
    }
    let lag: i64 = db
        .prepare_cached(displaced)?
        .query_row(params![displaced_mark(db)?, limit], |row| row.get(0))?;
    Ok(lag > LAG_MAX)
}

/// Makes hints for all rows that have none, and makes them anew where most have gone stale.
pub(crate) fn catch_up(db: &Connection) -> rusqlite::Result<()> {
    for hints in [FILES, VERSIONS] {
        hints.forget_if_stale(db)?;
    }
    while hint_entries(db, SORTED_MAX)? {}
    while hint_displaced(db, SORTED_MAX)? {}
    Ok(())
}

impl Hints {
    fn forget_if_stale(&self, db: &Connection) -> rusqlite::Result<()> {
        let Hints {
            table, rows, made, ..
        } = self;
        let sql = format!("SELECT count(*) FROM {rows}");
        let rows: i64 = db.query_row(&sql, [], |row| row.get(0))?;
        if meta_or(db, made, 0_i64)? <= rows.saturating_mul(2).saturating_add(1 << 10) {
            return Ok(());
        }
        let tx = db.unchecked_transaction()?;
        db.execute(&format!("DELETE FROM {table}"), [])?;
        for key in self.mark.iter().chain([made]) {
            journal::forget_meta(db, key)?;
        }
        tx.commit()
    }

    fn add<K: Ord + ToSql>(
        &self,
        db: &Connection,
        mut hints: Vec<(Start, K)>,
    ) -> rusqlite::Result<()> {
        hints.sort_unstable();
        let sql = format!("INSERT OR IGNORE INTO {} VALUES (?, ?)", self.table);
        let mut insert = db.prepare_cached(&sql)?;
        let mut made = meta_or(db, self.made, 0_i64)?;
        for (start, key) in &hints {
            made += i64::try_from(insert.execute(params![start, key])?).unwrap_or(1);
        }
        set_meta(db, self.made, made)
    }
}

/// Makes hints for the next files; whether there may be more.
fn hint_entries(db: &Connection, max: i64) -> rusqlite::Result<bool> {
    let next = "SELECT version, path, substr(digest, 1, ?) FROM entry INDEXED BY entry_version
                WHERE (version, path) > (?, ?) ORDER BY version, path LIMIT ?";
    let tx = db.unchecked_transaction()?;
    let (mut version, mut path) = entry_mark(db)?;
    let (mut hints, mut count) = (Vec::new(), 0);
    {
        let mut statement = db.prepare_cached(next)?;
        let mut rows = statement.query(params![START_LEN, version, path, max])?;
        while let Some(row) = rows.next()? {
            (version, path) = (row.get(0)?, row.get(1)?);
            count += 1;
            // Folders and symlinks have no content.
            let start: Option<Start> = row.get(2)?;
            hints.extend(start.map(|start| (start, path.clone())));
        }
    }
    if count == 0 {
        return Ok(false);
    }
    FILES.add(db, hints)?;
    set_meta(db, ENTRY_VERSION, version)?;
    // As bytes: SQLite would make a number of a text that looks like one.
    set_meta(db, ENTRY_PATH, path.as_bytes())?;
    tx.commit()?;
    Ok(count == max)
}

/// The same for the next versions.
fn hint_displaced(db: &Connection, max: i64) -> rusqlite::Result<bool> {
    let next = "SELECT id, substr(digest, 1, ?) FROM displaced WHERE id > ? ORDER BY id LIMIT ?";
    let tx = db.unchecked_transaction()?;
    let mut id = displaced_mark(db)?;
    let (mut hints, mut count) = (Vec::new(), 0);
    {
        let mut statement = db.prepare_cached(next)?;
        let mut rows = statement.query(params![START_LEN, id, max])?;
        while let Some(row) = rows.next()? {
            id = row.get(0)?;
            count += 1;
            let start: Option<Start> = row.get(1)?;
            hints.extend(start.map(|start| (start, id)));
        }
    }
    if count == 0 {
        return Ok(false);
    }
    VERSIONS.add(db, hints)?;
    set_meta(db, DISPLACED_ID, id)?;
    tx.commit()?;
    Ok(count == max)
}

fn entry_mark(db: &Connection) -> rusqlite::Result<(i64, String)> {
    let path = meta_or(db, ENTRY_PATH, Vec::new())?;
    // It was a text.
    let path = String::from_utf8(path).unwrap_or_default();
    Ok((meta_or(db, ENTRY_VERSION, 0)?, path))
}

fn displaced_mark(db: &Connection) -> rusqlite::Result<i64> {
    meta_or(db, DISPLACED_ID, 0)
}

fn meta_or<T: rusqlite::types::FromSql>(
    db: &Connection,
    key: &str,
    without: T,
) -> rusqlite::Result<T> {
    Ok(journal::meta(db, key).optional()?.unwrap_or(without))
}

#[cfg(test)]
mod tests {
    use super::{
        HINTED_FILES, HINTED_VERSION, LAG_MAX, LATER_FILES, LATER_VERSION, SCHEMA, catch_up,
        copies, has_copy, hint_displaced, hint_entries, is_behind, is_displaced, size_of,
    };
    use crate::beneath::{Fingerprint, Kind, Look};
    use crate::history::{self, End};
    use crate::journal::{Tx, in_memory};
    use crate::rows::{self, Row};
    use raspbox_protocol::{Digest, Entry, File, Mtime, RelPath};
    use rusqlite::Connection;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text).expect("good")
    }

    fn put(tx: &Tx<'_>, at: &str, content: &str) {
        let file = File {
            digest: Digest::of(content.as_bytes()),
            size: content.len() as u64,
            mtime: Mtime(5),
            executable: false,
        };
        let look = Look {
            kind: Kind::File,
            mtime: Mtime(5),
            executable: false,
            print: Fingerprint::default(),
        };
        let row = Row::new(tx, Entry::File(file), tx.next(), "me", &look).expect("a row");
        rows::put(tx, &path(at), &row).expect("written");
    }

    /// Does something in a transaction of its own.
    fn change(db: &Connection, change: impl FnOnce(&Tx<'_>)) {
        let tx = Tx::begin(db, 1).expect("begun");
        change(&tx);
        tx.commit().expect("durable");
    }

    fn of(content: &str) -> Digest {
        Digest::of(content.as_bytes())
    }

    fn found(db: &Connection, content: &str) -> Vec<String> {
        let found = copies(db, &of(content), 8).expect("read");
        let mut found: Vec<String> = found.iter().map(ToString::to_string).collect();
        found.sort();
        let any = has_copy(db, &of(content)).expect("read");
        assert_eq!(any, !found.is_empty());
        found
    }

    #[test]
    fn a_content_is_found_where_it_is_now_whenever_hints_were_made() {
        // Hints are made after none, one, two and all of the changes.
        for made_after in 0..4 {
            let db = in_memory();
            let hint = |after: usize| {
                if after >= made_after {
                    catch_up(&db).expect("hints");
                }
            };
            hint(0);
            change(&db, |tx| {
                put(tx, "d/a", "x");
                put(tx, "d/b", "x");
                put(tx, "c", "y");
            });
            hint(1);
            assert_eq!(found(&db, "x"), ["d/a", "d/b"]);
            assert_eq!(found(&db, "y"), ["c"]);
            change(&db, |tx| {
                put(tx, "c", "x");
                rows::move_tree(tx, &path("d"), &path("e"), tx.next(), "me").expect("moved");
            });
            hint(2);
            assert_eq!(found(&db, "x"), ["c", "e/a", "e/b"]);
            assert_eq!(found(&db, "y"), [""; 0]);
            change(&db, |tx| {
                rows::bury(tx, &path("e/a"), tx.next()).expect("buried");
                put(tx, "e/b", "y");
            });
            hint(3);
            assert_eq!(found(&db, "x"), ["c"]);
            assert_eq!(found(&db, "y"), ["e/b"]);
            assert_eq!(copies(&db, &of("x"), 0).expect("read").len(), 1);
        }
    }

    #[test]
    fn a_version_is_found_until_it_is_let_go_of() {
        for early in [false, true] {
            let db = in_memory();
            change(&db, |tx| {
                put(tx, "a", "x");
                put(tx, "b", "yy");
                history::displace_tree(tx, &path("a"), End::Deleted, "me").expect("noted");
            });
            if early {
                catch_up(&db).expect("hints");
            }
            let size = |content| size_of(&db, &of(content)).expect("read");
            change(&db, |tx| {
                history::displace_tree(tx, &path("b"), End::Deleted, "me").expect("noted");
            });
            assert_eq!((size("x"), size("yy"), size("z")), (Some(1), Some(2), None));
            catch_up(&db).expect("hints");
            assert_eq!((size("x"), size("yy"), size("z")), (Some(1), Some(2), None));
            db.execute("DELETE FROM displaced WHERE path = 'a'", [])
                .expect("let go");
            assert!(!is_displaced(&db, &of("x")).expect("read"));
            assert!(is_displaced(&db, &of("yy")).expect("read"));
        }
    }

    #[test]
    fn hints_are_made_a_part_at_a_time_and_none_is_left_out() {
        let db = in_memory();
        change(&db, |tx| {
            for n in 0..7 {
                put(tx, &format!("d/{n}"), &format!("{n}"));
            }
            // All with one version.
            rows::move_tree(tx, &path("d"), &path("e"), tx.next(), "me").expect("moved");
            history::displace_tree(tx, &path("e"), End::Deleted, "me").expect("noted");
        });
        for part in 0..5 {
            for n in 0..7 {
                assert_eq!(found(&db, &format!("{n}")), [format!("e/{n}")], "{part}");
                assert!(is_displaced(&db, &of(&format!("{n}"))).expect("read"));
            }
            let more = hint_entries(&db, 2).expect("hints");
            assert_eq!(more, part < 3);
            hint_displaced(&db, 2).expect("hints");
        }
        let count = |table: &str| -> i64 {
            let sql = format!("SELECT count(*) FROM {table}");
            db.query_row(&sql, [], |row| row.get(0)).expect("counted")
        };
        assert_eq!((count("entry_hint"), count("displaced_hint")), (7, 7));
    }

    #[test]
    fn hints_are_made_when_many_are_missing_and_made_anew_when_most_are_stale() {
        let db = in_memory();
        let many = usize::try_from(LAG_MAX).expect("some") + 1;
        let count = || -> i64 {
            db.query_row("SELECT count(*) FROM entry_hint", [], |row| row.get(0))
                .expect("counted")
        };
        // These stay as they are.
        change(&db, |tx| {
            put(tx, "stays", "as it was");
            put(tx, "goes", "a version");
            history::displace_tree(tx, &path("goes"), End::Deleted, "me").expect("noted");
        });
        let mut most = 0;
        for round in 0..8 {
            assert!(!is_behind(&db).expect("read"));
            change(&db, |tx| {
                for n in 0..many {
                    put(tx, &format!("{n}"), &format!("{n} of {round}"));
                }
            });
            assert!(is_behind(&db).expect("read"));
            catch_up(&db).expect("hints");
            most = most.max(count());
            assert_eq!(found(&db, &format!("7 of {round}")), ["7"]);
            assert_eq!(found(&db, "as it was"), ["stays"], "round {round}");
        }
        let rows = i64::try_from(many + 2).expect("some");
        assert!(most > 2 * rows && most <= 5 * rows, "{most}");
        // The same for versions, of which all but one are let go of in each round.
        for round in 0..8 {
            change(&db, |tx| {
                for n in 0..many {
                    let at = path(&format!("{n}"));
                    history::displace_tree(tx, &at, End::Deleted, "me").expect("noted");
                }
            });
            assert!(is_behind(&db).expect("read"));
            catch_up(&db).expect("hints");
            assert!(is_displaced(&db, &of("a version")).expect("read"));
            assert!(is_displaced(&db, &of("7 of 7")).expect("read"), "{round}");
            db.execute("DELETE FROM displaced WHERE path <> 'goes'", [])
                .expect("let go");
            assert!(!is_displaced(&db, &of("7 of 7")).expect("read"));
        }
        let hints: i64 = db
            .query_row("SELECT count(*) FROM displaced_hint", [], |row| row.get(0))
            .expect("counted");
        assert!(hints <= 5 * rows, "{hints}");
    }

    #[test]
    fn nothing_is_looked_up_by_going_through_a_whole_table() {
        let db = in_memory();
        let plans = [HINTED_FILES, LATER_FILES, HINTED_VERSION, LATER_VERSION];
        for sql in plans {
            let mut statement = db
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .expect("good");
            let count = statement.parameter_count();
            let steps = statement
                .query_map(rusqlite::params_from_iter(vec![1; count]), |row| {
                    row.get::<_, String>(3)
                })
                .expect("planned");
            let steps: Vec<String> = steps.map(|step| step.expect("a step")).collect();
            assert!(
                steps.iter().all(|step| step.starts_with("SEARCH")),
                "{sql}: {steps:?}"
            );
        }
    }

    #[test]
    fn an_older_journal_loses_its_indexes() {
        let db = in_memory();
        db.execute_batch(
            "CREATE INDEX entry_digest ON entry (digest) WHERE digest IS NOT NULL;
             CREATE INDEX displaced_digest ON displaced (digest);",
        )
        .expect("as it was");
        db.execute_batch(SCHEMA).expect("as it is");
        let sql = "SELECT count(*) FROM sqlite_master WHERE name LIKE '%digest'";
        let left: i64 = db.query_row(sql, [], |row| row.get(0)).expect("counted");
        assert_eq!(left, 0);
    }
}
