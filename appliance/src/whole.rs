//! Files that root writes: whole or not at all, through no symlink, also where somebody else may write in
//! the folder.

use nix::fcntl::OFlag;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A moment of a replacement after which the power may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something is in the new file.
    Begun,
    /// All of it is, durably.
    Synced,
    /// It has the name.
    Renamed,
}

/// What tests do between steps; an error is the end of everything.
pub(crate) type Between<'a> = &'a dyn Fn(Step) -> io::Result<()>;

/// Replaces a file durably, as nobody but those of `mode` may read it.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    write_between(path, content, mode, &|_| Ok(()))
}

/// The same, with something done between its steps.
pub(crate) fn write_between(
    path: &Path,
    content: &[u8],
    mode: u32,
    between: Between<'_>,
) -> io::Result<()> {
    let fresh = beside(path);
    // One of an attempt that was cut; or not ours at all.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)?;
    let (first, rest) = content.split_at(content.len() / 2);
    file.write_all(first)?;
    between(Step::Begun)?;
    file.write_all(rest)?;
    // Whatever the umask took away. FAT has no such modes.
    let _ = file.set_permissions(Permissions::from_mode(mode));
    file.sync_all()?;
    between(Step::Synced)?;
    fs::rename(&fresh, path)?;
    between(Step::Renamed)?;
    File::open(path.parent().expect("a file is in a folder"))?.sync_all()
}

/// Replaces a file where its content is another; spares the card.
pub(crate) fn write_changed(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    match read(path, content.len() as u64 + 1)? {
        Some(now) if now == content => Ok(()),
        _ => write(path, content, mode),
    }
}

/// Reads a file that is a file, up to a limit; `None` where there is none.
pub(crate) fn read(path: &Path, limit_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let opened = OpenOptions::new()
        .read(true)
        // A pipe that somebody put there would be waited for.
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut content = Vec::new();
    file.take(limit_bytes).read_to_end(&mut content)?;
    Ok(Some(content))
}

fn beside(path: &Path) -> PathBuf {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    fresh.into()
}

#[cfg(test)]
mod tests {
    use super::{Step, read, write, write_between};
    use std::fs;
    use std::io;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_is_there_is_the_old_or_the_new() {
        for (cut, expect) in [
            (Step::Begun, "old"),
            (Step::Synced, "old"),
            (Step::Renamed, "new"),
        ] {
            let temp = tempfile::tempdir().unwrap();
            let path = temp.path().join("a");
            fs::write(&path, "old").unwrap();
            let between = |step| {
                if step == cut {
                    Err(io::Error::other("cut"))
                } else {
                    Ok(())
                }
            };
            assert!(write_between(&path, b"new", 0o600, &between).is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), expect, "{cut:?}");
            write(&path, b"newer", 0o600).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "newer");
            assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn no_symlink_leads_elsewhere() {
        let temp = tempfile::tempdir().unwrap();
        let (path, other) = (temp.path().join("a"), temp.path().join("other"));
        fs::write(&other, "mine").unwrap();
        symlink(&other, temp.path().join("a.new")).unwrap();
        symlink(&other, &path).unwrap();
        assert!(read(&path, 9).is_err());
        write(&path, b"x", 0o644).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "mine");
        assert_eq!(read(&path, 9).unwrap().unwrap(), b"x");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o644
        );
        assert_eq!(read(&temp.path().join("none"), 9).unwrap(), None);
        assert_eq!(read(&other, 2).unwrap().unwrap(), b"mi");
        assert!(read(temp.path(), 9).is_err());
    }
}
