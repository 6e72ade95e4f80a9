//! Making journal and disk agree again after a crash or a failure in the middle of a batch.
//!
//! An intent is written before anything is displaced, and names the path and the staged name that
//! takes part. What was displaced is, at any moment, either under its path, under that staged name
//! (or `old-` and that name, where names can't be exchanged) or kept as a version; so for each
//! intent one look at the staged name tells what is left to do:
//!
//! | staged name | path | then |
//! |---|---|---|
//! | absent | whatever | done wholly or not at all, the scan finds which |
//! | the new content | whatever | not done: the new content is dropped, it was never acknowledged |
//! | something else | absent | half done: it is what was displaced, and goes back |
//! | something else | present | done: it is what was displaced, and is kept as a version |
//!
//! On FAT a name may have come without its content (see [`Inner::remove_cut_off`]): that is removed before.
//!
//! Then the scan journals what is found. Where a row's content isn't under its path any more but is
//! kept, the scan's note of it makes it a version ([`Inner::note_past`]).

use crate::beneath::{Folder, Kind, Look, Onto, is_absent};
use crate::contents;
use crate::damage;
use crate::error::StoreError;
use crate::history::{self, End};
use crate::inner::{Inner, Writer};
use crate::journal::{self, Tx};
use crate::perform::old_name;
use crate::rows::{self, Intent, Row};
use crate::staging::digest_of;
use raspbox_protocol::path::RESERVED_NAME;
use raspbox_protocol::{Digest, Entry, File, RelPath, Version};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// The key of the journal's note that the filesystem was repaired, and not everything looked at since.
const REPAIRED: &str = "repaired";

/// The file in our own folder by which root tells the same: see [`note_repair`].
const REPAIRED_FILE: &str = "repaired";

/// Notes in the store in this folder, durably, that its filesystem was repaired: whoever opens it next does so
/// as [`crate::Store::open_repaired`]. Nothing where there is no store.
///
/// # Errors
/// As the system's calls have them.
pub fn note_repair(top: &Path) -> io::Result<()> {
    let top = Folder::open_top(&raspbox_beneath::canonical(top)?)?;
    let own = match top.below(RESERVED_NAME) {
        Err(error) if is_absent(&error) => return Ok(()),
        own => own?,
    };
    own.open_or_create(REPAIRED_FILE)?.sync_all()?;
    own.sync()
}

impl Inner {
    /// At opening: settles what was interrupted, removes what is left over and scans the tree. `repaired`
    /// is whether the filesystem had to be, so that what is gone may be lost and not deleted.
    pub(crate) fn recover(&self, writer: &mut Writer, repaired: bool) -> Result<(), StoreError> {
        let trouble = |error| StoreError::io("the drive", error);
        let written = self.own.folder.written().map_err(trouble)?;
        let told = self.own.folder.look(REPAIRED_FILE).map_err(trouble)?;
        let repaired =
            repaired || told.is_some() || damage::note::<i64>(&writer.db, REPAIRED)?.is_some();
        if repaired {
            // Until all of it is known: the next check of the filesystem will find nothing to repair.
            let tx = self.begin(&writer.db)?;
            journal::set_meta(tx.db, REPAIRED, 1)?;
            tx.commit()?;
            self.step();
        }
        if told.is_some() {
            self.own.folder.unlink(REPAIRED_FILE).map_err(trouble)?;
            self.step();
        }
        let tx = self.begin(&writer.db)?;
        let displaced = rows::intents(tx.db)?.into_iter();
        let displaced = displaced.flat_map(|intent| [Some(intent.path), intent.source]);
        let displaced = displaced.flatten().collect();
        let doubted = self.settle_intents(&tx, self.may_be_cut_off())?;
        self.scan_all(&tx, &doubted, repaired.then_some(&displaced))?;
        self.adopt_kept(&tx)?;
        rows::clear_intents(&tx)?;
        if repaired {
            journal::forget_meta(tx.db, REPAIRED)?;
            self.step();
        }
        self.durable(written.sync()).map_err(trouble)?;
        self.publish(tx)?;
        // Only now: until here a leftover could have been named by an intent.
        self.remove_leftovers()?;
        writer.unsettled = false;
        Ok(())
    }

    /// The same while the store is in use: others are staging files, so leftovers stay.
    pub(crate) fn settle(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let trouble = |error| StoreError::io("the drive", error);
        let written = self.own.folder.written().map_err(trouble)?;
        let tx = self.begin(&writer.db)?;
        let doubted = self.settle_intents(&tx, false)?;
        self.scan_all(&tx, &doubted, None)?;
        rows::clear_intents(&tx)?;
        self.durable(written.sync()).map_err(trouble)?;
        self.publish(tx)?;
        writer.unsettled = false;
        Ok(())
    }

    /// Returns the paths at which a new content may stand that looks like what their rows say. `may_be_cut_off` is
    /// whether names may stand there without their content.
    fn settle_intents(
        &self,
        tx: &Tx<'_>,
        may_be_cut_off: bool,
    ) -> Result<BTreeSet<RelPath>, StoreError> {
        let mut doubted = BTreeSet::new();
        for intent in rows::intents(tx.db)? {
            let trouble = |e| StoreError::io(&intent.path, e);
            if may_be_cut_off {
                self.remove_cut_off(tx, &intent)?;
            }
            if !self.disk.stable_inodes && self.may_have_come(tx, &intent)? {
                doubted.insert(intent.path.clone());
            }
            self.finish_exchange(tx, &intent).map_err(trouble)?;
            self.settle_old(tx, &intent, &old_name(&intent.staged))?;
            if may_be_cut_off {
                self.bring_back_kept(tx, &intent.path)?;
            }
            let staged = self.own.staging.look(&intent.staged).map_err(trouble)?;
            let is_new = match (&staged, &intent.new) {
                (None, _) => continue,
                (Some(_), None) => false,
                (Some(look), Some(new)) => {
                    let found = self.identify(&intent.staged, look).map_err(trouble)?;
                    found.is_some_and(|found| is_same(&found, new))
                }
            };
            // Else either it never got its name, or it displaced a content that is the same.
            if !is_new {
                self.settle_old(tx, &intent, &intent.staged)?;
            }
        }
        Ok(doubted)
    }

    /// Removes the names that are there without their content. Linux's vfat writes the new name of a rename first, for
    /// an empty file, and the place and the size of its content later; where the power goes in between, and where
    /// fsck parts two names of one content, an empty file stands there that nobody wrote. Only where it is known that
    /// whatever the intent is about has a content.
    fn remove_cut_off(&self, tx: &Tx<'_>, intent: &Intent) -> Result<(), StoreError> {
        let trouble = |e| StoreError::io(&intent.path, e);
        let mut contents = BTreeSet::new();
        for path in [Some(&intent.path), intent.source.as_ref()]
            .into_iter()
            .flatten()
        {
            contents.extend(rows::get(tx.db, path)?.and_then(|row| row.digest()));
        }
        if let Some(Entry::File(new)) = &intent.new {
            contents.insert(new.digest);
        }
        // One that is to be empty is there with all of its content; and of a change of case nothing is known.
        if contents.is_empty() || contents.contains(&Digest::of(b"")) {
            return Ok(());
        }
        let parent = match self.top.folder(intent.path.parent().as_ref()) {
            Err(error) if is_absent(&error) => None,
            parent => Some(parent.map_err(trouble)?),
        };
        let (staging, old) = (&self.own.staging, old_name(&intent.staged));
        let parent = parent.iter().map(|parent| (parent, intent.path.name()));
        for (folder, name) in parent.chain([(staging, &*intent.staged), (staging, &*old)]) {
            let look = folder.look(name).map_err(trouble)?;
            if look.is_some_and(|look| look.kind == Kind::File && look.print.size == 0) {
                self.step();
                folder.unlink(name).map_err(trouble)?;
                tracing::warn!(path = %intent.path, name, "a name without a content was removed");
            }
        }
        Ok(())
    }

    /// Gives what stood at a path its name again, where that is free, it had been put away as a version already, and no
    /// other version is the same content. Whether a name without a content was there isn't asked: a recovery that was
    /// itself interrupted may have removed it. So a delete is undone that was done and not journalled yet.
    fn bring_back_kept(&self, tx: &Tx<'_>, path: &RelPath) -> Result<(), StoreError> {
        let trouble = |e| StoreError::io(path, e);
        let Some(Row {
            entry: Entry::File(file),
            ..
        }) = rows::get(tx.db, path)?
        else {
            return Ok(());
        };
        if contents::is_displaced(tx.db, &file.digest)?
            || !self.own.keeps(&file.digest, file.size).map_err(trouble)?
        {
            return Ok(());
        }
        let shelf = self.own.shelf(&file.digest).map_err(trouble)?;
        let parent = match self.top.folder(path.parent().as_ref()) {
            Err(error) if is_absent(&error) => return Ok(()),
            parent => parent.map_err(trouble)?,
        };
        self.step();
        let kept = file.digest.to_string();
        match shelf.rename(&kept, &parent, path.name(), Onto::Nothing) {
            Ok(()) => {}
            // It was still in the staging folder, and is back.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => return Err(trouble(error)),
        }
        self.step();
        tracing::warn!(%path, "a displaced content was put back");
        Ok(())
    }

    /// Whether what was to come may stand under its name already: where it has the old one's size and time,
    /// nothing else shows it on a disk without lasting inode numbers. What rotted there must not be taken for it.
    fn may_have_come(&self, tx: &Tx<'_>, intent: &Intent) -> Result<bool, StoreError> {
        let folder = self.top.folder(intent.path.parent().as_ref());
        let found = folder.and_then(|folder| digest_of(&mut folder.open(intent.path.name())?));
        // What can't be read is not what was written just now.
        let Ok((found, _)) = found else {
            return Ok(false);
        };
        Ok(match (&intent.new, &intent.source) {
            (Some(Entry::File(new)), _) => new.digest == found,
            (Some(Entry::Folder | Entry::Symlink(_)), _) => false,
            (None, Some(source)) => rows::has_content(tx.db, source, &found)?,
            // Perhaps a version took its place.
            (None, None) => contents::is_displaced(tx.db, &found)?,
        })
    }

    /// Puts what was displaced back where its name is free, else keeps it as a version.
    fn settle_old(&self, tx: &Tx<'_>, intent: &Intent, staged: &str) -> Result<(), StoreError> {
        let trouble = |e| StoreError::io(&intent.path, e);
        let (staging, name) = (&self.own.staging, intent.path.name());
        let Some(look) = staging.look(staged).map_err(trouble)? else {
            return Ok(());
        };
        let row = rows::get(tx.db, &intent.path)?;
        let parent = match self.top.folder(intent.path.parent().as_ref()) {
            Err(error) if is_absent(&error) => None,
            parent => Some(parent.map_err(trouble)?),
        };
        let mut there = None;
        if let Some(parent) = &parent {
            self.step();
            let back = staging.rename(staged, parent, name, Onto::Nothing);
            there = parent.look(name).map_err(trouble)?;
            match back {
                Ok(()) => {
                    tracing::warn!(path = %intent.path, "a displaced content was put back");
                    // Its name has given it another change time. By that, what rotted would be an edit.
                    if let (Some(row), Some(look)) = (row, there) {
                        rows::put(tx, &intent.path, &row.seen(&look, &self.disk))?;
                    }
                    self.step();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(trouble(error)),
            }
        }
        let Some(entry) = self.identify(staged, &look).map_err(trouble)? else {
            // Nothing of ours puts such a thing there; a person may look at it.
            let message = "what was displaced is neither file nor symlink";
            return Err(StoreError::NotNow(format!("{}: {message}", intent.path)));
        };
        let row = match row {
            Some(row) if row.entry.same_content(&entry) => row,
            row => {
                // Somebody had put it in the place of what the row says.
                if let Some(row) = row
                    && !there.is_some_and(|there| row.fits_moved(&there, &self.disk))
                {
                    self.note_past(tx, &intent.path, &row, End::Replaced)?;
                }
                Row {
                    entry: entry.clone(),
                    version: Version(0),
                    by: String::new(),
                    since_ns: tx.now()?,
                    print: crate::beneath::Fingerprint::default(),
                    recorded_ns: 0,
                }
            }
        };
        // Its name is taken, or its folder is gone.
        history::displace(tx, Some(&intent.path), &row, End::Replaced, "")?;
        self.keep(staged, &entry).map_err(trouble)?;
        tracing::warn!(path = %intent.path, "a displaced content was kept as a version");
        Ok(())
    }

    /// A move over something begins by exchanging both names. Where it stopped there, the displaced
    /// one stands under the old name; it is taken away from there, as was asked.
    fn finish_exchange(&self, tx: &Tx<'_>, intent: &Intent) -> io::Result<()> {
        let Some(source) = intent.source.as_ref().filter(|_| self.disk.stable_inodes) else {
            return Ok(());
        };
        let row = |path: &RelPath| rows::get(tx.db, path).map_err(io::Error::other);
        let (Some(moved), Some(displaced)) = (row(source)?, row(&intent.path)?) else {
            return Ok(());
        };
        let stands = |folder: &Folder, path: &RelPath, row: &Row| -> io::Result<bool> {
            let look = folder.look(path.name())?;
            Ok(look.is_some_and(|look| {
                row.fits_moved(&look, &self.disk) && row.print.inode == look.print.inode
            }))
        };
        let parent = |path: &RelPath| match self.top.folder(path.parent().as_ref()) {
            Err(error) if is_absent(&error) => Ok(None),
            folder => folder.map(Some),
        };
        let (Some(from), Some(to)) = (parent(source)?, parent(&intent.path)?) else {
            return Ok(());
        };
        if stands(&from, source, &displaced)? && stands(&to, &intent.path, &moved)? {
            self.step();
            from.rename(
                source.name(),
                &self.own.staging,
                &intent.staged,
                Onto::Nothing,
            )?;
            self.step();
        }
        Ok(())
    }

    /// What stands in the staging folder, with its content's hash; `None` for what isn't ours.
    fn identify(&self, staged: &str, look: &Look) -> io::Result<Option<Entry>> {
        Ok(match &look.kind {
            Kind::File => {
                let (digest, size) = digest_of(&mut self.own.staging.open(staged)?)?;
                Some(Entry::File(File {
                    digest,
                    size,
                    mtime: look.mtime,
                    executable: look.executable,
                }))
            }
            Kind::Symlink(Some(target)) => Some(Entry::Symlink(target.clone())),
            Kind::Folder | Kind::Symlink(None) | Kind::Other => None,
        })
    }

    fn remove_leftovers(&self) -> Result<(), StoreError> {
        let trouble = |e| StoreError::io(".raspbox/staging", e);
        for name in self.own.staging.names().map_err(trouble)?.0 {
            if let Err(error) = self.own.staging.unlink(&name) {
                tracing::warn!(name, %error, "a leftover could not be removed");
            }
        }
        Ok(())
    }
}

fn is_same(found: &Entry, new: &Entry) -> bool {
    match (found, new) {
        (Entry::File(found), Entry::File(new)) => found.digest == new.digest,
        (Entry::Symlink(found), Entry::Symlink(new)) => found == new,
        (Entry::File(_) | Entry::Folder | Entry::Symlink(_), _) => false,
    }
}
