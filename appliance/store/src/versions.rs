//! Keeping what was displaced.

use crate::beneath::{Onto, is_absent};
use crate::error::StoreError;
use crate::history::{self, End};
use crate::inner::Inner;
use crate::journal::Tx;
use crate::rows::Row;
use crate::staging::digest_of;
use raspbox_beneath::unreadable;
use raspbox_protocol::{Digest, Entry, RelPath};
use std::io;

impl Inner {
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
        aside.sync()
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
                    let entry = Entry::File(raspbox_protocol::File {
                        digest,
                        size: look.print.size,
                        mtime: look.mtime,
                        executable: look.executable,
                    });
                    let row = Row::new(tx, entry, raspbox_protocol::Version(0), "", &look)?;
                    history::displace(tx, None, &row, End::Replaced, "")?;
                }
            }
        }
        Ok(())
    }
}
