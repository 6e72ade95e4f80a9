//! File access that can't leave its folder, by name or by symlink.
//!
//! Both sides of raspbox work in a folder that others write to as well. A path that was checked as
//! text can still lead out of it where somebody swaps a folder for a symlink a moment later. So
//! every folder is opened by the kernel's own rule (`openat2(2)` with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`, Linux 5.6 and later), and what happens in it happens by its descriptor
//! and a single name, never following a symlink.
//!
//! Nothing here buffers, retries or decides.

use raspbox_protocol::{Mtime, RelPath};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps,
    UTIME_OMIT,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The folder that nothing leaves.
#[derive(Debug)]
pub struct Top(OwnedFd);

/// An opened folder at or below a [`Top`].
#[derive(Debug)]
pub struct Folder(OwnedFd);

/// What a name stands for, without following it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// File, folder, symlink, or something else.
    pub kind: Kind,
    /// The length in bytes.
    pub size: u64,
    /// When the content was last changed.
    pub mtime: Mtime,
    /// When anything about it was last changed, in the same unit; nobody can set it back.
    pub ctime: Mtime,
    /// The file's number on its filesystem.
    pub inode: u64,
    /// The filesystem's number on this machine.
    pub device: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
}

/// What a name can stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symlink.
    Symlink,
    /// A socket, a pipe or a device.
    Special,
}

/// What a rename does where something stands at the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    /// It replaces it.
    Replace,
    /// It fails ([`io::ErrorKind::AlreadyExists`]). Not on every filesystem: then
    /// [`io::ErrorKind::InvalidInput`].
    NoReplace,
    /// Both change places. Not on every filesystem: then [`io::ErrorKind::InvalidInput`].
    Exchange,
}

impl Top {
    /// Opens the folder, following symlinks in its own path.
    ///
    /// # Errors
    /// Where it isn't there, isn't a folder or can't be read.
    pub fn open(path: &Path) -> io::Result<Top> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Top(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Opens a folder below, or the top itself for `None`.
    ///
    /// # Errors
    /// Where it isn't there, isn't a folder, a symlink is on the way ([`io::ErrorKind::FilesystemLoop`]),
    /// or another filesystem is mounted there: nothing could be renamed between the two.
    pub fn folder(&self, path: Option<&RelPath>) -> io::Result<Folder> {
        self.folder_at(path.map_or(Path::new("."), AsRef::as_ref))
    }

    /// The same by any relative path, for folders whose names are the program's own.
    ///
    /// # Errors
    /// As for [`Top::folder`].
    pub fn folder_at(&self, path: &Path) -> io::Result<Folder> {
        open_beneath(self.as_fd(), path)
    }

    /// Opens the folder that a path is in.
    ///
    /// # Errors
    /// As for [`Top::folder`].
    pub fn parent_of(&self, path: &RelPath) -> io::Result<Folder> {
        self.folder(path.parent().as_ref())
    }

    /// What stands at a path; `None` where nothing does.
    ///
    /// # Errors
    /// Where that can't be known: a folder on the way can't be read, or the device fails. A missing
    /// folder on the way is no error, nothing stands there.
    pub fn stat(&self, path: &RelPath) -> io::Result<Option<Stat>> {
        match self.parent_of(path) {
            Ok(folder) => folder.stat(path.name()),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Top {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Folder {
    /// Opens a folder below, or this one again for `None`.
    ///
    /// # Errors
    /// As for [`Top::folder`].
    pub fn folder(&self, path: Option<&RelPath>) -> io::Result<Folder> {
        self.folder_at(path.map_or(Path::new("."), AsRef::as_ref))
    }

    /// The same by any relative path.
    ///
    /// # Errors
    /// As for [`Top::folder`].
    pub fn folder_at(&self, path: &Path) -> io::Result<Folder> {
        open_beneath(self.as_fd(), path)
    }

    /// What a name in it stands for; `None` where nothing does.
    ///
    /// # Errors
    /// Where that can't be known.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.0, one_name(name.as_ref())?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Stat::from(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What the folder itself is.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn own_stat(&self) -> io::Result<Stat> {
        Ok(Stat::from(&rustix::fs::fstat(&self.0)?))
    }

    /// The names in it, as they come, without `.` and `..`.
    ///
    /// # Errors
    /// Where it can't be read to its end; then none of the names say anything about what is absent.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
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

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// Where it isn't there, is a symlink ([`io::ErrorKind::FilesystemLoop`]), or is anything else
    /// but a regular file ([`io::ErrorKind::InvalidInput`]).
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        // NONBLOCK: opening a pipe must not wait for a writer.
        let file = self.open_at(
            one_name(name.as_ref())?,
            OFlags::RDONLY | OFlags::NONBLOCK,
            0,
        )?;
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ))
        }
    }

    /// Makes a new file to write and read, with these permissions less the umask's.
    ///
    /// # Errors
    /// Where the name is taken, or the filesystem refuses.
    pub fn create_file(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        self.open_at(one_name(name.as_ref())?, flags, mode)
    }

    /// Opens a file to write and read, making it where there is none.
    ///
    /// # Errors
    /// Where the filesystem refuses, or a symlink stands there.
    pub fn open_or_create_file(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<File> {
        self.open_at(
            one_name(name.as_ref())?,
            OFlags::RDWR | OFlags::CREATE,
            mode,
        )
    }

    /// Makes a new folder, with these permissions less the umask's.
    ///
    /// # Errors
    /// Where the name is taken, or the filesystem refuses.
    pub fn make_folder(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        Ok(rustix::fs::mkdirat(
            &self.0,
            one_name(name.as_ref())?,
            mode,
        )?)
    }

    /// Makes a new symlink.
    ///
    /// # Errors
    /// Where the name is taken, or the filesystem has no symlinks.
    pub fn make_symlink(&self, target: &OsStr, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(
            target,
            &self.0,
            one_name(name.as_ref())?,
        )?)
    }

    /// What a symlink points to.
    ///
    /// # Errors
    /// Where it is none.
    pub fn read_symlink(&self, name: impl AsRef<OsStr>) -> io::Result<OsString> {
        let target = rustix::fs::readlinkat(&self.0, one_name(name.as_ref())?, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Gives an entry another name, here or in another folder of the same filesystem.
    ///
    /// # Errors
    /// See [`Rename`].
    pub fn rename(
        &self,
        from: impl AsRef<OsStr>,
        folder: &Folder,
        to: impl AsRef<OsStr>,
        how: Rename,
    ) -> io::Result<()> {
        let flags = match how {
            Rename::Replace => RenameFlags::empty(),
            Rename::NoReplace => RenameFlags::NOREPLACE,
            Rename::Exchange => RenameFlags::EXCHANGE,
        };
        let (from, to) = (one_name(from.as_ref())?, one_name(to.as_ref())?);
        Ok(rustix::fs::renameat_with(
            &self.0, from, &folder.0, to, flags,
        )?)
    }

    /// Renames to where nothing is, on filesystems that can't promise it too: there, a look before
    /// is the best that can be had.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where something is, and as for [`Folder::rename`].
    pub fn rename_to_free(
        &self,
        from: impl AsRef<OsStr>,
        folder: &Folder,
        to: impl AsRef<OsStr>,
    ) -> io::Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        match self.rename(from, folder, to, Rename::NoReplace) {
            Err(error) if lacks_flag(&error) => match folder.stat(to)? {
                Some(_) => Err(Errno::EXIST.into()),
                None => self.rename(from, folder, to, Rename::Replace),
            },
            result => result,
        }
    }

    /// Removes a file or symlink.
    ///
    /// # Errors
    /// Where it isn't there, or is a folder.
    pub fn remove_file(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(
            &self.0,
            one_name(name.as_ref())?,
            AtFlags::empty(),
        )?)
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    /// Where it isn't there or isn't empty ([`io::ErrorKind::DirectoryNotEmpty`]).
    pub fn remove_folder(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(
            &self.0,
            one_name(name.as_ref())?,
            AtFlags::REMOVEDIR,
        )?)
    }

    /// Sets a time of modification, of a symlink its own.
    ///
    /// # Errors
    /// Where the filesystem refuses.
    #[allow(
        clippy::useless_conversion,
        reason = "32-bit machines have another width here"
    )]
    pub fn set_mtime(&self, name: impl AsRef<OsStr>, mtime: Mtime) -> io::Result<()> {
        let (tv_sec, nanos) = mtime.parts();
        let tv_nsec = nanos.try_into().map_err(io::Error::other)?;
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec { tv_sec, tv_nsec },
        };
        let name = one_name(name.as_ref())?;
        Ok(rustix::fs::utimensat(
            &self.0,
            name,
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// Sets a file's permissions, such as `0o644`.
    ///
    /// # Errors
    /// Where the filesystem refuses (FAT keeps none).
    pub fn set_mode(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<()> {
        // Older kernels have no fchmodat that doesn't follow; so by a descriptor that can't be a
        // symlink's.
        let file = self.open_file(name)?;
        Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?)
    }

    /// Makes the names in it durable.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.readable()?)?)
    }

    /// Makes everything on its filesystem durable.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn sync_filesystem(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(self.readable()?)?)
    }

    fn readable(&self) -> io::Result<File> {
        self.open_at(OsStr::new("."), OFlags::RDONLY | OFlags::DIRECTORY, 0)
    }

    fn open_at(&self, name: &OsStr, flags: OFlags, mode: u32) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(
            &self.0,
            name,
            flags,
            Mode::from_raw_mode(mode),
        )?))
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Stat {
    /// What an open file is.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn of(file: &File) -> io::Result<Stat> {
        Ok(Stat::from(&rustix::fs::fstat(file)?))
    }
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
        Stat {
            kind,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: Mtime::from_parts(stat.st_mtime.into(), nanos(stat.st_mtime_nsec)),
            ctime: Mtime::from_parts(stat.st_ctime.into(), nanos(stat.st_ctime_nsec)),
            inode: u64::from(stat.st_ino),
            device: u64::from(stat.st_dev),
            executable: stat.st_mode & 0o100 != 0,
        }
    }
}

fn open_beneath(folder: BorrowedFd<'_>, path: &Path) -> io::Result<Folder> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    // Not readable, so that one needs no right to list a folder to work in it.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Folder(rustix::fs::openat2(
        folder,
        path,
        flags,
        Mode::empty(),
        resolve,
    )?))
}

/// Whether an error says that the filesystem can't rename as was asked.
#[must_use]
pub fn lacks_flag(error: &io::Error) -> bool {
    let code = Errno::from_io_error(error);
    matches!(code, Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
}

/// Whether an error says that nothing stands at a path, rather than that it can't be known.
///
/// A missing folder on the way, or a file in a folder's place, means that nothing is below it.
#[must_use]
pub fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The kernel takes any path here; a single name is all that is ever meant.
fn one_name(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a single name",
        ))
    } else {
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Rename, Top, absent};
    use raspbox_protocol::{Mtime, RelPath};
    use std::io::ErrorKind;
    use std::os::unix::fs::symlink;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text).expect("a good path")
    }

    #[test]
    fn no_symlink_leads_out_or_even_around() {
        let outside = tempfile::tempdir().expect("temp dir");
        std::fs::write(outside.path().join("secret"), "x").expect("write");
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::create_dir(dir.path().join("real")).expect("mkdir");
        symlink(outside.path(), dir.path().join("out")).expect("symlink");
        symlink("real", dir.path().join("around")).expect("symlink");
        symlink(outside.path().join("secret"), dir.path().join("file")).expect("symlink");
        let top = Top::open(dir.path()).expect("open");
        for folder in ["out", "around", "out/deeper"] {
            assert!(top.folder(Some(&path(folder))).is_err(), "{folder}");
        }
        assert!(top.parent_of(&path("out/secret")).is_err());
        let folder = top.folder(None).expect("the top");
        assert!(folder.open_file("file").is_err());
        assert_eq!(
            folder.stat("file").expect("stat").map(|s| s.kind),
            Some(Kind::Symlink)
        );
        for name in ["", ".", "..", "../x", "real/x", "/etc/passwd"] {
            let error = folder.open_file(name).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn what_is_absent_is_told_from_what_is_unknown() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::write(dir.path().join("file"), "x").expect("write");
        symlink("file", dir.path().join("link")).expect("symlink");
        let top = Top::open(dir.path()).expect("open");
        assert_eq!(top.stat(&path("no")).expect("known"), None);
        assert_eq!(top.stat(&path("no/child")).expect("known"), None);
        assert_eq!(top.stat(&path("file/child")).expect("known"), None);
        assert!(
            top.stat(&path("link/child"))
                .is_err_and(|error| !absent(&error))
        );
    }

    #[test]
    fn renames_keep_their_promise() {
        let dir = tempfile::tempdir().expect("temp dir");
        for name in ["a", "b"] {
            std::fs::write(dir.path().join(name), name).expect("write");
        }
        let top = Top::open(dir.path()).expect("open");
        let folder = top.folder(None).expect("the top");
        let error = folder
            .rename("a", &folder, "b", Rename::NoReplace)
            .expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        folder
            .rename("a", &folder, "b", Rename::Exchange)
            .expect("exchange");
        assert_eq!(std::fs::read(dir.path().join("a")).expect("read"), b"b");
        let mut names = folder.names().expect("names");
        names.sort();
        assert_eq!(names, ["a", "b"]);
        folder
            .rename("a", &folder, "b", Rename::Replace)
            .expect("replace");
        assert_eq!(std::fs::read(dir.path().join("b")).expect("read"), b"b");
        assert_eq!(folder.stat("a").expect("stat"), None);
    }

    #[test]
    fn times_before_1970_survive() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::write(dir.path().join("a"), "").expect("write");
        let top = Top::open(dir.path()).expect("open");
        let folder = top.folder(None).expect("the top");
        let mtime = Mtime(-1_500_000_001);
        folder.set_mtime("a", mtime).expect("utimensat");
        assert_eq!(folder.stat("a").expect("stat").expect("there").mtime, mtime);
    }
}
