//! What is written to the state, and nothing or all of it.

use super::rows::Columns;
use super::{Hashed, Print};
use raspbox_protocol::info::DriveId;
use raspbox_protocol::{Cursor, Digest, Entry, RelPath, Version};
use rusqlite::{Transaction, params};

/// Changes the state, within one transaction.
#[derive(Debug)]
pub struct Writer<'a> {
    pub(super) tx: Transaction<'a>,
}

impl Writer<'_> {
    /// Remembers the drive.
    pub fn set_drive(&self, drive: DriveId) -> rusqlite::Result<()> {
        self.set_meta("drive", &drive.to_string())
    }

    /// Remembers the position up to which `remote` is known.
    pub fn set_cursor(&self, cursor: Cursor) -> rusqlite::Result<()> {
        self.set_meta("cursor", &cursor.to_string())?;
        self.set_reached(cursor)
    }

    /// Sets the newest position that the remote's journal is known to have been at.
    pub fn set_reached(&self, cursor: Cursor) -> rusqlite::Result<()> {
        self.set_meta("reached", &cursor.to_string())
    }

    /// Nothing is to be done about the folder as it looks now.
    pub fn set_seal(&self, seal: Digest) -> rusqlite::Result<()> {
        self.set_meta("seal", &seal.to_string())
    }

    pub(super) fn break_seal(&self) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached("DELETE FROM meta WHERE key = 'seal'")?
            .execute([])?;
        Ok(())
    }

    /// Both sides agree on this entry (`None`: on nothing, nor on anything below).
    pub fn set_baseline(&self, path: &RelPath, entry: Option<&Entry>) -> rusqlite::Result<()> {
        self.clear("baseline", path, entry)?;
        let Some(entry) = entry else { return Ok(()) };
        let columns = Columns::of(entry);
        self.tx
            .prepare_cached("INSERT OR REPLACE INTO baseline VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(&columns.of_path(&path.as_str())[..])?;
        Ok(())
    }

    /// The remote has this entry (`None`: nothing, nor anything below).
    pub fn set_remote(
        &self,
        path: &RelPath,
        entry: Option<(&Entry, Version)>,
    ) -> rusqlite::Result<()> {
        self.clear("remote", path, entry.map(|(entry, _)| entry))?;
        let Some((entry, version)) = entry else {
            return Ok(());
        };
        let columns = Columns::of(entry);
        self.tx
            .prepare_cached(
                "INSERT OR REPLACE INTO remote VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(&columns.of_path_and(&path.as_str(), &version.0.cast_signed())[..])?;
        Ok(())
    }

    /// Both sides agree that what was at `from`, with all below it, is at `to`.
    pub fn move_baseline(&self, from: &RelPath, to: &RelPath) -> rusqlite::Result<()> {
        self.relocate("baseline", from, to)
    }

    /// The remote has at `to` what it had at `from`, with all below it.
    pub fn move_remote(&self, from: &RelPath, to: &RelPath) -> rusqlite::Result<()> {
        self.relocate("remote", from, to)
    }

    /// What the remote has at this path, and, if `below`, all below it, has this version.
    pub fn set_version(
        &self,
        path: &RelPath,
        below: bool,
        version: Version,
    ) -> rusqlite::Result<()> {
        let version = version.0.cast_signed();
        self.tx
            .prepare_cached("UPDATE remote SET version = ?2 WHERE path = ?1")?
            .execute(params![path.as_str(), version])?;
        if below {
            let [first, end] = below_it(path);
            self.tx
                .prepare_cached("UPDATE remote SET version = ?3 WHERE path > ?1 AND path < ?2")?
                .execute(params![first, end, version])?;
        }
        Ok(())
    }

    /// The remote has nothing that isn't told anew: before a look at the whole tree.
    pub fn clear_remote(&self) -> rusqlite::Result<()> {
        self.tx.execute_batch("DELETE FROM remote")
    }

    /// Remembers a hash.
    pub fn set_hashed(&self, path: &RelPath, hashed: &Hashed) -> rusqlite::Result<()> {
        let [size, mtime, ctime, inode] = columns(&hashed.print);
        self.tx
            .prepare_cached("INSERT OR REPLACE INTO print VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![
                path.as_str(),
                size,
                mtime,
                ctime,
                inode,
                hashed.digest.as_bytes(),
                hashed.settled
            ])?;
        Ok(())
    }

    /// Forgets the hashes of what was at a path and below it.
    pub fn forget_hashes(&self, path: &RelPath) -> rusqlite::Result<()> {
        self.clear("print", path, None)
    }

    /// Forgets a hash.
    pub fn forget_hash(&self, path: &RelPath) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached("DELETE FROM print WHERE path = ?1")?
            .execute([path.as_str()])?;
        Ok(())
    }

    /// Remembers that a file that looks like this is damaged.
    pub fn set_damaged(&self, path: &RelPath, print: &Print) -> rusqlite::Result<()> {
        let [size, mtime, ctime, inode] = columns(print);
        self.tx
            .prepare_cached("INSERT OR REPLACE INTO damaged VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![path.as_str(), size, mtime, ctime, inode])?;
        Ok(())
    }

    /// A file isn't damaged any more, or isn't there.
    pub fn forget_damaged(&self, path: &RelPath) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached("DELETE FROM damaged WHERE path = ?1")?
            .execute([path.as_str()])?;
        Ok(())
    }

    /// A file in the staging folder is about to change places with this path.
    pub fn set_placing(&self, staged: &str, path: &RelPath) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached("INSERT OR REPLACE INTO placing VALUES (?1, ?2)")?
            .execute([staged, path.as_str()])?;
        Ok(())
    }

    /// Nothing in the staging folder belongs anywhere.
    pub fn clear_placing(&self) -> rusqlite::Result<()> {
        self.tx.execute_batch("DELETE FROM placing")
    }

    /// Removes what stands at or below a path, where `entry` isn't a folder that holds it.
    fn clear(&self, table: &str, path: &RelPath, entry: Option<&Entry>) -> rusqlite::Result<()> {
        if entry.is_none() {
            self.tx
                .prepare_cached(&format!("DELETE FROM {table} WHERE path = ?1"))?
                .execute([path.as_str()])?;
        }
        if entry != Some(&Entry::Folder) {
            self.tx
                .prepare_cached(&format!(
                    "DELETE FROM {table} WHERE path > ?1 AND path < ?2"
                ))?
                .execute(below_it(path))?;
        }
        Ok(())
    }

    /// Moves what stands at and below a path, in place of what stands at the other.
    fn relocate(&self, table: &str, from: &RelPath, to: &RelPath) -> rusqlite::Result<()> {
        self.clear(table, to, None)?;
        let [first, end] = below_it(from);
        self.tx
            .prepare_cached(&format!(
                "UPDATE {table} SET path = ?2 || substr(path, length(?1) + 1)
                 WHERE path = ?1 OR path > ?3 AND path < ?4"
            ))?
            .execute([from.as_str(), to.as_str(), &first, &end])?;
        Ok(())
    }

    fn set_meta(&self, key: &str, value: &str) -> rusqlite::Result<()> {
        self.tx
            .execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", [key, value])?;
        Ok(())
    }
}

/// What a file looked like, as the tables have it.
fn columns(print: &Print) -> [i64; 4] {
    let Print {
        size,
        mtime,
        ctime,
        inode,
    } = *print;
    [size.cast_signed(), mtime, ctime, inode.cast_signed()]
}

/// What comes before all paths below this one, and what comes behind them, as SQLite orders them.
fn below_it(path: &RelPath) -> [String; 2] {
    // '0' is the character after '/'.
    [format!("{path}/"), format!("{path}0")]
}
