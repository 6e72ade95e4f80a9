//! What the remote has: whether it is the one that the state is about, how far its journal is, and what changed
//! there.

use crate::engine::{Engine, SyncError, set};
use crate::remote::{Look, RemoteTree};
use crate::report::{Event, Report};
use crate::scan::LocalTree;
use raspbox_core::guard::Halt;
use raspbox_core::tree::{Folder, Node, Unknown};
use raspbox_protocol::info::Info;
use raspbox_protocol::{Cursor, Entry, RelPath};
use std::collections::HashSet;

impl Engine {
    /// Makes sure that the remote is the one that the state is about.
    pub(crate) fn check_remote(&mut self, report: &mut Report<'_>) -> Result<Info, SyncError> {
        let info = self.remote.info()?;
        match self.state.drive()? {
            None => self.state.write(|w| w.set_drive(info.drive))?,
            Some(known) if known == info.drive => {}
            Some(expected) => {
                return Err(SyncError::Halt(Halt::DriveChanged {
                    expected,
                    found: info.drive,
                }));
            }
        }
        if let Some(cursor) = self.cursor
            && !self.goes_on(cursor, &info)?
        {
            report(Event::NewJournal);
            self.state.forget()?;
            self.cursor = None;
            self.forget_trees()?;
        }
        Ok(info)
    }

    /// Whether the remote's journal goes on from what this side knows of it. If not, it is another
    /// one, or was put back to a copy from before.
    fn goes_on(&mut self, cursor: Cursor, info: &Info) -> Result<bool, SyncError> {
        let mut reached = self.state.reached()?.unwrap_or(cursor);
        if reached.epoch == info.cursor.epoch {
            return Ok(reached.seq <= info.cursor.seq);
        }
        // It was started anew, or is another one. What was pushed is further on than the last look.
        if let Some(newest) = self.state.newest_version()? {
            reached.seq = reached.seq.max(newest.0);
        }
        Ok(self.remote.knows(reached)?)
    }

    /// Remembers how far the remote's journal is after a push: where it is put back to a copy from
    /// before that, the numbers of that push mean other things.
    pub(crate) fn remember_reached(&mut self) -> Result<(), SyncError> {
        match self.remote.info() {
            Ok(info) => Ok(self.state.write(|w| w.set_reached(info.cursor))?),
            // Then the versions that were pushed have to do.
            Err(_) => Ok(()),
        }
    }

    /// Takes what changed on the remote side into the state and the tree.
    pub(crate) fn look(&mut self) -> Result<(), SyncError> {
        if self.remote_unseen {
            let skip = |path: &RelPath, folder| self.rules.skip(path, folder);
            self.remote_tree = self.state.remote(&skip)?;
        }
        let empty = LocalTree::default();
        let local = self.local.as_ref().unwrap_or(&empty);
        let local_file = |path: &RelPath| match local.get(path) {
            Some(Node::File(file, _)) => Some((file.size, file.executable)),
            Some(Node::Folder(..) | Node::Symlink(..) | Node::Unknown(_)) | None => None,
        };
        let look = self
            .remote
            .look(self.cursor, &self.remote_tree, &local_file)?;
        self.take(&look)
    }

    fn take(&mut self, look: &Look) -> Result<(), SyncError> {
        if look.says_nothing_since(self.cursor) {
            self.remote_unseen = false;
            return Ok(());
        }
        // What can't be seen now is remembered as it was: a server without hashes is known by it.
        let mut unseen = Vec::new();
        if look.whole && !look.unknown.is_empty() {
            self.remote_tree.walk(&mut |path, node| {
                if let (Some(entry), Some(version)) = (node.entry(), node.tag())
                    && look.unknown.iter().any(|(unknown, _)| path.is_in(unknown))
                {
                    unseen.push((path.clone(), entry, *version));
                }
            });
        }
        let left_behind = left_behind(&self.remote_tree, look);
        self.state.write(|w| {
            if look.whole {
                w.clear_remote()?;
            }
            for path in &left_behind {
                w.set_remote(path, None)?;
            }
            for (path, entry, version) in &look.changes {
                w.set_remote(path, entry.as_ref().map(|entry| (entry, *version)))?;
            }
            for (path, entry, version) in &unseen {
                w.set_remote(path, Some((entry, *version)))?;
            }
            w.set_cursor(look.cursor)
        })?;
        self.remote_unseen = !look.unknown.is_empty();
        self.cursor = Some(look.cursor);
        if look.whole {
            self.remote_tree = Folder::default();
        }
        for path in &left_behind {
            self.remote_tree.remove(path);
        }
        let mut let_go = false;
        for (path, entry, version) in &look.changes {
            match entry {
                Some(entry) if self.rules.skip(path, *entry == Entry::Folder) => {
                    self.remote_tree.pass_over(path);
                }
                Some(entry) => set(&mut self.remote_tree, path, entry, *version),
                None => {
                    let was_synced = self.remote_tree.remove(path).is_some();
                    let_go |= !was_synced
                        && (self.rules.skip(path, true) || self.rules.skip(path, false));
                }
            }
        }
        if let_go {
            // Its folder may be removable now, which only all the others in it tell.
            let skip = |path: &RelPath, folder| self.rules.skip(path, folder);
            self.remote_tree = self.state.remote(&skip)?;
        }
        for (path, why) in &look.unknown {
            let node = Node::Unknown(Unknown::Unreadable(why.clone()));
            drop(self.remote_tree.insert(path, node));
        }
        Ok(())
    }
}

/// What isn't there any more in a folder that this side has moved, since somebody took it out just before that: it is
/// told as gone where it was, and there this side has nothing any more. Here it has its older version still; all that
/// did move has the version of the move, and is told.
fn left_behind(tree: &RemoteTree, look: &Look) -> Vec<RelPath> {
    let mut older = Vec::new();
    for (path, entry, version) in &look.changes {
        if let (Some(Entry::Folder), Some(Node::Folder(folder, moved))) = (entry, tree.get(path))
            && moved == version
        {
            folder.walk(&mut |below, node| {
                if node.tag().is_some_and(|tag| tag < version) {
                    older.extend(RelPath::parse(&format!("{path}/{below}")));
                }
            });
        }
    }
    if !older.is_empty() {
        let told: HashSet<&RelPath> = look.changes.iter().map(|(path, ..)| path).collect();
        older.retain(|path| !told.contains(path));
    }
    older
}
