//! What a power cut leaves.
//!
//! A change of names is one unit, also where it is a rename from one folder to another. It becomes
//! durable with any folder that it changes, and with it what it builds on: earlier changes of the
//! same names, what was moved out of a folder before that was removed, the folders that something
//! was moved into, and among moves of folders all that came before. That much every journalling
//! filesystem keeps; more than that none has to.

use super::chance::Chance;
use super::errors::Errors;
use super::tree::{Content, FIRST_INODE, NodeId, ROOT, Tree, floor};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// How many removed nodes may be kept for a power cut before it is looked which of them it may
/// bring back.
const GHOSTS_MAX: usize = 256;

/// A change of names that isn't durable.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) edits: Vec<Edit>,
    /// What it names or takes the name of.
    pub(super) nodes: Vec<NodeId>,
    /// Folders that must have their own name before.
    pub(super) needs: Vec<NodeId>,
    pub(super) moves_folder: bool,
    pub(super) removes_folder: Option<NodeId>,
    /// The changes that it builds on.
    after: Vec<u64>,
}

/// What a name stands for afterwards.
#[derive(Debug, Clone)]
pub(super) struct Edit {
    folder: NodeId,
    key: Vec<u8>,
    entry: Option<(Vec<u8>, NodeId)>,
}

impl Change {
    pub(super) fn new() -> Change {
        Change {
            edits: Vec::new(),
            nodes: Vec::new(),
            needs: Vec::new(),
            moves_folder: false,
            removes_folder: None,
            after: Vec::new(),
        }
    }

    fn edits_in(&self, folder: NodeId) -> bool {
        self.edits.iter().any(|edit| edit.folder == folder)
    }

    /// Whether it can't be without an earlier one.
    fn builds_on(&self, earlier: &Change) -> bool {
        let same_name = |edit: &Edit| {
            let mut before = earlier.edits.iter();
            before.any(|before| before.folder == edit.folder && before.key == edit.key)
        };
        self.edits.iter().any(same_name)
            || self.needs.iter().any(|id| earlier.nodes.contains(id))
            || (self.moves_folder && earlier.moves_folder)
            || self.removes_folder.is_some_and(|id| earlier.edits_in(id))
    }
}

impl Tree {
    /// The edit that gives a name in a folder to a node, or takes it away.
    pub(super) fn edit(&self, folder: NodeId, name: &OsStr, to: Option<NodeId>) -> Edit {
        let key = self.traits.key(name.as_bytes()).into_owned();
        // What replaces something keeps its spelling, as on Linux.
        let spelled = match self.names(folder).at_key(&key) {
            Some((spelled, _)) => spelled.clone(),
            None => self.traits.stored(name.as_bytes()).into_owned(),
        };
        Edit {
            folder,
            key,
            entry: to.map(|id| (spelled, id)),
        }
    }

    /// Makes a change of names live.
    pub(super) fn make(&mut self, mut change: Change) {
        for edit in &change.edits {
            if let Content::Folder { live, .. } = &mut self.node_mut(edit.folder).content {
                live.set(&edit.key, edit.entry.clone());
            }
        }
        let earlier = self.pending.iter();
        change.after = earlier
            .filter(|(_, earlier)| change.builds_on(earlier))
            .map(|(&number, _)| number)
            .collect();
        self.pending.insert(self.next_change, change);
        self.next_change += 1;
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync_folder(&mut self, folder: NodeId) {
        let here = self.pending.iter();
        let here = here.filter(|(_, change)| change.edits_in(folder));
        let here = here.map(|(&number, _)| number).collect();
        self.sync_changes(here);
    }

    /// Makes one change of names durable.
    pub(super) fn sync_change(&mut self, number: u64) {
        self.sync_changes(vec![number]);
    }

    fn sync_changes(&mut self, mut open: Vec<u64>) {
        let mut wanted = BTreeSet::new();
        while let Some(number) = open.pop() {
            if let Some(change) = self.pending.get(&number)
                && wanted.insert(number)
            {
                open.extend(&change.after);
            }
        }
        for number in wanted {
            self.make_durable(number);
        }
    }

    fn make_durable(&mut self, number: u64) {
        let Some(change) = self.pending.remove(&number) else {
            return;
        };
        for edit in change.edits {
            if let Content::Folder { durable, .. } = &mut self.node_mut(edit.folder).content {
                durable.set(&edit.key, edit.entry);
            }
        }
    }

    /// Makes content and metadata of a file durable.
    pub(super) fn sync_file(&mut self, id: NodeId) {
        self.dirty.remove(&id);
        let node = self.node_mut(id);
        node.durable_meta = node.meta;
        if let Content::File {
            live,
            durable,
            dirty,
        } = &mut node.content
        {
            durable.follow(live, std::mem::take(dirty));
        }
    }

    /// Writes the content of no file that isn't durable, and takes it for written.
    pub(super) fn lose_writes(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            let node = self.node_mut(id);
            node.durable_meta = node.meta;
            if let Content::File {
                live,
                durable,
                dirty,
            } = &mut node.content
                && dirty.start < dirty.end
            {
                durable.stay(live);
                *dirty = 0..0;
                node.errors.add();
                self.errors.add();
            }
        }
    }

    /// Makes everything durable.
    pub(super) fn sync_all(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            self.sync_file(id);
        }
        for number in self.pending.keys().copied().collect::<Vec<_>>() {
            self.make_durable(number);
        }
        if self.ghosts > GHOSTS_MAX {
            self.sweep();
        }
    }

    /// A power cut that keeps this much of what isn't durable, by chance; nothing for `None`.
    pub(super) fn cut(&mut self, mut chance: Option<Chance>) {
        if let Some(chance) = &mut chance {
            let numbers: Vec<u64> = self.pending.keys().copied().collect();
            let mut lost = BTreeSet::new();
            for number in numbers {
                let builds_on_lost = self.pending[&number].after.iter().any(|n| lost.contains(n));
                if chance.coin() && !builds_on_lost {
                    self.make_durable(number);
                } else {
                    lost.insert(number);
                }
            }
            for id in std::mem::take(&mut self.dirty) {
                self.tear(id, chance);
            }
        }
        self.pending.clear();
        self.dirty.clear();
        self.errors = Errors::default();
        for node in self.nodes.values_mut() {
            node.meta = node.durable_meta;
            match &mut node.content {
                Content::File {
                    live,
                    durable,
                    dirty,
                } => {
                    let lost = std::mem::take(&mut node.errors).any();
                    if lost || live.len() != durable.len() || dirty.start < dirty.end {
                        live.clone_from(durable);
                        *dirty = 0..0;
                    }
                }
                Content::Folder { live, durable } => {
                    if live != durable {
                        live.clone_from(durable);
                    }
                }
                Content::Symlink(_) => {}
            }
        }
        self.start_anew();
    }

    /// Leaves as much of a file's unsynced content and metadata as chance has it.
    fn tear(&mut self, id: NodeId, chance: &mut Chance) {
        let whole = chance.coin();
        if whole && chance.coin() {
            self.sync_file(id);
            return;
        }
        if whole {
            return;
        }
        let meta = chance.coin();
        let node = self.node_mut(id);
        if meta {
            node.durable_meta = node.meta;
        }
        if let Content::File {
            live,
            durable,
            dirty,
        } = &mut node.content
        {
            *durable = super::data::Data::torn(durable, live, chance);
            // Not to be taken for synced: now the live one differs.
            *dirty = 0..live.len().max(1);
        }
    }

    /// Closes what was open, forgets what can't come back, and puts the counts right.
    pub(super) fn start_anew(&mut self) {
        for node in self.nodes.values_mut() {
            node.open = 0;
            node.parent = None;
            node.locked_by = None;
        }
        self.find_parents();
        self.sweep();
        self.used_bytes = 0;
        let mut taken = BTreeMap::new();
        let mut twice = Vec::new();
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            let node = self.node(id);
            if node.parent.is_none() && id != ROOT {
                continue;
            }
            let (inode, space) = (node.inode, node.content.space());
            self.used_bytes += space;
            if taken.insert(inode, id).is_some() {
                twice.push(id);
            }
        }
        let end = taken.keys().next_back().map_or(0, |&last| last + 1);
        self.next_inode = self.next_inode.max(end);
        self.free_inodes = (FIRST_INODE..self.next_inode)
            .filter(|inode| !taken.contains_key(inode))
            .collect();
        for id in twice {
            // Its number was given away before its removal was durable.
            let inode = self.free_inodes.pop_first().unwrap_or(self.next_inode);
            self.next_inode = self.next_inode.max(inode + 1);
            self.node_mut(id).inode = inode;
        }
    }

    fn find_parents(&mut self) {
        let mut open = vec![ROOT];
        while let Some(folder) = open.pop() {
            let children: Vec<NodeId> = self.names(folder).iter().map(|(_, id)| id).collect();
            for child in children {
                let node = self.node_mut(child);
                node.parent = Some(folder);
                if matches!(node.content, Content::Folder { .. }) {
                    open.push(child);
                }
            }
        }
    }

    /// Forgets the nodes that nothing can bring back.
    fn sweep(&mut self) {
        let mut known = BTreeSet::new();
        let mut open: Vec<NodeId> = vec![ROOT];
        let used = self.nodes.iter().filter(|(_, node)| node.open > 0);
        open.extend(used.map(|(&id, _)| id));
        for change in self.pending.values() {
            open.extend(change.nodes.iter().chain(&change.needs));
            open.extend(change.edits.iter().map(|edit| edit.folder));
        }
        while let Some(id) = open.pop() {
            if !known.insert(id) {
                continue;
            }
            if let Content::Folder { live, durable } = &self.node(id).content {
                open.extend(live.iter().chain(durable.iter()).map(|(_, id)| id));
            }
        }
        self.nodes.retain(|id, _| known.contains(id));
        self.dirty.retain(|id| known.contains(id));
        self.ghosts = 0;
    }

    /// Gives everything another inode number and forgets what FAT doesn't keep, as a mount does
    /// where inode numbers are made up.
    pub(super) fn renumber(&mut self) {
        if self.traits.stable_inodes {
            return;
        }
        self.free_inodes.clear();
        let granularity = self.traits.granularity_ns;
        for (&id, node) in &mut self.nodes {
            if id != ROOT {
                node.inode = self.next_inode;
                self.next_inode += 1;
            }
            for meta in [&mut node.meta, &mut node.durable_meta] {
                meta.ctime_ns = floor(meta.mtime_ns, granularity);
            }
        }
    }
}
