//! Frames into and out of byte streams, with a limit on everything that a peer can make grow.
//!
//! It knows the formats of `raspbox-protocol` and neither FTP nor time: what reads and writes here
//! is any [`Read`] and [`Write`], so that a hostile peer is a table of bytes in a test.

use super::Sink;
use raspbox_beneath::File;
use raspbox_protocol::commit::{CommitFrame, DATA, Op, Outcome, Refusal, ResultFrame};
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::history::{HistoryFrame, Past};
use raspbox_protocol::patch::Piece;
use raspbox_protocol::want::{ContentFrame, Want, WantFrame};
use raspbox_protocol::wire::{DATA_MAX_BYTES, FrameReader, FrameWriter, ReadError, WireError};
use raspbox_protocol::{Cursor, Entry, RelPath, Version};
use std::collections::VecDeque;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

/// The most entries that are taken from one feed. Some 100 bytes each: what a workstation can hold,
/// and ten times what a pendrive sensibly does.
pub(super) const FEED_ENTRIES_MAX: usize = 5_000_000;

/// The most versions of one path: a file that was saved every minute for months, on an appliance that
/// has never let go of one.
pub(super) const HISTORY_MAX: usize = 200_000;

/// A whole feed: the tree, or what changed.
#[derive(Debug, PartialEq)]
pub(super) struct Feed {
    pub(super) whole: bool,
    pub(super) changes: Vec<(RelPath, Option<Entry>, Version)>,
    pub(super) cursor: Cursor,
}

impl Feed {
    /// Nothing changed since.
    pub(super) fn nothing_since(cursor: Cursor) -> Feed {
        Feed {
            whole: false,
            changes: Vec::new(),
            cursor,
        }
    }
}

/// What is decided about a commit's operations before the other side has said anything.
#[derive(Debug)]
pub(super) struct Draft {
    /// For each operation: refused here, since its content can't be had.
    refused: Vec<Option<Refusal>>,
    /// For each operation: why its content was filled up with zeros, if it was.
    filled: Vec<Option<String>>,
    /// For each operation: from which byte on its content is sent, since what is before it has come already.
    offsets: Vec<u64>,
    /// Whether the end of the commit was written once: from then on the same operations must be
    /// sent again, or the id would stand for two commits.
    fixed: bool,
}

impl Draft {
    pub(super) fn new(ops: usize) -> Draft {
        Draft {
            refused: vec![None; ops],
            filled: vec![None; ops],
            offsets: vec![0; ops],
            fixed: false,
        }
    }

    /// Has the content of the n-th operation sent from this byte on.
    pub(super) fn go_on_from(&mut self, index: usize, bytes: u64) {
        self.offsets[index] = bytes;
    }

    /// How many bytes of contents needn't be sent again.
    pub(super) fn come_bytes(&self) -> u64 {
        self.offsets.iter().sum()
    }

    /// How many operations are sent.
    pub(super) fn sent(&self) -> usize {
        self.refused.iter().filter(|r| r.is_none()).count()
    }

    /// Puts the outcomes of those sent among those refused here.
    pub(super) fn merge(self, outcomes: Vec<Outcome>) -> Vec<Outcome> {
        let mut outcomes = outcomes.into_iter();
        let merged = self.refused.into_iter().zip(self.filled);
        merged
            .map(|(refused, filled)| match (refused, filled) {
                (Some(refusal), _) => Outcome::Refused(refusal),
                (None, filled) => match (outcomes.next(), filled) {
                    (Some(Outcome::Refused(Refusal::BadContent)), Some(why)) => {
                        Outcome::Refused(Refusal::Failed(why))
                    }
                    (Some(outcome), _) => outcome,
                    (None, _) => unreachable!("as many outcomes as operations were sent"),
                },
            })
            .collect()
    }
}

/// Writes a commit, contents straight from their files.
///
/// An operation whose content can't be opened is left out and refused in the draft. A content that
/// turns out shorter than stated is filled with zeros, so that its hash refuses just this one; one
/// that is longer stops at its stated size.
pub(super) fn write_commit(
    to: &mut impl Write,
    ops: &[Op],
    draft: &mut Draft,
    open: &mut dyn FnMut(usize) -> io::Result<File>,
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    // One piece and its head fit, so that a small commit is one write.
    let mut frames = FrameWriter::new(BufWriter::with_capacity(DATA_MAX_BYTES + 64, to));
    let mut piece = vec![0; DATA_MAX_BYTES];
    let mut count = 0;
    for (index, op) in ops.iter().enumerate() {
        if draft.refused[index].is_some() {
            continue;
        }
        let offset = draft.offsets[index];
        let parts = parts(op, offset);
        let mut file = match (!parts.is_empty()).then(|| open(index)) {
            Some(Err(error)) if !draft.fixed => {
                draft.refused[index] = Some(Refusal::Failed(error.to_string()));
                continue;
            }
            Some(Err(error)) => {
                draft.filled[index] = Some(error.to_string());
                None
            }
            Some(Ok(file)) => Some(file),
            None => None,
        };
        frames.write(&CommitFrame::Op(op.clone()))?;
        if offset > 0 {
            frames.write(&CommitFrame::Offset { bytes: offset })?;
        }
        count += 1;
        for part in parts {
            let mut filled = None;
            write_content(
                &mut frames,
                &mut piece,
                &mut file,
                part,
                &mut filled,
                progress,
            )?;
            draft.filled[index] = draft.filled[index].take().or(filled);
        }
    }
    frames.write(&CommitFrame::End { ops: count })?;
    draft.fixed = true;
    frames.flush()
}

/// A part of a content.
struct Part {
    offset: u64,
    len_bytes: u64,
}

/// Which parts of an operation's content travel, where that of a whole one begins at this byte.
fn parts(op: &Op, offset: u64) -> Vec<Part> {
    match op {
        Op::Put { file, .. } | Op::Keep { file, .. } => vec![Part {
            offset,
            len_bytes: file.size.saturating_sub(offset),
        }],
        Op::Patch { patch, .. } => {
            let mut at = 0;
            let parts = patch.pieces().iter().filter_map(|piece| {
                let offset = at;
                at += piece.len_bytes();
                match piece {
                    Piece::Sent { len_bytes } => Some(Part {
                        offset,
                        len_bytes: *len_bytes,
                    }),
                    Piece::Copied { .. } => None,
                }
            });
            parts.collect()
        }
        Op::Symlink { .. }
        | Op::MakeFolder { .. }
        | Op::Delete { .. }
        | Op::Move { .. }
        | Op::SetMeta { .. }
        | Op::Restore { .. } => Vec::new(),
    }
}

fn write_content(
    frames: &mut FrameWriter<impl Write>,
    piece: &mut [u8],
    file: &mut Option<File>,
    part: Part,
    filled: &mut Option<String>,
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let mut left = part.len_bytes;
    if part.offset > 0
        && let Some(Err(error)) = file
            .as_mut()
            .map(|file| file.seek(SeekFrom::Start(part.offset)))
    {
        *filled = Some(format!("reading it failed: {error}"));
        *file = None;
    }
    while left > 0 {
        let len = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
        let read = match file {
            Some(file) => read_full(file, &mut piece[..len]),
            None => Ok(0),
        };
        let have = read.unwrap_or_else(|error| {
            *filled = Some(format!("reading it failed: {error}"));
            0
        });
        if have < len {
            filled.get_or_insert_with(|| "it became shorter while it was sent".into());
            *file = None;
            piece[have..len].fill(0);
        }
        frames.write_raw(DATA, &piece[..len])?;
        left -= len as u64;
        progress(len as u64);
    }
    Ok(())
}

/// Fills the piece as far as the file goes.
pub(super) fn read_full(file: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < piece.len() {
        match file.read(&mut piece[have..]) {
            Ok(0) => break,
            Ok(more) => have += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

/// Reads the outcomes of a commit of this many operations.
pub(super) fn read_outcomes(from: impl Read, count: usize) -> Result<Vec<Outcome>, ReadError> {
    let mut frames = FrameReader::new(from);
    let mut outcomes = Vec::with_capacity(count);
    loop {
        match frames.read()? {
            ResultFrame::Outcome(outcome) if outcomes.len() < count => outcomes.push(outcome),
            ResultFrame::End if outcomes.len() == count => return Ok(outcomes),
            ResultFrame::Outcome(_) | ResultFrame::End => {
                return Err(WireError::Value("number of outcomes").into());
            }
        }
    }
}

/// Reads a feed up to its mark, at most `entries_max` entries, and sorts it: a folder before what
/// is in it. Of several states of one path the last counts.
pub(super) fn read_feed(from: impl Read, entries_max: usize) -> Result<Feed, ReadError> {
    let mut frames = FrameReader::new(from);
    let FeedFrame::Head { whole } = frames.read()? else {
        return Err(WireError::Value("head").into());
    };
    let mut changes = Vec::new();
    let cursor = loop {
        if changes.len() > entries_max {
            return Err(WireError::Value("number of entries").into());
        }
        match frames.read()? {
            FeedFrame::Entry {
                path,
                entry,
                version,
            } => changes.push((path, Some(entry), version)),
            FeedFrame::Gone { path, version } if !whole => changes.push((path, None, version)),
            FeedFrame::Mark(cursor) => break cursor,
            // A beat is for streams that wait: one who sends nothing else would never be done.
            FeedFrame::Head { .. } | FeedFrame::Gone { .. } | FeedFrame::Beat => {
                return Err(WireError::Value("feed").into());
            }
        }
    };
    // Stable, so that the last of equals is the last that came.
    changes.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    changes.reverse();
    changes.dedup_by(|(a, ..), (b, ..)| a == b);
    changes.reverse();
    Ok(Feed {
        whole,
        changes,
        cursor,
    })
}

/// Reads a history, of at most so many versions.
pub(super) fn read_history(from: impl Read, max: usize) -> Result<Vec<Past>, ReadError> {
    let mut frames = FrameReader::new(from);
    let mut history = Vec::new();
    loop {
        match frames.read()? {
            HistoryFrame::Past(_) if history.len() == max => {
                return Err(WireError::Value("number of versions").into());
            }
            HistoryFrame::Past(past) => history.push(past),
            HistoryFrame::End => return Ok(history),
        }
    }
}

/// Reads an endless feed up to its next mark, which is no more than so many frames away.
pub(super) fn next_mark(
    frames: &mut FrameReader<impl Read>,
    frames_max: usize,
) -> Result<Cursor, ReadError> {
    for _ in 0..=frames_max {
        match frames.read()? {
            FeedFrame::Mark(cursor) => return Ok(cursor),
            FeedFrame::Head { .. }
            | FeedFrame::Entry { .. }
            | FeedFrame::Gone { .. }
            | FeedFrame::Beat => {}
        }
    }
    Err(WireError::Value("number of frames").into())
}

/// Writes a list of wants.
pub(super) fn write_wants(
    to: &mut impl Write,
    wants: impl Iterator<Item = Want>,
) -> io::Result<()> {
    let mut frames = FrameWriter::new(BufWriter::new(to));
    for want in wants {
        frames.write(&WantFrame::Want(want))?;
    }
    frames.write(&WantFrame::End)?;
    frames.flush()
}

/// Reads the contents of the wants with these indexes, each from its offset on, into the sink; takes from `open` what is
/// settled. A sink that fails for one gets nothing more of it.
pub(super) fn read_contents(
    from: impl Read,
    open: &mut VecDeque<(usize, u64)>,
    sink: &mut dyn Sink,
) -> Result<(), ReadError> {
    let mut frames = FrameReader::new(from);
    while let Some(&(index, offset)) = open.front() {
        match frames.read()? {
            ContentFrame::Begin { len_bytes } => {
                let mut taken = sink.begin(index, offset, len_bytes).is_ok();
                let refusal = read_content(&mut frames, len_bytes, &mut |piece| {
                    taken = taken && sink.data(index, piece).is_ok();
                })?;
                match refusal {
                    Some(refusal) => sink.refused(index, refusal),
                    None if taken => sink.done(index),
                    None => {}
                }
            }
            ContentFrame::Refused(refusal) => sink.refused(index, refusal),
            ContentFrame::Data(_) | ContentFrame::Done | ContentFrame::End => {
                return Err(WireError::Value("order of contents").into());
            }
        }
        open.pop_front();
    }
    match frames.read()? {
        ContentFrame::End => Ok(()),
        ContentFrame::Begin { .. }
        | ContentFrame::Data(_)
        | ContentFrame::Done
        | ContentFrame::Refused(_) => Err(WireError::Value("number of contents").into()),
    }
}

fn read_content(
    frames: &mut FrameReader<impl Read>,
    len_bytes: u64,
    take: &mut dyn FnMut(&[u8]),
) -> Result<Option<Refusal>, ReadError> {
    let mut left = len_bytes;
    loop {
        match frames.read()? {
            ContentFrame::Data(piece) => {
                let more = piece.len() as u64;
                left = left.checked_sub(more).ok_or(WireError::Value("length"))?;
                take(&piece);
            }
            ContentFrame::Done if left == 0 => return Ok(None),
            ContentFrame::Refused(refusal) => return Ok(Some(refusal)),
            ContentFrame::Done | ContentFrame::Begin { .. } | ContentFrame::End => {
                return Err(WireError::Value("length").into());
            }
        }
    }
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
