//! Where the disk finds an entry by more than one name.

use super::place::{Done, Expected, done, looks_right};
use super::{Workspace, disk};
use raspbox_beneath::{Folder, Rename, Stat};
use raspbox_protocol::RelPath;
use std::io;

impl Workspace {
    /// Whether two paths are one entry in two spellings, of which the disk shows the first.
    ///
    /// # Errors
    /// Where the disk fails, or the folder can't be opened.
    pub fn is_respelling(&self, from: &RelPath, to: &RelPath) -> io::Result<bool> {
        if from.parent() != to.parent() {
            return Ok(false);
        }
        let parent = self.top.parent_of(from)?;
        let number = |stat: Stat| (stat.device, stat.inode);
        let (old, new) = (parent.stat(from.name())?, parent.stat(to.name())?);
        // Two names of one file, both of them shown, are two entries to a person.
        Ok(new.is_some()
            && old.map(number) == new.map(number)
            && !disk::shows(&self.disk, &parent, to.name())?)
    }

    /// Gives an entry another spelling of its name; `via` is its name in the staging folder meanwhile,
    /// from where [`Workspace::recover`] puts it in its place after a crash.
    ///
    /// By way of the staging folder, since to Linux a rename between two names of one entry is done
    /// already: it does nothing, and says that it worked.
    ///
    /// # Errors
    /// As for [`Workspace::rename`].
    pub fn respell(
        &self,
        from: &RelPath,
        to: &RelPath,
        via: &str,
        expected: Expected<'_>,
    ) -> io::Result<Done> {
        let parent = self.top.parent_of(from)?;
        if !looks_right(&parent, from, expected)? {
            return Ok(Done::Changed);
        }
        parent.rename(from.name(), &self.staging, via, Rename::Replace)?;
        match self.staging.rename_to_free(via, &parent, to.name()) {
            Ok(()) => {}
            // Somebody has made a new one there meanwhile: both stay.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.keep_beside(via, to)?;
                return Ok(Done::Changed);
            }
            Err(error) => {
                drop(self.staging.rename_to_free(via, &parent, from.name()));
                return Err(error);
            }
        }
        self.staging.sync()?;
        done(&parent, to)
    }

    /// Makes sure that what stands in the way at a path is what the path says, and not another entry
    /// whose name is the same to the disk: that one is ignored, or came after the look.
    pub(super) fn is_no_other(&self, parent: &Folder, path: &RelPath) -> io::Result<()> {
        if parent.stat(path.name())?.is_none() || disk::shows(&self.disk, parent, path.name())? {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "to {}, it is the same name as another one beside it; rename one of them",
            self.disk.called
        )))
    }
}
