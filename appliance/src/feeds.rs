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
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout_at};

/// How many bytes of frames travel together from the store's thread to the socket.
const BATCH_BYTES: usize = 64 << 10;

/// How long one reader may take for what is told from one state of the journal: the tree, or a burst of
/// changes. Until then SQLite can tidy up nothing that came after, and its log grows.
///
/// Who never stands still for long could take days over it otherwise. A million entries are 100 MB, which
/// the worst Wi-Fi carries in that time.
const FEED_TIME_MAX: Duration = Duration::from_secs(30 * 60);

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
    let (to_socket, from_store) = channel::<Vec<u8>>();
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
    // It drops the queue: a store that has more to send fails, and so ends.
    let sent = pass_on(transfer, from_store, output).await;
    let made: Result<T, FeedError> = match making.await {
        Ok(made) => made,
        Err(error) => return Err(Trouble::local(error.to_string())),
    };
    let bytes = sent?;
    transfer.io(output.flush()).await?;
    Ok((made?, bytes))
}

/// Passes on what the store makes, for so long as somebody takes it; returns the bytes.
async fn pass_on<W: AsyncWrite + Unpin + ?Sized>(
    transfer: &Transfer,
    mut from_store: Receiver<Vec<u8>>,
    output: &mut W,
) -> Result<u64, Trouble> {
    let until = Instant::now() + FEED_TIME_MAX;
    let mut bytes = 0;
    while let Some(batch) = from_store.recv().await {
        bytes += batch.len() as u64;
        timeout_at(until, transfer.io(output.write_all(&batch)))
            .await
            .map_err(|_| Trouble::cut("it was taken too slowly"))??;
    }
    Ok(bytes)
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

#[cfg(test)]
mod tests {
    use super::{BATCH_BYTES, FEED_TIME_MAX, pass_on};
    use crate::accounts::Account;
    use crate::pipe::channel;
    use crate::session::Session;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, duplex};
    use tokio::time::{Instant, sleep};

    /// Passes a hundred batches on to somebody who takes a piece of this many bytes each second, and returns
    /// whether he had all, and when it was over.
    async fn passed_on(piece_bytes: usize) -> (bool, Duration) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (control, peer) = listener.accept().unwrap();
        let idle_timeout = Duration::from_secs(300);
        let session = Arc::new(Session::new(1, peer, control, false, idle_timeout));
        session.log_in(Arc::new(Account::stranger()));
        let transfer = session.begin(0).unwrap();
        let (to_socket, from_store) = channel();
        tokio::spawn(async move {
            for _ in 0..100 {
                if to_socket.send(vec![7; BATCH_BYTES]).await.is_err() {
                    return;
                }
            }
        });
        let (mut output, mut input) = duplex(BATCH_BYTES);
        tokio::spawn(async move {
            let mut piece = vec![0; piece_bytes];
            while input.read_exact(&mut piece).await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let begin = Instant::now();
        let sent = pass_on(&transfer, from_store, &mut output).await;
        (sent.is_ok(), begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn who_only_drips_is_cut_though_he_never_stands_still() {
        // Each batch is taken well within the idle time-out.
        let (all, took) = passed_on(BATCH_BYTES / 64).await;
        assert!(!all);
        assert_eq!(took.as_secs(), FEED_TIME_MAX.as_secs());
        let (all, took) = passed_on(BATCH_BYTES / 16).await;
        assert!(
            all && took < FEED_TIME_MAX,
            "slow, and no slower than allowed: {took:?}"
        );
    }
}
