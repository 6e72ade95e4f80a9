//! What a path was before: `history/<path>`.
//!
//! The answer has a [`HistoryFrame::Past`] for what stands there now, if anything does, then one for
//! each version that is known, the newest first, then the end.

use crate::entry::Mtime;
use crate::feed::{entry, put_entry};
use crate::wire::{Frame, Payload, WireError, put_mtime, put_text, put_varint};
use crate::{Entry, RelPath, Version};

/// The longest name of whoever changed something, in bytes; what is longer is cut.
pub const BY_MAX_BYTES: usize = 255;

/// What stood at a path for some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// The number that it is asked for by; `None` where it stands there now.
    pub number: Option<u64>,
    /// What.
    pub entry: Entry,
    /// The change that made it.
    pub version: Version,
    /// Who made it, a device or a user; empty where it was found on the drive.
    pub by: String,
    /// From when on it stood there, by the appliance's clock.
    pub since: Mtime,
    /// How that ended.
    pub ended: Option<Ended>,
    /// Whether it can be had.
    pub kept: bool,
}

/// How something came to stand at a path no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// When, by the appliance's clock.
    pub at: Mtime,
    /// By whom, as [`Past::by`].
    pub by: String,
    /// What became of it.
    pub how: How,
}

/// What became of something that stood at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// Something else took its place.
    Replaced,
    /// It was deleted.
    Deleted,
    /// It went there.
    Moved(RelPath),
}

/// One message of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryFrame {
    /// What stood at the path.
    Past(Past),
    /// The end.
    End,
}

const PAST: u8 = 1;
const END: u8 = 2;

const REPLACED: u8 = 0;
const DELETED: u8 = 1;
const MOVED: u8 = 2;

impl Frame for HistoryFrame {
    fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            HistoryFrame::Past(past) => {
                put_past(out, past);
                PAST
            }
            HistoryFrame::End => END,
        }
    }

    fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, WireError> {
        let mut bytes = Payload::new(&payload);
        let frame = match kind {
            PAST => HistoryFrame::Past(past(&mut bytes)?),
            END => HistoryFrame::End,
            other => return Err(WireError::Kind(other)),
        };
        bytes.done(frame)
    }
}

fn put_past(out: &mut Vec<u8>, past: &Past) {
    match past.number {
        None => out.push(0),
        Some(number) => {
            out.push(1);
            put_varint(out, number);
        }
    }
    put_entry(out, &past.entry);
    put_varint(out, past.version.0);
    put_by(out, &past.by);
    put_mtime(out, past.since);
    out.push(u8::from(past.kept));
    let Some(ended) = &past.ended else {
        return out.push(0);
    };
    out.push(1);
    put_mtime(out, ended.at);
    put_by(out, &ended.by);
    match &ended.how {
        How::Replaced => out.push(REPLACED),
        How::Deleted => out.push(DELETED),
        How::Moved(to) => {
            out.push(MOVED);
            put_text(out, to.as_str());
        }
    }
}

fn past(bytes: &mut Payload<'_>) -> Result<Past, WireError> {
    let number = match bytes.flag("number")? {
        false => None,
        true => Some(bytes.number()?),
    };
    Ok(Past {
        number,
        entry: entry(bytes)?,
        version: bytes.version()?,
        by: by(bytes)?,
        since: bytes.mtime()?,
        kept: bytes.flag("kept")?,
        ended: match bytes.flag("end")? {
            false => None,
            true => Some(ended(bytes)?),
        },
    })
}

fn ended(bytes: &mut Payload<'_>) -> Result<Ended, WireError> {
    Ok(Ended {
        at: bytes.mtime()?,
        by: by(bytes)?,
        how: match bytes.byte()? {
            REPLACED => How::Replaced,
            DELETED => How::Deleted,
            MOVED => How::Moved(bytes.path()?),
            _ => return Err(WireError::Value("end")),
        },
    })
}

fn put_by(out: &mut Vec<u8>, by: &str) {
    put_text(out, &by[..by.floor_char_boundary(BY_MAX_BYTES)]);
}

fn by(bytes: &mut Payload<'_>) -> Result<String, WireError> {
    let by = bytes.text("name")?;
    if by.len() > BY_MAX_BYTES {
        return Err(WireError::Value("name"));
    }
    Ok(by.into())
}

#[cfg(test)]
mod tests {
    use super::{BY_MAX_BYTES, HistoryFrame, Past};
    use crate::wire::{Frame, WireError};
    use crate::{Entry, Mtime, Version};

    fn by(name: String) -> HistoryFrame {
        HistoryFrame::Past(Past {
            number: None,
            entry: Entry::Folder,
            version: Version(1),
            by: name,
            since: Mtime(0),
            kept: false,
            ended: None,
        })
    }

    #[test]
    fn a_name_has_as_many_bytes_as_it_may_and_no_more() {
        let longest = by("x".repeat(BY_MAX_BYTES));
        let mut payload = Vec::new();
        let kind = longest.encode(&mut payload);
        assert_eq!(HistoryFrame::decode(kind, payload.clone()), Ok(longest));
        // One more in the text and in its length, which is a varint of two bytes.
        let at = payload.iter().position(|byte| *byte == b'x').unwrap();
        payload[at - 2..at].copy_from_slice(&[0x80, 0x02]);
        payload.insert(at, b'x');
        assert_eq!(
            HistoryFrame::decode(kind, payload),
            Err(WireError::Value("name"))
        );
        // What is longer is cut when it is sent.
        let mut cut = Vec::new();
        by("y".repeat(BY_MAX_BYTES + 1)).encode(&mut cut);
        assert!(HistoryFrame::decode(kind, cut).is_ok());
    }
}
