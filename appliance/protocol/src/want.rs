//! Many files in one transfer: store a list of wants as `want/<uuid>`, then retrieve that name.
//!
//! The answer has, for each want in its order, either the content (a [`ContentFrame::Begin`], its
//! data, a [`ContentFrame::Done`]) or a [`ContentFrame::Refused`], and then the end. A file is sent
//! only as the version that was asked for; one that changed is refused and must be looked at again.

use crate::commit::{DATA, Refusal, data, put_refusal, refusal};
use crate::wire::{Frame, Payload, WireError, put_text, put_varint};
use crate::{RelPath, Version};

/// The most files in one list.
pub const WANTS_MAX: usize = 10_000;

/// One message of a list of wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantFrame {
    /// One file.
    Want(Want),
    /// The end.
    End,
}

/// A file that a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Where it stands.
    pub path: RelPath,
    /// As which change made it.
    pub version: Version,
    /// From which byte on: what is before it has come already.
    pub offset: u64,
}

/// One message of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentFrame {
    /// The content of the next want follows, this many bytes from its offset on.
    Begin {
        /// How many bytes.
        len_bytes: u64,
    },
    /// The next piece, 1 to [`crate::wire::DATA_MAX_BYTES`] bytes.
    Data(Vec<u8>),
    /// The content is whole. (The file was the wanted version until its last byte was read.)
    Done,
    /// The next want can't be had, or the one that began stops here.
    Refused(Refusal),
    /// The end of the answer.
    End,
}

const WANT: u8 = 1;
const WANT_END: u8 = 2;

impl Frame for WantFrame {
    fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            WantFrame::Want(want) => {
                put_text(out, want.path.as_str());
                put_varint(out, want.version.0);
                put_varint(out, want.offset);
                WANT
            }
            WantFrame::End => WANT_END,
        }
    }

    fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, WireError> {
        let mut bytes = Payload::new(&payload);
        let frame = match kind {
            WANT => WantFrame::Want(Want {
                path: bytes.path()?,
                version: bytes.version()?,
                offset: bytes.number()?,
            }),
            WANT_END => WantFrame::End,
            other => return Err(WireError::Kind(other)),
        };
        bytes.done(frame)
    }
}

const BEGIN: u8 = 1;
const DONE: u8 = 2;
const REFUSED: u8 = 3;
const END: u8 = 4;

impl Frame for ContentFrame {
    fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            ContentFrame::Begin { len_bytes } => {
                put_varint(out, *len_bytes);
                BEGIN
            }
            ContentFrame::Data(data) => {
                out.extend_from_slice(data);
                DATA
            }
            ContentFrame::Done => DONE,
            ContentFrame::Refused(reason) => {
                put_refusal(out, reason);
                REFUSED
            }
            ContentFrame::End => END,
        }
    }

    fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, WireError> {
        if kind == DATA {
            return data(payload).map(ContentFrame::Data);
        }
        let mut bytes = Payload::new(&payload);
        let frame = match kind {
            BEGIN => ContentFrame::Begin {
                len_bytes: bytes.number()?,
            },
            DONE => ContentFrame::Done,
            REFUSED => ContentFrame::Refused(refusal(&mut bytes)?),
            END => ContentFrame::End,
            other => return Err(WireError::Kind(other)),
        };
        bytes.done(frame)
    }
}
