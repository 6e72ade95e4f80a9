//! Giving the files of a drive to the daemon's user.
//!
//! ext4 keeps owners. What a laptop wrote belongs to somebody whom the appliance doesn't know, and the
//! daemon, which has no rights, could neither read nor replace it.

use nix::unistd::{Gid, Uid};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid as RawGid, Mode, OFlags, Uid as RawUid, chownat, fchmod,
    openat, statat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// How deep folders may lie in each other: each holds a descriptor.
const DEPTH_MAX: usize = 256;

/// Where e2fsck puts files that have lost their names.
const LOST: &CStr = c"lost+found";

/// Makes everything below a mount point this user's; returns how many weren't. No symlink is followed.
///
/// An empty `lost+found` is removed: users would find it on all their computers, and e2fsck makes
/// another when it needs one. One with files in it is shown to them, since the files are theirs.
pub(crate) fn give_to(top: &Path, uid: Uid, gid: Gid) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = openat(CWD, top, flags, Mode::empty())?;
    match unlinkat(&top, LOST, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let owner = Owner {
        uid: RawUid::from_raw(uid.as_raw()),
        gid: RawGid::from_raw(gid.as_raw()),
        device: rustix::fs::fstat(&top)?.st_dev,
    };
    let mut changed = u64::from(owner.own(top.as_fd(), c".")?);
    owner.walk(top, &mut changed, 0)?;
    Ok(changed)
}

#[derive(Debug, Clone, Copy)]
struct Owner {
    uid: RawUid,
    gid: RawGid,
    device: u64,
}

impl Owner {
    fn walk(self, folder: OwnedFd, changed: &mut u64, depth: usize) -> io::Result<()> {
        if depth == DEPTH_MAX {
            tracing::warn!("folders too deep in each other keep their owners");
            return Ok(());
        }
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            match self.own(folder.as_fd(), name) {
                Ok(was_another) => *changed += u64::from(was_another),
                // Immutable, or unreadable: the daemon says what it can't read, and serves the rest.
                Err(error) => tracing::warn!(?name, %error, "an entry keeps its owner"),
            }
            let is_folder = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => {
                    let stat = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                }
                FileType::RegularFile
                | FileType::Symlink
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice => false,
            };
            if is_folder {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = openat(&folder, name, flags, Mode::empty())?;
                // Something may be mounted on it.
                if rustix::fs::fstat(&below)?.st_dev == self.device {
                    self.walk(below, changed, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    /// Gives one entry its owner, and the owner what is needed to read and replace it. Whether it had
    /// another.
    fn own(self, folder: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if stat.st_uid == self.uid.as_raw() && stat.st_gid == self.gid.as_raw() {
            return Ok(false);
        }
        chownat(
            folder,
            name,
            Some(self.uid),
            Some(self.gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        let needed = match kind {
            FileType::Directory => Mode::RWXU,
            FileType::RegularFile => Mode::RUSR | Mode::WUSR,
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => return Ok(true),
        };
        let mode = Mode::from_raw_mode(stat.st_mode);
        if !mode.contains(needed) {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let open = openat(folder, name, flags, Mode::empty())?;
            fchmod(&open, (mode | needed) & Mode::from_raw_mode(0o777))?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::give_to;
    use nix::unistd::{Gid, Uid};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn everything_on_the_drive_is_the_daemons_and_nothing_else() {
        if !Uid::effective().is_root() {
            assert!(std::env::var_os("CI").is_none(), "CI runs as root");
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("outside");
        fs::write(&outside, "").unwrap();
        let top = temp.path().join("drive");
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::create_dir(top.join("lost+found")).unwrap();
        fs::write(top.join("a/b/c"), "c").unwrap();
        fs::set_permissions(top.join("a/b/c"), fs::Permissions::from_mode(0o4055)).unwrap();
        symlink(&outside, top.join("a/link")).unwrap();
        symlink(temp.path(), top.join("a/up")).unwrap();
        let (uid, gid) = (Uid::from_raw(4711), Gid::from_raw(4712));
        assert_eq!(give_to(&top, uid, gid).unwrap(), 6);
        for path in ["", "a", "a/b", "a/b/c", "a/link", "a/up"] {
            let stat = fs::symlink_metadata(top.join(path)).unwrap();
            assert_eq!((stat.uid(), stat.gid()), (4711, 4712), "{path}");
        }
        assert_eq!(fs::metadata(&outside).unwrap().uid(), 0);
        let mode = fs::metadata(top.join("a/b/c")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o655);
        assert!(!top.join("lost+found").exists());
        assert_eq!(give_to(&top, uid, gid).unwrap(), 0);
        fs::create_dir(top.join("lost+found")).unwrap();
        fs::write(top.join("lost+found/#12"), "found").unwrap();
        assert_eq!(give_to(&top, uid, gid).unwrap(), 2);
    }
}
