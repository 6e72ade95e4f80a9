//! What must always hold, judged from outside: by what people wrote, and by what can be read
//! afterwards. It knows nothing of baselines, journals and plans.

use crate::scenario::Who;
use raspbox_protocol::Digest;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The digests of the files below a folder, by path.
pub(crate) type Files = BTreeMap<String, Digest>;

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
    /// Whether a side has forgotten something since then: a database was lost, or a machine died
    /// between doing something and noting it. Then an edit may meet its own echo.
    pub(crate) forgetful: bool,
}

impl Oracle {
    /// Somebody wrote a content whole.
    pub(crate) fn wrote(&mut self, who: Who, path: &str, digest: Digest, what: &str) {
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

    pub(crate) fn touch(&mut self, who: Who, path: &str) {
        self.touched.entry(path.to_owned()).or_default().insert(who);
    }

    /// Somebody deleted a file of this content, which was in sync.
    pub(crate) fn deleted(&mut self, who: Who, path: &str, digest: Digest) {
        self.deleted.push((path.to_owned(), digest, who));
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
    pub(crate) fn no_loss(&self, everywhere: &BTreeSet<Digest>) -> Result<(), String> {
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
    pub(crate) fn no_resurrection(&self, files: &Files) -> Result<(), String> {
        if self.forgetful {
            return Ok(());
        }
        for (path, digest, who) in &self.deleted {
            let related = |other: &str| {
                other == path
                    || other.starts_with(&format!("{path}/"))
                    || path.starts_with(&format!("{other}/"))
            };
            let others = self
                .touched
                .iter()
                .any(|(touched, by)| related(touched) && by.iter().any(|other| other != who));
            if !others && files.get(path) == Some(digest) {
                return Err(format!(
                    "no resurrection: {path} with {} is back, which {who:?} deleted",
                    self.name(digest)
                ));
            }
        }
        Ok(())
    }

    /// Everything is alike, and everybody has seen it.
    pub(crate) fn settled(&mut self) {
        self.touched.clear();
        self.deleted.clear();
        self.forgetful = false;
    }

    /// After a deletion, somebody made the same thing again.
    pub(crate) fn made_again(&mut self, path: &str) {
        let below = format!("{path}/");
        self.deleted
            .retain(|(gone, ..)| gone != path && !gone.starts_with(&below));
    }
}
