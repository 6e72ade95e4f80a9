//! What the appliance tells of its tree: `tree`, `changes/<cursor>` and `events/<cursor>`.
//!
//! `at/<time>` is the tree as it was: the same stream as `tree`.
//!
//! All are the same stream. `tree` begins with [`FeedFrame::Head`] with `whole` set, has
//! every entry once in the order of [`RelPath`], and ends with a [`FeedFrame::Mark`]. `changes`
//! begins with `whole` unset, has the present state of every path that changed after the cursor
//! (an entry, or [`FeedFrame::Gone`]), and ends with a mark. `events` is `changes` that never ends:
//! a mark after each burst, and a [`FeedFrame::Beat`] every [`BEAT_INTERVAL`] of silence.
//!
//! A client may store the cursor of a mark once it has taken everything before it; until there is a
//! mark, nothing that was *not* sent may be believed absent.

use crate::entry::{Entry, File};
use crate::wire::{Frame, Payload, WireError, put_mtime, put_text, put_varint};
use crate::{Cursor, RelPath, Version};
use std::time::Duration;

/// How long an `events` stream is silent at most.
///
/// Home routers forget idle connections after minutes; a quarter of a minute also tells a client
/// soon that the appliance lost its power.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(15);

/// One message of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedFrame {
    /// What follows: the whole tree, or what changed.
    Head {
        /// Whether a path that isn't sent before the next mark does not exist.
        whole: bool,
    },
    /// What stands at a path now.
    Entry {
        /// Where.
        path: RelPath,
        /// What.
        entry: Entry,
        /// The change that made it so.
        version: Version,
    },
    /// Nothing stands at a path any more.
    Gone {
        /// Where.
        path: RelPath,
        /// The change that made it so.
        version: Version,
    },
    /// Everything up to this cursor has been sent.
    Mark(Cursor),
    /// Nothing happened; the connection is alive.
    Beat,
}

const HEAD: u8 = 1;
const ENTRY: u8 = 2;
const GONE: u8 = 3;
const MARK: u8 = 4;
const BEAT: u8 = 5;

impl Frame for FeedFrame {
    fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            FeedFrame::Head { whole } => {
                out.push(u8::from(*whole));
                HEAD
            }
            FeedFrame::Entry {
                path,
                entry,
                version,
            } => {
                put_text(out, path.as_str());
                put_varint(out, version.0);
                put_entry(out, entry);
                ENTRY
            }
            FeedFrame::Gone { path, version } => {
                put_text(out, path.as_str());
                put_varint(out, version.0);
                GONE
            }
            FeedFrame::Mark(cursor) => {
                out.extend_from_slice(&cursor.epoch.0);
                put_varint(out, cursor.seq);
                MARK
            }
            FeedFrame::Beat => BEAT,
        }
    }

    fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, WireError> {
        let mut bytes = Payload::new(&payload);
        let frame = match kind {
            HEAD => FeedFrame::Head {
                whole: bytes.flag("head")?,
            },
            ENTRY => {
                let (path, version) = (bytes.path()?, bytes.version()?);
                FeedFrame::Entry {
                    path,
                    entry: entry(&mut bytes)?,
                    version,
                }
            }
            GONE => FeedFrame::Gone {
                path: bytes.path()?,
                version: bytes.version()?,
            },
            MARK => FeedFrame::Mark(Cursor {
                epoch: bytes.epoch()?,
                seq: bytes.number()?,
            }),
            BEAT => FeedFrame::Beat,
            other => return Err(WireError::Kind(other)),
        };
        bytes.done(frame)
    }
}

const FILE: u8 = 0;
const FOLDER: u8 = 1;
const SYMLINK: u8 = 2;

pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    match entry {
        Entry::File(file) => {
            out.push(FILE);
            put_file(out, file);
        }
        Entry::Folder => out.push(FOLDER),
        Entry::Symlink(target) => {
            out.push(SYMLINK);
            put_text(out, target.as_str());
        }
    }
}

pub(crate) fn entry(bytes: &mut Payload<'_>) -> Result<Entry, WireError> {
    match bytes.byte()? {
        FILE => Ok(Entry::File(file(bytes)?)),
        FOLDER => Ok(Entry::Folder),
        SYMLINK => Ok(Entry::Symlink(bytes.target()?)),
        _ => Err(WireError::Value("kind of entry")),
    }
}

pub(crate) fn put_file(out: &mut Vec<u8>, file: &File) {
    put_varint(out, file.size);
    put_mtime(out, file.mtime);
    out.push(u8::from(file.executable));
    out.extend_from_slice(file.digest.as_bytes());
}

pub(crate) fn file(bytes: &mut Payload<'_>) -> Result<File, WireError> {
    Ok(File {
        size: bytes.number()?,
        mtime: bytes.mtime()?,
        executable: bytes.flag("executable bit")?,
        digest: bytes.digest()?,
    })
}
