//! The journal's tables: entries, tombstones, intents and outcomes.

use crate::beneath::{Fingerprint, Kind, Look};
use crate::damage;
use crate::holds::Disk;
use crate::journal::{RESULTS_MAX, Tx, key, now_ns, path};
use raspbox_protocol::special::RequestId;
use raspbox_protocol::{Digest, Entry, File, LinkTarget, Mtime, RelPath, Version};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

/// What the journal knows of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) entry: Entry,
    pub(crate) version: Version,
    pub(crate) by: String,
    /// From when on it stands there, by the history's clock.
    pub(crate) since_ns: i64,
    pub(crate) print: Fingerprint,
    pub(crate) recorded_ns: i64,
}

/// What is about to be displaced under a path, should a crash come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Intent {
    /// The name in the staging folder that holds the new content, or takes the old one.
    pub(crate) staged: String,
    /// The path whose content is displaced.
    pub(crate) path: RelPath,
    /// The path that moves there, where it is a move.
    pub(crate) source: Option<RelPath>,
    /// The new content, where it is staged.
    pub(crate) new: Option<Entry>,
}

/// How far apart a file's time and its row must be for the row to be believed: FAT's step, and the
/// racy rule of git.
const RACY_NS: u64 = 2_000_000_000;

impl Row {
    /// A row for what was just made.
    pub(crate) fn new(
        tx: &Tx<'_>,
        entry: Entry,
        version: Version,
        by: &str,
        look: &Look,
    ) -> rusqlite::Result<Row> {
        Ok(Row {
            entry,
            version,
            by: by.into(),
            since_ns: tx.now()?,
            print: look.print,
            recorded_ns: now_ns(),
        })
    }

    /// The row of what was just given its name, with the fingerprint that it has there. Where what
    /// stands there is something else already, the row keeps one that doesn't fit it, so that the
    /// next look finds out.
    pub(crate) fn seen(mut self, look: &Look, disk: &Disk) -> Row {
        if self.fits_moved(look, disk) {
            self.print = look.print;
            self.recorded_ns = now_ns();
        }
        self
    }

    /// Whether what is on the disk is what the row says, as far as can be seen from outside.
    pub(crate) fn fits(&self, look: &Look, disk: &Disk) -> bool {
        self.fits_moved(look, disk)
            && match self.entry {
                Entry::File(_) if disk.stable_inodes => self.print.ctime_ns == look.print.ctime_ns,
                // Only time and size are left to go by, so they must have settled.
                Entry::File(_) => !self.is_racy(),
                Entry::Folder | Entry::Symlink(_) => true,
            }
    }

    /// The same for reading: where time and size are all there is, they must do.
    pub(crate) fn fits_now(&self, look: &Look, disk: &Disk) -> bool {
        if disk.stable_inodes {
            self.fits(look, disk)
        } else {
            self.fits_moved(look, disk)
        }
    }

    /// The same after a rename, which changes a file's `ctime`.
    pub(crate) fn fits_moved(&self, look: &Look, disk: &Disk) -> bool {
        match (&self.entry, &look.kind) {
            (Entry::File(_), Kind::File) => {
                self.print.size == look.print.size
                    && self.print.mtime_ns == look.print.mtime_ns
                    && (!disk.stable_inodes || self.print.inode == look.print.inode)
            }
            (Entry::Folder, Kind::Folder) => true,
            (Entry::Symlink(target), Kind::Symlink(Some(found))) => target == found,
            (Entry::File(_) | Entry::Folder | Entry::Symlink(_), _) => false,
        }
    }

    /// The row of a file that should stand there and doesn't, though nobody took it away.
    pub(crate) fn missing(mut self) -> Row {
        self.print = Fingerprint::default();
        self
    }

    /// Whether it is one: nothing that stands somewhere has the inode number 0.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.entry, Entry::File(_)) && self.print.inode == 0
    }

    /// Whether what is known to be damaged may look like that: nobody has written to it since.
    pub(crate) fn fits_damaged(&self, look: &Look) -> bool {
        matches!((&self.entry, &look.kind), (Entry::File(_), Kind::File))
            && self.print.mtime_ns == look.print.mtime_ns
    }

    /// Whether the content may have changed after the row was made without showing it.
    pub(crate) fn is_racy(&self) -> bool {
        matches!(self.entry, Entry::File(_))
            && self.recorded_ns.abs_diff(self.print.mtime_ns) < RACY_NS
    }

    /// The content's hash, where it is a file.
    pub(crate) fn digest(&self) -> Option<Digest> {
        match &self.entry {
            Entry::File(file) => Some(file.digest),
            Entry::Folder | Entry::Symlink(_) => None,
        }
    }
}

const FILE: i64 = 0;
const FOLDER: i64 = 1;
const SYMLINK: i64 = 2;

/// The columns that make a [`Row`], in the order that [`row`] takes them.
pub(crate) const COLUMNS: &str = "path, kind, size, mtime_ns, executable, digest, target, version, \
     by, disk_mtime_ns, ctime_ns, inode, recorded_ns, since_ns";

/// The row of a path.
pub(crate) fn get(db: &Connection, at: &RelPath) -> rusqlite::Result<Option<Row>> {
    let sql = format!("SELECT {COLUMNS} FROM entry WHERE path = ?");
    let found = db
        .prepare_cached(&sql)?
        .query_row([key(at)], row)
        .optional()?;
    Ok(found.map(|(_, row)| row))
}

/// Up to `limit` rows in a folder and below (`None`: all), after `after`, in order.
pub(crate) fn page(
    db: &Connection,
    folder: Option<&RelPath>,
    after: Option<&RelPath>,
    limit: u32,
) -> rusqlite::Result<Vec<(RelPath, Row)>> {
    let after = after.map(key).unwrap_or_default();
    match folder {
        None => {
            let sql = format!("SELECT {COLUMNS} FROM entry WHERE path > ? ORDER BY path LIMIT ?");
            let mut statement = db.prepare_cached(&sql)?;
            statement.query_map(params![after, limit], row)?.collect()
        }
        Some(folder) => {
            let (low, high) = range(folder);
            let sql = format!(
                "SELECT {COLUMNS} FROM entry WHERE path > ? AND path < ? ORDER BY path LIMIT ?"
            );
            let mut statement = db.prepare_cached(&sql)?;
            statement
                .query_map(params![after.max(low), high, limit], row)?
                .collect()
        }
    }
}

/// Writes a path's row; what was absent there isn't any more.
pub(crate) fn put(tx: &Tx<'_>, at: &RelPath, row: &Row) -> rusqlite::Result<()> {
    let key = key(at);
    let Columns {
        kind,
        size,
        mtime,
        executable,
        digest,
        target,
    } = columns(&row.entry);
    let sql = "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    tx.db.prepare_cached(sql)?.execute(params![
        key,
        kind,
        size,
        mtime,
        executable,
        digest,
        target,
        row.version.0.cast_signed(),
        row.by,
        row.print.mtime_ns,
        row.print.ctime_ns,
        row.print.inode.cast_signed(),
        row.recorded_ns,
        row.since_ns,
    ])?;
    tx.db
        .prepare_cached("DELETE FROM tombstone WHERE path = ?")?
        .execute([&key])?;
    damage::only(tx, &key, digest)
}

/// Replaces a path's row by a tombstone.
pub(crate) fn bury(tx: &Tx<'_>, at: &RelPath, version: Version) -> rusqlite::Result<()> {
    let key = key(at);
    tx.db
        .prepare_cached("DELETE FROM entry WHERE path = ?")?
        .execute([&key])?;
    tx.db
        .prepare_cached("INSERT OR REPLACE INTO tombstone VALUES (?, ?)")?
        .execute(params![key, version.0.cast_signed()])?;
    tx.buried(1);
    damage::only(tx, &key, None)
}

/// Replaces a path's row, and those of what is in it, by tombstones.
pub(crate) fn bury_tree(tx: &Tx<'_>, at: &RelPath, version: Version) -> rusqlite::Result<()> {
    let (own, (low, high)) = (key(at), range(at));
    let version = version.0.cast_signed();
    let sql = "INSERT OR REPLACE INTO tombstone \
               SELECT path, ? FROM entry WHERE path = ? OR (path >= ? AND path < ?)";
    let buried = tx
        .db
        .prepare_cached(sql)?
        .execute(params![version, own, low, high])?;
    tx.db
        .prepare_cached("DELETE FROM entry WHERE path = ? OR (path >= ? AND path < ?)")?
        .execute(params![own, low, high])?;
    tx.buried(buried);
    damage::forget(tx, &own, &low, &high)
}

/// Gives everything at and below `from` the same place at and below `to`.
pub(crate) fn move_tree(
    tx: &Tx<'_>,
    from: &RelPath,
    to: &RelPath,
    version: Version,
    by: &str,
) -> rusqlite::Result<()> {
    let (own, (low, high)) = (key(from), range(from));
    let number = version.0.cast_signed();
    let sql = "INSERT OR REPLACE INTO tombstone \
               SELECT path, ? FROM entry WHERE path = ? OR (path >= ? AND path < ?)";
    let buried = tx
        .db
        .prepare_cached(sql)?
        .execute(params![number, own, low, high])?;
    tx.buried(buried);
    tx.db
        .prepare_cached("DELETE FROM entry WHERE path = ?")?
        .execute([key(to)])?;
    // `substr` counts characters from 1.
    let rest = i64::try_from(own.chars().count()).unwrap_or(i64::MAX) + 1;
    let sql = "UPDATE entry SET path = ? || substr(path, ?), version = ?, by = ?, since_ns = ? \
               WHERE path = ? OR (path >= ? AND path < ?)";
    let since = tx.now()?;
    tx.db.prepare_cached(sql)?.execute(params![
        key(to),
        rest,
        number,
        by,
        since,
        own,
        low,
        high
    ])?;
    let (to_own, (to_low, to_high)) = (key(to), range(to));
    damage::forget(tx, &to_own, &to_low, &to_high)?;
    tx.db
        .prepare_cached(
            "UPDATE damaged SET path = ? || substr(path, ?) \
             WHERE path = ? OR (path >= ? AND path < ?)",
        )?
        .execute(params![to_own, rest, own, low, high])?;
    let (own, (low, high)) = (key(to), range(to));
    let sql = "DELETE FROM tombstone WHERE (path = ? OR (path >= ? AND path < ?)) \
               AND EXISTS (SELECT 1 FROM entry WHERE entry.path = tombstone.path)";
    tx.db
        .prepare_cached(sql)?
        .execute(params![own, low, high])?;
    Ok(())
}

/// Whether a path has this content, by its row.
pub(crate) fn has_content(
    db: &Connection,
    at: &RelPath,
    digest: &Digest,
) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM entry WHERE path = ? AND digest = ?")?
        .exists(params![key(at), digest.as_bytes().as_slice()])
}

/// The change that made a path absent, where it is remembered.
pub(crate) fn tombstone(db: &Connection, at: &RelPath) -> rusqlite::Result<Option<Version>> {
    db.prepare_cached("SELECT version FROM tombstone WHERE path = ?")?
        .query_row([key(at)], |row| row.get::<_, i64>(0))
        .optional()
        .map(|found| found.map(|version| Version(version.cast_unsigned())))
}

/// Notes what is about to be displaced.
pub(crate) fn intend(tx: &Tx<'_>, intent: &Intent) -> rusqlite::Result<()> {
    let (digest, target) = match &intent.new {
        Some(Entry::File(file)) => (Some(file.digest.as_bytes().to_vec()), None),
        Some(Entry::Symlink(target)) => (None, Some(target.as_str())),
        Some(Entry::Folder) | None => (None, None),
    };
    tx.db
        .prepare_cached("INSERT INTO intent VALUES (?, ?, ?, ?, ?)")?
        .execute(params![
            intent.staged,
            key(&intent.path),
            intent.source.as_ref().map(key),
            digest,
            target,
        ])?;
    Ok(())
}

/// What was about to be displaced when the journal was last written.
pub(crate) fn intents(db: &Connection) -> rusqlite::Result<Vec<Intent>> {
    let mut statement = db.prepare("SELECT staged, path, source, digest, target FROM intent")?;
    let intents = statement.query_map([], |row| {
        let digest: Option<[u8; 32]> = row.get(3)?;
        let target: Option<String> = row.get(4)?;
        let file = digest.map(|digest| {
            Entry::File(File {
                digest: Digest::from_bytes(digest),
                size: 0,
                mtime: Mtime(0),
                executable: false,
            })
        });
        let link = target
            .and_then(|t| LinkTarget::parse(&t).ok())
            .map(Entry::Symlink);
        Ok(Intent {
            staged: row.get(0)?,
            path: path(&row.get::<_, String>(1)?)?,
            source: row
                .get::<_, Option<String>>(2)?
                .as_deref()
                .map(path)
                .transpose()?,
            new: file.or(link),
        })
    })?;
    intents.collect()
}

/// Forgets all intents: what they were about is journalled.
pub(crate) fn clear_intents(tx: &Tx<'_>) -> rusqlite::Result<()> {
    tx.db.prepare_cached("DELETE FROM intent")?.execute([])?;
    Ok(())
}

/// Remembers what became of a commit.
pub(crate) fn put_result(tx: &Tx<'_>, id: RequestId, outcomes: &[u8]) -> rusqlite::Result<()> {
    tx.db
        .prepare_cached("INSERT OR IGNORE INTO result (id, outcomes) VALUES (?, ?)")?
        .execute(params![id.0.as_slice(), outcomes])?;
    let sql = "DELETE FROM result WHERE number <= (SELECT max(number) FROM result) - ?";
    tx.db.prepare_cached(sql)?.execute([RESULTS_MAX])?;
    Ok(())
}

/// What became of a commit.
pub(crate) fn result(db: &Connection, id: RequestId) -> rusqlite::Result<Option<Vec<u8>>> {
    db.prepare_cached("SELECT outcomes FROM result WHERE id = ?")?
        .query_row([id.0.as_slice()], |row| row.get(0))
        .optional()
}

/// Makes a row from [`COLUMNS`].
pub(crate) fn row(sql: &SqlRow<'_>) -> rusqlite::Result<(RelPath, Row)> {
    let row = Row {
        entry: entry(sql)?,
        version: Version(sql.get::<_, i64>(7)?.cast_unsigned()),
        by: sql.get(8)?,
        print: Fingerprint {
            size: sql.get::<_, i64>(2)?.cast_unsigned(),
            mtime_ns: sql.get(9)?,
            ctime_ns: sql.get(10)?,
            inode: sql.get::<_, i64>(11)?.cast_unsigned(),
        },
        recorded_ns: sql.get(12)?,
        since_ns: sql.get(13)?,
    };
    Ok((path(sql.get_ref(0)?.as_str()?)?, row))
}

/// Makes an entry from the first seven of [`COLUMNS`].
pub(crate) fn entry(sql: &SqlRow<'_>) -> rusqlite::Result<Entry> {
    let wrong = || rusqlite::Error::IntegralValueOutOfRange(1, 0);
    Ok(match sql.get::<_, i64>(1)? {
        FILE => Entry::File(File {
            digest: Digest::from_bytes(sql.get(5)?),
            size: sql.get::<_, i64>(2)?.cast_unsigned(),
            mtime: Mtime(sql.get(3)?),
            executable: sql.get(4)?,
        }),
        FOLDER => Entry::Folder,
        SYMLINK => {
            let target = sql.get_ref(6)?.as_str()?;
            Entry::Symlink(LinkTarget::parse(target).map_err(|_| wrong())?)
        }
        _ => return Err(wrong()),
    })
}

/// The keys of what is in a folder: from the first up to the last exclusive.
pub(crate) fn range(folder: &RelPath) -> (String, String) {
    let key = key(folder);
    (format!("{key}\u{1}"), format!("{key}\u{2}"))
}

/// An entry as the tables have it.
pub(crate) struct Columns<'a> {
    pub(crate) kind: i64,
    pub(crate) size: i64,
    pub(crate) mtime: i64,
    pub(crate) executable: bool,
    pub(crate) digest: Option<&'a [u8]>,
    pub(crate) target: Option<&'a str>,
}

pub(crate) fn columns(entry: &Entry) -> Columns<'_> {
    let none = Columns {
        kind: FOLDER,
        size: 0,
        mtime: 0,
        executable: false,
        digest: None,
        target: None,
    };
    match entry {
        Entry::File(file) => Columns {
            kind: FILE,
            size: file.size.cast_signed(),
            mtime: file.mtime.0,
            executable: file.executable,
            digest: Some(file.digest.as_bytes().as_slice()),
            target: None,
        },
        Entry::Folder => none,
        Entry::Symlink(target) => Columns {
            kind: SYMLINK,
            target: Some(target.as_str()),
            ..none
        },
    }
}
