//! Pendrives as image files: made, looked into, checked and broken on this computer without mounting.

use crate::tool::{output, run, shown, text, tool};
use anyhow::{Context, bail, ensure};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub(crate) const MIB: u64 = 1 << 20;

/// Where the only partition begins, as on sticks that are sold.
const PARTITION_AT: u64 = MIB;

/// What is on a stick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filesystem {
    /// Linux's own.
    Ext4,
    /// What large sticks are sold with.
    Exfat,
    /// FAT32: what small sticks are sold with.
    Fat,
}

impl Filesystem {
    /// Each of them, for tests that hold for all.
    pub const ALL: [Filesystem; 3] = [Filesystem::Ext4, Filesystem::Exfat, Filesystem::Fat];
}

/// A pendrive with one partition. The image goes when it is dropped; a machine in which it is plugged in
/// keeps it as long as it runs.
#[derive(Debug)]
pub struct Stick {
    filesystem: Option<Filesystem>,
    image: PathBuf,
    _dir: TempDir,
}

/// What a file system's own checker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// It finds nothing to mend. FAT is marked as in use while it is mounted, and that counts. (exFAT is
    /// marked as well, but its checker doesn't mind.)
    pub clean: bool,
    /// In its own words.
    pub said: String,
}

impl Stick {
    /// A new one of so many MiB; FAT32 takes 40 and more.
    ///
    /// # Errors
    /// Where it can't be made.
    pub fn new(mib: u64, filesystem: Filesystem, label: &str) -> anyhow::Result<Stick> {
        let mut stick = Stick::unformatted(mib)?;
        stick.filesystem = Some(filesystem);
        stick.change(|partition| {
            let path = text(partition)?;
            let mut mkfs = match filesystem {
                Filesystem::Ext4 => tool("mke2fs"),
                Filesystem::Exfat => tool("mkfs.exfat"),
                Filesystem::Fat => tool("mkfs.vfat"),
            };
            match filesystem {
                Filesystem::Ext4 => mkfs.args(["-q", "-F", "-t", "ext4", "-L", label, path]),
                Filesystem::Exfat => mkfs.args(["-L", label, path]),
                Filesystem::Fat => mkfs.args(["-F32", "-n", label, path]),
            };
            run(&mut mkfs)
        })?;
        Ok(stick)
    }

    /// One with a partition, and nothing in it.
    ///
    /// # Errors
    /// Where it can't be made.
    pub fn unformatted(mib: u64) -> anyhow::Result<Stick> {
        let dir = tempfile::tempdir()?;
        let image = dir.path().join("stick");
        File::create(&image)?.set_len(mib * MIB)?;
        let table = dir.path().join("table");
        std::fs::write(
            &table,
            format!("label: dos\nstart={}, type=83\n", PARTITION_AT / 512),
        )?;
        run(tool("sfdisk")
            .args(["--quiet", text(&image)?])
            .stdin(File::open(&table)?))?;
        Ok(Stick {
            filesystem: None,
            image,
            _dir: dir,
        })
    }

    /// The whole stick, partition table and all.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Has its file system looked over by its own checker, and changes nothing. ext4's journal is played first,
    /// as when it is mounted.
    ///
    /// # Errors
    /// Where there is no file system, or no checker.
    pub fn check(&self) -> anyhow::Result<Check> {
        self.look(|partition| {
            let mut fsck = self.fsck()?;
            let output = output(fsck.arg("-n").arg(partition))?;
            let said = format!("{}{}", shown(&output.stdout), shown(&output.stderr));
            Ok(Check {
                clean: output.status.success(),
                said,
            })
        })
    }

    /// Has its file system mended by its own checker, as thoroughly as it can: what it said.
    ///
    /// # Errors
    /// Where there is no file system, or it is beyond that.
    pub fn mend(&self) -> anyhow::Result<String> {
        self.change(|partition| {
            let mut fsck = self.fsck()?;
            let output = output(fsck.arg("-y").arg(partition))?;
            let said = format!("{}{}", shown(&output.stdout), shown(&output.stderr));
            // fsck(8): 1 is "errors corrected".
            ensure!(
                matches!(output.status.code(), Some(0 | 1)),
                "cannot be mended: {said}"
            );
            Ok(said)
        })
    }

    /// The content of a file on it, by its path from the top.
    ///
    /// # Errors
    /// Where there is none; and for exFAT, of which no program here can read a file: mount it in a machine.
    pub fn read(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        self.look(|partition| {
            let found = match self.filesystem {
                Some(Filesystem::Ext4) => output(
                    tool("debugfs")
                        .args(["-R", &format!("cat \"/{path}\"")])
                        .arg(partition),
                )?,
                Some(Filesystem::Fat) => output(
                    tool("mtype")
                        .arg("-i")
                        .arg(partition)
                        .arg(format!("::/{path}")),
                )?,
                Some(Filesystem::Exfat) => {
                    bail!("no program reads a file of exFAT without mounting it")
                }
                None => bail!("there is no file system"),
            };
            // debugfs succeeds whatever happens, and says its version and what went wrong on stderr.
            let complaint = String::from_utf8_lossy(&found.stderr);
            let is_wrong = complaint.lines().any(|line| !line.starts_with("debugfs "));
            ensure!(
                found.status.success() && !is_wrong,
                "cannot read {path} on the stick: {complaint}"
            );
            Ok(found.stdout)
        })
    }

    /// The sector of the stick in which a file on an ext4 begins.
    ///
    /// # Errors
    /// Where it is no ext4, or there is no such file.
    pub fn sector_of(&self, path: &str) -> anyhow::Result<u64> {
        ensure!(self.filesystem == Some(Filesystem::Ext4), "it is no ext4");
        self.look(|partition| {
            let ask = |request: &str| run(tool("debugfs").args(["-R", request]).arg(partition));
            let blocks = ask(&format!("blocks \"/{path}\""))?;
            let first: u64 = blocks
                .split_whitespace()
                .next()
                .with_context(|| format!("{path} has no block"))?
                .parse()?;
            let stats = ask("show_super_stats -h")?;
            let size = stats
                .lines()
                .find_map(|line| line.strip_prefix("Block size:"));
            let block_len: u64 = size.context("no block size")?.trim().parse()?;
            Ok((PARTITION_AT + first * block_len) / 512)
        })
    }

    /// Puts a file at the top of it, while it is plugged in nowhere.
    ///
    /// # Errors
    /// Where it can't be put there; and for exFAT, as with [`Stick::read`].
    pub fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let source = tempfile::NamedTempFile::new()?;
        std::fs::write(source.path(), content)?;
        let source = text(source.path())?;
        self.change(|partition| match self.filesystem {
            Some(Filesystem::Ext4) => run(tool("debugfs")
                .args(["-w", "-R", &format!("write {source} \"{name}\"")])
                .arg(partition)),
            Some(Filesystem::Fat) => run(tool("mcopy")
                .arg("-o")
                .arg("-i")
                .arg(partition)
                .arg(source)
                .arg(format!("::/{name}"))),
            Some(Filesystem::Exfat) => {
                bail!("no program writes a file to exFAT without mounting it")
            }
            None => bail!("there is no file system"),
        })?;
        ensure!(
            self.read(name)? == content,
            "{name} didn't get onto the stick"
        );
        Ok(())
    }

    /// Breaks it: these bytes are there from now on, counted from the start of the partition.
    ///
    /// # Errors
    /// Where the image can't be written.
    pub fn overwrite(&self, at: u64, bytes: &[u8]) -> anyhow::Result<()> {
        let image = OpenOptions::new().write(true).open(&self.image)?;
        Ok(image.write_all_at(bytes, PARTITION_AT + at)?)
    }

    /// Marks it as one that was pulled out while it was mounted.
    ///
    /// # Errors
    /// Where there is no file system.
    pub fn mark_dirty(&self) -> anyhow::Result<()> {
        match self.filesystem {
            // Neither "clean" nor "has errors", in the superblock. A journal that had to be played would
            // bring the one of before back.
            Some(Filesystem::Ext4) => {
                self.mend()?;
                self.debugfs("set_super_value state 0")
            }
            // The boot sector's "reserved1", bit 0.
            Some(Filesystem::Fat) => self.overwrite(0x41, &[1]),
            // VolumeFlags, bit 1.
            Some(Filesystem::Exfat) => self.overwrite(106, &[2]),
            None => bail!("there is no file system"),
        }
    }

    /// Breaks an ext4 so that its check asks a person (a folder is in two places), and its files can be read.
    ///
    /// # Errors
    /// Where it is no ext4.
    pub fn link_a_folder(&self) -> anyhow::Result<()> {
        ensure!(self.filesystem == Some(Filesystem::Ext4), "it is no ext4");
        self.mark_dirty()?;
        self.debugfs("link lost+found again")
    }

    fn debugfs(&self, request: &str) -> anyhow::Result<()> {
        self.change(|partition| {
            run(tool("debugfs").args(["-w", "-R", request]).arg(partition)).map(drop)
        })
    }

    fn fsck(&self) -> anyhow::Result<std::process::Command> {
        Ok(match self.filesystem {
            Some(Filesystem::Ext4) => {
                let mut fsck = tool("e2fsck");
                fsck.arg("-f");
                fsck
            }
            Some(Filesystem::Exfat) => tool("fsck.exfat"),
            Some(Filesystem::Fat) => tool("fsck.vfat"),
            None => bail!("there is no file system"),
        })
    }

    /// Does something with a copy of the partition, since not every program takes an offset.
    fn look<T>(&self, what: impl FnOnce(&Path) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let copy = tempfile::NamedTempFile::new()?;
        let image = File::open(&self.image)?;
        let len = image.metadata()?.len() - PARTITION_AT;
        copy.as_file().set_len(len)?;
        copy_over(&image, PARTITION_AT, copy.as_file(), 0, len)?;
        if self.filesystem == Some(Filesystem::Ext4) {
            // A broken one is what a check is for.
            output(
                tool("e2fsck")
                    .args(["-y", "-E", "journal_only"])
                    .arg(copy.path()),
            )?;
        }
        what(copy.path())
    }

    /// Does something to the partition.
    fn change<T>(&self, what: impl FnOnce(&Path) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let copy = tempfile::NamedTempFile::new()?;
        let image = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.image)?;
        let len = image.metadata()?.len() - PARTITION_AT;
        copy.as_file().set_len(len)?;
        copy_over(&image, PARTITION_AT, copy.as_file(), 0, len)?;
        let result = what(copy.path())?;
        copy_over(&File::open(copy.path())?, 0, &image, PARTITION_AT, len)?;
        Ok(result)
    }
}

/// Makes one range of a file like another. Pieces that are alike already are not written, so that both stay
/// sparse.
fn copy_over(from: &File, from_at: u64, to: &File, to_at: u64, len: u64) -> anyhow::Result<()> {
    let (mut piece, mut there) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut done = 0;
    while done < len {
        let step = usize::try_from((len - done).min(64 << 10))?;
        from.read_exact_at(&mut piece[..step], from_at + done)?;
        to.read_exact_at(&mut there[..step], to_at + done)?;
        if piece[..step] != there[..step] {
            to.write_all_at(&piece[..step], to_at + done)?;
        }
        done += step as u64;
    }
    Ok(())
}
