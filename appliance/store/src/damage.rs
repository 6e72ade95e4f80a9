//! What is known to be damaged: contents whose hash changed though nobody wrote to them.
//!
//! A file under a user's name is marked by its path and the hash that it should have; so the mark goes
//! with the file when it moves, stays when its time or executable bit is set, and ends with the next
//! content that stands there. A kept version is marked by its hash alone.
//!
//! After a check of the filesystem had to repair it, a file may be cut short, or gone. Neither is an edit
//! or a deletion: it is marked as well, and its row stays. One that is gone has [`Row::missing`]; it ends
//! like any other mark, with the next content there, or when somebody deletes it.
//!
//! Where a marked file is displaced, what is kept is named by the hash that it really has: a version's
//! name is what it is trusted by. It is kept, not dropped, since "damaged" is a judgement by times
//! and an inode number, and a version costs nothing but room, which is made when it is needed.

use crate::error::StoreError;
use crate::inner::Inner;
use crate::journal::{Tx, key, now_ns, path};
use crate::rows::{self, Row};
use crate::scan::OTHER_MEANS;
use crate::staging::digest_of;
use raspbox_beneath::unreadable;
use raspbox_protocol::damage::{DAMAGES_MAX, Damage, Place};
use raspbox_protocol::{Digest, Entry, File, Mtime, RelPath, Version};
use rusqlite::{Connection, OptionalExtension, params};
use std::io;

/// The tables of damages and of the scrub; added to a journal that was made before there were any.
/// The path is empty for a kept version: no [`RelPath`] is.
pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS damaged (
    path TEXT NOT NULL, digest BLOB NOT NULL, found BLOB, since_ns INTEGER NOT NULL,
    PRIMARY KEY (path, digest)
) WITHOUT ROWID;
";

/// What stands for the path of a kept version.
const KEPT: &str = "";

/// Where files are kept whose content can't be read at all, so that nobody knows their hash.
pub(crate) const UNREADABLE: &str = "unreadable";

/// Marks a file.
pub(crate) fn mark(
    tx: &Tx<'_>,
    at: &RelPath,
    expected: &Digest,
    found: Option<&Digest>,
) -> rusqlite::Result<()> {
    insert(tx, &key(at), expected, found)
}

/// Marks a kept version.
pub(crate) fn mark_kept(
    tx: &Tx<'_>,
    expected: &Digest,
    found: Option<&Digest>,
) -> rusqlite::Result<()> {
    insert(tx, KEPT, expected, found)
}

fn insert(
    tx: &Tx<'_>,
    key: &str,
    expected: &Digest,
    found: Option<&Digest>,
) -> rusqlite::Result<()> {
    // Found again, it is known since it was found first.
    let sql = "INSERT INTO damaged VALUES (?, ?, ?, ?) \
               ON CONFLICT (path, digest) DO UPDATE SET found = excluded.found";
    tx.db.prepare_cached(sql)?.execute(params![
        key,
        expected.as_bytes().as_slice(),
        found.map(|found| found.as_bytes().as_slice()),
        now_ns(),
    ])?;
    Ok(())
}

/// Whether the content that a row speaks of is damaged.
pub(crate) fn is_marked(db: &Connection, at: &RelPath, row: &Row) -> rusqlite::Result<bool> {
    match row.digest() {
        Some(digest) => has(db, &key(at), &digest),
        None => Ok(false),
    }
}

/// The same, or what is kept of the same content is, and so this may be.
pub(crate) fn is_doubted(db: &Connection, at: &RelPath, row: &Row) -> rusqlite::Result<bool> {
    let Some(digest) = row.digest() else {
        return Ok(false);
    };
    // On most drives nothing is damaged, and this is the quickest way to know.
    let any = "SELECT 1 FROM damaged LIMIT 1";
    Ok(db.prepare_cached(any)?.exists([])?
        && (has(db, &key(at), &digest)? || has(db, KEPT, &digest)?))
}

/// Whether a file is damaged and was found with this content.
pub(crate) fn is_known(
    db: &Connection,
    at: &RelPath,
    row: &Row,
    found: &Digest,
) -> rusqlite::Result<bool> {
    let Some(digest) = row.digest() else {
        return Ok(false);
    };
    db.prepare_cached("SELECT 1 FROM damaged WHERE path = ? AND digest = ? AND found = ?")?
        .exists(params![
            key(at),
            digest.as_bytes().as_slice(),
            found.as_bytes().as_slice()
        ])
}

/// Whether a kept version is damaged.
pub(crate) fn is_kept_marked(db: &Connection, digest: &Digest) -> rusqlite::Result<bool> {
    has(db, KEPT, digest)
}

/// Whether what stands by a key with this content is damaged.
pub(crate) fn has(db: &Connection, key: &str, digest: &Digest) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM damaged WHERE path = ? AND digest = ?")?
        .exists(params![key, digest.as_bytes().as_slice()])
}

/// A good content stands at a path, or is kept (`None`), again.
pub(crate) fn unmark(tx: &Tx<'_>, at: Option<&RelPath>, digest: &Digest) -> rusqlite::Result<bool> {
    let key = at.map_or_else(|| KEPT.to_owned(), key);
    let gone = tx
        .db
        .prepare_cached("DELETE FROM damaged WHERE path = ? AND digest = ?")?
        .execute(params![key, digest.as_bytes().as_slice()])?;
    Ok(gone > 0)
}

/// Takes away the mark of any other content than the one that stands at a path now.
pub(crate) fn only(tx: &Tx<'_>, key: &str, digest: Option<&[u8]>) -> rusqlite::Result<()> {
    tx.db
        .prepare_cached("DELETE FROM damaged WHERE path = ? AND digest IS NOT ?")?
        .execute(params![key, digest])?;
    Ok(())
}

/// Takes away the marks at a key and in a range of keys.
pub(crate) fn forget(tx: &Tx<'_>, own: &str, low: &str, high: &str) -> rusqlite::Result<()> {
    tx.db
        .prepare_cached("DELETE FROM damaged WHERE path = ? OR (path >= ? AND path < ?)")?
        .execute(params![own, low, high])?;
    Ok(())
}

/// How many there are: files under users' names, and kept versions.
pub(crate) fn count(db: &Connection) -> rusqlite::Result<(u64, u64)> {
    let sql = "SELECT count(*), coalesce(sum(path = ''), 0) FROM damaged";
    let (all, kept): (i64, i64) = db
        .prepare_cached(sql)?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(((all - kept).cast_unsigned(), kept.cast_unsigned()))
}

/// All of them, as many as can be told: files first, by path.
pub(crate) fn all(db: &Connection) -> rusqlite::Result<Vec<Damage>> {
    let sql = "SELECT damaged.path, damaged.digest, found, damaged.since_ns, version \
               FROM damaged LEFT JOIN entry ON entry.path = damaged.path \
               ORDER BY damaged.path = '', damaged.path, damaged.digest LIMIT ?";
    let mut statement = db.prepare_cached(sql)?;
    let found = statement.query_map([i64::try_from(DAMAGES_MAX).unwrap_or(i64::MAX)], |row| {
        let at: String = row.get(0)?;
        let place = if at == KEPT {
            Place::Kept
        } else {
            let version: Option<i64> = row.get(4)?;
            Place::File {
                path: path(&at)?,
                version: Version(version.unwrap_or_default().cast_unsigned()),
            }
        };
        Ok(Damage {
            place,
            expected: Digest::from_bytes(row.get(1)?),
            found: row.get::<_, Option<[u8; 32]>>(2)?.map(Digest::from_bytes),
            since: Mtime(row.get(3)?),
        })
    })?;
    found.collect()
}

/// Whether a row's content can be had as good: it isn't marked.
pub(crate) fn check(db: &Connection, at: &RelPath, row: &Row) -> Result<(), StoreError> {
    if is_marked(db, at, row)? {
        Err(StoreError::Damaged(at.clone()))
    } else {
        Ok(())
    }
}

/// The row of a displaced content as it really is; `None` where that can't be read.
pub(crate) fn as_it_is(store: &Inner, staged: &str, row: &Row) -> io::Result<Option<Row>> {
    let Entry::File(file) = row.entry else {
        return Ok(Some(row.clone()));
    };
    let mut open = store.own.staging.open(staged)?;
    match digest_of(&mut open) {
        Ok((digest, size)) => Ok(Some(Row {
            entry: Entry::File(File {
                digest,
                size,
                ..file
            }),
            ..row.clone()
        })),
        Err(error) if unreadable(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the journal notes for itself under a key.
pub(crate) fn note<T: rusqlite::types::FromSql>(
    db: &Connection,
    key: &str,
) -> rusqlite::Result<Option<T>> {
    db.prepare_cached("SELECT value FROM meta WHERE key = ?")?
        .query_row([key], |row| row.get(0))
        .optional()
}

impl Inner {
    /// What is known to be damaged.
    pub(crate) fn damages(&self) -> Result<Vec<Damage>, StoreError> {
        Ok(self.snapshot(all)?)
    }

    /// Marks a kept version whose content was just read and isn't what its name says; `found` is
    /// `None` where it can't be read.
    pub(crate) fn mark_kept(
        &self,
        digest: &Digest,
        found: Option<&Digest>,
    ) -> Result<(), StoreError> {
        let writer = self.writer()?;
        let tx = self.begin(&writer.db)?;
        if !is_kept_marked(tx.db, digest)? {
            mark_kept(&tx, digest, found)?;
            tx.commit()?;
            tracing::error!(expected = %digest, "damaged: a content that is kept as a version");
        }
        Ok(())
    }

    /// Takes its mark from a file that was just read and is good after all: a stick that sat loose for a moment, or
    /// whose second reading of a block succeeds, looks like a broken one until it is read again.
    pub(crate) fn clear_file(&self, at: &RelPath, row: &Row) -> Result<(), StoreError> {
        let Some(digest) = row.digest() else {
            return Ok(());
        };
        if !self.snapshot(|db| is_marked(db, at, row))? {
            return Ok(());
        }
        let writer = self.writer()?;
        let tx = self.begin(&writer.db)?;
        if rows::get(tx.db, at)?.as_ref() == Some(row) && unmark(&tx, Some(at), &digest)? {
            tracing::info!(path = %at, "read again, and good: it isn't damaged any more");
        }
        tx.commit()?;
        Ok(())
    }

    /// The same for a kept version. One that is known to be what a file rotted to has that name, and reads well
    /// under it; it stays marked.
    pub(crate) fn clear_kept(&self, digest: &Digest) -> Result<(), StoreError> {
        if !self.snapshot(|db| is_kept_marked(db, digest))? {
            return Ok(());
        }
        let writer = self.writer()?;
        let tx = self.begin(&writer.db)?;
        let sql = "DELETE FROM damaged WHERE path = ?1 AND digest = ?2 AND found IS NOT ?2";
        let gone = tx
            .db
            .prepare_cached(sql)?
            .execute(params![KEPT, digest.as_bytes().as_slice()])?;
        if gone > 0 {
            tracing::info!(version = %digest, "read again, and good: it isn't damaged any more");
        }
        tx.commit()?;
        Ok(())
    }

    /// Whether a file's content, which was just read and has another hash than its row says, is
    /// damaged, and if so marks it. `found` is `None` where it can't be read.
    ///
    /// It is not where the row or the file is another by now, and where the row is so young that a
    /// second write could have left all times the same and the first was not ours either: then it is an
    /// edit, and journalled as one.
    pub(crate) fn suspect(
        &self,
        at: &RelPath,
        row: &Row,
        found: Option<&Digest>,
    ) -> Result<bool, StoreError> {
        let writer = self.writer()?;
        let tx = self.begin(&writer.db)?;
        let damaged = self.judge(&tx, at, row, found)?;
        self.publish(tx)?;
        Ok(damaged)
    }

    /// The same within a transaction.
    pub(crate) fn judge(
        &self,
        tx: &Tx<'_>,
        at: &RelPath,
        row: &Row,
        found: Option<&Digest>,
    ) -> Result<bool, StoreError> {
        let Some(expected) = row.digest() else {
            return Ok(false);
        };
        if rows::get(tx.db, at)?.as_ref() != Some(row) {
            return Ok(false);
        }
        let trouble = |e| StoreError::io(at, e);
        let folder = match self.top.folder(at.parent().as_ref()) {
            Err(error) if crate::beneath::is_absent(&error) => return Ok(false),
            folder => folder.map_err(trouble)?,
        };
        let look = folder.look(at.name()).map_err(trouble)?;
        if !look.is_some_and(|look| row.fits_now(&look, &self.disk)) {
            return Ok(false);
        }
        if found.is_some() && row.is_racy() && row.by == OTHER_MEANS {
            self.scan_at(tx, &folder, at)?;
            return Ok(false);
        }
        mark(tx, at, &expected, found)?;
        tracing::error!(
            path = %at, %expected, found = found.map(tracing::field::display),
            "damaged: its content changed though nobody wrote to it. Repair it with: \
             raspbox verify --repair"
        );
        Ok(true)
    }
}
