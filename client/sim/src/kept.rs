//! What was displaced on the drive and must be had back, and what rotted there and must go nowhere.
//!
//! Judged by looks at the drive between two steps, and by the history that anybody can ask for.

use crate::place::Files;
use raspbox_protocol::Digest;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of it.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// What stood there at the last look; `None` where that says nothing of what comes.
    stood: Option<Files>,
    displaced: BTreeSet<(String, Digest)>,
    /// What somebody wrote to on the drive itself: what was there is theirs to lose.
    by_hand: BTreeSet<String>,
    /// What a rotten content was before.
    rotten: BTreeMap<Digest, Digest>,
}

impl Kept {
    /// These files stand there now: what stood there before was displaced by what goes through the
    /// appliance.
    pub(crate) fn look(&mut self, files: Files) {
        for (path, digest) in self.stood.take().unwrap_or_default() {
            if files.get(&path) != Some(&digest) && !self.is_by_hand(&path) {
                self.displaced.insert((path, digest));
            }
        }
        self.stood = Some(files);
    }

    /// Something happened after which it can't be told what was displaced and what just wasn't durable.
    pub(crate) fn blink(&mut self) {
        self.stood = None;
    }

    /// The history itself is another one.
    pub(crate) fn forget(&mut self) {
        self.stood = None;
        self.displaced.clear();
    }

    /// Somebody wrote to these paths on the drive itself.
    pub(crate) fn wrote_by_hand<'a>(&mut self, paths: impl IntoIterator<Item = &'a str>) {
        self.by_hand.extend(paths.into_iter().map(folded));
    }

    /// A content rotted on the drive.
    pub(crate) fn rotted(&mut self, was: Digest, is: Digest) {
        self.rotten.insert(is, was);
        self.blink();
    }

    /// Whether a content is one that nobody wrote, but that rotted.
    pub(crate) fn is_rotten(&self, digest: &Digest) -> bool {
        self.rotten.contains_key(digest)
    }

    /// What a rotten content was before.
    pub(crate) fn was(&self, digest: &Digest) -> Option<&Digest> {
        self.rotten.get(digest)
    }

    /// What has to be had back under its path.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = (&str, &Digest)> {
        let all = self.displaced.iter();
        // The good copy of what rotted may have been the only one.
        let lost = |digest: &Digest| {
            self.is_rotten(digest) || self.rotten.values().any(|was| was == digest)
        };
        all.filter(move |(_, digest)| !lost(digest))
            .map(|(path, digest)| (path.as_str(), digest))
    }

    fn is_by_hand(&self, path: &str) -> bool {
        let path = folded(path);
        let is_in = |path: &str, folder: &str| {
            let rest = path.strip_prefix(folder);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut touched = self.by_hand.iter();
        touched.any(|touched| is_in(&path, touched) || is_in(touched, &path))
    }
}

/// A path as a disk has it that ignores case.
fn folded(path: &str) -> String {
    path.to_lowercase()
}
