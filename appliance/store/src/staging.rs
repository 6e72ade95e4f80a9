//! Files being written, out of users' sight, and where displaced contents are kept.
//!
//! Both are folders in `.raspbox/` on the drive itself, so that a name is given or taken by a
//! rename. `staging/` holds random names. `versions/` holds each displaced content once, under its
//! hash: `versions/64/6437b3ac…`. `parts/` holds what came of contents that were cut ([`crate::parts`]).

use crate::beneath::{Folder, Onto};
use crate::inner::Inner;
use nix::libc;
use raspbox_beneath::{File, random_name};
use raspbox_protocol::digest::Hasher;
use raspbox_protocol::{Digest, RelPath};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How much is read at once for hashing and copying.
pub(crate) const PIECE_BYTES: usize = 256 << 10;

/// Our own folders on the drive.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) folder: Folder,
    pub(crate) staging: Folder,
    pub(crate) versions: Folder,
    pub(crate) parts: Folder,
    /// Whether a shelf was made that isn't durable yet.
    new_shelf: AtomicBool,
}

/// A file being written, out of users' sight; removed when dropped.
#[derive(Debug)]
pub struct Staged {
    store: Arc<Inner>,
    name: String,
    /// `None` once it was taken over: then it isn't removed.
    file: Option<File>,
    /// Hashes what is written, as it is.
    hasher: Hasher,
    /// How many bytes are there that it knows nothing of: those of a part, and what follows them. They are hashed when
    /// all is there ([`Staged::hashed`]).
    unhashed_bytes: u64,
    spares_versions: bool,
}

/// A staged content that is whole. Nothing removes it by itself any more, since under its name there
/// may soon be what it displaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Own {
    /// Opens our own folders, making those that aren't there.
    pub(crate) fn open(top: &Folder) -> io::Result<Own> {
        let (folder, made) = make(top, raspbox_protocol::path::RESERVED_NAME)?;
        if made {
            top.sync()?;
        }
        Ok(Own {
            staging: make(&folder, "staging")?.0,
            versions: make(&folder, "versions")?.0,
            parts: make(&folder, "parts")?.0,
            new_shelf: AtomicBool::new(false),
            folder,
        })
    }

    /// Puts all that is being staged aside, for a person to look through.
    pub(crate) fn set_staging_aside(&mut self) -> io::Result<()> {
        if self.staging.names()?.0.is_empty() {
            return Ok(());
        }
        let aside = format!("staging.broken-{}", random_name());
        self.folder
            .rename("staging", &self.folder, &aside, Onto::Nothing)?;
        tracing::error!(folder = %aside, "files of unknown origin were set aside");
        self.staging = make(&self.folder, "staging")?.0;
        self.folder.sync()
    }

    /// The folder in which a content is kept.
    pub(crate) fn shelf(&self, digest: &Digest) -> io::Result<Folder> {
        let name = &digest.to_string()[..2];
        // There are 256, so nearly always it is there.
        match self.versions.below(name) {
            Err(error) if crate::beneath::is_absent(&error) => {}
            found => return found,
        }
        let (shelf, made) = make(&self.versions, name)?;
        self.new_shelf.fetch_or(made, Ordering::Relaxed);
        Ok(shelf)
    }

    /// The folder for displaced files that can't be read.
    pub(crate) fn unreadable(&self) -> io::Result<Folder> {
        let (folder, made) = make(&self.versions, crate::damage::UNREADABLE)?;
        if made {
            self.versions.sync()?;
        }
        Ok(folder)
    }

    /// Makes durable that these contents are kept.
    pub(crate) fn sync_kept(&self, digests: &[Digest]) -> io::Result<()> {
        if self.new_shelf.swap(false, Ordering::Relaxed) {
            self.versions.sync()?;
        }
        digests
            .iter()
            .try_for_each(|digest| self.shelf(digest)?.sync())
    }

    /// Whether a content of this hash and size is kept.
    pub(crate) fn keeps(&self, digest: &Digest, size: u64) -> io::Result<bool> {
        let name = digest.to_string();
        let shelf = match self.versions.below(&name[..2]) {
            Ok(shelf) => shelf,
            Err(error) if crate::beneath::is_absent(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(shelf
            .look(&name)?
            .is_some_and(|look| look.print.size == size))
    }
}

impl Staged {
    pub(crate) fn new(store: Arc<Inner>) -> io::Result<Staged> {
        let name = random_name();
        let file = store.own.staging.create(&name)?;
        Ok(Staged {
            store,
            name,
            file: Some(file),
            hasher: Hasher::new(),
            unhashed_bytes: 0,
            spares_versions: false,
        })
    }

    /// Goes on with a part, which has so many bytes.
    pub(crate) fn of_part(store: Arc<Inner>, part: &str, bytes: u64) -> io::Result<Staged> {
        let (own, name) = (&store.own, random_name());
        own.parts.rename(part, &own.staging, &name, Onto::Nothing)?;
        let file = own.staging.open_or_create(&name).inspect_err(|_| {
            // Where it can't be removed either, the next start does it.
            let _ = own.staging.unlink(&name);
        })?;
        let mut staged = Staged {
            file: Some(file),
            store,
            name,
            hasher: Hasher::new(),
            unhashed_bytes: bytes,
            spares_versions: false,
        };
        staged.file().seek(SeekFrom::Start(bytes))?;
        Ok(staged)
    }

    /// The same, but no version is let go for it.
    pub(crate) fn sparing_versions(mut self) -> Staged {
        self.spares_versions = true;
        self
    }

    /// How many bytes were written.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.hasher.len_bytes() + self.unhashed_bytes
    }

    /// The hash of what was written.
    #[must_use]
    pub fn digest(&self) -> Digest {
        debug_assert_eq!(self.unhashed_bytes, 0, "a part is hashed first");
        self.hasher.digest()
    }

    /// The same, read from its beginning where it wasn't hashed as it was written: then all of it must be there.
    pub(crate) fn hashed(mut self) -> io::Result<Staged> {
        if self.unhashed_bytes > 0 {
            let mut hasher = Hasher::new();
            hash_rest(self.rewound()?, &mut hasher)?;
            (self.hasher, self.unhashed_bytes) = (hasher, 0);
        }
        Ok(self)
    }

    /// Appends the first `keep_bytes` of a file; fewer where it is shorter. Returns how many.
    pub(crate) fn append(&mut self, from: &mut File, keep_bytes: u64) -> io::Result<u64> {
        let mut left = keep_bytes;
        let mut piece = vec![0; PIECE_BYTES];
        while left > 0 {
            let most = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = from.read(&mut piece[..most])?;
            if count == 0 {
                break;
            }
            self.write_all(&piece[..count])?;
            left -= count as u64;
        }
        Ok(keep_bytes - left)
    }

    /// What hashed it, to go on with what follows it elsewhere.
    pub(crate) fn hasher(&self) -> Hasher {
        self.hasher.clone()
    }

    fn file(&mut self) -> &mut File {
        self.file.as_mut().expect("it is taken with all the rest")
    }

    /// What was written, to be read from its beginning.
    pub(crate) fn rewound(&mut self) -> io::Result<&mut File> {
        self.file().seek(SeekFrom::Start(0))?;
        Ok(self.file())
    }

    /// Ends the writing; the file is left open for whoever makes it durable.
    pub(crate) fn finish(self) -> (Ready, File) {
        let (digest, size) = (self.digest(), self.len_bytes());
        let (name, file) = self.leave();
        (Ready { name, digest, size }, file)
    }

    /// Leaves the file to somebody else, under its name.
    pub(crate) fn leave(mut self) -> (String, File) {
        let file = self.file.take().expect("it is taken here only");
        (std::mem::take(&mut self.name), file)
    }

    /// The store that it is for.
    pub(crate) fn store(&self) -> Arc<Inner> {
        Arc::clone(&self.store)
    }

    pub(crate) fn is_of(&self, store: &Arc<Inner>) -> bool {
        Arc::ptr_eq(&self.store, store)
    }
}

impl Write for Staged {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let more = piece.len() as u64;
        if !self.store.may_write_unlooked(more) {
            if self.spares_versions {
                self.store.check_free(more)?;
            } else {
                self.store.check_space(more)?;
            }
        }
        let count = self.file().write(piece)?;
        if self.unhashed_bytes == 0 {
            self.hasher.update(&piece[..count]);
        } else {
            self.unhashed_bytes += count as u64;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.file.take().is_some() && self.store.own.staging.unlink(&self.name).is_err() {
            tracing::warn!(name = %self.name, "a staged file could not be removed");
        }
    }
}

/// Sets what travels with a file besides its content. A filesystem that has no permissions refuses
/// them, which doesn't matter: the journal has the bit.
pub(crate) fn set_executable(file: &File, on: bool) -> io::Result<()> {
    let mode = if on { 0o755 } else { 0o644 };
    match file.set_mode(mode) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP)) => {
            Ok(())
        }
        result => result,
    }
}

/// The hash of a file's content from its beginning.
pub(crate) fn digest_of(file: &mut File) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new();
    hash_rest(file, &mut hasher)?;
    Ok((hasher.digest(), hasher.len_bytes()))
}

/// Hashes a file from where it is read next to its end.
pub(crate) fn hash_rest(file: &mut File, hasher: &mut Hasher) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(()),
            count => hasher.update(&piece[..count]),
        }
    }
}

/// What the folder of a path is called in messages.
pub(crate) fn folder_name(path: Option<&RelPath>) -> &str {
    path.map_or("the top", RelPath::as_str)
}

/// Opens a folder, making it where it isn't there; tells whether it did.
fn make(within: &Folder, name: &str) -> io::Result<(Folder, bool)> {
    let made = match within.make_folder(name) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    Ok((within.below(name)?, made))
}
