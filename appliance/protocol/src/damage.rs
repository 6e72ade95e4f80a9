//! What the appliance knows to be damaged: the file `damaged`, a line each and then `end` and their
//! number.
//!
//! A content is damaged where its hash isn't what it was any more, though nobody wrote to it: the
//! medium has let it rot. It is text, since people read it with curl; the last line tells a list that
//! is whole from one that was cut.
//!
//! ```text
//! file 17 6437b3ac… 0f1e… 1700000000000000000 photos/beach.jpg
//! kept af1349b9… - 1700000000000000000
//! end 2
//! ```

use crate::{Digest, Mtime, RelPath, Version};
use std::fmt::Write;

/// The most damages that are told at once; the others are told when these are repaired.
pub const DAMAGES_MAX: usize = 10_000;

/// The longest list that is read, in bytes: each line has a path, two hashes and three numbers.
pub const DAMAGED_MAX_BYTES: usize = DAMAGES_MAX * (crate::path::PATH_MAX_BYTES + 256);

/// One damaged content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What it is the content of.
    pub place: Place,
    /// The hash that it should have.
    pub expected: Digest,
    /// The hash that it had when it was found; `None` where it can't be read at all.
    pub found: Option<Digest>,
    /// When it was found, by the appliance's clock, for display only.
    pub since: Mtime,
}

/// Where a damaged content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file that users see.
    File {
        /// Where it stands.
        path: RelPath,
        /// Which change made it.
        version: Version,
    },
    /// Kept as a version of something that was replaced or deleted.
    Kept,
}

/// Why a text is no list of damages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DamageError {
    /// A line that isn't one.
    #[error("bad line {0}")]
    Line(usize),
    /// The last line is missing or has another number: the list was cut.
    #[error("the list isn't whole")]
    Cut,
}

/// The list as text.
#[must_use]
pub fn print(damages: &[Damage]) -> String {
    let mut text = String::new();
    for damage in damages.iter().take(DAMAGES_MAX) {
        let Damage {
            place,
            expected,
            found,
            since,
        } = damage;
        let found = found.map_or_else(|| "-".to_owned(), |found| found.to_string());
        let line = match place {
            Place::File { path, version } => {
                format!("file {} {expected} {found} {} {path}", version.0, since.0)
            }
            Place::Kept => format!("kept {expected} {found} {}", since.0),
        };
        text += &line;
        text.push('\n');
    }
    writeln!(text, "end {}", damages.len().min(DAMAGES_MAX)).expect("a string takes all");
    text
}

/// The list of a text.
///
/// # Errors
/// Where it isn't one, or was cut.
pub fn parse(text: &str) -> Result<Vec<Damage>, DamageError> {
    let mut damages = Vec::new();
    let mut lines = text.strip_suffix('\n').ok_or(DamageError::Cut)?.split('\n');
    let last = lines.next_back().ok_or(DamageError::Cut)?;
    for (line, number) in lines.zip(1..) {
        if number > DAMAGES_MAX {
            return Err(DamageError::Line(number));
        }
        damages.push(parse_line(line).ok_or(DamageError::Line(number))?);
    }
    match last.strip_prefix("end ").and_then(|n| n.parse().ok()) {
        Some(count) if damages.len() == count => Ok(damages),
        Some(_) | None => Err(DamageError::Cut),
    }
}

fn parse_line(line: &str) -> Option<Damage> {
    let (kind, rest) = line.split_once(' ')?;
    let hashes = |expected: &str, found: &str, since: &str| {
        let found = match found {
            "-" => None,
            found => Some(found.parse().ok()?),
        };
        let since = Mtime(since.parse().ok()?);
        Some((expected.parse().ok()?, found, since))
    };
    let (place, (expected, found, since)) = match kind {
        "file" => {
            let mut words = rest.splitn(5, ' ');
            let mut word = || words.next();
            let (version, expected, found, since) = (word()?, word()?, word()?, word()?);
            let place = Place::File {
                path: RelPath::parse(word()?).ok()?,
                version: Version(version.parse().ok()?),
            };
            (place, hashes(expected, found, since)?)
        }
        "kept" => {
            let words: Vec<&str> = rest.split(' ').collect();
            let [expected, found, since] = words[..] else {
                return None;
            };
            (Place::Kept, hashes(expected, found, since)?)
        }
        _ => return None,
    };
    Some(Damage {
        place,
        expected,
        found,
        since,
    })
}
