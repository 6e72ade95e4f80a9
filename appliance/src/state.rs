//! The state directory: a few small files, written whole or not at all, readable by us alone.

use anyhow::Context;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A directory of ours.
#[derive(Debug, Clone)]
pub(crate) struct StateDir(PathBuf);

/// What tells that a file isn't the one that was read any more. Files are replaced by renaming, so
/// the inode changes even where the clock stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    mtime: (i64, i64),
    len_bytes: u64,
}

impl StateDir {
    /// Makes the directory where it isn't there, for us alone.
    pub(crate) fn open(path: PathBuf) -> anyhow::Result<StateDir> {
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(&path)
            .with_context(|| format!("cannot make the state directory {}", path.display()))?;
        let mode = fs::metadata(&path)?.permissions().mode();
        if mode & 0o077 != 0 {
            // Holds the key and the hashes of passwords.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))
                .with_context(|| format!("cannot keep {} to ourselves", path.display()))?;
        }
        Ok(StateDir(path))
    }

    /// Opens the directory of a daemon that may run as somebody else: root becomes that user, for good.
    ///
    /// What root wrote there the daemon could not read, and where a file is a symlink by that user's hand,
    /// root would write elsewhere.
    pub(crate) fn open_as_its_owner(path: PathBuf) -> anyhow::Result<StateDir> {
        if let Ok(metadata) = fs::symlink_metadata(&path)
            && Uid::effective().is_root()
            && metadata.uid() != 0
        {
            let gid = Gid::from_raw(metadata.gid());
            setgroups(&[gid])
                .and_then(|()| setgid(gid))
                .and_then(|()| setuid(Uid::from_raw(metadata.uid())))
                .with_context(|| format!("cannot become the owner of {}", path.display()))?;
        }
        StateDir::open(path)
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Reads a file; `None` where it isn't there.
    pub(crate) fn read(&self, name: &str) -> anyhow::Result<Option<String>> {
        match fs::read_to_string(self.path(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("cannot read {}", self.path(name).display()))
            }
        }
    }

    /// Replaces a file durably.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.path(name);
        replace(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Replaces a file that needs not survive a power cut (and must not wear out an SD card).
    pub(crate) fn write_volatile(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let fresh = self.path(&format!("{name}.new"));
        private(&fresh)?.write_all(content)?;
        fs::rename(fresh, self.path(name))
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }

    /// Which file it is now; `None` where it isn't there.
    pub(crate) fn stamp(&self, name: &str) -> Option<Stamp> {
        let metadata = fs::metadata(self.path(name)).ok()?;
        Some(Stamp {
            inode: metadata.ino(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            len_bytes: metadata.len(),
        })
    }

    /// Holds the lock under which files are read, changed and replaced, against other processes.
    pub(crate) fn lock(&self) -> anyhow::Result<Flock<File>> {
        let path = self.path("lock");
        let open = || -> io::Result<Flock<File>> {
            Flock::lock(private(&path)?, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
        };
        open().with_context(|| format!("cannot lock {}", path.display()))
    }
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut file = private(Path::new(&fresh))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    let folder = path
        .parent()
        .expect("a file of the state directory has a folder");
    File::open(folder)?.sync_all()
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        // Nothing here is a symlink, unless somebody wants us to write elsewhere.
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
}
