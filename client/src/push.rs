//! Carrying out the remote half of a plan, and the records of both sides that follow from it.

use crate::chunks::CONTENT_MIN_BYTES;
use crate::engine::{Engine, Lap, SyncError, set};
use crate::local::{Expected, Workspace};
use crate::remote::Pushed;
use crate::report::{Deed, Event, sending};
use crate::scan::Seen;
use raspbox_core::plan::{Action, Adoption, Aside, Problem, Trouble};
use raspbox_core::tree::{Folder, Node, Unknown};
use raspbox_protocol::commit::{Expect, Op, Outcome, Refusal};
use raspbox_protocol::special::Stretch;
use raspbox_protocol::{Cursor, Entry, RelPath, Version};
use std::io;

/// The most operations that are sent at once: enough that round trips and syncs of the drive cost
/// nothing beside them, few enough that a lost connection costs little.
pub(crate) const BATCH_OPS: usize = 1_000;

/// The most content that is sent at once, in bytes; a larger file goes alone.
pub(crate) const BATCH_BYTES: u64 = 32 << 20;

type Push = Action<Seen, Version>;

impl Engine {
    /// Records what both sides have alike already.
    pub(crate) fn adopt(
        &mut self,
        adoptions: &[Adoption<Seen, Version>],
        workspace: &Workspace,
    ) -> Result<(), SyncError> {
        let here = adoptions.iter().filter_map(|adoption| match adoption {
            Adoption::Same { path, .. } => Some(path),
            Adoption::Gone { .. } => None,
        });
        self.make_durable(&here.collect::<Vec<_>>(), workspace)?;
        self.state.write(|w| {
            adoptions.iter().try_for_each(|adoption| match adoption {
                Adoption::Same { path, entry, .. } => w.set_baseline(path, Some(entry)),
                Adoption::Gone { path } => w.set_baseline(path, None),
            })
        })?;
        for adoption in adoptions {
            match adoption {
                Adoption::Same { path, entry, .. } => set(&mut self.baseline, path, entry, ()),
                Adoption::Gone { path } => drop(self.baseline.remove(path)),
            }
        }
        Ok(())
    }

    /// Changes the remote side, a batch at a time. Returns whether the cursor is where the remote's journal was after
    /// that.
    pub(crate) fn push(
        &mut self,
        actions: Vec<Push>,
        lap: &mut Lap<'_, '_>,
    ) -> Result<bool, SyncError> {
        let mut rest = &actions[..];
        let mut followed = true;
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_len(rest, BATCH_OPS, BATCH_BYTES));
            followed &= self.push_batch(batch, lap)?;
            rest = later;
        }
        Ok(followed)
    }

    fn push_batch(&mut self, batch: &[Push], lap: &mut Lap<'_, '_>) -> Result<bool, SyncError> {
        let ops = batch.iter().map(|action| self.patched(op(action)));
        let ops = ops.collect::<rusqlite::Result<Vec<Op>>>()?;
        self.note_sent(batch)?;
        let top = lap.workspace.top();
        let report = &mut *lap.report;
        let spared_bytes: u64 = ops.iter().map(Op::copied_bytes).sum();
        if spared_bytes > 0 {
            report(Event::Spared(spared_bytes));
        }
        let sent_bytes = &mut lap.summary.sent_bytes;
        let Pushed { outcomes, alone } = self.remote.push(
            &ops,
            &mut |index| {
                let path = batch[index].path();
                top.parent_of(path)?.open_file(path.name())
            },
            &mut sending(sent_bytes, report),
        )?;
        let done: Vec<(&Push, Version)> = batch
            .iter()
            .zip(&outcomes)
            .filter_map(|(action, outcome)| match outcome {
                Outcome::Done(version) => Some((action, *version)),
                Outcome::Refused(_) => None,
            })
            .collect();
        let here = done.iter().filter_map(|(action, _)| match action {
            Action::Put { path, .. }
            | Action::SetMeta { path, .. }
            | Action::Move { to: path, .. } => Some(path),
            Action::Delete { .. } => None,
        });
        self.make_durable(&here.collect::<Vec<_>>(), lap.workspace)?;
        let followed = self.record_pushed(&done, &alone)?;
        for ((action, op), outcome) in batch.iter().zip(&ops).zip(outcomes) {
            if let (Op::Patch { patch, .. }, Outcome::Refused(Refusal::BadContent)) = (op, &outcome)
            {
                // Whatever spoilt it, the whole is sent next.
                self.state.write(|w| w.forget_chunks(patch.base()))?;
            }
            match outcome {
                Outcome::Done(_) => {
                    lap.summary.spared_bytes += op.copied_bytes();
                    let deed = match action {
                        Action::Put { .. } | Action::SetMeta { .. } => Deed::Pushed,
                        Action::Delete { .. } => Deed::PushedDelete,
                        Action::Move { .. } => Deed::PushedMove,
                    };
                    lap.did(deed, action.path());
                }
                Outcome::Refused(Refusal::Changed) if self.is_hidden_there(action)? => {
                    lap.problem(action.path(), in_the_way("on the other side"));
                }
                Outcome::Refused(refusal) => lap.refused(action.path(), refusal),
            }
        }
        Ok(followed)
    }

    /// Of a large file that the remote has an older content of, only what is new in it.
    fn patched(&self, op: Op) -> rusqlite::Result<Op> {
        let Op::Put { path, expect, file } = &op else {
            return Ok(op);
        };
        let (Expect::Version(version), true) = (*expect, self.remote.patches()) else {
            return Ok(op);
        };
        let Some(Node::File(base, there)) = self.remote_tree.get(path) else {
            return Ok(op);
        };
        if *there != version || file.size.min(base.size) < CONTENT_MIN_BYTES {
            return Ok(op);
        }
        let (Some(old), Some(new)) = (
            self.state.chunks(&base.digest)?,
            self.state.chunks(&file.digest)?,
        ) else {
            return Ok(op);
        };
        let patch = new.patch(base.digest, &old);
        let Some(patch) = patch.filter(|patch| patch.len_bytes() == file.size) else {
            return Ok(op);
        };
        Ok(Op::Patch {
            path: path.clone(),
            expect: *expect,
            file: *file,
            patch,
        })
    }

    /// Whether a folder that isn't synced stands where an action puts something new: another look will
    /// not show it.
    fn is_hidden_there(&self, action: &Push) -> rusqlite::Result<bool> {
        let (Action::Put {
            path: to,
            replaces: None,
            ..
        }
        | Action::Move { to, .. }) = action
        else {
            return Ok(false);
        };
        Ok(self.rules.skip(to, true) && self.state.remote_has_folder(to)?)
    }

    /// Notes what will stand where on the other side, in case that nobody gets to record it.
    fn note_sent(&mut self, batch: &[Push]) -> rusqlite::Result<()> {
        let baseline = &self.baseline;
        let boot = raspbox_beneath::boot();
        let boot = boot.as_deref();
        self.state.write(|w| {
            for action in batch {
                match action {
                    Action::Put { path, entry, .. } | Action::SetMeta { path, entry, .. } => {
                        w.set_sent(path, entry, boot)?;
                    }
                    Action::Move { moved, .. } => {
                        for (old, new, _) in moved {
                            if let Some(entry) = baseline.get(old).and_then(Node::entry) {
                                w.set_sent(new, &entry, boot)?;
                            }
                        }
                    }
                    Action::Delete { .. } => {}
                }
            }
            Ok(())
        })
    }

    /// Makes durable what is about to be recorded as in sync. Who saved it may not have done so, and
    /// what a power cut then left, or took away, would look like an edit or a deletion of what the
    /// remote has.
    pub(crate) fn make_durable(
        &self,
        paths: &[&RelPath],
        workspace: &Workspace,
    ) -> Result<(), SyncError> {
        workspace
            .sync_entries(paths)
            .map_err(|source| self.local_error(source))
    }

    /// Records what was done, and goes on to the end of the journal where nothing else was: what this side did
    /// itself it need not be told. Returns whether it did.
    fn record_pushed(
        &mut self,
        done: &[(&Push, Version)],
        alone: &[Stretch],
    ) -> rusqlite::Result<bool> {
        let own_versions = self.remote.knows_hashes();
        let followed = follow(self.cursor(), alone);
        for (action, version) in done {
            match action {
                Action::Put { path, entry, .. } | Action::SetMeta { path, entry, .. } => {
                    set(&mut self.baseline, path, entry, ());
                    set(&mut self.remote_tree, path, entry, *version);
                }
                Action::Delete { path, .. } => {
                    self.baseline.remove(path);
                    self.remote_tree.remove(path);
                }
                Action::Move { from, to, .. } => {
                    relocate(&mut self.baseline, from, to);
                    relocate(&mut self.remote_tree, from, to);
                    // An appliance gives all that moves the version of the move; a foreign server's
                    // versions are made of size and time, which don't move.
                    if own_versions && let Some(node) = self.remote_tree.get_mut(to) {
                        // Where somebody else was there as well, he may have taken something out of it just
                        // before: the next look tells what has moved with it.
                        retag(node, *version, followed.is_some());
                    }
                }
            }
        }
        self.state.write(|w| {
            w.clear_sent()?;
            for (action, version) in done {
                match action {
                    Action::Put { path, entry, .. } | Action::SetMeta { path, entry, .. } => {
                        w.set_baseline(path, Some(entry))?;
                        w.set_remote(path, Some((entry, *version)))?;
                    }
                    Action::Delete { path, .. } => {
                        w.set_baseline(path, None)?;
                        w.set_remote(path, None)?;
                        w.forget_hashes(path)?;
                    }
                    Action::Move { from, to, .. } => {
                        w.move_baseline(from, to)?;
                        w.move_remote(from, to)?;
                        w.forget_hashes(from)?;
                        if own_versions {
                            w.set_version(to, followed.is_some(), *version)?;
                        }
                    }
                }
            }
            followed.map_or(Ok(()), |cursor| w.set_cursor(cursor))
        })?;
        self.cursor = followed.or(self.cursor);
        Ok(followed.is_some())
    }

    /// Moves local edits out of the way of the remote's.
    pub(crate) fn move_aside(
        &mut self,
        asides: &[Aside<Seen>],
        lap: &mut Lap<'_, '_>,
    ) -> Result<(), SyncError> {
        for aside in asides {
            match lap.workspace.move_aside(&aside.path) {
                Ok(Some(copy)) => {
                    if let Some(local) = &mut self.local {
                        relocate(local, &aside.path, &copy);
                    }
                    lap.conflict(&aside.path, copy);
                }
                // Somebody else moved or deleted it meanwhile.
                Ok(None) => lap.again = true,
                Err(error) => lap.trouble(&aside.path, &error),
            }
        }
        // The copies are to be pushed, in the next lap.
        lap.again |= !asides.is_empty();
        Ok(())
    }
}

/// Where a journal is that was known up to a position, after these stretches; `None` where something else came in between, or
/// nothing is known of it.
fn follow(known: Option<Cursor>, alone: &[Stretch]) -> Option<Cursor> {
    let (first, rest) = alone.split_first()?;
    let (known, end) = (known?, first.end());
    if first.after != known {
        return None;
    }
    if rest.is_empty() {
        return Some(end);
    }
    follow(Some(end), rest)
}

impl Lap<'_, '_> {
    pub(crate) fn did(&mut self, deed: Deed, path: &RelPath) {
        self.summary.count(deed);
        (self.report)(Event::Did(deed, path));
    }

    pub(crate) fn conflict(&mut self, path: &RelPath, copy: RelPath) {
        (self.report)(Event::Conflict(path, &copy));
        self.summary.conflicts.push((path.clone(), copy));
        self.again = true;
    }

    pub(crate) fn trouble(&mut self, path: &RelPath, error: &io::Error) {
        // Nothing is more common, and the system's words for it are the poorest.
        let what = match error.kind() {
            io::ErrorKind::StorageFull => {
                "the disk of this computer is full. Make room on it".to_owned()
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                "it is on a read-only disk. Make that writable".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "permission denied. Let yourself write to its folder".to_owned()
            }
            _ => error.to_string(),
        };
        self.problem(path, Trouble::Failed(what));
    }

    pub(crate) fn problem(&mut self, path: &RelPath, what: Trouble) {
        let problem = Problem {
            path: path.clone(),
            what,
        };
        (self.report)(Event::Trouble(&problem));
        self.summary.problems.push(problem);
    }

    /// What becomes of an operation, or a want, that the remote refused.
    pub(crate) fn refused(&mut self, path: &RelPath, refusal: Refusal) {
        match refusal {
            // The look was old; the next lap's is new.
            Refusal::Changed | Refusal::NoParent | Refusal::NotEmpty => {
                self.moving.push(path.clone());
            }
            // Spoilt on the way, changed while it was sent, or rotted since it was hashed: only
            // reading it again tells.
            Refusal::BadContent => {
                self.suspects.insert(path.clone());
                self.moving.push(path.clone());
            }
            Refusal::Name(why) => {
                let why = format!("the drive can't hold it: {why}. Rename it");
                self.problem(path, Trouble::CannotHold(why));
            }
            Refusal::Damaged => self.problem(path, Trouble::Remote(Unknown::Damaged)),
            Refusal::NoSpace | Refusal::Denied | Refusal::NotNow | Refusal::Failed(_) => {
                self.problem(path, Trouble::Failed(refusal.to_string()));
            }
        }
    }
}

/// What is said where something that isn't synced stands in the way.
pub(crate) fn in_the_way(side: &str) -> Trouble {
    Trouble::Failed(format!(
        "something of this name stands {side} and is not synced ('.raspboxignore'). Rename one of them"
    ))
}

/// How many of these actions go together.
pub(crate) fn batch_len<H, T>(actions: &[Action<H, T>], ops_max: usize, bytes_max: u64) -> usize {
    let mut bytes = 0;
    let fits = |action: &&Action<H, T>| {
        if let Action::Put {
            entry: Entry::File(file),
            ..
        } = action
        {
            bytes += file.size;
        }
        bytes <= bytes_max
    };
    actions.iter().take(ops_max).take_while(fits).count().max(1)
}

fn op(action: &Push) -> Op {
    match action {
        Action::Put {
            path,
            entry,
            replaces,
            ..
        } => {
            let path = path.clone();
            let expect = replaces.map_or(Expect::Absent, Expect::Version);
            match entry {
                Entry::File(file) => Op::Put {
                    path,
                    expect,
                    file: *file,
                },
                Entry::Folder => Op::MakeFolder { path },
                Entry::Symlink(target) => Op::Symlink {
                    path,
                    expect,
                    target: target.clone(),
                },
            }
        }
        Action::SetMeta {
            path, entry, there, ..
        } => {
            let Entry::File(file) = entry else {
                unreachable!("only files have bits to set")
            };
            Op::SetMeta {
                path: path.clone(),
                expect: *there,
                mtime: file.mtime,
                executable: file.executable,
            }
        }
        Action::Delete { path, there, .. } => Op::Delete {
            path: path.clone(),
            expect: *there,
        },
        Action::Move {
            from, to, there, ..
        } => Op::Move {
            from: from.clone(),
            expect: *there,
            to: to.clone(),
        },
    }
}

/// Moves a node within a tree.
pub(crate) fn relocate<T>(tree: &mut Folder<T>, from: &RelPath, to: &RelPath) {
    if let Some(node) = tree.remove(from) {
        drop(tree.insert(to, node));
    }
}

fn retag(node: &mut Node<Version>, version: Version, below: bool) {
    match node {
        Node::File(_, tag) | Node::Symlink(_, tag) => *tag = version,
        Node::Folder(folder, tag) => {
            *tag = version;
            if below {
                let children = folder.children.values_mut();
                children.for_each(|child| retag(child, version, below));
            }
        }
        Node::Unknown(_) => {}
    }
}

/// What a plan assumes of a local entry, from the tree that it was made of.
pub(crate) fn expected<'a>(entry: Option<&'a Entry>, seen: Option<Seen>) -> Option<Expected<'a>> {
    Some(Expected {
        entry: entry?,
        seen: seen?,
    })
}
