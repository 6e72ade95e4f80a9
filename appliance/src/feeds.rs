//! The streams that the store makes on a thread of its own: trees, changes and events.

use crate::pipe::{Sender, channel};
use crate::reply::Trouble;
use crate::session::{Phase, Session, Transfer};
use crate::shared::Shared;
use raspbox_protocol::feed::{BEAT_INTERVAL, FeedFrame};
use raspbox_protocol::wire::{FrameWriter, to_bytes};
use raspbox_protocol::{Cursor, Mtime};
use raspbox_store::{FeedError, Store};
use std::io::{self, Write};
use std::sync::Arc;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// How many bytes of frames travel together from the store's thread to the socket.
const BATCH_BYTES: usize = 64 << 10;

/// Sends the tree (`None`) or what changed since a cursor, up to the mark; returns the mark's cursor
/// and the bytes.
pub(crate) async fn send_feed<W: AsyncWrite + Unpin + ?Sized>(
    (shared, session): (&Arc<Shared>, &Session),
    transfer: &Transfer,
    since: Option<Cursor>,
    with_head: bool,
    output: &mut W,
) -> Result<(Cursor, u64), Trouble> {
    let make = move |store: &Store, batch: &mut Batch| {
        store.feed(since, &mut |frame| match frame {
            FeedFrame::Head { .. } if !with_head => Ok(()),
            frame => batch.add(&frame),
        })
    };
    send_made((shared, session), transfer, make, output).await
}

/// Sends the tree as it was; returns the bytes.
pub(crate) async fn send_tree_at<W: AsyncWrite + Unpin + ?Sized>(
    (shared, session): (&Arc<Shared>, &Session),
    transfer: &Transfer,
    at: Mtime,
    output: &mut W,
) -> Result<u64, Trouble> {
    let make =
        move |store: &Store, batch: &mut Batch| store.tree_at(at, &mut |frame| batch.add(&frame));
    Ok(send_made((shared, session), transfer, make, output)
        .await?
        .1)
}

/// Sends what the store makes on a thread of its own; returns what that came to, and the bytes.
async fn send_made<T: Send + 'static, W: AsyncWrite + Unpin + ?Sized>(
    (shared, session): (&Arc<Shared>, &Session),
    transfer: &Transfer,
    make: impl FnOnce(&Store, &mut Batch) -> Result<T, FeedError> + Send + 'static,
    output: &mut W,
) -> Result<(T, u64), Trouble> {
    let (to_socket, mut from_store) = channel::<Vec<u8>>();
    let store = shared.slot.seen(&session.drive).store()?;
    let making = shared.main.spawn_blocking(move || {
        let mut batch = Batch {
            bytes: Vec::new(),
            to_socket,
        };
        let made = make(&store, &mut batch)?;
        batch.send().map_err(FeedError::Sink)?;
        Ok(made)
    });
    let mut bytes = 0;
    let mut sent = Ok(());
    while let Some(batch) = from_store.recv().await {
        bytes += batch.len() as u64;
        sent = transfer.io(output.write_all(&batch)).await;
        if sent.is_err() {
            break;
        }
    }
    // Lets a store that has more to send fail, and so end.
    drop(from_store);
    let made: Result<T, FeedError> = match making.await {
        Ok(made) => made,
        Err(error) => return Err(Trouble::local(error.to_string())),
    };
    sent?;
    transfer.io(output.flush()).await?;
    Ok((made?, bytes))
}

/// Sends what changed since a cursor, and goes on as changes happen until the session ends.
pub(crate) async fn send_events<W: AsyncWrite + Unpin + ?Sized>(
    shared: &Arc<Shared>,
    session: &Session,
    transfer: &Transfer,
    since: Cursor,
    output: &mut W,
) -> Result<u64, Trouble> {
    let mut changes = shared.slot.seen(&session.drive).changes()?;
    let (mut at, mut bytes, mut with_head) = (since, 0, true);
    transfer.stands();
    loop {
        // Seen before the store is read: what happens meanwhile wakes us again.
        changes.borrow_and_update();
        let (mark, sent) =
            send_feed((shared, session), transfer, Some(at), with_head, output).await?;
        (at, bytes, with_head) = (mark, bytes + sent, false);
        loop {
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return Ok(bytes),
                },
                () = session.reached(Phase::Draining) => return Ok(bytes),
                () = tokio::time::sleep(BEAT_INTERVAL) => {
                    let beat = to_bytes(&[FeedFrame::Beat]);
                    bytes += beat.len() as u64;
                    transfer.io(async {
                        output.write_all(&beat).await?;
                        output.flush().await
                    }).await?;
                }
            }
        }
    }
}

/// Frames on their way to the socket.
struct Batch {
    bytes: Vec<u8>,
    to_socket: Sender<Vec<u8>>,
}

impl Batch {
    fn add(&mut self, frame: &FeedFrame) -> io::Result<()> {
        FrameWriter::new(&mut self.bytes as &mut dyn Write).write(frame)?;
        if self.bytes.len() < BATCH_BYTES {
            return Ok(());
        }
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        let bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(BATCH_BYTES));
        self.to_socket
            .blocking_send(bytes)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
