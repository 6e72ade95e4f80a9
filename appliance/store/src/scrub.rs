//! Reading everything again, to find what the drive has let rot.
//!
//! A pass goes over all files by path, and then over all kept versions by hash. It remembers how far
//! it has come, so that a restart doesn't begin it anew. It holds no lock while it reads, and asks
//! before each piece whether it may go on; it leaves nothing of what it read in the page cache, and
//! reads nothing from there, since a copy in memory says nothing about the drive.
//!
//! It repairs nothing: the good content is on another computer.

use crate::beneath::{Folder, Kind, Look, is_absent};
use crate::damage;
use crate::error::StoreError;
use crate::inner::Inner;
use crate::journal::{Tx, key, now_ns, path, set_meta};
use crate::read::{Check, Checked};
use crate::rows::{self, Row};
use crate::staging::PIECE_BYTES;
use raspbox_beneath::{File, unreadable};
use raspbox_protocol::digest::Hasher;
use raspbox_protocol::{Digest, Mtime, RelPath};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

/// How many rows are read at once.
const PAGE: u32 = 256;

/// How much is read at most before the place is remembered: what a power cut may cost, against a
/// write to the drive.
const REMEMBER_EVERY_BYTES: u64 = 256 << 20;

/// The same for many small files.
const REMEMBER_EVERY_FILES: u32 = 2_000;

/// Where the pass under way has come to, in the journal.
const AT: &str = "scrub_at";

/// When the last pass ended.
const ENDED: &str = "scrub_ended_ns";

/// One pass over every content. What it found is in [`crate::Store::damages`].
#[derive(Debug)]
pub struct Pass {
    store: Arc<Inner>,
    at: Position,
    rows: VecDeque<(RelPath, Row)>,
    kept: VecDeque<Digest>,
    /// Files whose content is what their young rows say, which may be believed from now on.
    settled: Vec<(RelPath, Row)>,
    since_remembered: Tally,
    tally: Tally,
}

/// What came of one step of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is more to do.
    More,
    /// It was told to stop; the place is remembered.
    Stopped,
    /// Everything has been read; what this run of the daemon had to do with it.
    Over(Tally),
}

/// How much was read, and what was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Contents.
    pub files: u32,
    /// Bytes.
    pub bytes: u64,
    /// Damaged contents, those that were known included.
    pub damaged: u32,
}

/// After what a pass goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Position {
    /// After this file; `None` is the beginning.
    File(Option<RelPath>),
    /// After this kept version; `None` is the first of them.
    Kept(Option<Digest>),
}

/// How reading a content slowly ended.
enum Slowly {
    Hashed(Digest),
    Unreadable,
    Stopped,
}

impl Inner {
    /// When the last pass ended, unless one is under way.
    pub(crate) fn scrubbed_at(&self) -> Result<Option<Mtime>, StoreError> {
        let (at, ended) = self.snapshot(|db| {
            let at: Option<String> = damage::note(db, AT)?;
            let ended: Option<i64> = damage::note(db, ENDED)?;
            Ok::<_, StoreError>((at, ended))
        })?;
        Ok(ended.map(Mtime).filter(|_| at.is_none()))
    }
}

impl Inner {
    /// Reads again every file that came to stand there within this time before the newest one.
    pub(crate) fn recheck(self: &Arc<Self>, within: Duration) -> Result<Tally, StoreError> {
        let within = i64::try_from(within.as_nanos()).unwrap_or(i64::MAX);
        let since = self.opened.0.saturating_sub(within);
        let mut pass = Pass::begin(self, Position::default());
        let mut after = None;
        while let Some((path, row)) = pass.next_row(after.as_ref())? {
            if row.since_ns >= since {
                pass.file(&path, &row, &mut |_| true)?;
            }
            after = Some(path);
        }
        pass.note(|_| Ok(()))?;
        Ok(pass.tally)
    }
}

impl Pass {
    pub(crate) fn go_on(store: &Arc<Inner>) -> Result<Pass, StoreError> {
        let at: Option<String> = store.snapshot(|db| damage::note(db, AT))?;
        let at = at.as_deref().and_then(Position::parse);
        Ok(Pass::begin(store, at.unwrap_or_default()))
    }

    fn begin(store: &Arc<Inner>, at: Position) -> Pass {
        Pass {
            store: Arc::clone(store),
            at,
            rows: VecDeque::new(),
            kept: VecDeque::new(),
            settled: Vec::new(),
            since_remembered: Tally::default(),
            tally: Tally::default(),
        }
    }

    /// Reads the next content. `go_on` is asked before each piece, with its size in bytes, and may
    /// take its time; where it says no, the pass stops.
    ///
    /// # Errors
    /// Where the drive or the journal fails; the pass may be gone on with later.
    pub fn next(&mut self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<Step, StoreError> {
        let over = match self.at.clone() {
            Position::File(after) => match self.next_row(after.as_ref())? {
                Some((path, row)) => {
                    if !self.file(&path, &row, go_on)? {
                        self.remember()?;
                        return Ok(Step::Stopped);
                    }
                    self.at = Position::File(Some(path));
                    false
                }
                None => {
                    self.at = Position::Kept(None);
                    false
                }
            },
            Position::Kept(after) => match self.next_kept(after.as_ref())? {
                Some(digest) => {
                    if !self.version(&digest, go_on)? {
                        self.remember()?;
                        return Ok(Step::Stopped);
                    }
                    self.at = Position::Kept(Some(digest));
                    false
                }
                None => true,
            },
        };
        if over {
            self.end()?;
            return Ok(Step::Over(self.tally));
        }
        let since = &self.since_remembered;
        if since.bytes >= REMEMBER_EVERY_BYTES || since.files >= REMEMBER_EVERY_FILES {
            self.remember()?;
        }
        Ok(Step::More)
    }

    fn next_row(&mut self, after: Option<&RelPath>) -> Result<Option<(RelPath, Row)>, StoreError> {
        if self.rows.is_empty() {
            let page = self
                .store
                .snapshot(|db| rows::page(db, None, after, PAGE))?;
            self.rows.extend(page);
        }
        Ok(self.rows.pop_front())
    }

    /// Reads one file. `false`: it was told to stop.
    fn file(
        &mut self,
        path: &RelPath,
        row: &Row,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<bool, StoreError> {
        if row.digest().is_none() {
            return Ok(true);
        }
        let mut file = match self.store.read(path) {
            Ok(file) => file,
            // It has gone, and whoever finds that out journals it.
            Err(StoreError::NotFound(_) | StoreError::NotAFile(_)) => return Ok(true),
            Err(error) => return Err(error),
        };
        let trouble = |e| StoreError::io(path, e);
        let before = Look::of(&file).map_err(trouble)?;
        if !row.fits_now(&before, &self.store.disk) {
            return Ok(true);
        }
        let read = self.read_slowly(&mut file, go_on).map_err(trouble)?;
        let found = match read {
            Slowly::Stopped => return Ok(false),
            Slowly::Unreadable => None,
            Slowly::Hashed(digest) => Some(digest),
        };
        let check = Check { path, row, before };
        match check.check(&self.store, &file, found)? {
            Checked::Good => {
                self.store.clear_file(path, row)?;
                if row.is_racy() {
                    self.settled.push((path.clone(), row.clone()));
                }
            }
            Checked::Changed => {}
            Checked::Damaged => self.tally.damaged += 1,
        }
        self.count(row.print.size);
        Ok(true)
    }

    /// Reads one kept version. `false`: it was told to stop.
    fn version(
        &mut self,
        digest: &Digest,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<bool, StoreError> {
        let trouble = |e| StoreError::io(digest, e);
        let name = digest.to_string();
        let opened = self
            .store
            .own
            .versions
            .below(&name[..2])
            .and_then(|shelf| shelf.open(&name));
        let mut file = match opened {
            Ok(file) => file,
            // Let go of meanwhile.
            Err(error) if is_absent(&error) => return Ok(true),
            Err(error) => return Err(trouble(error)),
        };
        let found = match self.read_slowly(&mut file, go_on).map_err(trouble)? {
            Slowly::Stopped => return Ok(false),
            Slowly::Unreadable => None,
            Slowly::Hashed(digest) => Some(digest),
        };
        let size = Look::of(&file).map_err(trouble)?.print.size;
        self.count(size);
        if found == Some(*digest) {
            self.store.clear_kept(digest)?;
            return Ok(true);
        }
        self.tally.damaged += 1;
        self.store.mark_kept(digest, found.as_ref())?;
        Ok(true)
    }

    fn count(&mut self, bytes: u64) {
        for tally in [&mut self.tally, &mut self.since_remembered] {
            tally.files += 1;
            tally.bytes += bytes;
        }
    }

    fn read_slowly(
        &self,
        file: &mut File,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> io::Result<Slowly> {
        let mut hasher = Hasher::new();
        let mut piece = vec![0; PIECE_BYTES];
        // Dropped first, so that the drive is read and not the memory.
        file.drop_cached();
        let end = loop {
            if !go_on(PIECE_BYTES as u64) {
                break Slowly::Stopped;
            }
            match file.read(&mut piece) {
                Ok(0) => break Slowly::Hashed(hasher.digest()),
                Ok(len) => hasher.update(&piece[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if unreadable(&error) => break Slowly::Unreadable,
                Err(error) => return Err(error),
            }
        };
        file.drop_cached();
        Ok(end)
    }

    /// The next kept version after this one, by hash.
    fn next_kept(&mut self, after: Option<&Digest>) -> Result<Option<Digest>, StoreError> {
        if let Some(next) = self.kept.pop_front() {
            return Ok(Some(next));
        }
        let versions = &self.store.own.versions;
        let trouble = |e| StoreError::io(".raspbox/versions", e);
        let mut shelves = versions.names().map_err(trouble)?.0;
        shelves.sort_unstable();
        let after_name = after.map(ToString::to_string).unwrap_or_default();
        for name in shelves {
            if *name < after_name[..after_name.len().min(2)] {
                continue;
            }
            let shelf = match versions.below(&name) {
                Ok(shelf) => shelf,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(trouble(error)),
            };
            self.kept = kept_on(&shelf, &name, after).map_err(trouble)?;
            if let Some(next) = self.kept.pop_front() {
                return Ok(Some(next));
            }
        }
        Ok(None)
    }

    /// Remembers how far it has come, and that young rows were found true.
    fn remember(&mut self) -> Result<(), StoreError> {
        let at = self.at.to_string();
        self.note(|tx| set_meta(tx.db, AT, at))
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.note(|tx| {
            tx.db.execute("DELETE FROM meta WHERE key = ?", [AT])?;
            set_meta(tx.db, ENDED, now_ns())
        })?;
        self.at = Position::default();
        Ok(())
    }

    fn note(
        &mut self,
        note: impl FnOnce(&Tx<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        let writer = self.store.writer()?;
        let tx = self.store.begin(&writer.db)?;
        note(&tx)?;
        for (path, row) in self.settled.drain(..) {
            if rows::get(tx.db, &path)?.as_ref() == Some(&row) {
                let row = Row {
                    recorded_ns: now_ns(),
                    ..row
                };
                rows::put(&tx, &path, &row)?;
            }
        }
        tx.commit()?;
        self.since_remembered = Tally::default();
        Ok(())
    }
}

impl Default for Position {
    fn default() -> Position {
        Position::File(None)
    }
}

impl Position {
    fn parse(text: &str) -> Option<Position> {
        let (kind, rest) = text.split_once(' ')?;
        match (kind, rest) {
            ("file", "") => Some(Position::File(None)),
            ("file", rest) => Some(Position::File(Some(path(rest).ok()?))),
            ("kept", "") => Some(Position::Kept(None)),
            ("kept", rest) => Some(Position::Kept(Some(rest.parse().ok()?))),
            _ => None,
        }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Position::File(after) => {
                write!(f, "file {}", after.as_ref().map(key).unwrap_or_default())
            }
            Position::Kept(None) => f.write_str("kept "),
            Position::Kept(Some(after)) => write!(f, "kept {after}"),
        }
    }
}

fn kept_on(shelf: &Folder, name: &str, after: Option<&Digest>) -> io::Result<VecDeque<Digest>> {
    let digests = shelf.names()?.0.into_iter().filter_map(|file| {
        let digest: Digest = file.parse().ok()?;
        (file.starts_with(name) && after.is_none_or(|after| digest > *after)).then_some(digest)
    });
    let mut digests: Vec<Digest> = digests.collect();
    digests.sort_unstable();
    let mut files = VecDeque::with_capacity(digests.len());
    for digest in digests {
        let look = shelf.look(&digest.to_string())?;
        if look.is_some_and(|look| look.kind == Kind::File) {
            files.push_back(digest);
        }
    }
    Ok(files)
}
