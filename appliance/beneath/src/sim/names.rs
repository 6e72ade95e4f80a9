//! The names in a folder, and which of them a filesystem takes for one.

use super::tree::NodeId;
use super::{Allowed, Traits};
use rustix::io::Errno;
use std::borrow::Cow;
use std::collections::BTreeMap;
use unicode_normalization::UnicodeNormalization;

/// The names in a folder: by what the filesystem compares, how it is spelled and what it stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names(BTreeMap<Vec<u8>, (Vec<u8>, NodeId)>);

impl Names {
    pub(super) fn get(&self, traits: &Traits, name: &[u8]) -> Option<NodeId> {
        self.0.get(&*traits.key(name)).map(|&(_, id)| id)
    }

    pub(super) fn at_key(&self, key: &[u8]) -> Option<&(Vec<u8>, NodeId)> {
        self.0.get(key)
    }

    pub(super) fn set(&mut self, key: &[u8], entry: Option<(Vec<u8>, NodeId)>) {
        match entry {
            Some(entry) => drop(self.0.insert(key.to_vec(), entry)),
            None => drop(self.0.remove(key)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], NodeId)> {
        self.0.values().map(|(name, id)| (&**name, *id))
    }
}

impl Traits {
    /// What the filesystem compares instead of a name.
    pub(super) fn key<'a>(&self, name: &'a [u8]) -> Cow<'a, [u8]> {
        let name = self.stored(name);
        if self.case_sensitive {
            return name;
        }
        if self.minds_accents {
            return Cow::Owned(name.to_ascii_lowercase());
        }
        Cow::Owned(match str::from_utf8(&name) {
            Ok(text) => text.to_lowercase().into_bytes(),
            Err(_) => name.to_ascii_lowercase(),
        })
    }

    /// How a name is spelled on the disk.
    pub(super) fn stored<'a>(&self, name: &'a [u8]) -> Cow<'a, [u8]> {
        let name = match self.names {
            // `vfat_striptail_len` in the kernel.
            Allowed::Fat => without_dots(name),
            Allowed::Any => name,
        };
        if !self.decomposes || name.is_ascii() {
            return Cow::Borrowed(name);
        }
        match str::from_utf8(name) {
            Ok(text) => Cow::Owned(text.nfd().collect::<String>().into_bytes()),
            Err(_) => Cow::Borrowed(name),
        }
    }

    /// Whether something may have this name.
    pub(super) fn check_name(&self, name: &[u8]) -> Result<(), Errno> {
        // `vfat_bad_char` in the kernel.
        let bad = |&byte: &u8| byte < 0x20 || b"*?<>|\":\\".contains(&byte);
        match self.names {
            Allowed::Fat if name.iter().any(bad) => return Err(Errno::INVAL),
            Allowed::Fat if str::from_utf8(name).is_err() => return Err(Errno::INVAL),
            Allowed::Fat if without_dots(name).is_empty() => return Err(Errno::NOENT),
            Allowed::Fat | Allowed::Any => {}
        }
        if self.decomposes && str::from_utf8(name).is_err() {
            return Err(Errno::ILSEQ);
        }
        Ok(())
    }
}

fn without_dots(name: &[u8]) -> &[u8] {
    let last = name.iter().rposition(|&byte| byte != b'.');
    &name[..last.map_or(0, |last| last + 1)]
}
