//! Names and relative paths that can be trusted.

use std::fmt;
use std::str::FromStr;

/// The longest single name, in bytes: the limit of ext4, exFAT (255 UTF-16 units) and FAT alike.
pub const NAME_MAX_BYTES: usize = 255;

/// The longest path, in bytes, below Linux's `PATH_MAX` (4096) with room for the mount point.
pub const PATH_MAX_BYTES: usize = 3800;

/// The deepest path, in names. A limit for recursion, far above what people make.
pub const DEPTH_MAX: usize = 128;

/// The name at the top of a store or synced folder that belongs to raspbox itself.
///
/// Reserved in every spelling of upper and lower case, since FAT and exFAT don't tell them apart.
pub const RESERVED_NAME: &str = ".raspbox";

/// A path below the top of a store: one or more names separated by `/`, in UTF-8.
///
/// Invariants: never empty; no name is empty, `.` or `..`; no control characters (which also keeps
/// FTP's line-based listings honest); the first name is not [`RESERVED_NAME`]; within
/// [`NAME_MAX_BYTES`], [`PATH_MAX_BYTES`] and [`DEPTH_MAX`].
///
/// The order is the one of a depth-first walk: a folder comes directly before what is in it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RelPath(Box<str>);

/// Why a text is not a [`RelPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// An empty path, or an empty name in it (`a//b`, `/a`, `a/`).
    #[error("empty name")]
    Empty,
    /// A name that is `.` or `..`.
    #[error("'.' and '..' are not names")]
    Dots,
    /// A control character, such as a line break.
    #[error("control character in the name")]
    Control,
    /// The name of raspbox's own folder.
    #[error("'.raspbox' is raspbox's own folder")]
    Reserved,
    /// A name over [`NAME_MAX_BYTES`].
    #[error("name longer than {NAME_MAX_BYTES} bytes")]
    LongName,
    /// A path over [`PATH_MAX_BYTES`].
    #[error("path longer than {PATH_MAX_BYTES} bytes")]
    LongPath,
    /// A path over [`DEPTH_MAX`].
    #[error("more than {DEPTH_MAX} folders deep")]
    Deep,
    /// Bytes that are not UTF-8.
    #[error("name is not UTF-8")]
    NotUtf8,
}

impl RelPath {
    /// Checks a text and makes it a path.
    ///
    /// # Errors
    /// The first rule of [`RelPath`] that it breaks.
    pub fn parse(text: &str) -> Result<RelPath, PathError> {
        if text.len() > PATH_MAX_BYTES {
            return Err(PathError::LongPath);
        }
        let mut depth = 0;
        for name in text.split('/') {
            check_name(name)?;
            if depth == 0 && name.eq_ignore_ascii_case(RESERVED_NAME) {
                return Err(PathError::Reserved);
            }
            depth += 1;
        }
        if depth > DEPTH_MAX {
            Err(PathError::Deep)
        } else {
            Ok(RelPath(text.into()))
        }
    }

    /// Checks bytes and makes them a path.
    ///
    /// # Errors
    /// [`PathError::NotUtf8`], or the first rule that they break.
    pub fn from_bytes(bytes: &[u8]) -> Result<RelPath, PathError> {
        RelPath::parse(std::str::from_utf8(bytes).map_err(|_| PathError::NotUtf8)?)
    }

    /// This path with one more name at its end; `None` as the parent means the top.
    ///
    /// # Errors
    /// The first rule that the result breaks.
    pub fn child(parent: Option<&RelPath>, name: &str) -> Result<RelPath, PathError> {
        check_name(name)?;
        let Some(parent) = parent else {
            return RelPath::parse(name);
        };
        // What holds for the parent needs no second look: trees are walked with this.
        let path = [parent.as_str(), name].join("/");
        if path.len() > PATH_MAX_BYTES {
            Err(PathError::LongPath)
        } else if parent.0.bytes().filter(|byte| *byte == b'/').count() + 1 == DEPTH_MAX {
            Err(PathError::Deep)
        } else {
            Ok(RelPath(path.into()))
        }
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0
            .rsplit('/')
            .next()
            .expect("a RelPath has at least one name")
    }

    /// The folder that it is in; `None` is the top.
    #[must_use]
    pub fn parent(&self) -> Option<RelPath> {
        self.0
            .rsplit_once('/')
            .map(|(parent, _)| RelPath(parent.into()))
    }

    /// The names from the top down.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether it is `folder` or somewhere below it.
    #[must_use]
    pub fn is_in(&self, folder: &RelPath) -> bool {
        self.0
            .strip_prefix(folder.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The same place under another folder: `from` at its beginning becomes `to`.
    ///
    /// `None` where it isn't in `from`, or where the result would break a rule.
    #[must_use]
    pub fn moved(&self, from: &RelPath, to: &RelPath) -> Option<RelPath> {
        if !self.is_in(from) {
            return None;
        }
        let rest = &self.0[from.0.len()..];
        RelPath::parse(&format!("{to}{rest}")).ok()
    }
}

/// Checks one name against the rules that hold for every name of a [`RelPath`].
///
/// # Errors
/// The first rule that it breaks.
pub fn check_name(name: &str) -> Result<(), PathError> {
    if name.is_empty() || name.contains('/') {
        Err(PathError::Empty)
    } else if name == "." || name == ".." {
        Err(PathError::Dots)
    } else if name.len() > NAME_MAX_BYTES {
        Err(PathError::LongName)
    } else if name.bytes().any(may_be_control) && name.chars().any(char::is_control) {
        Err(PathError::Control)
    } else {
        Ok(())
    }
}

/// Whether a byte is a control character, or begins one: those beyond ASCII are U+0080 to U+009F.
fn may_be_control(byte: u8) -> bool {
    byte < b' ' || byte == 0x7f || byte == 0xc2
}

/// The order of the names one by one, found without taking them apart: where two paths differ first, the
/// one that ends a name there comes before.
impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let (a, b) = (self.0.as_bytes(), other.0.as_bytes());
        // No name has a byte below a blank.
        let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
        match a.iter().zip(b).find(|(a, b)| a != b) {
            Some((a, b)) => rank(*a).cmp(&rank(*b)),
            None => a.len().cmp(&b.len()),
        }
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for RelPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        RelPath::parse(text)
    }
}

impl AsRef<std::path::Path> for RelPath {
    fn as_ref(&self) -> &std::path::Path {
        std::path::Path::new(&*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{DEPTH_MAX, PATH_MAX_BYTES, PathError, RelPath};

    /// All texts of up to five of these characters that are paths.
    fn small_paths() -> Vec<RelPath> {
        let mut texts = vec![String::new()];
        let mut all = Vec::new();
        for _ in 0..5 {
            let longer = |text: &String| {
                let text = text.clone();
                ['/', ' ', '.', 'a', 'é'].map(move |c| format!("{text}{c}"))
            };
            texts = texts.iter().flat_map(longer).collect();
            all.extend(texts.iter().filter_map(|text| RelPath::parse(text).ok()));
        }
        all
    }

    #[test]
    fn paths_are_ordered_name_by_name() {
        let all = small_paths();
        assert!(all.len() > 1_000);
        for a in &all {
            for b in all.iter().step_by(7) {
                assert_eq!(a.cmp(b), a.names().cmp(b.names()), "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn a_child_is_what_its_whole_path_is() {
        let names = [
            "", ".", "..", "a/b", "a", ".raspbox", "a\nb", "a\u{7f}", "a\u{80}", "a\u{9f}",
            "a\u{a0}", "é", "Â",
        ];
        let long = |len: usize| "x".repeat(len);
        let deep = |depth: usize| vec!["d"; depth].join("/");
        let wide = |len: usize| {
            let names = vec![long(249); len / 250];
            format!("{}/{}", names.join("/"), long(len % 250))
        };
        let parents = [
            "a".to_owned(),
            deep(DEPTH_MAX - 1),
            deep(DEPTH_MAX),
            wide(PATH_MAX_BYTES - 3),
            wide(PATH_MAX_BYTES - 2),
            wide(PATH_MAX_BYTES - 1),
        ];
        let own = names.iter().map(|name| (*name).to_owned());
        for name in own.chain([long(255), long(256)]) {
            for parent in &parents {
                let whole = RelPath::parse(&format!("{parent}/{name}"));
                let child = RelPath::child(Some(&path(parent)), &name);
                if name.contains('/') {
                    assert_eq!(child, Err(PathError::Empty));
                } else {
                    assert_eq!(child.is_ok(), whole.is_ok(), "{parent:?}, {name:?}");
                    assert!(child.is_err() || child == whole);
                }
            }
        }
    }

    fn path(text: &str) -> RelPath {
        RelPath::parse(text).expect("a good path")
    }

    #[test]
    fn what_leaves_the_folder_or_breaks_a_line_does_not_parse() {
        let check = |text: &str, expected: PathError| {
            assert_eq!(RelPath::parse(text), Err(expected), "{text:?}");
        };
        check("", PathError::Empty);
        check("/etc/passwd", PathError::Empty);
        check("a//b", PathError::Empty);
        check("a/", PathError::Empty);
        check("..", PathError::Dots);
        check("a/../b", PathError::Dots);
        check("./a", PathError::Dots);
        check("a\nb", PathError::Control);
        check("a\0b", PathError::Control);
        check("a\u{85}b", PathError::Control);
        check(".raspbox", PathError::Reserved);
        check(".RaspBox/journal", PathError::Reserved);
        check(&"x".repeat(256), PathError::LongName);
        check(&vec!["x".repeat(200); 20].join("/"), PathError::LongPath);
        check(&vec!["x"; DEPTH_MAX + 1].join("/"), PathError::Deep);
        assert_eq!(RelPath::from_bytes(b"a\xff"), Err(PathError::NotUtf8));
    }

    #[test]
    fn odd_but_legal_names_parse() {
        for text in [
            "a",
            "...",
            " a ",
            "-rf",
            "a\\b",
            "ünï/çø∂é",
            "x/.raspbox",
            ".raspboxignore",
        ] {
            assert_eq!(path(text).as_str(), text);
        }
        assert!(RelPath::parse(&vec!["x"; DEPTH_MAX].join("/")).is_ok());
        assert!(RelPath::parse(&"x".repeat(255)).is_ok());
        // 19 names of 199 bytes and their slashes.
        let longest = vec!["x".repeat(199); 19].join("/") + "y";
        assert_eq!(longest.len(), PATH_MAX_BYTES);
        assert!(RelPath::parse(&longest).is_ok());
        assert_eq!(
            RelPath::parse(&(longest + "z")),
            Err(PathError::LongPath),
            "one byte more"
        );
    }

    #[test]
    fn a_folder_sorts_directly_before_what_is_in_it() {
        let mut paths = ["a.b", "a/b", "a-b", "a", "a/b/c"].map(path).to_vec();
        paths.sort();
        assert_eq!(paths, ["a", "a/b", "a/b/c", "a-b", "a.b"].map(path));
    }

    #[test]
    fn moving_keeps_what_is_below() {
        assert_eq!(
            path("a/b/c").moved(&path("a/b"), &path("x")),
            Some(path("x/c"))
        );
        assert_eq!(
            path("a/b").moved(&path("a/b"), &path("x/y")),
            Some(path("x/y"))
        );
        assert_eq!(path("a/bc").moved(&path("a/b"), &path("x")), None);
    }

    #[test]
    fn in_and_out_as_text() {
        let path = path("a b/ü");
        assert_eq!(path.to_string(), "a b/ü");
        assert_eq!("a b/ü".parse(), Ok(path.clone()));
        assert_eq!(std::path::Path::new("a b/ü"), path.as_ref());
        assert_eq!(format!("{path:?}"), r#""a b/ü""#);
        assert!(path < RelPath::parse("b").expect("a good path"));
    }

    #[test]
    fn parents_and_children() {
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), None);
        assert_eq!((path("a/b").name(), path("a").name()), ("b", "a"));
        assert_eq!(RelPath::child(Some(&path("a")), "b"), Ok(path("a/b")));
        assert_eq!(RelPath::child(None, "b/c"), Err(PathError::Empty));
    }
}
