//! Where the system's files are: `/`, or for tests and for looking a folder in its place.

use std::path::{Path, PathBuf};

/// The top of a system's files.
#[derive(Debug, Clone)]
pub(crate) struct Root(PathBuf);

impl Root {
    /// The system in this folder.
    pub(crate) fn new(top: PathBuf) -> Root {
        Root(top)
    }

    /// An absolute path of the system.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// Whether it is the system that runs: what isn't a file is changed only there.
    pub(crate) fn is_real(&self) -> bool {
        self.0 == Path::new("/")
    }
}
