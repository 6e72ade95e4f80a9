//! Reading a commit: staging what it brings, so that nothing is applied before all of it came.

use crate::apply::{SMALL_BATCH, to_frames};
use crate::change::{Change, Content, Only};
use crate::error::StoreError;
use crate::inner::Inner;
use crate::model::By;
use crate::restore::Brought;
use crate::staging::{Ready, Staged, set_executable};
use raspbox_beneath::{Written, random_name};
use raspbox_protocol::commit::{CommitFrame, Expect, OPS_MAX, Op, Outcome, Refusal, ResultFrame};
use raspbox_protocol::special::{CommitSummary, RequestId};
use raspbox_protocol::wire::{FrameReader, ReadError};
use raspbox_protocol::{File, Mtime, RelPath};
use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;

/// How much of a commit is read at once.
const READ_BYTES: usize = 256 << 10;

/// The operations of a commit as far as they have come. Dropped before it is whole, it removes what
/// it has staged.
struct Reading<'a> {
    store: &'a Arc<Inner>,
    may: &'a dyn Fn(&Op) -> bool,
    changes: Vec<Change>,
    current: Option<Incoming>,
    /// Watches what is staged from before the first of it is written.
    written: Written,
    /// The staged files, still open: of a small commit each is made durable by itself. More than that
    /// are not kept open.
    files: Vec<raspbox_beneath::File>,
    applied: bool,
}

/// The operation whose content is coming.
struct Incoming {
    op: Op,
    file: File,
    /// How much is still to come.
    left_bytes: u64,
    /// Where it goes, once something of it has come, or why it goes nowhere.
    into: Result<Option<Staged>, Refusal>,
}

/// Reads a commit, applies it and tells what became of it.
pub(crate) fn commit(
    store: &Arc<Inner>,
    id: RequestId,
    by: &By,
    may: &dyn Fn(&Op) -> bool,
    input: &mut dyn Read,
) -> Result<CommitSummary, StoreError> {
    if let Some(known) = summary(store, id)? {
        // It has to be read, or the sender never gets to ask for the outcome.
        io::copy(input, &mut io::sink()).map_err(ReadError::Io)?;
        return Ok(known);
    }
    store.check_written()?;
    let trouble = |error| StoreError::io("what was sent", error);
    let mut reading = Reading {
        written: store.own.staging.written().map_err(trouble)?,
        files: Vec::new(),
        store,
        may,
        changes: Vec::new(),
        current: None,
        applied: false,
    };
    if let Err(error) = reading.read(&mut BufReader::with_capacity(READ_BYTES, input)) {
        if let StoreError::Request(ReadError::Io(_)) = error {
            reading.keep_part();
        }
        return Err(error);
    }
    reading.make_durable()?;
    let mut writer = store.writer()?;
    if let Some(known) = summary(store, id)? {
        // The same commit came twice at the same time.
        return Ok(known);
    }
    reading.applied = true;
    let done = store.apply(&mut writer, &reading.changes, &by.0, Some(id))?;
    drop(writer);
    store.discard_refused(&reading.changes, &done);
    Ok(summarize(&outcomes(&to_frames(&done, &reading.changes))?))
}

/// What became of a commit, in one line.
pub(crate) fn summary(store: &Inner, id: RequestId) -> Result<Option<CommitSummary>, StoreError> {
    Ok(outcome(store, id)?.map(|outcomes| summarize(&outcomes)))
}

/// What became of a commit.
pub(crate) fn outcome(store: &Inner, id: RequestId) -> Result<Option<Vec<Outcome>>, StoreError> {
    let frames = store.snapshot(|db| crate::rows::result(db, id))?;
    frames.map(|frames| outcomes(&frames)).transpose()
}

fn outcomes(frames: &[u8]) -> Result<Vec<Outcome>, StoreError> {
    let mut reader = FrameReader::new(frames);
    let mut outcomes = Vec::new();
    while let ResultFrame::Outcome(outcome) = reader.read()? {
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn summarize(outcomes: &[Outcome]) -> CommitSummary {
    let ops = u32::try_from(outcomes.len()).expect("at most OPS_MAX");
    let Some(Outcome::Done(first)) = outcomes.first() else {
        return CommitSummary::Mixed { ops };
    };
    let consecutive = outcomes
        .iter()
        .zip(first.0..)
        .all(|(outcome, number)| matches!(outcome, Outcome::Done(v) if v.0 == number));
    if consecutive {
        CommitSummary::All { ops, first: *first }
    } else {
        CommitSummary::Mixed { ops }
    }
}

impl Reading<'_> {
    fn read(&mut self, input: &mut dyn Read) -> Result<(), StoreError> {
        let mut frames = FrameReader::new(&mut *input);
        loop {
            match frames.read()? {
                CommitFrame::Op(op) => {
                    self.finish_current()?;
                    if self.changes.len() == OPS_MAX {
                        return Err(StoreError::BadRequest("more operations than allowed"));
                    }
                    self.begin(op)?;
                }
                CommitFrame::Offset { bytes } => self.go_on(bytes)?,
                CommitFrame::Data(piece) => self.take(&piece)?,
                CommitFrame::End { ops } => {
                    self.finish_current()?;
                    if usize::try_from(ops).ok() != Some(self.changes.len()) {
                        return Err(StoreError::BadRequest("the number of operations is wrong"));
                    }
                    break;
                }
            }
        }
        // All that matters has come: a connection that breaks now breaks nothing.
        match input.read(&mut [0]) {
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => Err(StoreError::BadRequest("something follows after the end")),
        }
    }

    fn begin(&mut self, op: Op) -> Result<(), StoreError> {
        if let Some((file, left_bytes)) = op.coming() {
            self.current = Some(Incoming {
                file: *file,
                left_bytes,
                into: self.refuses(&op).map_or(Ok(None), Err),
                op,
            });
            return Ok(());
        }
        let change = match self.refuses(&op) {
            Some(refusal) => Change::Refused(refusal),
            None => self.change(op)?,
        };
        self.changes.push(change);
        Ok(())
    }

    /// Why an operation is refused before anything is looked at.
    fn refuses(&self, op: &Op) -> Option<Refusal> {
        if !(self.may)(op) {
            return Some(Refusal::Denied);
        }
        let disk = &self.store.disk;
        let why = match op {
            Op::Put { path, file, .. }
            | Op::Patch { path, file, .. }
            | Op::Restore { path, file, .. } => {
                disk.refuses_name(path).or(disk.refuses_size(file.size))
            }
            Op::Symlink { .. } if !disk.holds.symlinks => Some("it has no symlinks"),
            Op::Symlink { path, .. } | Op::MakeFolder { path } => disk.refuses_name(path),
            Op::Move { to, .. } => disk.refuses_name(to),
            // It gets no name there, only its hash.
            Op::Keep { file, .. } => disk.refuses_size(file.size),
            Op::Delete { .. } | Op::SetMeta { .. } => None,
        };
        why.map(|why| Refusal::Name(why.into()))
    }

    fn change(&mut self, op: Op) -> Result<Change, StoreError> {
        Ok(match op {
            Op::Put { .. } | Op::Keep { .. } | Op::Patch { .. } => {
                unreachable!("its content comes first")
            }
            Op::Restore { path, expect, file } => match crate::restore::bring(self.store, &file)? {
                Brought::Staged(staged) => self.put(*staged, path, expect, file)?,
                Brought::Kept => Change::PutBack {
                    path,
                    expected: expect.into(),
                    file,
                },
                Brought::Refused(refusal) => Change::Refused(refusal),
            },
            Op::Symlink {
                path,
                expect,
                target,
            } => {
                let staged = random_name();
                let made = self.store.own.staging.make_symlink(&staged, &target);
                if let Err(error) = made {
                    return refusal_or_trouble(error).map(Change::Refused);
                }
                Change::Put {
                    path,
                    expected: expect.into(),
                    content: Content::Symlink(target),
                    staged,
                }
            }
            Op::MakeFolder { path } => Change::MakeFolder {
                path,
                expected: crate::change::Expected::Absent,
            },
            Op::Delete { path, expect } => Change::Delete {
                path,
                expected: crate::change::Expected::Version(expect),
                only: Only::Anything,
            },
            Op::Move { from, expect, to } => Change::Move {
                from,
                expected: crate::change::Expected::Version(expect),
                to,
            },
            Op::SetMeta {
                path,
                expect,
                mtime,
                executable,
            } => Change::SetMeta {
                path,
                expected: crate::change::Expected::Version(expect),
                mtime: Some(mtime),
                executable: Some(executable),
            },
        })
    }

    /// Goes on with what came of a content before.
    fn go_on(&mut self, bytes: u64) -> Result<(), StoreError> {
        const WRONG: StoreError = StoreError::BadRequest("a content that can't begin there");
        let current = self.current.as_mut().ok_or(WRONG)?;
        match current.op {
            Op::Put { .. } | Op::Keep { .. } if current.left_bytes == current.file.size => {}
            _ => return Err(WRONG),
        }
        current.left_bytes = current.left_bytes.checked_sub(bytes).ok_or(WRONG)?;
        if current.into.is_ok() {
            current.into = match self.store.take_part(&current.file.digest, bytes) {
                Ok(Some(staged)) => Ok(Some(staged)),
                Ok(None) => Err(Refusal::BadContent),
                Err(error) => Err(refusal_or_trouble(error)?),
            };
        }
        Ok(())
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), StoreError> {
        let Some(current) = &mut self.current else {
            return Err(StoreError::BadRequest("content that belongs to no file"));
        };
        let left_bytes = current
            .left_bytes
            .checked_sub(piece.len() as u64)
            .ok_or(StoreError::BadRequest("more content than was stated"))?;
        if let Err(error) = current.write(self.store, piece) {
            current.into = Err(refusal_or_trouble(error)?);
        }
        current.left_bytes = left_bytes;
        Ok(())
    }

    /// Keeps what has come of the content that was cut.
    fn keep_part(&mut self) {
        let Some(current) = self.current.take() else {
            return;
        };
        let (Ok(Some(came)), Op::Put { .. } | Op::Keep { .. }) = (current.into, current.op) else {
            return;
        };
        if let Err(error) = self.store.keep_part(&current.file.digest, came) {
            tracing::warn!(%error, "what has come of a content could not be kept");
        }
    }

    fn finish_current(&mut self) -> Result<(), StoreError> {
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        let file = current.file;
        // Of an empty content nothing has come.
        if let Err(error) = current.write(self.store, &[]) {
            current.into = Err(refusal_or_trouble(error)?);
        }
        let came = current.into.map(|came| came.expect("written to above"));
        let whole = match (came, &current.op) {
            (Ok(came), Op::Patch { patch, .. }) => crate::patch::assemble(self.store, patch, came)?,
            (Ok(came), _) => match came.hashed() {
                Ok(staged) => Ok(staged),
                Err(error) => Err(refusal_or_trouble(error)?),
            },
            (Err(refusal), _) => Err(refusal),
        };
        let staged = match whole {
            Ok(staged) if staged.len_bytes() == file.size && staged.digest() == file.digest => {
                staged
            }
            Ok(_) => {
                self.changes.push(Change::Refused(Refusal::BadContent));
                return Ok(());
            }
            Err(refusal) => {
                self.changes.push(Change::Refused(refusal));
                return Ok(());
            }
        };
        let change = match current.op {
            Op::Put { path, expect, .. } | Op::Patch { path, expect, .. } => {
                self.put(staged, path, expect, file)?
            }
            Op::Keep { path, .. } => self.keep(staged, path, file)?,
            Op::Symlink { .. }
            | Op::MakeFolder { .. }
            | Op::Delete { .. }
            | Op::Move { .. }
            | Op::SetMeta { .. }
            | Op::Restore { .. } => unreachable!("no content comes for it"),
        };
        self.changes.push(change);
        Ok(())
    }

    /// The change that gives a staged content its name.
    fn put(
        &mut self,
        staged: Staged,
        path: RelPath,
        expect: Expect,
        file: File,
    ) -> Result<Change, StoreError> {
        Ok(match self.finish(staged, file) {
            Ok(ready) => Change::Put {
                path,
                expected: expect.into(),
                content: Content::File {
                    file,
                    keep_mode: false,
                },
                staged: ready.name,
            },
            Err(error) => Change::Refused(refusal_or_trouble(error)?),
        })
    }

    /// The change that makes a staged content a version.
    fn keep(&mut self, staged: Staged, path: RelPath, file: File) -> Result<Change, StoreError> {
        Ok(match self.finish(staged, file) {
            Ok(ready) => Change::Keep {
                path,
                file,
                staged: ready.name,
            },
            Err(error) => Change::Refused(refusal_or_trouble(error)?),
        })
    }

    fn finish(&mut self, staged: Staged, what: File) -> io::Result<Ready> {
        let (ready, file, _) = finish(staged, Some(what.mtime), what.executable, false)?;
        if self.files.len() <= SMALL_BATCH {
            self.files.push(file);
        }
        Ok(ready)
    }

    /// Makes all that was staged durable.
    fn make_durable(&self) -> Result<(), StoreError> {
        let trouble = |error| StoreError::io("what was sent", error);
        if self.files.len() > SMALL_BATCH {
            return self.written.sync().map_err(trouble);
        }
        for file in &self.files {
            file.sync_all().map_err(trouble)?;
        }
        Ok(())
    }
}

impl Incoming {
    /// Writes what came, if it goes anywhere. With the first of it, room for all that is still to come is looked for.
    fn write(&mut self, store: &Arc<Inner>, piece: &[u8]) -> io::Result<()> {
        let Ok(into) = &mut self.into else {
            return Ok(());
        };
        if into.is_none() {
            store.check_space(self.left_bytes)?;
            *into = Some(Staged::new(Arc::clone(store))?);
        }
        into.as_mut().expect("made above").write_all(piece)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if self.applied {
            return;
        }
        for name in self.changes.iter().filter_map(Change::staged) {
            if let Err(error) = self.store.own.staging.unlink(name) {
                tracing::warn!(name, %error, "a staged file could not be removed");
            }
        }
    }
}

/// Ends the writing of a staged file, and gives it what travels with the content. Returns it, still
/// open for whoever makes it durable if this doesn't, and the time that it has.
pub(crate) fn finish(
    staged: Staged,
    mtime: Option<Mtime>,
    executable: bool,
    durable: bool,
) -> io::Result<(Ready, raspbox_beneath::File, Mtime)> {
    let store = staged.store();
    let (ready, file) = staged.finish();
    let dress = || {
        set_executable(&file, executable)?;
        if let Some(mtime) = mtime {
            file.set_mtime(mtime)?;
        }
        if durable {
            file.sync_all()?;
        }
        Ok(crate::beneath::Look::of(&file)?.mtime)
    };
    match dress() {
        Ok(found) => Ok((ready, file, mtime.unwrap_or(found))),
        Err(error) => {
            // Whoever gets the error can't remove it any more.
            let _ = store.own.staging.unlink(&ready.name);
            Err(error)
        }
    }
}

/// What a failure to stage means: one operation is refused, or nothing goes any more.
pub(crate) fn refusal_or_trouble(error: io::Error) -> Result<Refusal, StoreError> {
    match StoreError::io("what was sent", error) {
        error @ StoreError::NotNow(_) => Err(error),
        error => Ok(Refusal::from(&error)),
    }
}
