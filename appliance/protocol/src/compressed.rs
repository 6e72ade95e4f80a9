//! Streams that travel compressed: commits on their way up, contents on their way down.
//!
//! On the wire it is zstd (RFC 8878), one frame for each piece, so that `zstd -d` reads it. Each piece is
//! compressed for itself: what a stream holds in memory is bounded on both sides, and whether the next one is
//! compressed can be decided anew. [`Compressor`] decides by what it sees: where a piece gets smaller by less than
//! the link needs for the difference (photos; a fast link and a slow processor), the next ones go nearly as they
//! are, and now and then one is tried again.

use std::io::{self, BufRead, Read, Write};
use std::time::{Duration, Instant};
use zstd::stream::read::Decoder;

/// How much is compressed at once, in bytes.
pub const PIECE_BYTES: usize = 256 << 10;

/// The largest window that is accepted, as a power of two: of one piece. It is what a reader holds in memory.
const WINDOW_LOG_MAX: u32 = 18;

/// The level where it pays: of zstd's, the one that costs least.
const LEVEL: i32 = 1;

/// The level where it doesn't: nothing is looked for, and all goes as it is in frames.
const LEVEL_OFF: i32 = -(1 << 17);

/// After how many pieces that were not compressed one is tried.
const TRY_EVERY: u32 = 16;

/// Of a piece shorter than this nothing is believed: its frame's head counts too much. It is compressed as the last one
/// was.
const TELLING_BYTES: usize = 16 << 10;

/// How much the newest piece counts in what is believed of the next: a quarter.
const WEIGHT: f64 = 0.25;

/// Compresses piece after piece, where it pays.
pub struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
    frame: Vec<u8>,
    pays: Pays,
}

/// What is known of whether it pays.
#[derive(Debug, Default)]
struct Pays {
    /// To compress a byte, in seconds; `None` before the first.
    compress: Option<f64>,
    /// What was left of a byte.
    left: f64,
    /// To send a byte of what travels, in seconds; `None` before the first.
    send: Option<f64>,
    /// How many pieces have gone as they are, since one was compressed.
    off: u32,
}

impl Compressor {
    /// One for a stream.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn new() -> io::Result<Compressor> {
        Ok(Compressor {
            zstd: zstd::bulk::Compressor::new(LEVEL)?,
            frame: Vec::new(),
            pays: Pays::default(),
        })
    }

    /// Makes a frame of the next piece, at most [`PIECE_BYTES`] long. How long it takes to send is to be told afterwards.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn frame(&mut self, piece: &[u8]) -> io::Result<&[u8]> {
        debug_assert!(piece.len() <= PIECE_BYTES, "the window has to hold it");
        let on = self.pays.is_worth_it();
        self.zstd
            .set_compression_level(if on { LEVEL } else { LEVEL_OFF })?;
        self.frame.clear();
        self.frame
            .reserve(zstd::zstd_safe::compress_bound(piece.len()));
        let begun = Instant::now();
        self.zstd.compress_to_buffer(piece, &mut self.frame)?;
        if on {
            self.pays
                .compressed(piece.len(), self.frame.len(), begun.elapsed());
        } else {
            self.pays.off += 1;
        }
        Ok(&self.frame)
    }

    /// The last frame took so long to send.
    pub fn sent(&mut self, took: Duration) {
        self.pays.sent(self.frame.len(), took);
    }
}

impl Pays {
    /// Whether the next piece is to be compressed: if that costs less than sending what it spares.
    fn is_worth_it(&self) -> bool {
        match (self.compress, self.send) {
            (Some(compress), Some(send)) => {
                self.off >= TRY_EVERY || compress < send * (1.0 - self.left)
            }
            // Or all that has gone was so little that the link wasn't felt.
            (None, _) | (_, None) => true,
        }
    }

    fn compressed(&mut self, from: usize, to: usize, took: Duration) {
        if from < TELLING_BYTES {
            return;
        }
        let (from, to) = (float(from), float(to));
        let known = self.compress.is_some();
        self.left = if known {
            mix(self.left, to / from)
        } else {
            to / from
        };
        self.compress = Some(blend(self.compress, took.as_secs_f64() / from));
        self.off = 0;
    }

    fn sent(&mut self, bytes: usize, took: Duration) {
        // What was compressed to nearly nothing tells nothing of the link.
        if bytes >= TELLING_BYTES {
            self.send = Some(blend(self.send, took.as_secs_f64() / float(bytes)));
        }
    }
}

fn blend(known: Option<f64>, new: f64) -> f64 {
    known.map_or(new, |known| mix(known, new))
}

fn mix(known: f64, new: f64) -> f64 {
    known + WEIGHT * (new - known)
}

fn float(bytes: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "at most a piece and a little")]
    let bytes = bytes as f64;
    bytes
}

/// Compresses what is written.
pub struct CompressedWriter<W: Write> {
    to: W,
    compressor: Compressor,
    piece: Vec<u8>,
}

impl<W: Write> CompressedWriter<W> {
    /// Writes to these.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn new(to: W) -> io::Result<CompressedWriter<W>> {
        Ok(CompressedWriter {
            to,
            compressor: Compressor::new()?,
            piece: Vec::with_capacity(PIECE_BYTES),
        })
    }
}

impl<W: Write> Write for CompressedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES - self.piece.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.piece.extend_from_slice(taken);
        if self.piece.len() == PIECE_BYTES {
            self.flush_piece()?;
        }
        Ok(taken.len())
    }

    /// What was written goes on its way. Nothing else does it: what is not flushed is lost.
    fn flush(&mut self) -> io::Result<()> {
        if !self.piece.is_empty() {
            self.flush_piece()?;
        }
        self.to.flush()
    }
}

impl<W: Write> CompressedWriter<W> {
    fn flush_piece(&mut self) -> io::Result<()> {
        let frame = self.compressor.frame(&self.piece)?;
        let begun = Instant::now();
        self.to.write_all(frame)?;
        self.compressor.sent(begun.elapsed());
        self.piece.clear();
        Ok(())
    }
}

/// Reads what was compressed.
///
/// Its end is the end of the bytes, behind a whole frame; within a frame, or before the first, that is an error
/// ([`io::ErrorKind::UnexpectedEof`]). Bytes that are no zstd, or that would take more than a window of
/// [`PIECE_BYTES`], are one too ([`io::ErrorKind::InvalidData`]). How much comes out of them isn't bounded here: whoever reads stops at what it
/// expects.
///
/// # Errors
/// Where there is no memory.
pub fn read<'a>(from: impl BufRead + 'a) -> io::Result<impl Read + 'a> {
    let mut decoder = Decoder::with_buffer(from)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok(CompressedReader(decoder))
}

/// Bytes that are no zstd, or would take too much memory; told from what a socket says.
#[derive(Debug, thiserror::Error)]
#[error("bad compression: {0}")]
pub struct NoZstd(io::Error);

struct CompressedReader<'a, R: BufRead>(Decoder<'a, R>);

impl<R: BufRead> Read for CompressedReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            // zstd's own; a socket has better words for what it has.
            io::ErrorKind::Other => io::Error::new(io::ErrorKind::InvalidData, NoZstd(error)),
            _ => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{CompressedWriter, LEVEL, PIECE_BYTES, Pays, TRY_EVERY, WINDOW_LOG_MAX, read};
    use crate::Digest;
    use crate::commit::CommitFrame;
    use crate::wire::{FrameReader, ReadError, WireError};
    use std::io::{self, Read, Write};
    use std::time::Duration;

    fn compressed(pieces: &[&[u8]]) -> Vec<u8> {
        let mut to = Vec::new();
        let mut writer = CompressedWriter::new(&mut to).expect("memory");
        for piece in pieces {
            writer.write_all(piece).expect("written");
        }
        writer.flush().expect("flushed");
        drop(writer);
        to
    }

    fn plain(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        read(bytes)?.read_to_end(&mut all)?;
        Ok(all)
    }

    /// Bytes that don't compress.
    fn noise(len: usize) -> Vec<u8> {
        let blocks = (0_u32..).flat_map(|n| *Digest::of(&n.to_le_bytes()).as_bytes());
        blocks.take(len).collect()
    }

    #[test]
    fn what_was_written_is_read() {
        let text = b"all work and no play\n".repeat(50_000);
        let noise = noise(PIECE_BYTES + 1);
        for pieces in [
            vec![&b"x"[..]],
            vec![&text, &noise, &text],
            vec![&noise[..PIECE_BYTES]],
        ] {
            assert_eq!(plain(&compressed(&pieces)).expect("good"), pieces.concat());
        }
        assert!(compressed(&[&text]).len() < text.len() / 100);
        let more = compressed(&[&noise]).len() - noise.len();
        assert!(more < 64, "{more} bytes more");
    }

    #[test]
    fn what_is_flushed_has_gone() {
        let mut to = Vec::new();
        let mut writer = CompressedWriter::new(&mut to).expect("memory");
        writer.write_all(b"one").expect("written");
        writer.flush().expect("flushed");
        drop(writer);
        assert_eq!(plain(&to).expect("good"), b"one");
    }

    #[test]
    fn a_cut_is_no_end() {
        let whole = compressed(&[b"what is cut is not whole"]);
        for len in 0..whole.len() {
            let error = plain(&whole[..len]).expect_err("cut");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{len}");
        }
    }

    #[test]
    fn what_is_no_zstd_or_takes_too_much_memory_is_an_error() {
        let kind = |bytes: &[u8]| plain(bytes).expect_err("no zstd").kind();
        assert_eq!(kind(b"PUT me in"), io::ErrorKind::InvalidData);
        let mut wide = zstd::stream::write::Encoder::new(Vec::new(), LEVEL).expect("memory");
        wide.window_log(WINDOW_LOG_MAX + 4).expect("a level");
        wide.write_all(&noise(PIECE_BYTES)).expect("written");
        let wide = wide.finish().expect("finished");
        assert_eq!(kind(&wide), io::ErrorKind::InvalidData);
        // That is not understood; what a socket says of itself is a broken connection.
        let mut frames = FrameReader::new(read(&b"PUT me in"[..]).expect("memory"));
        let error = frames.read::<CommitFrame>().expect_err("no zstd");
        assert!(matches!(error, ReadError::Wire(WireError::Compression)));
        let socket = ReadError::from(io::Error::new(io::ErrorKind::InvalidData, "a bad record"));
        assert!(matches!(socket, ReadError::Io(_)));
    }

    /// Seconds for each MiB, in microseconds to be exact.
    fn after(compress: u64, (from, to): (usize, usize), send: u64) -> Pays {
        let mut pays = Pays::default();
        assert!(pays.is_worth_it(), "nothing is known yet");
        let mib = |bytes: usize, micros| Duration::from_micros(micros * bytes as u64 / (1 << 20));
        pays.compressed(from, to, mib(from, compress));
        pays.sent(to, mib(to, send));
        pays
    }

    #[test]
    fn it_pays_where_the_link_is_slower_than_what_it_spares() {
        let mib = 1 << 20;
        // 400 MiB/s to compress to a third, at 6 MiB/s and at 1000 MiB/s.
        assert!(after(2_500, (mib, mib / 3), 166_000).is_worth_it());
        assert!(!after(2_500, (mib, mib / 3), 1_000).is_worth_it());
        // On the first Pi, 10 MiB/s to compress: at 5 MiB/s, and at 100 Mbit/s to a half.
        assert!(after(100_000, (mib, mib / 3), 200_000).is_worth_it());
        assert!(!after(100_000, (mib, mib / 2), 84_000).is_worth_it());
        // What doesn't get smaller never does.
        assert!(!after(2_500, (mib, mib), 166_000).is_worth_it());
    }

    #[test]
    fn it_is_tried_again() {
        let mut pays = after(2_500, (1 << 20, 1 << 20), 166_000);
        for _ in 0..TRY_EVERY {
            assert!(!pays.is_worth_it());
            pays.off += 1;
        }
        assert!(pays.is_worth_it());
        // A short one at the end tells nothing.
        pays.compressed(1, 14, Duration::from_micros(1));
        pays.sent(14, Duration::from_micros(1));
        // One that gets smaller is enough where the link is slow.
        pays.compressed(1 << 20, 1 << 18, Duration::from_micros(2_500));
        assert!(pays.is_worth_it());
    }
}
