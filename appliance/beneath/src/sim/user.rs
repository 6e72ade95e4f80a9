//! The disk as a person or another program has it: no steps, no faults, durable at once or, as most
//! programs leave it, not before somebody syncs it.
//!
//! Rights don't matter, and neither does whether the disk is dead or pulled: it may be in another
//! computer. Paths are relative to its top, with `/`; symlinks are not followed.

use super::data::Data;
use super::tree::{Content, NodeId, Tree};
use super::{Disk, ROOT};
use crate::Rename;
use raspbox_protocol::Mtime;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// See [`Disk::user`].
#[derive(Debug, Clone)]
pub struct User {
    disk: Disk,
    syncs: bool,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A file.
    File {
        /// What is in it.
        content: Vec<u8>,
        /// When that was last changed.
        mtime: Mtime,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A folder.
    Folder,
    /// A symlink and its target.
    Symlink(String),
}

impl User {
    pub(super) fn of(disk: &Disk) -> User {
        User {
            disk: disk.clone(),
            syncs: true,
        }
    }

    /// The same as somebody who syncs nothing: what a power cut leaves of it is as with what the program
    /// under test didn't sync.
    #[must_use]
    pub fn careless(self) -> User {
        User {
            syncs: false,
            ..self
        }
    }

    /// What is in a file.
    ///
    /// # Errors
    /// As the system's calls have them; so for all methods.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.act(|tree| {
            let id = tree.must_find_path(Path::new(path))?;
            content = match &tree.node(id).content {
                Content::File { live, .. } => live.to_vec(),
                Content::Folder { .. } => return Err(Errno::ISDIR),
                Content::Symlink(_) => return Err(Errno::LOOP),
            };
            Ok(())
        })?;
        Ok(content)
    }

    /// Writes a file in place, making it where there is none: the inode stays the same.
    pub fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
        self.act(|tree| {
            let id = tree.opened(path)?;
            tree.set_len(id, 0)?;
            tree.write_whole(id, 0, content)
        })
    }

    /// Appends to a file, making it where there is none.
    pub fn append(&self, path: &str, content: &[u8]) -> io::Result<()> {
        self.act(|tree| {
            let id = tree.opened(path)?;
            let at = tree.stat(id).size;
            tree.write_whole(id, at, content)
        })
    }

    /// Writes a new file beside and renames it over the old one, as editors do.
    pub fn write_new_and_rename(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let beside = format!("{path}.new~");
        self.write(&beside, content)?;
        let renamed = self.rename(&beside, path);
        if renamed.is_err() {
            self.remove(&beside)?;
        }
        renamed
    }

    /// Removes a file, symlink or empty folder.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        self.act(|tree| {
            let (folder, name) = tree.parent_of(Path::new(path))?;
            match tree.remove_file(folder, name) {
                Err(Errno::ISDIR) => tree.remove_folder(folder, name),
                result => result,
            }
        })
    }

    /// Removes whatever stands at a path with all that is in it; nothing where nothing does.
    pub fn remove_all(&self, path: &str) -> io::Result<()> {
        self.act(|tree| {
            let (folder, name) = match tree.parent_of(Path::new(path)) {
                Ok(found) => found,
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
                Err(error) => return Err(error),
            };
            match tree.find(folder, name)? {
                Some(id) => tree.remove_tree(folder, name, id),
                None => Ok(()),
            }
        })
    }

    /// Gives something another name, and replaces what is there.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.act(|tree| {
            let from = tree.parent_of(Path::new(from))?;
            let to = tree.parent_of(Path::new(to))?;
            tree.rename(from, to, Rename::Replace)
        })
    }

    /// Makes a folder, and those that it is in.
    pub fn mkdir(&self, path: &str) -> io::Result<()> {
        self.act(|tree| {
            let mut at = ROOT;
            for name in Path::new(path) {
                match tree.make_folder(at, name, 0o777) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                at = tree.folder_at(at, Path::new(name))?;
            }
            Ok(())
        })
    }

    /// Makes a symlink.
    pub fn symlink(&self, target: &str, path: &str) -> io::Result<()> {
        self.act(|tree| {
            let (folder, name) = tree.parent_of(Path::new(path))?;
            tree.make_symlink(folder, name, OsStr::new(target))
        })
    }

    /// Sets a time of modification.
    pub fn set_mtime(&self, path: &str, mtime: Mtime) -> io::Result<()> {
        self.act(|tree| {
            let id = tree.must_find_path(Path::new(path))?;
            tree.set_mtime(id, mtime);
            Ok(())
        })
    }

    /// Sets whether a file may be executed.
    pub fn set_executable(&self, path: &str, on: bool) -> io::Result<()> {
        self.act(|tree| {
            let id = tree.must_find_path(Path::new(path))?;
            let mode = tree.node(id).meta.mode;
            tree.set_mode(id, if on { mode | 0o111 } else { mode & !0o111 })
        })
    }

    /// Spoils a file for good: whoever reads it gets `EIO`, as of a bad block.
    pub fn spoil(&self, path: &str) -> io::Result<()> {
        self.act(|tree| {
            let id = tree.must_find_path(Path::new(path))?;
            tree.node_mut(id).spoilt = true;
            Ok(())
        })
    }

    /// Whether something stands at a path.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        let found = self.act(|tree| tree.must_find_path(Path::new(path)).map(drop));
        found.is_ok()
    }

    /// Everything below a folder (`""`: the top) by its path from there; nothing where there is none.
    #[must_use]
    pub fn tree(&self, folder: &str) -> BTreeMap<String, Node> {
        let mut found = BTreeMap::new();
        let looked = self.act(|tree| {
            let top = tree.folder_at(ROOT, &Path::new(".").join(folder))?;
            collect(tree, top, "", &mut found);
            Ok(())
        });
        // Where there is no folder, nothing is in it.
        drop(looked);
        found
    }

    /// Does something and makes it durable, where it is to be, and nothing else.
    fn act(&self, act: impl FnOnce(&mut Tree) -> Result<(), Errno>) -> io::Result<()> {
        let mut state = self.disk.state();
        let tree = &mut state.tree;
        let (changes, dirty) = (tree.next_change, std::mem::take(&mut tree.dirty));
        tree.all_rights = true;
        let result = act(tree);
        tree.all_rights = false;
        if !self.syncs {
            tree.dirty.extend(dirty);
            return Ok(result?);
        }
        for number in changes..tree.next_change {
            tree.sync_change(number);
        }
        for id in std::mem::replace(&mut tree.dirty, dirty) {
            tree.sync_file(id);
        }
        Ok(result?)
    }
}

impl Tree {
    /// What stands at a path from the top.
    pub(super) fn find_path(&self, path: &Path) -> Result<Option<NodeId>, Errno> {
        let (folder, name) = match self.parent_of(path) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error),
        };
        self.find(folder, name)
    }

    pub(super) fn must_find_path(&self, path: &Path) -> Result<NodeId, Errno> {
        self.find_path(path)?.ok_or(Errno::NOENT)
    }

    /// The folder that a path is in, and its last name.
    pub(super) fn parent_of<'a>(&self, path: &'a Path) -> Result<(NodeId, &'a OsStr), Errno> {
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            return Err(Errno::INVAL);
        };
        let folder = self.folder_at(ROOT, &Path::new(".").join(parent))?;
        Ok((folder, name))
    }

    fn opened(&mut self, path: &str) -> Result<NodeId, Errno> {
        let (folder, name) = self.parent_of(Path::new(path))?;
        self.create(folder, name, 0o666, false)
    }

    fn write_whole(&mut self, id: NodeId, at: u64, content: &[u8]) -> Result<(), Errno> {
        let len = self.write(id, at, content)?;
        if len < content.len() {
            return Err(Errno::NOSPC);
        }
        Ok(())
    }

    /// Removes a node with all that is in it.
    pub(super) fn remove_tree(
        &mut self,
        folder: NodeId,
        name: &OsStr,
        id: NodeId,
    ) -> Result<(), Errno> {
        if !matches!(self.node(id).content, Content::Folder { .. }) {
            return self.remove_file(folder, name);
        }
        let children: Vec<(Vec<u8>, NodeId)> = self
            .names(id)
            .iter()
            .map(|(name, id)| (name.to_vec(), id))
            .collect();
        for (child, child_id) in children {
            self.remove_tree(id, OsStr::from_bytes(&child), child_id)?;
        }
        self.remove_folder(folder, name)
    }

    /// Adds a file with a content.
    pub(super) fn add_file(&mut self, content: Data, mode: u32) -> NodeId {
        let id = self.add(Content::file(content), mode);
        self.dirty.insert(id);
        id
    }
}

fn collect(tree: &Tree, folder: NodeId, at: &str, found: &mut BTreeMap<String, Node>) {
    for (name, id) in tree.names(folder).iter() {
        let path = format!("{at}{}", String::from_utf8_lossy(name));
        let node = tree.node(id);
        let entry = match &node.content {
            Content::File { live, .. } => Node::File {
                content: live.to_vec(),
                mtime: Mtime(node.meta.mtime_ns),
                executable: node.meta.mode & 0o100 != 0,
            },
            Content::Folder { .. } => {
                collect(tree, id, &format!("{path}/"), found);
                Node::Folder
            }
            Content::Symlink(target) => Node::Symlink(target.to_string_lossy().into_owned()),
        };
        found.insert(path, entry);
    }
}
