//! What is decided about single cases, as a plan in words.

use crate::check::{assert_good, plain};
use crate::world::{TestPlan, World, tree};
use raspbox_core::plan::{Action, Adoption, Trouble};

/// A plan in words: `aside a`, `push +a` (new), `~a` (replaced), `^a` (executable bit), `-a`
/// (deleted), `same a`, `gone a`, and problems such as `a: busy there`.
fn words(plan: &TestPlan) -> String {
    fn action(side: &str, action: &Action<u64, u64>) -> String {
        match action {
            Action::Put {
                path,
                replaces: None,
                ..
            } => format!("{side} +{path}"),
            Action::Put { path, .. } => format!("{side} ~{path}"),
            Action::SetMeta { path, .. } => format!("{side} ^{path}"),
            Action::Delete { path, .. } => format!("{side} -{path}"),
            Action::Move { from, to, .. } => format!("{side} {from}>{to}"),
        }
    }
    let mut words: Vec<String> = Vec::new();
    words.extend(
        plan.asides
            .iter()
            .map(|aside| format!("aside {}", aside.path)),
    );
    words.extend(plan.push.iter().map(|each| action("push", each)));
    words.extend(plan.pull.iter().map(|each| action("pull", each)));
    words.extend(plan.adopt.iter().map(|adoption| match adoption {
        Adoption::Same { path, .. } => format!("same {path}"),
        Adoption::Gone { path } => format!("gone {path}"),
    }));
    words.extend(plan.problems.iter().map(|problem| {
        let what = match problem.what {
            Trouble::Local(_) => "unknown here",
            Trouble::Remote(_) => "unknown there",
            Trouble::HoldsUnsynced => "holds unsynced",
            Trouble::CannotHold(_) => "cannot be held",
            Trouble::Failed(_) => "failed",
        };
        format!("{}: {what}", problem.path)
    }));
    words.join(", ")
}

fn check(base: &str, local: &str, remote: &str, expected: &str) {
    let world = World::new(&tree(base), &tree(local), &tree(remote));
    let plan = plain(&world.base, &world.local, &world.remote);
    assert_eq!(words(&plan), expected, "{base:?}, {local:?}, {remote:?}");
    assert_good(&world, &expected);
}

#[test]
fn one_side_changed() {
    check("a=x", "a=y", "a=x", "push ~a");
    check("a=x", "a=x", "a=y", "pull ~a");
    check("a=x", "", "a=x", "push -a");
    check("a=x", "a=x", "", "pull -a");
    check("", "a=x", "", "push +a");
    check("", "d/", "", "push +d");
    check("d/", "", "d/", "push -d");
    check("a=x", "a>t", "a=x", "push ~a");
    check("a>t", "a>t", "a=x", "pull ~a");
}

#[test]
fn both_changed() {
    check("a=x", "a=y", "a=y", "same a");
    check("", "d/ d/a=x", "d/ d/a=x", "same d, same d/a");
    check("a=x", "", "", "gone a");
    check("d/ d/a=x", "", "", "gone d");
    check("a=x", "a=y", "a=z", "aside a, pull +a");
    check("", "a=y", "a=z", "aside a, pull +a");
    check("a=x", "a=y", "a>t", "aside a, pull +a");
}

#[test]
fn the_executable_bit_travels_without_content_and_is_never_a_conflict() {
    check("a=x", "a=x*", "a=x", "push ^a");
    check("a=x", "a=x", "a=x*", "pull ^a");
    check("", "a=x*", "a=x", "pull ^a");
    check("a=y", "a=x", "a=x*", "pull ^a");
    check("a=x", "a=x*", "a=y", "pull ~a");
    check("a=x", "a=y", "a=x*", "push ~a");
    check("a=x", "a=x*", "", "push +a");
}

#[test]
fn an_edit_beats_a_delete_and_keeps_its_folders() {
    check("a=x", "", "a=y", "pull +a");
    check("a=x", "a=y", "", "push +a");
    check(
        "d/ d/a=x d/b=x",
        "",
        "d/ d/a=x d/b=y",
        "push -d/a, pull +d, pull +d/b",
    );
    check(
        "d/ d/e/ d/e/a=x d/e/b=x",
        "d/ d/e/ d/e/a=y d/e/b=x",
        "",
        "push +d, push +d/e, push +d/e/a, pull -d/e/b",
    );
    check(
        "d/ d/a=x",
        "",
        "d/ d/a=x d/b=y",
        "push -d/a, pull +d, pull +d/b",
    );
}

#[test]
fn what_is_unknown_is_left_alone_and_so_are_its_folders() {
    check("a=x", "a?", "", "a: unknown here");
    check("a=x", "", "a?", "a: unknown there");
    check("", "a?", "a?", "a: unknown here, a: unknown there");
    check("d/ d/a=x", "d?", "d/ d/a=y", "d: unknown here");
    check(
        "d/ d/a=x d/b=x",
        "d/ d/a=x d/b?",
        "",
        "pull -d/a, d/b: unknown here",
    );
    // The folder doesn't come back for that; once the file is known, it goes or comes back.
    check("d/ d/b=x", "d/ d/b?", "", "d/b: unknown here");
    check("d/ d/b=x", "d/ d/b=x", "", "pull -d/b, pull -d");
    check("d/ d/b=x", "d/ d/b=y", "", "push +d, push +d/b");
    check(
        "d/ d/e/ d/e/b=x",
        "",
        "d/ d/e/ d/e/b?",
        "d/e/b: unknown there",
    );
}

#[test]
fn a_folder_with_things_that_are_not_synced_stays() {
    check("d/ d/a=x", "d!/ d/a=x", "", "pull -d/a, d: holds unsynced");
    check("d/ d/a=x", "", "d!/ d/a=x", "push -d/a, d: holds unsynced");
    check(
        "d/ d/e/ d/e/a=x",
        "d/ d/e!/ d/e/a=x",
        "",
        "pull -d/e/a, d/e: holds unsynced",
    );
    check("d/", "d!/ d/a=x", "", "push +d, push +d/a");
    check("", "d!/", "", "push +d");
}

#[test]
fn a_folder_against_a_file() {
    check("d=x", "d/ d/a=y", "d=x", "push -d, push +d, push +d/a");
    check("d=x", "d=x", "d/ d/a=y", "pull -d, pull +d, pull +d/a");
    check("d/ d/a=x", "d=y", "d/ d/a=x", "push -d/a, push -d, push +d");
    check("d/ d/a=x", "d/ d/a=x", "d=y", "pull -d/a, pull -d, pull +d");
    check("d/ d/a=x", "d/ d/a=y", "d=y", "aside d, pull +d");
    check(
        "d/ d/a=x",
        "d=y",
        "d/ d/a=y d/b=x",
        "aside d, pull +d, pull +d/a, pull +d/b",
    );
    check("d/ d/a=x", "", "d=y", "pull +d");
    check("d=x", "d/ d/a=y", "", "push +d, push +d/a");
}

#[test]
fn a_folder_that_is_not_fully_known_is_never_replaced_or_moved() {
    check("d/ d/a=x", "d/ d/a?", "d=y", "d/a: unknown here");
    check("", "d/ d/a=x d/b?", "d=y", "d/b: unknown here");
    check("d/ d/a=x", "d=y", "d/ d/a?", "d/a: unknown there");
    check("d/", "d!/", "d=y", "d: holds unsynced");
    check("d/ d/e/", "d/ d/e!/", "d=y", "d: holds unsynced");
    check("d/", "d=y", "d!/", "d: holds unsynced");
    // Moved with what isn't synced in it, nothing of it is lost.
    check("d/ d/a=x", "d!/ d/a=y", "d=y", "aside d, pull +d");
}
