//! Machines to test the appliance on: Debian on an emulated arm64 computer with a real kernel,
//! systemd, udev, a network and USB ports.
//!
//! ```no_run
//! use raspbox_vm::{DEADLINE, Filesystem, Machine, Stick};
//!
//! # fn main() -> anyhow::Result<()> {
//! let machine = Machine::booted()?; // a second or two: it was booted once, and is copied
//! let stick = Stick::new(64, Filesystem::Ext4, "RASPBOX")?;
//! machine.plug(&stick, 1)?;
//! machine.wait_for(DEADLINE, "findmnt /srv/raspbox")?;
//! machine.ok("echo hello > /srv/raspbox/greeting; sync")?;
//! machine.power_cut()?;
//! assert!(stick.check()?.clean, "a power cut breaks no ext4");
//! assert_eq!(stick.read("greeting")?, b"hello\n");
//! machine.boot_again()?; // minutes
//! # Ok(())
//! # }
//! ```
//!
//! A [`Machine`] is one copy. Its root shell ([`Machine::run`]) gives exit status, stdout and stderr as
//! they are, bytes and all. Commands run one after another; what is to go on meanwhile is started with
//! `&` or `systemd-run`. Its clock goes on from when the snapshot was taken, as a computer's does that has no
//! battery. When a `Machine` is dropped, QEMU is killed, and the kernel kills it when the test's
//! process ends in whatever way.
//!
//! A [`Snapshot`] is a machine that stands still, on this computer's disk: memory and SD card.
//! [`Snapshot::booted`] is Debian and nothing of ours; [`Snapshot::then`] goes on from one, once, and is
//! the way to install a package or to pair before many tests that want it so. A snapshot has no
//! stick in it and no forwarded port.
//!
//! A [`Stick`] is a pendrive as an image file: made, looked into, checked and broken on this computer,
//! without mounting.
//!
//! An [`Appliance`] is a machine with our package in it, set up and booted as by its owner; [`Ftp`] is the
//! plainest program that somebody could use it with.
//!
//! What isn't modelled: a drive that loses its cache when the power goes (what the machine's kernel
//! has written to the drive is there, flushed or not), and the hardware of a Raspberry Pi, but for the
//! little of it that a [`Pi3`] has.

mod appliance;
mod begun;
mod cache;
mod card;
mod cpio;
mod ftp;
mod image;
mod kernel;
mod machine;
mod package;
mod pi3;
mod qemu;
mod qmp;
mod root;
mod shell;
mod snapshot;
mod stage;
mod stick;
mod tool;
mod wait;

pub use appliance::{Appliance, OWNERS_FILE};
pub use ftp::{Ftp, Reply, Upload};
pub use image::Image;
pub use machine::{Machine, Traffic};
pub use package::Package;
pub use pi3::Pi3;
pub use shell::Output;
pub use snapshot::Snapshot;
pub use stage::{Stage, Step, SubStage};
pub use stick::{Check, Filesystem, Stick};
pub use wait::{DEADLINE, wait_until};
