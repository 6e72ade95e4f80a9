//! Making one change on the disk, and writing its rows.
//!
//! Each first decides by the rows, then acts in a way in which the kernel says whether the disk is
//! as the rows say, and then looks at what was *displaced*: if that isn't what its row says, somebody
//! wrote in between, it is put back, and the change is refused.

use crate::apply::{Batch, Stop, clash};
use crate::beneath::{Folder, Look, Onto};
use crate::change::{Change, Content, Expected, Only, PutPlan, check_expected, plan_put};
use crate::damage;
use crate::error::StoreError;
use crate::history::{self, End};
use crate::rows::{self, Row};
use crate::staging::set_executable;
use nix::libc;
use raspbox_protocol::{Entry, File, Mtime, RelPath, Version};
use std::io;
use std::rc::Rc;

impl Batch<'_> {
    /// Makes one change; `aside` is the staged name of its intent, where it has one.
    pub(crate) fn perform(
        &mut self,
        change: &Change,
        aside: Option<&str>,
    ) -> Result<Version, Stop> {
        match change {
            Change::Put {
                path,
                expected,
                content,
                staged,
            } => self.put(path, *expected, content, staged, aside.is_some()),
            Change::PutBack {
                path,
                expected,
                file,
            } => self.put_back(path, *expected, file, aside),
            Change::Keep { path, file, staged } => self.keep_past(path, file, staged),
            Change::MakeFolder { path, expected } => self.make_folder(path, *expected),
            Change::Delete {
                path,
                expected,
                only,
            } => self.delete(path, *expected, *only, aside),
            Change::Move { from, expected, to } => self.rename(from, *expected, to, aside),
            Change::SetMeta {
                path,
                expected,
                mtime,
                executable,
            } => self.set_meta(path, *expected, *mtime, *executable),
            Change::Refused(_) => Err(StoreError::BadRequest("refused").into()),
        }
    }

    fn put(
        &mut self,
        path: &RelPath,
        expected: Expected,
        content: &Content,
        staged: &str,
        intended: bool,
    ) -> Result<Version, Stop> {
        self.check_name(path)?;
        let row = rows::get(self.tx.db, path)?;
        let damaged = match &row {
            Some(row) => damage::is_marked(self.tx.db, path, row)?,
            None => false,
        };
        let plan = plan_put(path, row.as_ref(), damaged, expected, content)?;
        let folder = self.folders.parent(path)?;
        let before = self.store.own.staging.look(staged);
        let before = before.map_err(|e| refused(path, e))?;
        let entry = match (plan, row) {
            (PutPlan::Done(version), Some(row)) => {
                self.secure(path, folder, &row)?;
                self.disposable.push(staged.to_owned());
                return Ok(version);
            }
            (PutPlan::Fresh(entry), _) => {
                self.dress(staged, content, &entry)?;
                self.store.step();
                self.take_name(&self.store.own.staging, staged, &folder, path)?;
                entry
            }
            (PutPlan::Replace(entry), Some(row)) if intended => {
                self.dress(staged, content, &entry)?;
                self.replace(path, &folder, staged, &row)?;
                entry
            }
            // It came to stand there within this batch.
            (PutPlan::Replace(_) | PutPlan::Done(_), _) => {
                return Err(StoreError::Changed(path.clone()).into());
            }
        };
        self.note_put(path, folder, entry, before.as_ref())
    }

    /// Makes what stands there durable: whoever wrote it by other means has perhaps not, and our own
    /// copy of it is dropped. Each by itself, since it was written before anything here watched.
    pub(crate) fn secure(
        &mut self,
        path: &RelPath,
        folder: Rc<Folder>,
        row: &Row,
    ) -> Result<(), Stop> {
        if row.digest().is_some() {
            let file = folder.open(path.name()).map_err(|e| refused(path, e))?;
            let look = Look::of(&file).map_err(|e| refused(path, e))?;
            if !row.fits_now(&look, &self.store.disk) {
                return Err(StoreError::Changed(path.clone()).into());
            }
            self.store
                .durable(file.sync_all())
                .map_err(|e| refused(path, e))?;
        }
        self.touch(path, folder);
        Ok(())
    }

    /// Writes the row of what was just given its name; `before` is what it looked like then.
    pub(crate) fn note_put(
        &mut self,
        path: &RelPath,
        folder: Rc<Folder>,
        entry: Entry,
        before: Option<&Look>,
    ) -> Result<Version, Stop> {
        self.store.step();
        let look = self.stands(&folder, path)?;
        let version = self.tx.next();
        let row = Row::new(self.tx, entry, version, self.by, before.unwrap_or(&look))?;
        if let Some(digest) = row.digest()
            && damage::unmark(self.tx, Some(path), &digest)?
        {
            tracing::info!(%path, "repaired");
        }
        rows::put(self.tx, path, &row.seen(&look, &self.store.disk))?;
        self.touch(path, folder);
        Ok(version)
    }

    /// Gives a staged content the place of what stands there.
    fn replace(
        &mut self,
        path: &RelPath,
        folder: &Folder,
        staged: &str,
        row: &Row,
    ) -> Result<(), Stop> {
        let store = self.store;
        let staging = &store.own.staging;
        let name = path.name();
        if row.is_missing() {
            store.step();
            self.take_name(staging, staged, folder, path)?;
            return Ok(history::displace(
                self.tx,
                Some(path),
                row,
                End::Replaced,
                self.by,
            )?);
        }
        if store.may_exchange() {
            store.step();
            match staging.rename(staged, folder, name, Onto::Exchange) {
                Ok(()) => {
                    store.step();
                    if !self.is_displaced(staged, path, row)? {
                        let back = staging.rename(staged, folder, name, Onto::Exchange);
                        back.map_err(|e| broken(path, e))?;
                        return Err(StoreError::Changed(path.clone()).into());
                    }
                    return self.displace(staged, path, row, End::Replaced);
                }
                Err(error) if cannot_exchange(&error) => {}
                Err(error) => return Err(refused(path, error)),
            }
        }
        let old = old_name(staged);
        self.take_away(path, folder, &old, row)?;
        store.step();
        if let Err(error) = staging.rename(staged, folder, name, Onto::Nothing) {
            let back = staging.rename(&old, folder, name, Onto::Nothing);
            back.map_err(|e| broken(path, e))?;
            return Err(refused(path, error));
        }
        store.step();
        self.displace(&old, path, row, End::Replaced)
    }

    fn make_folder(&mut self, path: &RelPath, expected: Expected) -> Result<Version, Stop> {
        self.check_name(path)?;
        match (rows::get(self.tx.db, path)?, expected) {
            (Some(_), Expected::Any) => return Err(StoreError::Exists(path.clone()).into()),
            (Some(row), _) if row.entry == Entry::Folder => return Ok(row.version),
            (Some(_), _) => return Err(StoreError::Changed(path.clone()).into()),
            (None, _) => {}
        }
        let folder = self.folders.parent(path)?;
        self.store.step();
        match folder.make_folder(path.name()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(self.taken(&folder, path)?.into());
            }
            result => result.map_err(|e| refused(path, e))?,
        }
        self.store.step();
        let look = self.stands(&folder, path)?;
        let version = self.tx.next();
        let row = Row::new(self.tx, Entry::Folder, version, self.by, &look)?;
        rows::put(self.tx, path, &row)?;
        self.touch(path, folder);
        Ok(version)
    }

    fn delete(
        &mut self,
        path: &RelPath,
        expected: Expected,
        only: Only,
        aside: Option<&str>,
    ) -> Result<Version, Stop> {
        let Some(row) = rows::get(self.tx.db, path)? else {
            return match expected {
                Expected::Any => Err(StoreError::NotFound(path.clone()).into()),
                Expected::Absent | Expected::Version(_) => {
                    let buried = rows::tombstone(self.tx.db, path)?;
                    Ok(buried.unwrap_or(Version(self.tx.seq())))
                }
            };
        };
        match (only, &row.entry) {
            (Only::Files, Entry::Folder) => return Err(StoreError::NotAFile(path.clone()).into()),
            (Only::Folders, Entry::File(_) | Entry::Symlink(_)) => {
                return Err(StoreError::NotAFolder(path.clone()).into());
            }
            (Only::Files | Only::Folders | Only::Anything, _) => {}
        }
        check_expected(path, &row, expected)?;
        let folder = self.folders.parent(path)?;
        if row.is_missing() {
            history::displace(self.tx, Some(path), &row, End::Deleted, self.by)?;
        } else if row.entry == Entry::Folder {
            self.store.step();
            match folder.remove_folder(path.name()) {
                Err(error) if is_not_empty(&error) => {
                    return Err(StoreError::NotEmpty(path.clone()).into());
                }
                result => result.map_err(|e| refused(path, e))?,
            }
            self.folders.forget();
            history::displace_tree(self.tx, path, End::Deleted, self.by)?;
        } else {
            let aside = aside.ok_or_else(|| StoreError::Changed(path.clone()))?;
            self.take_away(path, &folder, aside, &row)?;
            self.store.step();
            self.displace(aside, path, &row, End::Deleted)?;
        }
        self.store.step();
        let version = self.tx.next();
        rows::bury_tree(self.tx, path, version)?;
        self.touch(path, folder);
        Ok(version)
    }

    fn set_meta(
        &mut self,
        path: &RelPath,
        expected: Expected,
        mtime: Option<Mtime>,
        executable: Option<bool>,
    ) -> Result<Version, Stop> {
        let row = match (rows::get(self.tx.db, path)?, expected) {
            (Some(row), _) => row,
            (None, Expected::Any) => return Err(StoreError::NotFound(path.clone()).into()),
            (None, _) => return Err(StoreError::Changed(path.clone()).into()),
        };
        let Entry::File(old) = row.entry else {
            return Err(StoreError::NotAFile(path.clone()).into());
        };
        check_expected(path, &row, expected)?;
        let new = File {
            mtime: mtime.unwrap_or(old.mtime),
            executable: executable.unwrap_or(old.executable),
            ..old
        };
        if new == old {
            return Ok(row.version);
        }
        if row.is_missing() {
            return Err(StoreError::Damaged(path.clone()).into());
        }
        let folder = self.folders.parent(path)?;
        let trouble = |e| refused(path, e);
        let file = folder.open(path.name()).map_err(trouble)?;
        if !row.fits_now(&Look::of(&file).map_err(trouble)?, &self.store.disk) {
            return Err(StoreError::Changed(path.clone()).into());
        }
        self.store.step();
        if new.executable != old.executable {
            set_executable(&file, new.executable).map_err(trouble)?;
        }
        self.store.step();
        // Also where it stays: on some filesystems the other call alone would round it.
        if mtime.is_some() {
            file.set_mtime(new.mtime).map_err(trouble)?;
        }
        self.store.step();
        self.store.durable(file.sync_all()).map_err(trouble)?;
        let look = Look::of(&file).map_err(trouble)?;
        let version = self.tx.next();
        let mut new_row = Row::new(self.tx, Entry::File(new), version, self.by, &look)?;
        if new.executable == old.executable {
            // A touch is no edit.
            new_row.since_ns = row.since_ns;
        } else {
            history::displace(self.tx, Some(path), &row, End::Replaced, self.by)?;
        }
        rows::put(self.tx, path, &new_row)?;
        Ok(version)
    }

    /// Moves what stands under a name to a staged one, unless it isn't what its row says.
    pub(crate) fn take_away(
        &self,
        path: &RelPath,
        folder: &Folder,
        aside: &str,
        row: &Row,
    ) -> Result<(), Stop> {
        let staging = &self.store.own.staging;
        self.store.step();
        let away = folder.rename(path.name(), staging, aside, Onto::Nothing);
        away.map_err(|e| refused(path, e))?;
        self.store.step();
        if self.is_displaced(aside, path, row)? {
            return Ok(());
        }
        let back = staging.rename(aside, folder, path.name(), Onto::Nothing);
        back.map_err(|e| broken(path, e))?;
        Err(StoreError::Changed(path.clone()).into())
    }

    /// Whether what stands under a staged name is what the row of a path says.
    fn is_displaced(&self, staged: &str, path: &RelPath, row: &Row) -> Result<bool, Stop> {
        let look = self.store.own.staging.look(staged);
        let look = look.map_err(|e| Stop::Broken(StoreError::io(staged, e)))?;
        match look {
            Some(look) => self.is_as_known(path, row, &look),
            None => Ok(false),
        }
    }

    /// Whether something is what the row of a path says, wherever it stands now, or what is known to be
    /// damaged there.
    pub(crate) fn is_as_known(&self, path: &RelPath, row: &Row, look: &Look) -> Result<bool, Stop> {
        Ok(row.fits_moved(look, &self.store.disk)
            || (row.fits_damaged(look) && damage::is_marked(self.tx.db, path, row)?))
    }

    /// Keeps what was displaced as a version.
    pub(crate) fn displace(
        &mut self,
        staged: &str,
        path: &RelPath,
        row: &Row,
        end: End<'_>,
    ) -> Result<(), Stop> {
        if !damage::is_doubted(self.tx.db, path, row)? {
            return self.keep(staged, path, row, end);
        }
        // Its row says what it should be; it is kept as what it is.
        let as_it_is = damage::as_it_is(self.store, staged, row);
        let Some(as_it_is) = as_it_is.map_err(|e| broken(path, e))? else {
            let aside = self.store.keep_unreadable(staged);
            aside.map_err(|e| broken(path, e))?;
            return Ok(history::displace(self.tx, Some(path), row, end, self.by)?);
        };
        self.keep(staged, path, &as_it_is, end)?;
        if let Some(digest) = as_it_is
            .digest()
            .filter(|found| row.digest() != Some(*found))
        {
            damage::mark_kept(self.tx, &digest, Some(&digest))?;
        }
        Ok(())
    }

    fn keep(&mut self, staged: &str, path: &RelPath, row: &Row, end: End<'_>) -> Result<(), Stop> {
        let left = self
            .store
            .keep(staged, &row.entry)
            .map_err(|e| broken(path, e))?;
        if left {
            self.disposable.push(staged.to_owned());
        }
        if let Some(digest) = row.digest() {
            damage::unmark(self.tx, None, &digest)?;
        }
        self.kept.extend(row.digest().filter(|_| !left));
        Ok(history::displace(self.tx, Some(path), row, end, self.by)?)
    }

    /// Renames to a name at which nothing may stand.
    pub(crate) fn take_name(
        &self,
        folder: &Folder,
        name: &str,
        to_folder: &Folder,
        to: &RelPath,
    ) -> Result<(), Stop> {
        match folder.rename(name, to_folder, to.name(), Onto::Nothing) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(self.taken(to_folder, to)?.into())
            }
            result => result.map_err(|e| refused(to, e)),
        }
    }

    /// The error for a name that is taken though it has no row.
    fn taken(&self, folder: &Folder, path: &RelPath) -> Result<StoreError, Stop> {
        if self.folders.spelled_so(folder, path)? {
            Ok(StoreError::Changed(path.clone()))
        } else {
            Ok(clash(path))
        }
    }

    /// Gives a staged file the executable bit of what it replaces; all else it has already.
    fn dress(&self, staged: &str, content: &Content, entry: &Entry) -> Result<(), Stop> {
        let (Content::File { file, .. }, Entry::File(new)) = (content, entry) else {
            return Ok(());
        };
        if file.executable == new.executable {
            return Ok(());
        }
        let dress = || {
            let file = self.store.own.staging.open(staged)?;
            set_executable(&file, new.executable)?;
            file.sync_all()
        };
        dress().map_err(|e| StoreError::io(staged, e).into())
    }

    pub(crate) fn check_name(&self, path: &RelPath) -> Result<(), StoreError> {
        match self.store.disk.refuses_name(path) {
            None => Ok(()),
            Some(why) => Err(StoreError::CannotHold {
                path: path.clone(),
                why: why.into(),
            }),
        }
    }

    pub(crate) fn stands(&self, folder: &Folder, path: &RelPath) -> Result<Look, Stop> {
        match folder.look(path.name()) {
            Ok(Some(look)) => Ok(look),
            Ok(None) => Err(Stop::Broken(StoreError::NotFound(path.clone()))),
            Err(error) => Err(broken(path, error)),
        }
    }

    pub(crate) fn touch(&mut self, path: &RelPath, folder: Rc<Folder>) {
        self.touched.insert(path.parent(), folder);
    }
}

/// Where what a staged content replaces goes, where names can't be exchanged.
pub(crate) fn old_name(staged: &str) -> String {
    format!("old-{staged}")
}

pub(crate) fn broken(path: &RelPath, error: io::Error) -> Stop {
    Stop::Broken(StoreError::io(path, error))
}

/// The drive refused, and nothing was changed. What isn't there any more was changed by others.
pub(crate) fn refused(path: &RelPath, error: io::Error) -> Stop {
    let changed = crate::beneath::is_absent(&error)
        || matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EISDIR));
    Stop::Refused(if changed {
        StoreError::Changed(path.clone())
    } else {
        StoreError::io(path, error)
    })
}

pub(crate) fn cannot_exchange(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(code, Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP))
}

fn is_not_empty(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST))
}

#[cfg(test)]
mod tests {
    use super::{StoreError, io, libc, refused};
    use raspbox_protocol::RelPath;

    #[test]
    fn what_others_changed_is_told_from_what_the_drive_refuses() {
        let path = RelPath::parse("a").expect("a good path");
        let told = |code| match refused(&path, io::Error::from_raw_os_error(code)) {
            super::Stop::Refused(error) => error,
            stop @ super::Stop::Broken(_) => panic!("nothing was changed: {stop:?}"),
        };
        for code in [libc::ENOENT, libc::ENOTDIR, libc::EEXIST, libc::EISDIR] {
            assert!(matches!(told(code), StoreError::Changed(_)), "{code}");
        }
        assert!(matches!(told(libc::ENOSPC), StoreError::NoSpace));
        assert!(matches!(told(libc::EIO), StoreError::NotNow(_)));
        assert!(matches!(told(libc::EACCES), StoreError::Io { .. }));
    }
}
