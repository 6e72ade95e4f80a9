//! Where in this thread's folders a simulated disk is.

use super::Disk;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

thread_local! {
    static MOUNTS: RefCell<Vec<(PathBuf, Disk)>> = const { RefCell::new(Vec::new()) };
}

impl Disk {
    /// Puts the disk at an absolute path, in place of what is there, for this thread. A filesystem
    /// that makes its inode numbers up makes up new ones.
    pub fn mount(&self, at: &Path) {
        self.renumber();
        MOUNTS.with_borrow_mut(|mounts| {
            mounts.retain(|(path, _)| path != at);
            mounts.push((at.to_owned(), self.clone()));
        });
    }
}

/// Takes the disk at a path away. What is open on it stays open.
pub fn unmount(at: &Path) {
    MOUNTS.with_borrow_mut(|mounts| mounts.retain(|(path, _)| path != at));
}

/// The disk that a path is on, and the path on it.
pub(crate) fn find(path: &Path) -> Option<(Disk, PathBuf)> {
    MOUNTS.with_borrow(|mounts| {
        let under = mounts.iter().filter(|(at, _)| path.starts_with(at));
        let (at, disk) = under.max_by_key(|(at, _)| at.components().count())?;
        let below = path.strip_prefix(at).expect("it begins with it");
        Some((disk.clone(), below.to_owned()))
    })
}
