//! Faults made on purpose: each must be noticed by the checks, or the checks are worth nothing.

use crate::check::{Planner, check, plain, with_moves};
use crate::world::{Baseline, Side, TestPlan, World, tree};
use raspbox_core::plan::{Action, Aside, Plan};
use raspbox_core::reconcile::reconcile;
use raspbox_core::tree::Node;

/// The trees that the faults are shown; each fault must fail on one of them.
const TREES: [(&str, &str, &str); 10] = [
    ("a=x", "a=y", "a=z"),
    ("a=x", "a?", "a=x"),
    ("a=x", "a=x", "a?"),
    ("a=x", "", "a=y"),
    ("a=x", "a=y", ""),
    ("a=x", "", "a=x"),
    ("", "a=x", "a=x"),
    ("a=x", "a=x", "a=y"),
    ("d/ d/a=x", "d/ d/a=x", ""),
    ("d/ d/a=x", "d!/ d/a=x", ""),
];

fn is_caught(fault: Planner) -> Result<(), String> {
    TREES.iter().try_for_each(|(base, local, remote)| {
        check(&World::new(&tree(base), &tree(local), &tree(remote)), fault)
    })
}

fn caught(fault: Planner, expected: &str) {
    let error = is_caught(fault).expect_err("the fault is noticed");
    assert!(error.contains(expected), "{expected}: {error}");
}

#[test]
fn without_a_fault_all_is_well() {
    assert_eq!(is_caught(plain), Ok(()));
    assert_eq!(is_caught(with_moves), Ok(()));
}

#[test]
fn replacing_the_local_edit_instead_of_moving_it_aside() {
    fn fault(base: &Baseline, local: &Side, remote: &Side) -> TestPlan {
        let mut plan = reconcile(base, local, remote);
        for aside in std::mem::take(&mut plan.asides) {
            for action in &mut plan.pull {
                if let Action::Put { path, replaces, .. } = action
                    && *path == aside.path
                {
                    *replaces = Some(aside.local);
                }
            }
        }
        plan
    }
    caught(fault, "is lost");
}

#[test]
fn taking_unknown_for_absent() {
    fn known(side: &Side) -> Side {
        let mut side = side.clone();
        side.children.retain(|_, node| match node {
            Node::Folder(folder, _) => {
                *folder = known(folder);
                true
            }
            Node::File(..) | Node::Symlink(..) => true,
            Node::Unknown(_) => false,
        });
        side
    }
    fn fault(base: &Baseline, local: &Side, remote: &Side) -> TestPlan {
        reconcile(base, &known(local), &known(remote))
    }
    caught(fault, "unknown and was touched");
}

#[test]
fn letting_a_delete_beat_an_edit() {
    fn fault(base: &Baseline, local: &Side, remote: &Side) -> TestPlan {
        // What the other side deleted is taken for unchanged since, and so deleted.
        let mut agreed = base.clone();
        for (name, node) in &mut agreed.children {
            let edited = match (local.children.get(name), remote.children.get(name)) {
                (Some(Node::File(file, _)), None) | (None, Some(Node::File(file, _))) => Some(file),
                _ => None,
            };
            if let Some(file) = edited {
                *node = Node::File(*file, ());
            }
        }
        reconcile(&agreed, local, remote)
    }
    caught(fault, "is lost");
}

#[test]
fn bringing_back_what_was_deleted() {
    fn fault(base: &Baseline, local: &Side, remote: &Side) -> TestPlan {
        let mut plan = reconcile(base, local, remote);
        for action in std::mem::take(&mut plan.push) {
            match action {
                Action::Delete { path, entry, there } => plan.pull.push(Action::Put {
                    path,
                    entry,
                    here: there,
                    replaces: None,
                }),
                other => plan.push.push(other),
            }
        }
        plan
    }
    caught(fault, "deleted and is back");
}

#[test]
fn calling_one_edit_a_conflict() {
    fn fault(base: &Baseline, local: &Side, remote: &Side) -> TestPlan {
        let mut plan = reconcile(base, local, remote);
        for action in &mut plan.pull {
            if let Action::Put {
                path,
                entry,
                replaces,
                ..
            } = action
                && let Some(local) = replaces.take()
            {
                plan.asides.push(Aside {
                    path: path.clone(),
                    entry: entry.clone(),
                    local,
                });
            }
        }
        plan
    }
    caught(fault, "spurious conflict");
}

#[test]
fn leaving_out_what_only_needs_recording() {
    fn fault(base: &Baseline, local: &Side, remote: &Side) -> TestPlan {
        Plan {
            adopt: Vec::new(),
            ..reconcile(base, local, remote)
        }
    }
    caught(fault, "differ at a");
}

#[test]
fn deleting_a_folder_that_holds_what_is_not_synced() {
    fn fault(base: &Baseline, local: &Side, remote: &Side) -> TestPlan {
        let mut blind = local.clone();
        for node in blind.children.values_mut() {
            if let Node::Folder(folder, _) = node {
                folder.holds_unsynced = false;
            }
        }
        reconcile(base, &blind, remote)
    }
    caught(fault, "it isn't empty");
}

#[test]
fn deleting_a_folder_before_what_is_in_it() {
    fn fault(base: &Baseline, local: &Side, remote: &Side) -> TestPlan {
        let mut plan = reconcile(base, local, remote);
        plan.pull.reverse();
        plan
    }
    caught(fault, "it isn't empty");
}
