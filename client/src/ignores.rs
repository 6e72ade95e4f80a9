//! What is not synced: built-in patterns for things that are never a user's own, and the folder's
//! `.raspboxignore`.
//!
//! What is ignored doesn't exist for the sync at all: on none of the three trees. So a pattern that
//! is added later deletes nothing anywhere.

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use raspbox_core::plan::{Problem, Trouble};
use raspbox_protocol::RelPath;
use std::path::Path;

/// The name of the file with patterns, at the top of the synced folder; itself synced.
pub const FILE_NAME: &str = ".raspboxignore";

/// Temporary files of editors, office programs, browsers and file managers, and what operating
/// systems strew about. A line in `.raspboxignore` that begins with `!` brings one back.
const BUILT_IN: &[&str] = &[
    // vim, emacs, nano, GTK editors. (Not vim's probe for writability, "4913": it is gone before it
    // is quiet, and a file with that name may be one of ten thousand.)
    ".*.sw?",
    "*~",
    r"\#*#",
    ".#*",
    ".goutputstream-*",
    // LibreOffice, Microsoft Office
    ".~lock.*#",
    "~$*",
    // browsers' downloads under way
    "*.part",
    "*.crdownload",
    // NFS and FUSE: deleted while open
    ".nfs*",
    ".fuse_hidden*",
    // desktops
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    // our own uploads to ordinary FTP servers
    ".raspbox-upload-*",
];

/// The patterns of one folder.
#[derive(Debug)]
pub struct Rules {
    text: String,
    patterns: Gitignore,
    /// Lines that are no patterns, with what is wrong; the others hold.
    pub mistakes: Vec<String>,
}

impl Rules {
    /// The built-in patterns and those in this text, in gitignore syntax.
    #[must_use]
    pub fn parse(text: &str) -> Rules {
        let mut builder = GitignoreBuilder::new("");
        let mut mistakes = Vec::new();
        for line in lines(text) {
            if let Err(error) = builder.add_line(None, line) {
                mistakes.push(format!("'{line}': {error}"));
            }
        }
        let patterns = builder.build().unwrap_or_else(|error| {
            mistakes.push(error.to_string());
            Gitignore::empty()
        });
        Rules {
            text: text.to_owned(),
            patterns,
            mistakes,
        }
    }

    /// What to tell of the lines of [`FILE_NAME`] that are no patterns.
    pub(crate) fn problems(&self) -> impl Iterator<Item = Problem> {
        self.mistakes.iter().map(|mistake| Problem {
            path: RelPath::parse(FILE_NAME).expect("a good name"),
            what: Trouble::Failed(format!("the line {mistake}. The other lines hold")),
        })
    }

    /// All of them, in order; the later count more.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &str> {
        lines(&self.text)
    }

    /// Whether both were made of the same text.
    #[must_use]
    pub fn same_as(&self, other: &Rules) -> bool {
        self.text == other.text
    }

    /// Whether this entry isn't synced. What is in an ignored folder isn't either, without being
    /// asked for.
    #[must_use]
    pub fn skip(&self, path: &RelPath, folder: bool) -> bool {
        let path: &Path = path.as_ref();
        self.patterns.matched(path, folder).is_ignore()
    }
}

/// The built-in patterns, and those of a text.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let own = text.trim_start_matches('\u{feff}').lines();
    BUILT_IN.iter().copied().chain(own)
}

#[cfg(test)]
mod tests {
    use super::Rules;
    use raspbox_protocol::RelPath;

    fn skip(rules: &Rules, path: &str, folder: bool) -> bool {
        rules.skip(&RelPath::parse(path).expect("a good path"), folder)
    }

    #[test]
    fn editors_leftovers_are_ignored_and_documents_are_not() {
        let rules = Rules::parse("");
        for path in [
            "a/.notes.txt.swp",
            "x~",
            "d/~$letter.docx",
            ".DS_Store",
            "#x#",
        ] {
            assert!(skip(&rules, path, false), "{path}");
        }
        for path in ["notes.txt", "a.sw", "~home", "$x", ".bashrc", "4913", "a#b"] {
            assert!(!skip(&rules, path, false), "{path}");
        }
    }

    #[test]
    fn gitignore_syntax_holds() {
        let rules = Rules::parse("\u{feff}target/\r\n# a comment\n/top\n!keep~\nbad\\\n");
        assert!(skip(&rules, "a/target", true));
        assert!(
            !skip(&rules, "a/target", false),
            "a slash at the end means folders"
        );
        assert!(skip(&rules, "top", false));
        assert!(!skip(&rules, "a/top", false));
        assert!(
            !skip(&rules, "keep~", false),
            "a later line brings a built-in one back"
        );
        assert_eq!(rules.mistakes.len(), 1, "{:?}", rules.mistakes);
    }
}
