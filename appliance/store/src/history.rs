//! What stood at a path before: the table `displaced`, and the tree as it was at some time.
//!
//! Each row is a time during which something stood at a path, from `since_ns` until
//! `displaced_at_ns`; what stands there now has its `since_ns` in `entry`. So what stood there at a
//! time T is the row that begins last before T, unless it ended before T as well. That covers
//! folders and moves: they leave a row like everything else, only no content.
//!
//! A row says what stood there, not where its content is. The content is found by its hash: among
//! the kept ones, or in a file that stands somewhere now (what was moved away, for one).
//!
//! A row that is let go of gives its time to its neighbour ([`crate::release`]).

use crate::beneath::Look;
use crate::contents;
use crate::damage;
use crate::error::{FeedError, StoreError};
use crate::inner::Inner;
use crate::journal::{self, Tx, key};
use crate::rows::{self, Columns, Row, columns, range};
use raspbox_beneath::File;
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::history::{Ended, How, Past};
use raspbox_protocol::special::Clock;
use raspbox_protocol::{Digest, Entry, Mtime, RelPath, Version};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};
use std::io;

/// How many files with the same content are tried for it.
const COPIES_MAX: usize = 8;

/// What became of what a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End<'a> {
    /// Something else took its place.
    Replaced,
    /// It was deleted.
    Deleted,
    /// It went there, with everything below it.
    Moved(&'a RelPath),
}

const REPLACED: i64 = 0;
const DELETED: i64 = 1;
const MOVED: i64 = 2;

impl End<'_> {
    fn code(self) -> i64 {
        match self {
            End::Replaced => REPLACED,
            End::Deleted => DELETED,
            End::Moved(_) => MOVED,
        }
    }
}

/// Notes that what a row says stands there no longer. `at` is `None` where nobody knows any more
/// where it stood.
pub(crate) fn displace(
    tx: &Tx<'_>,
    at: Option<&RelPath>,
    row: &Row,
    end: End<'_>,
    by: &str,
) -> rusqlite::Result<()> {
    displace_until(tx, at, row, tx.now()?, end, by)
}

/// The same for what ended at a time before now.
pub(crate) fn displace_until(
    tx: &Tx<'_>,
    at: Option<&RelPath>,
    row: &Row,
    until_ns: i64,
    end: End<'_>,
    by: &str,
) -> rusqlite::Result<()> {
    let Columns {
        kind,
        size,
        mtime,
        executable,
        digest,
        target,
    } = columns(&row.entry);
    let to = match end {
        End::Replaced | End::Deleted => None,
        End::Moved(to) => Some(key(to)),
    };
    let sql = "INSERT INTO displaced (path, kind, digest, size, mtime_ns, executable, target, \
               version, by, since_ns, displaced_at_ns, displaced_by, how, moved_to) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    tx.db.prepare_cached(sql)?.execute(params![
        at.map(key),
        kind,
        digest,
        size,
        mtime,
        executable,
        target,
        row.version.0.cast_signed(),
        row.by,
        row.since_ns,
        until_ns,
        by,
        end.code(),
        to,
    ])?;
    Ok(())
}

/// The same for the rows at a path and below, as they are in the journal.
pub(crate) fn displace_tree(
    tx: &Tx<'_>,
    at: &RelPath,
    end: End<'_>,
    by: &str,
) -> rusqlite::Result<()> {
    let (own, (low, high)) = (key(at), range(at));
    let to = match end {
        End::Replaced | End::Deleted => None,
        End::Moved(to) => Some(key(to)),
    };
    // `substr` counts characters from 1; with NULL the whole is NULL.
    let rest = i64::try_from(own.chars().count()).unwrap_or(i64::MAX) + 1;
    let sql = "INSERT INTO displaced (path, kind, digest, size, mtime_ns, executable, target, \
               version, by, since_ns, displaced_at_ns, displaced_by, how, moved_to) \
               SELECT path, kind, digest, size, mtime_ns, executable, target, version, by, \
               since_ns, ?, ?, ?, ? || substr(path, ?) FROM entry \
               WHERE path = ? OR (path >= ? AND path < ?) ORDER BY path";
    let now = tx.now()?;
    tx.db
        .prepare_cached(sql)?
        .execute(params![now, by, end.code(), to, rest, own, low, high])?;
    Ok(())
}

/// Whether it is noted that a content stood at a path.
pub(crate) fn was_at(db: &Connection, at: &RelPath, digest: &Digest) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM displaced WHERE path = ? AND digest = ? LIMIT 1")?
        .exists(params![key(at), digest.as_bytes().as_slice()])
}

/// Whether this version of this path is noted already.
pub(crate) fn is_displaced_at(db: &Connection, at: &RelPath, row: &Row) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM displaced WHERE path = ? AND version = ? LIMIT 1")?
        .exists(params![key(at), row.version.0.cast_signed()])
}

impl Inner {
    /// The history's clock.
    pub(crate) fn clock(&self) -> Result<Clock, StoreError> {
        let time = self.time_ns();
        let (now, begun) = self.snapshot(|db| -> rusqlite::Result<_> {
            Ok((journal::clock(db, time)?, journal::begun(db)?))
        })?;
        Ok(Clock {
            now: Mtime(now),
            begun: Mtime(begun),
        })
    }

    /// What stands at a path and what stood there, the newest first.
    pub(crate) fn history(&self, path: &RelPath) -> Result<Vec<Past>, StoreError> {
        self.hint()?;
        self.snapshot(|db| {
            let mut history = Vec::new();
            if let Some(row) = rows::get(db, path)? {
                history.push(Past {
                    number: None,
                    entry: row.entry,
                    version: row.version,
                    by: row.by,
                    since: Mtime(row.since_ns),
                    ended: None,
                    kept: true,
                });
            }
            let sql =
                format!("SELECT {PAST_COLUMNS} FROM displaced WHERE path = ? ORDER BY id DESC");
            let mut statement = db.prepare_cached(&sql)?;
            let mut found = statement.query([key(path)])?;
            while let Some(row) = found.next()? {
                let mut past = past(row)?;
                past.kept = self.has(db, &past.entry)?;
                history.push(past);
            }
            Ok(history)
        })
    }

    /// One version of a path.
    pub(crate) fn version(&self, path: &RelPath, number: u64) -> Result<Option<Past>, StoreError> {
        self.snapshot(|db| {
            let sql = format!("SELECT {PAST_COLUMNS} FROM displaced WHERE id = ? AND path = ?");
            let mut statement = db.prepare_cached(&sql)?;
            let past = statement
                .query_row(params![number.cast_signed(), key(path)], past)
                .optional()?;
            match past {
                Some(mut past) => {
                    past.kept = self.has(db, &past.entry)?;
                    Ok(Some(past))
                }
                None => Ok(None),
            }
        })
    }

    /// The names in a folder (`None`: the top) at or below which files were displaced, each with a
    /// time at which one was.
    pub(crate) fn displaced_in(
        &self,
        folder: Option<&RelPath>,
    ) -> Result<Vec<(String, Mtime)>, StoreError> {
        let (mut low, high, skip) = match folder {
            // All keys are below: no name begins with a character beyond the last.
            None => (String::new(), None, 0),
            Some(folder) => {
                let (low, high) = range(folder);
                let skip = low.len();
                (low, Some(high), skip)
            }
        };
        self.snapshot(|db| {
            let sql = "SELECT path, displaced_at_ns FROM displaced \
                       WHERE path >= ? AND (?2 IS NULL OR path < ?2) AND digest IS NOT NULL \
                       ORDER BY path LIMIT 1";
            let mut statement = db.prepare_cached(sql)?;
            let mut names = Vec::new();
            loop {
                let next = statement
                    .query_row(params![low, high], |row| {
                        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
                    })
                    .optional()?;
                let Some((key, time)) = next else {
                    return Ok(names);
                };
                let rest = &key[skip..];
                let name = rest.split('\u{1}').next().unwrap_or(rest);
                low = format!("{}\u{2}", &key[..skip + name.len()]);
                names.push((name.to_owned(), Mtime(time)));
            }
        })
    }

    /// Whether files were displaced at or below a path.
    pub(crate) fn has_displaced(&self, path: &RelPath) -> Result<bool, StoreError> {
        let (low, high) = range(path);
        let found = self.snapshot(|db| {
            let sql = "SELECT 1 FROM displaced WHERE (path = ? OR (path >= ? AND path < ?)) \
                       AND digest IS NOT NULL LIMIT 1";
            db.prepare_cached(sql)?
                .exists(params![key(path), low, high])
        });
        Ok(found?)
    }

    /// Sends the tree as it was, like [`Inner::feed`] does as it is.
    pub(crate) fn tree_at(
        &self,
        at: Mtime,
        send: &mut dyn FnMut(FeedFrame) -> io::Result<()>,
    ) -> Result<(), FeedError> {
        self.snapshot(|db| {
            if at.0 < journal::begun(db)? {
                return Err(FeedError::Expired);
            }
            send(FeedFrame::Head { whole: true }).map_err(FeedError::Sink)?;
            stood_at(db, at.0, &mut |path, entry, version| {
                let frame = FeedFrame::Entry {
                    path,
                    entry,
                    version,
                };
                send(frame).map_err(FeedError::Sink)
            })?;
            send(FeedFrame::Mark(journal::read_cursor(db)?)).map_err(FeedError::Sink)
        })
    }

    /// Opens the places where a content is, the kept one first; whoever reads it checks its hash.
    pub(crate) fn sources(&self, digest: &Digest, size: u64) -> Result<Vec<Source>, StoreError> {
        let mut sources = Vec::new();
        let trouble = |e| StoreError::io("a version", e);
        if self.own.keeps(digest, size).map_err(trouble)? {
            let name = digest.to_string();
            match self.own.shelf(digest).and_then(|shelf| shelf.open(&name)) {
                Ok(file) => {
                    let damaged = self.snapshot(|db| damage::is_kept_marked(db, digest))?;
                    sources.push(Source {
                        live: None,
                        damaged,
                        file,
                    });
                }
                // Let go just now.
                Err(error) if crate::beneath::is_absent(&error) => {}
                Err(error) => return Err(trouble(error)),
            }
        }
        self.hint()?;
        for path in self.snapshot(|db| contents::copies(db, digest, COPIES_MAX))? {
            // One that can't be read now, or was changed by other means, isn't one.
            if let Ok(file) = self.read(&path)
                && let Some(row) = self.snapshot(|db| rows::get(db, &path))?
                && row.fits_now(&Look::of(&file).map_err(trouble)?, &self.disk)
            {
                let damaged = self.snapshot(|db| damage::is_marked(db, &path, &row))?;
                sources.push(Source {
                    live: Some((path, row)),
                    damaged,
                    file,
                });
            }
        }
        sources.sort_by_key(|source| source.damaged);
        Ok(sources)
    }

    /// Whether what once stood somewhere can be had.
    fn has(&self, db: &Connection, entry: &Entry) -> Result<bool, StoreError> {
        let Entry::File(file) = entry else {
            return Ok(true);
        };
        let kept = self.own.keeps(&file.digest, file.size);
        Ok(kept.map_err(|e| StoreError::io("a version", e))?
            || contents::has_copy(db, &file.digest)?)
    }
}

/// Where a content is.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file that has it; `None` where it is kept as a version.
    pub(crate) live: Option<(RelPath, Row)>,
    /// Whether it is known to be damaged there.
    pub(crate) damaged: bool,
    pub(crate) file: File,
}

const PAST_COLUMNS: &str = "path, kind, size, mtime_ns, executable, digest, target, version, by, \
     since_ns, id, displaced_at_ns, displaced_by, how, moved_to";

fn past(row: &SqlRow<'_>) -> rusqlite::Result<Past> {
    let moved_to: Option<String> = row.get(14)?;
    let how = match (row.get(13)?, moved_to) {
        (MOVED, Some(to)) => How::Moved(journal::path(&to)?),
        (DELETED, _) => How::Deleted,
        // What a place became that is no path any more (it got too long) is as good as replaced.
        (_, _) => How::Replaced,
    };
    Ok(Past {
        number: Some(row.get::<_, i64>(10)?.cast_unsigned()),
        entry: rows::entry(row)?,
        version: Version(row.get::<_, i64>(7)?.cast_unsigned()),
        by: row.get(8)?,
        since: Mtime(row.get(9)?),
        ended: Some(Ended {
            at: Mtime(row.get(11)?),
            by: row.get(12)?,
            how,
        }),
        kept: false,
    })
}

/// Gives all that stood somewhere at a time, in the order of [`RelPath`].
fn stood_at(
    db: &Connection,
    at: i64,
    give: &mut dyn FnMut(RelPath, Entry, Version) -> Result<(), FeedError>,
) -> Result<(), FeedError> {
    let sql = format!(
        "SELECT path, kind, size, mtime_ns, executable, digest, target, version, \
         1 AS stood, {} AS number FROM entry WHERE since_ns <= ?1 \
         UNION ALL \
         SELECT path, kind, size, mtime_ns, executable, digest, target, version, \
         displaced_at_ns > ?1, id FROM displaced \
         WHERE path IS NOT NULL AND since_ns <= ?1 ORDER BY path, number",
        i64::MAX
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut found = statement.query([at])?;
    let mut last: Option<Stood> = None;
    loop {
        let next = found.next()?.map(Stood::of).transpose()?;
        let is_over = match (&last, &next) {
            (Some(last), Some(next)) => last.key != next.key,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if is_over && let Some(last) = last.take().filter(|last| last.stood) {
            give(journal::path(&last.key)?, last.entry, last.version)?;
        }
        // Of one path, the row that began last.
        match next {
            Some(next) => last = Some(next),
            None => return Ok(()),
        }
    }
}

/// What a row says of a path at some time.
struct Stood {
    key: String,
    entry: Entry,
    version: Version,
    stood: bool,
}

impl Stood {
    fn of(row: &SqlRow<'_>) -> rusqlite::Result<Stood> {
        Ok(Stood {
            key: row.get(0)?,
            entry: rows::entry(row)?,
            version: Version(row.get::<_, i64>(7)?.cast_unsigned()),
            stood: row.get(8)?,
        })
    }
}
