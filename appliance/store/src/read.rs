//! Looking and reading.

use crate::beneath::{Folder, Kind, Look, is_absent};
use crate::error::StoreError;
use crate::inner::Inner;
use crate::model::{Listed, Stat};
use crate::rows::{self, Row};
use crate::staging::{digest_of, folder_name};
use raspbox_beneath::File;
use raspbox_protocol::want::Want;
use raspbox_protocol::{Digest, Entry, RelPath};
use std::io::{Seek, SeekFrom};

impl Inner {
    pub(crate) fn stat(&self, path: Option<&RelPath>) -> Result<Stat, StoreError> {
        let Some(path) = path else {
            let look = self
                .top
                .own_look()
                .map_err(|e| StoreError::io("the top", e))?;
            return Stat::of(&look).ok_or_else(|| StoreError::NotNow("the top is gone".into()));
        };
        let look = self.look(path)?;
        let stat = look.and_then(|look| Stat::of(&look));
        let mut stat = stat.ok_or_else(|| StoreError::NotFound(path.clone()))?;
        self.add_mode(path, &mut stat)?;
        Ok(stat)
    }

    pub(crate) fn list(&self, path: Option<&RelPath>) -> Result<Vec<Listed>, StoreError> {
        let trouble = |e| StoreError::io(folder_name(path), e);
        let folder = match self.top.folder(path) {
            Ok(folder) => folder,
            Err(error) if is_absent(&error) => return Err(self.no_folder(path)?),
            Err(error) => return Err(trouble(error)),
        };
        let (mut names, _) = folder.names().map_err(trouble)?;
        names.sort_unstable();
        let mut listed = Vec::with_capacity(names.len());
        for name in names {
            let Ok(child) = RelPath::child(path, &name) else {
                continue;
            };
            // What is gone between the two looks isn't there; what can't be looked at is left out.
            let Ok(Some(look)) = folder.look(&name) else {
                continue;
            };
            if let Some(mut stat) = Stat::of(&look) {
                self.add_mode(&child, &mut stat)?;
                listed.push(Listed { name, stat });
            }
        }
        Ok(listed)
    }

    pub(crate) fn read(&self, path: &RelPath) -> Result<File, StoreError> {
        let folder = self.parent_of(path)?;
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

    pub(crate) fn read_version(&self, want: &Want) -> Result<(File, u64), StoreError> {
        let changed = || StoreError::Changed(want.path.clone());
        let row = self.row(&want.path)?;
        let row = row.filter(|row| row.version == want.version);
        let row = row.ok_or_else(changed)?;
        let Entry::File(entry) = row.entry else {
            return Err(StoreError::NotAFile(want.path.clone()));
        };
        let trouble = |e| StoreError::io(&want.path, e);
        let mut file = match self.read(&want.path) {
            Err(StoreError::NotFound(_) | StoreError::NotAFile(_)) => return Err(changed()),
            file => file?,
        };
        if !row.fits_now(&Look::of(&file).map_err(trouble)?, &self.disk) {
            return Err(changed());
        }
        let left = entry.size.checked_sub(want.offset);
        let left = left.ok_or_else(|| StoreError::Range(want.path.clone()))?;
        file.seek(SeekFrom::Start(want.offset)).map_err(trouble)?;
        Ok((file, left))
    }

    pub(crate) fn digest(&self, path: &RelPath) -> Result<Digest, StoreError> {
        let trouble = |e| StoreError::io(path, e);
        let mut file = self.read(path)?;
        let look = Look::of(&file).map_err(trouble)?;
        match self.row(path)? {
            Some(row) if row.fits_now(&look, &self.disk) => {
                Ok(row.digest().expect("only a file's row fits a file"))
            }
            Some(_) | None => Ok(digest_of(&mut file).map_err(trouble)?.0),
        }
    }

    fn row(&self, path: &RelPath) -> Result<Option<Row>, StoreError> {
        Ok(self.snapshot(|db| rows::get(db, path))?)
    }

    fn look(&self, path: &RelPath) -> Result<Option<Look>, StoreError> {
        match self.top.folder(path.parent().as_ref()) {
            Ok(folder) => folder
                .look(path.name())
                .map_err(|e| StoreError::io(path, e)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(StoreError::io(path, error)),
        }
    }

    fn parent_of(&self, path: &RelPath) -> Result<Folder, StoreError> {
        match self.top.folder(path.parent().as_ref()) {
            Err(error) if is_absent(&error) => Err(StoreError::NotFound(path.clone())),
            folder => folder.map_err(|e| StoreError::io(path, e)),
        }
    }

    /// Why there is no folder at a path.
    fn no_folder(&self, path: Option<&RelPath>) -> Result<StoreError, StoreError> {
        let Some(path) = path else {
            return Ok(StoreError::NotNow("the top is gone".into()));
        };
        Ok(match self.look(path)? {
            Some(_) => StoreError::NotAFolder(path.clone()),
            None => StoreError::NotFound(path.clone()),
        })
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
