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

mod apply;
mod beneath;
mod change;
mod commit;
mod contents;
mod damage;
mod error;
mod feed;
mod history;
mod holds;
mod inner;
mod journal;
mod model;
mod moves;
mod parts;
mod patch;
mod perform;
mod read;
mod recover;
mod release;
mod rescue;
mod restore;
mod rows;
mod scan;
mod scrub;
mod staging;
mod thin;
mod versions;

pub use error::{FeedError, OpenError, StoreError};
#[doc(hidden)]
pub use model::Faults;
pub use model::{By, Listed, Options, Stat};
pub use read::VersionReader;
pub use recover::note_repair;
pub use release::Thinned;
pub use rescue::Rescue;
pub use scrub::{Pass, Step, Tally};
pub use staging::Staged;
pub use thin::Policy;

use change::{Change, Content, Expected, Only};
use inner::Inner;
use raspbox_protocol::commit::{Op, Outcome};
use raspbox_protocol::damage::Damage;
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::history::Past;
use raspbox_protocol::holds::Held;
use raspbox_protocol::info::{DriveId, Info};
use raspbox_protocol::special::{Clock, CommitSummary, Receipt, RequestId};
use raspbox_protocol::want::Want;
use raspbox_protocol::{Cursor, Digest, File, Mtime, PROTOCOL_VERSION, RelPath, Version};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often a change is tried that doesn't say what it expects, where others write meanwhile.
const TRIES: u32 = 3;

/// The drive's files. Cheap to clone; all clones are the same store.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

impl Store {
    /// Opens the store in this folder, making `.raspbox/` where there is none.
    ///
    /// Finishes or undoes what a crash interrupted, then compares the tree with the journal and
    /// journals what somebody wrote on the drive by other means.
    pub fn open(top: &Path, options: Options) -> Result<Store, OpenError> {
        Store::open_with(top, options, Faults::default())
    }

    /// The same, failing on purpose.
    #[doc(hidden)]
    pub fn open_with(top: &Path, options: Options, faults: Faults) -> Result<Store, OpenError> {
        Ok(Store(Arc::new(Inner::open(top, options, faults, false)?)))
    }

    /// The same after a check of the filesystem had to repair it. A file that is gone then, or that is
    /// another though nobody wrote to it, is damaged: [`Store::damages`] has it, and nobody takes it for
    /// deleted or edited.
    ///
    /// # Errors
    /// As for [`Store::open`].
    pub fn open_repaired(top: &Path, options: Options) -> Result<Store, OpenError> {
        Store::open_repaired_with(top, options, Faults::default())
    }

    /// The same, failing on purpose: for tests.
    #[doc(hidden)]
    pub fn open_repaired_with(
        top: &Path,
        options: Options,
        faults: Faults,
    ) -> Result<Store, OpenError> {
        Ok(Store(Arc::new(Inner::open(top, options, faults, true)?)))
    }

    /// Doesn't fail on purpose any more.
    #[doc(hidden)]
    pub fn forgive(&self) {
        self.0.forgive();
    }

    /// How many steps it has come to.
    #[doc(hidden)]
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.0.steps()
    }

    /// Calls this after every change, with the newest position. At most one listener; it may read,
    /// but not change anything.
    pub fn on_change(&self, listener: impl Fn(Cursor) + Send + Sync + 'static) {
        self.0.listen(Box::new(listener));
    }

    /// What the appliance says of itself; `now` is its clock, `writable` the asking account's right.
    pub fn info(&self, now: Mtime, writable: bool) -> Result<Info, StoreError> {
        let space = self.0.space()?;
        Ok(Info {
            protocol: PROTOCOL_VERSION,
            drive: self.0.drive,
            cursor: self.cursor(),
            free_bytes: space.free_bytes.saturating_sub(self.0.options.floor_bytes),
            size_bytes: space.size_bytes,
            holds: self.0.disk.holds,
            now,
            writable,
            keeps: writable,
            zstd: true,
        })
    }

    /// Whether the drive is full: less than 1 MiB could be taken above the floor, with all old versions gone.
    pub fn is_full(&self) -> Result<bool, StoreError> {
        self.0.is_full()
    }

    /// Why nothing is changed on the drive any more: something could not be written to it, so what the
    /// kernel shows of it may not be there. Ends with the next mount.
    #[must_use]
    pub fn unwritten(&self) -> Option<&str> {
        self.0.unwritten()
    }

    /// Frees what is kept in memory to be quicker: the next one who asks waits a moment longer.
    pub fn empty_caches(&self) {
        self.0.empty_caches();
    }

    /// The drive's identity.
    pub fn drive(&self) -> DriveId {
        self.0.drive
    }

    /// The newest position.
    pub fn cursor(&self) -> Cursor {
        self.0.cursor()
    }

    /// What stands at a path (`None`: the top itself), read from the filesystem.
    pub fn stat(&self, path: Option<&RelPath>) -> Result<Stat, StoreError> {
        self.0.stat(path)
    }

    /// Everything in a folder, sorted by name, in one go. Names that are no [`RelPath`] are left
    /// out, `.raspbox` among them.
    pub fn list(&self, folder: Option<&RelPath>) -> Result<Vec<Listed>, StoreError> {
        self.0.list(folder)
    }

    /// Opens a file for reading. What is open stays what it was when the name is replaced.
    pub fn read(&self, path: &RelPath) -> Result<raspbox_beneath::File, StoreError> {
        self.0.read(path)
    }

    /// Opens what a want asks for, from its offset on.
    ///
    /// # Errors
    /// [`StoreError::Changed`] where the version isn't that any more, [`StoreError::Damaged`] where
    /// its content is known to be another than was saved.
    pub fn read_version(&self, want: &Want) -> Result<VersionReader, StoreError> {
        VersionReader::open(&self.0, want)
    }

    /// What is known to be damaged, at most [`raspbox_protocol::damage::DAMAGES_MAX`].
    pub fn damages(&self) -> Result<Vec<Damage>, StoreError> {
        self.0.damages()
    }

    /// How many files under users' names are known to be damaged, and how many kept versions.
    pub fn count_damages(&self) -> Result<(u64, u64), StoreError> {
        Ok(self.0.snapshot(damage::count)?)
    }

    /// When every content was last read again, by the appliance's clock; `None` where that never was,
    /// or a pass is under way.
    pub fn scrubbed_at(&self) -> Result<Option<Mtime>, StoreError> {
        self.0.scrubbed_at()
    }

    /// Goes on with the pass over every content that was under way, or begins one.
    pub fn scrub(&self) -> Result<Pass, StoreError> {
        Pass::go_on(&self.0)
    }

    /// Reads again every file that came to stand there within this time before the newest one, whatever
    /// the filesystem says of it: for after its check had to repair something. What is damaged is in
    /// [`Store::damages`] then.
    pub fn recheck(&self, within: Duration) -> Result<Tally, StoreError> {
        self.0.recheck(within)
    }

    /// The hash of a file's content: the journal's where its fingerprint still fits, else computed. Of
    /// a damaged file, that of the bytes that are there.
    pub fn digest(&self, path: &RelPath) -> Result<Digest, StoreError> {
        self.0.digest(path)
    }

    /// A new file outside of users' sight, to write to and then [`Store::put`]. Dropping it removes
    /// it.
    ///
    /// # Errors
    /// [`StoreError::NotNow`] where nothing is changed on the drive any more; [`StoreError::NoSpace`].
    pub fn stage(&self) -> Result<Staged, StoreError> {
        self.0.check_written()?;
        self.0
            .check_space(0)
            .map_err(|e| StoreError::io("staging", e))?;
        Staged::new(Arc::clone(&self.0)).map_err(|e| StoreError::io("staging", e))
    }

    /// The same, beginning with the first `keep_bytes` of what stands at `path` (for REST and APPE).
    /// An absent file counts as empty.
    ///
    /// # Errors
    /// [`StoreError::Range`] where the file is shorter, [`StoreError::Damaged`] where it rotted: what
    /// begins with it would be a new content, and nobody would know.
    pub fn stage_from(&self, path: &RelPath, keep_bytes: u64) -> Result<Staged, StoreError> {
        let mut staged = self.stage()?;
        let kept_bytes = read::stage_from(&self.0, path, keep_bytes, &mut staged)?;
        if kept_bytes == keep_bytes {
            Ok(staged)
        } else {
            Err(StoreError::Range(path.clone()))
        }
    }

    /// Gives a staged file its name, whatever stands there now (an ordinary FTP client doesn't
    /// know): the displaced file becomes a version. Keeps the displaced file's executable bit.
    pub fn put(&self, staged: Staged, path: &RelPath, by: &By) -> Result<Version, StoreError> {
        assert!(
            staged.is_of(&self.0),
            "a file is staged in the store that it is for"
        );
        if let Some(why) = self.0.disk.refuses_size(staged.len_bytes()) {
            return Err(StoreError::CannotHold {
                path: path.clone(),
                why: why.into(),
            });
        }
        let (ready, _, mtime) =
            commit::finish(staged, None, false, true).map_err(|e| StoreError::io(path, e))?;
        let file = File {
            digest: ready.digest,
            size: ready.size,
            mtime,
            executable: false,
        };
        self.once(
            by,
            Change::Put {
                path: path.clone(),
                expected: Expected::Any,
                content: Content::File {
                    file,
                    keep_mode: true,
                },
                staged: ready.name,
            },
        )
    }

    /// Deletes a file or symlink; it becomes a version.
    pub fn delete_file(&self, path: &RelPath, by: &By) -> Result<Version, StoreError> {
        self.once(
            by,
            Change::Delete {
                path: path.clone(),
                expected: Expected::Any,
                only: Only::Files,
            },
        )
    }

    /// Deletes an empty folder.
    pub fn delete_folder(&self, path: &RelPath, by: &By) -> Result<Version, StoreError> {
        self.once(
            by,
            Change::Delete {
                path: path.clone(),
                expected: Expected::Any,
                only: Only::Folders,
            },
        )
    }

    /// Makes a folder in one that exists. [`StoreError::Exists`] where something stands there.
    pub fn make_folder(&self, path: &RelPath, by: &By) -> Result<Version, StoreError> {
        self.once(
            by,
            Change::MakeFolder {
                path: path.clone(),
                expected: Expected::Any,
            },
        )
    }

    /// Moves a file, symlink or whole folder. A file or symlink at `to` becomes a version; a folder
    /// there is [`StoreError::Exists`].
    pub fn rename(&self, from: &RelPath, to: &RelPath, by: &By) -> Result<Version, StoreError> {
        self.once(
            by,
            Change::Move {
                from: from.clone(),
                expected: Expected::Any,
                to: to.clone(),
            },
        )
    }

    /// Sets a file's time of modification.
    pub fn set_mtime(&self, path: &RelPath, mtime: Mtime, by: &By) -> Result<(), StoreError> {
        self.once(
            by,
            Change::SetMeta {
                path: path.clone(),
                expected: Expected::Any,
                mtime: Some(mtime),
                executable: None,
            },
        )?;
        Ok(())
    }

    /// Sets a file's executable bit (the one permission that travels).
    pub fn set_executable(&self, path: &RelPath, on: bool, by: &By) -> Result<(), StoreError> {
        self.once(
            by,
            Change::SetMeta {
                path: path.clone(),
                expected: Expected::Any,
                mtime: None,
                executable: Some(on),
            },
        )?;
        Ok(())
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
        commit::commit(&self.0, id, by, may, input)
    }

    /// How much has come of the content that will have this hash, in a commit that was cut: another may go on from there
    /// ([`raspbox_protocol::commit::CommitFrame::Offset`]). 0 where nothing is kept of it.
    pub fn part_bytes(&self, whole: &Digest) -> Result<u64, StoreError> {
        let bytes = self.0.part_bytes(whole);
        bytes.map_err(|error| StoreError::io("what was cut", error))
    }

    /// What became of a commit; `None` where it isn't known (never came whole, or long ago).
    pub fn outcome(&self, id: RequestId) -> Result<Option<Vec<Outcome>>, StoreError> {
        commit::outcome(&self.0, id)
    }

    /// The same in one line.
    pub fn summary(&self, id: RequestId) -> Result<Option<CommitSummary>, StoreError> {
        commit::summary(&self.0, id)
    }

    /// The same, and where the journal has it.
    pub fn receipt(&self, id: RequestId) -> Result<Option<Receipt>, StoreError> {
        let summary = commit::summary(&self.0, id)?;
        Ok(summary.map(|summary| Receipt {
            summary,
            alone: self.0.alone(id),
        }))
    }

    /// Whether a position is one that this drive's journal has been at: else it is another drive's, or
    /// of a time that was undone when the drive was restored from a copy.
    pub fn knows(&self, cursor: Cursor) -> Result<bool, StoreError> {
        Ok(self.0.snapshot(|db| journal::knows(db, cursor))?)
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
        self.0.feed(since, send)
    }

    /// The history's clock: see [`Clock`].
    pub fn clock(&self) -> Result<Clock, StoreError> {
        self.0.clock()
    }

    /// What stands at a path and what stood there before, the newest first.
    pub fn history(&self, path: &RelPath) -> Result<Vec<Past>, StoreError> {
        self.0.history(path)
    }

    /// One version of a path, by its number in the history.
    pub fn version(&self, path: &RelPath, number: u64) -> Result<Option<Past>, StoreError> {
        self.0.version(path, number)
    }

    /// Opens a content that is kept, or that some file has. Nobody has looked whether it rotted:
    /// whoever needs to know hashes it.
    pub fn read_kept(&self, file: &File) -> Result<Option<raspbox_beneath::File>, StoreError> {
        let sources = self.0.sources(&file.digest, file.size)?;
        Ok(sources.into_iter().next().map(|source| source.file))
    }

    /// Which of these contents are kept as versions, so that a copy may be given up. A file that has one of
    /// them now doesn't count. Reads them, unless they are very large, which takes its time.
    pub fn holds(&self, digests: &[Digest]) -> Result<Held, StoreError> {
        self.0.holds(digests).map(Held)
    }

    /// The names in a folder (`None`: the top) at or below which there are versions of files, each
    /// with the time of one.
    pub fn displaced_in(
        &self,
        folder: Option<&RelPath>,
    ) -> Result<Vec<(String, Mtime)>, StoreError> {
        self.0.displaced_in(folder)
    }

    /// Whether there are versions of files at or below a path.
    pub fn has_displaced(&self, path: &RelPath) -> Result<bool, StoreError> {
        self.0.has_displaced(path)
    }

    /// Sends the whole tree as it was at a time of [`Store::clock`], like [`Store::feed`].
    ///
    /// # Errors
    /// [`FeedError::Expired`] for a time before the history begins.
    pub fn tree_at(
        &self,
        at: Mtime,
        send: &mut dyn FnMut(FeedFrame) -> io::Result<()>,
    ) -> Result<(), FeedError> {
        self.0.tree_at(at, send)
    }

    /// Lets go of the versions that a policy doesn't keep, in small pieces. `running` is for how long
    /// the daemon has been running since the last time, or since it started; `go_on` is asked before
    /// each piece and may take its time.
    pub fn thin(
        &self,
        policy: &Policy,
        running: Duration,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Thinned, StoreError> {
        self.0.thin(policy, running, go_on)
    }

    /// Makes one change, again where somebody wrote at the same time by other means.
    fn once(&self, by: &By, change: Change) -> Result<Version, StoreError> {
        let change = [change];
        let mut writer = self.0.writer()?;
        let mut tries = 1;
        loop {
            let mut done = self.0.apply(&mut writer, &change, &by.0, None)?;
            if tries < TRIES && matches!(done[..], [Err(StoreError::Changed(_))]) {
                tries += 1;
                continue;
            }
            self.0.discard_refused(&change, &done);
            return done.pop().expect("one change has one outcome");
        }
    }
}
