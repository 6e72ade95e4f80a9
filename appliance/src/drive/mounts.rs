//! What is mounted at the mount point.

use procfs::process::MountInfo;
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// A filesystem that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Which mount it is; no two at the same time have the same number.
    pub(crate) id: i32,
    /// The device's number, as `major:minor`.
    pub(crate) device: String,
    /// Its filesystem, in the kernel's words.
    pub(crate) filesystem: String,
    /// Whether nothing can be written: it was mounted so, or the kernel has given up on it.
    pub(crate) read_only: bool,
}

impl Mount {
    /// The filesystem whose top is mounted at this path, as this process sees it; `None` where there is
    /// none.
    pub(crate) fn at(point: &Path) -> io::Result<Option<Mount>> {
        let mounts = procfs::process::Process::myself()
            .and_then(|me| me.mountinfo())
            .map_err(io::Error::other)?;
        let mut mount = topmost(mounts.0, point);
        if let Some(mount) = &mut mount {
            mount.read_only |=
                mount.filesystem == "ext4" && gave_up(Path::new("/sys"), &mount.device);
        }
        Ok(mount)
    }
}

/// Whether ext4 has found an error on this device (`major:minor`) since it was checked, which resets the
/// count. It writes no more from then on (`errors=remount-ro`), and Linux 6.12 says so nowhere else.
fn gave_up(sys: &Path, device: &str) -> bool {
    let name = std::fs::read_link(sys.join("dev/block").join(device));
    let count = name.ok().and_then(|own| {
        let own = sys.join("fs/ext4").join(own.file_name()?);
        std::fs::read_to_string(own.join("errors_count")).ok()
    });
    count.is_some_and(|count| count.trim() != "0")
}

/// Of several at the same place, the last one covers the others. A folder that is bound on itself is no
/// drive: systemd does that to the mount point, so that the daemon may write to what is mounted on it.
fn topmost(mounts: Vec<MountInfo>, point: &Path) -> Option<Mount> {
    let mount = mounts
        .into_iter()
        .rfind(|mount| mount.mount_point == point)?;
    if mount.root != "/" {
        return None;
    }
    let has = |options: &HashMap<String, Option<String>>, name| options.contains_key(name);
    Some(Mount {
        // ext4 since Linux 6.13 stays "rw" when it stops writing after an error, and says so here.
        read_only: has(&mount.mount_options, "ro")
            || has(&mount.super_options, "ro")
            || has(&mount.super_options, "emergency_ro"),
        id: mount.mnt_id,
        device: mount.majmin,
        filesystem: mount.fs_type,
    })
}

#[cfg(test)]
mod tests {
    use super::{gave_up, topmost};
    use procfs::FromRead;
    use procfs::process::MountInfos;
    use std::path::Path;

    #[test]
    fn ext4_that_found_an_error_has_given_up() {
        let sys = tempfile::tempdir().unwrap();
        let (block, ext4) = (
            sys.path().join("dev/block"),
            sys.path().join("fs/ext4/sda1"),
        );
        std::fs::create_dir_all(&block).unwrap();
        std::fs::create_dir_all(&ext4).unwrap();
        std::os::unix::fs::symlink("../../devices/usb/sda/sda1", block.join("8:1")).unwrap();
        assert!(!gave_up(sys.path(), "8:1"), "it says nothing");
        std::fs::write(ext4.join("errors_count"), "0\n").unwrap();
        assert!(!gave_up(sys.path(), "8:1"));
        std::fs::write(ext4.join("errors_count"), "2\n").unwrap();
        assert!(gave_up(sys.path(), "8:1"));
        assert!(!gave_up(sys.path(), "8:2"), "another device");
    }

    #[test]
    fn the_last_mount_counts_and_either_ro() {
        let check = |text: &str, expect: Option<(i32, bool)>| {
            let mounts = MountInfos::from_read(text.as_bytes()).unwrap();
            let found = topmost(mounts.0, Path::new("/srv/raspbox"));
            assert_eq!(found.map(|m| (m.id, m.read_only)), expect, "{text}");
        };
        let root = "22 1 8:1 / / rw - ext4 /dev/root rw\n";
        let mount = |id, options: &str, of_fs: &str| {
            format!("{id} 22 8:17 / /srv/raspbox {options} shared:9 - ext4 /dev/sda1 {of_fs}\n")
        };
        check(root, None);
        check(
            "30 22 8:17 / /srv/raspbox/below rw - ext4 /dev/sda1 rw\n",
            None,
        );
        let good = mount(30, "rw,noatime", "rw,errors=remount-ro");
        check(&format!("{root}{good}"), Some((30, false)));
        check(&mount(30, "ro", "rw"), Some((30, true)));
        check(&mount(30, "rw", "ro,errors=remount-ro"), Some((30, true)));
        check(&mount(30, "rw", "rw,emergency_ro"), Some((30, true)));
        let bound = "29 22 8:1 /srv/raspbox /srv/raspbox rw - ext4 /dev/root rw\n";
        check(&format!("{root}{bound}"), None);
        check(&format!("{root}{bound}{good}"), Some((30, false)));
        let covers = mount(31, "ro", "rw");
        check(&format!("{good}{covers}"), Some((31, true)));
    }
}
