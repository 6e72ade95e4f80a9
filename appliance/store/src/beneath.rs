//! What the store sees of a folder: `raspbox-beneath` with the store's own words.
//!
//! Nothing outside of the top can be reached by any name, nor by a symlink that somebody swaps in;
//! see there.

use raspbox_beneath::{File, Filesystem, Rename, Stat, Top, Written};
use raspbox_protocol::{LinkTarget, Mtime, RelPath};
use std::io;
use std::path::Path;

/// A file's permissions before the umask.
const FILE_MODE: u32 = 0o644;

/// A folder's permissions before the umask.
const FOLDER_MODE: u32 = 0o755;

/// A folder that was opened, whatever becomes of its name.
#[derive(Debug)]
pub(crate) struct Folder(raspbox_beneath::Folder);

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
    pub(crate) fn open_top(path: &Path) -> io::Result<Folder> {
        Top::open(path)?.folder(None).map(Folder)
    }

    /// Opens a folder below this one, through no symlink and no mount; `None` is this one again.
    pub(crate) fn folder(&self, path: Option<&RelPath>) -> io::Result<Folder> {
        self.0.folder(path).map(Folder)
    }

    /// The same for a name of our own.
    pub(crate) fn below(&self, path: &str) -> io::Result<Folder> {
        self.0.folder_at(Path::new(path)).map(Folder)
    }

    /// What stands under a name; `None` where nothing does.
    pub(crate) fn look(&self, name: &str) -> io::Result<Option<Look>> {
        let Some(stat) = self.0.stat(name)? else {
            return Ok(None);
        };
        let kind = match stat.kind {
            raspbox_beneath::Kind::File => Kind::File,
            raspbox_beneath::Kind::Folder => Kind::Folder,
            raspbox_beneath::Kind::Symlink => {
                let target = match self.0.read_symlink(name) {
                    Ok(target) => target,
                    // Replaced in between: what it is now, the next look tells.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(error),
                };
                Kind::Symlink(
                    target
                        .to_str()
                        .and_then(|target| LinkTarget::parse(target).ok()),
                )
            }
            raspbox_beneath::Kind::Special => Kind::Other,
        };
        Ok(Some(Look::new(kind, &stat)))
    }

    /// What this folder itself is.
    pub(crate) fn own_look(&self) -> io::Result<Look> {
        Ok(Look::new(Kind::Folder, &self.0.own_stat()?))
    }

    /// The names in this folder that are UTF-8, and how many aren't. Unsorted.
    pub(crate) fn names(&self) -> io::Result<(Vec<String>, usize)> {
        let all = self.0.names()?;
        let count = all.len();
        let names: Vec<String> = all
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .collect();
        let skipped = count - names.len();
        Ok((names, skipped))
    }

    /// Opens a file for reading. A pipe doesn't block, a symlink is `ELOOP`.
    pub(crate) fn open(&self, name: &str) -> io::Result<File> {
        self.0.open_file(name)
    }

    /// Makes a file that wasn't there.
    pub(crate) fn create(&self, name: &str) -> io::Result<File> {
        self.0.create_file(name, FILE_MODE)
    }

    /// Opens or makes a file of our own.
    pub(crate) fn open_or_create(&self, name: &str) -> io::Result<File> {
        self.0.open_or_create_file(name, FILE_MODE)
    }

    /// Renames what stands under a name.
    pub(crate) fn rename(
        &self,
        name: &str,
        to: &Folder,
        to_name: &str,
        onto: Onto,
    ) -> io::Result<()> {
        match onto {
            // Where the filesystem can't promise it, a look before is the next best: nobody but us
            // writes here, under the writer's lock.
            Onto::Nothing => self.0.rename_to_free(name, &to.0, to_name),
            Onto::Exchange => self.0.rename(name, &to.0, to_name, Rename::Exchange),
            Onto::Anything => self.0.rename(name, &to.0, to_name, Rename::Replace),
        }
    }

    /// Removes a file or symlink.
    pub(crate) fn unlink(&self, name: &str) -> io::Result<()> {
        self.0.remove_file(name)
    }

    /// Removes an empty folder.
    pub(crate) fn remove_folder(&self, name: &str) -> io::Result<()> {
        self.0.remove_folder(name)
    }

    /// Makes a folder.
    pub(crate) fn make_folder(&self, name: &str) -> io::Result<()> {
        self.0.make_folder(name, FOLDER_MODE)
    }

    /// Makes a symlink.
    pub(crate) fn make_symlink(&self, name: &str, target: &LinkTarget) -> io::Result<()> {
        self.0.make_symlink(target.as_str().as_ref(), name)
    }

    /// Makes what was done to the names in this folder durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    /// Watches what is written to this filesystem from now on, to make it durable.
    pub(crate) fn written(&self) -> io::Result<Written> {
        self.0.written()
    }

    /// What filesystem this is.
    pub(crate) fn filesystem(&self) -> io::Result<Filesystem> {
        self.0.filesystem()
    }
}

impl Look {
    /// What an open file is now.
    pub(crate) fn of(file: &File) -> io::Result<Look> {
        let stat = Stat::of(file)?;
        let kind = match stat.kind {
            raspbox_beneath::Kind::File => Kind::File,
            raspbox_beneath::Kind::Folder
            | raspbox_beneath::Kind::Symlink
            | raspbox_beneath::Kind::Special => Kind::Other,
        };
        Ok(Look::new(kind, &stat))
    }

    fn new(kind: Kind, stat: &Stat) -> Look {
        Look {
            kind,
            mtime: stat.mtime,
            executable: stat.executable,
            print: Fingerprint {
                size: stat.size,
                mtime_ns: stat.mtime.0,
                ctime_ns: stat.ctime.0,
                inode: stat.inode,
            },
        }
    }
}

/// Whether an error says that the name leads nowhere, as opposed to "can't tell". To the store, a
/// symlink on the way leads nowhere.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    raspbox_beneath::absent(error) || error.raw_os_error() == Some(nix::libc::ELOOP)
}
