//! The SD card as it is flashed: what pi-gen would make of `image/`, made here on Debian's root, and booted.
//!
//! Of pi-gen the last stage is run, ours; the stages before it are Debian's packages and what those leave behind
//! that ours has to change. Its export is `partitions`, without loop devices; the end of it is `image/finish`,
//! as for any other image.

use crate::cache::{self, Key};
use crate::cpio::Archive;
use crate::kernel::{Kernel, kernel};
use crate::machine::Machine;
use crate::package::Package;
use crate::root;
use crate::stage::{Build, Stage, config};
use crate::stick::MIB;
use crate::tool::{run, text, tool};
use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const INIT: &str = include_str!("../guest/init-card");

/// As pi-gen has them.
const BOOT_AT_MIB: u64 = 8;
const BOOT_MIB: u64 = 512;

/// More than is on it: for who installs something on it.
const ROOT_SPARE_MIB: u64 = 300;

/// What pi-gen's stage 1 leaves for the last one to change. The words of cmdline.txt and the line of fstab are
/// its own.
const LEFT_BEFORE: &[(&str, &str)] = &[
    (
        "boot/firmware/cmdline.txt",
        "console=serial0,115200 console=tty1 root=ROOTDEV rootfstype=ext4 fsck.repair=yes rootwait resize\n",
    ),
    ("boot/firmware/config.txt", "# Raspberry Pi OS'\n"),
    (
        "etc/fstab",
        "proc /proc proc defaults 0 0\nBOOTDEV /boot/firmware vfat defaults 0 2\nROOTDEV / ext4 defaults,noatime 0 1\n",
    ),
    ("etc/hostname", "raspbox\n"),
    (
        "etc/hosts",
        "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 raspbox\n",
    ),
    (
        "usr/lib/systemd/system.conf.d/40-rpi-enable-watchdog.conf",
        "[Manager]\nRuntimeWatchdogSec=1m\n",
    ),
    ("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n"),
];

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
        let (tar, root_key) = root::tar()?;
        let stage = Stage::read(&source().join("stage-raspbox"))?;
        // The packages of Debian take longest, and change least.
        let mut inputs = vec![
            include_bytes!("image.rs").to_vec(),
            include_bytes!("stage.rs").to_vec(),
            root_key.as_bytes().to_vec(),
            kernel.key.as_bytes().to_vec(),
        ];
        add_files(
            &mut inputs,
            &[&stage.dir.join("prerun.sh"), &stage.sub_stages[0].dir],
        )?;
        let begun_key = Key::of(inputs.iter().map(Vec::as_slice));
        let begun = cache::entry("image-begun", &begun_key, |dir| {
            begin(dir, &stage, &tar, &kernel)
        })?;
        let mut inputs = vec![
            begun_key.as_bytes().to_vec(),
            INIT.into(),
            package.bytes().to_vec(),
        ];
        let names = ["stage-raspbox", "config", "finish", "add-state"];
        let paths = names.map(|name| source().join(name));
        add_files(&mut inputs, &paths.each_ref().map(PathBuf::as_path))?;
        let key = Key::of(inputs.iter().map(Vec::as_slice));
        let begun = begun.join("rootfs.tar");
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
        let raw = dir.path().join("card.raw");
        run(tool("cp")
            .arg("--sparse=always")
            .arg(self.dir.join("raspbox.img"))
            .arg(&raw))?;
        let boot = format!("{}@@{}", text(&raw)?, BOOT_AT_MIB * MIB);
        for (name, content) in edited {
            let file = dir.path().join("edited");
            fs::write(&file, content)?;
            run(tool("mcopy")
                .args(["-o", "-i", &boot])
                .arg(&file)
                .arg(format!("::/{name}")))?;
        }
        let card = dir.path().join("card.qcow2");
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
        ]))?;
        Machine::cold_in(dir, card, self.kernel.clone())
    }
}

/// The stages before, and the first part of ours.
fn begin(dir: &Path, stage: &Stage, tar: &Path, kernel: &Kernel) -> anyhow::Result<()> {
    // Only root may give the files to whom they belong.
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the image is made as root"
    );
    let work = tempfile::tempdir_in(dir)?;
    let (before, after) = (
        work.path().join("stage1"),
        work.path().join("stage-raspbox"),
    );
    fs::create_dir(&before)?;
    let mut build = Build {
        log: dir.join("build.log"),
        variables: variables(work.path(), &before, &before)?,
    };
    before_ours(&before, tar, kernel, &build)?;
    build.variables = variables(work.path(), &before, &after)?;
    stage.begin(&build)?;
    run(tool("tar")
        .args(["--numeric-owner", "-cpf"])
        .arg(dir.join("rootfs.tar"))
        .arg("-C")
        .arg(&after)
        .arg("."))?;
    Ok(())
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
        .arg(dir))?;
    run(tool("cp")
        .arg("--sparse=always")
        .arg(&image)
        .arg(dir.join("raspbox.img")))?;

    let boot = dir.join("boot");
    fs::create_dir(&boot)?;
    fs::copy(kernel.dir.join("vmlinuz"), boot.join("vmlinuz"))?;
    // Of two files with the same name in archives one after another, the kernel takes the last.
    let mut initrd = fs::read(kernel.dir.join("initrd"))?;
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    let mut ours = Archive::default();
    ours.file("init", INIT.as_bytes());
    initrd.extend(ours.finish());
    fs::write(boot.join("initrd"), initrd)?;
    Ok(())
}

/// Those of pi-gen that a stage may use, with `image/config`'s.
fn variables(work: &Path, before: &Path, after: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let stage = source().join("stage-raspbox");
    let mut variables = config(&source().join("config"), &stage)?;
    for (name, value) in [
        ("WORK_DIR", work),
        ("STAGE_WORK_DIR", work),
        ("STAGE_DIR", &stage),
        ("PREV_ROOTFS_DIR", before),
        ("ROOTFS_DIR", after),
    ] {
        variables.insert(name.into(), text(value)?.into());
    }
    variables.insert("STAGE".into(), "stage-raspbox".into());
    variables.insert("PREV_STAGE".into(), "stage1".into());
    Ok(variables)
}

/// The root as the stages before ours leave it.
fn before_ours(root: &Path, tar: &Path, kernel: &Kernel, build: &Build) -> anyhow::Result<()> {
    for tar in [tar, &kernel.dir.join("modules.tar")] {
        unpack(tar, root)?;
    }
    for (name, content) in LEFT_BEFORE {
        let path = root.join(name);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(&path, content)?;
    }
    run(tool("chmod")
        .arg("755")
        .arg(root.join("usr/sbin/policy-rc.d")))?;
    let _ = fs::remove_file(root.join("etc/resolv.conf"));
    fs::copy("/etc/resolv.conf", root.join("etc/resolv.conf"))?;
    // Raspberry Pi OS has all of the archive.
    let sources = root::sources()
        .map(|line| format!("{line} contrib non-free non-free-firmware\n"))
        .concat();
    fs::write(root.join("etc/apt/sources.list"), sources)?;
    build.in_root(
        "useradd --create-home --shell /bin/bash \"$FIRST_USER_NAME\"\n\
         echo \"$FIRST_USER_NAME:$FIRST_USER_PASS\" | chpasswd\n\
         apt-get -q update\n",
    )
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

/// `image/` of this workspace.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn unpack(tar: &Path, root: &Path) -> anyhow::Result<()> {
    // Links like lib → usr/lib stay links.
    run(tool("tar")
        .args(["--numeric-owner", "--keep-directory-symlink", "-xpf"])
        .arg(tar)
        .arg("-C")
        .arg(root))?;
    Ok(())
}

/// All files at and below these places, with their names, as what an image is made from.
fn add_files(inputs: &mut Vec<Vec<u8>>, places: &[&Path]) -> anyhow::Result<()> {
    let listed = run(tool("find").args(places).args(["-type", "f"]))?;
    let mut files: Vec<&str> = listed.lines().collect();
    files.sort_unstable();
    for file in files {
        inputs.push(file.as_bytes().to_vec());
        inputs.push(fs::read(file)?);
    }
    Ok(())
}
