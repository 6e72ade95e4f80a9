//! Takes out of a plan what the disk that it is for can't hold.

use super::disk::{Disk, Disks};
use crate::plan::{Action, Plan, Problem, Trouble};
use crate::tree::Folder;
use raspbox_protocol::RelPath;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Takes out of a plan what the side that it would come to can't hold, and says it as problems.
///
/// A folder goes with everything below it, as one problem. What would have made way for it stays:
/// nothing is deleted, moved or set aside for the sake of something that can't come.
///
/// Two names that would be one: what stands there stays, and of what comes nothing does, not even
/// the first. So it doesn't depend on when each of them was first seen, and the next round decides
/// the same. Nothing is recorded of what doesn't come, so its absence is never taken for a delete.
#[must_use]
pub fn check_plan<L, R>(
    mut plan: Plan<L, R>,
    local: &Folder<L>,
    remote: &Folder<R>,
    disks: &Disks,
) -> Plan<L, R> {
    let (leave_local, leave_remote) = (leaving(&plan.pull), leaving(&plan.push));
    let refused_there = Check {
        here: local,
        leave_here: &leave_local,
        there: remote,
        disk: &disks.remote,
    }
    .take_out(&mut plan.push);
    let refused_here = Check {
        here: remote,
        leave_here: &leave_remote,
        there: local,
        disk: &disks.local,
    }
    .take_out(&mut plan.pull);
    plan.asides
        .retain(|aside| !is_refused(&aside.path, &refused_here));
    for refused in [refused_there, refused_here] {
        let mut told: Option<RelPath> = None;
        for (path, why) in refused {
            // In the order of paths a folder comes directly before what is in it.
            if told.as_ref().is_some_and(|folder| path.is_in(folder)) {
                continue;
            }
            told = Some(path.clone());
            plan.problems.push(Problem {
                path,
                what: Trouble::CannotHold(why),
            });
        }
    }
    plan
}

/// What was refused, and why.
type Refused = BTreeMap<RelPath, String>;

/// What leaves its place, and which action of the list that is.
type Leaving = BTreeMap<RelPath, usize>;

/// One direction: what comes from here to there.
struct Check<'a, Here, There> {
    here: &'a Folder<Here>,
    /// What the other direction takes away here.
    leave_here: &'a Leaving,
    there: &'a Folder<There>,
    /// There.
    disk: &'a Disk,
}

impl<Here, There> Check<'_, Here, There> {
    fn take_out(&self, actions: &mut Vec<Action<Here, There>>) -> Refused {
        let mut refused = self.unfit(actions);
        let mut stays = BTreeSet::new();
        // What stays may be in the way of something else, which then can't come either.
        loop {
            for (path, why) in self.clashing(actions) {
                refused.entry(path).or_insert(why);
            }
            if refused.is_empty() {
                return refused;
            }
            let before = actions.len();
            actions.retain(|action| self.is_possible(action, &mut refused, &mut stays));
            if actions.len() == before {
                return refused;
            }
        }
    }

    /// What the disk can't hold whatever stands beside it.
    fn unfit(&self, actions: &[Action<Here, There>]) -> Refused {
        let mut refused = Refused::new();
        for action in actions {
            let (path, entry) = match action {
                Action::Put { path, entry, .. } => (path, entry),
                Action::Move { to, entry, .. } => (to, entry),
                Action::SetMeta { .. } | Action::Delete { .. } => continue,
            };
            // What is there is held. The names of the folders that it is in are there, or come by
            // actions of their own.
            let name = match self.there.get(path) {
                Some(_) => Ok(()),
                None => self.disk.check_name(path.name()),
            };
            if let Err(why) = name.and_then(|()| self.disk.check_entry(entry)) {
                refused.insert(path.clone(), why);
            }
        }
        refused
    }

    /// The new names that would be one with another, and why.
    ///
    /// A name counts that stands there, unless an earlier action takes it away; that stands here,
    /// unless the other direction takes it away; or that comes.
    fn clashing(&self, actions: &[Action<Here, There>]) -> Vec<(RelPath, String)> {
        let mut clashing = Vec::new();
        let leave_there = leaving(actions);
        for (parent, new) in coming(actions) {
            let child = |name: &str| RelPath::child(parent.as_ref(), name).ok();
            // By what is one name there: the names, and up to which action each of them counts.
            let mut alike: HashMap<_, BTreeMap<&str, usize>> = HashMap::new();
            let mut count = |name, until: usize| {
                let names = alike.entry(self.disk.key(name)).or_default();
                let known = names.entry(name).or_insert(until);
                *known = until.max(*known);
            };
            for name in names_in(self.there, parent.as_ref()) {
                let left = child(name).and_then(|path| leave_there.get(&path));
                count(name, left.copied().unwrap_or(usize::MAX));
            }
            for name in names_in(self.here, parent.as_ref()) {
                if !child(name).is_some_and(|path| self.leave_here.contains_key(&path)) {
                    count(name, usize::MAX);
                }
            }
            for new in &new {
                count(new.path.name(), usize::MAX);
            }
            for Coming { path, at } in new {
                let beside = &alike[&self.disk.key(path.name())];
                // A move from `a` to `A` takes `a` away itself, and doesn't clash with it.
                let mut others = beside.iter().filter(|&(_, &until)| at < until);
                if let Some((other, _)) = others.find(|&(&name, _)| name != path.name()) {
                    clashing.push((path.clone(), self.disk.clash(path.name(), other)));
                }
            }
        }
        clashing
    }

    /// Whether an action doesn't depend on what was refused; if it does, what follows from that.
    ///
    /// `stays` are paths there that must not be deleted, for what is at or below them stays.
    fn is_possible(
        &self,
        action: &Action<Here, There>,
        refused: &mut Refused,
        stays: &mut BTreeSet<RelPath>,
    ) -> bool {
        match action {
            Action::Put {
                path,
                replaces: None,
                ..
            } if stays.contains(path) => {
                refused.entry(path.clone()).or_insert_with(|| {
                    format!("what is there on {} can't go away yet", self.disk.called)
                });
                false
            }
            Action::Put { path, .. } => !is_refused(path, refused),
            Action::SetMeta { .. } => true,
            Action::Delete { path, .. } => {
                let needed = stays.contains(path) || is_refused(path, refused);
                if needed {
                    stay(path, stays);
                }
                !needed
            }
            Action::Move { from, to, .. } => {
                let refused = is_refused(to, refused);
                if refused {
                    stay(from, stays);
                }
                !refused
            }
        }
    }
}

/// Whether a path, or a folder that it is in, was refused.
fn is_refused(path: &RelPath, refused: &Refused) -> bool {
    let mut at = Some(path.clone());
    while let Some(path) = at {
        if refused.contains_key(&path) {
            return true;
        }
        at = path.parent();
    }
    false
}

/// A path stays, and with it every folder that it is in.
fn stay(path: &RelPath, stays: &mut BTreeSet<RelPath>) {
    let mut at = Some(path.clone());
    while let Some(path) = at {
        at = path.parent();
        stays.insert(path);
    }
}

/// What an action list takes away from its place.
fn leaving<Here, There>(actions: &[Action<Here, There>]) -> Leaving {
    let leaving = actions.iter().enumerate();
    let leaving = leaving.filter_map(|(at, action)| match action {
        Action::Delete { path, .. } => Some((path.clone(), at)),
        Action::Move { from, .. } => Some((from.clone(), at)),
        Action::Put { .. } | Action::SetMeta { .. } => None,
    });
    leaving.collect()
}

/// A new name.
struct Coming<'a> {
    path: &'a RelPath,
    /// Which action of the list that is.
    at: usize,
}

/// The new names of an action list, by folder.
fn coming<Here, There>(
    actions: &[Action<Here, There>],
) -> BTreeMap<Option<RelPath>, Vec<Coming<'_>>> {
    let mut coming: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (at, action) in actions.iter().enumerate() {
        let path = match action {
            Action::Put {
                path,
                replaces: None,
                ..
            }
            | Action::Move { to: path, .. } => path,
            Action::Put {
                replaces: Some(_), ..
            }
            | Action::SetMeta { .. }
            | Action::Delete { .. } => continue,
        };
        let new = Coming { path, at };
        coming.entry(path.parent()).or_default().push(new);
    }
    coming
}

fn names_in<'a, T>(
    top: &'a Folder<T>,
    path: Option<&RelPath>,
) -> impl Iterator<Item = &'a str> + use<'a, T> {
    let folder = match path {
        None => Some(top),
        Some(path) => top.get(path).and_then(|node| node.folder()),
    };
    folder
        .into_iter()
        .flat_map(|folder| folder.children.keys().map(|name| &**name))
}
