//! The actions on one side while they are being decided, in an order in which they can be done.

use crate::plan::Action;
use crate::tree::{Node, Shape};
use raspbox_protocol::{Entry, RelPath};

/// What is to be done on one side, deletes apart from the rest so that all of them come first.
pub(crate) struct Lane<Here, There> {
    deletes: Vec<Action<Here, There>>,
    puts: Vec<Action<Here, There>>,
}

impl<Here, There> Default for Lane<Here, There> {
    fn default() -> Self {
        Lane {
            deletes: Vec::new(),
            puts: Vec::new(),
        }
    }
}

impl<Here: Clone, There: Clone> Lane<Here, There> {
    /// Makes what is there as it is here; neither is a folder.
    pub(crate) fn carry(
        &mut self,
        path: &RelPath,
        here: Option<&Node<Here>>,
        there: Option<&Node<There>>,
    ) {
        match (here, there) {
            (Some(here), there) => self.put(path, here, there),
            (None, Some(there)) => self.delete(path, there),
            (None, None) => {}
        }
    }

    pub(crate) fn put(&mut self, path: &RelPath, here: &Node<Here>, there: Option<&Node<There>>) {
        let path = path.clone();
        let same = there.is_some_and(|there| {
            here.shape()
                .is_some_and(|here| same_digest(there.shape(), here))
        });
        let (entry, here) = known(here);
        let there = there.map(|there| known(there).1);
        self.puts.push(match (same, there) {
            (true, Some(there)) => Action::SetMeta {
                path,
                entry,
                here,
                there,
            },
            (true | false, replaces) => Action::Put {
                path,
                entry,
                here,
                replaces,
            },
        });
    }

    /// Undoes the put of a folder into which nothing was put.
    pub(crate) fn take_back(&mut self, path: &RelPath) {
        let put = self.puts.pop().expect("the folder was put just before");
        debug_assert_eq!(put.path(), path, "nothing was put into the folder");
    }

    pub(crate) fn delete(&mut self, path: &RelPath, there: &Node<There>) {
        let (entry, there) = known(there);
        self.deletes.push(Action::Delete {
            path: path.clone(),
            entry,
            there,
        });
    }

    /// Deletes a subtree that is fully known, children first.
    pub(crate) fn delete_tree(&mut self, path: &RelPath, there: &Node<There>) {
        if let Node::Folder(folder, _) = there {
            for (name, node) in &folder.children {
                let path = RelPath::child(Some(path), name)
                    .expect("a subtree with a bad name counts as unknown");
                self.delete_tree(&path, node);
            }
        }
        self.delete(path, there);
    }

    pub(crate) fn in_order(mut self) -> Vec<Action<Here, There>> {
        self.deletes.append(&mut self.puts);
        self.deletes
    }
}

/// Whether both are files with the same content, executable or not.
pub(crate) fn same_digest(a: Option<Shape<'_>>, b: Shape<'_>) -> bool {
    match (a, b) {
        (Some(Shape::File(a, _)), Shape::File(b, _)) => a == b,
        (Some(Shape::File(..)), Shape::Folder | Shape::Symlink(_))
        | (None | Some(Shape::Folder | Shape::Symlink(_)), _) => false,
    }
}

/// The entry and the tag of a node that was found to be known.
pub(crate) fn known<T: Clone>(node: &Node<T>) -> (Entry, T) {
    node.entry()
        .zip(node.tag().cloned())
        .expect("nothing is decided about what is unknown")
}
