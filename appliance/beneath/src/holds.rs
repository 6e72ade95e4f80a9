//! What a filesystem can hold, by its type.

use crate::Filesystem;
use raspbox_protocol::info::Holds;
use std::time::Duration;

/// `statfs(2)`: `MSDOS_SUPER_MAGIC`, of FAT12, 16 and 32.
const FAT: i64 = 0x4d44;
/// `EXFAT_SUPER_MAGIC` in `linux/magic.h`.
const EXFAT: i64 = 0x2011_bab0;
/// `NTFS3`'s `super.c`: "ntfs" as a number.
const NTFS3: i64 = 0x7366_746e;

impl Filesystem {
    /// Whether it is FAT or exFAT: no permissions, and inode numbers and change times that are made
    /// up at each mount.
    #[must_use]
    pub fn is_fat(&self) -> bool {
        matches!(self.magic, FAT | EXFAT)
    }

    /// What it can hold, as far as its type says. Whether it minds the case of names is often a
    /// choice (ext4 can be told to ignore it), so look.
    #[must_use]
    pub fn holds(&self) -> Holds {
        let (granularity, file_max_bytes) = match self.magic {
            FAT => (Duration::from_secs(2), u64::from(u32::MAX)),
            EXFAT => (Duration::from_millis(10), i64::MAX.unsigned_abs()),
            NTFS3 => (Duration::from_nanos(100), i64::MAX.unsigned_abs()),
            _ => (Duration::from_nanos(1), i64::MAX.unsigned_abs()),
        };
        let fat = self.is_fat();
        Holds {
            case_sensitive: !fat,
            symlinks: !fat,
            dos_names: fat,
            file_max_bytes,
            granularity,
        }
    }
}
