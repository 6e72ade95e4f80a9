//! What the filesystem of the synced folder makes of names.
//!
//! Its type says little: ext4 can be told to ignore case, and a network drive is whatever its server
//! has. So it is tried out, in the folder `.raspbox`, and looked at anew every round: somebody may
//! have moved the folder to another disk.

use raspbox_beneath::Folder;
use raspbox_core::names::{Accents, Disk, composed};
use raspbox_protocol::RelPath;
use std::ffi::OsStr;
use std::io;

/// A name with a composed and a decomposed character, for a file that stays.
const ACCENTS: &str = "accents-\u{e9}-o\u{308}";

/// The same the other way round.
const OTHERWISE: &str = "accents-e\u{301}-\u{f6}";

/// Looks at the disk that our own folder is on. `known` is the name of something in it, in another
/// case.
pub(crate) fn look(own: &Folder, known: &str) -> io::Result<Disk> {
    let mut holds = own.filesystem()?.holds();
    if own.stat(known)?.is_some() {
        holds.case_sensitive = false;
    }
    Ok(Disk::here(holds, accents(own)?))
}

fn accents(own: &Folder) -> io::Result<Accents> {
    if own.stat(ACCENTS)?.is_none() {
        match own.create_file(ACCENTS, 0o600) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Ok(Accents::Missing);
            }
            Err(error) => return Err(error),
        }
    }
    let names = own.names()?;
    let shows = |alike: &dyn Fn(&str) -> bool| names.iter().filter_map(|n| n.to_str()).any(alike);
    Ok(if shows(&|name| name == ACCENTS) {
        match own.stat(OTHERWISE)? {
            Some(_) => Accents::Alike,
            None => Accents::Apart,
        }
    } else if shows(&|name| composed(name) == composed(ACCENTS)) {
        Accents::Rewritten
    } else {
        Accents::Missing
    })
}

/// The name that an entry is known by, of the one that the disk shows; `None` where it isn't UTF-8.
pub(crate) fn known_name<'a>(disk: &Disk, shown: &'a OsStr) -> Option<std::borrow::Cow<'a, str>> {
    let name = shown.to_str()?;
    Some(match disk.accents {
        Accents::Apart | Accents::Alike | Accents::Missing => name.into(),
        Accents::Rewritten => composed(name),
    })
}

/// The path that an entry is known by, of the one that the disk shows.
pub(crate) fn known_path(disk: &Disk, shown: &RelPath) -> RelPath {
    match disk.accents {
        Accents::Apart | Accents::Alike | Accents::Missing => shown.clone(),
        // Composed, it is no longer; but where it were, it is found by either.
        Accents::Rewritten => {
            RelPath::parse(&composed(shown.as_str())).unwrap_or_else(|_| shown.clone())
        }
    }
}

/// Whether a folder shows this very name, and not only finds something by it.
pub(crate) fn shows(disk: &Disk, folder: &Folder, name: &str) -> io::Result<bool> {
    let names = folder.names()?;
    let mut known = names.iter().filter_map(|shown| known_name(disk, shown));
    Ok(known.any(|known| known == name))
}

/// Whether everything that is found by a name has that name.
pub(crate) fn is_exact(disk: &Disk) -> bool {
    disk.holds.case_sensitive && disk.accents == Accents::Apart
}
