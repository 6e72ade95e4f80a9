//! What a client retrieves: files, and the contents of a list of wants.

use crate::pipe::send_file;
use crate::reply::Trouble;
use crate::session::{Session, Transfer};
use crate::shared::Shared;
use crate::versions;
use raspbox_protocol::RelPath;
use raspbox_protocol::commit::{DATA, Outcome, Refusal, ResultFrame};
use raspbox_protocol::compressed::{self, Compressor};
use raspbox_protocol::history::{HistoryFrame, Past};
use raspbox_protocol::special::Form;
use raspbox_protocol::want::{ContentFrame, Want};
use raspbox_protocol::wire::{Frame, FrameWriter, to_bytes};
use raspbox_store::{Store, StoreError, VersionReader};
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Sends a file from a position on.
pub(crate) async fn get_file<W: AsyncWrite + Unpin + ?Sized>(
    shared: &Arc<Shared>,
    session: &Session,
    transfer: &Transfer,
    (path, position): (&RelPath, u64),
    output: &mut W,
) -> Result<u64, Trouble> {
    let file = shared
        .slot
        .seen(&session.drive)
        .now()?
        .files()?
        .read(path)?;
    send_from(session, transfer, file, (path, position), output).await
}

/// Sends a version from a position on; it stands at this path of the tree of versions.
pub(crate) async fn get_version<W: AsyncWrite + Unpin + ?Sized>(
    shared: &Arc<Shared>,
    session: &Session,
    transfer: &Transfer,
    (path, position): (&RelPath, u64),
    output: &mut W,
) -> Result<u64, Trouble> {
    let store = shared.slot.seen(&session.drive).store()?;
    let file = match versions::find(&store, Some(path))? {
        versions::Found::File(file) => store.read_kept(&file)?,
        versions::Found::Folder => return Err(StoreError::NotAFile(path.clone()).into()),
    };
    let file = file.ok_or_else(|| StoreError::NotFound(path.clone()))?;
    send_from(session, transfer, file.into_std(), (path, position), output).await
}

async fn send_from<W: AsyncWrite + Unpin + ?Sized>(
    session: &Session,
    transfer: &Transfer,
    mut file: std::fs::File,
    (path, position): (&RelPath, u64),
    output: &mut W,
) -> Result<u64, Trouble> {
    if position > 0 {
        let failed = |error: io::Error| Trouble::local(format!("{path}: {error}"));
        if position > file.metadata().map_err(failed)?.len() {
            return Err(StoreError::Range(path.clone()).into());
        }
        file.seek(SeekFrom::Start(position)).map_err(failed)?;
    }
    let bytes = send_file(session, transfer, file, output).await?;
    tracing::debug!(session = session.id, %path, bytes, position, "sent");
    Ok(bytes)
}

/// Sends bytes that are there already.
pub(crate) async fn get_bytes<W: AsyncWrite + Unpin + ?Sized>(
    transfer: &Transfer,
    bytes: &[u8],
    position: u64,
    output: &mut W,
) -> Result<u64, Trouble> {
    let start = usize::try_from(position)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    let rest = &bytes[start..];
    transfer.io(output.write_all(rest)).await?;
    Ok(rest.len() as u64)
}

/// A path's history as a stream of frames.
pub(crate) fn history_bytes(history: Vec<Past>) -> Vec<u8> {
    let history = history.into_iter().map(HistoryFrame::Past);
    to_bytes(&history.chain([HistoryFrame::End]).collect::<Vec<_>>())
}

/// The outcomes of a commit as a stream of frames.
pub(crate) fn result_bytes(outcomes: Vec<Outcome>) -> Vec<u8> {
    let outcomes = outcomes.into_iter().map(ResultFrame::Outcome);
    to_bytes(&outcomes.chain([ResultFrame::End]).collect::<Vec<_>>())
}

/// Sends the contents of a list of wants, many small ones in one piece.
pub(crate) async fn get_wants<W: AsyncWrite + Unpin + ?Sized>(
    shared: &Arc<Shared>,
    session: &Session,
    transfer: &Transfer,
    (wants, form): (&[Want], Form),
    output: &mut W,
) -> Result<u64, Trouble> {
    let store = shared.slot.seen(&session.drive).store()?;
    let mut buffer = session.buffer();
    // Room for one piece behind what is short of a piece.
    let mut out = Vec::with_capacity(2 * buffer.len() + 64);
    let mut sent = 0;
    let mut compressor = match form {
        Form::Plain => None,
        Form::Zstd => Some(Compressor::new().map_err(no_memory)?),
    };
    for want in wants {
        let mut content = Sending::open(&store, want, &mut out);
        while let Some(open) = content.take() {
            content = open.next(&mut buffer, &mut out);
            if out.len() >= buffer.len() {
                let whole = match compressor {
                    None => out.len(),
                    Some(_) => out.len() - out.len() % compressed::PIECE_BYTES,
                };
                sent += flush(transfer, (&mut out, whole), compressor.as_mut(), output).await?;
            }
        }
    }
    put(&mut out, &ContentFrame::End);
    let rest = out.len();
    sent += flush(transfer, (&mut out, rest), compressor.as_mut(), output).await?;
    session.give_back(buffer);
    tracing::debug!(
        session = session.id,
        wants = wants.len(),
        bytes = sent,
        "sent"
    );
    Ok(sent)
}

/// A content that has begun and isn't finished.
struct Sending(VersionReader);

impl Sending {
    /// Begins a want's content, or refuses it.
    fn open(store: &Store, want: &Want, out: &mut Vec<u8>) -> Option<Sending> {
        match store.read_version(want) {
            Ok(content) => {
                let len_bytes = content.left_bytes();
                if len_bytes > (1 << 20) {
                    content.read_ahead();
                }
                put(out, &ContentFrame::Begin { len_bytes });
                Some(Sending(content))
            }
            Err(error) => {
                put(out, &ContentFrame::Refused(refusal(&error)));
                None
            }
        }
    }

    /// Adds the next piece, or what ends the content.
    ///
    /// What was promised is never padded: a file that is shorter was changed by somebody else. Nor is
    /// it called whole where it turns out to be another content.
    fn next(mut self, buffer: &mut [u8], out: &mut Vec<u8>) -> Option<Sending> {
        if self.0.left_bytes() == 0 {
            match self.0.finish() {
                Ok(()) => put(out, &ContentFrame::Done),
                Err(error) => put(out, &ContentFrame::Refused(refusal(&error))),
            }
            return None;
        }
        match self.0.read(buffer) {
            Ok(0) => {
                put(out, &ContentFrame::Refused(Refusal::Changed));
                None
            }
            Ok(len) => {
                FrameWriter::new(out)
                    .write_raw(DATA, &buffer[..len])
                    .expect("writing to memory doesn't fail");
                Some(self)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Some(self),
            Err(error) => {
                tracing::error!(%error, "the drive failed");
                let error = self.0.failed(error);
                put(out, &ContentFrame::Refused(refusal(&error)));
                None
            }
        }
    }
}

fn put(out: &mut Vec<u8>, frame: &impl Frame) {
    FrameWriter::new(out)
        .write(frame)
        .expect("writing to memory doesn't fail");
}

/// Sends the first of these bytes, and takes them away.
async fn flush<W: AsyncWrite + Unpin + ?Sized>(
    transfer: &Transfer,
    (out, len): (&mut Vec<u8>, usize),
    compressor: Option<&mut Compressor>,
    output: &mut W,
) -> Result<u64, Trouble> {
    let sent = match compressor {
        None => {
            transfer.io(output.write_all(&out[..len])).await?;
            len
        }
        Some(compressor) => {
            let mut sent = 0;
            for piece in out[..len].chunks(compressed::PIECE_BYTES) {
                let frame = compressor.frame(piece).map_err(no_memory)?;
                sent += frame.len();
                let begun = Instant::now();
                transfer.io(output.write_all(frame)).await?;
                compressor.sent(begun.elapsed());
            }
            sent
        }
    };
    out.drain(..len);
    Ok(sent as u64)
}

fn no_memory(error: io::Error) -> Trouble {
    Trouble::local(error.to_string())
}

/// Why a want isn't answered with a content.
fn refusal(error: &StoreError) -> Refusal {
    match error {
        StoreError::NotFound(_)
        | StoreError::NoParent(_)
        | StoreError::NotAFile(_)
        | StoreError::NotAFolder(_)
        | StoreError::Exists(_)
        | StoreError::NotEmpty(_)
        | StoreError::Changed(_)
        | StoreError::Range(_) => Refusal::Changed,
        StoreError::Damaged(_) => Refusal::Damaged,
        StoreError::CannotHold { why, .. } => Refusal::Name(why.clone()),
        StoreError::NoSpace => Refusal::NoSpace,
        StoreError::NotNow(_) => Refusal::NotNow,
        StoreError::Request(_)
        | StoreError::BadRequest(_)
        | StoreError::Io { .. }
        | StoreError::Journal(_) => {
            tracing::error!(%error, "the store failed");
            Refusal::Failed(error.to_string())
        }
    }
}
