//! What a filesystem makes of a name or an entry.

use raspbox_protocol::info::Holds;
use raspbox_protocol::{Entry, RelPath};
use std::borrow::Cow;
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// What can't be in a name on FAT, exFAT or NTFS, besides `/` and control characters.
pub(super) const DOS_FORBIDDEN: &str = "\"*:<>?\\|";

/// Names that are devices to Windows, with any extension.
const DOS_DEVICES: [&str; 22] = [
    "CON", "PRN", "AUX", "NUL", "COM1", "COM2", "COM3", "COM4", "COM5", "COM6", "COM7", "COM8",
    "COM9", "LPT1", "LPT2", "LPT3", "LPT4", "LPT5", "LPT6", "LPT7", "LPT8", "LPT9",
];

/// What one side keeps its files on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// What a person calls it, such as "the drive".
    pub called: &'static str,
    /// What it can hold.
    pub holds: Holds,
    /// What it makes of characters that can be written in two ways.
    pub accents: Accents,
}

/// What both sides keep their files on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disks {
    /// The synced folder's.
    pub local: Disk,
    /// The other side's.
    pub remote: Disk,
}

/// What a filesystem makes of characters that can be written in two ways: `é` is one character (NFC)
/// or an `e` and an accent (NFD), and looks the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accents {
    /// They are two names (ext4, FAT).
    Apart,
    /// They are one name, kept as it was written (APFS, ext4 with casefold).
    Alike,
    /// They are one name, which comes back in one way however it was written (HFS+). Its entries are
    /// known here by their composed names (NFC), as everybody else writes them.
    Rewritten,
    /// It has neither, nor anything else that isn't ASCII (FAT, mounted for another language).
    Missing,
}

impl Disk {
    /// The other side's.
    ///
    /// Names that look the same are one there, whatever its filesystem says: people and the next
    /// computer can't tell them apart.
    #[must_use]
    pub fn drive(holds: Holds) -> Disk {
        Disk {
            called: "the drive",
            holds,
            accents: Accents::Alike,
        }
    }

    /// The synced folder's.
    #[must_use]
    pub fn here(holds: Holds, accents: Accents) -> Disk {
        Disk {
            called: "the disk of this computer's folder",
            holds,
            accents,
        }
    }

    /// A text that is the same for names that are one on this disk.
    ///
    /// Rather too often the same than too seldom: some filesystems ignore the case of ASCII only.
    #[must_use]
    pub fn key<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let apart = self.accents == Accents::Apart || name.is_ascii();
        match (self.holds.case_sensitive, apart) {
            (true, true) => name.into(),
            (true, false) => name.nfc().collect::<String>().into(),
            (false, true) => name.chars().map(fold).collect::<String>().into(),
            // Decomposed first, so that case is folded letter by letter, accents apart.
            (false, false) => name
                .nfd()
                .map(fold)
                .collect::<String>()
                .nfc()
                .collect::<String>()
                .into(),
        }
    }

    /// Whether it can hold this entry at this path.
    ///
    /// # Errors
    /// Why not, for a person.
    pub fn check(&self, path: &RelPath, entry: &Entry) -> Result<(), String> {
        path.names().try_for_each(|name| self.check_name(name))?;
        self.check_entry(entry)
    }

    /// Whether it can hold what an entry is, whatever its name.
    pub(super) fn check_entry(&self, entry: &Entry) -> Result<(), String> {
        match entry {
            Entry::Symlink(_) if !self.holds.symlinks => {
                Err(format!("{} can't hold symlinks", self.called))
            }
            Entry::File(file) if file.size > self.holds.file_max_bytes => Err(format!(
                "it has {} bytes, and {} can't hold files of more than {}",
                file.size, self.called, self.holds.file_max_bytes
            )),
            Entry::File(_) | Entry::Folder | Entry::Symlink(_) => Ok(()),
        }
    }

    pub(super) fn check_name(&self, name: &str) -> Result<(), String> {
        let why = if self.holds.dos_names {
            dos_trouble(name)
        } else {
            None
        };
        let why = why.or_else(|| match self.accents {
            Accents::Rewritten if !is_nfc(name) => {
                Some("it would write its accented characters in another way".to_owned())
            }
            Accents::Missing if !name.is_ascii() => {
                Some("as it is mounted, it has ASCII characters only".to_owned())
            }
            Accents::Apart | Accents::Alike | Accents::Rewritten | Accents::Missing => None,
        });
        match why {
            None => Ok(()),
            Some(why) => Err(format!(
                "{} can't hold the name '{name}': {why}; rename it",
                self.called
            )),
        }
    }

    /// Why two names that are one on it are, and what to do.
    pub(super) fn clash(&self, name: &str, other: &str) -> String {
        let how = if name.nfc().eq(other.nfc()) {
            "looks the same and is written with other characters"
        } else {
            "differs in upper and lower case only"
        };
        format!(
            "to {}, it is the same name as '{other}' beside it, which {how}; rename one of them",
            self.called
        )
    }
}

/// The name as everybody else writes it, where a disk with [`Accents::Rewritten`] shows another.
#[must_use]
pub fn composed(name: &str) -> Cow<'_, str> {
    if is_nfc(name) {
        name.into()
    } else {
        name.nfc().collect::<String>().into()
    }
}

fn dos_trouble(name: &str) -> Option<String> {
    if let Some(c) = name.chars().find(|&c| DOS_FORBIDDEN.contains(c)) {
        return Some(format!("it contains '{c}'"));
    }
    if name.ends_with('.') {
        return Some("it ends with a dot".to_owned());
    }
    if name.ends_with(' ') {
        return Some("it ends with a space".to_owned());
    }
    let stem = name.split('.').next().unwrap_or(name).trim_end();
    let device = DOS_DEVICES.iter().find(|d| d.eq_ignore_ascii_case(stem));
    device.map(|device| format!("{device} is a device to Windows"))
}

/// Up and down again, character by character, as exFAT and NTFS do with their table: `ς` and `σ`
/// are one, `ß` and `ss` are not.
fn fold(c: char) -> char {
    let mut upper = c.to_uppercase();
    let up = match (upper.next(), upper.next()) {
        (Some(up), None) => up,
        (Some(_), Some(_)) | (None, _) => c,
    };
    let mut lower = up.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(low), None) => low,
        (Some(_), Some(_)) | (None, _) => up,
    }
}
