//! What the program under test has open. Each call is one step.

use super::data::PAGE;
use super::errors::Told;
use super::tree::{Content, NodeId};
use super::{Disk, ROOT, State, Step};
use crate::{Filesystem, Rename, Stat, not_a_file};
use raspbox_protocol::Mtime;
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path};

/// Permissions of a folder that is made on the way to another.
const FOLDER_MODE: u32 = 0o777;

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder(Open);

/// An open file.
#[derive(Debug)]
pub(crate) struct File {
    open: Open,
    at: u64,
    writable: bool,
    told: Told,
}

/// What makes everything durable.
#[derive(Debug)]
pub(crate) struct Written {
    open: Open,
    told: Told,
}

/// What keeps a node from being forgotten.
#[derive(Debug)]
struct Open {
    disk: Disk,
    node: NodeId,
    life: u64,
    /// Tells one from another, for locks.
    id: u64,
}

impl Open {
    fn new(disk: &Disk, state: &mut State, node: NodeId) -> Open {
        state.tree.node_mut(node).open += 1;
        state.next_handle += 1;
        Open {
            disk: disk.clone(),
            node,
            life: state.life,
            id: state.next_handle,
        }
    }

    /// Does one step.
    fn step<T>(
        &self,
        step: Step,
        act: impl FnOnce(&mut State) -> Result<T, Errno>,
    ) -> io::Result<T> {
        self.disk.let_others();
        let mut state = self.disk.state();
        state.step(self.life, step)?;
        Ok(act(&mut state)?)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life != self.life {
            return;
        }
        let node = state.tree.node_mut(self.node);
        if node.locked_by == Some(self.id) {
            node.locked_by = None;
        }
        state.tree.close(self.node);
    }
}

impl Folder {
    /// Opens a folder by its path on the disk.
    pub(crate) fn open(disk: &Disk, path: &Path) -> io::Result<Folder> {
        let mut state = disk.state();
        if state.detached {
            return Err(Errno::NODEV.into());
        }
        let life = state.life;
        state.step(life, Step::Open)?;
        let node = state.tree.folder_at(ROOT, &Path::new(".").join(path))?;
        if state.tree.node(node).denied {
            return Err(Errno::ACCESS.into());
        }
        Ok(Folder(Open::new(disk, &mut state, node)))
    }

    /// The same without a step of its own: a part of another call.
    pub(super) fn beneath(disk: &Disk, path: &Path) -> io::Result<Folder> {
        let mut state = disk.state();
        let node = state.tree.folder_at(ROOT, &Path::new(".").join(path))?;
        Ok(Folder(Open::new(disk, &mut state, node)))
    }

    pub(crate) fn folder_at(&self, path: &Path) -> io::Result<Folder> {
        let open = self.0.step(Step::Open, |state| {
            let node = state.tree.folder_at(self.0.node, path)?;
            Ok(Open::new(&self.0.disk, state, node))
        })?;
        Ok(Folder(open))
    }

    pub(crate) fn stat(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        self.0.step(Step::Other, |state| {
            let found = state.tree.find(self.0.node, name)?;
            Ok(found.map(|id| state.tree.stat(id)))
        })
    }

    pub(crate) fn own_stat(&self) -> io::Result<Stat> {
        self.0
            .step(Step::Other, |state| Ok(state.tree.stat(self.0.node)))
    }

    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        self.0
            .step(Step::Open, |state| state.tree.list(self.0.node))
    }

    pub(crate) fn open_file(&self, name: &OsStr) -> io::Result<File> {
        let file = self.0.step(Step::Open, |state| {
            let node = state.tree.open(self.0.node, name)?;
            Ok(match state.tree.node(node).content {
                Content::File { .. } => Some(self.opened(state, node, false)),
                Content::Folder { .. } | Content::Symlink(_) => None,
            })
        })?;
        file.ok_or_else(not_a_file)
    }

    pub(crate) fn create_file(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        self.create(name, mode, true)
    }

    pub(crate) fn open_or_create_file(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        self.create(name, mode, false)
    }

    /// Opens a file that is there to write and read.
    pub(super) fn open_to_write(&self, name: &OsStr) -> io::Result<File> {
        let file = self.open_file(name)?;
        Ok(File {
            writable: true,
            ..file
        })
    }

    fn create(&self, name: &OsStr, mode: u32, new: bool) -> io::Result<File> {
        self.0.step(Step::Create, |state| {
            let node = state.tree.create(self.0.node, name, mode, new)?;
            Ok(self.opened(state, node, true))
        })
    }

    fn opened(&self, state: &mut State, node: NodeId, writable: bool) -> File {
        File {
            told: state.tree.node(node).errors.sample(),
            open: Open::new(&self.0.disk, state, node),
            at: 0,
            writable,
        }
    }

    pub(crate) fn make_folder(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        self.0.step(Step::Name, |state| {
            state.tree.make_folder(self.0.node, name, mode)
        })
    }

    pub(crate) fn make_symlink(&self, target: &OsStr, name: &OsStr) -> io::Result<()> {
        self.0.step(Step::Name, |state| {
            state.tree.make_symlink(self.0.node, name, target)
        })
    }

    pub(crate) fn read_symlink(&self, name: &OsStr) -> io::Result<OsString> {
        self.0.step(Step::Other, |state| {
            state.tree.read_symlink(self.0.node, name)
        })
    }

    pub(crate) fn rename(
        &self,
        from: &OsStr,
        folder: &Folder,
        to: &OsStr,
        how: Rename,
    ) -> io::Result<()> {
        if !self.0.disk.is(&folder.0.disk) {
            return Err(Errno::XDEV.into());
        }
        self.0.step(Step::Name, |state| {
            if folder.0.life != state.life {
                return Err(Errno::IO);
            }
            state
                .tree
                .rename((self.0.node, from), (folder.0.node, to), how)
        })
    }

    pub(crate) fn remove_file(&self, name: &OsStr) -> io::Result<()> {
        self.0.step(Step::Other, |state| {
            state.tree.remove_file(self.0.node, name)
        })
    }

    pub(crate) fn remove_folder(&self, name: &OsStr) -> io::Result<()> {
        self.0.step(Step::Other, |state| {
            state.tree.remove_folder(self.0.node, name)
        })
    }

    pub(crate) fn set_mtime(&self, name: &OsStr, mtime: Mtime) -> io::Result<()> {
        self.0.step(Step::Other, |state| {
            let found = state.tree.find(self.0.node, name)?;
            state.tree.set_mtime(found.ok_or(Errno::NOENT)?, mtime);
            Ok(())
        })
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.step(Step::Other, |state| {
            state.tree.sync_folder(self.0.node);
            Ok(())
        })
    }

    pub(crate) fn written(&self) -> io::Result<Written> {
        self.0.step(Step::Open, |state| {
            Ok(Written {
                told: state.tree.errors.sample(),
                open: Open::new(&self.0.disk, state, self.0.node),
            })
        })
    }

    pub(crate) fn filesystem(&self) -> io::Result<Filesystem> {
        self.0.step(Step::Other, |state| {
            Ok(Filesystem {
                magic: state.tree.traits.magic,
                free_bytes: state.tree.free_bytes(),
                size_bytes: state.tree.traits.size_bytes,
            })
        })
    }
}

impl Written {
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.open.step(Step::Other, |state| {
            state.tree.sync_all();
            state.tree.errors.tell(&self.told)
        })
    }
}

impl File {
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.open.step(Step::Other, |state| {
            state.tree.sync_file(self.open.node);
            state.tree.node_mut(self.open.node).errors.tell(&self.told)
        })
    }

    pub(crate) fn sync_data(&self) -> io::Result<()> {
        self.sync_all()
    }

    pub(crate) fn set_mtime(&self, mtime: Mtime) -> io::Result<()> {
        self.open.step(Step::Other, |state| {
            state.tree.set_mtime(self.open.node, mtime);
            Ok(())
        })
    }

    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.open.step(Step::Other, |state| {
            state.tree.set_mode(self.open.node, mode)
        })
    }

    pub(crate) fn stat(&self) -> io::Result<Stat> {
        self.open
            .step(Step::Other, |state| Ok(state.tree.stat(self.open.node)))
    }

    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        self.open.step(Step::Other, |state| {
            let node = state.tree.node_mut(self.open.node);
            let free = node.locked_by.is_none_or(|holder| holder == self.open.id);
            if free {
                node.locked_by = Some(self.open.id);
            }
            Ok(free)
        })
    }

    /// Reads at a position; returns how many bytes there were.
    pub(super) fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.open.step(Step::Other, |state| {
            if state.tree.node(self.open.node).spoilt {
                return Err(Errno::IO);
            }
            Ok(state.tree.read(self.open.node, at, buffer))
        })
    }

    /// Writes at a position; returns how many bytes there was space for.
    pub(super) fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.open.disk.state();
        let torn = state.step_or_tear(self.open.life, Step::Write)?;
        if !self.writable {
            return Err(Errno::BADF.into());
        }
        if torn.is_none() {
            return Ok(state.tree.write(self.open.node, at, bytes)?);
        }
        let half = &bytes[..bytes.len() / 2];
        // Whether there was space for it doesn't matter any more.
        let _ = state.tree.write(self.open.node, at, half);
        Err(Errno::IO.into())
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        self.open
            .step(Step::Write, |state| state.tree.set_len(self.open.node, len))
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.stat()?.size)
    }

    /// Which file it is, and which opening of it.
    pub(super) fn ids(&self) -> (NodeId, u64) {
        (self.open.node, self.open.id)
    }

    /// Does something with the disk that isn't a step; `None` where the file is of an earlier life.
    pub(super) fn beside<T>(&self, act: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut state = self.open.disk.state();
        (state.life == self.open.life).then(|| act(&mut state))
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.read_at(self.at, buffer)?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.write_at(self.at, bytes)?;
        self.at += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::Current(by) => (self.at, by),
            SeekFrom::End(by) => (self.len()?, by),
        };
        self.at = from.checked_add_signed(by).ok_or(Errno::INVAL)?;
        Ok(self.at)
    }
}

impl Disk {
    fn is(&self, other: &Disk) -> bool {
        std::sync::Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Makes a folder and those that it is in.
pub(crate) fn make_folders(disk: &Disk, path: &Path) -> io::Result<()> {
    let mut at = Folder::open(disk, Path::new(""))?;
    for component in path.components() {
        let Component::Normal(name) = component else {
            return Err(Errno::INVAL.into());
        };
        match at.make_folder(name, FOLDER_MODE) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        at = at.folder_at(Path::new(name))?;
    }
    Ok(())
}

/// What a disk writes at once, for SQLite.
pub(super) const SECTOR: usize = PAGE;
