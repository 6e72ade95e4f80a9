//! Making a drive of a stick, which erases it: only when told so with the device's name.

use crate::drive::attach::Drives;
use crate::drive::found::{Found, LABEL, Served};
use crate::programs::{LSBLK, MKFS_EXFAT, MKFS_EXT4, MKFS_FAT, SFDISK, UDEVADM, ask, run};
use anyhow::{Context, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many names of what is on a stick are shown.
const NAMES_SHOWN: usize = 10;

/// How long the kernel and udev may take to show a new partition.
const PARTITION_DEADLINE: Duration = Duration::from_secs(20);

/// What is on a device, for somebody who is about to erase it.
pub(crate) fn describe(device: &str) -> anyhow::Result<String> {
    let device = block_device(device)?;
    let columns = "NAME,SIZE,FSTYPE,LABEL,MODEL,MOUNTPOINTS";
    let listed = ask(LSBLK, &["-o", columns, &device])?;
    if listed.code != Some(0) {
        bail!("cannot look at {device}: {}", listed.said);
    }
    let mut text = listed.out;
    for part in parts(&device)? {
        let part = format!("/dev/{part}");
        match names_on(&part) {
            Ok(names) if names.is_empty() => {}
            Ok(names) => {
                let shown = names.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>();
                let more = names.len().saturating_sub(NAMES_SHOWN);
                let more = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                let _ = writeln!(text, "on {part}: {}{more}", shown.join(", "));
            }
            Err(error) => {
                let _ = writeln!(text, "on {part}: nobody knows ({error:#})");
            }
        }
    }
    Ok(text)
}

/// Erases a device and makes a drive of it; returns the device with the filesystem.
pub(crate) fn format(drives: &Drives, device: &str, kind: Served) -> anyhow::Result<String> {
    let device = block_device(device)?;
    for part in parts(&device)? {
        if let Some(point) = mounted_at(&part)? {
            bail!(
                "/dev/{part} is in use at {point}; release it first: raspboxd drive detach /dev/{part}"
            );
        }
    }
    let target = if is_whole_disk(&device)? {
        let id = match kind {
            Served::Ext4 => "83",
            Served::Exfat => "7",
            Served::Fat => "c",
        };
        // One partition over all of it, which Windows and Macs expect as well.
        let script = format!("label: dos\ntype={id}\n");
        let wipe = ["--wipe", "always", "--wipe-partitions", "always", &device];
        run(SFDISK, &wipe, &script)?;
        first_partition(&device)?
    } else {
        device
    };
    let user = drives.user()?;
    let owner = format!("root_owner={}:{}", user.uid, user.gid);
    match kind {
        // No blocks for root alone: nobody but the daemon writes here, and that keeps a floor free.
        Served::Ext4 => run(
            MKFS_EXT4,
            &["-q", "-F", "-m", "0", "-E", &owner, "-L", LABEL, &target],
            "",
        )?,
        Served::Exfat => run(MKFS_EXFAT, &["-L", LABEL, &target], "")?,
        Served::Fat => run(MKFS_FAT, &["-n", LABEL, &target], "")?,
    }
    let made = Found::on(&target)?;
    if made.label != LABEL {
        bail!("{target} was formatted, but there is no filesystem on it now; try another stick");
    }
    Ok(target)
}

/// Checks that it is a block device, and follows links like those in `/dev/disk`.
fn block_device(device: &str) -> anyhow::Result<String> {
    let path = fs::canonicalize(device).with_context(|| format!("cannot find {device}"))?;
    if !fs::metadata(&path)?.file_type().is_block_device() {
        bail!("{device} isn't a block device; sticks are called like /dev/sda, see lsblk");
    }
    let path = path.to_str().context("a device with an odd name")?;
    Ok(path.to_owned())
}

/// Where the kernel describes a device.
fn sys(device: &str) -> anyhow::Result<PathBuf> {
    let number = fs::metadata(device)?.rdev();
    let number = format!(
        "{}:{}",
        nix::sys::stat::major(number),
        nix::sys::stat::minor(number)
    );
    let own = Path::new("/sys/dev/block").join(&number);
    fs::canonicalize(own).with_context(|| format!("the kernel doesn't know {device} ({number})"))
}

fn is_whole_disk(device: &str) -> anyhow::Result<bool> {
    Ok(!sys(device)?.join("partition").exists())
}

/// The names of a device and of its partitions.
fn parts(device: &str) -> anyhow::Result<Vec<String>> {
    let own = sys(device)?;
    let name = own.file_name().context("a device without a name")?;
    let mut parts = vec![name.to_string_lossy().into_owned()];
    for entry in fs::read_dir(&own)?.flatten() {
        if entry.path().join("partition").exists() {
            parts.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    parts.sort_unstable();
    Ok(parts)
}

fn mounted_at(name: &str) -> anyhow::Result<Option<String>> {
    let number = fs::read_to_string(Path::new("/sys/class/block").join(name).join("dev"))?;
    let mounts = procfs::process::Process::myself()?.mountinfo()?;
    let mut mounts = mounts.0.into_iter();
    let mount = mounts.find(|mount| mount.majmin == number.trim());
    Ok(mount.map(|mount| mount.mount_point.display().to_string()))
}

/// The names at the top of a filesystem, looked at without changing it.
fn names_on(device: &str) -> anyhow::Result<Vec<String>> {
    let found = Found::on(device)?;
    let Some(filesystem) = &found.filesystem else {
        return Ok(Vec::new());
    };
    use crate::drive::found::Filesystem;
    // "noload": a journal that isn't empty is left as it is.
    let (kind, options) = match filesystem {
        Filesystem::Ext4 => ("ext4", Some("noload")),
        Filesystem::Exfat => ("exfat", None),
        Filesystem::Fat => ("vfat", None),
        Filesystem::Other(name) => bail!("its filesystem is {name}"),
    };
    let point = Path::new(crate::drive::RUN_DIR).join("look");
    fs::create_dir_all(&point)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(device), &point, Some(kind), flags, options).context("it can't be mounted")?;
    let names = fs::read_dir(&point).map(|entries| {
        let names = entries.flatten().map(|entry| entry.file_name());
        // They go to a terminal.
        let mut names: Vec<String> = names
            .map(|name| name.to_string_lossy().replace(char::is_control, "?"))
            .filter(|name| name != "lost+found")
            .collect();
        names.sort_unstable();
        names
    });
    umount2(&point, MntFlags::MNT_DETACH).context("cannot unmount it again")?;
    Ok(names?)
}

fn first_partition(disk: &str) -> anyhow::Result<String> {
    let deadline = Instant::now() + PARTITION_DEADLINE;
    loop {
        // What udev has on its way belongs to the partition that was there before.
        run(UDEVADM, &["settle", "--timeout=20"], "")?;
        let parts = parts(disk)?;
        if let [_, part, ..] = parts.as_slice() {
            let part = format!("/dev/{part}");
            if Path::new(&part).exists() {
                return Ok(part);
            }
        }
        if Instant::now() >= deadline {
            bail!("the partition on {disk} doesn't appear; unplug the stick and plug it in again");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
