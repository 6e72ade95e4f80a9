//! Taking a content from what the appliance has, so that it needn't travel.
//!
//! It is copied, never linked or moved out of the versions: who writes into a file in place, on this
//! machine or with the drive in another one, must not write into a version. And it is hashed on the
//! way, since what was kept for a year may have rotted: then it is refused.
//!
//! No version is let go to make room for it. It could be the one that is asked for next.

use crate::commit::refusal_or_trouble;
use crate::error::StoreError;
use crate::inner::Inner;
use crate::staging::{PIECE_BYTES, Staged};
use raspbox_beneath::unreadable;
use raspbox_protocol::File;
use raspbox_protocol::commit::Refusal;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Stages a content that is kept, or that another file has.
pub(crate) fn stage_kept(
    store: &Arc<Inner>,
    file: &File,
) -> Result<Result<Staged, Refusal>, StoreError> {
    if let Err(error) = store.check_free(file.size) {
        return refusal_or_trouble(error).map(Err);
    }
    let mut damaged = false;
    for source in store.sources(&file.digest, file.size)? {
        damaged = true;
        if source.damaged {
            continue;
        }
        store.step();
        let mut staged = match Staged::new(Arc::clone(store)) {
            Ok(staged) => staged.sparing_versions(),
            Err(error) => return refusal_or_trouble(error).map(Err),
        };
        store.step();
        let found = match copy(source.file, &mut staged, file.size) {
            Ok(()) if staged.digest() == file.digest && staged.len_bytes() == file.size => {
                store.step();
                return Ok(Ok(staged));
            }
            Ok(()) => Some(staged.digest()),
            Err(Failed::Read(error)) if unreadable(&error) => None,
            Err(Failed::Read(error) | Failed::Write(error)) => {
                return refusal_or_trouble(error).map(Err);
            }
        };
        drop(staged);
        match &source.live {
            Some((path, row)) => drop(store.suspect(path, row, found.as_ref())?),
            None => store.mark_kept(&file.digest, found.as_ref())?,
        }
    }
    let why = if damaged {
        "the drive has damaged this version, it isn't what was saved any more"
    } else {
        "this version isn't kept any more"
    };
    Ok(Err(Refusal::Failed(why.into())))
}

/// Which side failed: a damaged version is one thing, a full drive another.
enum Failed {
    Read(io::Error),
    Write(io::Error),
}

fn copy(mut from: raspbox_beneath::File, to: &mut Staged, size: u64) -> Result<(), Failed> {
    let mut piece = vec![0; PIECE_BYTES];
    // One byte more than it should have, to see that it hasn't.
    let mut left = size.saturating_add(1);
    while left > 0 {
        let most = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = match from.read(&mut piece[..most]) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failed::Read(error)),
        };
        to.write_all(&piece[..count]).map_err(Failed::Write)?;
        left -= count as u64;
    }
    Ok(())
}
