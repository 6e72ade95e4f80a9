//! The chunks of large contents that both sides have, or are about to have.

use super::{State, Writer};
use crate::chunks::Chunks;
use raspbox_protocol::Digest;
use rusqlite::{OptionalExtension, params};

pub(super) const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS chunks (digest BLOB PRIMARY KEY, list BLOB NOT NULL)";

impl State {
    /// The chunks of a content, where they are known.
    pub fn chunks(&self, digest: &Digest) -> rusqlite::Result<Option<Chunks>> {
        let list: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT list FROM chunks WHERE digest = ?1")?
            .query_row([digest.as_bytes()], |row| row.get(0))
            .optional()?;
        // What isn't understood is as good as not known.
        Ok(list.and_then(|list| Chunks::from_bytes(&list).ok()))
    }
}

impl Writer<'_> {
    /// Remembers the chunks of these contents, and forgets those of contents that neither stand here nor were
    /// what both sides had.
    pub fn set_chunks<'c>(
        &self,
        all: impl IntoIterator<Item = (&'c Digest, &'c Chunks)>,
    ) -> rusqlite::Result<()> {
        let mut any = false;
        for (digest, chunks) in all {
            self.tx
                .prepare_cached("INSERT OR REPLACE INTO chunks VALUES (?1, ?2)")?
                .execute(params![digest.as_bytes(), chunks.to_bytes()])?;
            any = true;
        }
        if any {
            self.tx.execute_batch(
                "DELETE FROM chunks WHERE digest NOT IN (SELECT digest FROM print)
                     AND digest NOT IN (SELECT digest FROM baseline WHERE digest IS NOT NULL)",
            )?;
        }
        Ok(())
    }

    /// Forgets the chunks of a content: nothing is to be built on it.
    pub fn forget_chunks(&self, digest: &Digest) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached("DELETE FROM chunks WHERE digest = ?1")?
            .execute([digest.as_bytes()])?;
        Ok(())
    }
}
