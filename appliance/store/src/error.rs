//! What can go wrong, in the words of whoever asked.

use raspbox_protocol::RelPath;
use raspbox_protocol::commit::Refusal;
use raspbox_protocol::wire::ReadError;
use std::io;
use std::path::PathBuf;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder isn't there or can't be used.
    #[error("cannot use {} as a store: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{} is in use by another raspboxd", .0.display())]
    Locked(PathBuf),
    /// The journal can't be used and could not be set aside for a new one.
    #[error("cannot use the journal {}: {source}", path.display())]
    Journal {
        /// Which file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Something that was changed in it could not be written to the drive: only another mount shows
    /// what is there.
    #[error("{} was changed, and that could not be written to the drive: {why}", path.display())]
    Unwritten {
        /// Which.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The journal was written by a newer raspboxd.
    #[error("the journal {} is of a newer raspboxd (format {found})", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
}

/// Why an operation on the store did not happen. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing stands there.
    #[error("{0}: not found")]
    NotFound(RelPath),
    /// The folder to put it in isn't there.
    #[error("{0}: its folder isn't there")]
    NoParent(RelPath),
    /// Something stands there already.
    #[error("{0}: exists already")]
    Exists(RelPath),
    /// A file was asked for, but it is a folder, a symlink or something else.
    #[error("{0}: not a file")]
    NotAFile(RelPath),
    /// A folder was asked for, but it is something else.
    #[error("{0}: not a folder")]
    NotAFolder(RelPath),
    /// The folder isn't empty.
    #[error("{0}: not empty")]
    NotEmpty(RelPath),
    /// It isn't the version that was asked for any more.
    #[error("{0}: changed in the meantime")]
    Changed(RelPath),
    /// Its content isn't what was saved any more, though nobody wrote to it.
    #[error("{0}: damaged on the drive")]
    Damaged(RelPath),
    /// The drive can't hold this name or this kind of entry.
    #[error("{path}: the drive can't hold it: {why}")]
    CannotHold {
        /// Which.
        path: RelPath,
        /// Why.
        why: String,
    },
    /// The file is shorter than the position to go on from.
    #[error("{0}: shorter than the position to go on from")]
    Range(RelPath),
    /// The drive is full, down to the floor that is kept free.
    #[error("the drive is full")]
    NoSpace,
    /// The drive is missing, read-only, or not to be written to any more.
    #[error("the drive is missing or read-only for now: {0}")]
    NotNow(String),
    /// The stream of a request was cut, or is none.
    #[error("request: {0}")]
    Request(#[from] ReadError),
    /// The stream of a request breaks its rules: more operations than allowed, or a wrong count.
    #[error("request: {0}")]
    BadRequest(&'static str),
    /// The drive failed.
    #[error("{path}: {source}")]
    Io {
        /// Doing what, to which file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The journal failed.
    #[error("journal: {0}")]
    Journal(#[source] rusqlite::Error),
}

/// Why a feed stopped.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The journal doesn't reach back to the cursor, or has another epoch.
    #[error("cursor expired")]
    Expired,
    /// Whoever takes the frames failed.
    #[error("{0}")]
    Sink(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StoreError {
    /// What a failed call on the drive means.
    pub(crate) fn io(what: impl std::fmt::Display, source: io::Error) -> StoreError {
        use nix::libc::{EDQUOT, EIO, ENODEV, ENOMEDIUM, ENOSPC, ENXIO, EROFS, ESTALE};
        match source.raw_os_error() {
            Some(ENOSPC | EDQUOT) => StoreError::NoSpace,
            Some(EROFS | EIO | ENODEV | ENXIO | ENOMEDIUM | ESTALE) => {
                StoreError::NotNow(format!("{what}: {source}"))
            }
            _ => StoreError::Io {
                path: what.to_string(),
                source,
            },
        }
    }

    /// Whether the drive itself is in trouble, so that going on makes no sense.
    pub(crate) fn is_not_now(&self) -> bool {
        matches!(self, StoreError::NotNow(_))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        use rusqlite::ErrorCode::{CannotOpen, DiskFull, ReadOnly, SystemIoFailure};
        match error.sqlite_error_code() {
            Some(DiskFull) => StoreError::NoSpace,
            Some(CannotOpen | ReadOnly | SystemIoFailure) => {
                StoreError::NotNow(format!("journal: {error}"))
            }
            _ => StoreError::Journal(error),
        }
    }
}

impl From<&StoreError> for Refusal {
    fn from(error: &StoreError) -> Refusal {
        match error {
            // To a client that states what it expects, these all say: look again.
            StoreError::NotFound(_)
            | StoreError::Exists(_)
            | StoreError::NotAFile(_)
            | StoreError::NotAFolder(_)
            | StoreError::Changed(_)
            | StoreError::Range(_) => Refusal::Changed,
            StoreError::Damaged(_) => Refusal::Damaged,
            StoreError::NoParent(_) => Refusal::NoParent,
            StoreError::NotEmpty(_) => Refusal::NotEmpty,
            StoreError::CannotHold { why, .. } => Refusal::Name(why.clone()),
            StoreError::NoSpace => Refusal::NoSpace,
            StoreError::NotNow(_) => Refusal::NotNow,
            error @ (StoreError::Request(_)
            | StoreError::BadRequest(_)
            | StoreError::Io { .. }
            | StoreError::Journal(_)) => Refusal::Failed(error.to_string()),
        }
    }
}
