//! What is asked of the store, and the decisions about it: values in, values out.

use crate::error::StoreError;
use crate::rows::Row;
use raspbox_protocol::commit::{Expect, Refusal};
use raspbox_protocol::{Entry, File, LinkTarget, Mtime, RelPath, Version};

/// What a change expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Whatever there is: an ordinary FTP client doesn't know.
    Any,
    /// Nothing.
    Absent,
    /// What this change made.
    Version(Version),
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put {
        path: RelPath,
        expected: Expected,
        content: Content,
        /// The name in the staging folder.
        staged: String,
    },
    /// A content that is kept takes its place without being copied, where there is no room to.
    PutBack {
        path: RelPath,
        expected: Expected,
        file: File,
    },
    /// A content becomes a version of a path; what stands there stays.
    Keep {
        path: RelPath,
        file: File,
        /// The name in the staging folder.
        staged: String,
    },
    /// With [`Expected::Any`], a folder that is there already is an error.
    MakeFolder { path: RelPath, expected: Expected },
    Delete {
        path: RelPath,
        expected: Expected,
        only: Only,
    },
    Move {
        from: RelPath,
        expected: Expected,
        to: RelPath,
    },
    SetMeta {
        path: RelPath,
        expected: Expected,
        mtime: Option<Mtime>,
        executable: Option<bool>,
    },
    /// Refused before it came this far.
    Refused(Refusal),
}

/// What is put under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// A file; `keep_mode` leaves the executable bit as it is where it stands on one.
    File {
        file: File,
        keep_mode: bool,
    },
    Symlink(LinkTarget),
}

/// What a delete is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    Files,
    Folders,
    Anything,
}

/// What a put comes down to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PutPlan {
    /// The name is free.
    Fresh(Entry),
    /// What stands there is displaced.
    Replace(Entry),
    /// It was done before.
    Done(Version),
}

impl From<Expect> for Expected {
    fn from(expect: Expect) -> Expected {
        match expect {
            Expect::Absent => Expected::Absent,
            Expect::Version(version) => Expected::Version(version),
        }
    }
}

impl Change {
    /// The paths that it is about.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &RelPath> {
        let (one, other) = match self {
            Change::Put { path, .. }
            | Change::PutBack { path, .. }
            | Change::MakeFolder { path, .. }
            | Change::Delete { path, .. }
            | Change::SetMeta { path, .. } => (Some(path), None),
            Change::Move { from, to, .. } => (Some(from), Some(to)),
            // Nothing is expected of what stands at a version's path.
            Change::Keep { .. } | Change::Refused(_) => (None, None),
        };
        one.into_iter().chain(other)
    }

    /// The path and the content that it gives it, unless it does so whatever stands there.
    pub(crate) fn gives(&self) -> Option<(&RelPath, &File)> {
        match self {
            Change::Put {
                path,
                expected: Expected::Absent | Expected::Version(_),
                content: Content::File { file, .. },
                ..
            }
            | Change::PutBack { path, file, .. } => Some((path, file)),
            Change::Put {
                expected: Expected::Any,
                ..
            }
            | Change::Put {
                content: Content::Symlink(_),
                ..
            }
            | Change::Keep { .. }
            | Change::MakeFolder { .. }
            | Change::Delete { .. }
            | Change::Move { .. }
            | Change::SetMeta { .. }
            | Change::Refused(_) => None,
        }
    }

    /// The name in the staging folder of what it brings.
    pub(crate) fn staged(&self) -> Option<&str> {
        match self {
            Change::Put { staged, .. } | Change::Keep { staged, .. } => Some(staged),
            Change::PutBack { .. }
            | Change::MakeFolder { .. }
            | Change::Delete { .. }
            | Change::Move { .. }
            | Change::SetMeta { .. }
            | Change::Refused(_) => None,
        }
    }
}

impl Content {
    fn entry(&self, standing: Option<&Row>) -> Entry {
        match (self, standing.map(|row| &row.entry)) {
            (Content::Symlink(target), _) => Entry::Symlink(target.clone()),
            (
                Content::File {
                    file,
                    keep_mode: true,
                },
                Some(Entry::File(standing)),
            ) => Entry::File(File {
                executable: standing.executable,
                ..*file
            }),
            (Content::File { file, .. }, _) => Entry::File(*file),
        }
    }
}

/// Decides a put, from what stands there, whether that is known to be damaged, and what was expected.
pub(crate) fn plan_put(
    path: &RelPath,
    standing: Option<&Row>,
    damaged: bool,
    expected: Expected,
    content: &Content,
) -> Result<PutPlan, StoreError> {
    let new = content.entry(standing);
    let Some(row) = standing else {
        return match expected {
            Expected::Any | Expected::Absent => Ok(PutPlan::Fresh(new)),
            Expected::Version(_) => Err(StoreError::Changed(path.clone())),
        };
    };
    match (&row.entry, expected) {
        (Entry::Folder, Expected::Any) => Err(StoreError::NotAFile(path.clone())),
        (Entry::Folder, Expected::Absent | Expected::Version(_)) => {
            Err(StoreError::Changed(path.clone()))
        }
        (Entry::File(_) | Entry::Symlink(_), Expected::Any) => Ok(PutPlan::Replace(new)),
        // The content that should stand there, in place of what it became: a repair.
        (Entry::File(_), Expected::Absent | Expected::Version(_))
            if damaged && row.entry.same_content(&new) =>
        {
            Ok(PutPlan::Replace(new))
        }
        // What was done is found done, whoever did it: the content is what was asked for.
        (Entry::File(_) | Entry::Symlink(_), Expected::Absent | Expected::Version(_))
            if row.entry.same_content(&new) =>
        {
            Ok(PutPlan::Done(row.version))
        }
        (Entry::File(_) | Entry::Symlink(_), Expected::Version(version))
            if version == row.version =>
        {
            Ok(PutPlan::Replace(new))
        }
        (Entry::File(_) | Entry::Symlink(_), Expected::Absent | Expected::Version(_)) => {
            Err(StoreError::Changed(path.clone()))
        }
    }
}

/// Checks that what stands there is what was expected.
pub(crate) fn check_expected(
    path: &RelPath,
    row: &Row,
    expected: Expected,
) -> Result<(), StoreError> {
    match expected {
        Expected::Any => Ok(()),
        Expected::Version(version) if version == row.version => Ok(()),
        Expected::Absent | Expected::Version(_) => Err(StoreError::Changed(path.clone())),
    }
}
