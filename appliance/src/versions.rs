//! `/.raspbox/versions/`: what was displaced, as files that any FTP program can look through.
//!
//! Every path at or below which something was displaced is a folder there, a file's too; in it are
//! the file's versions, each named after the time at which it was displaced (UTC), who had made it,
//! its number in `raspbox history`, and the file's extension:
//!
//! ```text
//! /.raspbox/versions/docs/letter.txt/2026-11-20T18.03.11Z laptop 48213.txt
//! ```
//!
//! The number makes it unique, and the name is one that Windows and FAT can hold. Contents that
//! can't be had any more aren't shown. Nothing can be written there.

use crate::stamp::print_time;
use raspbox_protocol::history::Past;
use raspbox_protocol::{Entry, File, RelPath};
use raspbox_store::{Listed, Stat, Store, StoreError};

/// The longest part of a name that says who made a version, in bytes.
const BY_MAX_BYTES: usize = 64;

/// The longest part behind a dot that is an extension, in bytes, as in conflict copies' names.
const EXTENSION_MAX_BYTES: usize = 16;

/// What Windows and FAT don't hold in a name.
const FORBIDDEN: [char; 9] = ['"', '*', '/', ':', '<', '>', '?', '\\', '|'];

/// What stands at a path of the tree of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A path's versions, or those of what was in it.
    Folder,
    /// One version.
    File(File),
}

/// What stands at a path of the tree of versions; `None` is its top.
pub(crate) fn find(store: &Store, path: Option<&RelPath>) -> Result<Found, StoreError> {
    let Some(path) = path else {
        return Ok(Found::Folder);
    };
    if let Some(of) = path.parent()
        && let Some(number) = number(&of, path.name())
        && let Some(past) = store.version(&of, number)?
        && let Some(file) = file(&past)
        && name(&of, &past) == path.name()
    {
        return Ok(Found::File(file));
    }
    if store.has_displaced(path)? {
        Ok(Found::Folder)
    } else {
        Err(StoreError::NotFound(path.clone()))
    }
}

/// The same as a listing shows it.
pub(crate) fn stat(store: &Store, path: Option<&RelPath>) -> Result<Stat, StoreError> {
    Ok(match find(store, path)? {
        Found::File(file) => as_stat(&file),
        Found::Folder => Stat::Folder {
            mtime: store.clock()?.now,
        },
    })
}

/// What is in a folder of the tree of versions.
pub(crate) fn list(store: &Store, folder: Option<&RelPath>) -> Result<Vec<Listed>, StoreError> {
    if let (Found::File(_), Some(path)) = (find(store, folder)?, folder) {
        return Err(StoreError::NotAFolder(path.clone()));
    }
    let mut listed = Vec::new();
    if let Some(path) = folder {
        for past in store.history(path)? {
            if let Some(file) = file(&past) {
                listed.push(Listed {
                    name: name(path, &past),
                    stat: as_stat(&file),
                });
            }
        }
    }
    for (name, mtime) in store.displaced_in(folder)? {
        listed.push(Listed {
            name,
            stat: Stat::Folder { mtime },
        });
    }
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listed)
}

/// A version that can be shown as a file.
fn file(past: &Past) -> Option<File> {
    match past.entry {
        Entry::File(file) if past.kept && past.ended.is_some() => Some(file),
        Entry::File(_) | Entry::Folder | Entry::Symlink(_) => None,
    }
}

fn as_stat(file: &File) -> Stat {
    Stat::File {
        size_bytes: file.size,
        mtime: file.mtime,
        executable: file.executable,
    }
}

/// The name of a version.
fn name(of: &RelPath, past: &Past) -> String {
    let time = past.ended.as_ref().map_or(past.since, |ended| ended.at);
    let (time, by) = (print_time(time), printable(&past.by));
    let number = past.number.unwrap_or_default();
    format!("{time} {by} {number}{}", extension(of))
}

/// The number in such a name.
fn number(of: &RelPath, name: &str) -> Option<u64> {
    let (_, number) = name.strip_suffix(extension(of))?.rsplit_once(' ')?;
    number.parse().ok()
}

/// What follows the last dot of a name, with the dot, where it is short and no word.
fn extension(of: &RelPath) -> &str {
    let name = of.name();
    match name.rfind('.') {
        Some(dot) if dot > 0 => {
            let extension = &name[dot..];
            let good = (2..=EXTENSION_MAX_BYTES + 1).contains(&extension.len())
                && !extension.contains(char::is_whitespace)
                && !extension.contains(FORBIDDEN);
            if good { extension } else { "" }
        }
        Some(_) | None => "",
    }
}

/// Who made it, in characters that any filesystem holds.
fn printable(by: &str) -> String {
    if by.is_empty() {
        return "unknown".into();
    }
    let dash = |c: char| {
        if c.is_control() || FORBIDDEN.contains(&c) {
            '-'
        } else {
            c
        }
    };
    by[..by.floor_char_boundary(BY_MAX_BYTES)]
        .chars()
        .map(dash)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{name, number};
    use raspbox_protocol::history::{Ended, How, Past};
    use raspbox_protocol::{Entry, Mtime, RelPath, Version};

    fn past(by: &str) -> Past {
        Past {
            number: Some(48_213),
            entry: Entry::Folder,
            version: Version(1),
            by: by.into(),
            since: Mtime(0),
            ended: Some(Ended {
                at: Mtime::from_parts(1_795_197_791, 999_999_999),
                by: "me".into(),
                how: How::Deleted,
            }),
            kept: true,
        }
    }

    #[test]
    fn names_say_when_and_who_and_keep_the_extension() {
        let check = |path: &str, by: &str, expected: &str| {
            let path = RelPath::parse(path).unwrap();
            let named = name(&path, &past(by));
            assert_eq!(named, expected);
            assert_eq!(number(&path, &named), Some(48_213));
            assert!(RelPath::child(Some(&path), &named).is_ok());
        };
        check(
            "docs/letter.txt",
            "laptop",
            "2026-11-20T18.03.11Z laptop 48213.txt",
        );
        check(
            "a.tar.gz",
            "Ann's PC",
            "2026-11-20T18.03.11Z Ann's PC 48213.gz",
        );
        check(".profile", "a/b:c", "2026-11-20T18.03.11Z a-b-c 48213");
        check("Makefile", "", "2026-11-20T18.03.11Z unknown 48213");
        check("no. extension", "x", "2026-11-20T18.03.11Z x 48213");
        check("dot.", "x", "2026-11-20T18.03.11Z x 48213");
        let long = format!("2026-11-20T18.03.11Z {} 48213.c", "é".repeat(32));
        check("a.c", &"é".repeat(100), &long);
    }

    #[test]
    fn other_names_have_no_number() {
        let path = RelPath::parse("a.txt").unwrap();
        for other in [
            "",
            "x",
            ".txt",
            "x.txt",
            "2026 laptop x.txt",
            "2026 laptop 5",
        ] {
            assert_eq!(number(&path, other), None, "{other}");
        }
    }
}
