//! Carrying out the local half of a plan, and the records of both sides that follow from it.

mod fetch;

use crate::chunks::Chunks;
use crate::engine::{Engine, Lap, SyncError, set};
use crate::local::{Done, Expected, SYNC_SINGLY_MAX, Staged, Workspace};
use crate::push::{batch_len, expected, in_the_way, relocate};
use crate::remote::Sink;
use crate::report::{Deed, Event};
use crate::scan::{Seen, is_settled};
use crate::state::{Hashed, Print};
use fetch::{Arrival, Fetch};
use raspbox_beneath::{Kind, now, random_name};
use raspbox_core::plan::{Action, Trouble};
use raspbox_core::tree::{Node, Unknown};
use raspbox_protocol::commit::PART_MIN_BYTES;
use raspbox_protocol::want::Want;
use raspbox_protocol::{Digest, Entry, File, RelPath, Version};
use std::collections::BTreeSet;
use std::io;

/// The most files that are fetched at once, and the most bytes; a larger file comes alone.
const BATCH_FILES: usize = 1_000;
const BATCH_BYTES: u64 = 64 << 20;

/// How often a content is fetched that comes as another one than was stated. Once may be a bad moment
/// of the network's or a memory chip's; from then on it is what is there.
const MISMATCHES_MAX: u32 = 2;

type Pull = Action<Version, Seen>;

impl Engine {
    /// Changes the local side: first everything without content, in the plan's order, then the
    /// files, on which nothing else depends.
    pub(crate) fn pull(
        &mut self,
        actions: Vec<Pull>,
        lap: &mut Lap<'_, '_>,
    ) -> Result<(), SyncError> {
        let is_file = |action: &Pull| {
            matches!(
                action,
                Action::Put {
                    entry: Entry::File(_),
                    ..
                }
            )
        };
        let is_hidden = |action: &Pull| self.is_hidden_here(action, lap.workspace);
        let (blocked, actions): (Vec<Pull>, Vec<Pull>) = actions.into_iter().partition(is_hidden);
        let (files, others): (Vec<Pull>, Vec<Pull>) = actions.into_iter().partition(is_file);
        let mut done = Vec::new();
        // Where a folder didn't come, another may be found by its name, which is not the one to put
        // anything into.
        let mut missing = BTreeSet::new();
        for action in &blocked {
            missing.extend(new_folder(action));
            lap.problem(action.path(), in_the_way("on this computer"));
        }
        for action in &others {
            if is_below(action, &missing) {
                continue;
            }
            match self.pull_one(action, lap) {
                Ok(Done::AsPlanned(print)) => done.push((action, print)),
                Ok(Done::KeptEdit(print, copy)) => {
                    done.push((action, print));
                    lap.conflict(action.path(), copy);
                }
                Ok(Done::Changed) => {
                    missing.extend(new_folder(action));
                    lap.moving.push(action.path().clone());
                }
                Err(error) => {
                    missing.extend(new_folder(action));
                    lap.trouble(action.path(), &error);
                }
            }
        }
        self.record_pulled(&done, lap)?;
        let files: Vec<Pull> = files
            .into_iter()
            .filter(|action| !is_below(action, &missing))
            .collect();
        let mut rest = &files[..];
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_len(rest, BATCH_FILES, BATCH_BYTES));
            self.pull_files(batch, lap)?;
            rest = later;
        }
        Ok(())
    }

    /// Whether something that isn't synced stands where an action puts something new: looking again
    /// will not show it, and fetching the new one again and again not help.
    fn is_hidden_here(&self, action: &Pull, workspace: &Workspace) -> bool {
        let (Action::Put {
            path: to,
            replaces: None,
            ..
        }
        | Action::Move { to, .. }) = action
        else {
            return false;
        };
        let stat = workspace.top().stat(to).ok().flatten();
        stat.is_some_and(|stat| self.rules.skip(to, stat.kind == Kind::Folder))
    }

    fn pull_one(&mut self, action: &Pull, lap: &mut Lap<'_, '_>) -> io::Result<Done> {
        let workspace = lap.workspace;
        match action {
            Action::Put {
                path,
                entry,
                replaces,
                ..
            } => match entry {
                Entry::File(_) => unreachable!("files were set apart"),
                Entry::Folder => workspace.make_folder(path),
                Entry::Symlink(target) => {
                    let old = self.local_tree().get(path).and_then(Node::entry);
                    let expected = expected(old.as_ref(), *replaces);
                    workspace.place_symlink(path, target, expected)
                }
            },
            Action::SetMeta {
                path, entry, there, ..
            } => {
                let Entry::File(file) = entry else {
                    unreachable!("only files have bits to set")
                };
                workspace.set_meta(
                    path,
                    file,
                    Expected {
                        entry,
                        seen: *there,
                    },
                )
            }
            Action::Delete {
                path,
                entry: Entry::Folder,
                ..
            } => workspace.remove_folder(path),
            Action::Delete { path, entry, there } => workspace.remove_file(
                path,
                Expected {
                    entry,
                    seen: *there,
                },
            ),
            Action::Move {
                from,
                to,
                entry,
                there,
                ..
            } => {
                let expected = Expected {
                    entry,
                    seen: *there,
                };
                if workspace.is_respelling(from, to)? {
                    let via = format!("{}.old", random_name());
                    self.state
                        .write(|w| w.set_placing(&via, to))
                        .map_err(io::Error::other)?;
                    return workspace.respell(from, to, &via, expected);
                }
                workspace.rename(from, to, expected)
            }
        }
    }

    /// Makes local changes durable, then records them.
    fn record_pulled(
        &mut self,
        done: &[(&Pull, Print)],
        lap: &mut Lap<'_, '_>,
    ) -> Result<(), SyncError> {
        if done.is_empty() {
            return Ok(());
        }
        let names = done.iter().flat_map(|(action, _)| match action {
            Action::Move { from, to, .. } => vec![from, to],
            Action::Put { path, .. }
            | Action::SetMeta { path, .. }
            | Action::Delete { path, .. } => vec![path],
        });
        lap.workspace
            .sync_names(&names.collect::<Vec<_>>())
            .map_err(|source| self.local_error(source))?;
        for (action, print) in done {
            self.take_pulled(action, *print);
        }
        let baseline = &self.baseline;
        self.state.write(|w| {
            for (action, _) in done {
                match action {
                    Action::Put { path, entry, .. } | Action::SetMeta { path, entry, .. } => {
                        w.set_baseline(path, Some(entry))?;
                    }
                    Action::Delete { path, .. } => {
                        w.forget_hash(path)?;
                        w.set_baseline(path, None)?;
                    }
                    Action::Move { from, moved, .. } => {
                        w.set_baseline(from, None)?;
                        for (old, path, _) in moved {
                            w.forget_hash(old)?;
                            if let Some(entry) = baseline.get(path).and_then(Node::entry) {
                                w.set_baseline(path, Some(&entry))?;
                            }
                        }
                    }
                }
            }
            Ok(())
        })?;
        for (action, _) in done {
            let deed = match action {
                Action::Put { .. } | Action::SetMeta { .. } => Deed::Pulled,
                Action::Delete { .. } => Deed::PulledDelete,
                Action::Move { .. } => Deed::PulledMove,
            };
            lap.did(deed, action.path());
        }
        Ok(())
    }

    /// Takes a local change into the trees in memory.
    fn take_pulled(&mut self, action: &Pull, print: Print) {
        let local = self
            .local
            .as_mut()
            .expect("scanned at the beginning of every lap");
        match action {
            Action::Put { path, entry, .. } | Action::SetMeta { path, entry, .. } => {
                // What was written to a file while it got its bits is under the new print as well:
                // the next look reads it.
                let settled = match entry {
                    Entry::File(_) => false,
                    Entry::Folder | Entry::Symlink(_) => true,
                };
                set(local, path, entry, Seen { print, settled });
                set(&mut self.baseline, path, entry, ());
            }
            Action::Delete { path, .. } => {
                local.remove(path);
                self.baseline.remove(path);
            }
            Action::Move { from, to, .. } => {
                relocate(local, from, to);
                // The move changed its ctime, and with it its print; under which is also what was
                // written to it meanwhile.
                if let Some(Node::File(_, seen)) = local.get_mut(to) {
                    *seen = Seen {
                        print,
                        settled: false,
                    };
                }
                relocate(&mut self.baseline, from, to);
            }
        }
    }

    /// Fetches a batch of files, makes them durable together, and gives each its name.
    fn pull_files(&mut self, batch: &[Pull], lap: &mut Lap<'_, '_>) -> Result<(), SyncError> {
        // What came damaged again and again comes no other way now.
        let (batch, spoilt): (Vec<&Pull>, Vec<&Pull>) =
            batch.iter().partition(|action| !self.is_spoilt(action));
        for action in spoilt {
            lap.problem(action.path(), Trouble::Remote(Unknown::Damaged));
        }
        let wants: Vec<Want> = batch.iter().map(|action| want(action)).collect();
        let arrivals = batch.iter().map(|action| self.begun(action, lap));
        let mut fetch = Fetch {
            workspace: lap.workspace,
            cuts: self.remote.patches(),
            arrivals: arrivals.collect(),
            received_bytes: 0,
            progress: &mut *lap.report,
        };
        for index in 0..batch.len() {
            match fetch.come(index) {
                0 => {}
                bytes => (fetch.progress)(Event::Spared(bytes)),
            }
        }
        let result = self.remote.pull(&wants, &mut fetch);
        let Fetch {
            arrivals,
            received_bytes,
            ..
        } = fetch;
        lap.summary.received_bytes += received_bytes;
        // What came whole before the connection was lost is kept.
        let mut whole = Vec::new();
        for (action, arrival) in batch.into_iter().zip(arrivals) {
            match arrival {
                Arrival::Whole(staged) => match self.verify(action, &staged) {
                    Some(file) => {
                        self.mismatches.remove(action.path());
                        whole.push((action, staged, file));
                    }
                    // Damaged on the way, or changed while it was read: fetched again, but not
                    // without end.
                    None => {
                        lap.workspace.discard(&staged);
                        self.mismatched(action);
                        lap.moving.push(action.path().clone());
                    }
                },
                // It is gone on with.
                Arrival::Partial(staged) if self.keeps_part(&staged) => {}
                Arrival::Partial(staged) => lap.workspace.discard(&staged),
                Arrival::Failed(error) => lap.trouble(action.path(), &error),
                Arrival::Refused(refusal) => lap.refused(action.path(), refusal),
                Arrival::Nothing => {}
            }
        }
        self.place_files(&whole, lap)?;
        Ok(result?)
    }

    /// A large content, of which some may have come before.
    fn begun(&self, action: &Pull, lap: &Lap<'_, '_>) -> Arrival {
        let file = as_file(action);
        if !self.remote.knows_hashes() || file.size <= PART_MIN_BYTES {
            return Arrival::Nothing;
        }
        match lap
            .workspace
            .stage_large(&file.digest, self.remote.patches())
        {
            Ok(staged) if staged.len_bytes() <= file.size => Arrival::Partial(staged),
            Ok(staged) => {
                lap.workspace.discard(&staged);
                Arrival::Nothing
            }
            Err(error) => {
                tracing::debug!(%error, "what has come of a content can't be read");
                Arrival::Nothing
            }
        }
    }

    /// Whether what was cut is worth going on with.
    fn keeps_part(&self, came: &Staged) -> bool {
        self.remote.knows_hashes() && came.len_bytes() >= PART_MIN_BYTES
    }

    /// Notes that a content came as another one than was stated.
    fn mismatched(&mut self, action: &Pull) {
        let want = want(action);
        let (version, count) = self
            .mismatches
            .entry(want.path)
            .or_insert((want.version, 0));
        if *version != want.version {
            (*version, *count) = (want.version, 0);
        }
        *count += 1;
    }

    fn is_spoilt(&self, action: &Pull) -> bool {
        let want = want(action);
        self.mismatches
            .get(&want.path)
            .is_some_and(|(version, count)| *version == want.version && *count >= MISMATCHES_MAX)
    }

    /// Fetches one content that must have this hash, and makes it durable; `None` where it can't be had
    /// so.
    pub(crate) fn fetch_one(
        &mut self,
        workspace: &Workspace,
        want: Want,
        digest: &Digest,
        report: &mut crate::report::Report<'_>,
    ) -> Result<Option<Staged>, SyncError> {
        let mut fetch = Fetch {
            workspace,
            cuts: false,
            arrivals: vec![Arrival::Nothing],
            received_bytes: 0,
            progress: report,
        };
        self.remote.pull(&[want], &mut fetch)?;
        match fetch.arrivals.pop() {
            Some(Arrival::Whole(staged)) => {
                if staged.digest() != *digest {
                    workspace.discard(&staged);
                    return Ok(None);
                }
                let finished = staged.sync().and_then(|()| staged.finish(workspace));
                finished.map_err(|source| self.local_error(source))?;
                Ok(Some(staged))
            }
            Some(Arrival::Partial(staged)) => {
                workspace.discard(&staged);
                Ok(None)
            }
            Some(Arrival::Failed(source)) => Err(self.local_error(source)),
            Some(Arrival::Refused(_) | Arrival::Nothing) | None => Ok(None),
        }
    }

    /// What came, where it is what was stated.
    fn verify(&self, action: &Pull, staged: &Staged) -> Option<File> {
        let stated = as_file(action);
        let (digest, size) = (staged.digest(), staged.len_bytes());
        if !self.remote.knows_hashes() {
            return Some(File {
                digest,
                size,
                ..stated
            });
        }
        (digest == stated.digest).then_some(stated)
    }

    fn place_files(
        &mut self,
        whole: &[(&Pull, Staged, File)],
        lap: &mut Lap<'_, '_>,
    ) -> Result<(), SyncError> {
        if whole.is_empty() {
            return Ok(());
        }
        if whole.len() <= SYNC_SINGLY_MAX {
            whole.iter().try_for_each(|(_, staged, _)| staged.sync())
        } else {
            lap.workspace.sync()
        }
        .and_then(|()| {
            let mut staged = whole.iter().map(|(_, staged, _)| staged);
            staged.try_for_each(|staged| staged.finish(lap.workspace))
        })
        .map_err(|source| self.local_error(source))?;
        self.state.write(|w| {
            whole.iter().try_for_each(|(action, staged, _)| {
                w.set_placing(&staged.new_name(), action.path())?;
                w.set_placing(&staged.old_name(), action.path())
            })
        })?;
        let mut placed = Vec::new();
        for (action, staged, file) in whole {
            let Action::Put { path, replaces, .. } = action else {
                unreachable!("only puts have content")
            };
            let old = self.local_tree().get(path).and_then(Node::entry);
            let expected = expected(old.as_ref(), *replaces);
            match lap.workspace.place_file(staged, path, file, expected) {
                Ok(Done::AsPlanned(print)) => placed.push((path, *file, print)),
                Ok(Done::KeptEdit(print, copy)) => {
                    placed.push((path, *file, print));
                    lap.conflict(path, copy);
                }
                Ok(Done::Changed) => lap.moving.push(path.clone()),
                Err(error) => lap.trouble(path, &error),
            }
        }
        // The names, too, before anybody relies on them.
        let names: Vec<&RelPath> = placed.iter().map(|(path, ..)| *path).collect();
        lap.workspace
            .sync_names(&names)
            .map_err(|source| self.local_error(source))?;
        let chunks = whole
            .iter()
            .filter_map(|(_, staged, file)| Some((&file.digest, staged.chunks()?)));
        self.record_placed(&placed, &chunks.collect::<Vec<_>>())?;
        for (path, ..) in placed {
            lap.did(Deed::Pulled, path);
        }
        Ok(())
    }

    fn record_placed(
        &mut self,
        placed: &[(&RelPath, File, Print)],
        chunks: &[(&Digest, &Chunks)],
    ) -> rusqlite::Result<()> {
        let clock = now();
        let local = self
            .local
            .as_mut()
            .expect("scanned at the beginning of every lap");
        let remote = &mut self.remote_tree;
        let knows_hashes = self.remote.knows_hashes();
        for (path, file, print) in placed {
            let seen = Seen {
                print: *print,
                settled: is_settled(print, clock),
            };
            let entry = Entry::File(*file);
            set(local, path, &entry, seen);
            set(&mut self.baseline, path, &entry, ());
            // Only now is it known what a foreign server has there.
            if !knows_hashes && let Some(Node::File(there, _)) = remote.get_mut(path) {
                *there = *file;
            }
        }
        self.state.write(|w| {
            for (path, file, print) in placed {
                let entry = Entry::File(*file);
                let settled = is_settled(print, clock);
                w.set_hashed(
                    path,
                    &Hashed {
                        print: *print,
                        digest: file.digest,
                        settled,
                    },
                )?;
                w.set_baseline(path, Some(&entry))?;
                if !knows_hashes && let Some(version) = remote.get(path).and_then(Node::tag) {
                    w.set_remote(path, Some((&entry, *version)))?;
                }
            }
            w.set_chunks(chunks)?;
            w.clear_placing()
        })
    }
}

/// The folder that an action would have made.
fn new_folder(action: &Pull) -> Option<RelPath> {
    match action {
        Action::Put {
            path,
            entry: Entry::Folder,
            ..
        }
        | Action::Move {
            to: path,
            entry: Entry::Folder,
            ..
        } => Some(path.clone()),
        Action::Put { .. }
        | Action::Move { .. }
        | Action::SetMeta { .. }
        | Action::Delete { .. } => None,
    }
}

/// Whether an action's place is in one of these folders.
fn is_below(action: &Pull, folders: &BTreeSet<RelPath>) -> bool {
    let mut at = action.path().parent();
    while let Some(path) = at {
        if folders.contains(&path) {
            return true;
        }
        at = path.parent();
    }
    false
}

fn want(action: &Pull) -> Want {
    let Action::Put { path, here, .. } = action else {
        unreachable!("only puts have content")
    };
    Want {
        path: path.clone(),
        version: *here,
        offset: 0,
    }
}

fn as_file(action: &Pull) -> File {
    match action {
        Action::Put {
            entry: Entry::File(file),
            ..
        } => *file,
        Action::Put { .. }
        | Action::SetMeta { .. }
        | Action::Delete { .. }
        | Action::Move { .. } => {
            unreachable!("only files have content")
        }
    }
}
