//! Entries as rows and rows as entries, and a tree of them.

use super::{Hashed, Print};
use raspbox_core::tree::{Folder, Node};
use raspbox_protocol::{Digest, Entry, File, LinkTarget, Mtime, RelPath};
use rusqlite::{Row, ToSql};
use std::iter::Peekable;

const FILE: i64 = 0;
pub(super) const FOLDER: i64 = 1;
const SYMLINK: i64 = 2;

/// An entry as columns.
#[derive(Default)]
pub(super) struct Columns<'a> {
    kind: i64,
    size: Option<i64>,
    mtime: Option<i64>,
    executable: Option<bool>,
    digest: Option<&'a [u8; 32]>,
    target: Option<&'a str>,
}

impl Columns<'_> {
    /// The values of a row, as the tables have them: the path, and what is there.
    pub(super) fn of_path<'c>(&'c self, path: &'c &str) -> [&'c dyn ToSql; 7] {
        [
            path,
            &self.kind,
            &self.size,
            &self.mtime,
            &self.executable,
            &self.digest,
            &self.target,
        ]
    }

    /// The same and one value more.
    pub(super) fn of_path_and<'c>(
        &'c self,
        path: &'c &str,
        last: &'c dyn ToSql,
    ) -> [&'c dyn ToSql; 8] {
        let [a, b, c, d, e, f, g] = self.of_path(path);
        [a, b, c, d, e, f, g, last]
    }

    pub(super) fn of(entry: &Entry) -> Columns<'_> {
        match entry {
            Entry::File(file) => Columns {
                kind: FILE,
                size: Some(file.size.cast_signed()),
                mtime: Some(file.mtime.0),
                executable: Some(file.executable),
                digest: Some(file.digest.as_bytes()),
                target: None,
            },
            Entry::Folder => Columns {
                kind: FOLDER,
                ..Columns::default()
            },
            Entry::Symlink(target) => Columns {
                kind: SYMLINK,
                target: Some(target.as_str()),
                ..Columns::default()
            },
        }
    }
}

/// Reads what a file looked like from columns 0 to 3.
pub(super) fn print(row: &Row<'_>) -> rusqlite::Result<Print> {
    Ok(Print {
        size: row.get::<_, i64>(0)?.cast_unsigned(),
        mtime: row.get(1)?,
        ctime: row.get(2)?,
        inode: row.get::<_, i64>(3)?.cast_unsigned(),
    })
}

/// Reads a cached hash from columns 0 to 5.
pub(super) fn hashed(row: &Row<'_>) -> rusqlite::Result<Hashed> {
    Ok(Hashed {
        print: print(row)?,
        digest: Digest::from_bytes(row.get(4)?),
        settled: row.get(5)?,
    })
}

/// Reads an entry from columns 1 to 6.
pub(super) fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    match row.get(1)? {
        FILE => Ok(Entry::File(File {
            size: row.get::<_, i64>(2)?.cast_unsigned(),
            mtime: Mtime(row.get(3)?),
            executable: row.get(4)?,
            digest: Digest::from_bytes(row.get(5)?),
        })),
        FOLDER => Ok(Entry::Folder),
        kind => {
            let target: String = row.get(6)?;
            LinkTarget::parse(&target)
                .ok()
                .filter(|_| kind == SYMLINK)
                .map(Entry::Symlink)
                .ok_or(rusqlite::Error::IntegralValueOutOfRange(1, kind))
        }
    }
}

/// Makes a tree of rows in any order.
pub(super) fn load<T>(
    rows: impl Iterator<Item = rusqlite::Result<(String, Entry, T)>>,
    skip: &dyn Fn(&RelPath, bool) -> bool,
) -> rusqlite::Result<Folder<T>> {
    let mut entries = Vec::new();
    for row in rows {
        let (path, entry, tag) = row?;
        if let Ok(path) = RelPath::parse(&path) {
            entries.push((path, entry, tag));
        }
    }
    // SQLite's order has "a-b" between "a" and "a/b"; a tree wants a folder before what is in it.
    entries.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
    Ok(folder_of(None, &mut entries.into_iter().peekable(), skip))
}

/// Takes what is in a folder off entries that are in order.
fn folder_of<T>(
    at: Option<&RelPath>,
    entries: &mut Peekable<impl Iterator<Item = (RelPath, Entry, T)>>,
    skip: &dyn Fn(&RelPath, bool) -> bool,
) -> Folder<T> {
    let mut folder = Folder::default();
    let mut children = Vec::new();
    let begin = at.map_or(0, |at| at.as_str().len() + "/".len());
    let is_below = |path: &RelPath| at.is_none_or(|at| path.is_in(at));
    while let Some((path, entry, tag)) = entries.next_if(|(path, ..)| is_below(path)) {
        let name = &path.as_str()[begin..];
        if name.contains('/') {
            // Nothing that it could be in came before it: that was skipped, and it is with it.
            continue;
        }
        if skip(&path, entry == Entry::Folder) {
            folder.holds_unsynced = true;
            continue;
        }
        let node = match entry {
            Entry::Folder => Node::Folder(folder_of(Some(&path), entries, skip), tag),
            Entry::File(_) | Entry::Symlink(_) => Node::new(entry, tag),
        };
        children.push((name.into(), node));
    }
    // A map that is made of all of them at once has no room to spare.
    folder.children = children.into_iter().collect();
    folder
}
