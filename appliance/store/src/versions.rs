//! Keeping what was displaced, and letting go of the oldest where the drive is full.

use crate::beneath::{Onto, is_absent};
use crate::error::StoreError;
use crate::inner::Inner;
use crate::journal::Tx;
use crate::rows::{self, Row};
use raspbox_protocol::{Digest, Entry, RelPath};
use rusqlite::OptionalExtension;
use std::io;

/// Free space is brought back to the floor and this share of the drive.
const ROOM_PERCENT: u64 = 5;

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
        if self.own.keeps(&file.digest, file.size)? {
            return Ok(true);
        }
        let shelf = self.own.shelf(&file.digest)?;
        self.step();
        // Anything that stands there has another size, so it is broken.
        let name = file.digest.to_string();
        self.own
            .staging
            .rename(staged, &shelf, &name, Onto::Anything)?;
        self.step();
        Ok(false)
    }

    /// Notes a row that doesn't stand under its path any more as a version, where its content is
    /// kept though nobody noted why: a crash came between the two.
    pub(crate) fn note_kept(
        &self,
        tx: &Tx<'_>,
        path: &RelPath,
        row: &Row,
    ) -> Result<(), StoreError> {
        let Entry::File(file) = &row.entry else {
            return Ok(());
        };
        let kept = self
            .own
            .keeps(&file.digest, file.size)
            .map_err(|e| StoreError::io(path, e))?;
        if kept && !rows::is_displaced_at(tx.db, path, row)? {
            rows::displace(tx, Some(path), row, "")?;
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
                if rows::is_displaced(tx.db, &digest)? {
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
                    let row = Row::new(entry, raspbox_protocol::Version(0), "", &look);
                    rows::displace(tx, None, &row, "")?;
                }
            }
        }
        Ok(())
    }

    /// Lets go of the oldest versions until enough is free. Files under users' names stay.
    pub(crate) fn make_room(&self) -> Result<(), StoreError> {
        let space = self.space()?;
        let enough = self
            .options
            .floor_bytes
            .saturating_add(space.size_bytes / 100 * ROOM_PERCENT);
        if space.free_bytes >= enough {
            return Ok(());
        }
        let mut writer = self.writer()?;
        while self.space()?.free_bytes < enough {
            if !self.let_go_of_oldest(&mut writer)? {
                break;
            }
        }
        Ok(())
    }

    /// Forgets the oldest version. Returns whether there was one.
    fn let_go_of_oldest(&self, writer: &mut crate::inner::Writer) -> Result<bool, StoreError> {
        let tx = Tx::begin(&writer.db)?;
        let sql = "SELECT id, digest, path FROM displaced ORDER BY id LIMIT 1";
        let oldest: Option<(i64, Option<[u8; 32]>, Option<String>)> = tx
            .db
            .prepare_cached(sql)?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((id, digest, path)) = oldest else {
            return Ok(false);
        };
        tx.db
            .prepare_cached("DELETE FROM displaced WHERE id = ?")?
            .execute([id])?;
        let digest = digest.map(Digest::from_bytes);
        let unneeded = match digest {
            Some(digest) if !rows::is_displaced(tx.db, &digest)? => Some(digest),
            Some(_) | None => None,
        };
        // First the note, then the content: a content without a note is found again, a note without
        // a content promises what can't be had.
        tx.commit()?;
        if let Some(digest) = unneeded {
            tracing::info!(id, path, %digest, "the drive is full, an old version was let go");
            let name = digest.to_string();
            let gone = self.own.shelf(&digest).and_then(|s| s.unlink(&name));
            match gone {
                Err(error) if !is_absent(&error) => return Err(StoreError::io(digest, error)),
                _ => {}
            }
        }
        Ok(true)
    }
}
