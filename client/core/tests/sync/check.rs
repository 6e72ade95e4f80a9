//! What must hold of every plan, whatever the trees: the invariants of the design.

use crate::world::{Baseline, DISKS, Order, Side, TestPlan, World};
use raspbox_core::reconcile::reconcile;
use raspbox_core::renames::find_moves;
use raspbox_core::tree::{Folder, Name, Node, Shape};
use raspbox_protocol::{Digest, RelPath};
use std::collections::BTreeSet;

/// How a plan is made; the faults put others here.
pub(crate) type Planner = fn(&Baseline, &Side, &Side) -> TestPlan;

pub(crate) fn plain(base: &Baseline, local: &Side, remote: &Side) -> TestPlan {
    reconcile(base, local, remote)
}

pub(crate) fn with_moves(base: &Baseline, local: &Side, remote: &Side) -> TestPlan {
    find_moves(reconcile(base, local, remote), &DISKS)
}

/// A conflict copy is carried over in the second round; the third is for safety.
const ROUNDS_MAX: usize = 3;

/// Syncs until nothing is left to do and checks every invariant, in either order of carrying out.
pub(crate) fn check(before: &World, planner: Planner) -> Result<(), String> {
    for order in [Order::PushFirst, Order::PullFirst] {
        let mut after = before.clone();
        let plan = planner(&before.base, &before.local, &before.remote);
        check_plan(before, &plan)
            .and_then(|()| settle(&mut after, planner, order))
            .and_then(|problems| check_after(before, &after, &held(&after, problems)))
            .map_err(|what| {
                format!("{order:?}: {what}\nbefore:\n{before}after:\n{after}plan: {plan:#?}")
            })?;
    }
    Ok(())
}

/// Checks and panics with what was wrong; `what` says which case it was.
pub(crate) fn assert_good(before: &World, what: &dyn std::fmt::Debug) {
    for planner in [plain, with_moves] {
        if let Err(error) = check(before, planner) {
            panic!("{what:?}: {error}");
        }
    }
}

/// Checks only that plans can be carried out, that all is quiet in the end, and that nothing is
/// lost or touched unknown; for planners that leave out what can't be done.
pub(crate) fn assert_nothing_lost(before: &World, planner: Planner, what: &dyn std::fmt::Debug) {
    for order in [Order::PushFirst, Order::PullFirst] {
        let mut after = before.clone();
        let checked = settle(&mut after, planner, order)
            .and_then(|_| check_no_loss(before, &after))
            .and_then(|()| check_unknown(before, &after));
        if let Err(error) = checked {
            panic!("{what:?}: {order:?}: {error}\nbefore:\n{before}after:\n{after}");
        }
    }
}

/// Stops in the middle of a plan, at each place and with what was done recorded or not, and goes
/// on from what is there then: nothing is lost, and both sides agree in the end.
pub(crate) fn assert_survives_a_crash(before: &World, what: &dyn std::fmt::Debug) {
    for order in [Order::PushFirst, Order::PullFirst] {
        let plan = with_moves(&before.base, &before.local, &before.remote);
        for done in 0..=plan.asides.len() + plan.push.len() + plan.pull.len() {
            for recorded in [true, false] {
                let mut after = before.clone();
                let checked = after
                    .execute(&first_of(&plan, order, done), order)
                    .and_then(|()| {
                        if !recorded {
                            after.base = before.base.clone();
                        }
                        settle(&mut after, with_moves, order)
                    })
                    .and_then(|problems| {
                        check_no_loss(before, &after)?;
                        check_unknown(before, &after)?;
                        let held = held(&after, problems);
                        check_agree("remote", &after.local, &after.remote, &held)
                    });
                if let Err(error) = checked {
                    panic!(
                        "{what:?}: {order:?}, {done} done, recorded {recorded}: {error}\n\
                         before:\n{before}after:\n{after}plan: {plan:#?}"
                    );
                }
            }
        }
    }
}

/// The first so many of a plan's asides and actions, in the order of carrying out.
fn first_of(plan: &TestPlan, order: Order, mut count: usize) -> TestPlan {
    let mut first = plan.clone();
    let mut left = |len: usize| {
        let taken = len.min(count);
        count -= taken;
        taken
    };
    first.asides.truncate(left(plan.asides.len()));
    match order {
        Order::PushFirst => {
            first.push.truncate(left(plan.push.len()));
            first.pull.truncate(left(plan.pull.len()));
        }
        Order::PullFirst => {
            first.pull.truncate(left(plan.pull.len()));
            first.push.truncate(left(plan.push.len()));
        }
    }
    first
}

/// Syncs until the plan is empty; returns the paths of the problems that remain.
fn settle(world: &mut World, planner: Planner, order: Order) -> Result<BTreeSet<RelPath>, String> {
    for _ in 0..ROUNDS_MAX {
        let plan = planner(&world.base, &world.local, &world.remote);
        if plan.is_empty() {
            return Ok(plan
                .problems
                .into_iter()
                .map(|problem| problem.path)
                .collect());
        }
        world.execute(&plan, order)?;
    }
    let plan = planner(&world.base, &world.local, &world.remote);
    if plan.is_empty() {
        Ok(plan
            .problems
            .into_iter()
            .map(|problem| problem.path)
            .collect())
    } else {
        Err(format!("not quiet after {ROUNDS_MAX} rounds: {plan:#?}"))
    }
}

/// The paths about which nothing is promised: those with a problem, and where a folder that can't
/// be known stands against a file.
fn held(after: &World, mut problems: BTreeSet<RelPath>) -> BTreeSet<RelPath> {
    let mut clashes = Vec::new();
    for path in &problems {
        let mut parent = path.parent();
        while let Some(at) = parent {
            parent = at.parent();
            let is_folder = |side: &Side| side.get(&at).map(|node| node.folder().is_some());
            let (local, remote) = (is_folder(&after.local), is_folder(&after.remote));
            if local.is_some() && remote.is_some() && local != remote {
                clashes.push(at);
            }
        }
    }
    problems.extend(clashes);
    problems
}

/// What a plan must never say.
fn check_plan(before: &World, plan: &TestPlan) -> Result<(), String> {
    for aside in &plan.asides {
        let path = &aside.path;
        let (b, l, r) = (
            before.base.get(path),
            before.local.get(path),
            before.remote.get(path),
        );
        if same(b, l) || same(b, r) || same(l, r) {
            return Err(format!("spurious conflict at {}", aside.path));
        }
    }
    let has_reason = mentions_trouble(&before.local) || mentions_trouble(&before.remote);
    match plan.problems.first() {
        Some(problem) if !has_reason => Err(format!("spurious {problem:?}")),
        Some(_) | None => Ok(()),
    }
}

fn check_after(before: &World, after: &World, problems: &BTreeSet<RelPath>) -> Result<(), String> {
    check_unknown(before, after)?;
    check_no_loss(before, after)?;
    check_no_resurrection(before, after, problems)?;
    check_agree("remote", &after.local, &after.remote, problems)?;
    check_agree("baseline", &after.local, &after.base, problems)?;
    if !mentions_trouble(&before.local) && !mentions_trouble(&before.remote) {
        if same_folder(&before.base, &before.local) && !same_folder(&before.remote, &after.local) {
            return Err("the remote's changes alone didn't come over as they are".to_owned());
        }
        if same_folder(&before.base, &before.remote) && !same_folder(&before.local, &after.remote) {
            return Err("the local changes alone didn't go over as they are".to_owned());
        }
    }
    Ok(())
}

/// What is at or below something unknown is as it was, on both sides and in the baseline.
fn check_unknown(before: &World, after: &World) -> Result<(), String> {
    let mut unknown = BTreeSet::new();
    for side in [&before.local, &before.remote] {
        side.walk(&mut |path, node| {
            if matches!(node, Node::Unknown(_)) {
                unknown.insert(path.clone());
            }
        });
    }
    for path in unknown {
        let untouched = before.local.get(&path) == after.local.get(&path)
            && before.remote.get(&path) == after.remote.get(&path)
            && before.base.get(&path) == after.base.get(&path);
        // A conflict copy of a folder may not take what is unknown with it either: then `after`
        // has nothing here.
        if !untouched {
            return Err(format!("{path} is unknown and was touched"));
        }
    }
    Ok(())
}

/// A content may go only from where it is the baseline's, and the other side has something else
/// or nothing.
fn check_no_loss(before: &World, after: &World) -> Result<(), String> {
    let mut left = contents(&after.local);
    left.extend(contents(&after.remote));
    for (side, other) in [
        (&before.local, &before.remote),
        (&before.remote, &before.local),
    ] {
        let mut lost = None;
        side.walk(&mut |path, node| {
            let Some(digest) = digest(node) else { return };
            let was_synced = before.base.get(path).and_then(digest_of) == Some(digest);
            let was_changed = other.get(path).and_then(digest_of) != Some(digest);
            let may_go = was_synced && was_changed;
            if !left.contains(&digest) && !may_go {
                lost = Some(path.clone());
            }
        });
        if let Some(path) = lost {
            return Err(format!("the content of {path} is lost"));
        }
    }
    Ok(())
}

/// What one side deleted and the other left alone is gone.
fn check_no_resurrection(
    before: &World,
    after: &World,
    problems: &BTreeSet<RelPath>,
) -> Result<(), String> {
    let mut back = None;
    before.base.walk(&mut |path, b| {
        for (side, other) in [
            (&before.local, &before.remote),
            (&before.remote, &before.local),
        ] {
            let deleted = side.get(path).is_none() && !is_below_leaf(side, path);
            let unchanged = same(Some(b), other.get(path));
            let is_there = after.local.get(path).is_some() || after.remote.get(path).is_some();
            let told = problems.iter().any(|p| p.is_in(path) || path.is_in(p));
            if deleted && unchanged && is_there && !told {
                back = Some(path.clone());
            }
        }
    });
    match back {
        Some(path) => Err(format!("{path} was deleted and is back")),
        None => Ok(()),
    }
}

/// Whether a folder on the way to this path is something else on this side: then what was below
/// went or came with a conflict of the whole folder, or can't be known.
fn is_below_leaf(side: &Side, path: &RelPath) -> bool {
    let mut parent = path.parent();
    while let Some(at) = parent {
        if side.get(&at).is_some_and(|node| node.folder().is_none()) {
            return true;
        }
        parent = at.parent();
    }
    false
}

/// Both have the same, except at paths with a problem and for the folders that lead to one.
fn check_agree<T>(
    what: &str,
    local: &Side,
    other: &Folder<T>,
    problems: &BTreeSet<RelPath>,
) -> Result<(), String> {
    let mut differs = None;
    local.walk(&mut |path, node| {
        let agrees = other.get(path).and_then(Node::shape) == node.shape();
        let leads = node.folder().is_some() && problems.iter().any(|p| p.is_in(path));
        if !agrees && !leads && !problems.iter().any(|p| path.is_in(p)) {
            differs = Some(path.clone());
        }
    });
    other.walk(&mut |path, node| {
        let agrees = local.get(path).and_then(Node::shape) == node.shape();
        let leads = node.folder().is_some() && problems.iter().any(|p| p.is_in(path));
        if !agrees && !leads && !problems.iter().any(|p| path.is_in(p)) {
            differs = Some(path.clone());
        }
    });
    match differs {
        Some(path) => Err(format!("local and {what} differ at {path}")),
        None => Ok(()),
    }
}

/// The same all the way down; written anew, since the check shouldn't trust what it checks.
fn same<A, B>(a: Option<&Node<A>>, b: Option<&Node<B>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => match (a.shape(), b.shape()) {
            (Some(Shape::Folder), Some(Shape::Folder)) => {
                let (a, b) = (a.folder(), b.folder());
                a.zip(b).is_some_and(|(a, b)| same_folder(a, b))
            }
            (Some(a), Some(b)) => a == b,
            (None, _) | (_, None) => false,
        },
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn same_folder<A, B>(a: &Folder<A>, b: &Folder<B>) -> bool {
    let names: BTreeSet<&Name> = a.children.keys().chain(b.children.keys()).collect();
    names
        .into_iter()
        .all(|name| same(a.children.get(name), b.children.get(name)))
}

fn mentions_trouble(side: &Side) -> bool {
    let mut trouble = false;
    side.walk(&mut |_, node| match node {
        Node::Unknown(_) => trouble = true,
        Node::Folder(folder, _) => trouble |= folder.holds_unsynced,
        Node::File(..) | Node::Symlink(..) => {}
    });
    trouble
}

fn contents(side: &Side) -> BTreeSet<Digest> {
    let mut contents = BTreeSet::new();
    side.walk(&mut |_, node| contents.extend(digest(node)));
    contents
}

fn digest(node: &Node<u64>) -> Option<Digest> {
    digest_of(node)
}

fn digest_of<T>(node: &Node<T>) -> Option<Digest> {
    match node {
        Node::File(file, _) => Some(file.digest),
        Node::Folder(..) | Node::Symlink(..) | Node::Unknown(_) => None,
    }
}
