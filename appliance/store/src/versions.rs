//! Keeping what was displaced, and what somebody brings that was displaced without us.

use crate::apply::{Batch, Stop};
use crate::beneath::{Fingerprint, Onto, is_absent};
use crate::damage;
use crate::error::StoreError;
use crate::history::{self, End};
use crate::inner::Inner;
use crate::journal::Tx;
use crate::perform::broken;
use crate::rows::{self, Row};
use crate::staging::digest_of;
use raspbox_beneath::unreadable;
use raspbox_protocol::{Digest, Entry, File, RelPath, Version};
use std::io;

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
    /// Which of these contents are kept, durably: by their notes and by their names and sizes. None
    /// of them is read, which would take a slow stick as long as the files are large; what is known to
    /// have rotted is not kept.
    pub(crate) fn holds(&self, digests: &[Digest]) -> Result<Vec<bool>, StoreError> {
        // What is being kept or let go at this moment is decided first.
        let writer = self.writer()?;
        let holds = |digest: &Digest| -> Result<bool, StoreError> {
            let Some(size) = history::size_of(&writer.db, digest)? else {
                return Ok(false);
            };
            let kept = self.own.keeps(digest, size);
            Ok(kept.map_err(|e| StoreError::io(digest, e))?
                && !damage::is_kept_marked(&writer.db, digest)?)
        };
        digests.iter().map(holds).collect()
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
                if history::is_displaced(tx.db, &digest)? {
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
