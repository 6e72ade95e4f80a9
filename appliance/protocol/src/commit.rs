//! What a client asks the appliance to change: `commit/<uuid>`, and what became of it.
//!
//! A commit is a stream of operations, each with what it expects to replace. Nothing is applied
//! before [`CommitFrame::End`] has come, so a cut connection applies nothing. Then each operation is
//! applied, in order, atomically or is refused alone. The uuid makes it safe to send again: a
//! commit that was applied is not applied twice, its outcome is told again.
//!
//! The outcome comes in one line where every operation was done (see
//! [`crate::special::CommitSummary`]) and else as the file `result/<uuid>`, a stream of
//! [`ResultFrame`]s.

use crate::entry::{File, LinkTarget, Mtime};
use crate::feed::{file, put_file};
use crate::patch::{Patch, patch, put_patch};
use crate::wire::{DATA_MAX_BYTES, Frame, Payload, WireError, put_mtime, put_text, put_varint};
use crate::{RelPath, Version};

/// The most operations in one commit.
pub const OPS_MAX: usize = 10_000;

/// How much of a content must have come for the appliance to keep it where the commit is cut, so that whoever
/// sends it again can go on from there ([`CommitFrame::Offset`]). Less is sent again in a few seconds.
pub const PART_MIN_BYTES: u64 = 16 << 20;

/// The longest text that goes with a refusal, in bytes.
pub const REASON_MAX_BYTES: usize = 512;

/// What an operation expects to find at the path that it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Absent,
    /// The entry that this change made.
    Version(Version),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A file with this content, which follows in [`CommitFrame::Data`] of `file.size` bytes in
    /// all. Replaces a file or a symlink, never a folder.
    Put {
        /// Where.
        path: RelPath,
        /// What it replaces.
        expect: Expect,
        /// What it will be.
        file: File,
    },
    /// A symlink. Replaces a file or a symlink.
    Symlink {
        /// Where.
        path: RelPath,
        /// What it replaces.
        expect: Expect,
        /// What it points to.
        target: LinkTarget,
    },
    /// A new folder. Done also where a folder stands already.
    MakeFolder {
        /// Where.
        path: RelPath,
    },
    /// A file, a symlink or an empty folder goes away. Done also where nothing stands already.
    Delete {
        /// Where.
        path: RelPath,
        /// What goes.
        expect: Version,
    },
    /// A file, a symlink or a folder with everything in it moves to where nothing stands.
    Move {
        /// From where.
        from: RelPath,
        /// What moves.
        expect: Version,
        /// To where.
        to: RelPath,
    },
    /// A file's time and executable bit change, its content doesn't.
    SetMeta {
        /// Where.
        path: RelPath,
        /// Which file.
        expect: Version,
        /// The new time.
        mtime: Mtime,
        /// The new executable bit.
        executable: bool,
    },
    /// As [`Op::Put`], with a content that the appliance has: of a version that it keeps, or of
    /// another file. Nothing of it travels; the appliance copies it and checks its hash.
    Restore {
        /// Where.
        path: RelPath,
        /// What it replaces.
        expect: Expect,
        /// What it will be.
        file: File,
    },
    /// As [`Op::Put`], with a content that is put together: of pieces of another, which the appliance
    /// has (of a version that it keeps, or of another file), and of what follows in
    /// [`CommitFrame::Data`], of [`Patch::sent_bytes`] bytes in all. Where the base isn't there or isn't
    /// what it was, that is [`Refusal::BadContent`], too: the whole can still be put.
    Patch {
        /// Where.
        path: RelPath,
        /// What it replaces.
        expect: Expect,
        /// What it will be.
        file: File,
        /// How it is put together; as long as the file.
        patch: Patch,
    },
    /// A content that once stood at this path, to be kept as a version of it; it follows as that of
    /// an [`Op::Put`]. Nothing in the tree changes. For what was replaced or deleted without the
    /// appliance (with the drive in another computer), by who still has it: see [`crate::holds`].
    /// Done also where it is kept already. The version in the outcome is the newest one of all.
    Keep {
        /// Where it stood.
        path: RelPath,
        /// What it was.
        file: File,
    },
}

/// One message of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitFrame {
    /// The next operation.
    Op(Op),
    /// The content of the [`Op::Put`] or [`Op::Keep`] before it follows from this byte on: what is before that came in
    /// a commit that was cut, and the appliance has kept it (`SITE RBX PART` tells how much). Where it hasn't, or what
    /// it has is the beginning of something else, that is [`Refusal::BadContent`]: the whole can still be sent.
    Offset {
        /// From which byte on.
        bytes: u64,
    },
    /// The next piece of the content that follows the operation before it ([`Op::coming`]), 1 to
    /// [`DATA_MAX_BYTES`] bytes.
    Data(Vec<u8>),
    /// The end, with the number of operations before it.
    End {
        /// How many.
        ops: u32,
    },
}

impl Op {
    /// The file whose content follows the operation, and how many bytes of it do; `None` where none is to come.
    #[must_use]
    pub fn coming(&self) -> Option<(&File, u64)> {
        match self {
            Op::Put { file, .. } | Op::Keep { file, .. } => Some((file, file.size)),
            Op::Patch { file, patch, .. } => Some((file, patch.sent_bytes())),
            Op::Symlink { .. }
            | Op::MakeFolder { .. }
            | Op::Delete { .. }
            | Op::Move { .. }
            | Op::SetMeta { .. }
            | Op::Restore { .. } => None,
        }
    }

    /// How many bytes the appliance copies by itself, from what it has.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        match self {
            Op::Restore { file, .. } => file.size,
            Op::Patch { patch, .. } => patch.len_bytes() - patch.sent_bytes(),
            Op::Put { .. }
            | Op::Keep { .. }
            | Op::Symlink { .. }
            | Op::MakeFolder { .. }
            | Op::Delete { .. }
            | Op::Move { .. }
            | Op::SetMeta { .. } => 0,
        }
    }
}

/// What became of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done, durably; the entry's version now (for a delete, the version of its absence).
    Done(Version),
    /// Not done; nothing was changed at its paths.
    Refused(Refusal),
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Something else stands at the path than was expected. Look again.
    Changed,
    /// The folder to put it in isn't there.
    NoParent,
    /// The folder isn't empty.
    NotEmpty,
    /// The content that came doesn't have the size and hash that were stated.
    BadContent,
    /// The drive can't hold this name, or this kind of entry; why.
    Name(String),
    /// The drive is full, down to the floor that is kept free.
    NoSpace,
    /// The account may not do this.
    Denied,
    /// The drive is missing or read-only for now. Try again later.
    NotNow,
    /// The drive failed; what happened, for a person.
    Failed(String),
    /// The content rotted on the drive: it isn't what was saved any more.
    Damaged,
}

/// One message of a commit's result: an outcome for each operation, in their order, then the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultFrame {
    /// What became of the next operation.
    Outcome(Outcome),
    /// The end.
    End,
}

const PUT: u8 = 1;
const SYMLINK: u8 = 2;
const MAKE_FOLDER: u8 = 3;
const DELETE: u8 = 4;
const MOVE: u8 = 5;
const SET_META: u8 = 6;
const PATCH: u8 = 7;
const RESTORE: u8 = 8;
const KEEP: u8 = 9;
/// The kind of [`CommitFrame::Data`], for writing content without copying it.
pub const DATA: u8 = 16;
const END: u8 = 17;
const OFFSET: u8 = 18;

impl Frame for CommitFrame {
    fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            CommitFrame::Op(op) => put_op(out, op),
            CommitFrame::Data(data) => {
                out.extend_from_slice(data);
                DATA
            }
            CommitFrame::Offset { bytes } => {
                put_varint(out, *bytes);
                OFFSET
            }
            CommitFrame::End { ops } => {
                put_varint(out, u64::from(*ops));
                END
            }
        }
    }

    fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, WireError> {
        if kind == DATA {
            return data(payload).map(CommitFrame::Data);
        }
        let mut bytes = Payload::new(&payload);
        let frame = match kind {
            END => CommitFrame::End {
                ops: bytes.small("number of operations")?,
            },
            OFFSET => CommitFrame::Offset {
                bytes: bytes.number()?,
            },
            kind => CommitFrame::Op(op(kind, &mut bytes)?),
        };
        bytes.done(frame)
    }
}

/// Checks the payload of a frame of content.
pub(crate) fn data(payload: Vec<u8>) -> Result<Vec<u8>, WireError> {
    match payload.len() {
        0 => Err(WireError::Length),
        1..=DATA_MAX_BYTES => Ok(payload),
        _ => Err(WireError::TooLong),
    }
}

fn put_op(out: &mut Vec<u8>, op: &Op) -> u8 {
    match op {
        Op::Put { path, expect, file } => {
            put_text(out, path.as_str());
            put_expect(out, *expect);
            put_file(out, file);
            PUT
        }
        Op::Symlink {
            path,
            expect,
            target,
        } => {
            put_text(out, path.as_str());
            put_expect(out, *expect);
            put_text(out, target.as_str());
            SYMLINK
        }
        Op::MakeFolder { path } => {
            put_text(out, path.as_str());
            MAKE_FOLDER
        }
        Op::Delete { path, expect } => {
            put_text(out, path.as_str());
            put_varint(out, expect.0);
            DELETE
        }
        Op::Move { from, expect, to } => {
            put_text(out, from.as_str());
            put_varint(out, expect.0);
            put_text(out, to.as_str());
            MOVE
        }
        Op::SetMeta {
            path,
            expect,
            mtime,
            executable,
        } => {
            put_text(out, path.as_str());
            put_varint(out, expect.0);
            put_mtime(out, *mtime);
            out.push(u8::from(*executable));
            SET_META
        }
        Op::Restore { path, expect, file } => {
            put_text(out, path.as_str());
            put_expect(out, *expect);
            put_file(out, file);
            RESTORE
        }
        Op::Patch {
            path,
            expect,
            file,
            patch,
        } => {
            put_text(out, path.as_str());
            put_expect(out, *expect);
            put_file(out, file);
            put_patch(out, patch);
            PATCH
        }
        Op::Keep { path, file } => {
            put_text(out, path.as_str());
            put_file(out, file);
            KEEP
        }
    }
}

fn op(kind: u8, bytes: &mut Payload<'_>) -> Result<Op, WireError> {
    Ok(match kind {
        PUT => Op::Put {
            path: bytes.path()?,
            expect: expect(bytes)?,
            file: file(bytes)?,
        },
        SYMLINK => Op::Symlink {
            path: bytes.path()?,
            expect: expect(bytes)?,
            target: bytes.target()?,
        },
        MAKE_FOLDER => Op::MakeFolder {
            path: bytes.path()?,
        },
        DELETE => Op::Delete {
            path: bytes.path()?,
            expect: bytes.version()?,
        },
        MOVE => Op::Move {
            from: bytes.path()?,
            expect: bytes.version()?,
            to: bytes.path()?,
        },
        SET_META => Op::SetMeta {
            path: bytes.path()?,
            expect: bytes.version()?,
            mtime: bytes.mtime()?,
            executable: bytes.flag("executable bit")?,
        },
        RESTORE => Op::Restore {
            path: bytes.path()?,
            expect: expect(bytes)?,
            file: file(bytes)?,
        },
        KEEP => Op::Keep {
            path: bytes.path()?,
            file: file(bytes)?,
        },
        PATCH => {
            let (path, expect) = (bytes.path()?, expect(bytes)?);
            let (file, patch) = (file(bytes)?, patch(bytes)?);
            if patch.len_bytes() != file.size {
                return Err(WireError::Value("pieces"));
            }
            Op::Patch {
                path,
                expect,
                file,
                patch,
            }
        }
        other => return Err(WireError::Kind(other)),
    })
}

fn put_expect(out: &mut Vec<u8>, expect: Expect) {
    match expect {
        Expect::Absent => out.push(0),
        Expect::Version(version) => {
            out.push(1);
            put_varint(out, version.0);
        }
    }
}

fn expect(bytes: &mut Payload<'_>) -> Result<Expect, WireError> {
    Ok(if bytes.flag("expectation")? {
        Expect::Version(bytes.version()?)
    } else {
        Expect::Absent
    })
}

const DONE: u8 = 1;
const REFUSED: u8 = 2;
const RESULT_END: u8 = 3;

impl Frame for ResultFrame {
    fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            ResultFrame::Outcome(Outcome::Done(version)) => {
                put_varint(out, version.0);
                DONE
            }
            ResultFrame::Outcome(Outcome::Refused(refusal)) => {
                put_refusal(out, refusal);
                REFUSED
            }
            ResultFrame::End => RESULT_END,
        }
    }

    fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, WireError> {
        let mut bytes = Payload::new(&payload);
        let frame = match kind {
            DONE => ResultFrame::Outcome(Outcome::Done(bytes.version()?)),
            REFUSED => ResultFrame::Outcome(Outcome::Refused(refusal(&mut bytes)?)),
            RESULT_END => ResultFrame::End,
            other => return Err(WireError::Kind(other)),
        };
        bytes.done(frame)
    }
}

pub(crate) fn put_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    let (code, reason) = match refusal {
        Refusal::Changed => (1, ""),
        Refusal::NoParent => (2, ""),
        Refusal::NotEmpty => (3, ""),
        Refusal::BadContent => (4, ""),
        Refusal::Name(reason) => (5, reason.as_str()),
        Refusal::NoSpace => (6, ""),
        Refusal::Denied => (7, ""),
        Refusal::NotNow => (8, ""),
        Refusal::Failed(reason) => (9, reason.as_str()),
        Refusal::Damaged => (10, ""),
    };
    out.push(code);
    put_text(out, &reason[..reason.floor_char_boundary(REASON_MAX_BYTES)]);
}

pub(crate) fn refusal(bytes: &mut Payload<'_>) -> Result<Refusal, WireError> {
    let code = bytes.byte()?;
    let reason = bytes.text("reason")?;
    if reason.len() > REASON_MAX_BYTES {
        return Err(WireError::Value("reason"));
    }
    match (code, reason) {
        (1, "") => Ok(Refusal::Changed),
        (2, "") => Ok(Refusal::NoParent),
        (3, "") => Ok(Refusal::NotEmpty),
        (4, "") => Ok(Refusal::BadContent),
        (5, reason) => Ok(Refusal::Name(reason.into())),
        (6, "") => Ok(Refusal::NoSpace),
        (7, "") => Ok(Refusal::Denied),
        (8, "") => Ok(Refusal::NotNow),
        (9, reason) => Ok(Refusal::Failed(reason.into())),
        (10, "") => Ok(Refusal::Damaged),
        _ => Err(WireError::Value("refusal")),
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Changed => f.write_str("it changed in the meantime"),
            Refusal::NoParent => f.write_str("its folder isn't there"),
            Refusal::NotEmpty => f.write_str("the folder isn't empty"),
            Refusal::BadContent => f.write_str("the content arrived damaged"),
            Refusal::Name(reason) => write!(f, "the drive can't hold it: {reason}"),
            Refusal::NoSpace => f.write_str("the drive is full"),
            Refusal::Denied => f.write_str("this account may not do that"),
            Refusal::NotNow => f.write_str("the drive is missing or read-only for now"),
            Refusal::Failed(reason) => f.write_str(reason),
            Refusal::Damaged => f.write_str("it is damaged on the drive"),
        }
    }
}
