//! Applying a batch of changes: the one way in which anything under a user's name changes.
//!
//! 1. What the batch brings is staged and durable before this begins.
//! 2. Under the writer's lock, each path's row is brought up to date with the disk, so that a
//!    precondition also sees what was written by other means.
//! 3. For each change that may displace something an *intent* is written, durably, all in one
//!    transaction ([`crate::recover`] says what it is for). What displaces nothing needs none: a
//!    crash leaves it done or not done, and the scan finds which.
//! 4. The changes are made on disk, in order ([`crate::perform`]), with their rows in a second
//!    transaction that is still open.
//! 5. The disk is made durable, then the transaction.
//! 6. Only then what nobody needs any more is removed.
//!
//! So a batch of any size costs two transactions and, where it is not small, two `syncfs`.
//!
//! A change fails alone where it changed nothing. Where the disk may be half changed the whole
//! batch fails: its rows are rolled back, and recovery finds out what is there, as after a crash. Where
//! something could not be made durable, looking doesn't tell what is there, and nothing is changed any
//! more until the next mount ([`Inner::durable`]).

use crate::beneath::{Folder, is_absent};
use crate::change::{Change, Expected};
use crate::damage;
use crate::error::StoreError;
use crate::inner::{Inner, Writer};
use crate::journal::Tx;
use crate::rows::{self, Intent};
use crate::staging::digest_of;
use raspbox_beneath::{Written, random_name, unreadable};
use raspbox_protocol::commit::{Outcome, ResultFrame};
use raspbox_protocol::special::{RequestId, Stretch};
use raspbox_protocol::{Cursor, Digest, Entry, RelPath, Version, wire};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::rc::Rc;

/// Up to this many changes are made durable one by one; more by one `syncfs`, which may have to wait
/// for what others are writing.
pub(crate) const SMALL_BATCH: usize = 8;

/// How many open folders are remembered in a batch.
const FOLDERS_MAX: usize = 64;

/// What became of each change.
pub(crate) type Done = Vec<Result<Version, StoreError>>;

/// Why a change didn't happen.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Nothing was changed for it; the others go on.
    Refused(StoreError),
    /// Something may have been changed for it.
    Broken(StoreError),
}

/// A batch while it is applied.
pub(crate) struct Batch<'a> {
    pub(crate) store: &'a Inner,
    pub(crate) tx: &'a Tx<'a>,
    pub(crate) by: &'a str,
    pub(crate) folders: Folders<'a>,
    /// Where names changed, to be made durable; always in the same order, for the simulation.
    pub(crate) touched: BTreeMap<Option<RelPath>, Rc<Folder>>,
    /// What makes everything durable at once: in a large batch, and on FAT, where a rename touches more
    /// than its folders.
    pub(crate) written: Option<Written>,
    /// Contents that came to be kept.
    pub(crate) kept: Vec<Digest>,
    /// Staged names that nobody needs once the batch is journalled.
    pub(crate) disposable: Vec<String>,
}

/// Opened folders by path. Forgotten when a folder moves or goes.
pub(crate) struct Folders<'a> {
    store: &'a Inner,
    open: HashMap<Option<RelPath>, Rc<Folder>>,
}

impl Inner {
    /// Applies changes and remembers what became of them, where a request is named.
    pub(crate) fn apply(
        &self,
        writer: &mut Writer,
        changes: &[Change],
        by: &str,
        request: Option<RequestId>,
    ) -> Result<Done, StoreError> {
        writer.unsettled = true;
        match self.try_apply(&writer.db, changes, by, request) {
            Ok((done, disposable)) => {
                writer.unsettled = false;
                disposable.iter().for_each(|name| self.discard(name));
                Ok(done)
            }
            Err(error) => {
                if self.unwritten().is_some() {
                    // Whatever it looks like, it may not be on the disk.
                    return Err(error);
                }
                tracing::error!(%error, "a batch failed, looking what became of it");
                if let Err(error) = self.settle(writer) {
                    tracing::error!(%error, "can't look now, will try before the next change");
                }
                Err(error)
            }
        }
    }

    /// Removes what was staged for changes that were refused. (Where the batch failed, it may be
    /// something that was displaced.)
    pub(crate) fn discard_refused(&self, changes: &[Change], done: &Done) {
        for (change, result) in changes.iter().zip(done) {
            if let (Some(staged), Err(_)) = (change.staged(), result) {
                self.discard(staged);
            }
        }
    }

    fn discard(&self, staged: &str) {
        match self.own.staging.unlink(staged) {
            Err(error) if !is_absent(&error) => {
                tracing::warn!(name = staged, %error, "a leftover could not be removed");
            }
            _ => {}
        }
    }

    fn try_apply(
        &self,
        db: &rusqlite::Connection,
        changes: &[Change],
        by: &str,
        request: Option<RequestId>,
    ) -> Result<(Done, Vec<String>), StoreError> {
        let mut folders = Folders::new(self);
        let (mut failed, names) = self.prepare(db, changes, &mut folders)?;
        let at_once = changes.len() > SMALL_BATCH || !self.disk.stable_inodes;
        let written = at_once.then(|| self.own.folder.written()).transpose();
        let written = written.map_err(|error| StoreError::io("the drive", error))?;
        let tx = self.begin(db)?;
        let before = tx.seq();
        let mut batch = Batch {
            store: self,
            tx: &tx,
            by,
            folders,
            touched: BTreeMap::new(),
            written,
            kept: Vec::new(),
            disposable: Vec::new(),
        };
        let mut done = Vec::with_capacity(changes.len());
        for (n, change) in changes.iter().enumerate() {
            self.step();
            let result = match failed.remove(&n) {
                Some(error) => Err(error),
                None => match batch.perform(change, names.get(&n).map(String::as_str)) {
                    Ok(version) => Ok(version),
                    Err(Stop::Refused(error)) if error.is_not_now() => return Err(error),
                    Err(Stop::Refused(error)) => Err(error),
                    Err(Stop::Broken(error)) => return Err(error),
                },
            };
            done.push(result);
        }
        self.step();
        batch.sync()?;
        self.step();
        if let Some(id) = request {
            rows::put_result(&tx, id, &to_frames(&done, changes))?;
        }
        rows::clear_intents(&tx)?;
        let disposable = batch.disposable;
        let last = tx.seq();
        let alone = wrote_alone(before, last, &done);
        self.publish(tx)?;
        self.step();
        if let (Some(id), true) = (request, alone) {
            let after = Cursor {
                seq: before,
                ..self.cursor()
            };
            self.note_alone(id, Stretch { after, last });
        }
        Ok((done, disposable))
    }

    /// Brings the rows up to date and writes the intents. Returns which changes can't be made, and
    /// the staged names of those that displace something.
    #[allow(clippy::type_complexity)]
    fn prepare(
        &self,
        db: &rusqlite::Connection,
        changes: &[Change],
        folders: &mut Folders<'_>,
    ) -> Result<(HashMap<usize, StoreError>, HashMap<usize, String>), StoreError> {
        let (mut failed, mut names) = (HashMap::new(), HashMap::new());
        let tx = self.begin(db)?;
        let before = tx.seq();
        for (n, change) in changes.iter().enumerate() {
            let mut paths = change.paths();
            let known = paths
                .try_for_each(|path| folders.refresh(&tx, path))
                .and_then(|()| self.look_again(&tx, folders, change));
            match known {
                Ok(()) => {}
                Err(error @ (StoreError::NotNow(_) | StoreError::Journal(_))) => {
                    return Err(error);
                }
                Err(error) => {
                    failed.insert(n, error);
                    continue;
                }
            }
            if let Some(intent) = self.intent(&tx, change)? {
                rows::intend(&tx, &intent)?;
                names.insert(n, intent.staged);
            }
        }
        if !names.is_empty() || tx.seq() != before {
            self.publish(tx)?;
            self.step();
        }
        Ok((failed, names))
    }

    /// Where a change brings the content that stands there, reads whether it still does. Else what rotted
    /// unnoticed would be found done, though here is the good content. That takes as long as what brought it.
    fn look_again(
        &self,
        tx: &Tx<'_>,
        folders: &mut Folders<'_>,
        change: &Change,
    ) -> Result<(), StoreError> {
        let Some((path, file)) = change.gives() else {
            return Ok(());
        };
        // Nearly never, so without the whole row.
        if !rows::has_content(tx.db, path, &file.digest)? {
            return Ok(());
        }
        let Some(row) = rows::get(tx.db, path)? else {
            return Ok(());
        };
        if row.is_missing() || damage::is_marked(tx.db, path, &row)? {
            return Ok(());
        }
        let folder = folders.parent(path)?;
        let read = folder
            .open(path.name())
            .and_then(|mut file| digest_of(&mut file));
        let found = match read {
            Ok((found, _)) if found == file.digest => return Ok(()),
            Ok((found, _)) => Some(found),
            Err(error) if unreadable(&error) => None,
            // Gone just now.
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(StoreError::io(path, error)),
        };
        self.judge(tx, path, &row, found.as_ref()).map(drop)
    }

    pub(crate) fn is_damaged(&self, tx: &Tx<'_>, path: &RelPath) -> Result<bool, StoreError> {
        match rows::get(tx.db, path)? {
            Some(row) => Ok(damage::is_marked(tx.db, path, &row)?),
            None => Ok(false),
        }
    }

    /// What a change may displace.
    fn intent(&self, tx: &Tx<'_>, change: &Change) -> Result<Option<Intent>, StoreError> {
        let stands = |path: &RelPath| -> Result<bool, StoreError> {
            let row = rows::get(tx.db, path)?;
            Ok(row.is_some_and(|row| row.entry != Entry::Folder))
        };
        Ok(match change {
            Change::Put {
                path,
                expected,
                content,
                staged,
            } if match stands(path)? {
                true => *expected != Expected::Absent || self.is_damaged(tx, path)?,
                false => self.may_be_cut_off(),
            } =>
            {
                Some(Intent {
                    staged: staged.clone(),
                    path: path.clone(),
                    source: None,
                    new: Some(match content {
                        crate::change::Content::File { file, .. } => Entry::File(*file),
                        crate::change::Content::Symlink(target) => Entry::Symlink(target.clone()),
                    }),
                })
            }
            Change::Delete { path, .. } | Change::PutBack { path, .. } if stands(path)? => {
                Some(Intent {
                    staged: random_name(),
                    path: path.clone(),
                    source: None,
                    new: None,
                })
            }
            Change::Move { from, to, .. } if self.is_respelling(from, to) => Some(Intent {
                staged: random_name(),
                path: to.clone(),
                source: None,
                new: None,
            }),
            Change::Move { from, expected, to } if *expected == Expected::Any && stands(to)? => {
                Some(Intent {
                    staged: random_name(),
                    path: to.clone(),
                    source: Some(from.clone()),
                    new: None,
                })
            }
            Change::Put { .. }
            | Change::PutBack { .. }
            | Change::Keep { .. }
            | Change::MakeFolder { .. }
            | Change::Delete { .. }
            | Change::Move { .. }
            | Change::SetMeta { .. }
            | Change::Refused(_) => None,
        })
    }
}

impl Batch<'_> {
    fn sync(&self) -> Result<(), StoreError> {
        let trouble = |error| StoreError::io("the drive", error);
        self.store.durable(self.sync_all()).map_err(trouble)
    }

    fn sync_all(&self) -> io::Result<()> {
        if let Some(written) = &self.written {
            return written.sync();
        }
        for folder in self.touched.values() {
            folder.sync()?;
        }
        self.store.own.sync_kept(&self.kept)
    }
}

impl<'a> Folders<'a> {
    pub(crate) fn new(store: &'a Inner) -> Folders<'a> {
        Folders {
            store,
            open: HashMap::new(),
        }
    }

    /// Opens the folder that a path is in.
    pub(crate) fn parent(&mut self, path: &RelPath) -> Result<Rc<Folder>, StoreError> {
        let parent = path.parent();
        if let Some(open) = self.open.get(&parent) {
            return Ok(Rc::clone(open));
        }
        match self.store.top.folder(parent.as_ref()) {
            Ok(folder) => Ok(self.remember(parent, folder)),
            Err(error) if is_absent(&error) => Err(StoreError::NoParent(path.clone())),
            Err(error) => Err(StoreError::io(path, error)),
        }
    }

    pub(crate) fn forget(&mut self) {
        self.open.clear();
    }

    fn remember(&mut self, parent: Option<RelPath>, folder: Folder) -> Rc<Folder> {
        if self.open.len() >= FOLDERS_MAX {
            self.open.clear();
        }
        let folder = Rc::new(folder);
        self.open.insert(parent, Rc::clone(&folder));
        folder
    }

    /// Journals what stands at a path, where it isn't what its row says.
    fn refresh(&mut self, tx: &Tx<'_>, path: &RelPath) -> Result<(), StoreError> {
        let parent = path.parent();
        if !self.open.contains_key(&parent) {
            match &parent {
                None => {}
                Some(parent) => self.refresh_folder(tx, parent)?,
            }
        }
        let folder = match self.parent(path) {
            Ok(folder) => folder,
            // Perhaps the batch makes it.
            Err(StoreError::NoParent(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let look = folder
            .look(path.name())
            .map_err(|e| StoreError::io(path, e))?;
        let row = rows::get(tx.db, path)?;
        match (&row, &look) {
            (None, None) => Ok(()),
            (Some(row), Some(look)) if row.fits(look, &self.store.disk) => Ok(()),
            (None, Some(_)) if !self.spelled_so(&folder, path)? => Ok(()),
            (None | Some(_), _) => self.store.scan_at(tx, &folder, path),
        }
    }

    /// The same for a folder and all that it is in, from the top down.
    fn refresh_folder(&mut self, tx: &Tx<'_>, path: &RelPath) -> Result<(), StoreError> {
        if let Some(parent) = path.parent()
            && !self.open.contains_key(&Some(parent.clone()))
        {
            self.refresh_folder(tx, &parent)?;
        }
        let folder = match self.parent(path) {
            Ok(folder) => folder,
            Err(StoreError::NoParent(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let look = folder
            .look(path.name())
            .map_err(|e| StoreError::io(path, e))?;
        match (rows::get(tx.db, path)?, look) {
            (None, None) => Ok(()),
            (Some(row), Some(look)) if row.fits(&look, &self.store.disk) => Ok(()),
            (None, Some(_)) if !self.spelled_so(&folder, path)? => Err(clash(path)),
            (None | Some(_), _) => self.store.scan_at(tx, &folder, path),
        }
    }

    /// Whether what stands under a name is spelled like it; only to be asked where something does.
    pub(crate) fn spelled_so(&self, folder: &Folder, path: &RelPath) -> Result<bool, StoreError> {
        if self.store.disk.holds.case_sensitive {
            return Ok(true);
        }
        let (names, _) = folder.names().map_err(|e| StoreError::io(path, e))?;
        Ok(names.iter().any(|name| name == path.name()))
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Stop::Refused(error)
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Stop {
        Stop::Broken(error.into())
    }
}

/// The refusal for a name that differs from another one in case only.
pub(crate) fn clash(path: &RelPath) -> StoreError {
    StoreError::CannotHold {
        path: path.clone(),
        why: "a name that differs from it in upper and lower case only is there".into(),
    }
}

/// Whether all numbers between the two are those of these changes. What was found there meanwhile, or was
/// there already, has others.
fn wrote_alone(before: u64, last: u64, done: &Done) -> bool {
    let versions = done.iter().flatten().map(|version| version.0);
    let own: BTreeSet<u64> = versions.filter(|version| *version > before).collect();
    own.len() as u64 == last - before
}

/// The outcomes as they are kept and sent.
pub(crate) fn to_frames(done: &Done, changes: &[Change]) -> Vec<u8> {
    let mut frames: Vec<ResultFrame> = done
        .iter()
        .zip(changes)
        .map(|(result, change)| ResultFrame::Outcome(outcome(result, change)))
        .collect();
    frames.push(ResultFrame::End);
    wire::to_bytes(&frames)
}

fn outcome(result: &Result<Version, StoreError>, change: &Change) -> Outcome {
    use raspbox_protocol::commit::Refusal;
    match (result, change) {
        (Ok(version), _) => Outcome::Done(*version),
        (Err(_), Change::Refused(refusal)) => Outcome::Refused(refusal.clone()),
        (Err(error), _) => Outcome::Refused(Refusal::from(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::wrote_alone;
    use crate::error::StoreError;
    use raspbox_protocol::Version;

    #[test]
    fn alone_is_where_each_number_is_one_of_its_own() {
        let done = |versions: &[u64]| versions.iter().map(|v| Ok(Version(*v))).collect();
        assert!(wrote_alone(7, 7, &vec![]));
        assert!(wrote_alone(7, 9, &done(&[8, 9])));
        // What was there already, and what was deleted though it wasn't there.
        assert!(wrote_alone(7, 8, &done(&[3, 8, 8])));
        let refused = Err(StoreError::NoSpace);
        assert!(wrote_alone(7, 8, &vec![refused, Ok(Version(8))]));
        // Something else was journalled meanwhile, in front, in between or behind.
        assert!(!wrote_alone(7, 9, &done(&[9])));
        assert!(!wrote_alone(7, 10, &done(&[8, 10])));
        assert!(!wrote_alone(7, 8, &vec![]));
    }
}
