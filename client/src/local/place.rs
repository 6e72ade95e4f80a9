//! Changing the local folder, so that no edit is ever lost.
//!
//! People and programs write here while we do, and there is no lock. So nothing is replaced or
//! removed on the strength of an old look: the new content is made complete out of sight, both
//! change places in one step, and then what was *displaced* is looked at. If it isn't what the plan
//! assumed, it is an edit, and becomes a conflict copy beside the new one.

use super::{FOLDER_MODE, Signature, Staged, Workspace};
use crate::scan::{Seen, read_file};
use crate::state::Print;
use raspbox_beneath::{Folder, Kind, Rename, Stat, random_name};
use raspbox_core::names::conflict_name;
use raspbox_protocol::{Entry, LinkTarget, RelPath};
use std::cell::Cell;
use std::ffi::OsStr;
use std::io;

/// What a plan assumes of a local entry.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// What it is.
    pub entry: &'a Entry,
    /// What it looked like.
    pub seen: Seen,
}

/// How a change went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// As planned; what the new entry looks like, where there is one.
    AsPlanned(Print),
    /// As planned, but what it displaced was an edit, which is now this conflict copy.
    KeptEdit(Print, RelPath),
    /// Nothing was done: something else is there than the plan assumed. Look again.
    Changed,
}

impl Workspace {
    /// Gives a whole and durable content its time, bits and name.
    ///
    /// # Errors
    /// Where the disk fails, or the folder to put it in can't be opened. The content that was there
    /// is still there.
    pub fn place_file(
        &self,
        staged: &Staged,
        path: &RelPath,
        file: &raspbox_protocol::File,
        expected: Option<Expected<'_>>,
    ) -> io::Result<Done> {
        let name = staged.new_name();
        let parent = self.top.parent_of(path)?;
        let mode = self.mode(&parent, path, file.executable);
        drop(self.staging.set_mode(&name, mode));
        self.staging.set_mtime(&name, file.mtime)?;
        self.place(&name, &parent, path, expected)
    }

    /// Makes a symlink, or replaces what the plan assumes by one.
    ///
    /// # Errors
    /// As for [`Workspace::place_file`], and where the filesystem has no symlinks.
    pub fn place_symlink(
        &self,
        path: &RelPath,
        target: &LinkTarget,
        expected: Option<Expected<'_>>,
    ) -> io::Result<Done> {
        let parent = self.top.parent_of(path)?;
        let name = format!("{}.new", random_name());
        self.staging
            .make_symlink(OsStr::new(target.as_str()), &name)?;
        self.place(&name, &parent, path, expected)
    }

    /// Makes a folder.
    ///
    /// # Errors
    /// Where the disk fails, or the folder to put it in can't be opened.
    pub fn make_folder(&self, path: &RelPath) -> io::Result<Done> {
        let parent = self.top.parent_of(path)?;
        match parent.make_folder(path.name(), FOLDER_MODE) {
            Ok(()) => done(&parent, path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.is_no_other(&parent, path)?;
                match parent.stat(path.name())? {
                    Some(stat) if stat.kind == Kind::Folder => {
                        Ok(Done::AsPlanned(Print::from(&stat)))
                    }
                    Some(_) | None => Ok(Done::Changed),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Removes an empty folder. [`Done::Changed`] where it isn't empty.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn remove_folder(&self, path: &RelPath) -> io::Result<Done> {
        match self
            .top
            .parent_of(path)
            .and_then(|parent| parent.remove_folder(path.name()))
        {
            Ok(()) => Ok(Done::AsPlanned(Print::default())),
            Err(error) if raspbox_beneath::absent(&error) => Ok(Done::AsPlanned(Print::default())),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(Done::Changed),
            Err(error) => Err(error),
        }
    }

    /// Removes a file or symlink.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn remove_file(&self, path: &RelPath, expected: Expected<'_>) -> io::Result<Done> {
        let parent = self.top.parent_of(path)?;
        let untouched = is_untouched(&parent, path, expected)?;
        let old = format!("{}.old", random_name());
        match parent.rename(path.name(), &self.staging, &old, Rename::Replace) {
            Ok(()) => {}
            Err(error) if raspbox_beneath::absent(&error) => return Ok(Done::Changed),
            Err(error) => return Err(error),
        }
        if self.is_as_expected(&old, expected, untouched)? {
            self.staging.remove_file(&old)?;
            return Ok(Done::AsPlanned(Print::default()));
        }
        match self.staging.rename_to_free(&old, &parent, path.name()) {
            Ok(()) => Ok(Done::Changed),
            // Somebody has made a new one there meanwhile: both stay.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let copy = self.keep_beside(&old, path)?;
                Ok(Done::KeptEdit(Print::default(), copy))
            }
            Err(error) => Err(error),
        }
    }

    /// Moves a file, symlink or whole folder to where nothing is.
    ///
    /// # Errors
    /// Where the disk fails, or the folder to put it in can't be opened.
    pub fn rename(&self, from: &RelPath, to: &RelPath, expected: Expected<'_>) -> io::Result<Done> {
        let (old, new) = (self.top.parent_of(from)?, self.top.parent_of(to)?);
        if !looks_right(&old, from, expected)? {
            return Ok(Done::Changed);
        }
        // What was written to it since the look moves with it, and is an edit of the new name.
        match old.rename_to_free(from.name(), &new, to.name()) {
            Ok(()) => done(&new, to),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.is_no_other(&new, to)?;
                Ok(Done::Changed)
            }
            Err(error) if raspbox_beneath::absent(&error) => Ok(Done::Changed),
            Err(error) => Err(error),
        }
    }

    /// Sets a file's executable bit, where its disk keeps that, and time.
    ///
    /// # Errors
    /// Where the filesystem refuses.
    pub fn set_meta(
        &self,
        path: &RelPath,
        file: &raspbox_protocol::File,
        expected: Expected<'_>,
    ) -> io::Result<Done> {
        let parent = self.top.parent_of(path)?;
        if parent.stat(path.name())?.map(|stat| Print::from(&stat)) != Some(expected.seen.print) {
            return Ok(Done::Changed);
        }
        if self.keeps_modes {
            parent.set_mode(path.name(), self.mode(&parent, path, file.executable))?;
        }
        parent.set_mtime(path.name(), file.mtime)?;
        done(&parent, path)
    }

    /// Moves what stands at a path beside itself as a conflict copy; returns its new path, or `None`
    /// where nothing stands there.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn move_aside(&self, path: &RelPath) -> io::Result<Option<RelPath>> {
        match self.beside(&self.top.parent_of(path)?, path.name(), path) {
            Ok(copy) => Ok(Some(copy)),
            Err(error) if raspbox_beneath::absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a complete entry of the staging folder in its place.
    ///
    /// What isn't placed is removed by [`Workspace::recover`] where it isn't here.
    fn place(
        &self,
        name: &str,
        parent: &Folder,
        path: &RelPath,
        expected: Option<Expected<'_>>,
    ) -> io::Result<Done> {
        let Some(expected) = expected else {
            return match self.staging.rename_to_free(name, parent, path.name()) {
                Ok(()) => done(parent, path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    self.staging.remove_file(name)?;
                    self.is_no_other(parent, path)?;
                    Ok(Done::Changed)
                }
                Err(error) => Err(error),
            };
        };
        self.replace(name, parent, path, expected)
    }

    fn replace(
        &self,
        name: &str,
        parent: &Folder,
        path: &RelPath,
        expected: Expected<'_>,
    ) -> io::Result<Done> {
        let untouched = is_untouched(parent, path, expected)?;
        let displaced = match self
            .staging
            .rename(name, parent, path.name(), Rename::Exchange)
        {
            Ok(()) => name.to_owned(),
            Err(error) if raspbox_beneath::absent(&error) => {
                self.staging.remove_file(name)?;
                return Ok(Done::Changed);
            }
            // FAT, exFAT and network filesystems can't exchange: one after the other.
            Err(error) if raspbox_beneath::lacks_flag(&error) => {
                let old = format!("{}.old", name.trim_end_matches(".new"));
                parent.rename(path.name(), &self.staging, &old, Rename::Replace)?;
                if let Err(error) = self.staging.rename_to_free(name, parent, path.name()) {
                    drop(self.staging.rename_to_free(&old, parent, path.name()));
                    return Err(error);
                }
                old
            }
            Err(error) => return Err(error),
        };
        // From here on, what has our name in the staging folder is the user's: only where it is known
        // to be nothing new is it removed; on any error it stays for `recover`.
        let Done::AsPlanned(print) = done(parent, path)? else {
            return Ok(Done::Changed);
        };
        if self.is_as_expected(&displaced, expected, untouched)? {
            self.staging.remove_file(&displaced)?;
            Ok(Done::AsPlanned(print))
        } else {
            Ok(Done::KeptEdit(print, self.keep_beside(&displaced, path)?))
        }
    }

    /// Whether what was moved into the staging folder is what the plan assumed: by its looks where it
    /// was `untouched` just before, else by its content. A program may have written to it and set its
    /// time back, which only the ctime tells, and the move has changed that; or only have touched it.
    fn is_as_expected(
        &self,
        name: &str,
        expected: Expected<'_>,
        untouched: bool,
    ) -> io::Result<bool> {
        let Some(stat) = self.staging.stat(name)? else {
            return Ok(false);
        };
        match (expected.entry, stat.kind) {
            (Entry::File(file), Kind::File) => {
                let looks_same = Print::from(&stat).same_but_moved(&expected.seen.print);
                // A young one looks the same when it is written twice.
                if untouched && looks_same && expected.seen.settled {
                    return Ok(true);
                }
                let now = read_file(&self.staging, OsStr::new(name))?;
                Ok(now.is_some_and(|(_, digest)| digest == file.digest))
            }
            (Entry::Symlink(target), Kind::Symlink) => {
                Ok(self.staging.read_symlink(name)?.to_str() == Some(target.as_str()))
            }
            (
                Entry::File(_) | Entry::Symlink(_) | Entry::Folder,
                Kind::File | Kind::Symlink | Kind::Folder | Kind::Special,
            ) => Ok(false),
        }
    }

    pub(super) fn keep_beside(&self, name: &str, path: &RelPath) -> io::Result<RelPath> {
        self.beside(&self.staging, name, path)
    }

    /// Renames an entry to the first free conflict name beside `path` (at the top, where the folder
    /// is gone).
    fn beside(&self, from: &Folder, name: &str, path: &RelPath) -> io::Result<RelPath> {
        let (parent, at) = match self.top.parent_of(path) {
            Ok(parent) => (parent, path.parent()),
            Err(_) => (self.top.folder(None)?, None),
        };
        let Signature { device, date } = &self.signature;
        loop {
            let failed = Cell::new(None);
            let taken = |name: &str| match parent.stat(name) {
                Ok(stat) => stat.is_some(),
                // Not "taken": no other name would ever be free, either.
                Err(error) => {
                    failed.set(Some(error));
                    false
                }
            };
            let copy = conflict_name(path.name(), device, date, &taken);
            if let Some(error) = failed.take() {
                return Err(error);
            }
            match from.rename_to_free(name, &parent, &copy) {
                Ok(()) => {
                    return RelPath::child(at.as_ref(), &copy)
                        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The permissions for a file: those of what it replaces, or the user's own default, with or
    /// without the executable bits.
    fn mode(&self, parent: &Folder, path: &RelPath, executable: bool) -> u32 {
        let replaced = parent
            .open_file(path.name())
            .and_then(|file| Stat::of(&file));
        let base = replaced.map_or_else(
            |_| {
                // What the umask allows can't be asked for without changing it; the top folder was
                // made under it.
                let top = self.top.folder(None).and_then(|top| top.own_stat());
                let top = top.map_or(0o755, |stat| stat.mode);
                0o600 | (top & 0o066)
            },
            |stat| stat.mode,
        ) & 0o777;
        if executable {
            base | ((base & 0o444) >> 2)
        } else {
            base & !0o111
        }
    }
}

/// Whether what stands at a path looks as the plan assumes, its ctime as well.
fn is_untouched(parent: &Folder, path: &RelPath, expected: Expected<'_>) -> io::Result<bool> {
    let stat = parent.stat(path.name())?;
    Ok(stat.is_some_and(|stat| Print::from(&stat) == expected.seen.print))
}

/// Whether what stands at a path looks as the plan assumes, as far as a move minds.
pub(super) fn looks_right(
    parent: &Folder,
    path: &RelPath,
    expected: Expected<'_>,
) -> io::Result<bool> {
    let stat = parent.stat(path.name())?;
    Ok(stat.is_some_and(|stat| match expected.entry {
        Entry::Folder => stat.kind == Kind::Folder,
        Entry::File(_) | Entry::Symlink(_) => Print::from(&stat) == expected.seen.print,
    }))
}

pub(super) fn done(parent: &Folder, path: &RelPath) -> io::Result<Done> {
    let stat: Option<Stat> = parent.stat(path.name())?;
    Ok(stat.map_or(Done::Changed, |stat| Done::AsPlanned(Print::from(&stat))))
}
