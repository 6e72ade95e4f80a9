//! A tree of observations: what one side has, or what both had.

use raspbox_protocol::{Digest, Entry, File, LinkTarget, RelPath};
use std::collections::BTreeMap;

/// What one side has at a path. `T` is what that side knows besides, such as a remote version.
///
/// Absence is no node: a name that is missing from its folder's map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node<T> {
    /// A regular file.
    File(File, T),
    /// A folder and what is in it.
    Folder(Folder<T>, T),
    /// A symlink.
    Symlink(LinkTarget, T),
    /// Something is there, or may be, but can't be known or isn't to be touched.
    ///
    /// Never "absent" and never "changed": nothing at or below it is decided.
    Unknown(Unknown),
}

/// A name in a folder. Short ones, as most are, need no room of their own, of which an allocator gives more than they
/// are long.
pub type Name = smol_str::SmolStr;

/// What is in a folder, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder<T> {
    /// The entries.
    pub children: BTreeMap<Name, Node<T>>,
    /// Whether it also holds things that are not synced (ignored ones), so that it can't be
    /// removed even when `children` is empty.
    pub holds_unsynced: bool,
}

/// Why nothing is decided about a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Unknown {
    /// It could not be read; what the system said.
    Unreadable(String),
    /// It is being written right now.
    Busy,
    /// Its content changed though nobody wrote to it. The good one is elsewhere, if anywhere.
    Damaged,
    /// Neither file nor folder nor symlink: a socket, a device, a pipe.
    Special,
    /// Its name or kind can't be synced; why.
    Unsyncable(String),
}

/// What is the same on both sides, without what either knows besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape<'a> {
    /// A file's content and executable bit.
    File(Digest, bool),
    /// A folder, whatever is in it.
    Folder,
    /// A symlink's target.
    Symlink(&'a LinkTarget),
}

impl<T> Default for Folder<T> {
    fn default() -> Self {
        Folder {
            children: BTreeMap::new(),
            holds_unsynced: false,
        }
    }
}

impl<T> Node<T> {
    /// What is compared between sides; `None` where it isn't known.
    pub fn shape(&self) -> Option<Shape<'_>> {
        match self {
            Node::File(file, _) => Some(Shape::File(file.digest, file.executable)),
            Node::Folder(..) => Some(Shape::Folder),
            Node::Symlink(target, _) => Some(Shape::Symlink(target)),
            Node::Unknown(_) => None,
        }
    }

    /// The folder, where it is one.
    pub fn folder(&self) -> Option<&Folder<T>> {
        match self {
            Node::Folder(folder, _) => Some(folder),
            Node::File(..) | Node::Symlink(..) | Node::Unknown(_) => None,
        }
    }

    /// What this side knows besides; `None` where the node isn't known.
    pub fn tag(&self) -> Option<&T> {
        match self {
            Node::File(_, tag) | Node::Folder(_, tag) | Node::Symlink(_, tag) => Some(tag),
            Node::Unknown(_) => None,
        }
    }

    /// The node without what is below it; `None` where it isn't known.
    pub fn entry(&self) -> Option<Entry> {
        match self {
            Node::File(file, _) => Some(Entry::File(*file)),
            Node::Folder(..) => Some(Entry::Folder),
            Node::Symlink(target, _) => Some(Entry::Symlink(target.clone())),
            Node::Unknown(_) => None,
        }
    }

    /// A node for this entry; a folder begins empty.
    pub fn new(entry: Entry, tag: T) -> Node<T> {
        match entry {
            Entry::File(file) => Node::File(file, tag),
            Entry::Folder => Node::Folder(Folder::default(), tag),
            Entry::Symlink(target) => Node::Symlink(target, tag),
        }
    }
}

impl<T> Folder<T> {
    /// What stands at this path below the folder.
    pub fn get(&self, path: &RelPath) -> Option<&Node<T>> {
        let mut folder = self;
        let mut names = path.names();
        let last = names.next_back()?;
        for name in names {
            folder = folder.children.get(name)?.folder()?;
        }
        folder.children.get(last)
    }

    /// What stands at this path below the folder, to change.
    pub fn get_mut(&mut self, path: &RelPath) -> Option<&mut Node<T>> {
        let mut names = path.names();
        let last = names.next_back()?;
        self.walk_mut(names)?.children.get_mut(last)
    }

    /// Puts a node at this path and returns the one that it displaced.
    ///
    /// Returns the node in `Err` where the parent isn't a folder.
    ///
    /// # Errors
    /// Where the parent isn't there, or isn't a folder.
    pub fn insert(&mut self, path: &RelPath, node: Node<T>) -> Result<Option<Node<T>>, Node<T>> {
        let mut names = path.names();
        let last = names.next_back().expect("a path has a name");
        match self.walk_mut(names) {
            Some(folder) => Ok(folder.children.insert(last.into(), node)),
            None => Err(node),
        }
    }

    /// Notes that something stands at this path that isn't synced: its folder can't be removed.
    pub fn pass_over(&mut self, path: &RelPath) {
        let mut names = path.names();
        names.next_back();
        if let Some(folder) = self.walk_mut(names) {
            folder.holds_unsynced = true;
        }
    }

    /// Takes away what stands at this path, with everything below it.
    pub fn remove(&mut self, path: &RelPath) -> Option<Node<T>> {
        let mut names = path.names();
        let last = names.next_back()?;
        self.walk_mut(names)?.children.remove(last)
    }

    /// Everything below, depth first, a folder before what is in it.
    pub fn walk(&self, visit: &mut impl FnMut(&RelPath, &Node<T>)) {
        self.walk_below(None, visit);
    }

    /// How many entries there are below, folders included.
    pub fn count(&self) -> usize {
        self.children
            .values()
            .map(|node| 1 + node.folder().map_or(0, Folder::count))
            .sum()
    }

    fn walk_below(&self, parent: Option<&RelPath>, visit: &mut impl FnMut(&RelPath, &Node<T>)) {
        for (name, node) in &self.children {
            // Names come from paths that were checked; one that is too long with its parents is
            // passed over by whoever made the tree.
            let Ok(path) = RelPath::child(parent, name) else {
                continue;
            };
            visit(&path, node);
            if let Node::Folder(folder, _) = node {
                folder.walk_below(Some(&path), visit);
            }
        }
    }

    fn walk_mut<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> Option<&mut Folder<T>> {
        let mut folder = self;
        for name in names {
            folder = match folder.children.get_mut(name)? {
                Node::Folder(folder, _) => folder,
                Node::File(..) | Node::Symlink(..) | Node::Unknown(_) => return None,
            };
        }
        Some(folder)
    }
}
