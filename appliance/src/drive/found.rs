//! What is on a stick, and whether it is ours.

use crate::programs::{BLKID, ask};
use anyhow::bail;
use std::collections::HashMap;
use std::fmt;

/// The label of a drive that is served without having been adopted.
pub(crate) const LABEL: &str = "RASPBOX";

/// What is on a block device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Found {
    /// The filesystem, where there is one.
    pub(crate) filesystem: Option<Filesystem>,
    /// Its label, or nothing.
    pub(crate) label: String,
    /// Its identity, as the filesystem has it, or nothing.
    pub(crate) uuid: String,
    /// Whether it is a disk with partitions.
    pub(crate) has_partitions: bool,
}

/// A filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filesystem {
    /// ext4, and ext2 and ext3, which the same driver and the same programs serve.
    Ext4,
    /// exFAT.
    Exfat,
    /// FAT12, FAT16 or FAT32.
    Fat,
    /// One that isn't served, by blkid's name.
    Other(String),
}

/// What to do with a stick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is ours.
    Attach(Served),
    /// It isn't served, and this is why and what to do.
    Leave(String),
    /// It is ours, and will be served when this one isn't any more.
    Wait(String),
    /// Nothing to say about it.
    Ignore,
}

/// A filesystem that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Served {
    /// Keeps everything, and survives power cuts best.
    Ext4,
    /// Other computers read it as well.
    Exfat,
    /// As exFAT, with files of less than 4 GiB.
    Fat,
}

impl Found {
    /// Looks at a device with blkid's low-level probing, which believes no cache.
    pub(crate) fn on(device: &str) -> anyhow::Result<Found> {
        let answer = ask(BLKID, &["-p", "-o", "export", device])?;
        match answer.code {
            Some(0) => Ok(Found::parse(&answer.out)),
            // Nothing that it knows.
            Some(2) => Ok(Found::default()),
            // Several at once: what is left of an older one. Nobody can say which is true.
            Some(8) => Ok(Found {
                filesystem: Some(Filesystem::Other("of two kinds at once".into())),
                ..Found::default()
            }),
            _ => bail!("cannot look at {device}: {}", answer.said),
        }
    }

    fn parse(export: &str) -> Found {
        let lines = export.lines().filter_map(|line| line.split_once('='));
        let values: HashMap<&str, String> =
            lines.map(|(key, value)| (key, unescape(value))).collect();
        let get = |key| values.get(key).cloned().unwrap_or_default();
        let filesystem = match get("TYPE").as_str() {
            "" => None,
            "ext4" | "ext3" | "ext2" => Some(Filesystem::Ext4),
            "exfat" => Some(Filesystem::Exfat),
            "vfat" => Some(Filesystem::Fat),
            other => Some(Filesystem::Other(other.into())),
        };
        Found {
            filesystem,
            label: get("LABEL"),
            uuid: get("UUID"),
            // The kernel looks for none within a partition; what looks like a table of them there is the boot
            // sector of a filesystem that is broken.
            has_partitions: values.contains_key("PTTYPE")
                && !values.contains_key("PART_ENTRY_SCHEME"),
        }
    }

    /// Whether it is to be served: by its label, or because it was adopted.
    pub(crate) fn judge(&self, device: &str, adopted: &[String], in_use: Option<&str>) -> Verdict {
        let is_ours = self.label.eq_ignore_ascii_case(LABEL)
            || (!self.uuid.is_empty() && adopted.contains(&self.uuid));
        let served = match &self.filesystem {
            None if self.has_partitions => return Verdict::Ignore,
            None => {
                return Verdict::Leave(format!(
                    "there is no filesystem on it, or a broken one. If there were files on it, have a \
                     computer check it; if not, 'sudo raspboxd drive format {device}' says how to make one"
                ));
            }
            Some(Filesystem::Other(name)) => {
                return Verdict::Leave(format!(
                    "its filesystem ({name}) can't be used, only ext4, exFAT and FAT can"
                ));
            }
            Some(Filesystem::Ext4) => Served::Ext4,
            Some(Filesystem::Exfat) => Served::Exfat,
            Some(Filesystem::Fat) => Served::Fat,
        };
        match (is_ours, in_use) {
            (true, None) => Verdict::Attach(served),
            (true, Some(in_use)) => Verdict::Wait(in_use.into()),
            (false, _) => Verdict::Leave(format!(
                "it isn't raspbox's ({served}, {}); 'sudo raspboxd drive adopt {device}' takes it as \
                 it is, with everything on it",
                match self.label.as_str() {
                    "" => "no label".to_owned(),
                    label => format!("label {label:?}"),
                }
            )),
        }
    }
}

/// blkid escapes spaces and the like with a backslash.
fn unescape(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => plain.extend(chars.next().filter(|char| !char.is_control())),
            // It comes from whoever made the stick, and goes to terminals.
            char if char.is_control() => plain.push('?'),
            char => plain.push(char),
        }
    }
    plain
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Served::Ext4 => "ext4",
            Served::Exfat => "exFAT",
            Served::Fat => "FAT",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Filesystem, Found, Served, Verdict};

    #[test]
    fn what_blkid_says_is_understood() {
        let found = Found::parse(
            "DEVNAME=/dev/sda1\nLABEL=MY\\ BOX\\=1\nUUID=1234-ABCD\nVERSION=FAT32\nTYPE=vfat\n\
             USAGE=filesystem\nPART_ENTRY_SCHEME=dos\n",
        );
        let expected = Found {
            filesystem: Some(Filesystem::Fat),
            label: "MY BOX=1".into(),
            uuid: "1234-ABCD".into(),
            has_partitions: false,
        };
        assert_eq!(found, expected);
        assert!(Found::parse("PTTYPE=dos\n").has_partitions);
        // exFAT, whose boot sector is there and nothing else.
        assert!(!Found::parse("PTTYPE=dos\nPART_ENTRY_SCHEME=dos\n").has_partitions);
        let ntfs = Found::parse("LABEL=a\u{1b}[0m\u{7}\nTYPE=ntfs\n");
        assert_eq!(ntfs.filesystem, Some(Filesystem::Other("ntfs".into())));
        assert_eq!(ntfs.label, "a?[0m?");
    }

    #[test]
    fn only_our_own_is_attached() {
        let stick = |filesystem: Option<Filesystem>, label: &str, uuid: &str| Found {
            filesystem,
            label: label.into(),
            uuid: uuid.into(),
            has_partitions: false,
        };
        let adopted = vec!["u-1".to_owned()];
        let check = |found: Found, in_use: Option<&str>, expect: Result<Served, &str>| {
            let verdict = found.judge("/dev/sda1", &adopted, in_use);
            match (&verdict, expect) {
                (Verdict::Attach(served), Ok(expect)) => assert_eq!(*served, expect, "{found:?}"),
                (Verdict::Leave(why), Err(part)) if !part.is_empty() => {
                    assert!(why.contains(part), "{why}");
                }
                (Verdict::Ignore, Err("")) => {}
                _ => panic!("{found:?} {in_use:?}: {verdict:?}"),
            }
        };
        use Filesystem::{Exfat, Ext4, Fat, Other};
        check(stick(Some(Ext4), "RASPBOX", "x"), None, Ok(Served::Ext4));
        check(stick(Some(Fat), "raspbox", "x"), None, Ok(Served::Fat));
        check(stick(Some(Exfat), "MINE", "u-1"), None, Ok(Served::Exfat));
        check(
            stick(Some(Exfat), "MINE", "u-2"),
            None,
            Err("drive adopt /dev/sda1"),
        );
        check(stick(Some(Exfat), "", ""), None, Err("no label"));
        let second =
            stick(Some(Ext4), "RASPBOX", "x").judge("/dev/sda1", &adopted, Some("/dev/sdb1"));
        assert_eq!(second, Verdict::Wait("/dev/sdb1".into()));
        check(
            stick(Some(Other("ntfs".into())), "RASPBOX", "x"),
            None,
            Err("ntfs"),
        );
        check(stick(None, "", ""), None, Err("no filesystem"));
        let disk = Found {
            has_partitions: true,
            ..Found::default()
        };
        check(disk, None, Err(""));
    }
}
