//! The files on the drive, as users see them, with their journal and their versions.
//!
//! One [`Store`] serves one folder, the top of the drive. It knows no network, no accounts and no
//! async; whoever calls it does so from a thread that may block. What it keeps for itself is in
//! `.raspbox/` at the top: the journal (SQLite), files being written, and displaced versions.
//!
//! Invariants:
//! - A name below the top is resolved beneath the top and never through a symlink
//!   (`openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`).
//! - What stands under a user's name is one complete content that somebody wrote.
//! - A content that was replaced or deleted is a version before its name is gone.
//! - When a method that changes something returns `Ok`, the change and its journal row are durable.

mod error;
mod model;

pub use error::{FeedError, OpenError, StoreError};
pub use model::{By, Listed, Options, Staged, Stat};

use raspbox_protocol::commit::{Op, Outcome};
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::info::Info;
use raspbox_protocol::special::{CommitSummary, RequestId};
use raspbox_protocol::want::Want;
use raspbox_protocol::{Cursor, Digest, Mtime, RelPath, Version};
use std::io::{self, Read};
use std::path::Path;

/// The drive's files. Cheap to clone; all clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {}

impl Store {
    /// Opens the store in this folder, making `.raspbox/` where there is none.
    ///
    /// Finishes or undoes what a crash interrupted, then compares the tree with the journal and
    /// journals what somebody wrote on the drive by other means.
    pub fn open(top: &Path, options: Options) -> Result<Store, OpenError> {
        unimplemented!()
    }

    /// Calls this after every change, with the newest position. At most one listener.
    pub fn on_change(&self, listener: impl Fn(Cursor) + Send + Sync + 'static) {
        unimplemented!()
    }

    /// What the appliance says of itself; `now` is its clock, `writable` the asking account's right.
    pub fn info(&self, now: Mtime, writable: bool) -> Result<Info, StoreError> {
        unimplemented!()
    }

    /// The newest position.
    pub fn cursor(&self) -> Cursor {
        unimplemented!()
    }

    /// What stands at a path (`None`: the top itself), read from the filesystem.
    pub fn stat(&self, path: Option<&RelPath>) -> Result<Stat, StoreError> {
        unimplemented!()
    }

    /// Everything in a folder, sorted by name, in one go. Names that are no [`RelPath`] are left
    /// out, `.raspbox` among them.
    pub fn list(&self, folder: Option<&RelPath>) -> Result<Vec<Listed>, StoreError> {
        unimplemented!()
    }

    /// Opens a file for reading. What is open stays what it was when the name is replaced.
    pub fn read(&self, path: &RelPath) -> Result<std::fs::File, StoreError> {
        unimplemented!()
    }

    /// Opens what a want asks for, positioned at its offset, with the number of bytes to send.
    /// [`StoreError::Changed`] where the version isn't that any more.
    pub fn read_version(&self, want: &Want) -> Result<(std::fs::File, u64), StoreError> {
        unimplemented!()
    }

    /// The hash of a file's content: the journal's where its fingerprint still fits, else computed.
    pub fn digest(&self, path: &RelPath) -> Result<Digest, StoreError> {
        unimplemented!()
    }

    /// A new file outside of users' sight, to write to and then [`Store::put`]. Dropping it removes
    /// it.
    pub fn stage(&self) -> Result<Staged, StoreError> {
        unimplemented!()
    }

    /// The same, beginning with the first `keep_bytes` of what stands at `path` (for REST and APPE).
    /// An absent file counts as empty; [`StoreError::Range`] where the file is shorter.
    pub fn stage_from(&self, path: &RelPath, keep_bytes: u64) -> Result<Staged, StoreError> {
        unimplemented!()
    }

    /// Gives a staged file its name, whatever stands there now (an ordinary FTP client doesn't
    /// know): the displaced file becomes a version. Keeps the displaced file's executable bit.
    pub fn put(&self, staged: Staged, path: &RelPath, by: &By) -> Result<Version, StoreError> {
        unimplemented!()
    }

    /// Deletes a file or symlink; it becomes a version.
    pub fn delete_file(&self, path: &RelPath, by: &By) -> Result<Version, StoreError> {
        unimplemented!()
    }

    /// Deletes an empty folder.
    pub fn delete_folder(&self, path: &RelPath, by: &By) -> Result<Version, StoreError> {
        unimplemented!()
    }

    /// Makes a folder in one that exists. [`StoreError::Exists`] where something stands there.
    pub fn make_folder(&self, path: &RelPath, by: &By) -> Result<Version, StoreError> {
        unimplemented!()
    }

    /// Moves a file, symlink or whole folder. A file or symlink at `to` becomes a version; a folder
    /// there is [`StoreError::Exists`].
    pub fn rename(&self, from: &RelPath, to: &RelPath, by: &By) -> Result<Version, StoreError> {
        unimplemented!()
    }

    /// Sets a file's time of modification.
    pub fn set_mtime(&self, path: &RelPath, mtime: Mtime, by: &By) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Sets a file's executable bit (the one permission that travels).
    pub fn set_executable(&self, path: &RelPath, on: bool, by: &By) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Reads a commit to its end, stages what it brings, and applies it.
    ///
    /// `may` tells for each operation whether the account has the right to it. A commit whose
    /// outcome is known already is read and not applied again.
    ///
    /// # Errors
    /// Nothing was applied: the stream was cut or not understood, or the drive is gone.
    pub fn commit(
        &self,
        id: RequestId,
        by: &By,
        may: &dyn Fn(&Op) -> bool,
        input: &mut dyn Read,
    ) -> Result<CommitSummary, StoreError> {
        unimplemented!()
    }

    /// What became of a commit; `None` where it isn't known (never came whole, or long ago).
    pub fn outcome(&self, id: RequestId) -> Result<Option<Vec<Outcome>>, StoreError> {
        unimplemented!()
    }

    /// The same in one line.
    pub fn summary(&self, id: RequestId) -> Result<Option<CommitSummary>, StoreError> {
        unimplemented!()
    }

    /// Sends a feed up to and including its mark: the whole tree, or what changed after a cursor.
    /// The head is sent too. Returns the mark's cursor, to go on from.
    ///
    /// # Errors
    /// [`FeedError::Expired`] where the journal no longer knows, or has another epoch;
    /// [`FeedError::Sink`] where `send` failed.
    pub fn feed(
        &self,
        since: Option<Cursor>,
        send: &mut dyn FnMut(FeedFrame) -> io::Result<()>,
    ) -> Result<Cursor, FeedError> {
        unimplemented!()
    }
}
