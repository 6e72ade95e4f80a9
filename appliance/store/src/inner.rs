//! What all clones of a store share.

use crate::beneath::{Folder, Kind};
use crate::error::{OpenError, StoreError};
use crate::holds::{Disk, Space};
use crate::journal::{self, Journal, Tx};
use crate::model::{Faults, Options};
use crate::staging::Own;
use crate::versions::ReadWhole;
use nix::libc;
use raspbox_beneath::File;
use raspbox_protocol::info::DriveId;
use raspbox_protocol::path::RESERVED_NAME;
use raspbox_protocol::special::{RequestId, Stretch};
use raspbox_protocol::{Cursor, RelPath};
use rusqlite::Connection;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Of how many commits it is remembered what they have written alone: of as many as there are sessions by default.
const ALONE_MAX: usize = 64;

/// How many idle connections for reading are kept.
const READERS_MAX: usize = 4;

/// How much all sessions together write at most between two looks at the free space. A look costs a
/// system call.
const LOOK_EVERY_BYTES: u64 = 16 << 20;

/// The one place where the store's parts meet.
pub(crate) struct Inner {
    pub(crate) top: Folder,
    pub(crate) own: Own,
    pub(crate) own_path: PathBuf,
    pub(crate) disk: Disk,
    pub(crate) drive: DriveId,
    pub(crate) options: Options,
    pub(crate) faults: Faults,
    writer: Mutex<Writer>,
    readers: Mutex<Vec<Connection>>,
    cursor: Mutex<Cursor>,
    /// What the last commits have written alone, the newest last. Who sent one asks at once, or not at all.
    alone: Mutex<VecDeque<(RequestId, Stretch)>>,
    listener: Mutex<Option<Listener>>,
    steps: AtomicU32,
    pub(crate) read_whole: ReadWhole,
    /// Why nothing is changed on the drive any more, once something could not be written to it.
    unwritten: OnceLock<String>,
    /// How much may be written before the free space is looked at again, by all sessions together: else
    /// each of many could go below the floor a little.
    unlooked_bytes: AtomicU64,
    /// The newest time in the history when it was opened, and when that was by the uptime.
    pub(crate) opened: (i64, Duration),
    _lock: File,
}

/// The bit of the count of steps after which none stops any more.
const FORGIVEN: u32 = 1 << 31;

type Listener = Box<dyn Fn(Cursor) + Send + Sync>;

/// The right to change something.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) db: Connection,
    /// Whether the disk may have changed without the journal: after a failure in the middle of a
    /// batch. Then recovery comes before anything else.
    pub(crate) unsettled: bool,
}

impl Inner {
    pub(crate) fn open(
        top: &Path,
        options: Options,
        faults: Faults,
        repaired: bool,
    ) -> Result<Inner, OpenError> {
        let cannot = |source| OpenError::Folder {
            path: top.into(),
            source,
        };
        // SQLite takes no symlinks on the way to its file.
        let real = raspbox_beneath::canonical(top).map_err(cannot)?;
        let top_folder = Folder::open_top(&real).map_err(cannot)?;
        top_folder.names().map_err(cannot)?;
        let mut disk = Disk::of(&top_folder).map_err(cannot)?;
        if faults.fat {
            disk.stable_inodes = false;
            disk.modes = false;
        }
        let mut own = Own::open(&top_folder).map_err(cannot)?;
        // Whatever the type of filesystem says (ext4 can be told to ignore case), this is how it is.
        if own.folder.look("STAGING").map_err(cannot)?.is_some() {
            disk.holds.case_sensitive = false;
        }
        let lock = own.folder.open_or_create("lock").map_err(cannot)?;
        if !lock.try_lock().map_err(cannot)? {
            return Err(OpenError::Locked(top.into()));
        }
        let own_path = real.join(RESERVED_NAME);
        let drive = drive_id(&own.folder).map_err(cannot)?;
        let Journal { db, cursor, new } = Journal::open(&own.folder, &own_path, drive)?;
        own.folder.sync().map_err(cannot)?;
        if new {
            // What is staged may be something that was displaced, and nobody knows any more.
            own.set_staging_aside().map_err(cannot)?;
        }
        let last = journal::last(&db).map_err(|source| OpenError::Journal {
            path: own_path.clone(),
            source,
        })?;
        let inner = Inner {
            top: top_folder,
            own,
            own_path,
            disk,
            drive,
            options,
            faults,
            writer: Mutex::new(Writer {
                db,
                unsettled: true,
            }),
            readers: Mutex::default(),
            cursor: Mutex::new(cursor),
            alone: Mutex::default(),
            listener: Mutex::default(),
            steps: AtomicU32::new(0),
            read_whole: ReadWhole::default(),
            unwritten: OnceLock::new(),
            unlooked_bytes: AtomicU64::new(0),
            opened: (last, raspbox_beneath::uptime()),
            _lock: lock,
        };
        let mut writer = lock_anyway(&inner.writer);
        inner
            .recover(&mut writer, repaired)
            .map_err(|error| match error {
                _ if inner.unwritten().is_some() => OpenError::Unwritten {
                    path: top.into(),
                    why: error.to_string(),
                },
                StoreError::Journal(source) => OpenError::Journal {
                    path: inner.own_path.clone(),
                    source,
                },
                StoreError::Io { source, .. } => cannot(source),
                other => cannot(io::Error::other(other.to_string())),
            })?;
        drop(writer);
        Ok(inner)
    }

    /// Takes the right to change something, after making the journal and the disk agree.
    pub(crate) fn writer(&self) -> Result<MutexGuard<'_, Writer>, StoreError> {
        let mut writer = lock_anyway(&self.writer);
        self.check_written()?;
        if writer.unsettled {
            tracing::warn!("a change was interrupted, looking what became of it");
            self.settle(&mut writer)?;
        }
        Ok(writer)
    }

    /// Passes on what came of making something durable that has a user's name, or is a version.
    ///
    /// Where that failed, the kernel shows what was written all the same, has it down as written, and
    /// says so from the next time on. So nobody who looks on this mount can tell what is on the disk, and
    /// nothing is changed any more: only another mount shows what is there.
    pub(crate) fn durable(&self, result: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &result {
            let why = format!(
                "something could not be written to the drive ({error}); it is only read until it was \
                 unplugged and plugged in again"
            );
            if self.unwritten.set(why).is_ok() {
                tracing::error!(%error, "a write to the drive failed, nothing is changed on it any more");
            }
        }
        result
    }

    /// Why nothing is changed on the drive any more.
    pub(crate) fn unwritten(&self) -> Option<&str> {
        self.unwritten.get().map(String::as_str)
    }

    /// Fails where nothing is changed on the drive any more.
    pub(crate) fn check_written(&self) -> Result<(), StoreError> {
        match self.unwritten() {
            None => Ok(()),
            Some(why) => Err(StoreError::NotNow(why.into())),
        }
    }

    /// A journal's state for reading, which stays the same while `read` runs.
    pub(crate) fn snapshot<T, E: From<rusqlite::Error>>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let idle = lock_anyway(&self.readers).pop();
        let db = match idle {
            Some(db) => db,
            None => journal::reader(&self.own_path)?,
        };
        let result = {
            let _snapshot = db.unchecked_transaction()?;
            read(&db)
        };
        let mut readers = lock_anyway(&self.readers);
        if readers.len() < READERS_MAX && db.is_autocommit() {
            readers.push(db);
        }
        result
    }

    /// Closes the connections that nobody reads with, and empties the writer's cache, unless it is at work.
    pub(crate) fn empty_caches(&self) {
        // Closed without the lock: a drive that hangs must not hold up who comes next.
        let readers = std::mem::take(&mut *lock_anyway(&self.readers));
        drop(readers);
        if let Ok(writer) = self.writer.try_lock()
            && let Err(error) = writer.db.execute_batch("PRAGMA shrink_memory")
        {
            tracing::debug!(%error, "the journal's cache is kept");
        }
    }

    /// Makes a transaction durable, and tells the new position.
    pub(crate) fn publish(&self, tx: Tx<'_>) -> Result<(), StoreError> {
        let now = tx.commit()?;
        let before = std::mem::replace(&mut *lock_anyway(&self.cursor), now);
        if before != now
            && let Some(listener) = &*lock_anyway(&self.listener)
        {
            listener(now);
        }
        Ok(())
    }

    /// Remembers what a commit has written alone.
    pub(crate) fn note_alone(&self, id: RequestId, stretch: Stretch) {
        let mut alone = lock_anyway(&self.alone);
        if alone.len() == ALONE_MAX {
            alone.pop_front();
        }
        alone.push_back((id, stretch));
    }

    /// What a commit has written alone, where that was so and is still known.
    pub(crate) fn alone(&self, id: RequestId) -> Option<Stretch> {
        let alone = lock_anyway(&self.alone);
        let known = alone.iter().find(|(known, _)| *known == id);
        known.map(|(_, stretch)| *stretch)
    }

    /// Begins a transaction.
    pub(crate) fn begin<'c>(&self, db: &'c Connection) -> rusqlite::Result<Tx<'c>> {
        Tx::begin(db, self.time_ns())
    }

    /// The time that the history believes: the system's, unless that is behind what was recorded.
    ///
    /// A Pi has no clock of its own. After a power cut the system's may be years behind until the
    /// network sets it; then the history goes on from the newest time that it has, at a clock's pace.
    pub(crate) fn time_ns(&self) -> i64 {
        let ((last, opened), wall) = (self.opened, self.wall_ns());
        if wall >= last {
            return wall;
        }
        let since = raspbox_beneath::uptime().saturating_sub(opened).as_nanos();
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        last.saturating_add(since)
    }

    /// The system's clock.
    pub(crate) fn wall_ns(&self) -> i64 {
        match &self.faults.clock {
            Some(clock) => clock.load(Ordering::Relaxed),
            None => journal::now_ns(),
        }
    }

    pub(crate) fn cursor(&self) -> Cursor {
        *lock_anyway(&self.cursor)
    }

    pub(crate) fn listen(&self, listener: Listener) {
        *lock_anyway(&self.listener) = Some(listener);
    }

    pub(crate) fn space(&self) -> Result<Space, StoreError> {
        self.look_at_space()
            .map_err(|e| StoreError::io("the drive", e))
    }

    fn look_at_space(&self) -> io::Result<Space> {
        let Some(size_bytes) = self.faults.drive_bytes else {
            return Space::of(&self.top);
        };
        let mut used = 0;
        let own = [&self.own.staging, &self.own.versions, &self.own.parts];
        for folder in own.into_iter().chain([&self.top]) {
            used += used_bytes(folder)?;
        }
        Ok(Space {
            free_bytes: size_bytes.saturating_sub(used),
            size_bytes,
        })
    }

    /// Fails with `ENOSPC` where `more` bytes would go below the floor, after trying to make room.
    pub(crate) fn check_space(&self, more: u64) -> io::Result<()> {
        match self.check_free(more) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {}
            result => return result,
        }
        let need = self.options.floor_bytes.saturating_add(more);
        if let Err(error) = self.make_room(need) {
            tracing::warn!(%error, "no room could be made");
        }
        self.check_free(more)
    }

    /// The same without trying.
    pub(crate) fn check_free(&self, more: u64) -> io::Result<()> {
        let need = self.options.floor_bytes.saturating_add(more);
        let Some(left) = self.look_at_space()?.free_bytes.checked_sub(need) else {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        };
        // Others than us write, too; the nearer the floor is, the sooner it is looked again.
        let unlooked = LOOK_EVERY_BYTES.min(left / 2);
        self.unlooked_bytes.store(unlooked, Ordering::Relaxed);
        Ok(())
    }

    /// Whether `more` bytes may be written without a look at the free space before.
    pub(crate) fn may_write_unlooked(&self, more: u64) -> bool {
        let order = Ordering::Relaxed;
        let take = |left: u64| left.checked_sub(more);
        self.unlooked_bytes.fetch_update(order, order, take).is_ok()
    }

    /// Whether two names can change places, so that a replaced one is never absent. Where inode
    /// numbers don't last, recovery could not tell which is which.
    pub(crate) fn may_exchange(&self) -> bool {
        self.disk.stable_inodes && !self.faults.no_exchange
    }

    /// Whether after a power cut a name may stand there without its content: then each put has an intent, also of
    /// what is new.
    pub(crate) fn may_be_cut_off(&self) -> bool {
        !self.disk.stable_inodes
    }

    /// Whether both paths are the same name to the filesystem, in another case.
    pub(crate) fn is_respelling(&self, from: &RelPath, to: &RelPath) -> bool {
        !self.disk.holds.case_sensitive
            && from != to
            && from.parent() == to.parent()
            && from.name().to_lowercase() == to.name().to_lowercase()
    }

    /// Lets no step stop any more.
    pub(crate) fn forgive(&self) {
        self.steps.fetch_or(FORGIVEN, Ordering::Relaxed);
    }

    pub(crate) fn steps(&self) -> u32 {
        self.steps.load(Ordering::Relaxed) & !FORGIVEN
    }

    /// Marks a place between two calls on the disk where a test may stop everything.
    pub(crate) fn step(&self) {
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        if let Some((at, path, content)) = &self.faults.meddle
            && *at == step
        {
            let beside = path.with_extension("meddling");
            // Old enough that no fingerprint is doubted for its time.
            let old = std::time::SystemTime::UNIX_EPOCH;
            std::fs::write(&beside, content)
                .and_then(|()| std::fs::File::options().write(true).open(&beside))
                .and_then(|file| file.set_modified(old))
                .and_then(|()| std::fs::rename(&beside, path))
                .expect("only a test meddles");
        }
        let forgiven = step & FORGIVEN != 0;
        if !forgiven && self.faults.stop_at.is_some_and(|stop| step >= stop) {
            // A panic without its message: tests do this hundreds of times.
            std::panic::resume_unwind(Box::new("stopped, as a test asked for"));
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("folder", &self.own_path)
            .field("drive", &self.drive)
            .finish_non_exhaustive()
    }
}

/// The sizes of all files in a folder and below, our own at the top left out.
pub(crate) fn used_bytes(folder: &Folder) -> io::Result<u64> {
    let mut used = 0;
    for name in folder.names()?.0 {
        used += match folder.look(&name)? {
            Some(look) if look.kind == Kind::File => look.print.size,
            Some(look) if look.kind == Kind::Folder && name != RESERVED_NAME => {
                used_bytes(&folder.below(&name)?)?
            }
            Some(_) | None => 0,
        };
    }
    Ok(used)
}

/// What a panic left behind is still whole: the values are replaced at once, and the writer has
/// [`Writer::unsettled`].
pub(crate) fn lock_anyway<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The drive's identity, which outlives its journal: a file of 32 hex digits, made at first use.
fn drive_id(own: &Folder) -> io::Result<DriveId> {
    let mut text = String::new();
    let mut file = own.open_or_create("drive")?;
    Read::by_ref(&mut file).take(64).read_to_string(&mut text)?;
    if let Ok(id) = text.trim().parse() {
        return Ok(id);
    }
    if !text.is_empty() {
        tracing::warn!("the file with the drive's identity is damaged, it gets a new one");
    }
    let id = DriveId(raspbox_beneath::random());
    let staged = raspbox_beneath::random_name();
    let mut file = own.create(&staged)?;
    file.write_all(format!("{id}\n").as_bytes())?;
    file.sync_all()?;
    own.rename(&staged, own, "drive", crate::beneath::Onto::Anything)?;
    own.sync()?;
    Ok(id)
}
