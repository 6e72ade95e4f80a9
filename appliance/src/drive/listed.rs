//! Filesystems that root's commands remember over restarts: a file with a UUID in each line.

use crate::whole;
use anyhow::Context;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How many are remembered; the oldest are forgotten.
const LISTED_MAX: usize = 32;

/// Such a list.
#[derive(Debug, Clone)]
pub(crate) struct Listed(PathBuf);

impl Listed {
    /// The list in this file, which needn't be there.
    pub(crate) fn at(path: &Path) -> Listed {
        Listed(path.into())
    }

    /// All of it, the newest first.
    pub(crate) fn all(&self) -> anyhow::Result<Vec<String>> {
        match fs::read_to_string(&self.0) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.0.display())),
        }
    }

    /// Adds a filesystem, durably; whether it was there already. One without a UUID can't be remembered.
    pub(crate) fn add(&self, uuid: &str) -> anyhow::Result<bool> {
        let mut all = self.all()?;
        if all.iter().any(|known| known == uuid) {
            return Ok(true);
        }
        if !uuid.is_empty() {
            all.insert(0, uuid.to_owned());
            all.truncate(LISTED_MAX);
            self.write(&all)?;
        }
        Ok(false)
    }

    /// Takes a filesystem out, durably.
    pub(crate) fn remove(&self, uuid: &str) -> anyhow::Result<()> {
        let mut all = self.all()?;
        let before = all.len();
        all.retain(|known| known != uuid);
        if all.len() < before {
            self.write(&all)?;
        }
        Ok(())
    }

    fn write(&self, all: &[String]) -> anyhow::Result<()> {
        let cannot = || format!("cannot write {}", self.0.display());
        let folder = self.0.parent().with_context(cannot)?;
        let text: String = all.iter().map(|uuid| format!("{uuid}\n")).collect();
        fs::create_dir_all(folder)
            .and_then(|()| whole::write(&self.0, text.as_bytes(), 0o644))
            .with_context(cannot)
    }
}

#[cfg(test)]
mod tests {
    use super::{LISTED_MAX, Listed};

    #[test]
    fn what_is_listed_is_there_once_and_the_oldest_is_forgotten() {
        let temp = tempfile::tempdir().unwrap();
        let list = Listed::at(&temp.path().join("state/list"));
        assert_eq!(list.all().unwrap(), [""; 0]);
        list.remove("none").unwrap();
        assert!(!list.add("one").unwrap());
        assert!(!list.add("two").unwrap());
        assert!(list.add("one").unwrap(), "it is there already");
        assert_eq!(list.all().unwrap(), ["two", "one"]);
        list.remove("two").unwrap();
        assert_eq!(list.all().unwrap(), ["one"]);
        assert!(!list.add("").unwrap());
        assert!(!list.add("").unwrap(), "whose it is can't be told");
        for n in 0..LISTED_MAX {
            list.add(&n.to_string()).unwrap();
        }
        let all = list.all().unwrap();
        assert_eq!(all.len(), LISTED_MAX);
        assert!(!all.contains(&"one".to_owned()));
        list.remove(&all[0]).unwrap();
        assert_eq!(list.all().unwrap(), all[1..]);
    }
}
