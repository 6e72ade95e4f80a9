//! One number for what the folder looked like when a round found that nothing was to be done: where it looks the same
//! and the remote's journal is where it was, nothing is to be done now, and none of what is remembered has to be
//! read to know that. (With it, that takes hardly longer than `find`; without, it is three rows of the state for
//! each file.)
//!
//! It goes by what a scan goes by: names, kinds, and of files and symlinks the size, the times and the number. So it
//! is made only where a scan would believe all of these for as long as they stay the same. Whatever is written to
//! the state breaks it ([`crate::state::State::write`]), since it is about the trees as they were then.

use crate::disk;
use crate::ignores::Rules;
use crate::local::Workspace;
use crate::scan::{LocalTree, Seen, is_settled};
use crate::state::Print;
use raspbox_beneath::{Folder as OpenFolder, Kind};
use raspbox_core::tree::Node;
use raspbox_protocol::digest::Hasher;
use raspbox_protocol::{Cursor, Digest, Mtime, PathError, RelPath};
use std::io;

/// As much as is hashed at once, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Of which program it is: another one may find something to say of the same trees.
const BY: &str = concat!("raspbox ", env!("CARGO_PKG_VERSION"), ", seal 1");

/// What a seal is about besides the folder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) rules: &'a Rules,
    /// Where the remote's journal is.
    pub(crate) cursor: Cursor,
}

/// The seal of the tree that a scan found at `now`. `None` where something in it would be looked at again, however it
/// looks, or isn't known.
pub(crate) fn of_tree(tree: &LocalTree, about: About<'_>, now: Mtime) -> Option<Digest> {
    let mut seal = Seal::new(about);
    seal.tree(tree, now)?;
    Some(seal.finish())
}

/// The seal of the folder as it looks now. `None` where something can't be known, or was never sealed.
pub(crate) fn of_folder(about: About<'_>) -> io::Result<Option<Digest>> {
    let mut seal = Seal::new(about);
    let top = about.workspace.top().folder(None)?;
    let known = Walk(about).folder(&top, None, &mut seal)?;
    Ok(known.map(|()| seal.finish()))
}

/// What is sealed of an entry besides its name.
enum Look {
    File { print: Print, executable: bool },
    Symlink(Print),
    Folder,
}

struct Seal {
    hasher: Hasher,
    piece: Vec<u8>,
    keeps_modes: bool,
}

impl Seal {
    /// One in which nothing stands yet but what it is about.
    fn new(about: About<'_>) -> Seal {
        let mut seal = Seal {
            hasher: Hasher::new(),
            piece: Vec::with_capacity(PIECE_BYTES),
            keeps_modes: about.workspace.keeps_modes(),
        };
        seal.text(BY);
        seal.text(&about.cursor.to_string());
        about.rules.patterns().for_each(|line| seal.text(line));
        seal.piece.push(u8::from(seal.keeps_modes));
        seal
    }

    fn tree(&mut self, tree: &LocalTree, now: Mtime) -> Option<()> {
        for (name, node) in &tree.children {
            match node {
                Node::File(file, Seen { print, settled }) => {
                    settled.then_some(())?;
                    let executable = file.executable;
                    let print = *print;
                    self.entry(name, &Look::File { print, executable });
                }
                Node::Symlink(_, Seen { print, .. }) => {
                    is_settled(print, now).then_some(())?;
                    self.entry(name, &Look::Symlink(*print));
                }
                Node::Folder(folder, _) => {
                    self.entry(name, &Look::Folder);
                    self.tree(folder, now)?;
                    self.leave();
                }
                Node::Unknown(_) => return None,
            }
        }
        Some(())
    }

    /// What stands in the folder that was entered last. Folders are entered with it.
    fn entry(&mut self, name: &str, look: &Look) {
        let (kind, print) = match look {
            Look::File { print, executable } => {
                let executable = *executable && self.keeps_modes;
                (1 + u8::from(executable), Some(print))
            }
            Look::Symlink(print) => (3, Some(print)),
            Look::Folder => (4, None),
        };
        self.piece.push(kind);
        self.text(name);
        if let Some(print) = print {
            self.piece.extend(print.size.to_le_bytes());
            self.piece.extend(print.mtime.to_le_bytes());
            self.piece.extend(print.ctime.to_le_bytes());
            self.piece.extend(print.inode.to_le_bytes());
        }
    }

    fn leave(&mut self) {
        self.piece.push(0);
    }

    fn text(&mut self, text: &str) {
        self.piece.extend(text.len().to_le_bytes());
        self.piece.extend(text.as_bytes());
        if self.piece.len() >= PIECE_BYTES {
            self.hasher.update(&self.piece);
            self.piece.clear();
        }
    }

    fn finish(mut self) -> Digest {
        self.hasher.update(&self.piece);
        self.hasher.digest()
    }
}

/// Looks at the folder as a scan does.
struct Walk<'a>(About<'a>);

impl Walk<'_> {
    fn folder(
        &self,
        folder: &OpenFolder,
        at: Option<&RelPath>,
        seal: &mut Seal,
    ) -> io::Result<Option<()>> {
        let About {
            workspace, rules, ..
        } = self.0;
        let mut entries = Vec::new();
        for shown in folder.names()? {
            let Some(name) = disk::known_name(workspace.disk(), &shown) else {
                return Ok(None);
            };
            let path = match RelPath::child(at, &name) {
                Ok(path) => path,
                // Our own folder is nobody's business.
                Err(PathError::Reserved) => continue,
                // It is said in every round.
                Err(_) => return Ok(None),
            };
            let Some(stat) = folder.stat(&shown)? else {
                continue;
            };
            if rules.skip(&path, stat.kind == Kind::Folder) {
                continue;
            }
            let look = match stat.kind {
                Kind::File => Look::File {
                    print: Print::from(&stat),
                    executable: stat.executable,
                },
                Kind::Symlink => Look::Symlink(Print::from(&stat)),
                Kind::Folder => Look::Folder,
                Kind::Special => return Ok(None),
            };
            entries.push((path, look));
        }
        // As a tree has them.
        entries.sort_unstable_by(|(a, _), (b, _)| a.name().cmp(b.name()));
        for (path, look) in entries {
            seal.entry(path.name(), &look);
            if let Look::Folder = look {
                let below = workspace.top().folder(Some(&path))?;
                if self.folder(&below, Some(&path), seal)?.is_none() {
                    return Ok(None);
                }
                seal.leave();
            }
        }
        Ok(Some(()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Look, Seal};
    use crate::state::Print;
    use raspbox_protocol::digest::Hasher;

    /// Its ctime doesn't tell where the disk was mounted otherwise.
    #[test]
    fn a_bit_counts_where_the_disk_keeps_it() {
        let seal = |keeps_modes, executable| {
            let mut seal = Seal {
                hasher: Hasher::new(),
                piece: Vec::new(),
                keeps_modes,
            };
            let print = Print::default();
            seal.entry("f", &Look::File { print, executable });
            seal.finish()
        };
        assert_ne!(seal(true, true), seal(true, false));
        assert_eq!(seal(false, true), seal(false, false));
    }
}
