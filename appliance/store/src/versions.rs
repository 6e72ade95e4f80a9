//! Keeping what was displaced, and what somebody brings that was displaced without us.
//!
//! What is displaced is kept under the hash that its row has, unread: a reading of each replaced file
//! would cost more than all the rest. It may have rotted. So it is read before a computer gives up its copy on the
//! strength of it ([`Inner::holds`]), and by whoever restores it.

use crate::apply::{Batch, Stop};
use crate::beneath::{Fingerprint, Look, Onto, is_absent};
use crate::contents;
use crate::damage;
use crate::error::StoreError;
use crate::history::{self, End};
use crate::inner::{Inner, lock_anyway};
use crate::journal::Tx;
use crate::perform::broken;
use crate::rows::{self, Row};
use crate::staging::digest_of;
use raspbox_beneath::unreadable;
use raspbox_protocol::{Digest, Entry, File, RelPath, Version};
use rusqlite::Connection;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Mutex;

/// How much of what is kept is read at most for one question: a poor stick of 10 MiB/s takes 26 s, and a
/// client waits for two minutes. (What was read before it gave up needn't be read again.)
const ASKED_READ_BYTES: u64 = 256 << 20;

/// Of how many contents it is remembered that they were read: as many as one list may ask for.
const READ_MAX: usize = raspbox_protocol::holds::LIST_MAX;

/// Contents that were read whole where they are kept. Forgotten with the process, which costs another
/// reading.
#[derive(Debug, Default)]
pub(crate) struct ReadWhole(Mutex<HashSet<Digest>>);

impl ReadWhole {
    fn has(&self, digest: &Digest) -> bool {
        lock_anyway(&self.0).contains(digest)
    }

    fn add(&self, digest: Digest) {
        let mut read = lock_anyway(&self.0);
        if read.len() >= READ_MAX {
            read.clear();
        }
        read.insert(digest);
    }

    fn remove(&self, digest: &Digest) {
        lock_anyway(&self.0).remove(digest);
    }
}

impl Batch<'_> {
    /// Keeps a content that stood at a path once and is brought by somebody who still has it.
    ///
    /// The content is on the drive before its row is, and both before this is acknowledged. It needs
    /// no intent: a crash before that leaves it staged, and dropped, or kept and found again.
    pub(crate) fn keep_past(
        &mut self,
        path: &RelPath,
        file: &File,
        staged: &str,
    ) -> Result<Version, Stop> {
        let entry = Entry::File(*file);
        // Mostly it is known that it stood there, when, and who had made it: the scan that found it
        // gone has noted that.
        if !history::was_at(self.tx.db, path, &file.digest)? {
            self.note_brought(path, &entry)?;
        }
        let left = self.store.keep(staged, &entry);
        if left.map_err(|e| broken(path, e))? {
            self.disposable.push(staged.to_owned());
        } else {
            self.kept.push(file.digest);
        }
        damage::unmark(self.tx, None, &file.digest)?;
        self.store.read_whole.add(file.digest);
        tracing::info!(%path, digest = %file.digest, by = self.by, "kept what stood there");
        Ok(Version(self.tx.seq()))
    }

    /// Notes that a content stood at a path before what stands there now. Nobody knows for how long:
    /// for no time at all, so that no other version's time is taken from it.
    fn note_brought(&self, path: &RelPath, entry: &Entry) -> Result<(), Stop> {
        let (until, end) = match rows::get(self.tx.db, path)? {
            Some(row) => (row.since_ns, End::Replaced),
            None => (self.tx.now()?, End::Deleted),
        };
        let row = Row {
            entry: entry.clone(),
            version: Version(0),
            by: self.by.into(),
            since_ns: until,
            print: Fingerprint::default(),
            recorded_ns: 0,
        };
        Ok(history::displace_until(
            self.tx,
            Some(path),
            &row,
            until,
            end,
            "",
        )?)
    }
}

impl Inner {
    /// Which of these contents are kept, durably and good. As much as can be read while somebody waits is
    /// read for that, unless it was before; of the rest the names and sizes are believed. What is known
    /// to have rotted is not kept.
    pub(crate) fn holds(&self, digests: &[Digest]) -> Result<Vec<bool>, StoreError> {
        self.hint()?;
        // What is being kept or let go at this moment is decided first.
        let writer = self.writer()?;
        let mut unread = BTreeMap::new();
        for digest in digests.iter().filter(|digest| !self.read_whole.has(digest)) {
            if let Some(size) = self.kept_bytes(&writer.db, digest)? {
                unread.insert(*digest, size);
            }
        }
        drop(writer);
        for digest in to_read(unread) {
            self.read_kept_whole(&digest)?;
        }
        let writer = self.writer()?;
        let held = digests.iter().map(|digest| {
            let kept = self.kept_bytes(&writer.db, digest)?;
            Ok(kept.is_some())
        });
        held.collect()
    }

    /// How large a content is, if it is kept and not known to have rotted.
    fn kept_bytes(&self, db: &Connection, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let Some(size) = contents::size_of(db, digest)? else {
            return Ok(None);
        };
        let kept = self.own.keeps(digest, size);
        let kept =
            kept.map_err(|e| StoreError::io(digest, e))? && !damage::is_kept_marked(db, digest)?;
        Ok(kept.then_some(size))
    }

    /// Reads a kept content, and marks it where it isn't what its name says.
    fn read_kept_whole(&self, digest: &Digest) -> Result<(), StoreError> {
        let trouble = |e| StoreError::io(digest, e);
        let name = digest.to_string();
        let shelf = self.own.shelf(digest).map_err(trouble)?;
        let mut kept = match shelf.open(&name) {
            Ok(kept) => kept,
            // Let go of meanwhile.
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(trouble(error)),
        };
        let read = Look::of(&kept).map_err(trouble)?;
        let found = match digest_of(&mut kept) {
            Ok((found, _)) => Some(found),
            Err(error) if unreadable(&error) => None,
            Err(error) => return Err(trouble(error)),
        };
        if found != Some(*digest) {
            return self.mark_kept(digest, found.as_ref());
        }
        // Another may have come in its place meanwhile, and comes in no other's while we hold this.
        let _writer = self.writer()?;
        if shelf
            .look(&name)
            .map_err(trouble)?
            .is_some_and(|now| now.print == read.print)
        {
            self.read_whole.add(*digest);
        }
        Ok(())
    }

    /// Moves a displaced content from the staging folder to where versions are kept.
    ///
    /// Returns whether something is left under the staged name that nobody needs any more once all
    /// this is journalled: a content that is kept already, or a symlink, which its row keeps.
    pub(crate) fn keep(&self, staged: &str, entry: &Entry) -> io::Result<bool> {
        let file = match entry {
            Entry::File(file) => file,
            Entry::Symlink(_) => return Ok(true),
            Entry::Folder => unreachable!("a folder is never displaced"),
        };
        if self.keeps_whole(&file.digest, file.size)? {
            return Ok(true);
        }
        let shelf = self.own.shelf(&file.digest)?;
        self.step();
        // Anything that stands there is broken.
        let name = file.digest.to_string();
        self.own
            .staging
            .rename(staged, &shelf, &name, Onto::Anything)?;
        self.read_whole.remove(&file.digest);
        self.step();
        Ok(false)
    }

    /// Whether a content is kept, and still is what its name says. A second copy is dropped on the
    /// strength of this, so the first one is read: name and size don't tell that it didn't rot.
    fn keeps_whole(&self, digest: &Digest, size: u64) -> io::Result<bool> {
        if !self.own.keeps(digest, size)? {
            return Ok(false);
        }
        let mut kept = self.own.shelf(digest)?.open(&digest.to_string())?;
        match digest_of(&mut kept) {
            Ok((found, _)) => Ok(found == *digest),
            Err(error) if unreadable(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts a displaced content aside that can't be read, so that nobody knows what it is.
    pub(crate) fn keep_unreadable(&self, staged: &str) -> io::Result<()> {
        let aside = self.own.unreadable()?;
        self.own
            .staging
            .rename(staged, &aside, staged, Onto::Nothing)?;
        self.durable(aside.sync())
    }

    /// Notes that what a row says was found not to stand there any more. Where its content is kept
    /// (a crash came before it could be noted) that makes it a version; else it is at least known
    /// that something stood there.
    pub(crate) fn note_past(
        &self,
        tx: &Tx<'_>,
        path: &RelPath,
        row: &Row,
        end: End<'_>,
    ) -> Result<(), StoreError> {
        if !history::is_displaced_at(tx.db, path, row)? {
            history::displace(tx, Some(path), row, end, "")?;
        }
        Ok(())
    }

    /// Notes contents that are kept and that no version needs, so that they can be found and, when
    /// the drive is full, let go: a lost journal leaves them behind.
    pub(crate) fn adopt_kept(&self, tx: &Tx<'_>) -> Result<(), StoreError> {
        let trouble = |e| StoreError::io(".raspbox/versions", e);
        for shelf_name in self.own.versions.names().map_err(trouble)?.0 {
            let shelf = match self.own.versions.below(&shelf_name) {
                Ok(shelf) => shelf,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(trouble(error)),
            };
            for name in shelf.names().map_err(trouble)?.0 {
                let Ok(digest) = name.parse::<Digest>() else {
                    continue;
                };
                if contents::is_displaced(tx.db, &digest)? {
                    continue;
                }
                if let Some(look) = shelf.look(&name).map_err(trouble)? {
                    tracing::warn!(%digest, "a kept content of unknown name was found");
                    let entry = Entry::File(File {
                        digest,
                        size: look.print.size,
                        mtime: look.mtime,
                        executable: look.executable,
                    });
                    let row = Row::new(tx, entry, Version(0), "", &look)?;
                    history::displace(tx, None, &row, End::Replaced, "")?;
                }
            }
        }
        Ok(())
    }
}

/// Which of these contents are read, by their sizes: the smallest first, so that as many as possible are.
fn to_read(unread: BTreeMap<Digest, u64>) -> Vec<Digest> {
    let mut unread: Vec<(u64, Digest)> = unread.into_iter().map(|(d, size)| (size, d)).collect();
    unread.sort_unstable();
    let mut left = ASKED_READ_BYTES;
    let within = unread.into_iter().map_while(|(size, digest)| {
        left = left.checked_sub(size)?;
        Some(digest)
    });
    within.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_contents_are_read_as_somebody_can_wait_for() {
        let all = ASKED_READ_BYTES;
        let check = |sizes: &[u64], read: &[usize]| {
            let digest = |n: usize| Digest::of(&n.to_le_bytes());
            let unread = sizes.iter().enumerate().map(|(n, size)| (digest(n), *size));
            let read: Vec<Digest> = read.iter().map(|n| digest(*n)).collect();
            assert_eq!(to_read(unread.collect()), read, "{sizes:?}");
        };
        check(&[], &[]);
        check(&[3, 0, 2], &[1, 2, 0]);
        check(&[all], &[0]);
        check(&[all + 1], &[]);
        check(&[all, 1], &[1]);
        check(&[all - 1, 1], &[1, 0]);
        check(&[u64::MAX, u64::MAX, 7], &[2]);
    }

    #[test]
    fn of_so_many_contents_it_is_remembered_that_they_were_read() {
        let read = ReadWhole::default();
        let digest = |n: usize| Digest::of(&n.to_le_bytes());
        (0..READ_MAX).for_each(|n| read.add(digest(n)));
        assert!((0..READ_MAX).all(|n| read.has(&digest(n))));
        read.remove(&digest(0));
        assert!(!read.has(&digest(0)) && read.has(&digest(1)));
        read.add(digest(0));
        read.add(digest(READ_MAX));
        assert!(read.has(&digest(READ_MAX)) && !read.has(&digest(1)));
    }
}
