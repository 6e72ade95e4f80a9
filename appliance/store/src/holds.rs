//! What the drive's filesystem can hold, and what it keeps faithfully.

use crate::beneath::Folder;
use raspbox_beneath::Filesystem;
use raspbox_protocol::RelPath;
use raspbox_protocol::info::Holds;
use std::io;

/// The filesystem that the drive has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk {
    /// What a client may put on it.
    pub(crate) holds: Holds,
    /// Whether inode numbers and change times outlive a mount. FAT and exFAT make them up.
    pub(crate) stable_inodes: bool,
    /// Whether a file has an executable bit of its own.
    pub(crate) modes: bool,
}

/// How much there is and how much of it is free.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space {
    pub(crate) free_bytes: u64,
    pub(crate) size_bytes: u64,
}

impl Disk {
    /// Finds out by the filesystem's type.
    pub(crate) fn of(top: &Folder) -> io::Result<Disk> {
        Ok(Disk::on(&top.filesystem()?))
    }

    fn on(filesystem: &Filesystem) -> Disk {
        let fat = filesystem.is_fat();
        Disk {
            holds: filesystem.holds(),
            stable_inodes: !fat,
            modes: !fat,
        }
    }

    /// Why a path's last name can't stand on this drive.
    pub(crate) fn refuses_name(&self, path: &RelPath) -> Option<&'static str> {
        if !self.holds.dos_names {
            return None;
        }
        let name = path.name();
        if name.contains(['"', '*', ':', '<', '>', '?', '\\', '|']) {
            Some("it has one of \" * : < > ? \\ | in its name")
        } else if name.ends_with(['.', ' ']) {
            Some("its name ends with a dot or a space")
        } else {
            None
        }
    }

    /// Why a file of this size can't stand on this drive.
    pub(crate) fn refuses_size(&self, size: u64) -> Option<&'static str> {
        (size > self.holds.file_max_bytes).then_some("the file is larger than it can hold")
    }
}

impl Space {
    /// Asks the filesystem.
    pub(crate) fn of(top: &Folder) -> io::Result<Space> {
        let found = top.filesystem()?;
        Ok(Space {
            free_bytes: found.free_bytes,
            size_bytes: found.size_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Disk;
    use raspbox_beneath::Filesystem;
    use raspbox_protocol::RelPath;

    fn disk(magic: i64) -> Disk {
        Disk::on(&Filesystem {
            magic,
            free_bytes: 0,
            size_bytes: 0,
        })
    }

    #[test]
    fn a_fat_drive_refuses_what_windows_does() {
        let disk = disk(0x4d44);
        let check = |name: &str, good: bool| {
            let path = RelPath::parse(name).expect("a good path");
            assert_eq!(disk.refuses_name(&path).is_none(), good, "{name:?}");
        };
        check("a b.txt", true);
        check("a:b", false);
        check("why?", false);
        check("end.", false);
        check("end ", false);
        check("x:y/fine", true);
        assert!(disk.refuses_size(u64::from(u32::MAX)).is_none());
        assert!(disk.refuses_size(u64::from(u32::MAX) + 1).is_some());
        assert!(self::disk(0x2011_bab0).refuses_size(1 << 40).is_none());
    }

    #[test]
    fn ext4_takes_any_name() {
        let disk = disk(0xef53);
        let path = RelPath::parse("a:b?.").expect("a good path");
        assert!(disk.refuses_name(&path).is_none());
        assert!(disk.holds.case_sensitive && disk.holds.symlinks && disk.stable_inodes);
    }
}
