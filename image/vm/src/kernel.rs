//! Debian's kernel, unpacked on this computer, with an initial RAM disk of our own. To install the package
//! in the guest would cost three times as much as all of the rest.

use crate::cache::{self, Key};
use crate::cpio::Archive;
use crate::root::sources;
use crate::tool::{output, run, shown, text, tool};
use anyhow::{Context, bail};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Loaded before systemd starts, with what they need: the root file system, and the ports of the test's
/// shell. The rest is udev's, as on any computer.
/// ext4 asks for crc32c by the name of an algorithm, which `modules.dep` doesn't know.
const LOADED_FIRST: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "crc32c_generic",
    "ext4",
];

/// The same on the Raspberry Pi 3: the reader of its card, its USB controller, and what hangs there when it starts.
const LOADED_FIRST_PI3: &[&str] = &[
    "bcm2835",
    "dwc2",
    "phy_generic",
    "usb_storage",
    "crc32c_generic",
    "ext4",
];

/// What the Raspberry Pi 3 consists of, as Debian's kernel has it.
const DEVICE_TREE_PI3: &str = "bcm2837-rpi-3-b.dtb";

/// Hardware that no machine of ours has: nearly half of the modules.
const LEFT_OUT: &[&str] = &[
    "drivers/gpu",
    "drivers/media",
    "drivers/infiniband",
    "drivers/iio",
    "drivers/net/ethernet",
    "drivers/net/wireless",
    "sound",
];

const INIT: &str = include_str!("../guest/init");

/// A folder with `vmlinuz`, `initrd` and `modules.tar`; `pi3.dtb` and `initrd-pi3` are for that board.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    pub(crate) dir: PathBuf,
    pub(crate) key: Key,
}

/// The kernel of the guest.
pub(crate) fn kernel() -> anyhow::Result<Kernel> {
    let key = Key::of([
        include_bytes!("kernel.rs").as_slice(),
        include_bytes!("cpio.rs"),
        INIT.as_bytes(),
    ]);
    let dir = cache::entry("kernel", &key, make)?;
    Ok(Kernel { dir, key })
}

fn make(dir: &Path) -> anyhow::Result<()> {
    let work = tempfile::tempdir_in(dir)?;
    download(work.path()).context("cannot get Debian's kernel for arm64")?;
    let unpacked = work.path().join("unpacked");
    for file in fs::read_dir(work.path())? {
        let file = file?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            run(tool("dpkg-deb").arg("-x").arg(&file).arg(&unpacked))?;
        }
    }
    let modules = unpacked.join("usr/lib/modules");
    let version = fs::read_dir(&modules)?
        .next()
        .context("a kernel without modules")??
        .file_name();
    let version = version
        .to_str()
        .context("the kernel's version is no text")?;
    let modules = modules.join(version);
    for what in LEFT_OUT {
        fs::remove_dir_all(modules.join("kernel").join(what))
            .with_context(|| format!("no {what}"))?;
    }
    // depmod looks in lib/modules only.
    std::os::unix::fs::symlink("usr/lib", unpacked.join("lib"))?;
    run(tool("depmod").arg("-b").arg(&unpacked).arg(version))?;
    let busybox = fs::read(unpacked.join("usr/bin/busybox"))?;
    for (name, first) in [("initrd", LOADED_FIRST), ("initrd-pi3", LOADED_FIRST_PI3)] {
        fs::write(dir.join(name), initrd(&modules, &busybox, first)?)?;
    }
    fs::copy(
        unpacked
            .join(format!("usr/lib/linux-image-{version}/broadcom"))
            .join(DEVICE_TREE_PI3),
        dir.join("pi3.dtb"),
    )?;
    fs::copy(
        unpacked.join("boot").join(format!("vmlinuz-{version}")),
        dir.join("vmlinuz"),
    )?;
    run(tool("tar").args([
        "--owner=0",
        "--group=0",
        "-C",
        text(&unpacked)?,
        "-cf",
        text(&dir.join("modules.tar"))?,
        "usr/lib/modules",
    ]))?;
    Ok(())
}

/// With an apt of its own: this computer's knows nothing of arm64, and is to stay so.
fn download(dir: &Path) -> anyhow::Result<()> {
    let apt = dir.join("apt");
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(folder))?;
    }
    fs::write(apt.join("status"), "")?;
    let signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
    let lines = sources().map(|line| line.replacen("deb ", &format!("deb {signed} "), 1));
    fs::write(apt.join("sources.list"), lines.join("\n"))?;
    let at = |file: &str| format!("{}/{file}", apt.display());
    let apt = |program: &str| -> Command {
        let mut command = tool(program);
        command.current_dir(dir).arg("-qq").args([
            "-oAPT::Architecture=arm64".to_owned(),
            "-oAPT::Architectures=arm64".to_owned(),
            // Root may read what it has made; apt's own user need not.
            "-oAPT::Sandbox::User=root".to_owned(),
            "-oAcquire::Languages=none".to_owned(),
            "-oAcquire::Retries=3".to_owned(),
            format!("-oDir::State={}", at("")),
            format!("-oDir::State::lists={}", at("lists")),
            format!("-oDir::State::status={}", at("status")),
            format!("-oDir::Cache={}", at("cache")),
            format!("-oDir::Etc::sourcelist={}", at("sources.list")),
            "-oDir::Etc::sourceparts=/dev/null".to_owned(),
        ]);
        command
    };
    run(apt("apt-get").arg("update"))?;
    let depends = run(apt("apt-cache").args(["depends", "linux-image-arm64"]))?;
    let kernel = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "));
    let kernel = kernel.filter(|name| name.starts_with("linux-image-"));
    let kernel =
        kernel.with_context(|| format!("linux-image-arm64 depends on no kernel: {depends}"))?;
    run(apt("apt-get").args(["download", kernel, "busybox-static"]))?;
    Ok(())
}

fn initrd(modules: &Path, busybox: &[u8], first: &[&str]) -> anyhow::Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "proc", "sys", "dev", "root", "modules"] {
        archive.folder(folder);
    }
    archive.file("init", INIT.as_bytes());
    archive.file("bin/busybox", busybox);
    let dependencies = fs::read_to_string(modules.join("modules.dep"))?;
    let builtin = fs::read_to_string(modules.join("modules.builtin"))?;
    let mut order = String::new();
    for module in load_order(&dependencies, &builtin, first)? {
        let content = if module.ends_with(".xz") {
            let unpacked = output(tool("xz").arg("-dc").arg(modules.join(&module)))?;
            if !unpacked.status.success() {
                bail!("cannot unpack {module}: {}", shown(&unpacked.stderr));
            }
            unpacked.stdout
        } else {
            fs::read(modules.join(&module))?
        };
        let file = format!("{}.ko", module_name(&module));
        archive.file(&format!("modules/{file}"), &content);
        order.push_str(&file);
        order.push('\n');
    }
    archive.file("modules/order", order.as_bytes());
    Ok(archive.finish())
}

/// The files of the modules and of those they need, each after what it needs. `dependencies` is
/// `modules.dep` (modules.dep(5)), in which what is needed stands in the reverse order of loading.
fn load_order(dependencies: &str, builtin: &str, wanted: &[&str]) -> anyhow::Result<Vec<String>> {
    let lines = dependencies.lines().filter_map(|line| line.split_once(':'));
    let by_name: HashMap<String, (&str, &str)> = lines
        .map(|(file, needs)| (module_name(file), (file, needs)))
        .collect();
    let mut order: Vec<String> = Vec::new();
    for name in wanted {
        let Some((file, needs)) = by_name.get(*name) else {
            if builtin.lines().any(|file| module_name(file) == *name) {
                continue;
            }
            bail!("the kernel has no module {name}");
        };
        for file in needs.split_whitespace().rev().chain([*file]) {
            if !order.iter().any(|known| known == file) {
                order.push(file.to_owned());
            }
        }
    }
    Ok(order)
}

/// `kernel/fs/ext4/ext4.ko.xz` → `ext4`; hyphens are underscores.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::load_order;

    #[test]
    fn a_module_comes_after_what_it_needs_and_once() {
        let dependencies = "fs/ext4.ko.xz: fs/jbd2.ko.xz lib/crc16.ko.xz\nlib/crc16.ko.xz:\nfs/jbd2.ko.xz: lib/crc16.ko.xz\nd/virtio-blk.ko:\n";
        let order = load_order(
            dependencies,
            "kernel/d/virtio_pci.ko\n",
            &["virtio_pci", "virtio_blk", "ext4", "jbd2"],
        )
        .unwrap();
        assert_eq!(
            order,
            [
                "d/virtio-blk.ko",
                "lib/crc16.ko.xz",
                "fs/jbd2.ko.xz",
                "fs/ext4.ko.xz"
            ]
        );
    }

    #[test]
    fn a_module_that_is_nowhere_is_said() {
        let error = load_order("", "", &["ext4"]).unwrap_err();
        assert_eq!(error.to_string(), "the kernel has no module ext4");
    }
}
