//! Taking a content from what the appliance has, so that it needn't travel.
//!
//! It is copied, never linked: who writes into a file in place, on this machine or with the drive in
//! another one, must not write into a version. And it is hashed on the way, since what was kept for a
//! year may have rotted: then it is refused.
//!
//! No version is let go to make room for it: it could be the one that is asked for next. Where there is
//! no room for a copy, the kept content itself takes its place, and the versions that need it find it
//! there. So a drive that malware has filled is no trap: going back takes no room.

use crate::apply::{Batch, Stop};
use crate::beneath::{Folder, Onto, is_absent};
use crate::change::{Content, Expected, PutPlan, plan_put};
use crate::commit::refusal_or_trouble;
use crate::damage;
use crate::error::StoreError;
use crate::history::{self, End};
use crate::inner::Inner;
use crate::perform::{broken, refused};
use crate::rows;
use crate::staging::{PIECE_BYTES, Staged, set_executable};
use raspbox_beneath::unreadable;
use raspbox_protocol::commit::Refusal;
use raspbox_protocol::digest::Hasher;
use raspbox_protocol::{Digest, File, RelPath, Version};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

/// What came of looking for a content.
pub(crate) enum Brought {
    /// It was copied.
    Staged(Box<Staged>),
    /// It is kept and good, and there is no room for a copy.
    Kept,
    /// It can't be had.
    Refused(Refusal),
}

/// Why a content isn't to be had from one place.
enum Failed {
    /// It isn't what was saved any more; what it is, where that can be read.
    Damaged(Option<Digest>),
    /// There is no room for it.
    NoRoom,
    Other(io::Error),
}

/// Brings a content that is kept, or that another file has.
pub(crate) fn bring(store: &Arc<Inner>, file: &File) -> Result<Brought, StoreError> {
    let (mut damaged, mut full) = (false, false);
    for mut source in store.sources(&file.digest, file.size)? {
        if source.damaged {
            damaged = true;
            continue;
        }
        store.step();
        let brought = match (copy(store, &mut source.file, file), &source.live) {
            (Ok(staged), _) => Ok(Brought::Staged(Box::new(staged))),
            (Err(Failed::NoRoom), None) => check(&mut source.file, file).map(|()| Brought::Kept),
            (Err(failed), _) => Err(failed),
        };
        match brought {
            Ok(brought) => {
                store.step();
                return Ok(brought);
            }
            Err(Failed::NoRoom) => full = true,
            Err(Failed::Damaged(found)) => {
                damaged = true;
                match &source.live {
                    Some((path, row)) => drop(store.suspect(path, row, found.as_ref())?),
                    None => store.mark_kept(&file.digest, found.as_ref())?,
                }
            }
            Err(Failed::Other(error)) => return refusal_or_trouble(error).map(Brought::Refused),
        }
    }
    Ok(Brought::Refused(if full {
        Refusal::NoSpace
    } else if damaged {
        Refusal::Failed(
            "the drive has damaged this version, it isn't what was saved any more".into(),
        )
    } else {
        Refusal::Failed("this version isn't kept any more".into())
    }))
}

fn copy(
    store: &Arc<Inner>,
    from: &mut raspbox_beneath::File,
    file: &File,
) -> Result<Staged, Failed> {
    if store.faults.no_copies {
        return Err(Failed::NoRoom);
    }
    let to_room = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failed::NoRoom,
        _ => Failed::Other(error),
    };
    store.check_free(file.size).map_err(to_room)?;
    let mut staged = Staged::new(Arc::clone(store))
        .map_err(to_room)?
        .sparing_versions();
    store.step();
    read(from, file.size, &mut |piece| {
        staged.write_all(piece).map_err(to_room)
    })?;
    if staged.digest() == file.digest && staged.len_bytes() == file.size {
        Ok(staged)
    } else {
        Err(Failed::Damaged(Some(staged.digest())))
    }
}

fn check(from: &mut raspbox_beneath::File, file: &File) -> Result<(), Failed> {
    let mut hasher = Hasher::new();
    read(from, file.size, &mut |piece| {
        hasher.update(piece);
        Ok(())
    })?;
    if hasher.digest() == file.digest {
        Ok(())
    } else {
        Err(Failed::Damaged(Some(hasher.digest())))
    }
}

/// Reads a content from its beginning, and one byte more than it should have, to see that it hasn't.
fn read(
    from: &mut raspbox_beneath::File,
    size: u64,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failed>,
) -> Result<(), Failed> {
    from.seek(SeekFrom::Start(0)).map_err(Failed::Other)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = size.saturating_add(1);
    while left > 0 {
        let most = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = match from.read(&mut piece[..most]) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if unreadable(&error) => return Err(Failed::Damaged(None)),
            Err(error) => return Err(Failed::Other(error)),
        };
        take(&piece[..count])?;
        left -= count as u64;
    }
    Ok(())
}

impl Batch<'_> {
    /// Gives a kept content its name. At every moment it is under one of the two; its versions find it
    /// by its hash.
    pub(crate) fn put_back(
        &mut self,
        path: &RelPath,
        expected: Expected,
        file: &File,
        aside: Option<&str>,
    ) -> Result<Version, Stop> {
        self.check_name(path)?;
        let row = rows::get(self.tx.db, path)?;
        let damaged = match &row {
            Some(row) => damage::is_marked(self.tx.db, path, row)?,
            None => false,
        };
        let content = Content::File {
            file: *file,
            keep_mode: false,
        };
        let plan = plan_put(path, row.as_ref(), damaged, expected, &content)?;
        let folder = self.folders.parent(path)?;
        if let (PutPlan::Done(version), Some(row)) = (&plan, &row) {
            self.secure(path, folder, row)?;
            return Ok(*version);
        }
        let name = file.digest.to_string();
        let shelf = self.dress_kept(path, file, &name)?;
        let before = shelf.look(&name).map_err(|e| refused(path, e))?;
        let entry = match (plan, row, aside) {
            (PutPlan::Fresh(entry), _, _) => {
                self.store.step();
                self.take_name(&shelf, &name, &folder, path)?;
                entry
            }
            (PutPlan::Replace(entry), Some(row), Some(_)) if row.is_missing() => {
                self.store.step();
                self.take_name(&shelf, &name, &folder, path)?;
                history::displace(self.tx, Some(path), &row, End::Replaced, self.by)?;
                entry
            }
            (PutPlan::Replace(entry), Some(row), Some(aside)) => {
                self.take_away(path, &folder, aside, &row)?;
                self.store.step();
                if let Err(error) = shelf.rename(&name, &folder, path.name(), Onto::Nothing) {
                    let staging = &self.store.own.staging;
                    let back = staging.rename(aside, &folder, path.name(), Onto::Nothing);
                    back.map_err(|e| broken(path, e))?;
                    return Err(refused(path, error));
                }
                self.store.step();
                self.displace(aside, path, &row, End::Replaced)?;
                entry
            }
            // It came to stand there within this batch.
            (PutPlan::Replace(_) | PutPlan::Done(_), _, _) => {
                return Err(StoreError::Changed(path.clone()).into());
            }
        };
        // Its shelf has changed, too.
        self.kept.push(file.digest);
        self.note_put(path, folder, entry, before.as_ref())
    }

    /// Gives a kept content the time and the executable bit that it will have.
    fn dress_kept(&self, path: &RelPath, file: &File, name: &str) -> Result<Folder, Stop> {
        let dress = || {
            let shelf = self.store.own.versions.below(&name[..2])?;
            let open = shelf.open(name)?;
            set_executable(&open, file.executable)?;
            open.set_mtime(file.mtime)?;
            self.store.durable(open.sync_all())?;
            Ok(shelf)
        };
        dress().map_err(|error: io::Error| {
            Stop::Refused(if is_absent(&error) {
                // Another of the same content has just taken it, or it was let go.
                StoreError::NoSpace
            } else {
                StoreError::io(path, error)
            })
        })
    }
}
