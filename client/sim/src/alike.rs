//! Whether all sides have the same.

use crate::place::{Tree, describe, digest, files_of};
use raspbox_beneath::sim::Node;
use raspbox_protocol::Digest;
use std::collections::BTreeSet;

/// A folder that should be the same as others, as it was found.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    /// Whose, for messages.
    pub(crate) whose: String,
    /// What people see in it.
    pub(crate) tree: Tree,
    /// Whether it keeps executable bits.
    pub(crate) keeps_bits: bool,
}

/// Invariant: all sides have the same, but for what a side can't hold and says so.
pub(crate) fn converged(
    stations: &[Side],
    drive: &Side,
    problems: &BTreeSet<String>,
) -> Result<(), String> {
    let there = &drive.tree;
    let excused = |path: &str| {
        problems.iter().any(|problem| {
            let (problem, path) = (folded(problem), folded(path));
            path == problem
                || path.starts_with(&format!("{problem}/"))
                || problem.starts_with(&format!("{path}/"))
        })
    };
    // What should move to a name that can't be held stays where it was, on one side.
    let stuck: BTreeSet<Digest> = stations
        .iter()
        .chain([drive])
        .flat_map(|side| files_of(side.tree.clone()))
        .filter(|(path, _)| excused(path))
        .map(|(_, digest)| digest)
        .collect();
    let is_stuck = |path: &str, node: &Node, side: &Tree| match digest(node) {
        Some(digest) => stuck.contains(&digest),
        // A folder is where something in it is.
        None => {
            let below = format!("{path}/");
            let mut in_it = side.iter().filter(|(path, _)| path.starts_with(&below));
            in_it.any(|(_, node)| digest(node).is_some_and(|digest| stuck.contains(&digest)))
        }
    };
    for station in stations {
        let (here, whose) = (&station.tree, &station.whose);
        let bits = station.keeps_bits && drive.keeps_bits;
        for (path, node) in there {
            let same = same(here.get(path), Some(node), bits);
            if !same && !is_stuck(path, node, there) && !excused(path) {
                return Err(format!(
                    "convergence: {path} is {} on {} and {} on {whose}",
                    describe(Some(node)),
                    drive.whose,
                    describe(here.get(path))
                ));
            }
        }
        let only_here = here.iter().find(|(path, node)| {
            !there.contains_key(*path) && !excused(path) && !is_stuck(path, node, here)
        });
        if let Some((path, _)) = only_here {
            return Err(format!(
                "convergence: {path} is only on {whose}: {}",
                describe(here.get(path))
            ));
        }
    }
    Ok(())
}

/// Whether two nodes are the same to people; times are not.
fn same(a: Option<&Node>, b: Option<&Node>, bits: bool) -> bool {
    match (a, b) {
        (
            Some(Node::File {
                content,
                executable,
                ..
            }),
            Some(Node::File {
                content: other,
                executable: bit,
                ..
            }),
        ) => content == other && (!bits || executable == bit),
        (Some(Node::Folder), Some(Node::Folder)) | (None, None) => true,
        (Some(Node::Symlink(a)), Some(Node::Symlink(b))) => a == b,
        _ => false,
    }
}

/// How a name reads without regard to case and composition.
fn folded(name: &str) -> String {
    composed(&name.to_lowercase())
}

/// The one character of all names that can be written in two ways, written in one.
pub(crate) fn composed(name: &str) -> String {
    name.replace("e\u{301}", "\u{e9}")
}
