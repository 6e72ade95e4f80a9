//! Moving a file, a symlink or a folder, to a free name or over a file.

use crate::apply::{Batch, Stop};
use crate::beneath::{Folder, Look, Onto};
use crate::change::{Expected, check_expected};
use crate::error::StoreError;
use crate::history::{self, End};
use crate::perform::{broken, cannot_exchange, refused};
use crate::rows::{self, Row};
use raspbox_protocol::{Entry, RelPath, Version};

impl Batch<'_> {
    /// Moves what stands at a path; over a file or symlink only where `aside` is its staged name.
    pub(crate) fn rename(
        &mut self,
        from: &RelPath,
        expected: Expected,
        to: &RelPath,
        aside: Option<&str>,
    ) -> Result<Version, Stop> {
        let standing = rows::get(self.tx.db, to)?;
        let Some(row) = rows::get(self.tx.db, from)? else {
            let buried = rows::tombstone(self.tx.db, from)?;
            return match (expected, standing) {
                (Expected::Any, _) => Err(StoreError::NotFound(from.clone()).into()),
                (_, Some(there)) if buried == Some(there.version) => Ok(there.version),
                (_, _) => Err(StoreError::Changed(from.clone()).into()),
            };
        };
        check_expected(from, &row, expected)?;
        if from == to {
            return Ok(row.version);
        }
        if row.is_missing() {
            return Err(StoreError::Damaged(from.clone()).into());
        }
        self.check_name(to)?;
        self.check_moved(from, &row, to)?;
        let from_folder = self.folders.parent(from)?;
        let to_folder = self.folders.parent(to)?;
        match (&standing, expected, aside) {
            (None, _, Some(aside)) if self.is_one_entry(&from_folder, from, to)? => {
                self.respell(from, &from_folder, &row, to, aside)?;
            }
            (None, _, _) => self.move_to_free(from, &from_folder, &row, to, &to_folder)?,
            (Some(there), Expected::Any, Some(_))
                if there.is_missing() && row.entry != Entry::Folder =>
            {
                self.move_to_free(from, &from_folder, &row, to, &to_folder)?;
                history::displace(self.tx, Some(to), there, End::Replaced, self.by)?;
            }
            (Some(_), Expected::Absent | Expected::Version(_), _) => {
                return Err(StoreError::Changed(to.clone()).into());
            }
            (Some(there), Expected::Any, Some(aside))
                if there.entry != Entry::Folder && row.entry != Entry::Folder =>
            {
                let places = [(from, &*from_folder), (to, &*to_folder)];
                self.move_over(places, [&row, there], aside)?;
            }
            (Some(_), Expected::Any, _) => return Err(StoreError::Exists(to.clone()).into()),
        }
        self.store.step();
        let look = self.stands(&to_folder, to)?;
        let version = self.tx.next();
        history::displace_tree(self.tx, from, End::Moved(to), self.by)?;
        rows::move_tree(self.tx, from, to, version, self.by)?;
        if row.entry == Entry::Folder {
            self.folders.forget();
        } else {
            let moved = Row {
                since_ns: self.tx.now()?,
                version,
                by: self.by.to_owned(),
                ..row
            };
            rows::put(self.tx, to, &moved.seen(&look, &self.store.disk))?;
        }
        self.touch(from, from_folder);
        self.touch(to, to_folder);
        Ok(version)
    }

    fn move_to_free(
        &self,
        from: &RelPath,
        from_folder: &Folder,
        row: &Row,
        to: &RelPath,
        to_folder: &Folder,
    ) -> Result<(), Stop> {
        self.store.step();
        self.take_name(from_folder, from.name(), to_folder, to)?;
        let look = self.stands(to_folder, to)?;
        if !self.is_as_known(from, row, &look)? {
            let back = to_folder.rename(to.name(), from_folder, from.name(), Onto::Nothing);
            back.map_err(|e| broken(from, e))?;
            return Err(StoreError::Changed(from.clone()).into());
        }
        Ok(())
    }

    /// Whether two names in a folder are one entry to the filesystem. Not where it minds the case of
    /// accented letters only, as Linux's FAT does: then they are two, and one may be nobody's we know.
    fn is_one_entry(&self, folder: &Folder, from: &RelPath, to: &RelPath) -> Result<bool, Stop> {
        if !self.store.is_respelling(from, to) {
            return Ok(false);
        }
        let look = |path: &RelPath| folder.look(path.name()).map_err(|e| refused(path, e));
        let inode = |look: Look| look.print.inode;
        let (old, new) = (look(from)?, look(to)?);
        Ok(new.is_some() && old.map(inode) == new.map(inode))
    }

    /// Gives an entry another spelling of its name, by way of its intent's staged name: to Linux a rename
    /// between two names of one entry is done already; it does nothing, and says that it worked.
    fn respell(
        &self,
        from: &RelPath,
        folder: &Folder,
        row: &Row,
        to: &RelPath,
        aside: &str,
    ) -> Result<(), Stop> {
        self.take_away(from, folder, aside, row)?;
        self.store.step();
        let staging = &self.store.own.staging;
        if let Err(error) = staging.rename(aside, folder, to.name(), Onto::Nothing) {
            let back = staging.rename(aside, folder, from.name(), Onto::Nothing);
            back.map_err(|e| broken(from, e))?;
            return Err(refused(to, error));
        }
        Ok(())
    }

    /// Moves a file or symlink over another one, so that the new name is never absent.
    fn move_over(
        &mut self,
        [(from, from_folder), (to, to_folder)]: [(&RelPath, &Folder); 2],
        [row, there]: [&Row; 2],
        aside: &str,
    ) -> Result<(), Stop> {
        let store = self.store;
        if store.may_exchange() {
            store.step();
            let exchange = || from_folder.rename(from.name(), to_folder, to.name(), Onto::Exchange);
            match exchange() {
                Ok(()) => {
                    store.step();
                    let (new, old) = (self.stands(to_folder, to)?, self.stands(from_folder, from)?);
                    if !self.is_as_known(from, row, &new)? || !self.is_as_known(to, there, &old)? {
                        exchange().map_err(|e| broken(to, e))?;
                        return Err(StoreError::Changed(to.clone()).into());
                    }
                    let staging = &store.own.staging;
                    let away = from_folder.rename(from.name(), staging, aside, Onto::Nothing);
                    away.map_err(|e| broken(from, e))?;
                    store.step();
                    return self.displace(aside, to, there, End::Replaced);
                }
                Err(error) if cannot_exchange(&error) => {}
                Err(error) => return Err(refused(to, error)),
            }
        }
        self.take_away(to, to_folder, aside, there)?;
        store.step();
        if let Err(error) = from_folder.rename(from.name(), to_folder, to.name(), Onto::Nothing) {
            let back = store
                .own
                .staging
                .rename(aside, to_folder, to.name(), Onto::Nothing);
            back.map_err(|e| broken(to, e))?;
            return Err(refused(from, error));
        }
        store.step();
        self.displace(aside, to, there, End::Replaced)
    }

    /// Checks that everything that moves has a legal path afterwards.
    fn check_moved(&self, from: &RelPath, row: &Row, to: &RelPath) -> Result<(), Stop> {
        let cannot = |why: &str| {
            Stop::Refused(StoreError::CannotHold {
                path: to.clone(),
                why: why.into(),
            })
        };
        if row.entry != Entry::Folder {
            return Ok(());
        }
        if to.is_in(from) {
            return Err(cannot("a folder can't move into itself"));
        }
        let mut after: Option<RelPath> = None;
        loop {
            let page = rows::page(self.tx.db, Some(from), after.as_ref(), 1_000)?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            if page.iter().any(|(path, _)| path.moved(from, to).is_none()) {
                return Err(cannot("a path in it would get too long"));
            }
            after = Some(last.clone());
        }
    }
}
