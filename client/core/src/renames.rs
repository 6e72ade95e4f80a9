//! Finds the moves in a plan: what disappears at one path and appears at another.
//!
//! A move carries no content, keeps what can be restored together, and doesn't count as a deletion
//! when [`crate::guard`] looks at the plan. It is found by content only, in the plan itself: what
//! [`crate::reconcile`] deletes is deleted whole, so that no tree has to be looked at again.

use crate::names::{Disk, Disks};
use crate::plan::{Action, Plan};
use raspbox_protocol::{Entry, RelPath};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Turns deletes and puts of the same content on the same side into moves: whole folders where
/// possible, the largest first, then single files. Empty files, and folders without content, are
/// too much alike to be called moved.
///
/// Expects a plan as [`crate::reconcile::reconcile`] makes it. Afterwards each list begins with
/// the folders that moves go into, then come the moves, then deletes, then the rest.
///
/// Where `a` and `A` are one name, `a` has to go before anything is made at or below `A`; so nothing
/// moves there, except `a` itself, whole.
#[must_use]
pub fn find_moves<L: Clone, R: Clone>(plan: Plan<L, R>, disks: &Disks) -> Plan<L, R> {
    Plan {
        push: moves_in(plan.push, &disks.remote),
        pull: moves_in(plan.pull, &disks.local),
        ..plan
    }
}

/// The hash of a subtree: names and shapes, all the way down.
type TreeHash = [u8; 32];

/// One thing that a plan deletes, or creates where nothing is.
struct Item<'a> {
    path: &'a RelPath,
    entry: &'a Entry,
    /// Its place in the list of actions.
    action: usize,
    /// The item behind the last one below this one, in the list that they are in.
    end: usize,
    /// The hash of it with everything below it.
    hash: TreeHash,
    /// Whether there is a file with content in it.
    has_content: bool,
    /// Whether it, or what it is in, moves.
    taken: bool,
    /// Whether its place is still taken when moves are made.
    closed: bool,
}

/// What may have moved, as places in the lists of items: all of the same hash.
#[derive(Default)]
struct Alike {
    gone: Vec<usize>,
    come: Vec<usize>,
    /// How many entries each of them has.
    len: usize,
}

fn moves_in<Here: Clone, There: Clone>(
    actions: Vec<Action<Here, There>>,
    disk: &Disk,
) -> Vec<Action<Here, There>> {
    let mut gone = items(&actions, Which::Deleted);
    let mut come = items(&actions, Which::Created);
    if gone.is_empty() || come.is_empty() {
        return actions;
    }
    let mut pairs = respelled(&mut gone, &mut come, disk);
    pairs.extend(self::pairs(&mut gone, &mut come));
    let (moves, used) = moves(&actions, &gone, &come, &pairs);
    let parents = parents(&actions, &used, &moves);
    in_order(actions, &used, &parents, moves)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Deleted,
    Created,
}

/// The deletes or creations of a list, by path, so that a folder comes before what is in it.
fn items<Here, There>(actions: &[Action<Here, There>], which: Which) -> Vec<Item<'_>> {
    let mut items: Vec<Item<'_>> = actions
        .iter()
        .enumerate()
        .filter_map(|(action, what)| match what {
            Action::Delete { path, entry, .. } => {
                (which == Which::Deleted).then_some((action, path, entry))
            }
            Action::Put {
                path,
                entry,
                replaces: None,
                ..
            } => (which == Which::Created).then_some((action, path, entry)),
            Action::Put {
                replaces: Some(_), ..
            }
            | Action::SetMeta { .. }
            | Action::Move { .. } => None,
        })
        .map(|(action, path, entry)| Item {
            path,
            entry,
            action,
            end: 0,
            hash: TreeHash::default(),
            has_content: false,
            taken: false,
            closed: false,
        })
        .collect();
    items.sort_by(|a, b| a.path.cmp(b.path));
    hash_from(&mut items, 0, None);
    items
}

/// Fills in `end`, `hash` and `has_content` from item `at` on, as far as they are below `folder`;
/// returns where that ends.
fn hash_from(items: &mut [Item<'_>], mut at: usize, folder: Option<usize>) -> usize {
    let mut below = blake3::Hasher::new();
    let mut has_content = false;
    while at < items.len() && folder.is_none_or(|top| items[at].path.is_in(items[top].path)) {
        let this = at;
        at = match items[this].entry {
            Entry::Folder => hash_from(items, this + 1, Some(this)),
            Entry::File(_) | Entry::Symlink(_) => {
                hash_leaf(&mut items[this], this + 1);
                this + 1
            }
        };
        let item = &items[this];
        put_text(&mut below, item.path.name());
        below.update(&item.hash);
        has_content |= item.has_content;
    }
    if let Some(top) = folder {
        below.update(b"folder");
        items[top].hash = *below.finalize().as_bytes();
        items[top].has_content = has_content;
        items[top].end = at;
    }
    at
}

fn hash_leaf(item: &mut Item<'_>, end: usize) {
    let mut hasher = blake3::Hasher::new();
    match item.entry {
        Entry::File(file) => {
            hasher.update(file.digest.as_bytes());
            hasher.update(&[u8::from(file.executable)]);
            hasher.update(b"file");
            item.has_content = file.size > 0;
        }
        Entry::Symlink(target) => {
            put_text(&mut hasher, target.as_str());
            hasher.update(b"symlink");
        }
        Entry::Folder => unreachable!("a folder is hashed with what is in it"),
    }
    item.hash = *hasher.finalize().as_bytes();
    item.end = end;
}

fn put_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

/// Closes the places where something goes away first, with everything below them; and pairs what only
/// gets another spelling of the same name, which may come there all the same.
fn respelled(gone: &mut [Item<'_>], come: &mut [Item<'_>], disk: &Disk) -> Vec<(usize, usize)> {
    let mut by_name: HashMap<(Option<RelPath>, Cow<'_, str>), Vec<usize>> = HashMap::new();
    for (from, item) in gone.iter().enumerate() {
        let key = (item.path.parent(), disk.key(item.path.name()));
        by_name.entry(key).or_default().push(from);
    }
    let mut pairs = Vec::new();
    let mut closed_until = 0;
    for to in 0..come.len() {
        let item = &mut come[to];
        let key = (item.path.parent(), disk.key(item.path.name()));
        let gone_here = by_name.get(&key);
        if gone_here.is_some() {
            closed_until = closed_until.max(item.end);
        }
        item.closed = to < closed_until;
        if let Some(&[from]) = gone_here.map(Vec::as_slice)
            && item.has_content
            && gone[from].path != item.path
            && gone[from].hash == item.hash
        {
            take(gone, from);
            take(come, to);
            pairs.push((from, to));
        }
    }
    pairs
}

/// Which of `gone` became which of `come`.
fn pairs(gone: &mut [Item<'_>], come: &mut [Item<'_>]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for alike in alike(gone, come) {
        let free = |items: &[Item<'_>], of: &[usize]| -> Vec<usize> {
            of.iter().copied().filter(|&i| !items[i].taken).collect()
        };
        let (from, to) = (free(gone, &alike.gone), free(come, &alike.come));
        for (from, to) in match_up(gone, come, &from, &to) {
            take(gone, from);
            take(come, to);
            pairs.push((from, to));
        }
    }
    pairs
}

/// The groups of what may have moved, the largest subtrees first, then by the first path.
///
/// Largest first makes sure that nothing is taken out of a folder before the folder has had its
/// turn.
fn alike(gone: &[Item<'_>], come: &[Item<'_>]) -> Vec<Alike> {
    let mut groups: Vec<Alike> = Vec::new();
    let mut by_hash: HashMap<TreeHash, usize> = HashMap::new();
    for (at, item) in come.iter().enumerate() {
        if item.closed || !item.has_content {
            continue;
        }
        let group = *by_hash.entry(item.hash).or_insert_with(|| {
            groups.push(Alike {
                len: item.end - at,
                ..Alike::default()
            });
            groups.len() - 1
        });
        groups[group].come.push(at);
    }
    for (at, item) in gone.iter().enumerate() {
        if let Some(&group) = by_hash.get(&item.hash) {
            groups[group].gone.push(at);
        }
    }
    groups.retain(|group| !group.gone.is_empty());
    groups.sort_by_key(|group| std::cmp::Reverse(group.len));
    groups
}

/// Pairs what is alike: those of the same name first, the rest in the order of their paths.
fn match_up(
    gone: &[Item<'_>],
    come: &[Item<'_>],
    from: &[usize],
    to: &[usize],
) -> Vec<(usize, usize)> {
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for &from in from.iter().rev() {
        by_name
            .entry(gone[from].path.name())
            .or_default()
            .push(from);
    }
    let mut pairs = Vec::new();
    let mut used = HashSet::new();
    let mut rest = Vec::new();
    for &to in to {
        match by_name.get_mut(come[to].path.name()).and_then(Vec::pop) {
            Some(from) => {
                used.insert(from);
                pairs.push((from, to));
            }
            None => rest.push(to),
        }
    }
    let unused = from.iter().copied().filter(|from| !used.contains(from));
    pairs.extend(unused.zip(rest));
    pairs
}

fn take(items: &mut [Item<'_>], top: usize) {
    let end = items[top].end;
    for item in &mut items[top..end] {
        item.taken = true;
    }
}

/// The moves in the order of their new paths, and the places of the actions that they stand for.
fn moves<Here: Clone, There: Clone>(
    actions: &[Action<Here, There>],
    gone: &[Item<'_>],
    come: &[Item<'_>],
    pairs: &[(usize, usize)],
) -> (Vec<Action<Here, There>>, HashSet<usize>) {
    let mut pairs = pairs.to_vec();
    pairs.sort_by_key(|&(_, to)| to);
    let mut used = HashSet::new();
    let moves = pairs
        .into_iter()
        .map(|(from, to)| {
            let old = &gone[from..gone[from].end];
            let new = &come[to..come[to].end];
            // Both are in the order of their names, and the names are the same.
            let moved = old.iter().zip(new).map(|(old, new)| {
                used.extend([old.action, new.action]);
                let here = put_here(&actions[new.action]);
                (old.path.clone(), new.path.clone(), here.clone())
            });
            let moved = moved.collect();
            Action::Move {
                from: gone[from].path.clone(),
                to: come[to].path.clone(),
                entry: come[to].entry.clone(),
                there: delete_there(&actions[gone[from].action]).clone(),
                moved,
            }
        })
        .collect();
    (moves, used)
}

fn put_here<Here, There>(action: &Action<Here, There>) -> &Here {
    match action {
        Action::Put { here, .. } => here,
        Action::SetMeta { .. } | Action::Delete { .. } | Action::Move { .. } => {
            unreachable!("what comes is put")
        }
    }
}

fn delete_there<Here, There>(action: &Action<Here, There>) -> &There {
    match action {
        Action::Delete { there, .. } => there,
        Action::Put { .. } | Action::SetMeta { .. } | Action::Move { .. } => {
            unreachable!("what goes is deleted")
        }
    }
}

/// The new folders that have to be there before the moves into them.
fn parents<Here, There>(
    actions: &[Action<Here, There>],
    used: &HashSet<usize>,
    moves: &[Action<Here, There>],
) -> HashSet<usize> {
    let mut wanted: HashSet<RelPath> = HashSet::new();
    for each in moves {
        let mut parent = each.path().parent();
        while let Some(path) = parent {
            parent = path.parent();
            if !wanted.insert(path) {
                break;
            }
        }
    }
    let is_parent = |(_, action): &(usize, &Action<Here, There>)| match action {
        Action::Put { path, .. } => wanted.contains(path),
        Action::SetMeta { .. } | Action::Delete { .. } | Action::Move { .. } => false,
    };
    let puts = actions.iter().enumerate().filter(is_parent);
    puts.map(|(at, _)| at)
        .filter(|at| !used.contains(at))
        .collect()
}

fn in_order<Here, There>(
    actions: Vec<Action<Here, There>>,
    used: &HashSet<usize>,
    parents: &HashSet<usize>,
    moves: Vec<Action<Here, There>>,
) -> Vec<Action<Here, There>> {
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for (at, action) in actions.into_iter().enumerate() {
        if parents.contains(&at) {
            first.push(action);
        } else if !used.contains(&at) {
            rest.push(action);
        }
    }
    first.extend(moves);
    first.append(&mut rest);
    first
}
