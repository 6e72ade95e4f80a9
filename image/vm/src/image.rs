//! The SD card as it is flashed: what pi-gen would make of `image/`, made here on Debian's root, and booted.
//!
//! Of pi-gen the last stage is run, ours; the stages before it are Debian's packages and what those leave behind
//! that ours has to change. Its export is `partitions`, without loop devices; the end of it is `image/finish`,
//! as for any other image.

use crate::begun::{add_files, begun, source, unpack, variables};
use crate::cache::{self, Key};
use crate::cpio::Archive;
use crate::kernel::{Kernel, kernel};
use crate::machine::Machine;
use crate::package::Package;
use crate::pi3::Pi3;
use crate::stage::{Build, Stage};
use crate::stick::{MIB, Stick};
use crate::tool::{run, text, tool};
use anyhow::Context;
use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

const INIT: &str = include_str!("../guest/init-card");

/// As pi-gen has them.
const BOOT_AT_MIB: u64 = 8;
const BOOT_MIB: u64 = 512;

/// More than is on it: for who installs something on it.
const ROOT_SPARE_MIB: u64 = 300;

/// An image that could be flashed.
#[derive(Debug, Clone)]
pub struct Image {
    dir: PathBuf,
    kernel: Kernel,
}

impl Image {
    /// The one that `image/` makes now, with [`Package::built`]: made if it isn't there, which takes minutes.
    ///
    /// # Errors
    /// Where the stage fails, with what it said.
    pub fn built() -> anyhow::Result<Image> {
        let package = Package::built("raspboxd")?;
        let kernel = kernel()?;
        let stage = Stage::read(&source().join("stage-raspbox"))?;
        let (begun, begun_key) = begun(&stage, &kernel)?;
        let mut inputs = vec![
            begun_key.as_bytes().to_vec(),
            include_bytes!("image.rs").to_vec(),
            INIT.into(),
            package.bytes().to_vec(),
        ];
        let names = ["stage-raspbox", "config", "finish", "add-state"];
        let paths = names.map(|name| source().join(name));
        add_files(&mut inputs, &paths.each_ref().map(PathBuf::as_path))?;
        let key = Key::of(inputs.iter().map(Vec::as_slice));
        let dir = cache::entry("image", &key, |dir| {
            make(dir, &stage, &begun, &kernel, &package)
        })?;
        let kernel = Kernel {
            dir: dir.join("boot"),
            key: kernel.key,
        };
        Ok(Image { dir, kernel })
    }

    /// What is downloaded, in bytes: the image, compressed.
    ///
    /// # Errors
    /// Where it isn't there.
    pub fn download_len(&self) -> anyhow::Result<u64> {
        Ok(fs::metadata(self.dir.join("raspbox.img.xz"))?.len())
    }

    /// The bill of what is in it.
    ///
    /// # Errors
    /// Where it isn't there.
    pub fn bill(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.dir.join("raspbox.spdx"))?)
    }

    /// Flashes a card, puts these files on its first partition, as its owner does on a laptop, and boots it.
    ///
    /// # Errors
    /// Where it doesn't come up.
    pub fn booted(&self, edited: &[(&str, &str)]) -> anyhow::Result<Machine> {
        let dir = tempfile::tempdir()?;
        let card = self.flashed(dir.path(), edited)?;
        Machine::cold_in(dir, card, self.kernel.clone())
    }

    /// The same in a Raspberry Pi 3 with this stick, which is not waited for.
    ///
    /// # Errors
    /// Where there is no QEMU for it.
    pub fn in_a_pi3(
        &self,
        edited: &[(&str, &str)],
        stick: &Stick,
        passive_ports: RangeInclusive<u16>,
    ) -> anyhow::Result<Pi3> {
        let dir = tempfile::tempdir()?;
        let card = self.flashed(dir.path(), edited)?;
        Pi3::boot(dir, &card, &self.kernel, stick, passive_ports)
    }

    /// A card of a size that cards are sold in.
    fn flashed(&self, dir: &Path, edited: &[(&str, &str)]) -> anyhow::Result<PathBuf> {
        let raw = dir.join("card.raw");
        run(tool("cp")
            .arg("--sparse=always")
            .arg(self.dir.join("raspbox.img"))
            .arg(&raw))?;
        let boot = format!("{}@@{}", text(&raw)?, BOOT_AT_MIB * MIB);
        for (name, content) in edited {
            let file = dir.join("edited");
            fs::write(&file, content)?;
            run(tool("mcopy")
                .args(["-o", "-i", &boot])
                .arg(&file)
                .arg(format!("::/{name}")))?;
        }
        let card = dir.join("card.qcow2");
        let len = fs::metadata(&raw)?.len().next_power_of_two();
        run(tool("qemu-img").args([
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            text(&raw)?,
            text(&card)?,
            &len.to_string(),
        ]))?;
        Ok(card)
    }
}

/// The rest of ours, and the image.
fn make(
    dir: &Path,
    stage: &Stage,
    begun: &Path,
    kernel: &Kernel,
    package: &Package,
) -> anyhow::Result<()> {
    let work = tempfile::tempdir_in(dir)?;
    let root = work.path().join("stage-raspbox");
    fs::create_dir(&root)?;
    unpack(begun, &root)?;
    let mut build = Build {
        log: dir.join("build.log"),
        variables: variables(work.path(), &root, &root)?,
    };
    let deb = work.path().join("raspboxd.deb");
    fs::write(&deb, package.bytes())?;
    build
        .variables
        .insert("RASPBOX_PACKAGE".into(), text(&deb)?.into());
    stage.go_on(&build)?;
    let image = work.path().join("raspbox.img");
    partitions(&root, &image)?;
    run(tool("bash")
        .arg(source().join("finish"))
        .arg(&image)
        .arg(dir)
        // The quickest; what is released is smaller.
        .env("XZ_OPT", "-0"))?;
    run(tool("cp")
        .arg("--sparse=always")
        .arg(&image)
        .arg(dir.join("raspbox.img")))?;

    let boot = dir.join("boot");
    fs::create_dir(&boot)?;
    for file in ["vmlinuz", "pi3.dtb"] {
        fs::copy(kernel.dir.join(file), boot.join(file))?;
    }
    let mut ours = Archive::default();
    ours.file("init", INIT.as_bytes());
    let ours = ours.finish();
    for name in ["initrd", "initrd-pi3"] {
        // Of two files with the same name in archives one after another, the kernel takes the last.
        let mut initrd = fs::read(kernel.dir.join(name))?;
        initrd.resize(initrd.len().next_multiple_of(4), 0);
        initrd.extend(&ours);
        fs::write(boot.join(name), initrd)?;
    }
    Ok(())
}

/// What pi-gen's export does to the root, and the image of it with two partitions.
fn partitions(root: &Path, image: &Path) -> anyhow::Result<()> {
    fs::write(root.join("etc/machine-id"), "")?;
    fs::write(root.join("etc/resolv.conf"), "")?;
    fs::remove_file(root.join("usr/sbin/policy-rc.d"))?;
    for folder in ["var/lib/apt/lists", "var/cache/apt", "var/log"] {
        run(tool("find")
            .arg(root.join(folder))
            .args(["-type", "f", "-delete"]))?;
    }
    let disk = &blake3::hash(root.as_os_str().as_encoded_bytes()).to_hex()[..8];
    for file in ["etc/fstab", "boot/firmware/cmdline.txt"] {
        let path = root.join(file);
        let content = fs::read_to_string(&path)?
            .replace("BOOTDEV", &format!("PARTUUID={disk}-01"))
            .replace("ROOTDEV", &format!("PARTUUID={disk}-02"));
        fs::write(&path, content)?;
    }
    let boot = root.join("boot/firmware");
    let used = run(tool("du")
        .args(["--summarize", "--block-size=1M"])
        .arg(root))?;
    let used_mib: u64 = used
        .split_whitespace()
        .next()
        .context("du says nothing")?
        .parse()?;
    let (root_at, root_mib) = (BOOT_AT_MIB + BOOT_MIB, used_mib * 11 / 10 + ROOT_SPARE_MIB);
    File::create(image)?.set_len((root_at + root_mib) * MIB)?;
    let table = image.with_extension("table");
    fs::write(
        &table,
        format!(
            "label: dos\nlabel-id: 0x{disk}\nstart={BOOT_AT_MIB}MiB, size={BOOT_MIB}MiB, type=c\n\
             start={root_at}MiB, size={root_mib}MiB, type=83\n"
        ),
    )?;
    let path = text(image)?;
    run(tool("sfdisk")
        .args(["--quiet", path])
        .stdin(File::open(&table)?))?;
    run(tool("mkfs.vfat").args([
        "-F32",
        "-n",
        "bootfs",
        "--offset",
        &(BOOT_AT_MIB * MIB / 512).to_string(),
        path,
        &(BOOT_MIB * 1024).to_string(),
    ]))?;
    let mut files = Vec::new();
    for file in fs::read_dir(&boot)? {
        files.push(file?.path());
    }
    run(tool("mcopy")
        .args(["-i", &format!("{path}@@{}", BOOT_AT_MIB * MIB)])
        .args(&files)
        .arg("::/"))?;
    for file in &files {
        fs::remove_file(file)?;
    }
    run(tool("mke2fs").args([
        "-q",
        "-F",
        "-t",
        "ext4",
        "-L",
        "rootfs",
        "-d",
        text(root)?,
        "-E",
        &format!("offset={}", root_at * MIB),
        path,
        &format!("{root_mib}M"),
    ]))?;
    Ok(())
}
