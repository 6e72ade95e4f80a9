//! Letting go of versions: as they grow old, and where the drive is full.
//!
//! What a version stood for is not forgotten with it: its neighbour stands for its time from then on,
//! the one before it if there is one, since who goes back in time does so to get away from something.
//! So a path that was there is never taken for one that was not.

use crate::beneath::is_absent;
use crate::contents;
use crate::damage;
use crate::error::StoreError;
use crate::inner::{Inner, Writer};
use crate::journal::{self, Tx};
use crate::rows;
use crate::thin::{self, Policy, Span};
use raspbox_protocol::{Digest, Entry, RelPath};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};
use std::time::Duration;

/// Free space is brought back to the floor and this share of the drive.
const ROOM_PERCENT: u64 = 5;

/// Where not even that much could be taken, a drive is said to be full.
const SMALL_BYTES: u64 = 1 << 20;

/// How many versions are let go while others wait to write. Each may be a file to remove, which takes
/// a slow stick a few milliseconds.
const SLICE: usize = 64;

/// How many rows are looked at in one step of thinning.
const PAGE: i64 = 2_000;

/// What ages were measured by last.
const TRUSTED: &str = "thin_ns";

/// What thinning came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Thinned {
    /// Versions that were let go.
    pub versions: u64,
    /// Bytes that this made free.
    pub bytes: u64,
}

/// What letting go needs to know of a version.
#[derive(Debug, Clone)]
struct Old {
    id: i64,
    key: Option<String>,
    digest: Option<Digest>,
    size: u64,
    span: Span,
    replaced: bool,
}

const OLD_COLUMNS: &str = "id, path, digest, size, since_ns, displaced_at_ns, how = 0";

impl Old {
    fn of(row: &SqlRow<'_>) -> rusqlite::Result<Old> {
        Ok(Old {
            id: row.get(0)?,
            key: row.get(1)?,
            digest: row.get::<_, Option<[u8; 32]>>(2)?.map(Digest::from_bytes),
            size: row.get::<_, i64>(3)?.cast_unsigned(),
            span: Span {
                since_ns: row.get(4)?,
                until_ns: row.get(5)?,
                good: true,
            },
            replaced: row.get(6)?,
        })
    }
}

impl Inner {
    /// Lets go of what a policy doesn't keep, after the daemon has been running for so long since the
    /// last time. `go_on` is asked before each piece of work.
    pub(crate) fn thin(
        &self,
        policy: &Policy,
        running: Duration,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Thinned, StoreError> {
        self.hint()?;
        let now = self.trust(running)?;
        if let Err(error) = self.drop_parts(usize::MAX, Some(now)) {
            tracing::warn!(%error, "what was cut stays for now");
        }
        let mut thinned = Thinned::default();
        let mut after = None;
        while go_on() {
            let page = self.snapshot(|db| page(db, after.as_deref()))?;
            let Some(last) = page.last() else {
                self.thin_nameless(policy, now, &mut thinned, go_on)?;
                break;
            };
            after = Some(last.clone());
            for path in page {
                self.thin_path(&path, policy, now, &mut thinned, go_on)?;
            }
        }
        Ok(thinned)
    }

    /// What ages are measured by from now on.
    fn trust(&self, running: Duration) -> Result<i64, StoreError> {
        let writer = self.writer()?;
        let tx = self.begin(&writer.db)?;
        let last = match damage::note(tx.db, TRUSTED)? {
            Some(last) => last,
            None => journal::begun(tx.db)?,
        };
        let now = thin::trusted(last, self.wall_ns(), running);
        journal::set_meta(tx.db, TRUSTED, now)?;
        tx.commit()?;
        Ok(now)
    }

    /// Lets go of a path's versions.
    fn thin_path(
        &self,
        key: &str,
        policy: &Policy,
        now: i64,
        thinned: &mut Thinned,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), StoreError> {
        let old = self.snapshot(|db| self.too_old(db, key, policy, now))?;
        // The newest first, so that what stands for others is there until its turn comes.
        for slice in old.rchunks(SLICE) {
            if !go_on() {
                return Ok(());
            }
            let mut writer = self.writer()?;
            let mut slice = slice.to_vec();
            slice.reverse();
            // Others may have let go of newer ones since it was decided.
            for n in (0..slice.len()).rev() {
                if self.is_last_good(&writer.db, &slice[n])? {
                    slice.remove(n);
                }
            }
            self.let_go(&mut writer, &slice, thinned)?;
        }
        Ok(())
    }

    /// The versions of a path that a policy doesn't keep.
    fn too_old(
        &self,
        db: &Connection,
        key: &str,
        policy: &Policy,
        now: i64,
    ) -> Result<Vec<Old>, StoreError> {
        let mut versions = of_path(db, key)?;
        let stands = stands(db, &journal::path(key)?)?;
        let mut spans: Vec<Span> = versions.iter().map(|old| old.span).collect();
        let decide = |spans: &[Span]| thin::keep(spans, stands, now, policy);
        if decide(&spans).iter().all(|kept| *kept) {
            return Ok(Vec::new());
        }
        // Only now, since it costs a look at the drive for each.
        for (old, span) in versions.iter().zip(&mut spans) {
            span.good = self.is_good(db, old)?;
        }
        let mut kept = decide(&spans).into_iter();
        versions.retain(|_| !kept.next().expect("one for each"));
        Ok(versions)
    }

    /// Lets go of contents of which nobody knows where they stood.
    fn thin_nameless(
        &self,
        policy: &Policy,
        now: i64,
        thinned: &mut Thinned,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), StoreError> {
        let mut after = 0;
        while go_on() {
            let page = self.snapshot(|db| -> Result<Vec<Old>, StoreError> {
                let sql = format!(
                    "SELECT {OLD_COLUMNS} FROM displaced WHERE path IS NULL AND id > ? \
                     ORDER BY id LIMIT ?"
                );
                let mut statement = db.prepare_cached(&sql)?;
                let found = statement.query_map(params![after, PAGE], Old::of)?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.id;
            let old = page.into_iter();
            let old: Vec<Old> = old
                .filter(|old| !thin::keep(&[old.span], false, now, policy)[0])
                .collect();
            for slice in old.chunks(SLICE) {
                let mut writer = self.writer()?;
                self.let_go(&mut writer, slice, thinned)?;
            }
        }
        Ok(())
    }

    /// Lets go of the oldest versions until so much is free, and some more, so that it isn't this
    /// again for the next file. Files under users' names stay. Where all versions together would not
    /// be enough, they stay too: a file that is too large anyway must not cost them.
    ///
    /// The last good version of a file that stands somewhere goes after all others, and only for what
    /// is needed.
    pub(crate) fn make_room(&self, need: u64) -> Result<(), StoreError> {
        let space = self.space()?;
        let reserve = space.size_bytes / 100 * ROOM_PERCENT;
        let enough = need.max(self.options.floor_bytes.saturating_add(reserve));
        if space.free_bytes >= enough {
            return Ok(());
        }
        // Nothing that anybody has saved is in them.
        if let Err(error) = self.drop_parts(0, None) {
            tracing::warn!(%error, "what was cut stays for now");
        }
        if self.space()?.free_bytes >= enough {
            return Ok(());
        }
        let mut writer = self.writer()?;
        let free = self.space()?.free_bytes;
        if free.saturating_add(kept_bytes(&writer.db)?) < need {
            return Ok(());
        }
        let mut thinned = Thinned::default();
        self.let_go_until(&mut writer, enough, false, &mut thinned)?;
        self.let_go_until(&mut writer, need, true, &mut thinned)?;
        let Thinned { versions, bytes } = thinned;
        tracing::warn!(
            versions,
            bytes,
            "the drive is full, old versions were let go"
        );
        Ok(())
    }

    /// Whether hardly anything more would be taken, all versions gone.
    pub(crate) fn is_full(&self) -> Result<bool, StoreError> {
        let left = |free: u64| free < self.options.floor_bytes.saturating_add(SMALL_BYTES);
        let free = self.space()?.free_bytes;
        // Most drives are not, and need no look into the journal.
        if !left(free) {
            return Ok(false);
        }
        let parts = self
            .parts_bytes()
            .map_err(|error| StoreError::io("what was cut", error))?;
        Ok(left(
            free.saturating_add(self.snapshot(kept_bytes)? + parts),
        ))
    }

    /// Lets go of the oldest until so much is free; of the last good ones where `all` says so.
    fn let_go_until(
        &self,
        writer: &mut Writer,
        enough: u64,
        all: bool,
        thinned: &mut Thinned,
    ) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let free = self.space()?.free_bytes;
            if free >= enough {
                return Ok(());
            }
            let sql = format!(
                "SELECT {OLD_COLUMNS} FROM displaced WHERE digest IS NOT NULL AND id > ? \
                 ORDER BY id LIMIT ?"
            );
            let page: Vec<Old> = {
                let mut statement = writer.db.prepare_cached(&sql)?;
                let found = statement.query_map(params![after, PAGE], Old::of)?;
                found.collect::<rusqlite::Result<_>>()?
            };
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.id;
            let mut slice = Vec::new();
            let mut bytes = 0;
            for old in page {
                let spared =
                    !self.is_kept(&old)? || (!all && self.is_last_good(&writer.db, &old)?);
                if spared {
                    continue;
                }
                after = old.id;
                bytes += old.size;
                slice.push(old);
                if slice.len() == SLICE || free.saturating_add(bytes) >= enough {
                    break;
                }
            }
            self.let_go(writer, &slice, thinned)?;
        }
    }

    /// Forgets versions, and removes the contents that no other needs.
    fn let_go(
        &self,
        writer: &mut Writer,
        versions: &[Old],
        thinned: &mut Thinned,
    ) -> Result<(), StoreError> {
        self.step();
        let tx = self.begin(&writer.db)?;
        for old in versions {
            forget(&tx, old)?;
        }
        let mut unneeded = Vec::new();
        for old in versions {
            if let Some(digest) = old.digest
                && !unneeded.iter().any(|(other, _)| *other == digest)
                && !contents::is_displaced(tx.db, &digest)?
            {
                damage::unmark(&tx, None, &digest)?;
                unneeded.push((digest, old.size));
            }
        }
        // First the note, then the content: a content without a note is found again, a note without
        // a content promises what can't be had.
        tx.commit()?;
        self.step();
        thinned.versions += versions.len() as u64;
        for (digest, size) in unneeded {
            let name = digest.to_string();
            let shelf = match self.own.versions.below(&name[..2]) {
                Ok(shelf) => shelf,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(StoreError::io(digest, error)),
            };
            match shelf.unlink(&name) {
                Ok(()) => {
                    tracing::debug!(%digest, "an old version was let go");
                    thinned.bytes += size;
                }
                // It was never here: the content of a file that moved.
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(StoreError::io(digest, error)),
            }
            self.step();
        }
        Ok(())
    }

    /// Whether it is the newest version that can be had as good of a file that stands there.
    fn is_last_good(&self, db: &Connection, old: &Old) -> Result<bool, StoreError> {
        let Some(key) = old.key.as_ref().filter(|_| old.digest.is_some()) else {
            return Ok(false);
        };
        if !stands(db, &journal::path(key)?)? || !self.is_good(db, old)? {
            return Ok(false);
        }
        for other in of_path(db, key)?.into_iter().rev() {
            if other.id <= old.id {
                break;
            }
            if other.digest.is_some() && self.is_good(db, &other)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_kept(&self, old: &Old) -> Result<bool, StoreError> {
        let Some(digest) = old.digest else {
            return Ok(false);
        };
        let kept = self.own.keeps(&digest, old.size);
        kept.map_err(|e| StoreError::io(digest, e))
    }

    /// Whether its content can be had, and isn't known to have rotted.
    fn is_good(&self, db: &Connection, old: &Old) -> Result<bool, StoreError> {
        let Some(digest) = old.digest else {
            return Ok(true);
        };
        let kept = self.is_kept(old)? && !damage::is_kept_marked(db, &digest)?;
        Ok(kept || contents::has_good_copy(db, &digest)?)
    }
}

/// The next paths that have versions.
fn page(db: &Connection, after: Option<&str>) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT DISTINCT path FROM displaced WHERE path > ? ORDER BY path LIMIT ?";
    let mut statement = db.prepare_cached(sql)?;
    let found = statement.query_map(params![after.unwrap_or_default(), PAGE], |row| row.get(0))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn of_path(db: &Connection, key: &str) -> rusqlite::Result<Vec<Old>> {
    let sql = format!("SELECT {OLD_COLUMNS} FROM displaced WHERE path = ? ORDER BY id");
    let mut statement = db.prepare_cached(&sql)?;
    let found = statement.query_map([key], Old::of)?;
    found.collect()
}

/// Whether a file or symlink stands at a path.
fn stands(db: &Connection, path: &RelPath) -> rusqlite::Result<bool> {
    let row = rows::get(db, path)?;
    Ok(row.is_some_and(|row| row.entry != Entry::Folder))
}

/// Removes a version's row; its neighbour stands for its time.
fn forget(tx: &Tx<'_>, old: &Old) -> rusqlite::Result<()> {
    // As it is now: it may have come to stand for another.
    let sql = format!("SELECT {OLD_COLUMNS} FROM displaced WHERE id = ?");
    let now = tx.db.prepare_cached(&sql)?.query_row([old.id], Old::of);
    let Some(old) = now.optional()? else {
        return Ok(());
    };
    if let Some(path) = &old.key
        && !hand_back(tx, path, &old)?
        && old.replaced
    {
        hand_on(tx, path, &old)?;
    }
    tx.db
        .prepare_cached("DELETE FROM displaced WHERE id = ?")?
        .execute([old.id])?;
    Ok(())
}

/// Gives the time to the one that stood there before and was replaced by it. Returns whether there is
/// one.
fn hand_back(tx: &Tx<'_>, path: &str, old: &Old) -> rusqlite::Result<bool> {
    let sql = "SELECT max(id) FROM displaced WHERE path = ? AND id < ?";
    let before: Option<i64> = tx
        .db
        .prepare_cached(sql)?
        .query_row(params![path, old.id], |row| row.get(0))?;
    let sql = "UPDATE displaced SET (displaced_at_ns, displaced_by, how, moved_to) = \
               (SELECT displaced_at_ns, displaced_by, how, moved_to FROM displaced WHERE id = ?1) \
               WHERE id = ?2 AND how = 0 AND displaced_at_ns = ?3";
    let changed = tx
        .db
        .prepare_cached(sql)?
        .execute(params![old.id, before, old.span.since_ns])?;
    Ok(changed > 0)
}

/// Gives the time to the one that took its place.
fn hand_on(tx: &Tx<'_>, path: &str, old: &Old) -> rusqlite::Result<()> {
    let sql = "SELECT min(id) FROM displaced WHERE path = ? AND id > ?";
    let after: Option<i64> = tx
        .db
        .prepare_cached(sql)?
        .query_row(params![path, old.id], |row| row.get(0))?;
    let (since, until) = (old.span.since_ns, old.span.until_ns);
    match after {
        Some(id) => {
            let sql = "UPDATE displaced SET since_ns = ? WHERE id = ? AND since_ns = ?";
            tx.db
                .prepare_cached(sql)?
                .execute(params![since, id, until])?;
        }
        None => {
            let sql = "UPDATE entry SET since_ns = ? WHERE path = ? AND since_ns = ?";
            tx.db
                .prepare_cached(sql)?
                .execute(params![since, path, until])?;
        }
    }
    Ok(())
}

/// How much space all versions take, as far as is known without looking.
fn kept_bytes(db: &Connection) -> rusqlite::Result<u64> {
    // What moved away has its content elsewhere.
    let sql = "SELECT coalesce(sum(size), 0) FROM \
               (SELECT DISTINCT digest, size FROM displaced WHERE how != 2)";
    let sum = db.query_row(sql, [], |row| row.get::<_, i64>(0))?;
    Ok(sum.cast_unsigned())
}
