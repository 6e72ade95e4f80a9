//! The real disk, by the kernel's calls.

use crate::{Filesystem, Kind, Rename, Stat, not_a_file};
use raspbox_protocol::Mtime;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps,
    UTIME_OMIT,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// An opened folder.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

impl Folder {
    /// By a path, following symlinks.
    pub(crate) fn open(path: &Path) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Folder(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Below this one, following none.
    pub(crate) fn folder_at(&self, path: &Path) -> io::Result<Folder> {
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        // Not readable, so that one needs no right to list a folder to work in it.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve)?;
        Ok(Folder(fd))
    }

    pub(crate) fn stat(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Stat::from(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn own_stat(&self) -> io::Result<Stat> {
        stat(&self.0)
    }

    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::new(self.readable()?)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        Ok(names)
    }

    pub(crate) fn open_file(&self, name: &OsStr) -> io::Result<File> {
        // NONBLOCK: opening a pipe must not wait for a writer.
        let file = self.open_at(name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?;
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(not_a_file())
        }
    }

    pub(crate) fn create_file(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        self.open_at(name, flags, mode)
    }

    pub(crate) fn open_or_create_file(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        self.open_at(name, OFlags::RDWR | OFlags::CREATE, mode)
    }

    pub(crate) fn make_folder(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        Ok(rustix::fs::mkdirat(&self.0, name, mode)?)
    }

    pub(crate) fn make_symlink(&self, target: &OsStr, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.0, name)?)
    }

    pub(crate) fn read_symlink(&self, name: &OsStr) -> io::Result<OsString> {
        let target = rustix::fs::readlinkat(&self.0, name, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    pub(crate) fn rename(
        &self,
        from: &OsStr,
        folder: &Folder,
        to: &OsStr,
        how: Rename,
    ) -> io::Result<()> {
        let flags = match how {
            Rename::Replace => RenameFlags::empty(),
            Rename::NoReplace => RenameFlags::NOREPLACE,
            Rename::Exchange => RenameFlags::EXCHANGE,
        };
        Ok(rustix::fs::renameat_with(
            &self.0, from, &folder.0, to, flags,
        )?)
    }

    pub(crate) fn remove_file(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    pub(crate) fn remove_folder(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
    }

    #[allow(
        clippy::useless_conversion,
        reason = "32-bit machines have another width here"
    )]
    pub(crate) fn set_mtime(&self, name: &OsStr, mtime: Mtime) -> io::Result<()> {
        let (tv_sec, nanos) = mtime.parts();
        let tv_nsec = nanos.try_into().map_err(io::Error::other)?;
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec { tv_sec, tv_nsec },
        };
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::utimensat(&self.0, name, &times, flags)?)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.readable()?)?)
    }

    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_fallible_conversions,
        reason = "fields have other widths on other machines"
    )]
    pub(crate) fn filesystem(&self) -> io::Result<Filesystem> {
        let stat = rustix::fs::fstatfs(&self.0)?;
        let block = u64::try_from(stat.f_bsize).unwrap_or(0);
        Ok(Filesystem {
            magic: stat.f_type.into(),
            free_bytes: u64::from(stat.f_bavail).saturating_mul(block),
            size_bytes: u64::from(stat.f_blocks).saturating_mul(block),
        })
    }

    pub(crate) fn readable(&self) -> io::Result<File> {
        self.open_at(OsStr::new("."), OFlags::RDONLY | OFlags::DIRECTORY, 0)
    }

    fn open_at(&self, name: &OsStr, flags: OFlags, mode: u32) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.0, name, flags, Mode::from_raw_mode(mode))?;
        Ok(File::from(fd))
    }
}

/// What is open.
pub(crate) fn stat(fd: impl AsFd) -> io::Result<Stat> {
    Ok(Stat::from(&rustix::fs::fstat(fd)?))
}

/// Sets permissions.
pub(crate) fn set_mode(fd: impl AsFd, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))?)
}

/// How a file will be read: in order, all of it.
pub(crate) fn read_ahead(fd: impl AsFd) {
    // It may be ignored; then it is slower.
    let _ = rustix::fs::fadvise(fd, 0, None, rustix::fs::Advice::Sequential);
}

/// That nothing of a file has to stay in memory.
pub(crate) fn drop_cached(fd: impl AsFd) {
    // It may be ignored; then memory is read, which says less and harms nothing.
    let _ = rustix::fs::fadvise(fd, 0, None, rustix::fs::Advice::DontNeed);
}

impl From<&rustix::fs::Stat> for Stat {
    #[allow(
        clippy::useless_conversion,
        reason = "fields have other widths on other machines"
    )]
    fn from(stat: &rustix::fs::Stat) -> Stat {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Special,
        };
        let nanos = |nanos| i64::try_from(nanos).unwrap_or(0);
        let mode = u32::from(stat.st_mode) & 0o7777;
        Stat {
            kind,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: Mtime::from_parts(stat.st_mtime.into(), nanos(stat.st_mtime_nsec)),
            ctime: Mtime::from_parts(stat.st_ctime.into(), nanos(stat.st_ctime_nsec)),
            inode: u64::from(stat.st_ino),
            device: u64::from(stat.st_dev),
            mode,
            executable: mode & 0o100 != 0,
        }
    }
}
