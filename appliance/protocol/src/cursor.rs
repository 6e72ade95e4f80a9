//! Positions in an appliance's journal.

use crate::digest::{parse_hex, write_hex};
use std::fmt;
use std::str::FromStr;

/// The number of the journalled change that made an entry what it is.
///
/// To the appliance these are consecutive numbers from 1 within one [`Epoch`]. To a client they are
/// opaque: only whether two are the same says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u64);

/// The identity of one journal, 16 random bytes.
///
/// A lost database, a swapped or a restored drive is a new epoch. On a new epoch a client merges by
/// content and deletes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub [u8; 16]);

/// A position in a journal: everything up to and including change `seq` has been seen.
///
/// Printed as `<epoch in hex>.<seq>`, as in `/.raspbox/changes/00…00.17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Which journal.
    pub epoch: Epoch,
    /// How far; 0 is before the first change.
    pub seq: u64,
}

/// A text that is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is 32 hex digits, a dot and a number")]
pub struct CursorError;

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0[..4])
    }
}

impl FromStr for Epoch {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        parse_hex(text).map(Epoch).ok_or(CursorError)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (epoch, seq) = text.split_once('.').ok_or(CursorError)?;
        // `u64::from_str` takes a leading plus sign; a cursor has one spelling only.
        if !seq.bytes().all(|b| b.is_ascii_digit()) {
            return Err(CursorError);
        }
        Ok(Cursor {
            epoch: epoch.parse()?,
            seq: seq.parse().map_err(|_| CursorError)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Cursor, Epoch};

    #[test]
    fn prints_and_parses() {
        let cursor = Cursor {
            epoch: Epoch([0xab; 16]),
            seq: 17,
        };
        let text = "abababababababababababababababab.17";
        assert_eq!(cursor.to_string(), text);
        assert_eq!(text.parse(), Ok(cursor));
        assert_eq!(format!("{:?}", cursor.epoch), "abababab", "short, for logs");
        for bad in [
            "",
            "ab.1",
            "17",
            &text.replace('.', ".+"),
            &text.replace('.', ".-"),
            "x.1",
        ] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad:?}");
        }
    }
}
