//! File access that can't leave its folder, by name or by symlink.
//!
//! Both sides of raspbox work in a folder that others write to as well. A path that was checked as
//! text can still lead out of it where somebody swaps a folder for a symlink a moment later. So
//! every folder is opened by the kernel's own rule (`openat2(2)` with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`, Linux 5.6 and later), and what happens in it happens by its descriptor
//! and a single name, never following a symlink.
//!
//! It is also the only door to the disk, the clock, randomness and which boot it is. With the feature `sim` there is
//! a second disk behind it, in memory, for tests that crash it; without, nothing of that is compiled.
//!
//! Nothing here buffers, retries or decides.

#![cfg_attr(not(feature = "sim"), forbid(unsafe_code))]

/// Does the same on a real disk and on a simulated one.
macro_rules! on_either {
    ($on:expr, $it:ident => $call:expr) => {
        match $on {
            On::Real($it) => $call,
            #[cfg(feature = "sim")]
            On::Sim($it) => $call,
        }
    };
}

mod computer;
mod file;
mod folder;
mod holds;
mod path;
mod real;
#[cfg(feature = "sim")]
pub mod sim;
mod written;

pub use computer::{boot, now, pause, random, random_name, uptime};
pub use file::File;
pub use folder::{Folder, Top};
pub use path::{canonical, make_folders, vfs_of};
pub use written::Written;

use raspbox_protocol::Mtime;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

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
    /// The permissions, such as `0o644`.
    pub mode: u32,
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

/// The filesystem that a folder is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filesystem {
    /// Its type, as the kernel numbers them: `statfs(2)`.
    pub magic: i64,
    /// How much may still be written.
    pub free_bytes: u64,
    /// How much there is.
    pub size_bytes: u64,
}

impl Stat {
    /// What an open file is.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn of(file: &File) -> io::Result<Stat> {
        file.stat()
    }
}

/// Whether an error says that the filesystem can't rename as was asked.
#[must_use]
pub fn lacks_flag(error: &io::Error) -> bool {
    let code = Errno::from_io_error(error);
    matches!(code, Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
}

/// Whether an error of reading says that the medium can't give a content back.
#[must_use]
pub fn unreadable(error: &io::Error) -> bool {
    // The last two are what filesystems with checksums say.
    let code = Errno::from_io_error(error);
    matches!(code, Some(Errno::IO | Errno::BADMSG | Errno::UCLEAN))
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

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
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
