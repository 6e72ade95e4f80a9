//! What to do about three trees: the rules of sync, as one walk and three small tables.
//!
//! Decides only: it doesn't look for moves ([`crate::renames`]), doesn't judge whether the plan is
//! sane as a whole ([`crate::guard`]) and doesn't know what the other side's filesystem can hold
//! ([`crate::names`]).
//!
//! Three things it never does: take [`Node::Unknown`] for absent, remove a folder in which anything
//! stays, and let one of two edits disappear.

use crate::lane::{Lane, known, same_digest};
use crate::plan::{Adoption, Aside, Plan, Problem, Trouble};
use crate::tree::{Folder, Node, Shape, Unknown};
use raspbox_protocol::RelPath;
use std::collections::BTreeSet;

/// Compares what both sides had (`baseline`) with what each has now.
///
/// What the caller must do when it records the plan in the baseline: a folder that is put or
/// adopted where the baseline has a folder keeps what the baseline has below it; everything else
/// replaces what the baseline has at the path, and below it.
pub fn reconcile<B, L: Clone, R: Clone>(
    baseline: &Folder<B>,
    local: &Folder<L>,
    remote: &Folder<R>,
) -> Plan<L, R> {
    let mut walk = Walk {
        push: Lane::default(),
        pull: Lane::default(),
        asides: Vec::new(),
        adopt: Vec::new(),
        problems: Vec::new(),
    };
    walk.folder(None, Some(baseline), Some(local), Some(remote));
    Plan {
        asides: walk.asides,
        push: walk.push.in_order(),
        pull: walk.pull.in_order(),
        adopt: walk.adopt,
        problems: walk.problems,
    }
}

/// What becomes of files, symlinks and absent things: one rule each, for both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Nothing,
    Adopt,
    Push,
    Pull,
    Conflict,
}

/// What becomes of a folder that only one side has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Single {
    /// The other side gets it.
    Create,
    /// It goes away here too.
    Remove,
    /// It was deleted on the other side, and what is left in it here is nothing to share.
    Stay,
    /// As [`Single::Stay`], and what is left are things that aren't synced.
    HoldsUnsynced,
}

/// What one side has at a path, as far as it decides which table applies.
enum Look<'a, T> {
    Absent,
    Unknown(&'a Unknown),
    Leaf(&'a Node<T>),
    Folder(&'a Folder<T>, &'a Node<T>),
}

/// Whether anything stands at a path on each side once the plan is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stands {
    local: bool,
    remote: bool,
}

const BOTH: Stands = Stands {
    local: true,
    remote: true,
};

const NEITHER: Stands = Stands {
    local: false,
    remote: false,
};

struct Walk<L, R> {
    push: Lane<L, R>,
    pull: Lane<R, L>,
    asides: Vec<Aside<L>>,
    adopt: Vec<Adoption<L, R>>,
    problems: Vec<Problem>,
}

/// The table for files, symlinks and absence (`None`). The baseline may also have had a folder.
fn verdict(b: Option<Shape<'_>>, l: Option<Shape<'_>>, r: Option<Shape<'_>>) -> Verdict {
    match (l == r, l == b, r == b) {
        (true, true, _) => Verdict::Nothing,
        (true, false, _) => Verdict::Adopt,
        (false, true, _) => Verdict::Pull,
        (false, false, true) => Verdict::Push,
        (false, false, false) => two_changes(b, l, r),
    }
}

/// The table for two sides that both changed, differently.
fn two_changes(b: Option<Shape<'_>>, l: Option<Shape<'_>>, r: Option<Shape<'_>>) -> Verdict {
    match (l, r) {
        // An edit beats a delete.
        (None, _) => Verdict::Pull,
        (_, None) => Verdict::Push,
        // The same content, and different ideas of whether it may be executed: the remote's.
        (Some(l), Some(r)) if same_digest(Some(l), r) => Verdict::Pull,
        // A new content beats a mere change of the executable bit: a `chmod` is done again in no
        // time, and two copies of a file would help nobody.
        (Some(l), Some(_)) if same_digest(b, l) => Verdict::Pull,
        (Some(_), Some(r)) if same_digest(b, r) => Verdict::Push,
        (Some(_), Some(_)) => Verdict::Conflict,
    }
}

/// The table for a folder that only one side has.
///
/// `had`: the baseline has a folder there. `shared`: something is put into it on the other side.
/// `stuck`: something stays in it on this side only, since it is unknown or holds what isn't
/// synced; that doesn't bring the folder back on the side that deleted it, or one file that was
/// busy at the wrong moment would undo the delete for good.
fn single(had: bool, shared: bool, stuck: bool, holds_unsynced: bool) -> Single {
    match (had, shared, stuck, holds_unsynced) {
        (false, _, _, _) | (true, true, _, _) => Single::Create,
        (true, false, true, _) => Single::Stay,
        (true, false, false, true) => Single::HoldsUnsynced,
        (true, false, false, false) => Single::Remove,
    }
}

impl<L: Clone, R: Clone> Walk<L, R> {
    /// Decides everything in a folder; returns whether anything stands in it afterwards.
    fn folder<B>(
        &mut self,
        path: Option<&RelPath>,
        b: Option<&Folder<B>>,
        l: Option<&Folder<L>>,
        r: Option<&Folder<R>>,
    ) -> Stands {
        let names: BTreeSet<&str> = names(b).chain(names(l)).chain(names(r)).collect();
        let mut stands = NEITHER;
        for name in names {
            let (b, l, r) = (child(b, name), child(l, name), child(r, name));
            let below = match RelPath::child(path, name) {
                Ok(path) => self.node(&path, b, l, r),
                // Whoever made the tree should have said that it can't be synced. It stays.
                Err(_) => present(l, r),
            };
            stands.local |= below.local;
            stands.remote |= below.remote;
        }
        stands
    }

    fn node<B>(
        &mut self,
        path: &RelPath,
        b: Option<&Node<B>>,
        l: Option<&Node<L>>,
        r: Option<&Node<R>>,
    ) -> Stands {
        match (look(l), look(r)) {
            (Look::Unknown(here), Look::Unknown(there)) => {
                self.problem(path, Trouble::Local(here.clone()));
                self.problem(path, Trouble::Remote(there.clone()));
                BOTH
            }
            (Look::Unknown(why), Look::Absent | Look::Leaf(_) | Look::Folder(..)) => {
                self.problem(path, Trouble::Local(why.clone()));
                present(l, r)
            }
            (Look::Absent | Look::Leaf(_) | Look::Folder(..), Look::Unknown(why)) => {
                self.problem(path, Trouble::Remote(why.clone()));
                present(l, r)
            }
            (Look::Absent | Look::Leaf(_), Look::Absent | Look::Leaf(_)) => {
                self.leaves(path, b, l, r)
            }
            (Look::Folder(here, l), Look::Folder(there, r)) => {
                if folder(b).is_none() {
                    self.adopt_same(path, l, r);
                }
                self.folder(Some(path), folder(b), Some(here), Some(there));
                BOTH
            }
            (Look::Folder(here, l), Look::Absent) => self.local_folder(path, b, here, l),
            (Look::Absent, Look::Folder(there, r)) => self.remote_folder(path, b, there, r),
            (Look::Folder(here, l), Look::Leaf(r)) => self.folder_and_leaf(path, b, (here, l), r),
            (Look::Leaf(l), Look::Folder(there, r)) => self.leaf_and_folder(path, b, l, (there, r)),
        }
    }

    fn leaves<B>(
        &mut self,
        path: &RelPath,
        b: Option<&Node<B>>,
        l: Option<&Node<L>>,
        r: Option<&Node<R>>,
    ) -> Stands {
        let verdict = verdict(shape(b), shape(l), shape(r));
        match verdict {
            Verdict::Nothing => {}
            Verdict::Adopt => match (l, r) {
                (Some(l), Some(r)) => self.adopt_same(path, l, r),
                (None, _) | (_, None) => self.adopt.push(Adoption::Gone { path: path.clone() }),
            },
            Verdict::Push => self.push.carry(path, l, r),
            Verdict::Pull => self.pull.carry(path, r, l),
            Verdict::Conflict => {
                let (Some(l), Some(r)) = (l, r) else {
                    unreachable!("only two things that are there can be in conflict");
                };
                self.aside(path, l);
                self.pull.put(path, r, None);
            }
        }
        match verdict {
            Verdict::Nothing | Verdict::Adopt => present(l, r),
            Verdict::Push => either(l.is_some()),
            Verdict::Pull => either(r.is_some()),
            Verdict::Conflict => BOTH,
        }
    }

    fn local_folder<B>(
        &mut self,
        path: &RelPath,
        b: Option<&Node<B>>,
        here: &Folder<L>,
        l: &Node<L>,
    ) -> Stands {
        // Put first, since it comes before what is put into it; taken back if that is nothing.
        self.push.put(path, l, None);
        let below = self.folder::<B>(Some(path), folder(b), Some(here), None);
        let had = folder(b).is_some();
        match single(had, below.remote, below.local, here.holds_unsynced) {
            Single::Create => BOTH,
            Single::Remove => {
                self.push.take_back(path);
                self.pull.delete(path, l);
                NEITHER
            }
            Single::Stay => {
                self.push.take_back(path);
                Stands {
                    local: true,
                    remote: false,
                }
            }
            Single::HoldsUnsynced => {
                self.push.take_back(path);
                self.problem(path, Trouble::HoldsUnsynced);
                Stands {
                    local: true,
                    remote: false,
                }
            }
        }
    }

    fn remote_folder<B>(
        &mut self,
        path: &RelPath,
        b: Option<&Node<B>>,
        there: &Folder<R>,
        r: &Node<R>,
    ) -> Stands {
        self.pull.put(path, r, None);
        let below = self.folder::<B>(Some(path), folder(b), None, Some(there));
        let had = folder(b).is_some();
        match single(had, below.local, below.remote, there.holds_unsynced) {
            Single::Create => BOTH,
            Single::Remove => {
                self.pull.take_back(path);
                self.push.delete(path, r);
                NEITHER
            }
            Single::Stay => {
                self.pull.take_back(path);
                Stands {
                    local: false,
                    remote: true,
                }
            }
            Single::HoldsUnsynced => {
                self.pull.take_back(path);
                self.problem(path, Trouble::HoldsUnsynced);
                Stands {
                    local: false,
                    remote: true,
                }
            }
        }
    }

    /// A folder here, a file or symlink there.
    fn folder_and_leaf<B>(
        &mut self,
        path: &RelPath,
        b: Option<&Node<B>>,
        (here, l): (&Folder<L>, &Node<L>),
        r: &Node<R>,
    ) -> Stands {
        if shape(b) == r.shape() {
            self.push.delete(path, r);
            self.push.put(path, l, None);
            self.folder::<B>(Some(path), None, Some(here), None);
        } else if self.unknowns(path, here, Trouble::Local) {
            // A folder that isn't fully known neither goes nor moves.
        } else if !b.is_some_and(|b| same_tree(b, l)) {
            self.aside(path, l);
            self.pull.put(path, r, None);
        } else if holds_unsynced(here) {
            self.problem(path, Trouble::HoldsUnsynced);
        } else {
            self.pull.delete_tree(path, l);
            self.pull.put(path, r, None);
        }
        BOTH
    }

    /// A file or symlink here, a folder there.
    fn leaf_and_folder<B>(
        &mut self,
        path: &RelPath,
        b: Option<&Node<B>>,
        l: &Node<L>,
        (there, r): (&Folder<R>, &Node<R>),
    ) -> Stands {
        if shape(b) == l.shape() {
            self.pull.delete(path, l);
            self.pull.put(path, r, None);
            self.folder::<B>(Some(path), None, None, Some(there));
        } else if self.unknowns(path, there, Trouble::Remote) {
            // Whether it changed can't be said, so neither can whether this is a conflict.
        } else if !b.is_some_and(|b| same_tree(b, r)) {
            self.aside(path, l);
            self.pull.put(path, r, None);
            // No baseline below: what is the same as before comes back as well, whole folders only.
            self.folder::<B>(Some(path), None, None, Some(there));
        } else if holds_unsynced(there) {
            self.problem(path, Trouble::HoldsUnsynced);
        } else {
            self.push.delete_tree(path, r);
            self.push.put(path, l, None);
        }
        BOTH
    }

    /// Says each unknown thing in a folder as a problem; whether there are any.
    fn unknowns<T>(
        &mut self,
        path: &RelPath,
        folder: &Folder<T>,
        trouble: fn(Unknown) -> Trouble,
    ) -> bool {
        let before = self.problems.len();
        for (name, node) in &folder.children {
            match (RelPath::child(Some(path), name), node) {
                (Ok(path), Node::Unknown(why)) => self.problem(&path, trouble(why.clone())),
                (Ok(path), Node::Folder(folder, _)) => {
                    self.unknowns(&path, folder, trouble);
                }
                (Ok(_), Node::File(..) | Node::Symlink(..)) => {}
                (Err(error), _) => {
                    let why = Unknown::Unsyncable(format!("cannot sync {name:?} in it: {error}"));
                    self.problem(path, trouble(why));
                }
            }
        }
        self.problems.len() > before
    }

    fn problem(&mut self, path: &RelPath, what: Trouble) {
        self.problems.push(Problem {
            path: path.clone(),
            what,
        });
    }

    fn aside(&mut self, path: &RelPath, l: &Node<L>) {
        let (entry, local) = known(l);
        self.asides.push(Aside {
            path: path.clone(),
            entry,
            local,
        });
    }

    fn adopt_same(&mut self, path: &RelPath, l: &Node<L>, r: &Node<R>) {
        let ((entry, local), (_, remote)) = (known(l), known(r));
        self.adopt.push(Adoption::Same {
            path: path.clone(),
            entry,
            local,
            remote,
        });
    }
}

/// Whether both are the same all the way down. What is unknown is the same as nothing.
fn same_tree<A, B>(a: &Node<A>, b: &Node<B>) -> bool {
    match (a.folder(), b.folder()) {
        (Some(a), Some(b)) => {
            a.children.len() == b.children.len()
                && a.children
                    .iter()
                    .zip(&b.children)
                    .all(|((name, a), (other, b))| name == other && same_tree(a, b))
        }
        (None, None) => a.shape().is_some() && a.shape() == b.shape(),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn holds_unsynced<T>(folder: &Folder<T>) -> bool {
    folder.holds_unsynced
        || folder
            .children
            .values()
            .filter_map(Node::folder)
            .any(holds_unsynced)
}

fn look<T>(node: Option<&Node<T>>) -> Look<'_, T> {
    match node {
        None => Look::Absent,
        Some(Node::Unknown(why)) => Look::Unknown(why),
        Some(leaf @ (Node::File(..) | Node::Symlink(..))) => Look::Leaf(leaf),
        Some(node @ Node::Folder(folder, _)) => Look::Folder(folder, node),
    }
}

fn shape<T>(node: Option<&Node<T>>) -> Option<Shape<'_>> {
    node.and_then(Node::shape)
}

fn folder<T>(node: Option<&Node<T>>) -> Option<&Folder<T>> {
    node.and_then(Node::folder)
}

fn names<T>(folder: Option<&Folder<T>>) -> impl Iterator<Item = &str> {
    folder
        .into_iter()
        .flat_map(|folder| folder.children.keys().map(|name| &**name))
}

fn child<'a, T>(folder: Option<&'a Folder<T>>, name: &str) -> Option<&'a Node<T>> {
    folder.and_then(|folder| folder.children.get(name))
}

fn present<L, R>(l: Option<&Node<L>>, r: Option<&Node<R>>) -> Stands {
    Stands {
        local: l.is_some(),
        remote: r.is_some(),
    }
}

fn either(stands: bool) -> Stands {
    if stands { BOTH } else { NEITHER }
}
