//! Copies of a part of a disk: a database that is lost, or put back from a backup.

use super::Disk;
use super::data::Data;
use super::tree::{Content, Meta, NodeId, Tree};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What stood at a path, with all that was in it, as it was live.
#[derive(Debug, Clone)]
pub struct Saved(Option<Copy>);

#[derive(Debug, Clone)]
struct Copy {
    meta: Meta,
    content: Kept,
}

#[derive(Debug, Clone)]
enum Kept {
    File(Data),
    Folder(Vec<(Vec<u8>, Copy)>),
    Symlink(OsString),
}

impl Disk {
    /// Copies what stands at a path, or that nothing does.
    #[must_use]
    pub fn save(&self, path: &str) -> Saved {
        let state = self.state();
        let found = state.tree.find_path(Path::new(path));
        Saved(found.ok().flatten().map(|id| copy(&state.tree, id)))
    }

    /// Puts at a path what was copied, in place of what is there, durable at once. It has new inodes,
    /// as what comes from a backup has.
    ///
    /// # Errors
    /// Where the folder for it isn't there, or the space.
    pub fn restore(&self, path: &str, saved: &Saved) -> io::Result<()> {
        self.user().remove_all(path)?;
        let Some(saved) = &saved.0 else {
            return Ok(());
        };
        let mut state = self.state();
        let tree = &mut state.tree;
        let before = tree.next_change;
        let (folder, name) = tree.parent_of(Path::new(path))?;
        let mut added = Vec::new();
        add(tree, folder, name, saved, &mut added);
        for number in before..tree.next_change {
            tree.sync_change(number);
        }
        for (id, meta) in added {
            tree.node_mut(id).meta.mtime_ns = meta.mtime_ns;
            tree.node_mut(id).meta.mode = meta.mode;
            tree.sync_file(id);
        }
        if tree.used_bytes > tree.traits.size_bytes {
            return Err(Errno::NOSPC.into());
        }
        Ok(())
    }
}

fn copy(tree: &Tree, id: NodeId) -> Copy {
    let node = tree.node(id);
    let content = match &node.content {
        Content::File { live, .. } => Kept::File(live.clone()),
        Content::Symlink(target) => Kept::Symlink(target.clone()),
        Content::Folder { live, .. } => Kept::Folder(
            live.iter()
                .map(|(name, id)| (name.to_vec(), copy(tree, id)))
                .collect(),
        ),
    };
    Copy {
        meta: node.meta,
        content,
    }
}

fn add(
    tree: &mut Tree,
    folder: NodeId,
    name: &OsStr,
    saved: &Copy,
    added: &mut Vec<(NodeId, Meta)>,
) {
    let id = match &saved.content {
        Kept::File(data) => tree.add_file(data.clone(), saved.meta.mode),
        Kept::Symlink(target) => tree.add(Content::Symlink(target.clone()), saved.meta.mode),
        Kept::Folder(_) => tree.add(Content::folder(), saved.meta.mode),
    };
    tree.link(folder, name, id);
    if let Kept::Folder(children) = &saved.content {
        for (name, child) in children {
            add(tree, id, OsStr::from_bytes(name), child, added);
        }
    }
    added.push((id, saved.meta));
}
