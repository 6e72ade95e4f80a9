//! What must always hold, judged from outside: by what people wrote, and by what can be read
//! afterwards. It knows nothing of baselines, journals and plans.

use crate::alike::{Side, converged};
use crate::place::{Files, files_of, touched};
use crate::scenario::{Edit, Who};
use raspbox_core::names::{Accents, Disk};
use raspbox_protocol::Digest;
use raspbox_protocol::info::Holds;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// What is known of what people did.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// All contents that somebody wrote whole.
    written: HashMap<Digest, String>,
    /// Those that have to be somewhere at the end: nobody has destroyed their last copy.
    kept: BTreeSet<Digest>,
    /// For each content, those that its writer had seen under the same name.
    ancestors: HashMap<Digest, BTreeSet<Digest>>,
    seen: HashMap<(Who, String), BTreeSet<Digest>>,
    /// Contents that were written more than once: who had seen which can't be told.
    again: BTreeSet<Digest>,
    /// Paths that somebody touched since everything was last alike.
    touched: BTreeMap<String, BTreeSet<Who>>,
    /// What was deleted under which path, by whom, since then.
    deleted: Vec<(String, Digest, Who)>,
    /// What was in sync with a workstation when its power went, and touched by nobody else: it stays.
    held: BTreeMap<String, Digest>,
    /// Whether a side has forgotten something since then: a database was lost, or a machine died
    /// between doing something and noting it. Then an edit may meet its own echo.
    pub(crate) forgetful: bool,
}

/// What a content is called of which half was written.
const TORN: &str = "a torn content";

impl Oracle {
    /// Somebody changed something where these files were before, and those are now. Returns what may
    /// have had its last copy there, for which nobody but its owner is to blame.
    pub(crate) fn edited(
        &mut self,
        who: Who,
        edit: &Edit,
        before: &Files,
        after: &Files,
    ) -> Vec<Digest> {
        for path in touched(edit) {
            self.touch(who, path);
            self.made_again(path);
            self.held.retain(|held, _| !related(held, path));
        }
        for (path, digest) in after {
            if before.get(path) != Some(digest) {
                let what = match edit {
                    _ if *digest == Digest::of(b"") => "nothing".to_owned(),
                    Edit::Write { content, size, .. } => {
                        format!("content {content} of {size} bytes")
                    }
                    _ => "a content".to_owned(),
                };
                self.wrote(who, path, *digest, &what);
            }
        }
        for (path, digest) in before {
            if !after.contains_key(path) && matches!(edit, Edit::Remove(_)) {
                self.deleted(who, path, *digest);
            }
        }
        let gone = before
            .iter()
            .filter(|(path, digest)| after.get(*path) != Some(digest))
            .map(|(_, digest)| *digest);
        let gone: Vec<Digest> = gone.collect();
        match who {
            // What is displaced there is kept.
            Who::Ftp => Vec::new(),
            // What somebody destroys on the drive itself leaves no version; whoever has it brings it.
            Who::Station(_) | Who::Drive => gone,
        }
    }

    /// Somebody wrote a content whole.
    fn wrote(&mut self, who: Who, path: &str, digest: Digest, what: &str) {
        if self.written.insert(digest, what.to_owned()).is_some() {
            self.again.insert(digest);
        }
        if what != "nothing" {
            self.kept.insert(digest);
        }
        let seen = self.seen.entry((who, path.to_owned())).or_default();
        let mut ancestors = seen.clone();
        seen.insert(digest);
        let older: Vec<Digest> = ancestors.iter().copied().collect();
        for old in older {
            if let Some(more) = self.ancestors.get(&old) {
                ancestors.extend(more);
            }
        }
        ancestors.remove(&digest);
        self.ancestors.entry(digest).or_default().extend(ancestors);
        self.touch(who, path);
    }

    fn touch(&mut self, who: Who, path: &str) {
        self.touched.entry(path.to_owned()).or_default().insert(who);
    }

    /// Somebody deleted a file of this content, which was in sync.
    fn deleted(&mut self, who: Who, path: &str, digest: Digest) {
        self.deleted.push((path.to_owned(), digest, who));
    }

    /// The power goes at a workstation that has these files, while those are on the drive. What it loses
    /// of them is no edit and no deletion of anybody's.
    pub(crate) fn hold(&mut self, who: Who, here: &Files, there: &Files) {
        for (path, digest) in here {
            let others = self
                .touched
                .iter()
                .any(|(touched, by)| related(touched, path) && by.iter().any(|by| *by != who));
            if !others && there.get(path) == Some(digest) {
                self.held.insert(path.clone(), *digest);
            }
        }
    }

    /// Nobody is to blame for these files of which half was written when the power went; from then on
    /// they are contents like others.
    pub(crate) fn torn(&mut self, who: Who, files: &Files, may_be: &dyn Fn(&str) -> bool) {
        for (path, digest) in files {
            if !self.written.contains_key(digest) && may_be(path) {
                let is_empty = *digest == Digest::of(b"");
                let what = if is_empty { "nothing" } else { TORN };
                self.wrote(who, path, *digest, what);
            }
        }
    }

    /// Whether a content is what was left of one when the power went.
    pub(crate) fn is_torn(&self, digest: &Digest) -> bool {
        self.written.get(digest).is_some_and(|what| what == TORN)
    }

    /// Nothing is held any more: the drive itself was put back.
    pub(crate) fn let_go(&mut self) {
        self.held.clear();
    }

    /// Invariant: a power cut at a workstation takes nothing away that was in sync.
    fn outlives_power_cuts(&self, there: &Files) -> Result<(), String> {
        match self
            .held
            .iter()
            .find(|(path, held)| there.get(*path) != Some(held))
        {
            None => Ok(()),
            Some((path, held)) => Err(format!(
                "power cut: {path} was in sync with {}, and isn't there any more",
                self.name(held)
            )),
        }
    }

    /// Somebody has these files in front of them.
    pub(crate) fn sees(&mut self, who: Who, files: &Files) {
        for (path, digest) in files {
            let seen = self.seen.entry((who, path.clone())).or_default();
            seen.insert(*digest);
        }
    }

    /// Somebody destroyed the last copy of a content.
    pub(crate) fn destroyed(&mut self, digest: &Digest) {
        self.kept.remove(digest);
    }

    /// The contents that have to be somewhere.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Digest> {
        self.kept.iter()
    }

    /// What a content is called in messages.
    pub(crate) fn name(&self, digest: &Digest) -> String {
        let known = self.written.get(digest);
        known.map_or_else(|| format!("torn content {digest}"), Clone::clone)
    }

    /// Invariant: a visible file is one complete written version.
    pub(crate) fn integrity(&self, whose: &str, files: &Files) -> Result<(), String> {
        match files.iter().find(|(_, d)| !self.written.contains_key(*d)) {
            None => Ok(()),
            Some((path, digest)) => Err(format!(
                "integrity: {path} of {whose} is nothing that anybody wrote ({digest})"
            )),
        }
    }

    /// Invariant: every content at rest exists at some path, conflict copy or version.
    fn no_loss(&self, everywhere: &BTreeSet<Digest>) -> Result<(), String> {
        match self.kept.iter().find(|d| !everywhere.contains(*d)) {
            None => Ok(()),
            Some(lost) => Err(format!("no loss: {} is nowhere any more", self.name(lost))),
        }
    }

    /// Invariant: a conflict copy is only made of two writes, neither of whose writers had seen the
    /// other.
    pub(crate) fn no_spurious_conflict(
        &self,
        path: &str,
        copy: &Digest,
        there: &Digest,
    ) -> Result<(), String> {
        let knew = |new: &Digest, old: &Digest| {
            let ancestors = self.ancestors.get(new);
            ancestors.is_some_and(|ancestors| ancestors.contains(old))
        };
        let unclear = [copy, there]
            .iter()
            .any(|digest| self.again.contains(digest));
        if unclear || self.forgetful || !(copy == there || knew(copy, there) || knew(there, copy)) {
            return Ok(());
        }
        Err(format!(
            "no spurious conflict: at {path}, {} was set aside for {}",
            self.name(copy),
            self.name(there)
        ))
    }

    /// Invariant: what was deleted, and touched by nobody else, stays deleted.
    fn no_resurrection(&self, files: &Files) -> Result<(), String> {
        if self.forgetful {
            return Ok(());
        }
        for (path, digest, who) in &self.deleted {
            let others = self
                .touched
                .iter()
                .any(|(touched, by)| related(touched, path) && by.iter().any(|other| other != who));
            if !others && files.get(path) == Some(digest) {
                return Err(format!(
                    "no resurrection: {path} with {} is back, which {who:?} deleted",
                    self.name(digest)
                ));
            }
        }
        Ok(())
    }

    /// Everything was put right and is quiet: what must hold then, and what is known from then on.
    ///
    /// `everywhere` are the contents that somebody can still have, `problems` the paths that were said
    /// to be stuck.
    pub(crate) fn at_the_end(
        &mut self,
        everywhere: &BTreeSet<Digest>,
        drive: &Side,
        stations: &[Side],
        problems: &BTreeSet<String>,
    ) -> Result<(), String> {
        let there = files_of(drive.tree.clone());
        self.no_loss(everywhere)?;
        self.outlives_power_cuts(&there)?;
        converged(stations, drive, problems)?;
        self.no_resurrection(&there)?;
        self.settled();
        for (number, station) in stations.iter().enumerate() {
            self.sees(Who::Station(number), &files_of(station.tree.clone()));
        }
        Ok(())
    }

    /// Everything is alike, and everybody has seen it.
    fn settled(&mut self) {
        self.touched.clear();
        self.held.clear();
        self.deleted.clear();
        self.forgetful = false;
    }

    /// After a deletion, somebody made the same thing again.
    fn made_again(&mut self, path: &str) {
        let below = format!("{path}/");
        self.deleted
            .retain(|(gone, ..)| gone != path && !gone.starts_with(&below));
    }
}

/// Whether two paths may be one, or one in the other: on some disks they are, though they are spelled otherwise.
fn related(one: &str, other: &str) -> bool {
    let holds = Holds {
        case_sensitive: false,
        symlinks: true,
        dos_names: false,
        file_max_bytes: u64::MAX,
        granularity: Duration::ZERO,
    };
    let disk = Disk::here(holds, Accents::Alike);
    let (one, other) = (disk.key(one), disk.key(other));
    one == other || one.starts_with(&format!("{other}/")) || other.starts_with(&format!("{one}/"))
}
