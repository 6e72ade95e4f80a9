//! The few things that are done by a whole path, before a folder is open.

use std::io;
use std::path::{Path, PathBuf};

/// The path without symlinks.
///
/// # Errors
/// Where it leads nowhere.
pub fn canonical(path: &Path) -> io::Result<PathBuf> {
    #[cfg(feature = "sim")]
    if crate::sim::mounts::find(path).is_some() {
        return Ok(path.to_owned());
    }
    path.canonicalize()
}

/// Makes a folder and those that it is in, where they aren't there.
///
/// # Errors
/// Where one can't be made.
pub fn make_folders(path: &Path) -> io::Result<()> {
    #[cfg(feature = "sim")]
    if let Some((disk, below)) = crate::sim::mounts::find(path) {
        return crate::sim::make_folders(&disk, &below);
    }
    std::fs::create_dir_all(path)
}

/// The name by which SQLite finds a database at this path, where it isn't the usual way.
#[must_use]
pub fn vfs_of(path: &Path) -> Option<&'static str> {
    #[cfg(feature = "sim")]
    if crate::sim::mounts::find(path).is_some() {
        return Some(crate::sim::vfs::registered());
    }
    let _ = path;
    None
}
