//! Files that were hashed, found by their numbers: where a folder was moved, they have other paths.

use super::LocalTree;
use crate::state::{Hashed, Print};
use raspbox_core::tree::Node;
use raspbox_protocol::Digest;

/// Files whose hashes may be believed, in the order of their numbers: there may be a million of them, and a map has
/// room for twice as many.
#[derive(Debug, Default)]
pub struct ByNumber(Vec<(Print, Digest)>);

impl ByNumber {
    /// Those of a tree.
    #[must_use]
    pub fn of_tree(tree: &LocalTree) -> ByNumber {
        let mut all = Vec::new();
        add_settled(tree, &mut all);
        ByNumber::in_order(all)
    }

    /// The hash of the file that looks just so.
    #[must_use]
    pub fn get(&self, print: &Print) -> Option<Digest> {
        let first = (self.0).partition_point(|(known, _)| known.inode < print.inode);
        let same_number =
            (self.0[first..].iter()).take_while(|(known, _)| known.inode == print.inode);
        let mut alike = same_number.filter(|(known, _)| known == print);
        alike.next().map(|(_, digest)| *digest)
    }

    fn in_order(mut all: Vec<(Print, Digest)>) -> ByNumber {
        all.sort_unstable_by_key(|(print, _)| print.inode);
        ByNumber(all)
    }
}

fn add_settled(tree: &LocalTree, all: &mut Vec<(Print, Digest)>) {
    for node in tree.children.values() {
        match node {
            Node::File(file, seen) if seen.settled => all.push((seen.print, file.digest)),
            Node::Folder(folder, _) => add_settled(folder, all),
            Node::File(..) | Node::Symlink(..) | Node::Unknown(_) => {}
        }
    }
}

impl FromIterator<Hashed> for ByNumber {
    /// Of settled ones.
    fn from_iter<T: IntoIterator<Item = Hashed>>(settled: T) -> ByNumber {
        let all = settled
            .into_iter()
            .map(|hashed| (hashed.print, hashed.digest));
        ByNumber::in_order(all.collect())
    }
}
