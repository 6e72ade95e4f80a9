//! A drive that can't be written to, or is too broken to be: looking and reading, and nothing else.
//!
//! It has no journal, since a journal is written. So nobody can sync with it, which is as it should be:
//! what is missing on a broken drive must not be taken for deleted. People save from it what they can.

use crate::beneath::Folder;
use crate::error::{OpenError, StoreError};
use crate::model::{Listed, Stat};
use crate::read;
use raspbox_beneath::{File, canonical};
use raspbox_protocol::RelPath;
use std::path::Path;

/// The files of a drive that is only read.
#[derive(Debug)]
pub struct Rescue(Folder);

impl Rescue {
    /// Opens it in this folder. Writes nothing there.
    pub fn open(top: &Path) -> Result<Rescue, OpenError> {
        let cannot = |source| OpenError::Folder {
            path: top.into(),
            source,
        };
        let top = Folder::open_top(&canonical(top).map_err(cannot)?).map_err(cannot)?;
        Ok(Rescue(top))
    }

    /// What stands at a path (`None`: the top itself). Where the filesystem has no executable bit,
    /// nothing is executable: only the journal knew.
    pub fn stat(&self, path: Option<&RelPath>) -> Result<Stat, StoreError> {
        read::stat(&self.0, path)
    }

    /// Everything in a folder, sorted by name, like [`crate::Store::list`].
    pub fn list(&self, folder: Option<&RelPath>) -> Result<Vec<Listed>, StoreError> {
        read::list(&self.0, folder)
    }

    /// Opens a file for reading.
    pub fn read(&self, path: &RelPath) -> Result<File, StoreError> {
        read::read(&self.0, path)
    }
}
