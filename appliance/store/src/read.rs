//! Looking and reading.

use crate::beneath::{Folder, Kind, Look, is_absent};
use crate::damage;
use crate::error::StoreError;
use crate::inner::Inner;
use crate::model::{Listed, Stat};
use crate::rows::{self, Row};
use crate::staging::{Staged, digest_of, folder_name, hash_rest};
use raspbox_beneath::{File, unreadable};
use raspbox_protocol::digest::Hasher;
use raspbox_protocol::want::Want;
use raspbox_protocol::{Digest, Entry, RelPath};
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

/// A file's content, read as the version that the journal vouches for.
///
/// Where it is read from its beginning it is hashed on the way, so that what rotted since it was read
/// last is found here and told to whoever reads, not only to a scrub.
#[derive(Debug)]
pub struct VersionReader {
    store: Arc<Inner>,
    path: RelPath,
    row: Row,
    before: Look,
    file: File,
    left_bytes: u64,
    /// `None` where it isn't read from its beginning.
    hasher: Option<Hasher>,
}

/// A file that was read: as what, and what it looked like before.
pub(crate) struct Check<'a> {
    pub(crate) path: &'a RelPath,
    pub(crate) row: &'a Row,
    pub(crate) before: Look,
}

/// What reading a file came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It is what the journal says.
    Good,
    /// Somebody wrote to it.
    Changed,
    /// Nobody wrote to it, and it is another content.
    Damaged,
}

impl VersionReader {
    pub(crate) fn open(store: &Arc<Inner>, want: &Want) -> Result<VersionReader, StoreError> {
        let path = &want.path;
        let changed = || StoreError::Changed(path.clone());
        let row = store.row(path)?;
        let row = row.filter(|row| row.version == want.version);
        let row = row.ok_or_else(changed)?;
        let Entry::File(entry) = row.entry else {
            return Err(StoreError::NotAFile(path.clone()));
        };
        let trouble = |e| StoreError::io(path, e);
        let check = || store.snapshot(|db| damage::check(db, path, &row));
        let mut file = match store.read(path) {
            Err(StoreError::NotFound(_) | StoreError::NotAFile(_)) => {
                return Err(check().err().unwrap_or_else(changed));
            }
            file => file?,
        };
        let before = Look::of(&file).map_err(trouble)?;
        check()?;
        if !row.fits_now(&before, &store.disk) {
            return Err(changed());
        }
        let left = entry.size.checked_sub(want.offset);
        let left_bytes = left.ok_or_else(|| StoreError::Range(path.clone()))?;
        file.seek(SeekFrom::Start(want.offset)).map_err(trouble)?;
        Ok(VersionReader {
            store: Arc::clone(store),
            path: path.clone(),
            row,
            before,
            file,
            left_bytes,
            hasher: (want.offset == 0).then(Hasher::new),
        })
    }

    /// How many bytes are left to read.
    #[must_use]
    pub fn left_bytes(&self) -> u64 {
        self.left_bytes
    }

    /// Tells the kernel to read further ahead than usual.
    pub fn read_ahead(&self) {
        self.file.read_ahead();
    }

    /// After its last byte: whether it was the version that was asked for, up to there.
    ///
    /// # Errors
    /// [`StoreError::Changed`], or [`StoreError::Damaged`]; then it is known to be from now on.
    pub fn finish(self) -> Result<(), StoreError> {
        let found = self.hasher.as_ref().map(Hasher::digest);
        match found {
            None => Ok(()),
            Some(found) if self.row.digest() == Some(found) => Ok(()),
            Some(found) => Err(self.not_good(Some(found))),
        }
    }

    /// What it means that reading failed.
    #[must_use]
    pub fn failed(self, error: io::Error) -> StoreError {
        if unreadable(&error) {
            self.not_good(None)
        } else {
            StoreError::io(&self.path, error)
        }
    }

    fn not_good(self, found: Option<Digest>) -> StoreError {
        let check = Check {
            path: &self.path,
            row: &self.row,
            before: self.before,
        };
        match check.check(&self.store, &self.file, found) {
            Ok(Checked::Damaged) => StoreError::Damaged(self.path),
            Ok(Checked::Good | Checked::Changed) => StoreError::Changed(self.path),
            Err(error) => error,
        }
    }
}

impl Read for VersionReader {
    /// Never more than is left; fewer only where the file became shorter.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left_bytes)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let len = self.file.read(&mut buffer[..most])?;
        self.left_bytes -= len as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..len]);
        }
        Ok(len)
    }
}

impl Check<'_> {
    /// Judges what was found (`None`: it can't be read), and marks what is damaged.
    pub(crate) fn check(
        &self,
        store: &Inner,
        file: &File,
        found: Option<Digest>,
    ) -> Result<Checked, StoreError> {
        let after = Look::of(file).map_err(|e| StoreError::io(self.path, e))?;
        if self.before.print != after.print {
            return Ok(Checked::Changed);
        }
        if found.is_some() && found == self.row.digest() {
            return Ok(Checked::Good);
        }
        let damaged = store.suspect(self.path, self.row, found.as_ref())?;
        Ok(if damaged {
            Checked::Damaged
        } else {
            Checked::Changed
        })
    }
}

impl Inner {
    pub(crate) fn stat(&self, path: Option<&RelPath>) -> Result<Stat, StoreError> {
        let mut stat = stat(&self.top, path)?;
        if let Some(path) = path {
            self.add_mode(path, &mut stat)?;
        }
        Ok(stat)
    }

    pub(crate) fn list(&self, path: Option<&RelPath>) -> Result<Vec<Listed>, StoreError> {
        let mut listed = list(&self.top, path)?;
        if !self.disk.modes {
            for entry in &mut listed {
                if let Ok(child) = RelPath::child(path, &entry.name) {
                    self.add_mode(&child, &mut entry.stat)?;
                }
            }
        }
        Ok(listed)
    }

    pub(crate) fn read(&self, path: &RelPath) -> Result<File, StoreError> {
        read(&self.top, path)
    }

    pub(crate) fn digest(&self, path: &RelPath) -> Result<Digest, StoreError> {
        let trouble = |e| StoreError::io(path, e);
        let mut file = self.read(path)?;
        let look = Look::of(&file).map_err(trouble)?;
        match self.row(path)? {
            Some(row)
                if row.fits_now(&look, &self.disk)
                    && !self.snapshot(|db| damage::is_marked(db, path, &row))? =>
            {
                Ok(row.digest().expect("only a file's row fits a file"))
            }
            Some(_) | None => Ok(digest_of(&mut file).map_err(trouble)?.0),
        }
    }

    fn row(&self, path: &RelPath) -> Result<Option<Row>, StoreError> {
        Ok(self.snapshot(|db| rows::get(db, path))?)
    }

    /// Where the disk has no executable bit, the journal has.
    fn add_mode(&self, path: &RelPath, stat: &mut Stat) -> Result<(), StoreError> {
        if !self.disk.modes
            && let Stat::File { executable, .. } = stat
        {
            let row = self.row(path)?;
            *executable =
                matches!(row, Some(Row { entry: Entry::File(file), .. }) if file.executable);
        }
        Ok(())
    }
}

/// Appends the first `keep_bytes` of what stands at a path to a staged file, fewer where it is shorter.
/// Returns how many.
///
/// The whole file is read, since its hash is that of the whole.
pub(crate) fn stage_from(
    store: &Inner,
    path: &RelPath,
    keep_bytes: u64,
    staged: &mut Staged,
) -> Result<u64, StoreError> {
    let trouble = |e| StoreError::io(path, e);
    let mut file = match store.read(path) {
        Ok(file) => file,
        Err(StoreError::NotFound(_)) => return Ok(0),
        Err(error) => return Err(error),
    };
    let before = Look::of(&file).map_err(trouble)?;
    let row = store.row(path)?;
    let Some(row) = row.filter(|row| row.fits_now(&before, &store.disk)) else {
        return staged.append(&mut file, keep_bytes).map_err(trouble);
    };
    store.snapshot(|db| damage::check(db, path, &row))?;
    let read = staged.append(&mut file, keep_bytes).and_then(|kept_bytes| {
        let mut hasher = staged.hasher();
        hash_rest(&mut file, &mut hasher)?;
        Ok((kept_bytes, hasher.digest()))
    });
    let (kept_bytes, found) = match read {
        Ok((kept_bytes, found)) => (kept_bytes, Some(found)),
        Err(error) if unreadable(&error) => (0, None),
        Err(error) => return Err(trouble(error)),
    };
    let check = Check {
        path,
        row: &row,
        before,
    };
    match check.check(store, &file, found)? {
        Checked::Good => Ok(kept_bytes),
        Checked::Damaged => Err(StoreError::Damaged(path.clone())),
        Checked::Changed => Err(StoreError::Changed(path.clone())),
    }
}

/// What stands at a path below a top, as the filesystem has it.
pub(crate) fn stat(top: &Folder, path: Option<&RelPath>) -> Result<Stat, StoreError> {
    let Some(path) = path else {
        let look = top.own_look().map_err(|e| StoreError::io("the top", e))?;
        return Stat::of(&look).ok_or_else(|| StoreError::NotNow("the top is gone".into()));
    };
    let stat = look(top, path)?.and_then(|look| Stat::of(&look));
    stat.ok_or_else(|| StoreError::NotFound(path.clone()))
}

/// Everything in a folder, sorted by name, in one go. Names that are no [`RelPath`] are left out.
pub(crate) fn list(top: &Folder, path: Option<&RelPath>) -> Result<Vec<Listed>, StoreError> {
    let trouble = |e| StoreError::io(folder_name(path), e);
    let folder = match top.folder(path) {
        Ok(folder) => folder,
        Err(error) if is_absent(&error) => return Err(no_folder(top, path)?),
        Err(error) => return Err(trouble(error)),
    };
    let (mut names, _) = folder.names().map_err(trouble)?;
    names.sort_unstable();
    let mut listed = Vec::with_capacity(names.len());
    for name in names {
        if RelPath::child(path, &name).is_err() {
            continue;
        }
        // What is gone between the two looks isn't there; what can't be looked at is left out.
        let Ok(Some(look)) = folder.look(&name) else {
            continue;
        };
        if let Some(stat) = Stat::of(&look) {
            listed.push(Listed { name, stat });
        }
    }
    Ok(listed)
}

/// Opens a file for reading.
pub(crate) fn read(top: &Folder, path: &RelPath) -> Result<File, StoreError> {
    let folder = match top.folder(path.parent().as_ref()) {
        Err(error) if is_absent(&error) => return Err(StoreError::NotFound(path.clone())),
        folder => folder.map_err(|e| StoreError::io(path, e))?,
    };
    match folder.open(path.name()) {
        Ok(file) => {
            let look = Look::of(&file).map_err(|e| StoreError::io(path, e))?;
            if look.kind == Kind::File {
                Ok(file)
            } else {
                Err(StoreError::NotAFile(path.clone()))
            }
        }
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => {
            Err(StoreError::NotFound(path.clone()))
        }
        // A symlink (ELOOP), a socket (ENXIO).
        Err(error) if is_absent(&error) || error.raw_os_error() == Some(nix::libc::ENXIO) => {
            Err(StoreError::NotAFile(path.clone()))
        }
        Err(error) => Err(StoreError::io(path, error)),
    }
}

fn look(top: &Folder, path: &RelPath) -> Result<Option<Look>, StoreError> {
    match top.folder(path.parent().as_ref()) {
        Ok(folder) => folder
            .look(path.name())
            .map_err(|e| StoreError::io(path, e)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(StoreError::io(path, error)),
    }
}

/// Why there is no folder at a path.
fn no_folder(top: &Folder, path: Option<&RelPath>) -> Result<StoreError, StoreError> {
    let Some(path) = path else {
        return Ok(StoreError::NotNow("the top is gone".into()));
    };
    Ok(match look(top, path)? {
        Some(_) => StoreError::NotAFolder(path.clone()),
        None => StoreError::NotFound(path.clone()),
    })
}
