//! Comparing the disk with the journal, and journalling what was written by other means.
//!
//! The disk is walked in the order of [`RelPath`], which is the order of the journal's rows, so one
//! pass over both finds what is new, changed and gone, however large the tree is. What can't be read
//! is unknown and keeps its rows; only what is seen not to be there is gone.

use crate::beneath::{Folder, Kind, Look, is_absent};
use crate::damage;
use crate::error::StoreError;
use crate::history::End;
use crate::inner::Inner;
use crate::journal::{Tx, now_ns};
use crate::rows::{self, Row};
use crate::staging::digest_of;
use raspbox_protocol::path::RESERVED_NAME;
use raspbox_protocol::{Digest, Entry, File, RelPath};
use std::collections::{BTreeSet, VecDeque};
use std::io;

/// By whom a change is that was found on the disk.
pub(crate) const OTHER_MEANS: &str = "";

/// How many rows are read at once.
const PAGE: u32 = 1_000;

/// How many changes a scan writes in one transaction.
const RENEW_EVERY: u32 = 5_000;

/// How often a file is hashed again that changes while it is read.
const HASH_TRIES: u32 = 3;

/// One pass over disk and rows.
struct Scan<'a> {
    store: &'a Inner,
    tx: &'a Tx<'a>,
    rows: RowPages<'a>,
    /// Files to read whatever they look like: something else was put there before a crash.
    doubted: &'a BTreeSet<RelPath>,
    /// Where the filesystem had to be repaired.
    repair: Option<Repair<'a>>,
    changes: u32,
    /// Whether the transaction may be made durable in between.
    renew: bool,
}

/// What a scan knows and finds after the filesystem was repaired.
struct Repair<'a> {
    /// What was about to be displaced when it was mounted last.
    displaced: &'a BTreeSet<RelPath>,
    /// Contents at paths that had none.
    appeared: BTreeSet<Digest>,
    /// Rows without anything on the disk.
    gone: Vec<(RelPath, Row)>,
}

/// The rows in order, a page at a time. What the scan writes is never ahead of what it has read.
struct RowPages<'a> {
    tx: &'a Tx<'a>,
    folder: Option<&'a RelPath>,
    after: Option<RelPath>,
    page: VecDeque<(RelPath, Row)>,
    done: bool,
}

impl Inner {
    /// Compares the whole tree. Where the filesystem had to be repaired, `displaced` is what was about to
    /// be displaced before: of everything else, what is gone or cut short was taken by the repair.
    pub(crate) fn scan_all(
        &self,
        tx: &Tx<'_>,
        doubted: &BTreeSet<RelPath>,
        displaced: Option<&BTreeSet<RelPath>>,
    ) -> Result<(), StoreError> {
        let mut scan = Scan {
            store: self,
            tx,
            rows: RowPages::new(tx, None),
            doubted,
            repair: displaced.map(|displaced| Repair {
                displaced,
                appeared: BTreeSet::new(),
                gone: Vec::new(),
            }),
            changes: 0,
            renew: true,
        };
        let top = self
            .top
            .folder(None)
            .map_err(|e| StoreError::io("the top", e))?;
        scan.walk(&top, None)?;
        scan.gone_before(None)?;
        scan.judge_gone()?;
        if scan.changes > 0 {
            tracing::info!(changes = scan.changes, "found changes made by other means");
        }
        Ok(())
    }

    /// Compares what stands at a path, and everything below, in the folder that it is in.
    pub(crate) fn scan_at(
        &self,
        tx: &Tx<'_>,
        folder: &Folder,
        path: &RelPath,
    ) -> Result<(), StoreError> {
        let mut rows = RowPages::new(tx, Some(path));
        if let Some(row) = rows::get(tx.db, path)? {
            rows.page.push_back((path.clone(), row));
        }
        let mut scan = Scan {
            store: self,
            tx,
            rows,
            doubted: &BTreeSet::new(),
            repair: None,
            changes: 0,
            renew: false,
        };
        scan.one(folder, path)?;
        scan.gone_before(None)
    }
}

impl Scan<'_> {
    fn walk(&mut self, folder: &Folder, at: Option<&RelPath>) -> Result<(), StoreError> {
        let (mut names, skipped) = match (folder.names(), at) {
            (Ok(names), _) => names,
            (Err(error), None) => return Err(StoreError::io("the top", error)),
            (Err(error), Some(at)) => return self.unknown(at, &error),
        };
        if skipped > 0 {
            tracing::warn!(folder = ?at, skipped, "names that are not UTF-8 were skipped");
        }
        names.sort_unstable();
        for name in names {
            match RelPath::child(at, &name) {
                Ok(path) => self.one(folder, &path)?,
                Err(_) if at.is_none() && name == RESERVED_NAME => {}
                Err(error) => tracing::warn!(folder = ?at, name, %error, "a name was skipped"),
            }
        }
        Ok(())
    }

    fn one(&mut self, folder: &Folder, path: &RelPath) -> Result<(), StoreError> {
        if self.store.faults.unreadable.as_deref() == Some(path.as_str()) {
            return self.unknown(path, &io::ErrorKind::Other.into());
        }
        let look = match folder.look(path.name()) {
            Ok(Some(look)) => look,
            Ok(None) => return Ok(()),
            Err(error) => return self.unknown(path, &error),
        };
        match &look.kind {
            Kind::Other => {
                tracing::warn!(%path, "neither file nor folder nor symlink, skipped");
                return Ok(());
            }
            Kind::Symlink(None) => {
                tracing::warn!(%path, "a symlink with a target that is no text was skipped");
                return Ok(());
            }
            Kind::File | Kind::Folder | Kind::Symlink(Some(_)) => {}
        }
        self.gone_before(Some(path))?;
        let row = self.rows.take(path)?;
        let is_folder = look.kind == Kind::Folder;
        match self.compare(folder, path, row, look) {
            Ok(()) => {}
            // The row stays as it is: taken from the pages, not from the journal.
            Err(Trouble::Unreadable(error)) => return self.unknown(path, &error),
            Err(Trouble::Store(error)) => return Err(error),
        }
        if !is_folder {
            return Ok(());
        }
        match folder.below(path.name()) {
            Ok(inside) => self.walk(&inside, Some(path)),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => self.unknown(path, &error),
        }
    }

    fn compare(
        &mut self,
        folder: &Folder,
        path: &RelPath,
        row: Option<Row>,
        look: Look,
    ) -> Result<(), Trouble> {
        let as_recorded = |row: &Row| {
            // A bit that was set within one tick of the clock shows nowhere else.
            let bit = matches!(row.entry, Entry::File(file) if file.executable != look.executable);
            row.fits(&look, &self.store.disk) && !row.is_racy() && !(bit && self.store.disk.modes)
        };
        let doubted = self.doubted.contains(path);
        if !doubted && row.as_ref().is_some_and(as_recorded) {
            return Ok(());
        }
        let (mut entry, look) = match look.kind.clone() {
            Kind::Folder => (Entry::Folder, look),
            Kind::Symlink(Some(target)) => (Entry::Symlink(target), look),
            Kind::File => match hash(folder, path).map_err(Trouble::Unreadable)? {
                Some((file, look)) => (Entry::File(file), look),
                None => return Ok(()),
            },
            Kind::Symlink(None) | Kind::Other => return Ok(()),
        };
        if !self.store.disk.modes
            && let Entry::File(file) = &mut entry
        {
            // The disk doesn't know; the journal may.
            file.executable =
                matches!(&row, Some(Row { entry: Entry::File(f), .. }) if f.executable);
        }
        let mut since = None;
        let new = match row {
            Some(row) if row.entry.same_content(&entry) => {
                if let Some(digest) = row.digest() {
                    // Read just now, and good.
                    damage::unmark(self.tx, Some(path), &digest)?;
                }
                since = Some(row.since_ns);
                if row.print.mtime_ns == look.print.mtime_ns || !matches!(entry, Entry::File(_)) {
                    // Nothing that a client would see. From now on the row is trusted.
                    let row = Row {
                        print: look.print,
                        recorded_ns: now_ns(),
                        ..row
                    };
                    return Ok(rows::put(self.tx, path, &row)?);
                }
                entry
            }
            Some(row)
                if !doubted
                    && (self.is_damage(&row, &entry, &look)
                        || self.is_cut_short(path, &row, &entry, &look)?) =>
            {
                return self.damaged(path, &row, &entry);
            }
            Some(row) => {
                self.store.note_past(self.tx, path, &row, End::Replaced)?;
                entry
            }
            None => {
                if let (Some(repair), Entry::File(file)) = (&mut self.repair, &entry) {
                    repair.appeared.insert(file.digest);
                }
                entry
            }
        };
        let version = self.tx.next();
        tracing::info!(%path, seq = version.0, "changed by other means");
        let mut row = Row::new(self.tx, new, version, OTHER_MEANS, &look)?;
        row.since_ns = since.unwrap_or(row.since_ns);
        rows::put(self.tx, path, &row)?;
        Ok(self.changed()?)
    }

    /// Whether another content is the drive's doing, though its row is too young to tell by itself: it
    /// was staged and synced by us, and looks as it did then. An edit within the same tick that keeps
    /// the size is taken for damage too, which holds it back and loses nothing; to take damage for an
    /// edit would have every good copy of it replaced.
    fn is_damage(&self, row: &Row, found: &Entry, look: &Look) -> bool {
        matches!((row.digest(), found), (Some(was), Entry::File(is)) if was != is.digest)
            && row.by != OTHER_MEANS
            && row.fits_now(look, &self.store.disk)
    }

    /// Whether another content is what a repair of the filesystem left of the one that was there: nobody
    /// who writes leaves the time as it was. Once that is known, it stays so.
    fn is_cut_short(
        &self,
        path: &RelPath,
        row: &Row,
        found: &Entry,
        look: &Look,
    ) -> rusqlite::Result<bool> {
        let Entry::File(file) = found else {
            return Ok(false);
        };
        let repaired = self.repair.as_ref();
        let repaired = repaired.is_some_and(|repair| !repair.displaced.contains(path));
        Ok(row.fits_damaged(look)
            && (repaired || damage::is_known(self.tx.db, path, row, &file.digest)?))
    }

    /// Marks a file as damaged; its row stays as it is.
    fn damaged(&self, path: &RelPath, row: &Row, found: &Entry) -> Result<(), Trouble> {
        let (Some(expected), Entry::File(found)) = (row.digest(), found) else {
            return Ok(());
        };
        damage::mark(self.tx, path, &expected, Some(&found.digest))?;
        tracing::error!(
            %path, %expected, found = %found.digest,
            "damaged: its content changed though nobody wrote to it. Repair it with: \
             raspbox verify --repair"
        );
        Ok(())
    }

    /// Buries all rows that come before a path (`None`: all that are left).
    fn gone_before(&mut self, path: Option<&RelPath>) -> Result<(), StoreError> {
        while let Some((gone, row)) = self.rows.take_before(path)? {
            match &mut self.repair {
                _ if row.is_missing() => {}
                Some(repair) => repair.gone.push((gone, row)),
                None => self.bury(&gone, &row)?,
            }
        }
        Ok(())
    }

    fn bury(&mut self, gone: &RelPath, row: &Row) -> Result<(), StoreError> {
        self.store.note_past(self.tx, gone, row, End::Deleted)?;
        let version = self.tx.next();
        tracing::info!(path = %gone, seq = version.0, "gone by other means");
        rows::bury(self.tx, gone, version)?;
        self.changed()
    }

    /// After a repair: what was being displaced or moved when the power went is gone as was asked for.
    /// Anything else was taken by the repair. Folders and symlinks are all in their rows, and are made
    /// again; a file is held as damaged until somebody brings its content, or deletes it.
    fn judge_gone(&mut self) -> Result<(), StoreError> {
        let Some(repair) = self.repair.take() else {
            return Ok(());
        };
        for (path, row) in repair.gone {
            let moved = |digest: Digest| repair.appeared.contains(&digest);
            if repair.displaced.contains(&path) || row.digest().is_some_and(moved) {
                self.bury(&path, &row)?;
                continue;
            }
            let trouble = |e| StoreError::io(&path, e);
            let make = |make: &dyn Fn(&Folder) -> io::Result<()>| {
                let folder = self.store.top.folder(path.parent().as_ref());
                folder.and_then(|folder| make(&folder)).map_err(trouble)
            };
            match &row.entry {
                Entry::Folder => make(&|folder| folder.make_folder(path.name()))?,
                Entry::Symlink(target) => {
                    make(&|folder| folder.make_symlink(path.name(), target))?;
                }
                Entry::File(file) => {
                    damage::mark(self.tx, &path, &file.digest, None)?;
                    rows::put(self.tx, &path, &row.clone().missing())?;
                    tracing::error!(
                        %path, expected = %file.digest,
                        "damaged: a repair of the filesystem has taken it. Bring it back with: \
                         raspbox verify --repair"
                    );
                }
            }
            self.changed()?;
        }
        Ok(())
    }

    /// Keeps all rows at and below a path: nobody knows what is there.
    fn unknown(&mut self, path: &RelPath, error: &io::Error) -> Result<(), StoreError> {
        tracing::warn!(%path, %error, "can't be read, what the journal knows of it is kept");
        self.gone_before(Some(path))?;
        while self.rows.peek()?.is_some_and(|(next, _)| next.is_in(path)) {
            self.rows.page.pop_front();
        }
        Ok(())
    }

    fn changed(&mut self) -> Result<(), StoreError> {
        self.changes += 1;
        if self.renew && self.changes.is_multiple_of(RENEW_EVERY) {
            self.tx.renew()?;
        }
        Ok(())
    }
}

impl<'a> RowPages<'a> {
    fn new(tx: &'a Tx<'a>, folder: Option<&'a RelPath>) -> RowPages<'a> {
        RowPages {
            tx,
            folder,
            after: None,
            page: VecDeque::new(),
            done: false,
        }
    }

    fn peek(&mut self) -> Result<Option<&(RelPath, Row)>, StoreError> {
        if self.page.is_empty() && !self.done {
            let page = rows::page(self.tx.db, self.folder, self.after.as_ref(), PAGE)?;
            match page.last() {
                Some((last, _)) => self.after = Some(last.clone()),
                None => self.done = true,
            }
            self.page.extend(page);
        }
        Ok(self.page.front())
    }

    fn take(&mut self, path: &RelPath) -> Result<Option<Row>, StoreError> {
        let next = self.peek()?.is_some_and(|(next, _)| next == path);
        Ok(if next {
            self.page.pop_front().map(|(_, row)| row)
        } else {
            None
        })
    }

    fn take_before(
        &mut self,
        path: Option<&RelPath>,
    ) -> Result<Option<(RelPath, Row)>, StoreError> {
        let before = |next: &RelPath| path.is_none_or(|path| next < path);
        let next = self.peek()?.is_some_and(|(next, _)| before(next));
        Ok(if next { self.page.pop_front() } else { None })
    }
}

enum Trouble {
    Unreadable(io::Error),
    Store(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Trouble {
        Trouble::Store(error)
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Trouble {
        Trouble::Store(error.into())
    }
}

/// Reads and hashes a file, again where it changes meanwhile; `None` where it is gone.
fn hash(folder: &Folder, path: &RelPath) -> io::Result<Option<(File, Look)>> {
    let mut tries = 0;
    loop {
        let mut open = match folder.open(path.name()) {
            Ok(open) => open,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let before = Look::of(&open)?;
        if before.kind != Kind::File {
            return Ok(None);
        }
        let (digest, size) = digest_of(&mut open)?;
        let after = Look::of(&open)?;
        tries += 1;
        if before.print == after.print || tries == HASH_TRIES {
            // Where it never came to rest, the next look finds that it doesn't fit.
            let file = File {
                digest,
                size,
                mtime: before.mtime,
                executable: before.executable,
            };
            return Ok(Some((file, before)));
        }
    }
}
