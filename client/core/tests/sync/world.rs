//! Two sides and a baseline in memory, and an executor that does what a plan says or says why it
//! can't.

use raspbox_core::names::{Accents, Disk, Disks, conflict_name};
use raspbox_core::plan::{Action, Adoption, Aside, Plan};
use raspbox_core::tree::{Folder, Node, Unknown};
use raspbox_protocol::info::Holds;
use raspbox_protocol::{Digest, Entry, File, LinkTarget, Mtime, RelPath};
use std::time::Duration;

/// Each entry on a side has a tag of its own, so that an action on the wrong entry is noticed.
pub(crate) type Side = Folder<u64>;
pub(crate) type Baseline = Folder<()>;
pub(crate) type TestPlan = Plan<u64, u64>;

/// Holds what any Linux does.
pub(crate) const EXT4: Disk = Disk {
    called: "ext4",
    holds: Holds {
        case_sensitive: true,
        symlinks: true,
        dos_names: false,
        file_max_bytes: u64::MAX,
        granularity: Duration::from_nanos(1),
    },
    accents: Accents::Apart,
};

/// A stick: `a` and `A` are one name.
pub(crate) const FAT: Disk = Disk {
    called: "FAT",
    holds: Holds {
        case_sensitive: false,
        symlinks: false,
        dos_names: true,
        file_max_bytes: 20,
        granularity: Duration::from_secs(2),
    },
    accents: Accents::Apart,
};

pub(crate) const DISKS: Disks = Disks {
    local: EXT4,
    remote: EXT4,
};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct World {
    pub(crate) base: Baseline,
    pub(crate) local: Side,
    pub(crate) remote: Side,
    pub(crate) disks: Disks,
    next_tag: u64,
}

/// Which list of a plan is carried out first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    PushFirst,
    PullFirst,
}

pub(crate) fn path(text: &str) -> RelPath {
    RelPath::parse(text).expect("a good path")
}

pub(crate) fn file(content: &str) -> File {
    File {
        digest: Digest::of(content.as_bytes()),
        size: content.len() as u64,
        mtime: Mtime(0),
        executable: false,
    }
}

/// A tree from a text such as `a=x d/ d/b=y* d/l>t d/u? e!/`: content x; a folder; executable; a
/// symlink; an unknown thing; a folder that holds things that aren't synced.
pub(crate) fn tree(text: &str) -> Folder<()> {
    let mut tree = Folder::default();
    for word in text.split_whitespace() {
        let (name, node) = node(word);
        tree.insert(&path(name), node).expect("the parent is there");
    }
    tree
}

fn node(word: &str) -> (&str, Node<()>) {
    if let Some(name) = word.strip_suffix("!/") {
        let folder = Folder {
            holds_unsynced: true,
            ..Folder::default()
        };
        (name, Node::Folder(folder, ()))
    } else if let Some(name) = word.strip_suffix('/') {
        (name, Node::new(Entry::Folder, ()))
    } else if let Some(name) = word.strip_suffix('?') {
        (name, Node::Unknown(Unknown::Busy))
    } else if let Some((name, target)) = word.split_once('>') {
        let target = LinkTarget::parse(target).expect("a good target");
        (name, Node::new(Entry::Symlink(target), ()))
    } else {
        let (name, content) = word.split_once('=').expect("a file has a content");
        let (content, executable) = match content.strip_suffix('*') {
            Some(content) => (content, true),
            None => (content, false),
        };
        let file = File {
            executable,
            ..file(content)
        };
        (name, Node::File(file, ()))
    }
}

/// A tree in the words that [`tree`] takes, each content by the beginning of its hash.
pub(crate) fn text<T>(tree: &Folder<T>) -> String {
    let mut words = Vec::new();
    tree.walk(&mut |path, node| {
        words.push(match node {
            Node::File(file, _) => {
                let mark = if file.executable { "*" } else { "" };
                format!("{path}={:.4}{mark}", file.digest.to_string())
            }
            Node::Folder(folder, _) if folder.holds_unsynced => format!("{path}!/"),
            Node::Folder(..) => format!("{path}/"),
            Node::Symlink(target, _) => format!("{path}>{}", target.as_str()),
            Node::Unknown(_) => format!("{path}?"),
        });
    });
    words.join(" ")
}

impl std::fmt::Display for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "  baseline {}", text(&self.base))?;
        writeln!(f, "  local    {}", text(&self.local))?;
        writeln!(f, "  remote   {}", text(&self.remote))
    }
}

impl World {
    pub(crate) fn new(base: &Folder<()>, local: &Folder<()>, remote: &Folder<()>) -> World {
        let mut next_tag = 1;
        World {
            base: base.clone(),
            local: tagged(local, &mut next_tag),
            remote: tagged(remote, &mut next_tag),
            disks: DISKS,
            next_tag,
        }
    }

    pub(crate) fn on(self, disks: Disks) -> World {
        World { disks, ..self }
    }

    /// Carries out a plan and records it in the baseline.
    pub(crate) fn execute(&mut self, plan: &TestPlan, order: Order) -> Result<(), String> {
        for adoption in &plan.adopt {
            self.adopt(adoption)?;
        }
        for aside in &plan.asides {
            self.aside(aside)?;
        }
        match order {
            Order::PushFirst => {
                self.push(&plan.push)?;
                self.pull(&plan.pull)
            }
            Order::PullFirst => {
                self.pull(&plan.pull)?;
                self.push(&plan.push)
            }
        }
    }

    fn push(&mut self, actions: &[Action<u64, u64>]) -> Result<(), String> {
        let World {
            base,
            local,
            remote,
            disks,
            next_tag,
        } = self;
        actions
            .iter()
            .try_for_each(|action| act(action, base, local, (remote, &disks.remote), next_tag))
    }

    fn pull(&mut self, actions: &[Action<u64, u64>]) -> Result<(), String> {
        let World {
            base,
            local,
            remote,
            disks,
            next_tag,
        } = self;
        actions
            .iter()
            .try_for_each(|action| act(action, base, remote, (local, &disks.local), next_tag))
    }

    fn adopt(&mut self, adoption: &Adoption<u64, u64>) -> Result<(), String> {
        match adoption {
            Adoption::Same {
                path,
                entry,
                local,
                remote,
            } => {
                expect(&self.local, path, entry, *local)?;
                expect(&self.remote, path, entry, *remote)?;
                record(&mut self.base, path, entry)
            }
            Adoption::Gone { path } => {
                if self.local.get(path).is_some() || self.remote.get(path).is_some() {
                    return Err(format!("{path} isn't gone"));
                }
                let recorded = self.base.remove(path);
                recorded.map(drop).ok_or(format!("{path} was not recorded"))
            }
        }
    }

    fn aside(&mut self, aside: &Aside<u64>) -> Result<(), String> {
        expect(&self.local, &aside.path, &aside.entry, aside.local)?;
        let parent = aside.path.parent();
        let sibling = |name: &str| RelPath::child(parent.as_ref(), name).expect("a good name");
        let name = conflict_name(aside.path.name(), "pc", "2026-11-22", &|name| {
            self.local.get(&sibling(name)).is_some() || self.remote.get(&sibling(name)).is_some()
        });
        let node = self.local.remove(&aside.path).expect("looked before");
        insert(&mut self.local, &sibling(&name), node)
    }
}

fn act(
    action: &Action<u64, u64>,
    base: &mut Baseline,
    here: &Side,
    (there, disk): (&mut Side, &Disk),
    next_tag: &mut u64,
) -> Result<(), String> {
    *next_tag += 1;
    match action {
        Action::Put {
            path,
            entry,
            here: tag,
            replaces,
        } => {
            expect(here, path, entry, *tag)?;
            match (there.get(path), replaces) {
                (None, None) => {}
                (Some(node @ (Node::File(..) | Node::Symlink(..))), Some(tag))
                    if node.tag() == Some(tag) && *entry != Entry::Folder => {}
                (at, _) => return Err(format!("put of {path}: {at:?} isn't {replaces:?}")),
            }
            insert(there, path, Node::new(entry.clone(), *next_tag))?;
            is_held(there, disk, path, entry)?;
            record(base, path, entry)
        }
        Action::SetMeta {
            path,
            entry,
            here: tag,
            there: old,
        } => {
            expect(here, path, entry, *tag)?;
            match (there.get_mut(path), entry) {
                (Some(Node::File(at, tag)), Entry::File(file))
                    if *tag == *old && at.digest == file.digest =>
                {
                    (*at, *tag) = (*file, *next_tag);
                }
                (at, _) => return Err(format!("set meta of {path}: there is {at:?}")),
            }
            record(base, path, entry)
        }
        Action::Delete {
            path,
            entry,
            there: tag,
        } => {
            expect(there, path, entry, *tag)?;
            if let Some(Node::Folder(folder, _)) = there.get(path)
                && (folder.holds_unsynced || !folder.children.is_empty())
            {
                return Err(format!("delete of {path}: it isn't empty"));
            }
            there.remove(path);
            base.remove(path);
            Ok(())
        }
        Action::Move {
            from,
            to,
            entry,
            there: tag,
            moved,
        } => {
            expect(there, from, entry, *tag)?;
            let node = there.remove(from).expect("looked before");
            check_rows(from, to, &node, here, moved)?;
            if there.get(to).is_some() {
                return Err(format!("move of {from}: something is at {to}"));
            }
            insert(there, to, node)?;
            is_held(there, disk, to, entry)?;
            base.remove(from);
            moved.iter().try_for_each(|(_, new, _)| {
                let entry = there.get(new).and_then(Node::entry);
                record(base, new, &entry.ok_or(format!("no {new} after the move"))?)
            })
        }
    }
}

/// Whether the rows are exactly what moves, and the other side has just that at the new place.
fn check_rows(
    from: &RelPath,
    to: &RelPath,
    node: &Node<u64>,
    here: &Side,
    moved: &[(RelPath, RelPath, u64)],
) -> Result<(), String> {
    let mut expected = vec![(from.clone(), node.entry())];
    if let Some(folder) = node.folder() {
        folder.walk(&mut |below, node| {
            let old = path(&format!("{from}/{below}"));
            expected.push((old, node.entry()));
        });
    }
    if expected.len() != moved.len() {
        return Err(format!("move of {from}: {} rows", moved.len()));
    }
    for ((old, entry), (row, new, tag)) in expected.into_iter().zip(moved) {
        if old != *row || row.moved(from, to).as_ref() != Some(new) {
            return Err(format!("move of {from}: row {row} → {new} for {old}"));
        }
        let entry = entry.ok_or(format!("{old} is unknown"))?;
        expect(here, new, &entry, *tag)?;
    }
    Ok(())
}

fn expect(side: &Side, path: &RelPath, entry: &Entry, tag: u64) -> Result<(), String> {
    let at = side.get(path);
    let good = at.is_some_and(|at| {
        at.tag() == Some(&tag) && at.entry().is_some_and(|at| at.same_content(entry))
    });
    if good {
        Ok(())
    } else {
        Err(format!(
            "expected {entry:?} with {tag} at {path}, found {at:?}"
        ))
    }
}

fn insert<T>(side: &mut Folder<T>, path: &RelPath, node: Node<T>) -> Result<(), String> {
    side.insert(path, node)
        .map(drop)
        .map_err(|_| format!("no folder to put {path} into"))
}

/// Whether a disk has room for a new name: it would refuse it, or find another entry by it.
fn is_held(side: &Side, disk: &Disk, path: &RelPath, entry: &Entry) -> Result<(), String> {
    disk.check(path, entry)?;
    let folder = match path.parent() {
        None => Some(side),
        Some(parent) => side.get(&parent).and_then(Node::folder),
    };
    let names = folder.into_iter().flat_map(|folder| folder.children.keys());
    let alike = names.filter(|name| disk.key(name) == disk.key(path.name()));
    match alike.count() {
        1 => Ok(()),
        _ => Err(format!("there is another {path}")),
    }
}

/// As [`raspbox_core::reconcile::reconcile`] asks for it.
fn record(base: &mut Baseline, path: &RelPath, entry: &Entry) -> Result<(), String> {
    match (base.get(path), entry) {
        (Some(Node::Folder(..)), Entry::Folder) => Ok(()),
        (_, Entry::File(_) | Entry::Folder | Entry::Symlink(_)) => {
            insert(base, path, Node::new(entry.clone(), ()))
        }
    }
}

fn tagged(folder: &Folder<()>, next_tag: &mut u64) -> Side {
    let mut side = Side {
        holds_unsynced: folder.holds_unsynced,
        ..Side::default()
    };
    for (name, node) in &folder.children {
        *next_tag += 1;
        let tag = *next_tag;
        let node = match node {
            Node::File(file, ()) => Node::File(*file, tag),
            Node::Folder(folder, ()) => Node::Folder(tagged(folder, next_tag), tag),
            Node::Symlink(target, ()) => Node::Symlink(target.clone(), tag),
            Node::Unknown(why) => Node::Unknown(why.clone()),
        };
        side.children.insert(name.clone(), node);
    }
    side
}
