//! What a plan takes away on the local side, so that somebody can see to it that the other side keeps it.
//!
//! A plan follows what it finds there. Where that was done on the drive itself, with another computer or
//! by a program on the appliance, no version of the old content was made, and the local copy may be the
//! last one. Which contents the other side keeps it must be asked; what it neither keeps nor takes
//! stays here.

use crate::plan::Action;
use crate::tree::{Folder, Node};
use raspbox_protocol::{Entry, File, RelPath};
use std::collections::BTreeSet;

/// The files whose contents are taken away: replaced, deleted, or in the way of something of another
/// kind. What moves stays, what is only made executable too, and symlinks have no content.
pub fn displaced<Here, There>(
    actions: &[Action<Here, There>],
    there: &Folder<There>,
) -> Vec<(RelPath, File)> {
    let file = |action: &Action<Here, There>| match action {
        Action::Put {
            path,
            replaces: Some(_),
            ..
        } => match there.get(path) {
            Some(Node::File(file, _)) => Some((path.clone(), *file)),
            Some(Node::Folder(..) | Node::Symlink(..) | Node::Unknown(_)) | None => None,
        },
        Action::Delete {
            path,
            entry: Entry::File(file),
            ..
        } => Some((path.clone(), *file)),
        Action::Put { replaces: None, .. }
        | Action::Delete {
            entry: Entry::Folder | Entry::Symlink(_),
            ..
        }
        | Action::SetMeta { .. }
        | Action::Move { .. } => None,
    };
    actions.iter().filter_map(file).collect()
}

/// Leaves out what can't be done while files stay at these paths: what would take them away, the folders
/// that they are in, and what would come in their place or below it.
pub fn hold_back<Here, There>(actions: &mut Vec<Action<Here, There>>, staying: &BTreeSet<RelPath>) {
    let mut above = BTreeSet::new();
    for path in staying {
        let mut parent = path.parent();
        while let Some(folder) = parent {
            parent = folder.parent();
            if !above.insert(folder) {
                break;
            }
        }
    }
    let is_free = |path: &RelPath| {
        let mut at = Some(path.clone());
        while let Some(this) = at {
            if staying.contains(&this) {
                return false;
            }
            at = this.parent();
        }
        !above.contains(path)
    };
    actions.retain(|action| match action {
        Action::Put { path, .. } | Action::SetMeta { path, .. } | Action::Delete { path, .. } => {
            is_free(path)
        }
        // Nothing moves to or from where a file is deleted; should it ever, it waits.
        Action::Move { from, to, .. } => is_free(from) && is_free(to),
    });
}
