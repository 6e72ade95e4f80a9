//! What root's commands say of a drive, for the daemon and through it for people.
//!
//! Files below `/run/raspbox`, written by root and readable by all: one for the drive that is attached,
//! one for each other stick that is plugged in.

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file for the drive that is attached.
const DRIVE: &str = "drive.json";

/// The folder with a file for each stick that isn't.
const OTHERS: &str = "sticks";

/// How many other sticks are told of.
const OTHERS_MAX: usize = 8;

/// The drive that is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attached {
    /// Its device file.
    pub(crate) device: String,
    /// The filesystem's label.
    pub(crate) label: String,
    /// The filesystem, as people call it.
    pub(crate) filesystem: String,
    /// What checking it came to.
    pub(crate) check: Check,
    /// Whether it is about to be unmounted, so that the daemon must let go of it.
    pub(crate) leaving: bool,
}

/// What checking a filesystem came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Check {
    /// Nothing was wrong.
    Clean,
    /// It wasn't unmounted; nothing else was wrong.
    Unclean,
    /// Something was, and was put right.
    Repaired,
    /// It can't be trusted, so it is only read. With what the checking program said.
    Failed(String),
}

impl Check {
    /// The same where it may have been repaired at the check before already, and nobody has looked through
    /// it since.
    pub(crate) fn since(self, unsettled: bool) -> Check {
        match self {
            Check::Clean | Check::Unclean if unsettled => Check::Repaired,
            check @ (Check::Clean | Check::Unclean | Check::Repaired | Check::Failed(_)) => check,
        }
    }
}

/// A stick that is plugged in and isn't served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Other {
    /// Its device file.
    pub(crate) device: String,
    /// Why not, and what to do, in words.
    pub(crate) why: String,
    /// Whether it would be, if another weren't.
    #[serde(default)]
    pub(crate) waits: bool,
}

/// Where the reports are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reports(PathBuf);

impl Reports {
    /// In this folder, which root has made.
    pub(crate) fn in_folder(folder: impl Into<PathBuf>) -> Reports {
        Reports(folder.into())
    }

    /// The drive that is attached; `None` where there is none, or nobody says so.
    pub(crate) fn attached(&self) -> Option<Attached> {
        read(&self.0.join(DRIVE))
    }

    /// Says what is attached.
    pub(crate) fn attach(&self, drive: &Attached) -> io::Result<()> {
        write(&self.0.join(DRIVE), drive)
    }

    /// Says that it isn't any more.
    pub(crate) fn detach(&self) -> io::Result<()> {
        remove(&self.0.join(DRIVE))
    }

    /// All other sticks, by their device.
    pub(crate) fn others(&self) -> Vec<Other> {
        let Ok(entries) = fs::read_dir(self.0.join(OTHERS)) else {
            return Vec::new();
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let mut others: Vec<Other> = paths.filter_map(|path| read(&path)).collect();
        others.sort_by(|a, b| a.device.cmp(&b.device));
        others.truncate(OTHERS_MAX);
        others
    }

    /// Says that there is another stick.
    pub(crate) fn tell_of(&self, other: &Other) -> io::Result<()> {
        fs::create_dir_all(self.0.join(OTHERS))?;
        write(&self.other(&other.device), other)
    }

    /// Says that it is gone, or no other any more.
    pub(crate) fn forget(&self, device: &str) -> io::Result<()> {
        remove(&self.other(device))
    }

    fn other(&self, device: &str) -> PathBuf {
        let name = device.trim_start_matches("/dev/").replace('/', "-");
        self.0.join(OTHERS).join(name + ".json")
    }
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Option<T> {
    let text = fs::read_to_string(path).ok()?;
    match serde_json::from_str(&text) {
        Ok(report) => Some(report),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a report that can't be read");
            None
        }
    }
}

/// Whole or not at all; the folder is in memory, so nothing is synced.
fn write<T: Serialize>(path: &Path, report: &T) -> io::Result<()> {
    let fresh = path.with_extension("new");
    fs::write(&fresh, serde_json::to_vec(report).expect("plain data"))?;
    fs::rename(fresh, path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::{Attached, Check, Other, Reports};

    #[test]
    fn a_repair_is_one_until_somebody_looked() {
        let failed = || Check::Failed("why".into());
        for (found, unsettled, expect) in [
            (Check::Clean, false, Check::Clean),
            (Check::Unclean, false, Check::Unclean),
            (Check::Repaired, false, Check::Repaired),
            (failed(), false, failed()),
            (Check::Clean, true, Check::Repaired),
            (Check::Unclean, true, Check::Repaired),
            (Check::Repaired, true, Check::Repaired),
            (failed(), true, failed()),
        ] {
            assert_eq!(found.clone().since(unsettled), expect, "{found:?}");
        }
    }

    #[test]
    fn what_is_said_is_heard() {
        let temp = tempfile::tempdir().unwrap();
        let reports = Reports::in_folder(temp.path());
        assert_eq!(reports.attached(), None);
        assert_eq!(reports.others(), []);
        let drive = Attached {
            device: "/dev/sda1".into(),
            label: "RASPBOX".into(),
            filesystem: "ext4".into(),
            check: Check::Failed("bad magic".into()),
            leaving: false,
        };
        reports.attach(&drive).unwrap();
        assert_eq!(reports.attached(), Some(drive));
        let other = |device: &str| Other {
            device: device.into(),
            why: "it has no label".into(),
            waits: false,
        };
        for device in ["/dev/sdc1", "/dev/sdb1"] {
            reports.tell_of(&other(device)).unwrap();
        }
        assert_eq!(reports.others(), [other("/dev/sdb1"), other("/dev/sdc1")]);
        reports.forget("/dev/sdb1").unwrap();
        reports.forget("/dev/sdb1").unwrap();
        assert_eq!(reports.others(), [other("/dev/sdc1")]);
        reports.detach().unwrap();
        reports.detach().unwrap();
        assert_eq!(reports.attached(), None);
        std::fs::write(temp.path().join("drive.json"), "{").unwrap();
        assert_eq!(reports.attached(), None);
    }
}
