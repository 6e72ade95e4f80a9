//! Entries as libunftp shows them in listings.

use raspbox_protocol::Mtime;
use raspbox_store::{Listed, Stat};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use unftp_core::storage::{Fileinfo, Metadata, Permissions, Result};

/// What is known of an entry. Owner and group mean nothing here and are 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts(pub(crate) Stat);

/// One line of a listing.
pub(crate) type Row = Fileinfo<PathBuf, Facts>;

/// A folder's entries as lines.
pub(crate) fn rows(entries: Vec<Listed>) -> Vec<Row> {
    let row = |listed: Listed| Fileinfo {
        path: listed.name.into(),
        metadata: Facts(listed.stat),
    };
    entries.into_iter().map(row).collect()
}

impl Facts {
    fn mtime(&self) -> Mtime {
        match self.0 {
            Stat::File { mtime, .. } | Stat::Folder { mtime } | Stat::Symlink { mtime, .. } => {
                mtime
            }
        }
    }
}

impl Metadata for Facts {
    fn len(&self) -> u64 {
        match &self.0 {
            Stat::File { size_bytes, .. } => *size_bytes,
            Stat::Folder { .. } => 0,
            Stat::Symlink { target, .. } => target
                .as_ref()
                .map_or(0, |target| target.as_str().len() as u64),
        }
    }

    fn is_dir(&self) -> bool {
        matches!(self.0, Stat::Folder { .. })
    }

    fn is_file(&self) -> bool {
        matches!(self.0, Stat::File { .. })
    }

    fn is_symlink(&self) -> bool {
        matches!(self.0, Stat::Symlink { .. })
    }

    fn modified(&self) -> Result<SystemTime> {
        Ok(self.mtime().into())
    }

    fn gid(&self) -> u32 {
        0
    }

    fn uid(&self) -> u32 {
        0
    }

    fn permissions(&self) -> Permissions {
        Permissions(match self.0 {
            Stat::File {
                executable: false, ..
            } => 0o644,
            Stat::File {
                executable: true, ..
            }
            | Stat::Folder { .. } => 0o755,
            Stat::Symlink { .. } => 0o777,
        })
    }

    fn readlink(&self) -> Option<&Path> {
        match &self.0 {
            Stat::Symlink { target, .. } => {
                target.as_ref().map(|target| Path::new(target.as_str()))
            }
            Stat::File { .. } | Stat::Folder { .. } => None,
        }
    }
}
