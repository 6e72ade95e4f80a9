//! What is being sent, until it is known whether it arrived.

use super::rows::Columns;
use super::{State, Writer, entry};
use raspbox_protocol::{Entry, RelPath};

pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS sent (
    path TEXT PRIMARY KEY, kind INTEGER NOT NULL, size INTEGER, mtime INTEGER,
    executable INTEGER, digest BLOB, target TEXT, boot TEXT) WITHOUT ROWID";

impl State {
    /// Whether anything was sent that was not recorded since.
    pub fn has_sent(&self) -> rusqlite::Result<bool> {
        self.db
            .prepare_cached("SELECT 1 FROM sent LIMIT 1")?
            .exists([])
    }

    /// What was sent in this run of the operating system and not recorded since, a folder before what is in it.
    pub fn sent(&self, boot: Option<&str>) -> rusqlite::Result<Vec<(RelPath, Entry)>> {
        let mut statement = self.db.prepare_cached(
            "SELECT path, kind, size, mtime, executable, digest, target FROM sent WHERE boot = ?",
        )?;
        let mut rows = statement.query([boot])?;
        let mut sent = Vec::new();
        while let Some(row) = rows.next()? {
            if let Ok(path) = RelPath::parse(row.get_ref(0)?.as_str()?) {
                sent.push((path, entry(row)?));
            }
        }
        sent.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(sent)
    }
}

impl Writer<'_> {
    /// This is about to be sent, and stands here as it is sent.
    pub fn set_sent(
        &self,
        path: &RelPath,
        entry: &Entry,
        boot: Option<&str>,
    ) -> rusqlite::Result<()> {
        let columns = Columns::of(entry);
        self.tx
            .prepare_cached("INSERT OR REPLACE INTO sent VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
            .execute(&columns.of_path_and(&path.as_str(), &boot)[..])?;
        Ok(())
    }

    /// What came of all that was sent is known.
    pub fn clear_sent(&self) -> rusqlite::Result<()> {
        self.tx.prepare_cached("DELETE FROM sent")?.execute([])?;
        Ok(())
    }
}
