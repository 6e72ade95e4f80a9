//! What a round tells while it goes, and what it says at its end.

use crate::remote::Progress;
use crate::scan::Seen;
use raspbox_core::plan::{Plan, Problem};
use raspbox_protocol::{RelPath, Version};

/// One fact, as it happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// A local file is read to hash it, of this size in bytes.
    Reading(&'a RelPath, u64),
    /// This is what will be done.
    Planned(&'a Plan<Seen, Version>),
    /// So many bytes of content went up.
    Sent(u64),
    /// So many bytes of content needn't go up, since they are there.
    Spared(u64),
    /// So many bytes of content came down.
    Received(u64),
    /// Something was done.
    Did(Deed, &'a RelPath),
    /// Two edits that did not know of each other: the local one is now this copy.
    Conflict(&'a RelPath, &'a RelPath),
    /// Trouble with one path.
    Trouble(&'a Problem),
    /// The appliance's journal is not the one that was known: everything is compared by content,
    /// nothing is deleted.
    NewJournal,
    /// A crash had left this file without its name; it is back.
    Recovered(&'a RelPath),
}

/// What was done to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Its content, or the folder or symlink, went up.
    Pushed,
    /// It was deleted on the remote side.
    PushedDelete,
    /// It was moved to this path on the remote side.
    PushedMove,
    /// Its content went up, to be kept there as a version, before it is replaced or deleted here.
    Kept,
    /// Its content, or the folder or symlink, came down.
    Pulled,
    /// It was deleted here.
    PulledDelete,
    /// It was moved to this path here.
    PulledMove,
}

/// Takes the facts.
pub type Report<'a> = dyn FnMut(Event<'_>) + 'a;

/// What a round came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries whose content (or folder, or symlink) went up.
    pub pushed: u64,
    /// Entries that came down.
    pub pulled: u64,
    /// Entries or whole folders moved on either side.
    pub moved: u64,
    /// Entries deleted on either side.
    pub deleted: u64,
    /// Bytes of content that went up.
    pub sent_bytes: u64,
    /// Bytes of the content of what went up that were there already.
    pub spared_bytes: u64,
    /// Bytes of content that came down.
    pub received_bytes: u64,
    /// Conflict copies made: the path, and the copy's.
    pub conflicts: Vec<(RelPath, RelPath)>,
    /// What could not be decided or done.
    pub problems: Vec<Problem>,
    /// Names that can't be synced, and why.
    pub unsyncable: Vec<(String, String)>,
}

impl Summary {
    /// Whether something is left that a person should look at.
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        !(self.conflicts.is_empty() && self.problems.is_empty() && self.unsyncable.is_empty())
    }

    /// Whether anything was changed on either side.
    #[must_use]
    pub fn changed_anything(&self) -> bool {
        self.pushed + self.pulled + self.moved + self.deleted > 0 || !self.conflicts.is_empty()
    }

    pub(crate) fn count(&mut self, deed: Deed) {
        match deed {
            Deed::Pushed => self.pushed += 1,
            Deed::Pulled => self.pulled += 1,
            Deed::PushedMove | Deed::PulledMove => self.moved += 1,
            Deed::PushedDelete | Deed::PulledDelete => self.deleted += 1,
            // A version more, which is seen in the history; what follows it is counted.
            Deed::Kept => {}
        }
    }
}

/// Counts and tells what is sent.
pub(crate) fn sending<'a>(
    sent_bytes: &'a mut u64,
    report: &'a mut Report<'_>,
) -> impl FnMut(Progress) + 'a {
    move |progress| match progress {
        Progress::Sent(bytes) => {
            *sent_bytes += bytes;
            report(Event::Sent(bytes));
        }
        Progress::Spared(0) => {}
        Progress::Spared(bytes) => report(Event::Spared(bytes)),
    }
}
