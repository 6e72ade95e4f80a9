//! The folder that nothing leaves, and those below it.

#[cfg(feature = "sim")]
use crate::sim;
use crate::{
    File, Filesystem, Kind, Rename, Stat, Written, absent, file, lacks_flag, one_name, real,
    written,
};
use raspbox_protocol::{Mtime, RelPath};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

/// The folder that nothing leaves.
#[derive(Debug)]
pub struct Top(Folder);

/// An opened folder at or below a [`Top`], on a real disk or a simulated one.
#[derive(Debug)]
pub struct Folder(On);

#[derive(Debug)]
enum On {
    Real(real::Folder),
    #[cfg(feature = "sim")]
    Sim(sim::Folder),
}

impl Top {
    /// Opens the folder, following symlinks in its own path.
    ///
    /// # Errors
    /// Where it isn't there, isn't a folder or can't be read.
    pub fn open(path: &Path) -> io::Result<Top> {
        #[cfg(feature = "sim")]
        if let Some((disk, below)) = sim::mounts::find(path) {
            return Ok(Top(Folder(On::Sim(sim::Folder::open(&disk, &below)?))));
        }
        Ok(Top(Folder(On::Real(real::Folder::open(path)?))))
    }

    /// Opens a folder below, or the top itself for `None`.
    ///
    /// # Errors
    /// Where it isn't there, isn't a folder, a symlink is on the way ([`io::ErrorKind::FilesystemLoop`]),
    /// or another filesystem is mounted there: nothing could be renamed between the two.
    pub fn folder(&self, path: Option<&RelPath>) -> io::Result<Folder> {
        self.0.folder(path)
    }

    /// The same by any relative path, for folders whose names are the program's own.
    ///
    /// # Errors
    /// As for [`Top::folder`].
    pub fn folder_at(&self, path: &Path) -> io::Result<Folder> {
        self.0.folder_at(path)
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
        Ok(Folder(match &self.0 {
            On::Real(folder) => On::Real(folder.folder_at(path)?),
            #[cfg(feature = "sim")]
            On::Sim(folder) => On::Sim(folder.folder_at(path)?),
        }))
    }

    /// What a name in it stands for; `None` where nothing does.
    ///
    /// # Errors
    /// Where that can't be known.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Stat>> {
        let name = one_name(name.as_ref())?;
        on_either!(&self.0, folder => folder.stat(name))
    }

    /// What the folder itself is.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn own_stat(&self) -> io::Result<Stat> {
        on_either!(&self.0, folder => folder.own_stat())
    }

    /// The names in it, as they come, without `.` and `..`.
    ///
    /// # Errors
    /// Where it can't be read to its end; then none of the names say anything about what is absent.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        on_either!(&self.0, folder => folder.names())
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// Where it isn't there, is a symlink ([`io::ErrorKind::FilesystemLoop`]), or is anything else
    /// but a regular file ([`io::ErrorKind::InvalidInput`]).
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let name = one_name(name.as_ref())?;
        Ok(File(match &self.0 {
            On::Real(folder) => file::On::Real(folder.open_file(name)?),
            #[cfg(feature = "sim")]
            On::Sim(folder) => file::On::Sim(folder.open_file(name)?),
        }))
    }

    /// Makes a new file to write and read, with these permissions less the umask's.
    ///
    /// # Errors
    /// Where the name is taken, or the filesystem refuses.
    pub fn create_file(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<File> {
        let name = one_name(name.as_ref())?;
        Ok(File(match &self.0 {
            On::Real(folder) => file::On::Real(folder.create_file(name, mode)?),
            #[cfg(feature = "sim")]
            On::Sim(folder) => file::On::Sim(folder.create_file(name, mode)?),
        }))
    }

    /// Opens a file to write and read, making it where there is none.
    ///
    /// # Errors
    /// Where the filesystem refuses, or a symlink stands there.
    pub fn open_or_create_file(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<File> {
        let name = one_name(name.as_ref())?;
        Ok(File(match &self.0 {
            On::Real(folder) => file::On::Real(folder.open_or_create_file(name, mode)?),
            #[cfg(feature = "sim")]
            On::Sim(folder) => file::On::Sim(folder.open_or_create_file(name, mode)?),
        }))
    }

    /// Makes a new folder, with these permissions less the umask's.
    ///
    /// # Errors
    /// Where the name is taken, or the filesystem refuses.
    pub fn make_folder(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<()> {
        let name = one_name(name.as_ref())?;
        on_either!(&self.0, folder => folder.make_folder(name, mode))
    }

    /// Makes a new symlink.
    ///
    /// # Errors
    /// Where the name is taken, or the filesystem has no symlinks.
    pub fn make_symlink(&self, target: &OsStr, name: impl AsRef<OsStr>) -> io::Result<()> {
        let name = one_name(name.as_ref())?;
        on_either!(&self.0, folder => folder.make_symlink(target, name))
    }

    /// What a symlink points to.
    ///
    /// # Errors
    /// Where it is none.
    pub fn read_symlink(&self, name: impl AsRef<OsStr>) -> io::Result<OsString> {
        let name = one_name(name.as_ref())?;
        on_either!(&self.0, folder => folder.read_symlink(name))
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
        let (from, to) = (one_name(from.as_ref())?, one_name(to.as_ref())?);
        match (&self.0, &folder.0) {
            (On::Real(here), On::Real(there)) => here.rename(from, there, to, how),
            #[cfg(feature = "sim")]
            (On::Sim(here), On::Sim(there)) => here.rename(from, there, to, how),
            #[cfg(feature = "sim")]
            (On::Real(_), On::Sim(_)) | (On::Sim(_), On::Real(_)) => Err(Errno::XDEV.into()),
        }
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
        let name = one_name(name.as_ref())?;
        on_either!(&self.0, folder => folder.remove_file(name))
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    /// Where it isn't there or isn't empty ([`io::ErrorKind::DirectoryNotEmpty`]).
    pub fn remove_folder(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        let name = one_name(name.as_ref())?;
        on_either!(&self.0, folder => folder.remove_folder(name))
    }

    /// Sets a time of modification, of a symlink its own.
    ///
    /// # Errors
    /// Where the filesystem refuses.
    pub fn set_mtime(&self, name: impl AsRef<OsStr>, mtime: Mtime) -> io::Result<()> {
        let name = one_name(name.as_ref())?;
        on_either!(&self.0, folder => folder.set_mtime(name, mtime))
    }

    /// Sets a file's permissions, such as `0o644`.
    ///
    /// # Errors
    /// Where the filesystem refuses (FAT keeps none).
    pub fn set_mode(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<()> {
        // Older kernels have no fchmodat that doesn't follow; so by a descriptor that can't be a
        // symlink's.
        self.open_file(name)?.set_mode(mode)
    }

    /// Makes the names in it durable.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn sync(&self) -> io::Result<()> {
        on_either!(&self.0, folder => folder.sync())
    }

    /// Watches what is written to its filesystem from now on, to make it durable.
    ///
    /// # Errors
    /// Where it can't be opened.
    pub fn written(&self) -> io::Result<Written> {
        Ok(Written(match &self.0 {
            On::Real(folder) => written::On::Real(folder.readable()?),
            #[cfg(feature = "sim")]
            On::Sim(folder) => written::On::Sim(folder.written()?),
        }))
    }

    /// Makes everything on its filesystem durable, and may not hear of what could not be written before:
    /// see [`Written`].
    ///
    /// # Errors
    /// Where the device fails.
    pub fn sync_filesystem(&self) -> io::Result<()> {
        self.written()?.sync()
    }

    /// What its filesystem is, and how much of it is free.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn filesystem(&self) -> io::Result<Filesystem> {
        on_either!(&self.0, folder => folder.filesystem())
    }

    /// Removes a folder with everything in it. Nothing where it isn't there.
    ///
    /// # Errors
    /// Where something in it can't be removed.
    pub fn remove_all(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        let name = one_name(name.as_ref())?;
        let folder = match self.folder_at(Path::new(name)) {
            Ok(folder) => folder,
            Err(error) if absent(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        for child in folder.names()? {
            match folder.stat(&child)?.map(|stat| stat.kind) {
                Some(Kind::Folder) => folder.remove_all(&child)?,
                Some(Kind::File | Kind::Symlink | Kind::Special) => folder.remove_file(&child)?,
                None => {}
            }
        }
        self.remove_folder(name)
    }
}
