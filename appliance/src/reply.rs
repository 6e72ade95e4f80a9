//! FTP's reply codes for everything that can go wrong, in this one place.

use crate::place::PlaceError;
use libunftp::options::{Reply, ReplyCode};
use raspbox_store::{FeedError, StoreError};
use unftp_core::storage::{Error, ErrorKind};

/// Trouble of a request, as a kind that libunftp turns into a code and a text for people.
///
/// libunftp sends a fixed text with each code on transfers; SITE commands can say ours.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Trouble {
    kind: ErrorKind,
    text: String,
}

impl Trouble {
    /// The account hasn't got the right: 550.
    pub(crate) fn denied() -> Trouble {
        Trouble::new(ErrorKind::PermissionDenied, "this account may not do that")
    }

    /// The transfer was cut: 426.
    pub(crate) fn cut(why: impl Into<String>) -> Trouble {
        Trouble::new(ErrorKind::ConnectionClosed, why)
    }

    /// Not now, perhaps later: 450.
    pub(crate) fn not_now(why: impl Into<String>) -> Trouble {
        Trouble::new(ErrorKind::TransientFileNotAvailable, why)
    }

    /// Nothing there, or not of that kind: 550.
    pub(crate) fn unavailable(why: impl Into<String>) -> Trouble {
        Trouble::new(ErrorKind::PermanentFileNotAvailable, why)
    }

    /// A request that breaks the rules of its format: 550, sending it again won't help.
    pub(crate) fn bad_request(why: impl Into<String>) -> Trouble {
        Trouble::new(ErrorKind::PermanentFileNotAvailable, why)
    }

    /// Something of ours failed: 451.
    pub(crate) fn local(why: impl Into<String>) -> Trouble {
        Trouble::new(ErrorKind::LocalError, why)
    }

    fn new(kind: ErrorKind, text: impl Into<String>) -> Trouble {
        let text = text.into();
        Trouble { kind, text }
    }

    /// The reply to a SITE command.
    pub(crate) fn reply(self) -> Reply {
        let code = match self.kind {
            ErrorKind::TransientFileNotAvailable => ReplyCode::TransientFileError,
            ErrorKind::PermanentFileNotAvailable
            | ErrorKind::PermanentDirectoryNotAvailable
            | ErrorKind::PermanentDirectoryNotEmpty
            | ErrorKind::PermissionDenied => ReplyCode::FileError,
            ErrorKind::ConnectionClosed => ReplyCode::ConnectionClosed,
            ErrorKind::LocalError => ReplyCode::LocalError,
            ErrorKind::PageTypeUnknown => ReplyCode::PageTypeUnknown,
            ErrorKind::InsufficientStorageSpaceError => ReplyCode::OutOfSpace,
            ErrorKind::ExceededStorageAllocationError => ReplyCode::ExceededStorageAllocation,
            ErrorKind::FileNameNotAllowedError => ReplyCode::BadFileName,
            ErrorKind::CommandNotImplemented => ReplyCode::CommandNotImplemented,
        };
        Reply::new_with_string(code, self.text)
    }

    /// Whether it says for sure that nothing stands there.
    pub(crate) fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::PermanentFileNotAvailable
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Trouble {
        let kind = match &error {
            StoreError::NotFound(_)
            | StoreError::NoParent(_)
            | StoreError::Exists(_)
            | StoreError::NotAFile(_)
            | StoreError::Changed(_)
            | StoreError::Damaged(_)
            | StoreError::Range(_)
            | StoreError::BadRequest(_) => ErrorKind::PermanentFileNotAvailable,
            StoreError::NotAFolder(_) => ErrorKind::PermanentDirectoryNotAvailable,
            StoreError::NotEmpty(_) => ErrorKind::PermanentDirectoryNotEmpty,
            StoreError::CannotHold { .. } => ErrorKind::FileNameNotAllowedError,
            StoreError::NoSpace => ErrorKind::InsufficientStorageSpaceError,
            StoreError::NotNow(_) => ErrorKind::TransientFileNotAvailable,
            StoreError::Request(raspbox_protocol::wire::ReadError::Wire(_)) => {
                ErrorKind::PermanentFileNotAvailable
            }
            StoreError::Request(raspbox_protocol::wire::ReadError::Io(_)) => {
                ErrorKind::ConnectionClosed
            }
            StoreError::Io { .. } | StoreError::Journal(_) => ErrorKind::LocalError,
        };
        if kind == ErrorKind::LocalError {
            tracing::error!(%error, "the store failed");
        }
        Trouble::new(kind, error.to_string())
    }
}

impl From<FeedError> for Trouble {
    fn from(error: FeedError) -> Trouble {
        match error {
            FeedError::Expired => Trouble::unavailable("cursor expired"),
            FeedError::Sink(error) => Trouble::cut(error.to_string()),
            FeedError::Store(error) => error.into(),
        }
    }
}

impl From<PlaceError> for Trouble {
    fn from(error: PlaceError) -> Trouble {
        let kind = match error {
            PlaceError::AboveTop | PlaceError::Special(_) => ErrorKind::PermanentFileNotAvailable,
            PlaceError::Name(_) | PlaceError::NotUtf8 => ErrorKind::FileNameNotAllowedError,
        };
        Trouble::new(kind, error.to_string())
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Error {
        Error::new(trouble.kind, trouble.text)
    }
}
