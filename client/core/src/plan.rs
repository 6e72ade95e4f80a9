//! What is to be done, as values.

use crate::tree::Unknown;
use raspbox_protocol::{Entry, RelPath};

/// Everything that one look at three trees asks for.
///
/// `L` is what the local side knows of an entry besides (a fingerprint, to look again before it is
/// replaced), `R` what the remote side knows (a version, to compare and swap).
///
/// The order of each list is the order to do it in. `push` and `pull` don't depend on each other,
/// except that `asides` come before `pull`. `adopt` is recorded first.
///
/// What is recorded in the baseline at a path replaces what it had there, and everything below; only
/// a folder recorded where the baseline has a folder keeps what is below. An aside records nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<L, R> {
    /// Local entries to move out of the way, since the remote's keeps the name.
    pub asides: Vec<Aside<L>>,
    /// What to change on the remote side: the new folders that moves go into, moves, deletes
    /// (children first), then creations and replacements (parents first).
    pub push: Vec<Action<L, R>>,
    /// What to change on the local side, in the same order.
    pub pull: Vec<Action<R, L>>,
    /// What both sides have alike but the baseline doesn't know; it only needs recording.
    pub adopt: Vec<Adoption<L, R>>,
    /// Paths that can't be decided or done.
    pub problems: Vec<Problem>,
}

/// One change on one side (`There`), on the strength of what the other (`Here`) has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<Here, There> {
    /// A file, folder or symlink is made, or replaces what is there.
    Put {
        /// Where.
        path: RelPath,
        /// What.
        entry: Entry,
        /// What the side that has it knows of it.
        here: Here,
        /// What is replaced; `None` where nothing is there. A folder is never replaced: its
        /// deletion comes as actions of its own.
        replaces: Option<There>,
    },
    /// A file's executable bit and time change, its content is there already.
    SetMeta {
        /// Where.
        path: RelPath,
        /// What it should be; always a file.
        entry: Entry,
        /// What the side that has it knows of it.
        here: Here,
        /// What is there.
        there: There,
    },
    /// A file, a symlink or an emptied folder goes away.
    Delete {
        /// Where.
        path: RelPath,
        /// What it is.
        entry: Entry,
        /// What is there.
        there: There,
    },
    /// A file, a symlink or a whole folder moves, since it was found at another name.
    Move {
        /// From where.
        from: RelPath,
        /// To where; nothing is there.
        to: RelPath,
        /// What it is: the top of what moves.
        entry: Entry,
        /// What is at `from` now.
        there: There,
        /// Each entry that moves, as `(old path, new path, what Here knows of it at its new path)`:
        /// one row for a file, all of them for a folder, a folder before what is in it.
        moved: Vec<(RelPath, RelPath, Here)>,
    },
}

/// A local entry that gives way to the remote's: it becomes a conflict copy beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside<L> {
    /// Where it is; the conflict copy's name is made when it moves (see [`crate::names`]).
    pub path: RelPath,
    /// What it is.
    pub entry: Entry,
    /// What the local side knows of it.
    pub local: L,
}

/// What both sides have alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adoption<L, R> {
    /// The same entry on both sides.
    Same {
        /// Where.
        path: RelPath,
        /// What.
        entry: Entry,
        /// What the local side knows of it.
        local: L,
        /// What the remote side knows of it.
        remote: R,
    },
    /// Gone on both sides, with everything below.
    Gone {
        /// Where.
        path: RelPath,
    },
}

/// Trouble with one path that does not stop the rest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Where.
    pub path: RelPath,
    /// What.
    pub what: Trouble,
}

/// What is wrong with a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The local side can't be known.
    Local(Unknown),
    /// The remote side can't be known.
    Remote(Unknown),
    /// It was deleted on the remote side, but the local folder holds things that aren't synced.
    HoldsUnsynced,
    /// The side that it would come to can't hold this name, or this kind of entry; which, and why.
    CannotHold(String),
    /// It was tried and did not work; what happened, and what to do.
    Failed(String),
}

impl<L, R> Default for Plan<L, R> {
    fn default() -> Self {
        Plan {
            asides: Vec::new(),
            push: Vec::new(),
            pull: Vec::new(),
            adopt: Vec::new(),
            problems: Vec::new(),
        }
    }
}

impl<L, R> Plan<L, R> {
    /// Whether nothing has to be moved, changed or recorded. (Problems may remain.)
    pub fn is_empty(&self) -> bool {
        self.asides.is_empty()
            && self.push.is_empty()
            && self.pull.is_empty()
            && self.adopt.is_empty()
    }
}

impl<Here, There> Action<Here, There> {
    /// Where it changes something; for a move, where to.
    pub fn path(&self) -> &RelPath {
        match self {
            Action::Put { path, .. }
            | Action::SetMeta { path, .. }
            | Action::Delete { path, .. } => path,
            Action::Move { to, .. } => to,
        }
    }
}
