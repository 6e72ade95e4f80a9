//! A content that is put together from pieces: some the appliance has already, in another content, and
//! only the others travel.
//!
//! What comes of it is checked as any content that arrives, by its size and hash as a whole. So nothing
//! is believed of the pieces: a base that rotted, or a sender that mistook one content for another, costs
//! a refusal and never a file.

use crate::Digest;
use crate::wire::{Payload, WireError, put_varint};

/// The most pieces of one content. Where it would take more, so much has changed in so many places that
/// the whole may as well be sent.
pub const PIECES_MAX: usize = 8_192;

/// One piece, in the order in which they make the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the base.
    Copied {
        /// From which byte on.
        offset: u64,
        /// How many, at least one.
        len_bytes: u64,
    },
    /// Bytes that travel.
    Sent {
        /// How many, at least one.
        len_bytes: u64,
    },
}

/// How a content is put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    base: Digest,
    base_bytes: u64,
    pieces: Vec<Piece>,
    len_bytes: u64,
}

/// Why pieces make no patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pieces that can't be put together")]
pub struct PatchError;

impl Piece {
    /// How long it is, in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        match self {
            Piece::Copied { len_bytes, .. } | Piece::Sent { len_bytes } => *len_bytes,
        }
    }
}

impl Patch {
    /// A content of these pieces, over a base of this hash and size.
    ///
    /// # Errors
    /// Where there are none or more than [`PIECES_MAX`], where one is empty or ends behind the base, or
    /// where all together are longer than any file.
    pub fn new(base: Digest, base_bytes: u64, pieces: Vec<Piece>) -> Result<Patch, PatchError> {
        if pieces.is_empty() || pieces.len() > PIECES_MAX {
            return Err(PatchError);
        }
        let mut whole = 0_u64;
        for piece in &pieces {
            let len_bytes = piece.len_bytes();
            whole = whole.checked_add(len_bytes).ok_or(PatchError)?;
            let fits = match piece {
                Piece::Sent { .. } => true,
                Piece::Copied { offset, .. } => {
                    let end = offset.checked_add(len_bytes);
                    end.is_some_and(|end| end <= base_bytes)
                }
            };
            if len_bytes == 0 || !fits {
                return Err(PatchError);
            }
        }
        Ok(Patch {
            base,
            base_bytes,
            pieces,
            len_bytes: whole,
        })
    }

    /// The hash of the base.
    #[must_use]
    pub fn base(&self) -> &Digest {
        &self.base
    }

    /// The size of the base.
    #[must_use]
    pub fn base_bytes(&self) -> u64 {
        self.base_bytes
    }

    /// The pieces, in their order.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// How long the content will be.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// How much of it travels.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        let sent = self.pieces.iter().map(|piece| match piece {
            Piece::Sent { len_bytes } => *len_bytes,
            Piece::Copied { .. } => 0,
        });
        sent.sum()
    }
}

pub(crate) fn put_patch(out: &mut Vec<u8>, patch: &Patch) {
    out.extend_from_slice(patch.base.as_bytes());
    put_varint(out, patch.base_bytes);
    put_varint(out, patch.pieces.len() as u64);
    for piece in &patch.pieces {
        match piece {
            Piece::Sent { len_bytes } => {
                out.push(0);
                put_varint(out, *len_bytes);
            }
            Piece::Copied { offset, len_bytes } => {
                out.push(1);
                put_varint(out, *offset);
                put_varint(out, *len_bytes);
            }
        }
    }
}

pub(crate) fn patch(bytes: &mut Payload<'_>) -> Result<Patch, WireError> {
    let base = bytes.digest()?;
    let base_bytes = bytes.number()?;
    let count = bytes.small("number of pieces")?;
    // Each is two bytes at least, so no more room is made than the frame is long.
    let mut pieces = Vec::new();
    for _ in 0..count {
        pieces.push(if bytes.flag("kind of a piece")? {
            Piece::Copied {
                offset: bytes.number()?,
                len_bytes: bytes.number()?,
            }
        } else {
            Piece::Sent {
                len_bytes: bytes.number()?,
            }
        });
    }
    Patch::new(base, base_bytes, pieces).map_err(|PatchError| WireError::Value("pieces"))
}

#[cfg(test)]
mod tests {
    use super::{PIECES_MAX, Patch, Piece};
    use crate::Digest;

    #[test]
    fn pieces_are_within_their_base_and_none_is_empty() {
        let of = |pieces: &[Piece]| Patch::new(Digest::of(b""), 10, pieces.to_vec());
        let sent = |len_bytes| Piece::Sent { len_bytes };
        let copied = |offset, len_bytes| Piece::Copied { offset, len_bytes };
        let good = of(&[copied(0, 10), sent(3), copied(9, 1)]).expect("good");
        assert_eq!((good.len_bytes(), good.sent_bytes()), (14, 3));
        for bad in [
            &[][..],
            &[sent(0)],
            &[copied(0, 0)],
            &[copied(0, 11)],
            &[copied(10, 1)],
            &[copied(u64::MAX, 2)],
            &[sent(u64::MAX), sent(1)],
            &vec![sent(1); PIECES_MAX + 1],
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
        assert!(of(&vec![sent(1); PIECES_MAX]).is_ok());
    }
}
