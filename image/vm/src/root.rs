//! The guest's root file system as Debian's packages make it, without a kernel.

use crate::cache::{self, Key};
use crate::tool::{run, text, tool};
use anyhow::Context;
use std::path::{Path, PathBuf};

/// What Raspberry Pi OS is made from.
pub(crate) const SUITE: &str = "trixie";

/// What an appliance has, besides what Debian calls required: nothing that only the tests would need, for
/// then the appliance could come to need it unseen.
const PACKAGES: &[&str] = &[
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "iproute2",
    "network-manager",
    "e2fsprogs",
    "dosfstools",
    "exfatprogs",
    "fdisk",
    "procps",
];

/// Not unpacked: nobody reads in the guest.
const LEFT_OUT: &[&str] = &["doc", "man", "info", "locale"];

/// The root file system as `root.tar.zst`, and the key of what it was made from.
pub(crate) fn tar() -> anyhow::Result<(PathBuf, Key)> {
    // The recipe is what goes in, here and in the others.
    let key = Key::of([include_bytes!("root.rs").as_slice()]);
    let entry = cache::entry("root", &key, make)?;
    Ok((entry.join("root.tar.zst"), key))
}

fn make(dir: &Path) -> anyhow::Result<()> {
    let mut mmdebstrap = tool("mmdebstrap");
    mmdebstrap.args([
        "--variant=minbase",
        "--architectures=arm64",
        "--components=main",
    ]);
    mmdebstrap.args([
        "--aptopt=APT::Install-Recommends \"false\"",
        "--aptopt=Acquire::Retries \"3\"",
    ]);
    for what in LEFT_OUT {
        mmdebstrap.arg(format!("--dpkgopt=path-exclude=/usr/share/{what}/*"));
    }
    mmdebstrap.arg(format!("--include={}", PACKAGES.join(",")));
    mmdebstrap
        .arg(SUITE)
        .arg(text(&dir.join("root.tar.zst"))?)
        .args(sources());
    run(&mut mmdebstrap)
        .context("Debian for arm64 (image/vm/install makes its programs run here)")?;
    Ok(())
}

/// Lines of a `sources.list` for the guest.
pub(crate) fn sources() -> [String; 2] {
    let configured =
        std::fs::read_to_string("/etc/apt/sources.list.d/debian.sources").unwrap_or_default();
    let archive = |name: &str| {
        let end = format!("/{name}");
        let found = configured
            .lines()
            .filter_map(|line| line.strip_prefix("URIs:"))
            .map(|uri| uri.trim().trim_end_matches('/'));
        let found = found
            .into_iter()
            .find(|uri| uri.ends_with(&end))
            .map(str::to_owned);
        found.unwrap_or_else(|| format!("http://deb.debian.org/{name}"))
    };
    [
        format!("deb {} {SUITE} main", archive("debian")),
        format!("deb {} {SUITE}-security main", archive("debian-security")),
    ]
}
