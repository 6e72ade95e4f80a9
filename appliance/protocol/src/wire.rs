//! Frames: how a sequence of typed messages lies in a byte stream.
//!
//! A frame is one byte of kind, the payload's length as a varint, and the payload. Inside a
//! payload: unsigned numbers are varints (LEB128, at most 10 bytes, shortest form only), times are
//! 8 bytes little-endian, hashes and epochs are their bytes, a text is its length and its UTF-8.
//! A payload must be used up to its last byte.
//!
//! A stream of frames ends with a frame that says so; the end of the bytes alone means that the
//! connection was cut, which plain FTP can't tell from the end of a file.

use crate::compressed::NoZstd;
use crate::{Digest, Epoch, LinkTarget, Mtime, RelPath, Version};
use std::io::{self, Read, Write};

/// The longest payload of one frame, in bytes.
///
/// Twice [`DATA_MAX_BYTES`]'s size would do as well; it must only hold one piece of data or one
/// entry with the longest path and target.
pub const FRAME_MAX_BYTES: usize = 1 << 20;

/// The longest piece of file content in one frame, in bytes: as much as the data path moves at
/// once.
pub const DATA_MAX_BYTES: usize = 256 << 10;

/// One kind of message in a stream.
pub trait Frame: Sized {
    /// Appends the payload and returns the kind.
    fn encode(&self, payload: &mut Vec<u8>) -> u8;

    /// Makes the message from its kind and payload.
    ///
    /// # Errors
    /// Where the payload isn't one of this kind.
    fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, WireError>;
}

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A kind of frame that doesn't belong into this stream.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// A frame longer than [`FRAME_MAX_BYTES`].
    #[error("frame longer than {FRAME_MAX_BYTES} bytes")]
    TooLong,
    /// The payload ended before the message did, or after it.
    #[error("frame of the wrong length")]
    Length,
    /// A value out of its range; the name of the field.
    #[error("bad {0}")]
    Value(&'static str),
    /// What should be [`crate::compressed`] isn't, or would take too much memory.
    #[error("bad compression")]
    Compression,
}

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes that came are no frame.
    #[error("not understood: {0}")]
    Wire(#[from] WireError),
    /// The stream broke, or ended before its last frame.
    #[error("{0}")]
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        match error.get_ref() {
            Some(error) if error.is::<NoZstd>() => WireError::Compression.into(),
            Some(_) | None => ReadError::Io(error),
        }
    }
}

/// Reads frames of one type from a byte stream.
#[derive(Debug)]
pub struct FrameReader<R> {
    bytes: R,
}

impl<R: Read> FrameReader<R> {
    /// Reads from these bytes; they should be buffered.
    pub fn new(bytes: R) -> FrameReader<R> {
        FrameReader { bytes }
    }

    /// The next frame.
    ///
    /// No memory is set aside for a stated length before the bytes are there.
    ///
    /// # Errors
    /// Where the bytes are no frame of this type, or the stream breaks or ends. The end of the
    /// bytes is always an error ([`io::ErrorKind::UnexpectedEof`]): who reads a stream stops at its
    /// last frame.
    pub fn read<F: Frame>(&mut self) -> Result<F, ReadError> {
        let mut kind = [0];
        self.bytes.read_exact(&mut kind)?;
        let len = read_varint(&mut self.bytes)?;
        let len_bytes = usize::try_from(len).map_err(|_| WireError::TooLong)?;
        if len_bytes > FRAME_MAX_BYTES {
            return Err(WireError::TooLong.into());
        }
        let mut payload = Vec::with_capacity(len_bytes.min(512));
        (&mut self.bytes).take(len).read_to_end(&mut payload)?;
        if payload.len() < len_bytes {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(F::decode(kind[0], payload)?)
    }

    /// The bytes behind the last frame that was read.
    pub fn into_inner(self) -> R {
        self.bytes
    }
}

/// Writes frames into a byte stream.
#[derive(Debug)]
pub struct FrameWriter<W> {
    bytes: W,
    payload: Vec<u8>,
}

impl<W: Write> FrameWriter<W> {
    /// Writes to these bytes; they should be buffered.
    pub fn new(bytes: W) -> FrameWriter<W> {
        FrameWriter {
            bytes,
            payload: Vec::new(),
        }
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// Where the stream breaks.
    pub fn write<F: Frame>(&mut self, frame: &F) -> io::Result<()> {
        self.payload.clear();
        let kind = frame.encode(&mut self.payload);
        self.head(kind, self.payload.len())?;
        self.bytes.write_all(&self.payload)
    }

    /// Writes a frame of `kind` whose payload is exactly these bytes, without copying them.
    ///
    /// # Errors
    /// Where the stream breaks.
    pub fn write_raw(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        self.head(kind, payload.len())?;
        self.bytes.write_all(payload)
    }

    /// Hands on everything that was buffered.
    ///
    /// # Errors
    /// Where the stream breaks.
    pub fn flush(&mut self) -> io::Result<()> {
        self.bytes.flush()
    }

    /// The stream below.
    pub fn into_inner(self) -> W {
        self.bytes
    }

    fn head(&mut self, kind: u8, len_bytes: usize) -> io::Result<()> {
        debug_assert!(len_bytes <= FRAME_MAX_BYTES, "a frame is within its limit");
        let mut head = vec![kind];
        put_varint(&mut head, len_bytes as u64);
        self.bytes.write_all(&head)
    }
}

/// All frames as one piece of bytes, for small streams and for tests.
#[must_use]
pub fn to_bytes<F: Frame>(frames: &[F]) -> Vec<u8> {
    let mut writer = FrameWriter::new(Vec::new());
    for frame in frames {
        writer.write(frame).expect("writing to memory doesn't fail");
    }
    writer.into_inner()
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn put_mtime(out: &mut Vec<u8>, mtime: Mtime) {
    out.extend_from_slice(&mtime.0.to_le_bytes());
}

/// Reads a varint in its shortest form from a stream.
fn read_varint(bytes: &mut impl Read) -> Result<u64, ReadError> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        bytes.read_exact(&mut byte)?;
        let low = u64::from(byte[0] & 0x7f);
        if shift == 63 && low > 1 {
            return Err(WireError::Value("number").into());
        }
        number |= low << shift;
        if byte[0] < 0x80 {
            let shortest = byte[0] != 0 || shift == 0;
            return if shortest {
                Ok(number)
            } else {
                Err(WireError::Value("number").into())
            };
        }
    }
    Err(WireError::Value("number").into())
}

/// What is left of a payload that is being taken apart.
#[derive(Debug)]
pub(crate) struct Payload<'a>(&'a [u8]);

impl<'a> Payload<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Payload<'a> {
        Payload(bytes)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, WireError> {
        Ok(self.bytes(1)?[0])
    }

    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool, WireError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Value(field)),
        }
    }

    pub(crate) fn number(&mut self) -> Result<u64, WireError> {
        read_varint(&mut self.0).map_err(|error| match error {
            ReadError::Wire(error) => error,
            ReadError::Io(_) => WireError::Length,
        })
    }

    pub(crate) fn small(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.number()?
            .try_into()
            .map_err(|_| WireError::Value(field))
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, WireError> {
        let len = usize::try_from(self.number()?).map_err(|_| WireError::Length)?;
        std::str::from_utf8(self.bytes(len)?).map_err(|_| WireError::Value(field))
    }

    pub(crate) fn path(&mut self) -> Result<RelPath, WireError> {
        RelPath::parse(self.text("path")?).map_err(|_| WireError::Value("path"))
    }

    pub(crate) fn target(&mut self) -> Result<LinkTarget, WireError> {
        LinkTarget::parse(self.text("target")?).map_err(|_| WireError::Value("target"))
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, WireError> {
        Ok(Digest::from_bytes(self.array()?))
    }

    pub(crate) fn epoch(&mut self) -> Result<Epoch, WireError> {
        Ok(Epoch(self.array()?))
    }

    pub(crate) fn mtime(&mut self) -> Result<Mtime, WireError> {
        Ok(Mtime(i64::from_le_bytes(self.array()?)))
    }

    pub(crate) fn version(&mut self) -> Result<Version, WireError> {
        Ok(Version(self.number()?))
    }

    /// Checks that nothing is left, and hands on what was made.
    pub(crate) fn done<T>(self, value: T) -> Result<T, WireError> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(WireError::Length)
        }
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(WireError::Length)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        Ok(self.bytes(N)?.try_into().expect("as long as was asked for"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Frame, FrameReader, FrameWriter, Payload, ReadError, WireError, put_varint};

    #[derive(Debug, PartialEq)]
    struct Raw(u8, Vec<u8>);

    impl Frame for Raw {
        fn encode(&self, payload: &mut Vec<u8>) -> u8 {
            payload.extend_from_slice(&self.1);
            self.0
        }

        fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, WireError> {
            Ok(Raw(kind, payload))
        }
    }

    fn read(bytes: &[u8]) -> Result<Raw, ReadError> {
        FrameReader::new(bytes).read()
    }

    #[test]
    fn what_is_written_either_way_arrives_once_it_is_flushed() {
        let mut stream = Vec::new();
        {
            let mut writer = FrameWriter::new(std::io::BufWriter::new(&mut stream));
            writer.write(&Raw(3, b"one".to_vec())).expect("written");
            writer.write_raw(3, b"one").expect("written");
            writer.flush().expect("flushed");
            // Dropped, the buffer would hand it on by itself.
            std::mem::forget(writer.into_inner());
        }
        let whole = [3, 3, b'o', b'n', b'e'];
        assert_eq!(stream, [whole, whole].concat());
    }

    #[test]
    fn numbers_have_one_spelling() {
        for number in [
            0,
            1,
            127,
            128,
            300,
            u64::from(u32::MAX),
            u64::MAX - 1,
            u64::MAX,
        ] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            assert_eq!(Payload::new(&bytes).number(), Ok(number));
        }
        let check = |bytes: &[u8], expected| {
            assert_eq!(Payload::new(bytes).number(), Err(expected), "{bytes:?}");
        };
        check(&[], WireError::Length);
        check(&[0x80], WireError::Length);
        check(&[0x80, 0], WireError::Value("number"));
        check(&[0xff; 9], WireError::Length);
        check(
            &[[0xff; 9].as_slice(), &[2]].concat(),
            WireError::Value("number"),
        );
        check(&[0xff; 11], WireError::Value("number"));
    }

    #[test]
    fn a_stated_length_is_not_believed() {
        let mut huge = vec![7];
        put_varint(&mut huge, u64::MAX);
        assert!(matches!(
            read(&huge),
            Err(ReadError::Wire(WireError::TooLong))
        ));
        let mut cut = vec![7];
        put_varint(&mut cut, 1 << 20);
        cut.extend_from_slice(b"short");
        assert!(matches!(read(&cut), Err(ReadError::Io(_))));
    }

    #[test]
    fn the_end_of_the_bytes_is_never_the_end_of_the_stream() {
        for bytes in [&[][..], &[1], &[1, 2, 3]] {
            assert!(matches!(read(bytes), Err(ReadError::Io(_))), "{bytes:?}");
        }
        assert_eq!(read(&[1, 2, 3, 4]).expect("a frame"), Raw(1, vec![3, 4]));
    }
}
