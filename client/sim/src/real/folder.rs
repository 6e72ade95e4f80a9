//! A folder of this computer, for somebody's hands.

use crate::place::{Place, Tree};
use nix::fcntl::AT_FDCWD;
use nix::libc::O_NOFOLLOW;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use raspbox_beneath::sim::Node;
use raspbox_protocol::Mtime;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    /// Where a path is; none of the folders above it may be a symlink.
    fn at(&self, path: &str) -> io::Result<PathBuf> {
        let mut at = self.0.clone();
        let mut names = path.split('/').peekable();
        while let Some(name) = names.next() {
            at.push(name);
            if names.peek().is_some() && !at.symlink_metadata()?.is_dir() {
                return Err(ErrorKind::NotADirectory.into());
            }
        }
        Ok(at)
    }
}

impl Place for Folder {
    fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        collect(&self.0, "", &mut tree);
        tree
    }

    fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut options = File::options();
        options.create(true).write(true).truncate(true);
        let mut file = options.custom_flags(O_NOFOLLOW).open(self.at(path)?)?;
        file.write_all(content)
    }

    fn append(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut options = File::options();
        options.create(true).append(true).custom_flags(O_NOFOLLOW);
        options.open(self.at(path)?)?.write_all(content)
    }

    fn remove_all(&self, path: &str) -> io::Result<()> {
        let at = match self.at(path) {
            Err(error) if is_absent(&error) => return Ok(()),
            at => at?,
        };
        match at.symlink_metadata() {
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(error),
            Ok(stat) if stat.is_dir() => fs::remove_dir_all(at),
            Ok(_) => fs::remove_file(at),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from)?, self.at(to)?)
    }

    fn make_folders(&self, path: &str) -> io::Result<()> {
        for end in path
            .match_indices('/')
            .map(|(at, _)| at)
            .chain([path.len()])
        {
            let at = self.at(&path[..end])?;
            match fs::create_dir(&at) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if !at.symlink_metadata()?.is_dir() {
                        return Err(error);
                    }
                }
                made => made?,
            }
        }
        Ok(())
    }

    fn symlink(&self, target: &str, path: &str) -> io::Result<()> {
        symlink(target, self.at(path)?)
    }

    fn set_mtime(&self, path: &str, mtime: Mtime) -> io::Result<()> {
        let (seconds, rest) = (mtime.0.div_euclid(NANOS), mtime.0.rem_euclid(NANOS));
        let time = TimeSpec::new(seconds, rest);
        let flags = UtimensatFlags::NoFollowSymlink;
        Ok(utimensat(AT_FDCWD, &self.at(path)?, &time, &time, flags)?)
    }

    fn set_executable(&self, path: &str, on: bool) -> io::Result<()> {
        let at = self.at(path)?;
        let mode = at.symlink_metadata()?.permissions().mode();
        let mode = if on { mode | 0o111 } else { mode & !0o111 };
        fs::set_permissions(at, fs::Permissions::from_mode(mode))
    }

    fn exists(&self, path: &str) -> bool {
        self.at(path).is_ok_and(|at| at.symlink_metadata().is_ok())
    }
}

const NANOS: i64 = 1_000_000_000;

/// Copies everything in a folder into another, times and bits included.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (from, to) = {
            let entry = entry?;
            (entry.path(), to.join(entry.file_name()))
        };
        let stat = from.symlink_metadata()?;
        if stat.is_dir() {
            copy(&from, &to)?;
        } else if stat.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
        let time = TimeSpec::new(stat.mtime(), stat.mtime_nsec());
        utimensat(AT_FDCWD, &to, &time, &time, UtimensatFlags::NoFollowSymlink)?;
    }
    Ok(())
}

/// What goes away while it is looked at isn't there: a process may be at work.
fn collect(folder: &Path, above: &str, tree: &mut Tree) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = format!("{above}{}", entry.file_name().to_string_lossy());
        let at = entry.path();
        let Ok(stat) = at.symlink_metadata() else {
            continue;
        };
        if stat.is_dir() {
            collect(&at, &format!("{path}/"), tree);
            tree.insert(path, Node::Folder);
        } else if let Ok(node) = node(&at, &stat) {
            tree.insert(path, node);
        }
    }
}

fn node(at: &Path, stat: &Metadata) -> io::Result<Node> {
    if stat.is_symlink() {
        let target = fs::read_link(at)?;
        return Ok(Node::Symlink(target.to_string_lossy().into_owned()));
    }
    Ok(Node::File {
        content: fs::read(at)?,
        mtime: Mtime(stat.mtime() * NANOS + stat.mtime_nsec()),
        executable: stat.permissions().mode() & 0o100 != 0,
    })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
