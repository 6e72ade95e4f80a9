//! Putting a content together: pieces of one that is on the drive, and what came of the network.
//!
//! It is done when all that travels has come. So nobody waits on a connection while the drive copies, which
//! takes minutes for a large file on a slow stick: the sender waits for the reply, and knows how long.
//!
//! Nothing is believed of either. The whole is hashed as it is written, and named only where it has the
//! hash that was stated; a base that rotted, or that somebody is writing to, spoils the patch and no file.

use crate::commit::refusal_or_trouble;
use crate::error::StoreError;
use crate::inner::Inner;
use crate::staging::{PIECE_BYTES, Staged};
use raspbox_beneath::File;
use raspbox_protocol::commit::Refusal;
use raspbox_protocol::patch::{Patch, Piece};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

/// Why it isn't put together.
enum Failed {
    /// The base can't be read as far as it should go; whatever the reason, nothing can be built on it.
    Base,
    /// What came, or what it is written to.
    Drive(io::Error),
}

/// The content that a patch makes with what came; `Err` inside where it makes none.
pub(crate) fn assemble(
    store: &Arc<Inner>,
    patch: &Patch,
    came: Staged,
) -> Result<Result<Staged, Refusal>, StoreError> {
    let sources = store.sources(patch.base(), patch.base_bytes())?;
    let Some(base) = sources.into_iter().find(|source| !source.damaged) else {
        return Ok(Err(Refusal::BadContent));
    };
    match copy(store, patch, base.file, came) {
        Ok(staged) => Ok(Ok(staged)),
        Err(Failed::Base) => Ok(Err(Refusal::BadContent)),
        Err(Failed::Drive(error)) => refusal_or_trouble(error).map(Err),
    }
}

fn copy(
    store: &Arc<Inner>,
    patch: &Patch,
    mut base: File,
    mut came: Staged,
) -> Result<Staged, Failed> {
    store
        .check_space(patch.len_bytes())
        .map_err(Failed::Drive)?;
    let mut whole = Staged::new(Arc::clone(store)).map_err(Failed::Drive)?;
    let came = came.rewound().map_err(Failed::Drive)?;
    for piece in patch.pieces() {
        store.step();
        match *piece {
            Piece::Copied { offset, len_bytes } => {
                copy_range(&mut base, offset, len_bytes, &mut whole)?;
            }
            // Where less came than was stated, what it makes has another hash.
            Piece::Sent { len_bytes } => {
                let appended = whole.append(came, len_bytes);
                appended.map_err(Failed::Drive)?;
            }
        }
    }
    Ok(whole)
}

/// Unlike [`Staged::append`], it tells a base that can't be read from a drive that can't be written to.
fn copy_range(
    base: &mut File,
    offset: u64,
    len_bytes: u64,
    into: &mut Staged,
) -> Result<(), Failed> {
    let sought = base.seek(SeekFrom::Start(offset));
    sought.map_err(|_| Failed::Base)?;
    let mut buffer = vec![0; PIECE_BYTES];
    let mut left = len_bytes;
    while left > 0 {
        let most = PIECE_BYTES.min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = match base.read(&mut buffer[..most]) {
            Ok(0) | Err(_) => return Err(Failed::Base),
            Ok(count) => count,
        };
        into.write_all(&buffer[..count]).map_err(Failed::Drive)?;
        left -= count as u64;
    }
    Ok(())
}
