//! What takes long to make is kept in `target/vm`, under a name that tells all that went into it.
//!
//! An entry is a folder `NAME-KEY`. It is made beside its place and renamed, so that one that is
//! there is whole. Of each name only the newest is kept. Packages are as they were in Debian's archive
//! when the entry was made; remove `target/vm` to have newer ones.

use anyhow::Context;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// All that went into an entry, as a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    /// Of these pieces, in this order.
    pub(crate) fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Key {
        let mut hasher = blake3::Hasher::new();
        for piece in pieces {
            hasher.update(&(piece.len() as u64).to_le_bytes());
            hasher.update(piece);
        }
        Key(hasher.finalize().to_hex()[..16].to_owned())
    }

    /// As a piece of another one.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The entry `name`, made now if it isn't there. `make` fills a folder.
pub(crate) fn entry(
    name: &str,
    key: &Key,
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    entry_in(&dir()?, name, key, make)
}

fn entry_in(
    dir: &Path,
    name: &str,
    key: &Key,
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let place = dir.join(format!("{name}-{}", key.0));
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let lock = File::create(dir.join(format!("{name}.lock")))?;
    lock.lock()
        .with_context(|| format!("cannot lock {name} in {}", dir.display()))?;
    if place.is_dir() {
        return Ok(place);
    }
    for old in fs::read_dir(dir)? {
        let old = old?;
        let is_ours = old
            .file_name()
            .to_str()
            .and_then(|file| file.rsplit_once('-'))
            .is_some_and(|(of, _)| of == name);
        if is_ours && old.file_type()?.is_dir() {
            fs::remove_dir_all(old.path())?;
        }
    }
    eprintln!("making {} (kept for the next time)", place.display());
    let unfinished = dir.join(format!("{name}-unfinished"));
    fs::create_dir_all(&unfinished)?;
    make(&unfinished).with_context(|| format!("cannot make {}", place.display()))?;
    fs::rename(&unfinished, &place)?;
    Ok(place)
}

/// `target/vm` of this workspace.
fn dir() -> anyhow::Result<PathBuf> {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
    };
    fs::create_dir_all(&target)?;
    let target = target
        .canonicalize()
        .with_context(|| format!("no {}", target.display()))?;
    Ok(target.join("vm"))
}

#[cfg(test)]
mod tests {
    use super::{Key, entry_in};
    use std::fs;

    #[test]
    fn an_entry_is_made_once_and_replaces_that_of_another_key() {
        let dir = tempfile::tempdir().unwrap();
        let key = |text: &str| Key::of([text.as_bytes()]);
        let make = |name: &str, text: &str| {
            entry_in(dir.path(), name, &key(text), |at| {
                Ok(fs::write(at.join("f"), text)?)
            })
            .unwrap()
        };
        let first = make("root", "one");
        let other = make("root-b", "one");
        let again = entry_in(dir.path(), "root", &key("one"), |_| panic!("it is there")).unwrap();
        assert_eq!(first, again);
        assert_eq!(fs::read(first.join("f")).unwrap(), b"one");
        let second = make("root", "two");
        assert!(second.is_dir() && !first.exists() && other.is_dir());
    }

    #[test]
    fn what_failed_is_made_again_from_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let key = Key::of([b"k".as_slice()]);
        entry_in(dir.path(), "root", &key, |at| {
            fs::write(at.join("half"), "")?;
            anyhow::bail!("out of luck")
        })
        .unwrap_err();
        let place = entry_in(dir.path(), "root", &key, |at| {
            Ok(fs::write(at.join("whole"), "")?)
        })
        .unwrap();
        assert!(place.join("whole").exists() && !place.join("half").exists());
    }

    #[test]
    fn pieces_are_not_just_put_together() {
        assert_ne!(
            Key::of([b"ab".as_slice(), b"c"]),
            Key::of([b"a".as_slice(), b"bc"])
        );
    }
}
