//! Brakes: whether a plan is so unlike what people do that somebody should be asked first.
//!
//! Judges the plan as a whole, after moves were found; it never changes it. The halts that need a
//! look at the world (which drive is in the appliance, whether the synced folder is there) are made
//! by whoever looks, and are told here, so that all of them read alike.

use crate::plan::{Action, Plan};
use crate::tree::{Folder, Node};
use raspbox_protocol::info::DriveId;
use raspbox_protocol::{Entry, File, Mtime, RelPath};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// From how many entries in the baseline on an empty side is suspicious.
///
/// A disk that isn't mounted is an empty folder. Below this number people do empty folders by hand,
/// and the appliance still has the versions.
pub const EMPTIED_FROM_ENTRIES: usize = 10;

/// The same where nothing keeps what is deleted: an ordinary FTP server whose disk isn't mounted shows an
/// empty folder, too, and then the local files are all there is.
pub const EMPTIED_FROM_ENTRIES_FOR_GOOD: usize = 1;

/// More deletions than this in one direction are always asked about (rule 7 of the design).
pub const DELETIONS_MAX: usize = 1_000;

/// More deletions than this part of the baseline's files are asked about (rule 7 of the design).
pub const DELETIONS_MAX_PERCENT: usize = 25;

/// Fewer deletions than this are never asked about, whatever part of the files they are: tidying up
/// a small folder is everyday work.
pub const DELETIONS_FROM: usize = 25;

/// The same where nothing keeps what is deleted, of files that don't seem to be renamed.
pub const DELETIONS_FROM_FOR_GOOD: usize = 10;

/// More replaced contents than this part of the baseline's files are asked about: this is what
/// ransomware does, or a tool gone wrong.
pub const CHANGES_MAX_PERCENT: usize = 50;

/// Fewer replaced contents than this are never asked about, so that "replace all" in a small
/// project goes through.
pub const CHANGES_FROM: usize = 100;

/// For how long what a sync has deleted and replaced still counts: a mishap may take its time, and
/// `watch` makes a round of every few files of it.
pub const LATELY: Duration = Duration::from_secs(3_600);

/// What was deleted and replaced lately on one side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lately {
    /// Files and symlinks that went away. Not those that were younger than [`LATELY`]: programs make and
    /// delete files all day.
    pub deleted: BTreeSet<RelPath>,
    /// Those of them for which none of the same size came.
    pub lost: BTreeSet<RelPath>,
    /// Files that got another content.
    pub changed: BTreeSet<RelPath>,
}

/// The same on both sides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recent {
    /// This workstation.
    pub local: Lately,
    /// The appliance.
    pub remote: Lately,
}

/// What becomes of what a plan deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Displaced {
    /// The appliance keeps it as a version.
    Kept,
    /// It is gone: the remote is an ordinary FTP server.
    Gone,
}

/// Which side a plan would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// This workstation.
    Local,
    /// The appliance.
    Remote,
}

/// What somebody has confirmed for this one sync, as numbers: what was shown when it halted. A plan
/// that has become larger meanwhile is not what they said yes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowances {
    /// So many deletions in one direction.
    pub deletions: usize,
    /// So many replaced contents in one direction.
    pub changes: usize,
}

/// A reason to stop before doing anything; it prints as what a person should read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// One side has nothing any more, so that everything would be deleted on the other.
    #[error(
        "{} has nothing any more of what was in sync before ({}). All of it would be deleted \
         {direction}. {NOTHING_DONE} If the folder was emptied on purpose, go on with: \
         {CONFIRM_DELETIONS}={entries}",
        other_side(*direction),
        if *entries == 1 { "1 entry".into() } else { format!("{entries} entries") }
    )]
    Emptied {
        /// The side where everything would be deleted: the one that still has it.
        direction: Direction,
        /// How many entries the baseline has.
        entries: usize,
    },
    /// Many files would be deleted.
    #[error(
        "{deletions} of {files} files would be deleted {direction}{}{}. {NOTHING_DONE} If they were \
         deleted on purpose, go on with: {CONFIRM_DELETIONS}={deletions}",
        such_as(examples),
        after(*lately)
    )]
    Deletions {
        /// Where.
        direction: Direction,
        /// How many files and symlinks.
        deletions: usize,
        /// How many others were deleted there lately.
        lately: usize,
        /// How many the baseline has.
        files: usize,
        /// The first of them.
        examples: Vec<RelPath>,
    },
    /// Nearly everything would get another content.
    #[error(
        "{changes} of {files} files would be replaced {direction} by another content{}{}. \
         {NOTHING_DONE} Look at some of them first, since this is also what malware does. If they \
         are as they should be, go on with: {CONFIRM_CHANGES}={changes}",
        such_as(examples),
        after(*lately)
    )]
    Changes {
        /// Where.
        direction: Direction,
        /// How many files.
        changes: usize,
        /// How many others were replaced there lately.
        lately: usize,
        /// How many files and symlinks the baseline has.
        files: usize,
        /// The first of them.
        examples: Vec<RelPath>,
    },
    /// Another drive is in the appliance than the one that was paired.
    #[error(
        "the appliance has another drive ({found}) than the one that this folder is paired with \
         ({expected}). {NOTHING_DONE} Plug the right drive back in; to use the new one, run \
         'raspbox unpair' and pair again"
    )]
    DriveChanged {
        /// The drive of the pairing.
        expected: DriveId,
        /// The drive that is there.
        found: DriveId,
    },
    /// The synced folder, or the mark in it that says it is the one, is gone.
    #[error(
        "the synced folder on this computer isn't there, or isn't the one that was paired. \
         {NOTHING_DONE} If it is on another disk, mount that; if it was moved, move it back; to \
         begin anew, run 'raspbox unpair' and pair again"
    )]
    LocalRootGone,
}

const NOTHING_DONE: &str = "Nothing was done.";
const CONFIRM_DELETIONS: &str = "raspbox sync --confirm-deletions";
const CONFIRM_CHANGES: &str = "raspbox sync --confirm-changes";

/// How many paths a halt shows.
const EXAMPLES: usize = 2;

/// Whether the plan may be carried out, after what was done lately.
///
/// # Errors
/// The first reason not to: an emptied side, then deletions, then changes, each for the remote side
/// first.
#[allow(
    clippy::too_many_arguments,
    reason = "each is another thing to look at"
)]
pub fn guard<B, L, R>(
    plan: &Plan<L, R>,
    baseline: &Folder<B>,
    local: &Folder<L>,
    remote: &Folder<R>,
    displaced: Displaced,
    recent: &Recent,
    allow: &Allowances,
) -> Result<(), Halt> {
    let files = files(baseline);
    let push = Tally::of(&plan.push);
    let pull = Tally::of(&plan.pull);
    let (there, here) = (&recent.remote, &recent.local);
    let sides = [
        (Direction::Remote, push, there, local.children.is_empty()),
        (Direction::Local, pull, here, remote.children.is_empty()),
    ];
    let entries = baseline.count();
    let emptied_from = match displaced {
        Displaced::Kept => EMPTIED_FROM_ENTRIES,
        Displaced::Gone => EMPTIED_FROM_ENTRIES_FOR_GOOD,
    };
    for (direction, tally, lately, is_empty) in &sides {
        // Where a disk isn't mounted, something that was never in sync may stand in its place.
        let emptied = match displaced {
            Displaced::Kept => *is_empty,
            Displaced::Gone => *is_empty || (tally.deletions == entries && tally.strangers),
        };
        if emptied
            && entries + lately.deleted.len() >= emptied_from
            && tally.deletions > 0
            && entries > allow.deletions
        {
            return Err(Halt::Emptied {
                direction: *direction,
                entries,
            });
        }
    }
    for (direction, tally, lately, _) in &sides {
        let deletions = tally.deleted.len();
        let before = others(&lately.deleted, &tally.deleted);
        let lost = match displaced {
            Displaced::Kept => 0,
            Displaced::Gone => tally.lost.len() + others(&lately.lost, &tally.lost),
        };
        let all = files + before;
        let too_many = too_many_deletions(deletions + before, DELETIONS_FROM, all)
            || too_many_deletions(lost, DELETIONS_FROM_FOR_GOOD, all);
        if too_many && deletions > allow.deletions {
            return Err(Halt::Deletions {
                direction: *direction,
                deletions,
                lately: before,
                files,
                examples: examples(&tally.deleted),
            });
        }
    }
    for (direction, tally, lately, _) in &sides {
        let changes = tally.changed.len();
        let before = others(&lately.changed, &tally.changed);
        if too_many_changes(changes + before, files) && changes > allow.changes {
            return Err(Halt::Changes {
                direction: *direction,
                changes,
                lately: before,
                files,
                examples: examples(&tally.changed),
            });
        }
    }
    Ok(())
}

/// What of a plan counts with the ones that come within [`LATELY`].
#[must_use]
pub fn counts_later<L, R>(plan: &Plan<L, R>, now: Mtime) -> Recent {
    let long_ago = Mtime(now.0.saturating_sub(nanos(LATELY)));
    Recent {
        local: Tally::of(&plan.pull).counts_later(long_ago),
        remote: Tally::of(&plan.push).counts_later(long_ago),
    }
}

/// A time that is as long as that, in nanoseconds.
fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// How many are not among these.
fn others(lately: &BTreeSet<RelPath>, now: &[&RelPath]) -> usize {
    let now: BTreeSet<&RelPath> = now.iter().copied().collect();
    lately.iter().filter(|path| !now.contains(path)).count()
}

fn too_many_deletions(deletions: usize, from: usize, files: usize) -> bool {
    deletions > DELETIONS_MAX
        || (deletions >= from && deletions * 100 > files * DELETIONS_MAX_PERCENT)
}

fn too_many_changes(changes: usize, files: usize) -> bool {
    changes >= CHANGES_FROM && changes * 100 > files * CHANGES_MAX_PERCENT
}

/// What counts in one direction.
struct Tally<'a> {
    /// Files and symlinks that go away; folders don't count, and moves neither.
    deleted: Vec<&'a RelPath>,
    /// Files that get another content.
    changed: Vec<&'a RelPath>,
    /// How many entries go away, folders included.
    deletions: usize,
    /// Files that go away for which none of the same size comes. That is all that tells a rename from a
    /// deletion on an ordinary FTP server, which has no hashes and may set another time.
    lost: Vec<&'a RelPath>,
    /// Whether one goes away for which none of the same size and time comes: what happens to be as long is
    /// hardly as old, too.
    strangers: bool,
    /// When each of `deleted` was written last, by its time; `None` for a symlink.
    written: Vec<Option<Mtime>>,
}

impl<'a> Tally<'a> {
    fn of<Here, There>(actions: &'a [Action<Here, There>]) -> Tally<'a> {
        let mut tally = Tally {
            deleted: Vec::new(),
            changed: Vec::new(),
            deletions: 0,
            lost: Vec::new(),
            strangers: false,
            written: Vec::new(),
        };
        let mut going = Vec::new();
        let (mut sizes, mut prints) = (BTreeMap::new(), BTreeMap::new());
        let print = |file: &File| (file.size, file.mtime.parts().0);
        for action in actions {
            match action {
                Action::Delete { path, entry, .. } => {
                    tally.deletions += 1;
                    match entry {
                        Entry::File(file) => {
                            tally.deleted.push(path);
                            tally.written.push(Some(file.mtime));
                            going.push((path, file));
                        }
                        Entry::Symlink(_) => {
                            tally.deleted.push(path);
                            tally.written.push(None);
                        }
                        Entry::Folder => {}
                    }
                }
                Action::Put {
                    path,
                    replaces: Some(_),
                    ..
                } => tally.changed.push(path),
                Action::Put {
                    entry: Entry::File(file),
                    replaces: None,
                    ..
                } => {
                    *sizes.entry(file.size).or_default() += 1;
                    *prints.entry(print(file)).or_default() += 1;
                }
                Action::Put { replaces: None, .. }
                | Action::SetMeta { .. }
                | Action::Move { .. } => {}
            }
        }
        for (path, file) in going {
            if !takes_one(&mut sizes, &file.size) {
                tally.lost.push(path);
            }
            tally.strangers |= !takes_one(&mut prints, &print(file));
        }
        tally
    }

    fn counts_later(&self, long_ago: Mtime) -> Lately {
        let deleted = self.deleted.iter().zip(&self.written);
        let old = deleted.filter(|(_, written)| written.is_none_or(|at| at <= long_ago));
        let old: BTreeSet<RelPath> = old.map(|(path, _)| (*path).clone()).collect();
        let lost = self.lost.iter().filter(|path| old.contains(**path));
        Lately {
            lost: lost.map(|path| (*path).clone()).collect(),
            changed: self.changed.iter().map(|path| (*path).clone()).collect(),
            deleted: old,
        }
    }
}

/// Takes one of what comes, if there is one.
fn takes_one<K: Ord>(coming: &mut BTreeMap<K, usize>, like: &K) -> bool {
    match coming.get_mut(like) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        Some(_) | None => false,
    }
}

fn files<T>(folder: &Folder<T>) -> usize {
    let count = |node: &Node<T>| match node {
        Node::File(..) | Node::Symlink(..) => 1,
        Node::Folder(folder, _) => files(folder),
        Node::Unknown(_) => 0,
    };
    folder.children.values().map(count).sum()
}

fn examples(paths: &[&RelPath]) -> Vec<RelPath> {
    paths.iter().take(EXAMPLES).copied().cloned().collect()
}

fn such_as(examples: &[RelPath]) -> String {
    let names: Vec<String> = examples.iter().map(|path| format!("'{path}'")).collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(" (such as {})", names.join(" and "))
    }
}

fn after(lately: usize) -> String {
    match lately {
        0 => String::new(),
        _ => format!(", after {lately} others in the last hour"),
    }
}

fn other_side(direction: Direction) -> &'static str {
    match direction {
        Direction::Local => "The appliance",
        Direction::Remote => "The synced folder on this computer",
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Local => "on this computer",
            Direction::Remote => "on the appliance",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::takes_one;
    use std::collections::BTreeMap;

    #[test]
    fn each_of_what_comes_stands_for_one_of_what_goes() {
        let mut coming = BTreeMap::from([("a", 2)]);
        let taken = ["a", "b", "a", "a"].map(|like| takes_one(&mut coming, &like));
        assert_eq!(taken, [true, false, true, false]);
    }
}
