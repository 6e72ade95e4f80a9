//! How often the stick failed to read or write, as the kernel counts it.

use std::fs;
use std::path::{Path, PathBuf};

/// A counter of the block device's failed commands, from when it was begun to serve.
#[derive(Debug)]
pub(crate) struct Health {
    counter: Option<PathBuf>,
    before: u64,
}

impl Health {
    /// Of the device with this number (`major:minor`). What fails while a stick is probed, as some
    /// commands do with any stick, isn't counted.
    pub(crate) fn of(device: &str) -> Health {
        Health::below(Path::new("/sys/dev/block"), device)
    }

    /// Of a folder of which nobody knows the device.
    pub(crate) fn unknown() -> Health {
        Health {
            counter: None,
            before: 0,
        }
    }

    fn below(devices: &Path, device: &str) -> Health {
        let counter = fs::canonicalize(devices.join(device)).ok().and_then(|own| {
            // A partition's disk is one above it; the counter is the SCSI device's.
            let disks = own.ancestors().take(2);
            let mut counters = disks.map(|disk| disk.join("device/ioerr_cnt"));
            counters.find(|counter| counter.is_file())
        });
        let before = counter.as_deref().and_then(read).unwrap_or(0);
        Health { counter, before }
    }

    /// How many reads and writes have failed.
    pub(crate) fn errors(&self) -> u64 {
        let now = self.counter.as_deref().and_then(read);
        now.map_or(0, |now| now.saturating_sub(self.before))
    }
}

fn read(counter: &Path) -> Option<u64> {
    let text = fs::read_to_string(counter).ok()?;
    // In hexadecimal: Documentation/ABI/testing/sysfs-block-device is silent, scsi_sysfs.c isn't.
    u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::Health;
    use std::fs;

    #[test]
    fn errors_are_those_since_it_was_begun_to_serve() {
        let temp = tempfile::tempdir().unwrap();
        let disk = temp.path().join("devices/sda");
        fs::create_dir_all(disk.join("sda1")).unwrap();
        fs::create_dir_all(disk.join("device")).unwrap();
        let counter = disk.join("device/ioerr_cnt");
        fs::write(&counter, "0x2\n").unwrap();
        let devices = temp.path().join("block");
        fs::create_dir(&devices).unwrap();
        for (number, own) in [("8:0", disk.clone()), ("8:1", disk.join("sda1"))] {
            std::os::unix::fs::symlink(own, devices.join(number)).unwrap();
        }
        let whole = Health::below(&devices, "8:0");
        let part = Health::below(&devices, "8:1");
        let other = Health::below(&devices, "8:9");
        assert_eq!((whole.errors(), part.errors(), other.errors()), (0, 0, 0));
        fs::write(&counter, "0x1c\n").unwrap();
        assert_eq!((whole.errors(), part.errors(), other.errors()), (26, 26, 0));
        fs::remove_file(&counter).unwrap();
        assert_eq!(part.errors(), 0, "it is gone, and that is said elsewhere");
    }
}
