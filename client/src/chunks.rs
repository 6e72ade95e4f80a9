//! Cutting a content into chunks, where its own bytes say so: what was inserted or changed moves no cut but
//! those beside it. So of a large file that changed a little only that little has to be sent.
//!
//! The chunks of what both sides have in common are remembered by its hash (`state/chunks.rs`). A short hash
//! of each is enough, since nothing is believed of it: what the appliance puts together is hashed as a whole.

use fastcdc::v2020::FastCDC;
use raspbox_protocol::Digest;
use raspbox_protocol::patch::{PIECES_MAX, Patch, Piece};
use std::collections::HashMap;
use std::io;

/// The smallest content that is cut. What is smaller is sent in a moment.
pub const CONTENT_MIN_BYTES: u64 = 4 << 20;

/// How long chunks are, in bytes: at least, about, at most. A change costs what changed and about one of
/// them on either side; 4,000 of them make a GiB, which takes 80 KB to remember.
const CHUNK_BYTES: (usize, usize, usize) = (64 << 10, 256 << 10, 1 << 20);

/// How much of a chunk's hash is remembered, in bytes.
const HASH_BYTES: usize = 16;

/// One chunk as it is remembered: its length, and its hash.
const STORED_BYTES: usize = 4 + HASH_BYTES;

/// A content is patched only where at least this part of it is copied: the appliance reads that from the same
/// drive that it writes to.
const COPIED_MIN: (u64, u64) = (1, 2);

/// The chunks of a content, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunks(Vec<Chunk>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chunk {
    len_bytes: u32,
    hash: [u8; HASH_BYTES],
}

/// Cuts a content that comes in pieces of whatever size.
#[derive(Debug, Default)]
pub struct Cutter {
    chunks: Vec<Chunk>,
    /// What came behind the last cut.
    rest: Vec<u8>,
}

impl Cutter {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
        // Not each time, since what is behind the last cut has to be moved then.
        if self.rest.len() >= 2 * CHUNK_BYTES.2 {
            // A cut depends on no more than the longest chunk that could begin there.
            self.cut(CHUNK_BYTES.2);
        }
    }

    /// All of it has come.
    #[must_use]
    pub fn finish(mut self) -> Chunks {
        self.cut(1);
        Chunks(self.chunks)
    }

    /// Cuts for as long as so much is left.
    fn cut(&mut self, least: usize) {
        if self.rest.len() < least {
            return;
        }
        let (min, average, max) = CHUNK_BYTES;
        let cuts = FastCDC::new(&self.rest, min, average, max);
        let mut start = 0;
        while self.rest.len() - start >= least {
            let (_, end) = cuts.cut(start, self.rest.len() - start);
            self.chunks.push(Chunk::of(&self.rest[start..end]));
            start = end;
        }
        self.rest.drain(..start);
    }
}

impl Chunk {
    fn of(bytes: &[u8]) -> Chunk {
        let digest = Digest::of(bytes);
        let (hash, _) = digest.as_bytes().split_at(HASH_BYTES);
        Chunk {
            len_bytes: u32::try_from(bytes.len()).expect("a chunk is short"),
            hash: hash.try_into().expect("as long as that"),
        }
    }
}

impl Chunks {
    /// How this content is put together of a base with those chunks; `None` where it isn't worth it.
    #[must_use]
    pub fn patch(&self, base: Digest, chunks: &Chunks) -> Option<Patch> {
        let mut there = HashMap::new();
        let mut base_bytes = 0;
        for chunk in &chunks.0 {
            there
                .entry((chunk.hash, chunk.len_bytes))
                .or_insert(base_bytes);
            base_bytes += u64::from(chunk.len_bytes);
        }
        let mut pieces: Vec<Piece> = Vec::new();
        for chunk in &self.0 {
            let more = u64::from(chunk.len_bytes);
            let found = there.get(&(chunk.hash, chunk.len_bytes)).copied();
            match (pieces.last_mut(), found) {
                (Some(Piece::Copied { offset, len_bytes }), Some(next))
                    if *offset + *len_bytes == next =>
                {
                    *len_bytes += more;
                }
                (Some(Piece::Sent { len_bytes }), None) => *len_bytes += more,
                (_, Some(offset)) => pieces.push(Piece::Copied {
                    offset,
                    len_bytes: more,
                }),
                (_, None) => pieces.push(Piece::Sent { len_bytes: more }),
            }
        }
        if pieces.len() > PIECES_MAX {
            return None;
        }
        let patch = Patch::new(base, base_bytes, pieces).ok()?;
        let copied = patch.len_bytes() - patch.sent_bytes();
        let (part, whole) = COPIED_MIN;
        (copied * whole >= patch.len_bytes() * part).then_some(patch)
    }

    /// As they are remembered.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let chunks = self.0.iter();
        chunks
            .flat_map(|chunk| {
                let len = chunk.len_bytes.to_le_bytes();
                len.into_iter().chain(chunk.hash)
            })
            .collect()
    }

    /// From how they were remembered.
    ///
    /// # Errors
    /// Where these bytes are something else.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<Chunks> {
        let (chunks, rest) = bytes.as_chunks::<STORED_BYTES>();
        if !rest.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let chunks = chunks.iter().map(|chunk| {
            let (len, hash) = chunk.split_at(STORED_BYTES - HASH_BYTES);
            Chunk {
                len_bytes: u32::from_le_bytes(len.try_into().expect("four bytes")),
                hash: hash.try_into().expect("the others"),
            }
        });
        Ok(Chunks(chunks.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK_BYTES, Chunks, Cutter};
    use raspbox_protocol::Digest;
    use raspbox_protocol::patch::Piece;

    /// Bytes in which no two chunks are alike, the same for each seed.
    fn bytes(seed: u8, len: usize) -> Vec<u8> {
        let blocks = (0_u32..).map(|n| Digest::of(&[&[seed][..], &n.to_le_bytes()].concat()));
        let mut bytes: Vec<u8> = blocks
            .take(len / 32 + 1)
            .flat_map(|digest| *digest.as_bytes())
            .collect();
        bytes.truncate(len);
        bytes
    }

    fn chunks(content: &[u8], pieces_of: usize) -> Chunks {
        let mut cutter = Cutter::default();
        content
            .chunks(pieces_of)
            .for_each(|piece| cutter.update(piece));
        cutter.finish()
    }

    /// What a patch would make.
    fn apply(pieces: &[Piece], base: &[u8], content: &[u8]) -> Vec<u8> {
        let mut made = Vec::new();
        for piece in pieces {
            let at = made.len();
            let (from, offset) = match piece {
                Piece::Copied { offset, .. } => (base, usize::try_from(*offset).expect("small")),
                Piece::Sent { .. } => (content, at),
            };
            let len = usize::try_from(piece.len_bytes()).expect("small");
            made.extend_from_slice(&from[offset..offset + len]);
        }
        made
    }

    #[test]
    fn however_a_content_comes_it_is_cut_at_the_same_places() {
        let content = bytes(1, 5 << 20);
        let whole = chunks(&content, content.len());
        for pieces_of in [999, 64 << 10, 256 << 10, (1 << 20) + 1] {
            assert_eq!(chunks(&content, pieces_of), whole);
        }
        let lens: Vec<usize> = whole
            .0
            .iter()
            .map(|chunk| chunk.len_bytes as usize)
            .collect();
        assert_eq!(lens.iter().sum::<usize>(), content.len());
        let (last, others) = lens.split_last().expect("some");
        assert!(
            others
                .iter()
                .all(|len| (CHUNK_BYTES.0..=CHUNK_BYTES.2).contains(len))
        );
        assert!(*last <= CHUNK_BYTES.2);
        assert_eq!(chunks(b"", 1).0, []);
    }

    #[test]
    fn of_what_changed_a_little_only_a_little_is_sent() {
        let old = bytes(1, 16 << 20);
        let more = bytes(2, 1 << 20);
        let edit = |at: usize, cut: usize, put: &[u8]| [&old[..at], put, &old[at + cut..]].concat();
        for (what, new) in [
            ("replaced", edit(5_000_000, more.len(), &more)),
            ("inserted", edit(5_000_001, 0, &more)),
            ("cut out", edit(5_000_001, more.len(), &[])),
            ("appended", edit(old.len(), 0, &more)),
            ("put before", edit(0, 0, &more)),
            ("moved", [&old[8_000_000..], &old[..8_000_000]].concat()),
            ("the same", old.clone()),
        ] {
            let (was, is) = (chunks(&old, 1 << 18), chunks(&new, 1 << 18));
            let patch = is.patch(Digest::of(&old), &was).expect("worth it");
            assert_eq!(patch.base_bytes(), old.len() as u64);
            assert_eq!(apply(patch.pieces(), &old, &new), new, "{what}");
            assert!(
                patch.sent_bytes() < 3 << 20,
                "{what}: {}",
                patch.sent_bytes()
            );
        }
    }

    #[test]
    fn what_has_little_in_common_is_sent_whole() {
        let old = bytes(1, 6 << 20);
        let new = [&old[..2 << 20], &bytes(2, 4 << 20)].concat();
        let (was, is) = (chunks(&old, 1 << 18), chunks(&new, 1 << 18));
        assert_eq!(is.patch(Digest::of(&old), &was), None);
        assert_eq!(chunks(b"", 1).patch(Digest::of(&old), &was), None);
    }

    #[test]
    fn they_are_remembered_as_they_are() {
        let some = chunks(&bytes(1, 3 << 20), 1 << 18);
        let stored = some.to_bytes();
        assert_eq!(Chunks::from_bytes(&stored).expect("good"), some);
        assert!(Chunks::from_bytes(&stored[1..]).is_err());
        assert_eq!(Chunks::from_bytes(&[]).expect("none"), Chunks(Vec::new()));
    }
}
