//! The local folder of one pairing: that it is the one, its staging folder, and what is in there.
//!
//! What is out of sight is in `.raspbox/staging/` at the top, on the same filesystem. A file there is
//! called `<id>.part` until its content is whole, verified and durable, then `<id>.new`; what is moved
//! away is `<id>.old`. A large content is `<hash of the whole>.part` in the meantime, so that it can be gone on
//! with. Never longer: what a placed content displaced is under one of the other two names, and may have to wait there.
//! Giving it its name is [`place`], and what a crash left there [`recover`]'s.

mod place;
mod recover;
mod respell;

pub use place::{Done, Expected};

use crate::chunks::{Chunks, Cutter};
use crate::disk;
use raspbox_beneath::{File, Folder, Kind, Rename, Top, Written, now, random_name};
use raspbox_core::names::Disk;
use raspbox_protocol::digest::Hasher;
use raspbox_protocol::path::RESERVED_NAME;
use raspbox_protocol::{Digest, RelPath};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file that says which pairing a folder belongs to. A folder without it isn't the one that was
/// paired: a disk that isn't mounted looks like an empty folder.
const MARKER: &str = "pair";

const STAGING: &str = "staging";

/// The same, where names are found in any case.
const STAGING_SHOUTED: &str = "STAGING";

/// For how long what came of a content is kept where nobody goes on with it.
const PART_KEPT_FOR: Duration = Duration::from_secs(7 * 86_400);

/// How much is read at once of what came before.
const PIECE_BYTES: usize = 256 << 10;

/// What a new folder's permissions are before the umask.
const FOLDER_MODE: u32 = 0o777;

/// Up to so many files or folders are synced one by one, more by a sync of the whole filesystem: one
/// call instead of a thousand, but it waits for everybody's writes.
pub const SYNC_SINGLY_MAX: usize = 8;

/// The local folder of one pairing.
#[derive(Debug)]
pub struct Workspace {
    path: PathBuf,
    top: Top,
    staging: Folder,
    /// Watches what is written from before this round writes anything.
    written: Written,
    disk: Disk,
    /// Whether its disk keeps who may do what with a file.
    keeps_modes: bool,
    /// This device's name and today's date, for the names of conflict copies.
    pub signature: Signature,
}

/// What the name of a conflict copy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The device's name.
    pub device: String,
    /// The date, as `2026-01-31`.
    pub date: String,
}

/// A content on its way to its place.
#[derive(Debug)]
pub struct Staged {
    /// Its name in the staging folder until it is whole.
    part: String,
    /// Its name there from then on, without the ending.
    id: String,
    file: File,
    hasher: Hasher,
    cutting: Option<Cutting>,
}

/// How far a content was cut into chunks.
#[derive(Debug)]
enum Cutting {
    Going(Cutter),
    Done(Chunks),
}

impl Workspace {
    /// Opens the folder of a pairing; `None` where it isn't (any more) the folder that was paired.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn open(path: &Path, pair: &str, signature: Signature) -> io::Result<Option<Workspace>> {
        let top = match Top::open(path) {
            Ok(top) => top,
            Err(error) if raspbox_beneath::absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let own = match top.folder_at(Path::new(RESERVED_NAME)) {
            Ok(own) => own,
            Err(error) if raspbox_beneath::absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        match own.open_file(MARKER).and_then(io::read_to_string) {
            Ok(found) if found.trim_end() == pair => {}
            Ok(_) => return Ok(None),
            Err(error) if raspbox_beneath::absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        make_folder(&own, STAGING)?;
        let staging = top.folder_at(&Path::new(RESERVED_NAME).join(STAGING))?;
        Ok(Some(Workspace {
            written: staging.written()?,
            path: path.to_owned(),
            top,
            staging,
            disk: disk::look(&own, STAGING_SHOUTED)?,
            keeps_modes: !own.filesystem()?.is_fat(),
            signature,
        }))
    }

    /// Marks a folder as belonging to a pairing, making it where there is none.
    ///
    /// # Errors
    /// Where it can't be made or written to, or belongs to another pairing already
    /// ([`io::ErrorKind::AlreadyExists`]).
    pub fn mark(path: &Path, pair: &str) -> io::Result<()> {
        raspbox_beneath::make_folders(path)?;
        let top = Top::open(path)?;
        make_folder(&top.folder(None)?, RESERVED_NAME)?;
        let own = top.folder_at(Path::new(RESERVED_NAME))?;
        let mut file = own.create_file(MARKER, 0o600)?;
        writeln!(file, "{pair}")?;
        file.sync_all()?;
        // Without its names, a power cut would make it a folder that nobody paired.
        own.sync()?;
        top.folder(None)?.sync()
    }

    /// Takes the mark away, and our own folder with it. Users' files stay.
    ///
    /// # Errors
    /// Where it can't be removed.
    pub fn unmark(path: &Path) -> io::Result<()> {
        match Top::open(path) {
            Ok(top) => top.folder(None)?.remove_all(RESERVED_NAME),
            Err(error) if raspbox_beneath::absent(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Which pairing a folder belongs to, if any.
    #[must_use]
    pub fn owner(path: &Path) -> Option<String> {
        let own = Top::open(path).and_then(|top| top.folder_at(Path::new(RESERVED_NAME)));
        let marker = own.and_then(|own| own.open_file(MARKER));
        let text = marker.and_then(io::read_to_string).ok()?;
        Some(text.trim_end().to_owned())
    }

    /// The folder.
    #[must_use]
    pub fn top(&self) -> &Top {
        &self.top
    }

    /// What its disk makes of names.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Whether its disk keeps executable bits. FAT shows the same for all files, as it was mounted.
    #[must_use]
    pub fn keeps_modes(&self) -> bool {
        self.keeps_modes
    }

    /// The folder's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new content, to write to.
    ///
    /// # Errors
    /// Where the disk is full or fails.
    pub fn stage(&self) -> io::Result<Staged> {
        let id = random_name();
        let part = format!("{id}.part");
        let file = self.staging.create_file(&part, 0o600)?;
        Ok(Staged {
            part,
            id,
            file,
            hasher: Hasher::new(),
            cutting: None,
        })
    }

    /// The same for a large content, of which some may have come before. Until it is whole it keeps its name: so this can
    /// be gone on with however it ends.
    ///
    /// # Errors
    /// Where the disk is full or fails.
    pub(crate) fn stage_large(&self, whole: &Digest, cut: bool) -> io::Result<Staged> {
        let part = format!("{whole}.part");
        let file = self.staging.open_or_create_file(&part, 0o600)?;
        let mut staged = match file.try_lock()? {
            true => Staged {
                part,
                id: random_name(),
                file,
                hasher: Hasher::new(),
                cutting: None,
            },
            // Two files of the same content at once.
            false => self.stage()?,
        };
        if cut {
            staged = staged.cut();
        }
        staged.take_in()?;
        Ok(staged)
    }

    /// Throws a staged content away.
    pub fn discard(&self, staged: &Staged) {
        for name in [&staged.part, &staged.new_name()] {
            // What can't be removed now is removed by `recover`.
            drop(self.staging.remove_file(name));
        }
    }

    /// Makes everything that was written to the folder's filesystem durable.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn sync(&self) -> io::Result<()> {
        self.written.sync()
    }

    /// Makes what stands at these paths durable: files with their content, and names.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn sync_entries(&self, paths: &[&RelPath]) -> io::Result<()> {
        if paths.len() > SYNC_SINGLY_MAX {
            return self.sync();
        }
        for path in paths {
            match self.open_entry(path) {
                Ok((parent, file)) => {
                    file.map_or(Ok(()), |file| file.sync_all())?;
                    parent.sync()?;
                }
                // It is gone again, or its folder gave way to a symlink: nothing is to be kept.
                Err(error) if is_gone(&error) => {}
                // What can't be opened any more is synced with all the rest.
                Err(_) => return self.sync(),
            }
        }
        Ok(())
    }

    /// The folder that an entry is in, and its file where it is one: a symlink is all in its name, and
    /// so is a folder.
    fn open_entry(&self, path: &RelPath) -> io::Result<(Folder, Option<File>)> {
        let parent = self.top.parent_of(path)?;
        let is_file = parent.stat(path.name())?.map(|stat| stat.kind) == Some(Kind::File);
        let file = is_file.then(|| parent.open_file(path.name()));
        Ok((parent, file.transpose()?))
    }

    /// Makes these names durable: that something stands there, or nothing.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn sync_names(&self, paths: &[&RelPath]) -> io::Result<()> {
        if paths.len() > SYNC_SINGLY_MAX {
            return self.sync();
        }
        paths
            .iter()
            .try_for_each(|path| match self.top.parent_of(path) {
                Ok(parent) => parent.sync(),
                Err(error) if is_gone(&error) => Ok(()),
                Err(error) => Err(error),
            })
    }
}

impl Staged {
    /// Also cuts what is written from here on, which is all of it.
    #[must_use]
    pub(crate) fn cut(mut self) -> Staged {
        self.cutting = Some(Cutting::Going(Cutter::default()));
        self
    }

    /// Reads what is there already, and stands at its end.
    fn take_in(&mut self) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match self.file.read(&mut piece)? {
                0 => return Ok(()),
                len => self.taken(&piece[..len]),
            }
        }
    }

    /// These bytes are there as well.
    fn taken(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
        if let Some(Cutting::Going(cutter)) = &mut self.cutting {
            cutter.update(piece);
        }
    }

    /// All of it was written.
    pub(crate) fn end(&mut self) {
        self.cutting = self.cutting.take().map(|cutting| match cutting {
            Cutting::Going(cutter) => Cutting::Done(cutter.finish()),
            done @ Cutting::Done(_) => done,
        });
    }

    /// How it was cut, if it was, and was ended.
    pub(crate) fn chunks(&self) -> Option<&Chunks> {
        match &self.cutting {
            Some(Cutting::Done(chunks)) => Some(chunks),
            Some(Cutting::Going(_)) | None => None,
        }
    }

    /// The hash of what was written.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.hasher.digest()
    }

    /// Says that the content is whole, verified and durable: from here on, a crash leaves it to
    /// [`Workspace::recover`], which takes it for a content that somebody may want.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn finish(&self, workspace: &Workspace) -> io::Result<()> {
        let new = self.new_name();
        workspace
            .staging
            .rename(&self.part, &workspace.staging, new, Rename::Replace)
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.hasher.len_bytes()
    }

    /// Its name in the staging folder once it is whole.
    #[must_use]
    pub fn new_name(&self) -> String {
        format!("{}.new", self.id)
    }

    /// Its name there when a filesystem that can't exchange has moved the old one away.
    #[must_use]
    pub fn old_name(&self) -> String {
        format!("{}.old", self.id)
    }

    /// Makes this one durable.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl Write for Staged {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let len = self.file.write(piece)?;
        self.taken(&piece[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Today's date here, as `2026-01-31`.
#[must_use]
pub fn today() -> String {
    let now = jiff::Timestamp::from_nanosecond(now().0.into()).unwrap_or_default();
    let here = now.to_zoned(jiff::tz::TimeZone::system());
    here.date().to_string()
}

/// Whether a folder is gone again, or gave way to a symlink: then it holds nothing to keep.
fn is_gone(error: &io::Error) -> bool {
    raspbox_beneath::absent(error) || error.raw_os_error() == Some(nix::libc::ELOOP)
}

fn make_folder(parent: &Folder, name: &str) -> io::Result<()> {
    match parent.make_folder(name, FOLDER_MODE) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Signature, Workspace};
    use raspbox_protocol::Digest;
    use std::io::Write;

    /// Under the name of the first there may be what it displaced, waiting for its place.
    #[test]
    fn the_same_large_content_takes_nobodys_place_the_second_time() {
        let dir = tempfile::tempdir().expect("temp dir");
        Workspace::mark(dir.path(), "pair").expect("marked");
        let signature = Signature {
            device: "laptop".into(),
            date: "2026-01-31".into(),
        };
        let workspace = Workspace::open(dir.path(), "pair", signature);
        let workspace = workspace.expect("opened").expect("the one");
        let whole = Digest::of(b"all of it");
        let staged = |from: &[u8]| {
            let mut staged = workspace.stage_large(&whole, false).expect("staged");
            staged.write_all(from).expect("written");
            staged
        };
        drop(staged(b"all "));
        let first = staged(b"of it");
        assert_eq!(first.digest(), whole, "gone on with");
        first.finish(&workspace).expect("whole");
        let second = staged(b"all of it");
        second.finish(&workspace).expect("whole");
        assert_ne!(first.new_name(), second.new_name());
        assert_ne!(first.old_name(), second.old_name());
        assert_eq!(workspace.staging.names().expect("listed").len(), 2);
    }
}
