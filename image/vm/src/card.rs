//! The SD card of the guest as an image: a FAT partition for `/boot/firmware` and an ext4 one for all of the
//! rest, as Raspberry Pi OS has it. Made without mounting: the kernel here may know neither.

use crate::cache::{self, Key};
use crate::kernel::Kernel;
use crate::tool::{run, text, tool};
use crate::{root, stick::MIB};
use anyhow::{Context, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Before the first partition.
const GAP_MIB: u64 = 1;

/// FAT32 takes at least 33 MiB.
const BOOT_MIB: u64 = 64;

/// Debian takes 500, the tests may use the rest. Not written to, it takes no room here.
const ROOT_MIB: u64 = 2048;

/// Files of the guest that Debian's packages leave to whoever installs them.
const FILES: &[(&str, &str)] = &[
    ("etc/hostname", "raspbox\n"),
    ("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 raspbox\n"),
    (
        "etc/fstab",
        "/dev/vda2 / ext4 noatime,errors=remount-ro 0 1\n/dev/vda1 /boot/firmware vfat noatime 0 2\n",
    ),
    // Any will do. Without one, each boot would be the first one, with other units enabled.
    ("etc/machine-id", "72617370626f78207465737420766d21\n"),
];

/// Wake up in the middle of a test and take minutes of an emulated processor.
const MASKED: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
];

/// The image, compressed (qcow2), and the key of what it was made from.
pub(crate) fn image(kernel: &Kernel) -> anyhow::Result<(PathBuf, Key)> {
    let (tar, root_key) = root::tar()?;
    let key = Key::of([
        include_bytes!("card.rs"),
        root_key.as_bytes(),
        kernel.key.as_bytes(),
    ]);
    let entry = cache::entry("card", &key, |dir| make(dir, &tar, kernel))?;
    Ok((entry.join("card.qcow2"), key))
}

fn make(dir: &Path, tar: &Path, kernel: &Kernel) -> anyhow::Result<()> {
    // Only root may give the files to whom they belong.
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the image of the guest is made as root"
    );
    let work = tempfile::tempdir_in(dir)?;
    let root = work.path().join("root");
    fs::create_dir(&root)?;
    let unpack = |tar: &Path| -> anyhow::Result<()> {
        // Links like lib → usr/lib stay links.
        run(tool("tar")
            .args(["--numeric-owner", "--keep-directory-symlink", "-xpf"])
            .arg(tar)
            .arg("-C")
            .arg(&root))?;
        Ok(())
    };
    unpack(tar)?;
    unpack(&kernel.dir.join("modules.tar"))?;
    fs::create_dir_all(root.join("boot/firmware"))?;
    for (name, content) in FILES {
        fs::write(root.join(name), content).with_context(|| format!("cannot write {name}"))?;
    }
    for name in MASKED {
        std::os::unix::fs::symlink("/dev/null", root.join("etc/systemd/system").join(name))?;
    }
    let raw = work.path().join("card.raw");
    File::create(&raw)?.set_len((GAP_MIB + BOOT_MIB + ROOT_MIB + GAP_MIB) * MIB)?;
    let table = work.path().join("table");
    fs::write(
        &table,
        format!(
            "label: dos\nstart={GAP_MIB}MiB, size={BOOT_MIB}MiB, type=c\nstart={}MiB, size={ROOT_MIB}MiB, type=83\n",
            GAP_MIB + BOOT_MIB
        ),
    )?;
    let path = text(&raw)?;
    run(tool("sfdisk")
        .args(["--quiet", path])
        .stdin(File::open(&table)?))?;
    let (boot_sector, boot_kib) = (GAP_MIB * MIB / 512, BOOT_MIB * 1024);
    run(tool("mkfs.vfat").args([
        "-F32",
        "-s1",
        "-n",
        "bootfs",
        "--offset",
        &boot_sector.to_string(),
        path,
        &boot_kib.to_string(),
    ]))?;
    let offset = format!("offset={}", (GAP_MIB + BOOT_MIB) * MIB);
    run(tool("mke2fs").args([
        "-q",
        "-F",
        "-t",
        "ext4",
        "-L",
        "rootfs",
        "-d",
        text(&root)?,
        "-E",
        &offset,
        path,
        &format!("{ROOT_MIB}M"),
    ]))?;
    run(tool("qemu-img")
        .args([
            "convert",
            "-c",
            "-O",
            "qcow2",
            "-o",
            "compression_type=zstd",
            path,
        ])
        .arg(dir.join("card.qcow2")))?;
    Ok(())
}
