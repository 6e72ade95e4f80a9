//! What goes in and out of the store besides the protocol's types.

use raspbox_protocol::{LinkTarget, Mtime};
use std::io;

/// How a store behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes that always stay free; writing stops before.
    pub floor_bytes: u64,
}

/// Who changes something, for the journal: a device's name, or a user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By(pub String);

/// What stands at a path, as the filesystem has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stat {
    /// A regular file.
    File {
        /// Its length.
        size_bytes: u64,
        /// When its content was last changed.
        mtime: Mtime,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A folder.
    Folder {
        /// When something in it was made or deleted.
        mtime: Mtime,
    },
    /// A symlink.
    Symlink {
        /// What it points to; `None` where that isn't UTF-8.
        target: Option<LinkTarget>,
        /// When it was made.
        mtime: Mtime,
    },
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What it is.
    pub stat: Stat,
}

/// A file being written, out of users' sight. Hashed as it is written; removed when dropped.
#[derive(Debug)]
pub struct Staged {}

impl io::Write for Staged {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        unimplemented!()
    }

    fn flush(&mut self) -> io::Result<()> {
        unimplemented!()
    }
}
