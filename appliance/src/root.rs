//! Where the system's files are: `/`, or for tests and for looking a folder in its place.

use crate::boot::RUN;
use crate::whole;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};

/// At most, of what one part of us tells the others.
const SAID_MAX_BYTES: u64 = 256 << 10;

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

    /// What one part of us has told the others in this file of `/run/raspbox`; `None` where it hasn't, or not
    /// so that it can be understood.
    pub(crate) fn said<T: DeserializeOwned>(&self, file: &str) -> Option<T> {
        let json = whole::read(&self.at(RUN).join(file), SAID_MAX_BYTES).ok()??;
        serde_json::from_slice(&json).ok()
    }

    /// Tells it.
    pub(crate) fn say<T: Serialize>(&self, file: &str, what: &T) -> io::Result<()> {
        let json = serde_json::to_vec_pretty(what).expect("it is plain data");
        whole::write(&self.at(RUN).join(file), &json, 0o644)
    }

    /// Whether it is the system that runs: what isn't a file is changed only there.
    pub(crate) fn is_real(&self) -> bool {
        self.0 == Path::new("/")
    }
}
