//! Putting right what a crash left in the staging folder.

use super::{PART_KEPT_FOR, Workspace};
use crate::scan::read_file;
use crate::state::State;
use raspbox_beneath::{Kind, now};
use raspbox_protocol::{Digest, RelPath};
use std::ffi::OsStr;
use std::io::ErrorKind;

/// What a crash left.
enum Left {
    File(Digest),
    Symlink(String),
    /// Nothing that any side could be known to have.
    Other,
}

impl Workspace {
    /// Puts right what a crash left in the staging folder. Returns the conflict copies that it made.
    ///
    /// # Errors
    /// Where the disk or the state fails; what is there stays there.
    pub fn recover(&self, state: &State) -> anyhow::Result<Vec<RelPath>> {
        let mut left = Vec::new();
        for name in self.staging.names()? {
            let Some(name) = name.to_str() else { continue };
            if let Some(id) = name.strip_suffix(".part") {
                if !self.is_kept_part(id, name)? {
                    self.staging.remove_file(name)?;
                }
            } else if let Some(what) = self.left(name)? {
                left.push((name.to_owned(), what));
            }
        }
        if left.is_empty() {
            return Ok(Vec::new());
        }
        let contents = left.iter().filter_map(|(_, what)| match what {
            Left::File(digest) => Some(*digest),
            Left::Symlink(_) | Left::Other => None,
        });
        let contents = state.known_contents(&contents.collect())?;
        let mut kept = Vec::new();
        for (name, what) in left {
            let known = match what {
                Left::File(digest) => contents.contains(&digest),
                Left::Symlink(target) => state.knows_target(&target)?,
                Left::Other => false,
            };
            kept.extend(self.recover_one(state, &name, known)?);
        }
        Ok(kept)
    }

    /// What a crash left by this name; `None` where nothing is there any more.
    fn left(&self, name: &str) -> std::io::Result<Option<Left>> {
        let Some(stat) = self.staging.stat(name)? else {
            return Ok(None);
        };
        Ok(Some(match stat.kind {
            Kind::File => match read_file(&self.staging, OsStr::new(name)) {
                Ok(Some((_, digest))) => Left::File(digest),
                Ok(None) => Left::Other,
                // Nobody would look for it here to make it readable; and it may be the only one.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => Left::Other,
                Err(error) => return Err(error),
            },
            Kind::Symlink => match self.staging.read_symlink(name)?.into_string() {
                Ok(target) => Left::Symlink(target),
                Err(_) => Left::Other,
            },
            Kind::Folder | Kind::Special => Left::Other,
        }))
    }

    /// Whether it is the beginning of a content that somebody may still go on with.
    fn is_kept_part(&self, id: &str, name: &str) -> std::io::Result<bool> {
        let Some(stat) = self.staging.stat(name)? else {
            return Ok(false);
        };
        let kept_for = i64::try_from(PART_KEPT_FOR.as_nanos()).expect("a week");
        let age_ns = now().0.saturating_sub(stat.mtime.0);
        Ok(id.parse::<Digest>().is_ok() && stat.kind == Kind::File && age_ns <= kept_for)
    }

    /// Brings it to where it belongs, unless it is known to be elsewhere too. Returns its place, if that is a new one.
    fn recover_one(
        &self,
        state: &State,
        name: &str,
        known: bool,
    ) -> anyhow::Result<Option<RelPath>> {
        // A new content that has no name yet has no time and no bits either, and what it was for may
        // have changed meanwhile: it comes again if it is still wanted.
        if known && name.ends_with(".new") {
            self.staging.remove_file(name)?;
            return Ok(None);
        }
        let path = state.placing(name)?;
        // Between the two steps of a replacement the name is absent: the file goes back there.
        if let Some(path) = &path
            && let Ok(parent) = self.top.parent_of(path)
            && self
                .staging
                .rename_to_free(name, &parent, path.name())
                .is_ok()
        {
            return Ok(None);
        }
        if known {
            self.staging.remove_file(name)?;
            return Ok(None);
        }
        let path = path.unwrap_or(RelPath::parse("recovered").expect("a good name"));
        Ok(Some(self.keep_beside(name, &path)?))
    }
}
