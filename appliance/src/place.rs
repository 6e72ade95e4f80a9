//! What an FTP path means: text from the network becomes a place in the store, or nothing.

use raspbox_protocol::special::{self, NoSuchSpecial, Special};
use raspbox_protocol::{PathError, RelPath};

/// Where an FTP path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The top of the store.
    Top,
    /// Something below it.
    Entry(RelPath),
    /// The tree of versions, or something in it ([`crate::versions`]).
    Versions(Option<RelPath>),
    /// One of the files through which clients and appliance talk.
    Special(Special),
}

/// Why an FTP path leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlaceError {
    /// `..` beyond the top.
    #[error("the path leads out of the store")]
    AboveTop,
    /// No name that a store can hold.
    #[error("{0}")]
    Name(#[from] PathError),
    /// Below raspbox's own folder, but none of its files.
    #[error("{0}")]
    Special(#[from] NoSuchSpecial),
    /// libunftp put U+FFFD where the client's bytes weren't UTF-8. Storing that would be a silent
    /// renaming, and two such names could fall together.
    #[error("the name is not UTF-8")]
    NotUtf8,
}

impl Place {
    /// The place of a path as a client gave it, seen from the working directory `cwd` (absolute).
    ///
    /// `.` and `..` are resolved in the text alone: nothing is looked up, no symlink followed.
    pub(crate) fn resolve(cwd: &str, path: &str) -> Result<Place, PlaceError> {
        let names = names(cwd, path)?;
        if names.is_empty() {
            return Ok(Place::Top);
        }
        if let [first, second, rest @ ..] = &names[..]
            && format!("/{first}/{second}") == special::VERSIONS
        {
            let path = (!rest.is_empty()).then(|| RelPath::parse(&rest.join("/")));
            return Ok(Place::Versions(path.transpose()?));
        }
        let joined = names.join("/");
        // Special::parse knows the exact spelling; every other one is refused by RelPath.
        match Special::parse(&format!("/{joined}"))? {
            Some(special) => Ok(Place::Special(special)),
            None => Ok(Place::Entry(RelPath::parse(&joined)?)),
        }
    }
}

/// Whether a path, as for [`Place::resolve`], is a folder of special files: one may go there, and
/// that is all.
pub(crate) fn is_special_folder(cwd: &str, path: &str) -> bool {
    names(cwd, path).is_ok_and(|names| special::is_folder(&format!("/{}", names.join("/"))))
}

/// The names of a path from the top.
fn names<'a>(cwd: &'a str, path: &'a str) -> Result<Vec<&'a str>, PlaceError> {
    let is_whole = path.starts_with('/');
    let is_lossy = |text: &str| text.contains(char::REPLACEMENT_CHARACTER);
    if is_lossy(path) || (!is_whole && is_lossy(cwd)) {
        return Err(PlaceError::NotUtf8);
    }
    if is_whole {
        normal(path.split('/'))
    } else {
        normal(cwd.split('/').chain(path.split('/')))
    }
}

/// The names that are left when empty ones, `.` and `..` are resolved.
fn normal<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<&'a str>, PlaceError> {
    let mut normal = Vec::new();
    for name in names {
        match name {
            "" | "." => {}
            ".." => {
                normal.pop().ok_or(PlaceError::AboveTop)?;
            }
            name => normal.push(name),
        }
    }
    Ok(normal)
}

#[cfg(test)]
mod tests {
    use super::{Place, PlaceError};
    use raspbox_protocol::special::Special;
    use raspbox_protocol::{PathError, RelPath};

    fn check(cwd: &str, path: &str, expect: Result<Place, PlaceError>) {
        assert_eq!(Place::resolve(cwd, path), expect, "{path:?} in {cwd:?}");
    }

    fn entry(path: &str) -> Result<Place, PlaceError> {
        Ok(Place::Entry(RelPath::parse(path).unwrap()))
    }

    #[test]
    fn paths_are_resolved_in_the_text_alone() {
        check("/", "/", Ok(Place::Top));
        check("/", "", Ok(Place::Top));
        check("/a", "", entry("a"));
        check("/a/b", "..", entry("a"));
        check("/a/b", "../..", Ok(Place::Top));
        check("/a", "b c", entry("a/b c"));
        check("/a", "/b/./c//d/", entry("b/c/d"));
        check("/", "/a/../b", entry("b"));
        check("/", "/a/..", Ok(Place::Top));
    }

    #[test]
    fn nothing_leads_out_of_the_top() {
        for path in [
            "..",
            "/..",
            "/a/../..",
            "/../etc/passwd",
            "a/../../b",
            "/../../../",
        ] {
            check("/", path, Err(PlaceError::AboveTop));
        }
        check("/a", "../../etc", Err(PlaceError::AboveTop));
    }

    #[test]
    fn specials_are_found_and_nothing_else_below_their_folder() {
        check("/", "/.raspbox/info", Ok(Place::Special(Special::Info)));
        check("/a", "../.raspbox/tree", Ok(Place::Special(Special::Tree)));
        let none = || {
            Err(PlaceError::Special(
                raspbox_protocol::special::NoSuchSpecial,
            ))
        };
        check("/", "/.raspbox", none());
        check("/", "/.raspbox/journal.sqlite", none());
        check("/", "/.raspbox/../.raspbox/versionss", none());
        let reserved = || Err(PlaceError::Name(PathError::Reserved));
        check("/", "/.RASPBOX/info", reserved());
        check("/", "/.Raspbox", reserved());
        check("/", "/.raspboxed", entry(".raspboxed"));
    }

    #[test]
    fn versions_are_found_by_their_path() {
        let versions = |path: Option<&str>| {
            Ok(Place::Versions(
                path.map(|path| RelPath::parse(path).unwrap()),
            ))
        };
        check("/", "/.raspbox/versions", versions(None));
        check("/.raspbox", "versions/", versions(None));
        check("/.raspbox/versions", "a/b c", versions(Some("a/b c")));
        check("/.raspbox/versions/a", "..", versions(None));
        check("/.raspbox/versions", "../../a", entry("a"));
        check(
            "/",
            "/.raspbox/versions/.raspbox/journal.db",
            Err(PlaceError::Name(PathError::Reserved)),
        );
        check(
            "/",
            "/.raspbox/versions/../../..",
            Err(PlaceError::AboveTop),
        );
    }

    #[test]
    fn names_that_no_store_holds_are_refused() {
        check("/", "/a\u{7}b", Err(PlaceError::Name(PathError::Control)));
        check("/", "/a\0", Err(PlaceError::Name(PathError::Control)));
        check("/", "/a\u{fffd}b", Err(PlaceError::NotUtf8));
        check("/a\u{fffd}b", "c", Err(PlaceError::NotUtf8));
        check(
            "/",
            &format!("/{}", "x".repeat(256)),
            Err(PlaceError::Name(PathError::LongName)),
        );
    }
}
