//! Safe access to files: nothing outside of the top can be reached by any name.
//!
//! A path's folder is opened with `openat2`, which the kernel resolves beneath the top and without
//! following any symlink; its last name is then used with the `*at` calls, none of which follows
//! one either. So a symlink that somebody swaps in at any moment leads nowhere.
//!
//! Metadata comes from std by way of an `O_PATH` descriptor and not from `fstatat`, since on a
//! 32-bit Pi the latter fails (`EOVERFLOW`) for files of 2 GiB and more.

use nix::dir::Dir;
use nix::fcntl::{
    OFlag, OpenHow, RenameFlags, ResolveFlag, openat, openat2, readlinkat, renameat2,
};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, symlinkat, syncfs, unlinkat};
use raspbox_protocol::{LinkTarget, Mtime, RelPath};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

/// A folder that was opened, whatever becomes of its name.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

/// What stands under a name, as the filesystem has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) kind: Kind,
    pub(crate) mtime: Mtime,
    pub(crate) executable: bool,
    pub(crate) print: Fingerprint,
}

/// What kind of thing stands under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    /// The target, where it can be one of ours.
    Symlink(Option<LinkTarget>),
    /// A device, a socket or a pipe.
    Other,
}

/// By what a change is noticed without reading the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint {
    pub(crate) size: u64,
    pub(crate) mtime_ns: i64,
    pub(crate) ctime_ns: i64,
    pub(crate) inode: u64,
}

/// How a rename treats what stands at the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Onto {
    /// Nothing may stand there.
    Nothing,
    /// Both names change places.
    Exchange,
    /// It is replaced.
    Anything,
}

impl Folder {
    /// Opens the top itself.
    pub(crate) fn open_top(path: &std::path::Path) -> io::Result<Folder> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Folder(nix::fcntl::open(path, flags, Mode::empty())?))
    }

    /// Opens a folder below this one, through no symlink and no mount; `None` is this one again.
    pub(crate) fn folder(&self, path: Option<&RelPath>) -> io::Result<Folder> {
        self.below(path.map_or(".", RelPath::as_str))
    }

    /// The same for a name of our own.
    ///
    /// A filesystem mounted inside the tree can't be part of the store: nothing can be renamed
    /// between the two.
    pub(crate) fn below(&self, path: &str) -> io::Result<Folder> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_SYMLINKS
                    | ResolveFlag::RESOLVE_NO_MAGICLINKS
                    | ResolveFlag::RESOLVE_NO_XDEV,
            );
        Ok(Folder(openat2(&self.0, path, how)?))
    }

    /// What stands under a name; `None` where nothing does.
    pub(crate) fn look(&self, name: &str) -> io::Result<Option<Look>> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = match openat(&self.0, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(nix::Error::ENOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let file = File::from(fd);
        let meta = file.metadata()?;
        let kind = if meta.is_file() {
            Kind::File
        } else if meta.is_dir() {
            Kind::Folder
        } else if meta.is_symlink() {
            let target = readlinkat(&file, "")?;
            Kind::Symlink(target.to_str().and_then(|t| LinkTarget::parse(t).ok()))
        } else {
            Kind::Other
        };
        Ok(Some(Look::new(kind, &meta)))
    }

    /// The names in this folder that are UTF-8, and how many aren't. Unsorted.
    pub(crate) fn names(&self) -> io::Result<(Vec<String>, usize)> {
        let mut names = Vec::new();
        let mut skipped = 0;
        for entry in Dir::from_fd(self.readable()?)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) => names.push(name.to_owned()),
                Err(_) => skipped += 1,
            }
        }
        Ok((names, skipped))
    }

    /// Opens a file for reading. A pipe doesn't block, a symlink is `ELOOP`.
    pub(crate) fn open(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        Ok(File::from(self.openat(name, flags)?))
    }

    /// Makes a file that wasn't there.
    pub(crate) fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        Ok(File::from(self.openat(name, flags)?))
    }

    /// Opens or makes a file of our own.
    pub(crate) fn open_or_create(&self, name: &str) -> io::Result<File> {
        Ok(File::from(
            self.openat(name, OFlag::O_RDWR | OFlag::O_CREAT)?,
        ))
    }

    /// Renames what stands under a name.
    pub(crate) fn rename(
        &self,
        name: &str,
        to: &Folder,
        to_name: &str,
        onto: Onto,
    ) -> io::Result<()> {
        let flags = match onto {
            Onto::Nothing => RenameFlags::RENAME_NOREPLACE,
            Onto::Exchange => RenameFlags::RENAME_EXCHANGE,
            Onto::Anything => RenameFlags::empty(),
        };
        match renameat2(&self.0, name, &to.0, to_name, flags) {
            // A filesystem without the flag (some FUSE): looking first is the next best, since
            // nobody but us writes here under the writer's lock.
            Err(nix::Error::EINVAL | nix::Error::ENOSYS) if onto == Onto::Nothing => {
                if to.look(to_name)?.is_some() {
                    return Err(nix::Error::EEXIST.into());
                }
                Ok(renameat2(
                    &self.0,
                    name,
                    &to.0,
                    to_name,
                    RenameFlags::empty(),
                )?)
            }
            result => Ok(result?),
        }
    }

    /// Removes a file or symlink.
    pub(crate) fn unlink(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Removes an empty folder.
    pub(crate) fn remove_folder(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, UnlinkatFlags::RemoveDir)?)
    }

    /// Makes a folder.
    pub(crate) fn make_folder(&self, name: &str) -> io::Result<()> {
        Ok(mkdirat(&self.0, name, Mode::from_bits_truncate(0o755))?)
    }

    /// Makes a symlink.
    pub(crate) fn make_symlink(&self, name: &str, target: &LinkTarget) -> io::Result<()> {
        Ok(symlinkat(target.as_str(), &self.0, name)?)
    }

    /// Makes what was done to the names in this folder durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(fsync(self.readable()?)?)
    }

    /// Makes everything on this filesystem durable.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        Ok(syncfs(self.readable()?)?)
    }

    fn readable(&self) -> io::Result<OwnedFd> {
        self.openat(".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    fn openat(&self, name: &str, flags: OFlag) -> io::Result<OwnedFd> {
        let always = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_LARGEFILE;
        let mode = Mode::from_bits_truncate(0o644);
        Ok(openat(
            &self.0,
            OsStr::from_bytes(name.as_bytes()),
            flags | always,
            mode,
        )?)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Look {
    /// What an open file is now.
    pub(crate) fn of(file: &File) -> io::Result<Look> {
        let meta = file.metadata()?;
        let kind = if meta.is_file() {
            Kind::File
        } else {
            Kind::Other
        };
        Ok(Look::new(kind, &meta))
    }

    fn new(kind: Kind, meta: &std::fs::Metadata) -> Look {
        let mtime = Mtime::from_parts(meta.mtime(), meta.mtime_nsec());
        Look {
            kind,
            mtime,
            executable: meta.mode() & 0o100 != 0,
            print: Fingerprint {
                size: meta.size(),
                mtime_ns: mtime.0,
                ctime_ns: Mtime::from_parts(meta.ctime(), meta.ctime_nsec()).0,
                inode: meta.ino(),
            },
        }
    }
}

/// Whether an error says that the name leads nowhere, as opposed to "can't tell".
pub(crate) fn is_absent(error: &io::Error) -> bool {
    use nix::libc::{ELOOP, ENOENT, ENOTDIR};
    matches!(error.raw_os_error(), Some(ENOENT | ENOTDIR | ELOOP))
}
