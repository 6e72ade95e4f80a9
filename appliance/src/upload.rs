//! What a client stores: files, commits and lists of wants.

use crate::accounts::Account;
use crate::pipe::{Piece, PieceReader, channel, fill};
use crate::reply::Trouble;
use crate::session::{Session, Transfer};
use crate::shared::Shared;
use raspbox_protocol::RelPath;
use raspbox_protocol::compressed;
use raspbox_protocol::holds::{self, HoldsFrame};
use raspbox_protocol::special::{Form, RequestId};
use raspbox_protocol::want::{WANTS_MAX, WantFrame};
use raspbox_protocol::wire::{Frame, FrameReader, ReadError};
use raspbox_store::{Staged, Store, StoreError};
use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;
use tokio::io::AsyncRead;

/// The longest list of wants, in bytes: [`WANTS_MAX`] paths of a good length.
pub(crate) const WANT_LIST_MAX_BYTES: usize = 4 << 20;

/// The longest list of contents, in bytes: [`holds::LIST_MAX`] frames of 34 bytes, and the end.
pub(crate) const HOLDS_LIST_MAX_BYTES: usize = holds::LIST_MAX * 34 + 2;

/// How much is read at once of what is compressed. Zeros come out of it by the hundred MiB, and the sender must not be
/// kept waiting until they are all on a slow stick.
const ZSTD_BYTES: usize = 16 << 10;

/// Stores a file. Nothing has its name before everything has come and is on the drive.
pub(crate) async fn put_file<R: AsyncRead + Unpin>(
    shared: &Arc<Shared>,
    session: &Session,
    transfer: &Transfer,
    (path, position): (&RelPath, u64),
    account: &Account,
    mut input: R,
) -> Result<u64, Trouble> {
    // The same from the first byte to the last, whatever is plugged in meanwhile.
    let store = shared.slot.seen(&session.drive).store()?;
    let mut first = session.buffer();
    let len = fill(transfer, &mut input, &mut first).await?;
    let (staged, bytes) = if len < first.len() {
        let mut staged = stage(&store, path, position)?;
        write(&mut staged, path, &first[..len])?;
        session.give_back(first);
        (staged, len as u64)
    } else {
        stage_rest((shared, &store), transfer, (path, position), first, input).await?
    };
    // Again, since the last bytes have gone to the drive in the meantime.
    transfer.check_end()?;
    let version = store.put(staged, path, &account.by)?;
    tracing::info!(session = session.id, %path, bytes, position, version = version.0, "stored");
    Ok(bytes)
}

/// Goes on with the content on a second thread: this one decrypts while that one hashes and writes.
async fn stage_rest<R: AsyncRead + Unpin>(
    (shared, store): (&Arc<Shared>, &Store),
    transfer: &Transfer,
    (path, position): (&RelPath, u64),
    first: Vec<u8>,
    mut input: R,
) -> Result<(Staged, u64), Trouble> {
    let size_bytes = first.len();
    let (full, mut to_write) = channel::<Vec<u8>>();
    let (used, mut empty) = channel::<Vec<u8>>();
    let (store, to) = (store.clone(), path.clone());
    let writing = shared
        .main
        .spawn_blocking(move || -> Result<Staged, Trouble> {
            let mut staged = stage(&store, &to, position)?;
            while let Some(piece) = to_write.blocking_recv() {
                write(&mut staged, &to, &piece)?;
                // Nobody may want it any more.
                let _ = used.try_send(piece);
            }
            Ok(staged)
        });
    let mut bytes = 0;
    let mut piece = first;
    let cut = loop {
        bytes += piece.len() as u64;
        let last = piece.len() < size_bytes;
        // The writer stops early only where it failed; its error is the better one.
        if full.send(piece).await.is_err() || last {
            break None;
        }
        piece = empty.try_recv().unwrap_or_default();
        piece.resize(size_bytes, 0);
        match fill(transfer, &mut input, &mut piece).await {
            Ok(len) => piece.truncate(len),
            Err(cut) => break Some(cut),
        }
    };
    drop(full);
    let written = writing
        .await
        .map_err(|error| Trouble::local(error.to_string()))?;
    match cut {
        Some(cut) => Err(cut),
        None => Ok((written?, bytes)),
    }
}

fn stage(store: &Store, path: &RelPath, position: u64) -> Result<Staged, StoreError> {
    match position {
        0 => store.stage(),
        keep_bytes => store.stage_from(path, keep_bytes),
    }
}

fn write(staged: &mut Staged, path: &RelPath, piece: &[u8]) -> Result<(), Trouble> {
    staged.write_all(piece).map_err(|error| {
        if error.kind() == io::ErrorKind::StorageFull {
            return StoreError::NoSpace.into();
        }
        StoreError::Io {
            path: path.to_string(),
            source: error,
        }
        .into()
    })
}

/// Takes a commit and applies it.
pub(crate) async fn put_commit<R: AsyncRead + Unpin>(
    shared: &Arc<Shared>,
    session: &Session,
    transfer: &Transfer,
    (id, form): (RequestId, Form),
    account: &Account,
    mut input: R,
) -> Result<u64, Trouble> {
    let store = shared.slot.seen(&session.drive).store()?;
    let mut first = match form {
        Form::Plain => session.buffer(),
        Form::Zstd => vec![0; ZSTD_BYTES],
    };
    let size_bytes = first.len();
    let len = fill(transfer, &mut input, &mut first).await?;
    if len < size_bytes {
        apply(&store, (id, form), account, &mut &first[..len])?;
        session.give_back(first);
        return Ok(len as u64);
    }
    let (pieces, to_read) = channel();
    let (used, mut empty) = channel();
    let by = account.clone();
    let applying = shared.main.spawn_blocking(move || {
        let mut pieces = PieceReader::new(to_read, used);
        apply(&store, (id, form), &by, &mut pieces)
    });
    let mut bytes = 0;
    let mut piece = first;
    let cut = loop {
        bytes += piece.len() as u64;
        let last = piece.len() < size_bytes;
        if pieces.send(Piece::Data(piece)).await.is_err() {
            break None;
        }
        if last {
            let _ = pieces.send(Piece::End).await;
            break None;
        }
        piece = empty.try_recv().unwrap_or_default();
        piece.resize(size_bytes, 0);
        match fill(transfer, &mut input, &mut piece).await {
            Ok(len) => piece.truncate(len),
            Err(cut) => break Some(cut),
        }
    };
    drop(pieces);
    let applied = applying
        .await
        .map_err(|error| Trouble::local(error.to_string()))?;
    match cut {
        Some(cut) => Err(cut),
        None => applied.map(|()| bytes),
    }
}

fn apply(
    store: &Store,
    (id, form): (RequestId, Form),
    account: &Account,
    input: &mut dyn Read,
) -> Result<(), Trouble> {
    let may = |op: &_| account.permissions.allow(op);
    let summary = match form {
        Form::Plain => store.commit(id, &account.by, &may, input)?,
        Form::Zstd => {
            let no_memory = |error: io::Error| Trouble::local(error.to_string());
            let mut plain = compressed::read(BufReader::new(input)).map_err(no_memory)?;
            store.commit(id, &account.by, &may, &mut plain)?
        }
    };
    tracing::info!(%id, %summary, by = account.by.0, "commit");
    Ok(())
}

/// Takes a list of wants and keeps it for the session.
pub(crate) async fn put_wants<R: AsyncRead + Unpin>(
    session: &Session,
    transfer: &Transfer,
    id: RequestId,
    input: R,
) -> Result<u64, Trouble> {
    let list = read_list(session, transfer, WANT_LIST_MAX_BYTES, input).await?;
    let wants = parse_list(&list, WANTS_MAX, |frame| match frame {
        WantFrame::Want(want) => Some(want),
        WantFrame::End => None,
    })?;
    session.keep_wants(id, wants);
    Ok(list.len() as u64)
}

/// Takes a list of contents and keeps it for the session.
pub(crate) async fn put_holds<R: AsyncRead + Unpin>(
    session: &Session,
    transfer: &Transfer,
    id: RequestId,
    input: R,
) -> Result<u64, Trouble> {
    let list = read_list(session, transfer, HOLDS_LIST_MAX_BYTES, input).await?;
    let digests = parse_list(&list, holds::LIST_MAX, |frame| match frame {
        HoldsFrame::Digest(digest) => Some(digest),
        HoldsFrame::End => None,
    })?;
    session.keep_holds(id, digests);
    Ok(list.len() as u64)
}

/// Reads a list to the end of its transfer.
async fn read_list<R: AsyncRead + Unpin>(
    session: &Session,
    transfer: &Transfer,
    max_bytes: usize,
    mut input: R,
) -> Result<Vec<u8>, Trouble> {
    let mut list = Vec::new();
    let mut buffer = session.buffer();
    loop {
        let len = fill(transfer, &mut input, &mut buffer).await?;
        if list.len() + len > max_bytes {
            return Err(Trouble::bad_request("the list is too long"));
        }
        list.extend_from_slice(&buffer[..len]);
        if len < buffer.len() {
            break;
        }
    }
    session.give_back(buffer);
    Ok(list)
}

/// The entries of a list, up to the frame that isn't one and ends it.
fn parse_list<F: Frame, T>(
    list: &[u8],
    max: usize,
    entry: impl Fn(F) -> Option<T>,
) -> Result<Vec<T>, Trouble> {
    let mut frames = FrameReader::new(list);
    let mut entries = Vec::new();
    loop {
        match frames.read().map(&entry) {
            Ok(Some(_)) if entries.len() == max => {
                return Err(Trouble::bad_request("too many entries in the list"));
            }
            Ok(Some(entry)) => entries.push(entry),
            Ok(None) if frames.into_inner().is_empty() => return Ok(entries),
            Ok(None) => return Err(Trouble::bad_request("something follows the list")),
            Err(ReadError::Io(_)) => return Err(Trouble::cut("the list has no end")),
            Err(ReadError::Wire(error)) => return Err(Trouble::bad_request(error.to_string())),
        }
    }
}
