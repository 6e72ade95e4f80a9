//! A drive that can't be written to, or is too broken to be: looking and reading, and nothing else.
//!
//! It has no journal, since a journal is written. So nobody can sync with it, which is as it should be:
//! what is missing on a broken drive must not be taken for deleted. People save from it what they can.

use crate::beneath::{Folder, Kind};
use crate::error::{OpenError, StoreError};
use crate::model::{Listed, Stat};
use crate::read;
use raspbox_beneath::{File, canonical};
use raspbox_protocol::RelPath;
use raspbox_protocol::path::RESERVED_NAME;
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

    /// Whether any file can be opened: none can where the kernel has shut a filesystem down after an error,
    /// as Linux 6.12 does with ext4. One that is merely damaged somewhere is still worth reading.
    pub fn is_readable(&self) -> bool {
        let top = self.0.names().map(|(names, _)| names).unwrap_or_default();
        let is_file = |name: &String| {
            let look = self.0.look(name);
            look.is_ok_and(|look| look.is_some_and(|look| look.kind == Kind::File))
        };
        let own = self.0.below(RESERVED_NAME).ok();
        let mut opened = own
            .map(|own| own.open("drive"))
            .into_iter()
            .chain(
                top.iter()
                    .filter(|name| is_file(name))
                    .map(|name| self.0.open(name)),
            )
            .peekable();
        opened.peek().is_none() || opened.any(|file| file.is_ok())
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
