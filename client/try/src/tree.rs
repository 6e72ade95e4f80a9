//! Trees of files: making, copying and comparing them.

use anyhow::{Context, bail};
use raspbox_protocol::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What stands at a path, as far as sync keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file: length, mtime in whole seconds, executable bit, hash of the content.
    File(u64, i64, bool, Digest),
    /// A folder.
    Folder,
    /// A symlink's target.
    Symlink(PathBuf),
}

/// How much there is in a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Files and symlinks.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// Everything below a folder, but for raspbox's own.
///
/// # Errors
/// Where something can't be read.
pub fn read(root: &Path) -> anyhow::Result<BTreeMap<PathBuf, Entry>> {
    let mut found = BTreeMap::new();
    walk(root, &mut |path, metadata| {
        let relative = path.strip_prefix(root).expect("below the root").to_owned();
        let entry = if metadata.is_dir() {
            Entry::Folder
        } else if metadata.is_symlink() {
            Entry::Symlink(fs::read_link(path)?)
        } else {
            let digest = Digest::of(&fs::read(path)?);
            let executable = metadata.permissions().mode() & 0o100 != 0;
            Entry::File(metadata.len(), metadata.mtime(), executable, digest)
        };
        found.insert(relative, entry);
        Ok(())
    })?;
    Ok(found)
}

/// Makes sure that two trees are the same, and returns how much they hold.
///
/// # Errors
/// The first differences.
pub fn compare(a: &Path, b: &Path) -> anyhow::Result<Size> {
    let (left, right) = (read(a)?, read(b)?);
    let differences: Vec<String> = left
        .keys()
        .chain(right.keys().filter(|path| !left.contains_key(*path)))
        .filter(|path| left.get(*path) != right.get(*path))
        .take(5)
        .map(|path| {
            format!(
                "{}: {:?} and {:?}",
                path.display(),
                left.get(path),
                right.get(path)
            )
        })
        .collect();
    if !differences.is_empty() {
        bail!(
            "{} and {} differ:\n{}",
            a.display(),
            b.display(),
            differences.join("\n")
        );
    }
    Ok(size(&left))
}

fn size(tree: &BTreeMap<PathBuf, Entry>) -> Size {
    tree.values()
        .fold(Size::default(), |size, entry| match entry {
            Entry::File(bytes, ..) => Size {
                files: size.files + 1,
                bytes: size.bytes + bytes,
            },
            Entry::Symlink(_) => Size {
                files: size.files + 1,
                ..size
            },
            Entry::Folder => size,
        })
}

/// Copies everything in a folder into another one, times, bits and symlinks included. Sockets,
/// pipes and devices are left out, and what can't be read is said.
///
/// # Errors
/// Where something can't be written.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<Size> {
    let mut size = Size::default();
    walk(from, &mut |path, metadata| {
        let target = to.join(path.strip_prefix(from).expect("below the root"));
        if metadata.is_dir() {
            fs::create_dir_all(&target)?;
        } else if metadata.is_symlink() {
            symlink(fs::read_link(path)?, &target)?;
            size.files += 1;
        } else if metadata.is_file() {
            if let Err(error) = fs::copy(path, &target) {
                eprintln!("left out {}: {error}", path.display());
                return Ok(());
            }
            let file = fs::File::options().append(true).open(&target);
            if let (Ok(file), Ok(modified)) = (file, metadata.modified()) {
                file.set_modified(modified)?;
            }
            size.files += 1;
            size.bytes += metadata.len();
        }
        Ok(())
    })?;
    Ok(size)
}

/// Makes a small tree with a bit of everything.
///
/// # Errors
/// Where it can't be written.
pub fn make_sample(root: &Path) -> anyhow::Result<()> {
    let write = |path: &str, content: &[u8]| -> anyhow::Result<()> {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("below the root")?)?;
        Ok(fs::write(path, content)?)
    };
    write(
        "notes.txt",
        b"Edit me, and see me change on the other workstation.\n",
    )?;
    write(
        "letters/2026/grandma.txt",
        "Liebe Großmutter, …\n".as_bytes(),
    )?;
    write("photos/holiday.raw", &vec![0x5a; 3 << 20])?;
    write("bin/hello", b"#!/bin/sh\necho hello\n")?;
    fs::set_permissions(root.join("bin/hello"), fs::Permissions::from_mode(0o755))?;
    fs::create_dir_all(root.join("an empty folder"))?;
    symlink("notes.txt", root.join("a symlink"))?;
    for number in 0..200 {
        write(
            &format!("many/{:02}/file {number}", number / 20),
            number.to_string().as_bytes(),
        )?;
    }
    Ok(())
}

fn walk(
    folder: &Path,
    visit: &mut impl FnMut(&Path, &fs::Metadata) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == ".raspbox") {
            continue;
        }
        let metadata = path.symlink_metadata()?;
        visit(&path, &metadata)?;
        if metadata.is_dir() {
            walk(&path, visit)?;
        }
    }
    Ok(())
}
