//! The hash cache, read folder by folder: all of it at once takes as much memory as a tree.

use super::rows::hashed;
use super::{Hashed, State};
use raspbox_core::tree::Name;
use raspbox_protocol::RelPath;

/// The hashes of a folder's files, for who asks for one after the other.
#[derive(Debug)]
pub struct Hashes<'a> {
    state: &'a State,
    /// The folder that was asked about last.
    at: Option<Option<String>>,
    /// Its files, by name.
    files: Vec<(Name, Hashed)>,
}

impl State {
    /// All cached hashes, to be asked for by path.
    #[must_use]
    pub fn hashes(&self) -> Hashes<'_> {
        Hashes {
            state: self,
            at: None,
            files: Vec::new(),
        }
    }

    /// Those of the files in a folder, not below, in the order of their names.
    fn hashed_in(&self, folder: Option<&str>) -> rusqlite::Result<Vec<(Name, Hashed)>> {
        let mut statement = self.db.prepare_cached(
            "SELECT size, mtime, ctime, inode, digest, settled, path FROM print
             WHERE path >= ?1 ORDER BY path",
        )?;
        let within = folder.map_or_else(String::new, |folder| format!("{folder}/"));
        let mut found = Vec::new();
        let mut from = Some(within.clone());
        while let Some(first) = from.take() {
            let mut rows = statement.query([first])?;
            while let Some(row) = rows.next()? {
                let Some(name) = row.get_ref(6)?.as_str()?.strip_prefix(&within) else {
                    break;
                };
                if let Some((below, _)) = name.split_once('/') {
                    // Behind all that is in it: '0' is the character after '/'.
                    from = Some(format!("{within}{below}0"));
                    break;
                }
                found.push((name.into(), hashed(row)?));
            }
        }
        Ok(found)
    }
}

impl Hashes<'_> {
    /// The hash of one file. Quick where the last one was in the same folder.
    ///
    /// # Errors
    /// Where SQLite fails.
    pub fn get(&mut self, path: &RelPath) -> rusqlite::Result<Option<Hashed>> {
        let (folder, name) = match path.as_str().rsplit_once('/') {
            Some((folder, name)) => (Some(folder), name),
            None => (None, path.as_str()),
        };
        if self.at.as_ref().map(Option::as_deref) != Some(folder) {
            self.at = None;
            self.files = self.state.hashed_in(folder)?;
            self.at = Some(folder.map(str::to_owned));
        }
        let found = self
            .files
            .binary_search_by(|(known, _)| (**known).cmp(name));
        Ok(found.ok().map(|index| self.files[index].1))
    }
}
