//! Entries as rows and rows as entries, and a tree of them.

use super::{Hashed, Print};
use raspbox_core::tree::{Folder, Name, Node};
use raspbox_protocol::{Digest, Entry, File, LinkTarget, Mtime, RelPath};
use rusqlite::{Row, Rows, ToSql};

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

/// Makes a tree of rows in the order of their paths, as SQLite has them. `read` gives what a row says besides its
/// path, which is its first column.
///
/// What is in a folder stands together, but not right behind the folder: "a-b" comes between "a" and "a/b".
pub(super) fn load<T>(
    mut rows: Rows<'_>,
    mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<(Entry, T)>,
    skip: &dyn Fn(&RelPath, bool) -> bool,
) -> rusqlite::Result<Folder<T>> {
    let mut tree = Building::default();
    while let Some(row) = rows.next()? {
        let text = row.get_ref(0)?.as_str()?;
        let Ok(path) = RelPath::parse(text) else {
            continue;
        };
        let Some(name) = tree.enter_parent(text) else {
            // What it is in isn't there: that was skipped, and it is with it.
            continue;
        };
        let (entry, tag) = read(row)?;
        if skip(&path, entry == Entry::Folder) {
            tree.top().holds_unsynced = true;
        } else {
            tree.top()
                .children
                .push((name.into(), Node::new(entry, tag)));
        }
    }
    Ok(tree.finish())
}

/// A tree that is being made: the folders from the top down to the one that the last row was in.
struct Building<T> {
    open: Vec<Opened<T>>,
    /// The path of the last of them, with a slash behind each name.
    at: String,
}

/// What is in a folder so far, in order.
struct Opened<T> {
    children: Vec<(Name, Node<T>)>,
    holds_unsynced: bool,
    /// Where it stands in the folder above.
    index: usize,
    /// How long the path of the folder above is.
    above_bytes: usize,
}

impl<T> Default for Building<T> {
    fn default() -> Self {
        let top = Opened {
            children: Vec::new(),
            holds_unsynced: false,
            index: 0,
            above_bytes: 0,
        };
        Building {
            open: vec![top],
            at: String::new(),
        }
    }
}

impl<T> Building<T> {
    fn top(&mut self) -> &mut Opened<T> {
        self.open.last_mut().expect("the top is never closed")
    }

    /// Opens what a path is in; returns the path's last name. `None` where nothing is there.
    fn enter_parent<'p>(&mut self, path: &'p str) -> Option<&'p str> {
        while !path.starts_with(&self.at) {
            self.close();
        }
        let mut rest = &path[self.at.len()..];
        while let Some((folder, below)) = rest.split_once('/') {
            let beside = &self.top().children;
            let index = beside.binary_search_by(|(name, _)| (**name).cmp(folder));
            let index = index.ok()?;
            self.open.push(Opened {
                children: Vec::new(),
                holds_unsynced: false,
                index,
                above_bytes: self.at.len(),
            });
            self.at.push_str(folder);
            self.at.push('/');
            rest = below;
        }
        Some(rest)
    }

    /// Nothing more comes for the folder that was opened last.
    fn close(&mut self) {
        let closed = self.open.pop().expect("only what is open is closed");
        self.at.truncate(closed.above_bytes);
        // A file has nothing in it, whatever the rows say.
        if let Node::Folder(folder, _) = &mut self.top().children[closed.index].1 {
            *folder = closed.into();
        }
    }

    fn finish(mut self) -> Folder<T> {
        while self.open.len() > 1 {
            self.close();
        }
        self.open.remove(0).into()
    }
}

impl<T> From<Opened<T>> for Folder<T> {
    fn from(opened: Opened<T>) -> Folder<T> {
        Folder {
            // A map that is made of all of them at once has no room to spare.
            children: opened.children.into_iter().collect(),
            holds_unsynced: opened.holds_unsynced,
        }
    }
}
