//! Keeping what was displaced, and letting go of the oldest where the drive is full.

use crate::beneath::{Onto, is_absent};
use crate::damage;
use crate::error::StoreError;
use crate::history::{self, End};
use crate::inner::{Inner, Writer};
use crate::journal::Tx;
use crate::rows::Row;
use crate::staging::digest_of;
use raspbox_beneath::unreadable;
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

    /// Lets go of the oldest versions until so much is free, and some more, so that it isn't this
    /// again for the next file. Files under users' names stay. Where all versions together would not
    /// be enough, they stay too: a file that is too large anyway must not cost them.
    pub(crate) fn make_room(&self, need: u64) -> Result<(), StoreError> {
        let space = self.space()?;
        let reserve = space.size_bytes / 100 * ROOM_PERCENT;
        let enough = need.max(self.options.floor_bytes.saturating_add(reserve));
        if space.free_bytes >= enough {
            return Ok(());
        }
        let mut writer = self.writer()?;
        if self
            .space()?
            .free_bytes
            .saturating_add(kept_bytes(&writer)?)
            < need
        {
            return Ok(());
        }
        while self.space()?.free_bytes < enough {
            if !self.let_go_of_oldest(&mut writer)? {
                break;
            }
        }
        Ok(())
    }

    /// Forgets the oldest version. Returns whether there was one.
    fn let_go_of_oldest(&self, writer: &mut Writer) -> Result<bool, StoreError> {
        let tx = self.begin(&writer.db)?;
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
            Some(digest) if !history::is_displaced(tx.db, &digest)? => Some(digest),
            Some(_) | None => None,
        };
        if let Some(digest) = &unneeded {
            damage::unmark(&tx, None, digest)?;
        }
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

/// How much space all versions take.
fn kept_bytes(writer: &Writer) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(sum(size), 0) FROM (SELECT DISTINCT digest, size FROM displaced)";
    let sum = writer.db.query_row(sql, [], |row| row.get::<_, i64>(0))?;
    Ok(sum.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use crate::{By, Options, Store};
    use raspbox_protocol::{Digest, RelPath};
    use std::io::Write;

    #[test]
    fn the_oldest_version_goes_first_and_its_content_with_the_last_that_needs_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path(), Options { floor_bytes: 0 }).expect("opens");
        let by = By("ann".into());
        let put = |name: &str, content: &str| {
            let mut staged = store.stage().expect("stage");
            staged.write_all(content.as_bytes()).expect("write");
            let path = RelPath::parse(name).expect("good");
            store.put(staged, &path, &by).expect("put");
        };
        for (name, content) in [("a", "one"), ("b", "two"), ("c", "one")] {
            put(name, content);
        }
        for name in ["a", "b", "c"] {
            put(name, "now");
        }
        let kept = |content: &str| {
            let digest = Digest::of(content.as_bytes());
            let size = content.len() as u64;
            store.0.own.keeps(&digest, size).expect("known")
        };
        let let_go = || {
            let mut writer = store.0.writer().expect("a writer");
            let went = store.0.let_go_of_oldest(&mut writer).expect("let go");
            (went, kept("one"), kept("two"))
        };
        assert_eq!((kept("one"), kept("two")), (true, true));
        assert_eq!(let_go(), (true, true, true));
        assert_eq!(let_go(), (true, true, false));
        assert_eq!(let_go(), (true, false, false));
        assert_eq!(let_go(), (false, false, false));
        assert_eq!(std::fs::read(dir.path().join("a")).expect("there"), b"now");
    }
}
