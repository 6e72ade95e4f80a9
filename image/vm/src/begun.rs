//! The root of the SD card before anything of ours is in it: what the stages before ours leave, made of Debian's
//! packages here, and the first part of ours, which installs more of these. It takes longest and changes least.

use crate::cache::{self, Key};
use crate::kernel::Kernel;
use crate::root;
use crate::stage::{Build, Stage, config};
use crate::tool::{run, text, tool};
use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

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

/// `rootfs.tar`, made if it isn't there, and the key of what it was made from.
pub(crate) fn begun(stage: &Stage, kernel: &Kernel) -> anyhow::Result<(PathBuf, Key)> {
    let (tar, root_key) = root::tar()?;
    let mut inputs = vec![
        include_bytes!("begun.rs").to_vec(),
        include_bytes!("stage.rs").to_vec(),
        root_key.as_bytes().to_vec(),
        kernel.key.as_bytes().to_vec(),
    ];
    add_files(
        &mut inputs,
        &[&stage.dir.join("prerun.sh"), &stage.sub_stages[0].dir],
    )?;
    let key = Key::of(inputs.iter().map(Vec::as_slice));
    let dir = cache::entry("image-begun", &key, |dir| begin(dir, stage, &tar, kernel))?;
    Ok((dir.join("rootfs.tar"), key))
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

/// Those of pi-gen that a stage may use, with `image/config`'s.
pub(crate) fn variables(
    work: &Path,
    before: &Path,
    after: &Path,
) -> anyhow::Result<BTreeMap<String, String>> {
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

/// `image/` of this workspace.
pub(crate) fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Unpacks one, with all owners.
pub(crate) fn unpack(tar: &Path, root: &Path) -> anyhow::Result<()> {
    // Links like lib → usr/lib stay links.
    run(tool("tar")
        .args(["--numeric-owner", "--keep-directory-symlink", "-xpf"])
        .arg(tar)
        .arg("-C")
        .arg(root))?;
    Ok(())
}

/// All files at and below these places, with their names, as what an image is made from.
pub(crate) fn add_files(inputs: &mut Vec<Vec<u8>>, places: &[&Path]) -> anyhow::Result<()> {
    let listed = run(tool("find").args(places).args(["-type", "f"]))?;
    let mut files: Vec<&str> = listed.lines().collect();
    files.sort_unstable();
    for file in files {
        inputs.push(file.as_bytes().to_vec());
        inputs.push(fs::read(file)?);
    }
    Ok(())
}
