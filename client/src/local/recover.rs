//! Putting right what a crash left in the staging folder.

use super::{PART_KEPT_FOR, Workspace};
use crate::scan::read_file;
use crate::state::State;
use raspbox_beneath::{Kind, now};
use raspbox_protocol::{Digest, RelPath};
use std::ffi::OsStr;

impl Workspace {
    /// Puts right what a crash left in the staging folder. Returns the conflict copies that it made.
    ///
    /// # Errors
    /// Where the disk or the state fails; what is there stays there.
    pub fn recover(&self, state: &State) -> anyhow::Result<Vec<RelPath>> {
        let mut kept = Vec::new();
        for name in self.staging.names()? {
            let Some(name) = name.to_str() else { continue };
            if let Some(id) = name.strip_suffix(".part") {
                if !self.is_kept_part(id, name)? {
                    self.staging.remove_file(name)?;
                }
            } else if let Some(copy) = self.recover_one(state, name)? {
                kept.push(copy);
            }
        }
        Ok(kept)
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

    fn recover_one(&self, state: &State, name: &str) -> anyhow::Result<Option<RelPath>> {
        let known = match self.staging.stat(name)?.map(|stat| stat.kind) {
            None => return Ok(None),
            Some(Kind::File) => match read_file(&self.staging, OsStr::new(name))? {
                Some((_, digest)) => state.knows_content(&digest)?,
                None => false,
            },
            Some(Kind::Symlink) => match self.staging.read_symlink(name)?.to_str() {
                Some(target) => state.knows_target(target)?,
                None => false,
            },
            Some(Kind::Folder | Kind::Special) => false,
        };
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
