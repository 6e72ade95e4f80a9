//! Between a socket, which is async, and the store, which blocks.
//!
//! Everything a session does runs on its own thread (see [`crate::door`]), so short work on the
//! store is done right there. Only what the store reads or makes as a stream, and the writing of
//! long uploads, has a second thread and a short queue between the two.

use crate::reply::Trouble;
use crate::session::{Session, Transfer};
use std::fs::File;
use std::io::{self, Read};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// How many pieces wait between two threads: one being filled, one being emptied, one between.
const QUEUE_LEN: usize = 2;

pub(crate) use mpsc::Sender;

/// A short queue between a session and a blocking thread.
pub(crate) fn channel<T>() -> (Sender<T>, mpsc::Receiver<T>) {
    mpsc::channel(QUEUE_LEN)
}

/// What goes from the socket to a thread that reads: pieces, and an end that is told from a cut.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Bytes.
    Data(Vec<u8>),
    /// The peer has sent everything.
    End,
}

/// Reads until the buffer is full or the peer has sent everything; returns how many bytes.
///
/// # Errors
/// Where the peer was cut, as far as that can be seen.
pub(crate) async fn fill<R: AsyncRead + Unpin>(
    transfer: &Transfer,
    input: &mut R,
    buffer: &mut [u8],
) -> Result<usize, Trouble> {
    let mut filled = 0;
    while filled < buffer.len() {
        match transfer.io(input.read(&mut buffer[filled..])).await? {
            0 => {
                transfer.check_end()?;
                break;
            }
            len => filled += len,
        }
    }
    Ok(filled)
}

/// Sends the rest of a file; returns how many bytes that was.
pub(crate) async fn send_file<W: AsyncWrite + Unpin + ?Sized>(
    session: &Session,
    transfer: &Transfer,
    mut file: File,
    output: &mut W,
) -> Result<u64, Trouble> {
    advise(&file);
    let mut buffer = session.buffer();
    let mut sent = 0;
    let result = loop {
        // On the session's own thread: as cheap as sendfile where the kernel has read ahead, and
        // where the drive is slow only this session waits.
        let len = match file.read(&mut buffer) {
            Ok(0) => break Ok(sent),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => break Err(Trouble::local(format!("the drive failed: {error}"))),
        };
        if let Err(trouble) = transfer.io(output.write_all(&buffer[..len])).await {
            break Err(trouble);
        }
        sent += len as u64;
    };
    session.give_back(buffer);
    result
}

/// Tells the kernel to read further ahead than usual; it may ignore it.
fn advise(file: &File) {
    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
}

/// Reads what a session sends through its queue, on another thread.
#[derive(Debug)]
pub(crate) struct PieceReader {
    pieces: mpsc::Receiver<Piece>,
    used: Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    ended: bool,
}

impl PieceReader {
    /// Takes pieces, and gives their buffers back.
    pub(crate) fn new(pieces: mpsc::Receiver<Piece>, used: Sender<Vec<u8>>) -> PieceReader {
        PieceReader {
            pieces,
            used,
            piece: Vec::new(),
            at: 0,
            ended: false,
        }
    }
}

impl Read for PieceReader {
    /// A queue that closes without [`Piece::End`] is a cut, never the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Data(piece)) => {
                    let used = std::mem::replace(&mut self.piece, piece);
                    self.at = 0;
                    // Nobody may want it any more.
                    let _ = self.used.try_send(used);
                }
                Some(Piece::End) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let len = buffer.len().min(self.piece.len() - self.at);
        buffer[..len].copy_from_slice(&self.piece[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::{Piece, PieceReader, channel};
    use std::io::{ErrorKind, Read};

    fn read(pieces: Vec<Piece>) -> (Vec<u8>, std::io::Result<usize>) {
        let (to, from) = channel();
        let (used, _) = channel();
        let sender = std::thread::spawn(move || {
            for piece in pieces {
                to.blocking_send(piece).unwrap();
            }
        });
        let mut bytes = Vec::new();
        let result = PieceReader::new(from, used).read_to_end(&mut bytes);
        sender.join().unwrap();
        (bytes, result)
    }

    #[test]
    fn an_end_is_told_from_a_cut() {
        let data = |bytes: &[u8]| Piece::Data(bytes.to_vec());
        let (bytes, result) = read(vec![data(b"ab"), data(b""), data(b"c"), Piece::End]);
        assert_eq!((bytes.as_slice(), result.unwrap()), (&b"abc"[..], 3));
        let (bytes, result) = read(vec![data(b"ab")]);
        assert_eq!(bytes, b"ab");
        assert_eq!(result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(read(vec![]).1.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}
