//! What an appliance says of itself: the file `info`, one `key value` line each.
//!
//! It is text, since people read it with curl. Unknown keys are ignored, so that a newer appliance
//! can say more; a missing key is an error, but for those that came later.

use crate::{Cursor, CursorError, Mtime};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// An appliance and the drive in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// [`crate::PROTOCOL_VERSION`] of the appliance.
    pub protocol: u32,
    /// The drive's identity, made when it was first used: 32 hex digits.
    pub drive: DriveId,
    /// The journal's newest position.
    pub cursor: Cursor,
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Bytes that the drive holds in all.
    pub size_bytes: u64,
    /// What the drive's filesystem can hold.
    pub holds: Holds,
    /// The appliance's clock, for display only.
    pub now: Mtime,
    /// Whether this account may change files.
    pub writable: bool,
    /// Whether it takes contents to keep from this account ([`crate::holds`]). One that is older
    /// doesn't say, and doesn't.
    pub keeps: bool,
    /// Whether it understands what is [`crate::compressed`]. One that is older doesn't say, and doesn't.
    pub zstd: bool,
}

/// The identity of a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DriveId(pub [u8; 16]);

/// What a filesystem can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holds {
    /// Whether `a` and `A` are two names.
    pub case_sensitive: bool,
    /// Whether there are symlinks.
    pub symlinks: bool,
    /// Whether names are kept to what Windows and FAT can hold: none of `"*:<>?\|`, no space or dot
    /// at the end.
    pub dos_names: bool,
    /// The largest file in bytes (FAT32: 4 GiB less one).
    pub file_max_bytes: u64,
    /// The step in which file times are kept (ext4: 1 ns, exFAT: 10 ms, FAT: 2 s).
    pub granularity: Duration,
}

/// Why a text is not an [`Info`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InfoError {
    /// A line that every `info` has is missing.
    #[error("no line '{0}'")]
    Missing(&'static str),
    /// A line's value isn't one.
    #[error("bad value in line '{0}'")]
    Value(&'static str),
}

impl fmt::Display for DriveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::digest::write_hex(f, &self.0)
    }
}

impl FromStr for DriveId {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        crate::digest::parse_hex(text)
            .map(DriveId)
            .ok_or(CursorError)
    }
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "protocol {}", self.protocol)?;
        writeln!(f, "drive {}", self.drive)?;
        writeln!(f, "cursor {}", self.cursor)?;
        writeln!(f, "free-bytes {}", self.free_bytes)?;
        writeln!(f, "size-bytes {}", self.size_bytes)?;
        writeln!(f, "case-sensitive {}", self.holds.case_sensitive)?;
        writeln!(f, "symlinks {}", self.holds.symlinks)?;
        writeln!(f, "dos-names {}", self.holds.dos_names)?;
        writeln!(f, "file-max-bytes {}", self.holds.file_max_bytes)?;
        writeln!(f, "granularity-ns {}", self.holds.granularity.as_nanos())?;
        writeln!(f, "now-ns {}", self.now.0)?;
        writeln!(f, "writable {}", self.writable)?;
        writeln!(f, "keeps {}", self.keeps)?;
        writeln!(f, "zstd {}", self.zstd)
    }
}

/// What stands between the lines where they are told in one: by `SITE RBX INFO`, which takes a round trip in place of
/// a transfer's five.
const BETWEEN: &str = "; ";

impl Info {
    /// All of it in one line.
    #[must_use]
    pub fn to_line(&self) -> String {
        self.to_string().trim_end().replace('\n', BETWEEN)
    }
}

/// The lines that were told in one.
#[must_use]
pub fn lines(line: &str) -> String {
    line.replace(BETWEEN, "\n")
}

impl FromStr for Info {
    type Err = InfoError;

    fn from_str(text: &str) -> Result<Self, InfoError> {
        Ok(Info {
            protocol: value(text, "protocol")?,
            drive: value(text, "drive")?,
            cursor: value(text, "cursor")?,
            free_bytes: value(text, "free-bytes")?,
            size_bytes: value(text, "size-bytes")?,
            holds: Holds {
                case_sensitive: value(text, "case-sensitive")?,
                symlinks: value(text, "symlinks")?,
                dos_names: value(text, "dos-names")?,
                file_max_bytes: value(text, "file-max-bytes")?,
                granularity: Duration::from_nanos(value(text, "granularity-ns")?),
            },
            now: Mtime(value(text, "now-ns")?),
            writable: value(text, "writable")?,
            keeps: later(text, "keeps")?,
            zstd: later(text, "zstd")?,
        })
    }
}

/// Whether it can do what one that is older doesn't know of.
fn later(text: &str, key: &'static str) -> Result<bool, InfoError> {
    match value(text, key) {
        Err(InfoError::Missing(_)) => Ok(false),
        said => said,
    }
}

fn value<T: FromStr>(text: &str, key: &'static str) -> Result<T, InfoError> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
        .ok_or(InfoError::Missing(key))?;
    value.trim_end().parse().map_err(|_| InfoError::Value(key))
}
