//! What goes in and out of the store besides the protocol's types.

use crate::beneath::{Kind, Look};
use raspbox_protocol::{LinkTarget, Mtime};

/// How a store behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes that always stay free; writing stops before.
    pub floor_bytes: u64,
}

/// Ways to make a store fail on purpose, for tests. A plain value; nothing is global.
#[doc(hidden)]
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Panics at this step of what is done to the disk, counted from 0 at [`crate::Store::open`], and
    /// from then on at every one.
    pub stop_at: Option<u32>,
    /// At this step, puts a file with this content under this name, as an editor does, by a rename.
    pub meddle: Option<(u32, std::path::PathBuf, String)>,
    /// Behaves as on a filesystem that can't exchange two names.
    pub no_exchange: bool,
    /// Behaves as on a filesystem like FAT: no lasting inode numbers, no executable bit.
    pub fat: bool,
    /// Can't read what is at this path when it scans.
    pub unreadable: Option<String>,
    /// Behaves as on a drive of this size on which there is nothing but users' files, versions,
    /// what is being staged and parts.
    pub drive_bytes: Option<u64>,
    /// Keeps what came of a cut content from so much on.
    pub part_min_bytes: Option<u64>,
    /// Restores as on a drive on which there is no room for a copy.
    pub no_copies: bool,
    /// The system's clock, in nanoseconds since 1970, for the history.
    pub clock: Option<std::sync::Arc<std::sync::atomic::AtomicI64>>,
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

impl Stat {
    /// `None` for what is neither a file nor a folder nor a symlink.
    pub(crate) fn of(look: &Look) -> Option<Stat> {
        let mtime = look.mtime;
        match &look.kind {
            Kind::File => Some(Stat::File {
                size_bytes: look.print.size,
                mtime,
                executable: look.executable,
            }),
            Kind::Folder => Some(Stat::Folder { mtime }),
            Kind::Symlink(target) => Some(Stat::Symlink {
                target: target.clone(),
                mtime,
            }),
            Kind::Other => None,
        }
    }
}
