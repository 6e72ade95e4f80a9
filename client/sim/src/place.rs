//! What people do to files, wherever these are: the same hands work on a simulated disk and in a
//! folder of this computer.

use crate::scenario::{Edit, How};
use raspbox_beneath::sim::Node;
use raspbox_protocol::{Digest, Mtime};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// Everything of ours on a disk.
pub(crate) const OWN: &str = ".raspbox";

/// What an editor puts behind a name for what it is just writing.
pub(crate) const BESIDE: &str = ".new~";

/// Longer than a tick of any kernel's clock. Within one nothing at all could tell two writes apart
/// where somebody also sets the time back.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// What stands below a folder, by path.
pub(crate) type Tree = BTreeMap<String, Node>;

/// The digests of the files below a folder, by path.
pub(crate) type Files = BTreeMap<String, Digest>;

/// A folder as a program without a clue works in it. Paths are relative, with `/`; symlinks are not
/// followed.
///
/// # Errors
/// As the system's calls have them; so for all methods.
pub(crate) trait Place {
    /// Everything in it, raspbox's own included.
    fn tree(&self) -> Tree;
    /// Writes a file in place, making it where there is none.
    fn write(&self, path: &str, content: &[u8]) -> io::Result<()>;
    /// Writes behind what is in a file, making it where there is none.
    fn append(&self, path: &str, content: &[u8]) -> io::Result<()>;
    /// Removes whatever stands there, with all that is in it; nothing where nothing does.
    fn remove_all(&self, path: &str) -> io::Result<()>;
    /// Gives something another name, and replaces what is there where that can be.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes a folder, and those that it is in; nothing where it is there.
    fn make_folders(&self, path: &str) -> io::Result<()>;
    /// Makes a symlink.
    fn symlink(&self, target: &str, path: &str) -> io::Result<()>;
    /// Sets when something was last changed.
    fn set_mtime(&self, path: &str, mtime: Mtime) -> io::Result<()>;
    /// Sets whether a file may be executed.
    fn set_executable(&self, path: &str, on: bool) -> io::Result<()>;
    /// Whether anything stands there.
    fn exists(&self, path: &str) -> bool;
}

/// Does an edit as programs do it. Returns whether it could be done.
pub(crate) fn carry_out(place: &impl Place, edit: &Edit) -> bool {
    edited(place, edit).is_ok()
}

fn edited(place: &impl Place, edit: &Edit) -> io::Result<()> {
    match edit {
        Edit::Write {
            path,
            content,
            size,
            how,
        } => {
            make_parents(place, path)?;
            let content = content_of(*content, *size);
            match how {
                How::InPlace => place.write(path, &content),
                How::Rename => write_new_and_rename(place, path, &content),
                How::Append => place.append(path, &content),
                How::KeepTime => write_keeping_time(place, path, &content),
            }
        }
        Edit::Remove(path) => {
            must_exist(place, path)?;
            place.remove_all(path)
        }
        Edit::Rename(from, to) => {
            must_exist(place, from)?;
            make_parents(place, to)?;
            place.rename(from, to)
        }
        Edit::MakeFolder(path) => place.make_folders(path),
        Edit::Age(path, seconds) => {
            let then = Mtime(raspbox_beneath::now().0 - seconds * 1_000_000_000);
            place.set_mtime(path, then)
        }
        Edit::Executable(path, on) => match place.tree().get(path) {
            Some(Node::File { .. }) => place.set_executable(path, *on),
            _ => Err(io::ErrorKind::NotFound.into()),
        },
        Edit::Symlink(path, target) => {
            make_parents(place, path)?;
            place.symlink(target, path)
        }
        Edit::Restore(..) => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// The paths that an edit is about.
pub(crate) fn touched(edit: &Edit) -> Vec<&str> {
    match edit {
        Edit::Rename(from, to) => vec![from, to],
        Edit::Write { path, .. }
        | Edit::Remove(path)
        | Edit::MakeFolder(path)
        | Edit::Age(path, _)
        | Edit::Executable(path, _)
        | Edit::Symlink(path, _)
        | Edit::Restore(path, _) => vec![path],
    }
}

/// A content that says which one it is.
pub(crate) fn content_of(number: u32, size: usize) -> Vec<u8> {
    let head = format!("{number:06}:");
    let mut bytes = head.into_bytes();
    let mut state = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < size {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.push(state.to_le_bytes()[6]);
    }
    bytes.truncate(size);
    bytes
}

/// A tree without what is ours.
pub(crate) fn visible(mut tree: Tree) -> Tree {
    tree.retain(|path, _| path != OWN && !path.starts_with(".raspbox/"));
    tree
}

/// A drive's tree without what is ours there, but for contents that are kept: what is staged was never confirmed.
pub(crate) fn confirmed(mut tree: Tree) -> Tree {
    let kept = [".raspbox/versions", ".raspbox/staging.broken"];
    tree.retain(|path, _| {
        !path.starts_with(".raspbox") || kept.iter().any(|kept| path.starts_with(kept))
    });
    tree
}

/// The files of a tree.
pub(crate) fn files_of(tree: Tree) -> Files {
    let file = |(path, node)| digest(&node).map(|digest| (path, digest));
    tree.into_iter().filter_map(file).collect()
}

/// The digest of a file.
pub(crate) fn digest(node: &Node) -> Option<Digest> {
    match node {
        Node::File { content, .. } => Some(Digest::of(content)),
        Node::Folder | Node::Symlink(_) => None,
    }
}

/// What stands there, for messages.
pub(crate) fn describe(node: Option<&Node>) -> String {
    match node {
        None => "nothing".into(),
        Some(Node::Folder) => "a folder".into(),
        Some(Node::Symlink(target)) => format!("a symlink to {target}"),
        Some(Node::File {
            content,
            executable,
            ..
        }) => {
            let head = String::from_utf8_lossy(&content[..content.len().min(7)]).into_owned();
            let bit = if *executable { ", executable" } else { "" };
            format!("a file of {} bytes '{head}'{bit}", content.len())
        }
    }
}

fn must_exist(place: &impl Place, path: &str) -> io::Result<()> {
    match place.exists(path) {
        true => Ok(()),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

fn make_parents(place: &impl Place, path: &str) -> io::Result<()> {
    match path.rsplit_once('/') {
        Some((folder, _)) => place.make_folders(folder),
        None => Ok(()),
    }
}

/// Writes a new file beside and renames it over the old one, as editors do.
fn write_new_and_rename(place: &impl Place, path: &str, content: &[u8]) -> io::Result<()> {
    let beside = format!("{path}{BESIDE}");
    place.write(&beside, content)?;
    let renamed = place.rename(&beside, path);
    if renamed.is_err() {
        place.remove_all(&beside)?;
    }
    renamed
}

/// Writes a file in place, and sets its time back to what it was.
fn write_keeping_time(place: &impl Place, path: &str, content: &[u8]) -> io::Result<()> {
    let old = match place.tree().get(path) {
        Some(Node::File { mtime, .. }) => Some(*mtime),
        _ => None,
    };
    place.write(path, content)?;
    match old {
        Some(old) => place.set_mtime(path, old),
        None => Ok(()),
    }
}
