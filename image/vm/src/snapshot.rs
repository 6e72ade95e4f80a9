//! Machines that stand still: booted once, kept, copied for each test.

use crate::cache::{self, Key};
use crate::card;
use crate::kernel::{Kernel, kernel};
use crate::machine::Machine;
use crate::tool::{run, text, tool};
use anyhow::Context;
use std::path::{Path, PathBuf};

/// A machine as it was at some moment, on the disk: `card.qcow2` and, compressed, the `state` of all else.
#[derive(Debug, Clone)]
pub struct Snapshot {
    dir: PathBuf,
    key: Key,
    kernel: Kernel,
}

impl Snapshot {
    /// Debian, booted, at rest, with nothing of ours. Made if it isn't there, which takes minutes.
    ///
    /// # Errors
    /// Where a program is missing, Debian's archive doesn't answer, or the machine doesn't come up.
    pub fn booted() -> anyhow::Result<Snapshot> {
        let kernel = kernel()?;
        let (image, image_key) = card::image(&kernel)?;
        let version = run(tool("qemu-system-aarch64").arg("--version"))?;
        let recipe: [&[u8]; 4] = [
            include_bytes!("snapshot.rs"),
            include_bytes!("qemu.rs"),
            include_bytes!("../guest/shell"),
            version.as_bytes(),
        ];
        let key = Key::of(recipe.into_iter().chain([image_key.as_bytes()]));
        let dir = cache::entry("booted", &key, |dir| {
            let card = overlay(dir, &image)?;
            let machine = Machine::cold(card, kernel.clone())?;
            settle(&machine)?;
            machine.freeze(&dir.join("state"))
        })?;
        Ok(Snapshot { dir, key, kernel })
    }

    /// The machine after `what` was done to it, which is done once and kept under this name. `inputs` is all
    /// that `what` depends on, for example the bytes of a package: where they change, it is done again.
    /// Of each name only the newest is kept.
    ///
    /// # Errors
    /// Those of `what`, and where the machine can't be kept.
    pub fn then(
        &self,
        name: &str,
        inputs: &[&[u8]],
        what: impl FnOnce(&Machine) -> anyhow::Result<()>,
    ) -> anyhow::Result<Snapshot> {
        let key = Key::of(
            [self.key.as_bytes()]
                .into_iter()
                .chain(inputs.iter().copied()),
        );
        let dir = cache::entry(name, &key, |dir| {
            let machine = Machine::resumed(overlay(dir, &self.card())?, self)?;
            what(&machine)?;
            settle(&machine)?;
            machine.freeze(&dir.join("state"))
        })?;
        Ok(Snapshot {
            dir,
            key,
            kernel: self.kernel.clone(),
        })
    }

    /// A fresh copy that goes on from here.
    ///
    /// # Errors
    /// Where QEMU doesn't come up.
    pub fn start(&self) -> anyhow::Result<Machine> {
        Machine::copy_of(self)
    }

    pub(crate) fn card(&self) -> PathBuf {
        self.dir.join("card.qcow2")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub(crate) fn kernel(&self) -> &Kernel {
        &self.kernel
    }
}

/// `card.qcow2` in `dir`: what is written goes there, all else is read from the image below.
pub(crate) fn overlay(dir: &Path, below: &Path) -> anyhow::Result<PathBuf> {
    let card = dir.join("card.qcow2");
    run(tool("qemu-img").args([
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        text(below)?,
        text(&card)?,
    ]))?;
    Ok(card)
}

/// What is still going on would go on in each copy, and a stick that is plugged in before udev has seen all
/// other devices is seen late.
fn settle(machine: &Machine) -> anyhow::Result<()> {
    let state = machine.run("systemctl is-system-running --wait")?.text();
    if state != "running" {
        let failed = machine
            .run("systemctl --failed --no-legend; systemctl list-jobs")?
            .text();
        anyhow::bail!("the machine comes up {state}: {failed}");
    }
    machine
        .ok("udevadm settle --timeout=600; sync")
        .context("udev finds no rest")?;
    Ok(())
}
