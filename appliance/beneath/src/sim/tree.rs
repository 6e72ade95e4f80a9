//! The filesystem's calls, as Linux answers them, on what is live.
//!
//! What a call changes is live at once, and durable when [`super::durable`] makes it so. The order
//! of the checks is the kernel's (`fs/namei.c`), since each call has one answer where several things
//! are wrong with it.

use super::data::{Data, PAGE};
use super::durable::Change;
use super::errors::Errors;
use super::names::Names;
use super::{Traits, computer};
use crate::{Kind, Rename, Stat};
use raspbox_protocol::Mtime;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

/// A node for as long as anything knows it. Its inode number may be another one's before.
pub(super) type NodeId = u64;

pub(super) const ROOT: NodeId = 0;

/// ext4's first inode number for a user's file.
pub(super) const FIRST_INODE: u64 = 12;

const ROOT_INODE: u64 = 2;

const UMASK: u32 = 0o022;

const NAME_MAX: usize = 255;

/// The filesystem.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) traits: Traits,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) next_node: NodeId,
    /// Changes of names that aren't durable, by their number.
    pub(super) pending: BTreeMap<u64, Change>,
    pub(super) next_change: u64,
    /// Files whose content or metadata isn't durable.
    pub(super) dirty: BTreeSet<NodeId>,
    pub(super) free_inodes: BTreeSet<u64>,
    pub(super) next_inode: u64,
    pub(super) used_bytes: u64,
    /// Nodes that were removed and that a power cut may bring back, roughly.
    pub(super) ghosts: usize,
    /// The latest time that it was told, for where nobody has a clock.
    pub(super) clock_ns: i64,
    /// Whether whoever acts now may do anything.
    pub(super) all_rights: bool,
    /// Writes that failed.
    pub(super) errors: Errors,
}

/// A file, folder or symlink.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) inode: u64,
    pub(super) content: Content,
    pub(super) meta: Meta,
    /// The metadata that a power cut leaves; of a folder always what is live.
    pub(super) durable_meta: Meta,
    /// The folder that it has a name in.
    pub(super) parent: Option<NodeId>,
    /// How many have it open.
    pub(super) open: u32,
    /// Whether nobody may read it.
    pub(super) denied: bool,
    /// Whether its content can't be read any more.
    pub(super) spoilt: bool,
    /// Who has locked it (`flock(2)`).
    pub(super) locked_by: Option<u64>,
    /// Writes of it that failed.
    pub(super) errors: Errors,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    File {
        live: Data,
        durable: Data,
        /// The pages in which the two differ.
        dirty: Range<usize>,
    },
    Folder {
        live: Names,
        durable: Names,
    },
    Symlink(OsString),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) mtime_ns: i64,
    pub(super) ctime_ns: i64,
    pub(super) mode: u32,
}

impl Tree {
    pub(super) fn new(traits: Traits) -> Tree {
        let mut tree = Tree {
            traits,
            nodes: BTreeMap::new(),
            next_node: ROOT,
            pending: BTreeMap::new(),
            next_change: 0,
            dirty: BTreeSet::new(),
            free_inodes: BTreeSet::new(),
            next_inode: FIRST_INODE,
            used_bytes: 0,
            ghosts: 0,
            clock_ns: 0,
            all_rights: false,
            errors: Errors::default(),
        };
        let root = tree.add(Content::folder(), 0o755);
        tree.node_mut(root).inode = ROOT_INODE;
        tree.free_inodes.insert(FIRST_INODE);
        tree
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        self.nodes
            .get(&id)
            .expect("a node is kept while it is known")
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes
            .get_mut(&id)
            .expect("a node is kept while it is known")
    }

    /// Whether something is left to do with a node: it has a name, or is open.
    fn is_alive(&self, id: NodeId) -> bool {
        let node = self.node(id);
        id == ROOT || node.parent.is_some() || node.open > 0
    }

    /// Finds a folder by a path of names, following no symlink.
    pub(super) fn folder_at(&self, from: NodeId, path: &Path) -> Result<NodeId, Errno> {
        if path.as_os_str().is_empty() {
            return Err(Errno::NOENT);
        }
        let mut at = from;
        for component in path.components() {
            self.may_search(at)?;
            match component {
                Component::CurDir => {}
                Component::Normal(name) => {
                    at = self.find(at, name)?.ok_or(Errno::NOENT)?;
                    match self.node(at).content {
                        Content::Folder { .. } => {}
                        Content::Symlink(_) => return Err(Errno::LOOP),
                        Content::File { .. } => return Err(Errno::NOTDIR),
                    }
                }
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err(Errno::XDEV);
                }
            }
        }
        Ok(at)
    }

    /// What a name stands for.
    pub(super) fn find(&self, folder: NodeId, name: &OsStr) -> Result<Option<NodeId>, Errno> {
        if folder != ROOT && self.node(folder).parent.is_none() {
            // It was removed: whatever the name, nothing is there.
            return Ok(None);
        }
        self.check_length(name)?;
        self.may_search(folder)?;
        Ok(self.names(folder).get(&self.traits, name.as_bytes()))
    }

    fn must_find(&self, folder: NodeId, name: &OsStr) -> Result<NodeId, Errno> {
        self.find(folder, name)?.ok_or(Errno::NOENT)
    }

    pub(super) fn stat(&self, id: NodeId) -> Stat {
        let node = self.node(id);
        let (kind, size) = match &node.content {
            Content::File { live, .. } => (Kind::File, live.len()),
            Content::Folder { .. } => (Kind::Folder, PAGE),
            Content::Symlink(target) => (Kind::Symlink, target.len()),
        };
        Stat {
            kind,
            size: size as u64,
            mtime: Mtime(node.meta.mtime_ns),
            ctime: Mtime(node.meta.ctime_ns),
            inode: node.inode,
            device: 1,
            mode: node.meta.mode,
            executable: node.meta.mode & 0o100 != 0,
        }
    }

    /// The names in a folder, in an order that isn't theirs but is always the same.
    pub(super) fn list(&self, folder: NodeId) -> Result<Vec<OsString>, Errno> {
        self.may_search(folder)?;
        let mut names: Vec<(u64, &[u8])> = self
            .names(folder)
            .iter()
            .map(|(name, _)| (scrambled(name), name))
            .collect();
        names.sort_unstable();
        let names = names.into_iter();
        Ok(names
            .map(|(_, name)| OsString::from_vec(name.to_vec()))
            .collect())
    }

    /// Finds what may be opened for reading: a file or a folder.
    pub(super) fn open(&self, folder: NodeId, name: &OsStr) -> Result<NodeId, Errno> {
        let id = self.must_find(folder, name)?;
        let node = self.node(id);
        match node.content {
            Content::Symlink(_) => Err(Errno::LOOP),
            Content::File { .. } | Content::Folder { .. } if self.is_denied(id) => {
                Err(Errno::ACCESS)
            }
            Content::File { .. } | Content::Folder { .. } => Ok(id),
        }
    }

    /// Makes a new file; what is there is an error where it must be `new`.
    pub(super) fn create(
        &mut self,
        folder: NodeId,
        name: &OsStr,
        mode: u32,
        new: bool,
    ) -> Result<NodeId, Errno> {
        if let Some(id) = self.find(folder, name)? {
            return match self.node(id).content {
                _ if new => Err(Errno::EXIST),
                Content::Folder { .. } => Err(Errno::ISDIR),
                Content::Symlink(_) => Err(Errno::LOOP),
                Content::File { .. } if self.is_denied(id) => Err(Errno::ACCESS),
                Content::File { .. } => Ok(id),
            };
        }
        self.may_name(folder, name)?;
        let id = self.add(Content::file(Data::default()), mode & !UMASK);
        self.link(folder, name, id);
        Ok(id)
    }

    pub(super) fn make_folder(
        &mut self,
        folder: NodeId,
        name: &OsStr,
        mode: u32,
    ) -> Result<(), Errno> {
        if self.find(folder, name)?.is_some() {
            return Err(Errno::EXIST);
        }
        self.may_name(folder, name)?;
        self.may_use(PAGE as u64)?;
        let id = self.add(Content::folder(), mode & !UMASK);
        self.link(folder, name, id);
        Ok(())
    }

    pub(super) fn make_symlink(
        &mut self,
        folder: NodeId,
        name: &OsStr,
        target: &OsStr,
    ) -> Result<(), Errno> {
        if target.is_empty() {
            return Err(Errno::NOENT);
        }
        if target.len() >= PAGE {
            return Err(Errno::NAMETOOLONG);
        }
        if self.find(folder, name)?.is_some() {
            return Err(Errno::EXIST);
        }
        if self.node(folder).parent.is_none() && folder != ROOT {
            return Err(Errno::NOENT);
        }
        if !self.traits.symlinks {
            return Err(Errno::PERM);
        }
        self.may_name(folder, name)?;
        let id = self.add(Content::Symlink(target.to_owned()), 0o777);
        self.link(folder, name, id);
        Ok(())
    }

    pub(super) fn read_symlink(&self, folder: NodeId, name: &OsStr) -> Result<OsString, Errno> {
        match &self.node(self.must_find(folder, name)?).content {
            Content::Symlink(target) => Ok(target.clone()),
            Content::File { .. } | Content::Folder { .. } => Err(Errno::INVAL),
        }
    }

    pub(super) fn remove_file(&mut self, folder: NodeId, name: &OsStr) -> Result<(), Errno> {
        let id = self.must_find(folder, name)?;
        if matches!(self.node(id).content, Content::Folder { .. }) {
            return Err(Errno::ISDIR);
        }
        self.unlink(folder, name, id, false);
        Ok(())
    }

    pub(super) fn remove_folder(&mut self, folder: NodeId, name: &OsStr) -> Result<(), Errno> {
        let id = self.must_find(folder, name)?;
        match &self.node(id).content {
            Content::Folder { live, .. } if live.is_empty() => {}
            Content::Folder { .. } => return Err(Errno::NOTEMPTY),
            Content::File { .. } | Content::Symlink(_) => return Err(Errno::NOTDIR),
        }
        self.unlink(folder, name, id, true);
        Ok(())
    }

    pub(super) fn rename(
        &mut self,
        (from_folder, from): (NodeId, &OsStr),
        (to_folder, to): (NodeId, &OsStr),
        how: Rename,
    ) -> Result<(), Errno> {
        let moved = self.must_find(from_folder, from)?;
        let target = self.find(to_folder, to)?;
        match (how, target) {
            (Rename::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (Rename::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        if from_folder != to_folder {
            if self.is_in(to_folder, moved) {
                return Err(Errno::INVAL);
            }
            if target.is_some_and(|target| self.is_in(from_folder, target)) {
                return Err(match how {
                    Rename::Exchange => Errno::INVAL,
                    Rename::Replace | Rename::NoReplace => Errno::NOTEMPTY,
                });
            }
        }
        if target == Some(moved) {
            // Also where it is spelled otherwise: then nothing happens, as on Linux.
            return Ok(());
        }
        let is_folder = |id| matches!(self.node(id).content, Content::Folder { .. });
        match target {
            Some(target) if how == Rename::Replace => match (is_folder(moved), is_folder(target)) {
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if !self.names(target).is_empty() => return Err(Errno::NOTEMPTY),
                (true, true) | (false, false) => {}
            },
            Some(_) => {}
            None => self.may_name(to_folder, to)?,
        }
        match how {
            Rename::NoReplace if !self.traits.noreplace => return Err(Errno::INVAL),
            Rename::Exchange if !self.traits.exchange => return Err(Errno::INVAL),
            Rename::Replace | Rename::NoReplace | Rename::Exchange => {}
        }
        self.do_rename((from_folder, from, moved), (to_folder, to, target), how);
        Ok(())
    }

    fn do_rename(
        &mut self,
        (from_folder, from, moved): (NodeId, &OsStr, NodeId),
        (to_folder, to, target): (NodeId, &OsStr, Option<NodeId>),
        how: Rename,
    ) {
        let back = target.filter(|_| how == Rename::Exchange);
        let replaced = target.filter(|_| how != Rename::Exchange);
        let is_folder = |id: NodeId| matches!(self.node(id).content, Content::Folder { .. });
        let moves_folder = is_folder(moved) || back.is_some_and(is_folder);
        let removes_folder = replaced.filter(|&id| is_folder(id));
        let mut change = Change::new();
        change.edits = vec![
            self.edit(from_folder, from, back),
            self.edit(to_folder, to, Some(moved)),
        ];
        change.nodes = [Some(moved), target].into_iter().flatten().collect();
        change.needs = self.way_to(to_folder);
        if back.is_some() {
            change.needs.extend(self.way_to(from_folder));
        }
        change.moves_folder = moves_folder;
        change.removes_folder = removes_folder;
        self.make(change);
        self.node_mut(moved).parent = Some(to_folder);
        if let Some(back) = back {
            self.node_mut(back).parent = Some(from_folder);
        }
        for id in [Some(moved), target].into_iter().flatten() {
            self.touch(id, false);
        }
        for folder in [from_folder, to_folder] {
            self.touch(folder, true);
        }
        if let Some(replaced) = replaced {
            self.node_mut(replaced).parent = None;
            self.let_go(replaced);
        }
    }

    pub(super) fn read(&self, id: NodeId, at: u64, buffer: &mut [u8]) -> usize {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        match &self.node(id).content {
            Content::File { live, .. } => live.read_at(at, buffer),
            Content::Folder { .. } | Content::Symlink(_) => 0,
        }
    }

    /// Writes as much as there is space for; returns how much that was.
    pub(super) fn write(&mut self, id: NodeId, at: u64, bytes: &[u8]) -> Result<usize, Errno> {
        let at = usize::try_from(at).map_err(|_| Errno::FBIG)?;
        let Content::File { live, .. } = &self.node(id).content else {
            return Err(Errno::BADF);
        };
        let before = live.space();
        let room = usize::try_from(before + self.free_bytes()).unwrap_or(usize::MAX);
        let len = bytes.len().min(room.saturating_sub(at));
        if len == 0 && !bytes.is_empty() {
            return Err(Errno::NOSPC);
        }
        self.change_file(id, |live| live.write_at(at, &bytes[..len]));
        Ok(len)
    }

    pub(super) fn set_len(&mut self, id: NodeId, len: u64) -> Result<(), Errno> {
        let len = usize::try_from(len).map_err(|_| Errno::FBIG)?;
        let Content::File { live, .. } = &self.node(id).content else {
            return Err(Errno::INVAL);
        };
        let pages = len.div_ceil(PAGE) * PAGE;
        self.may_use((pages as u64).saturating_sub(live.space()))?;
        self.change_file(id, |live| {
            let first = live.len().min(len) / PAGE;
            live.set_len(len);
            first..len.div_ceil(PAGE)
        });
        Ok(())
    }

    pub(super) fn set_mtime(&mut self, id: NodeId, mtime: Mtime) {
        let mtime_ns = floor(mtime.0, self.traits.granularity_ns);
        self.touch(id, false);
        self.node_mut(id).meta.mtime_ns = mtime_ns;
        self.has_changed(id);
    }

    pub(super) fn set_mode(&mut self, id: NodeId, mode: u32) -> Result<(), Errno> {
        if !self.traits.modes {
            return Err(Errno::PERM);
        }
        self.touch(id, false);
        self.node_mut(id).meta.mode = mode & 0o7777;
        Ok(())
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.traits.size_bytes.saturating_sub(self.used_bytes)
    }

    /// One less has it open.
    pub(super) fn close(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        node.open -= 1;
        if node.parent.is_none() {
            self.let_go(id);
        }
    }

    /// The names in a folder.
    pub(super) fn names(&self, folder: NodeId) -> &Names {
        match &self.node(folder).content {
            Content::Folder { live, .. } => live,
            Content::File { .. } | Content::Symlink(_) => {
                unreachable!("only folders are opened as such")
            }
        }
    }

    /// Adds a node without a name.
    pub(super) fn add(&mut self, content: Content, mode: u32) -> NodeId {
        let id = self.next_node;
        self.next_node += 1;
        let now = self.stamp();
        let is_file = matches!(content, Content::File { .. });
        let mode = if is_file && !self.traits.modes {
            0o644
        } else {
            mode
        };
        let meta = Meta {
            mtime_ns: now,
            ctime_ns: now,
            mode,
        };
        self.used_bytes += content.space();
        let inode = self.take_inode();
        let node = Node {
            inode,
            content,
            meta,
            durable_meta: meta,
            parent: None,
            open: 0,
            denied: false,
            spoilt: false,
            locked_by: None,
            errors: Errors::default(),
        };
        self.nodes.insert(id, node);
        id
    }

    /// Gives a node its first name.
    pub(super) fn link(&mut self, folder: NodeId, name: &OsStr, id: NodeId) {
        let mut change = Change::new();
        change.edits = vec![self.edit(folder, name, Some(id))];
        change.nodes = vec![id];
        self.make(change);
        self.node_mut(id).parent = Some(folder);
        self.touch(folder, true);
    }

    /// Takes a node's name.
    pub(super) fn unlink(&mut self, folder: NodeId, name: &OsStr, id: NodeId, is_folder: bool) {
        let mut change = Change::new();
        change.edits = vec![self.edit(folder, name, None)];
        change.nodes = vec![id];
        change.removes_folder = is_folder.then_some(id);
        self.make(change);
        self.node_mut(id).parent = None;
        self.touch(id, false);
        self.touch(folder, true);
        self.let_go(id);
    }

    fn change_file(&mut self, id: NodeId, change: impl FnOnce(&mut Data) -> Range<usize>) {
        let Content::File { live, dirty, .. } = &mut self.node_mut(id).content else {
            return;
        };
        let before = live.space();
        let pages = change(live);
        let after = live.space();
        *dirty = if dirty.start >= dirty.end {
            pages
        } else {
            dirty.start.min(pages.start)..dirty.end.max(pages.end)
        };
        self.used_bytes = self.used_bytes + after - before;
        self.touch(id, true);
    }

    /// Changes a node's ctime, and its mtime where the content changed.
    fn touch(&mut self, id: NodeId, content: bool) {
        let now = self.stamp();
        let node = self.node_mut(id);
        node.meta.ctime_ns = now;
        if content {
            node.meta.mtime_ns = now;
        }
        self.has_changed(id);
    }

    fn has_changed(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        match node.content {
            Content::Folder { .. } => node.durable_meta = node.meta,
            Content::File { .. } | Content::Symlink(_) => {
                self.dirty.insert(id);
            }
        }
    }

    /// Forgets a node that has no name and isn't open, as far as nothing may bring it back.
    fn let_go(&mut self, id: NodeId) {
        if self.is_alive(id) {
            return;
        }
        let node = self.node(id);
        let (inode, space) = (node.inode, node.content.space());
        self.free_inodes.insert(inode);
        self.used_bytes -= space;
        self.dirty.remove(&id);
        self.ghosts += 1;
    }

    fn take_inode(&mut self) -> u64 {
        self.free_inodes.pop_first().unwrap_or_else(|| {
            self.next_inode += 1;
            self.next_inode - 1
        })
    }

    /// The time as the filesystem stamps it.
    fn stamp(&mut self) -> i64 {
        if let Some(now) = computer::now() {
            self.clock_ns = now.0;
        }
        floor(
            self.clock_ns,
            self.traits.granularity_ns.max(self.traits.tick_ns),
        )
    }

    /// Whether a node is another one or in it.
    fn is_in(&self, id: NodeId, top: NodeId) -> bool {
        let mut at = Some(id);
        while let Some(id) = at {
            if id == top {
                return true;
            }
            at = self.node(id).parent;
        }
        false
    }

    /// A folder and those that it is in.
    fn way_to(&self, folder: NodeId) -> Vec<NodeId> {
        std::iter::successors(Some(folder), |&id| self.node(id).parent).collect()
    }

    fn check_length(&self, name: &OsStr) -> Result<(), Errno> {
        if name.as_bytes().contains(&0) {
            Err(Errno::INVAL)
        } else if name.len() > NAME_MAX {
            Err(Errno::NAMETOOLONG)
        } else {
            Ok(())
        }
    }

    fn may_search(&self, folder: NodeId) -> Result<(), Errno> {
        if self.is_denied(folder) {
            Err(Errno::ACCESS)
        } else {
            Ok(())
        }
    }

    pub(super) fn is_denied(&self, id: NodeId) -> bool {
        self.node(id).denied && !self.all_rights
    }

    /// Whether a new name can be in a folder.
    fn may_name(&self, folder: NodeId, name: &OsStr) -> Result<(), Errno> {
        if folder != ROOT && self.node(folder).parent.is_none() {
            return Err(Errno::NOENT);
        }
        self.traits.check_name(name.as_bytes())
    }

    fn may_use(&self, more: u64) -> Result<(), Errno> {
        if more > self.free_bytes() {
            Err(Errno::NOSPC)
        } else {
            Ok(())
        }
    }
}

impl Content {
    pub(super) fn file(live: Data) -> Content {
        let dirty = 0..live.len().div_ceil(PAGE);
        Content::File {
            live,
            durable: Data::default(),
            dirty,
        }
    }

    pub(super) fn folder() -> Content {
        Content::Folder {
            live: Names::default(),
            durable: Names::default(),
        }
    }

    pub(super) fn space(&self) -> u64 {
        match self {
            Content::File { live, .. } => live.space(),
            Content::Folder { .. } => PAGE as u64,
            Content::Symlink(_) => 0,
        }
    }
}

/// Rounds down, as filesystems do with times.
pub(super) fn floor(ns: i64, step_ns: i64) -> i64 {
    ns.div_euclid(step_ns) * step_ns
}

/// FNV-1a, for an order of names that is as good as random.
fn scrambled(name: &[u8]) -> u64 {
    name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
