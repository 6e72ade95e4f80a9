//! The project's own Debian packages, as `image/package/build` makes them.

use crate::machine::Machine;
use crate::tool::{run, text, tool};
use anyhow::{Context, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// How it is compiled: see the workspace's `Cargo.toml`.
const PROFILE: &str = "machine";

/// A package for the machine's architecture.
#[derive(Debug, Clone)]
pub struct Package {
    file: PathBuf,
    bytes: Vec<u8>,
}

impl Package {
    /// Builds one of ours, `raspboxd` or `raspbox`: quick where nothing has changed, minutes else. Where
    /// `RASPBOX_PACKAGES` names a folder, the one that is there, as it is to be released.
    ///
    /// # Errors
    /// Where it can't be built.
    pub fn built(name: &str) -> anyhow::Result<Package> {
        if let Some(folder) = std::env::var_os("RASPBOX_PACKAGES") {
            // A test runs in its own package's folder, whoever says so in the workspace's.
            let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            return Package::in_folder(&workspace.join(folder), name);
        }
        // By one at a time, and once for all tests of a program: two builds would put their files into one
        // folder.
        static BUILT: Mutex<BTreeMap<String, Package>> = Mutex::new(BTreeMap::new());
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(package) = built.get(name) {
            return Ok(package.clone());
        }
        let package = Package::build(name)?;
        built.insert(name.into(), package.clone());
        Ok(package)
    }

    fn build(name: &str) -> anyhow::Result<Package> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut build = Command::new(workspace.join("image/package/build"));
        build
            .arg(format!("--only={name}"))
            .arg(format!("--profile={PROFILE}"))
            .arg("arm64")
            .stdin(Stdio::null());
        // What cargo tells a test of its own package would be taken for a change by build scripts, and most be
        // compiled anew.
        for (name, _) in std::env::vars_os() {
            let of_cargo = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
            if of_cargo
                .iter()
                .any(|own| name.as_bytes().starts_with(own.as_bytes()))
            {
                build.env_remove(name);
            }
        }
        // What it says is seen: it takes long, and a compiler's error is long. It says where the package is.
        let output = build
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run image/package/build")?;
        ensure!(
            output.status.success(),
            "image/package/build fails: {}",
            output.status
        );
        let said = String::from_utf8(output.stdout)?;
        let file = said
            .lines()
            .last()
            .context("image/package/build names no package")?;
        Package::read(PathBuf::from(file))
    }

    /// The same with another version, to upgrade to.
    ///
    /// # Errors
    /// Where it can't be put together.
    pub fn with_version(&self, version: &str) -> anyhow::Result<Package> {
        let dir = tempfile::tempdir()?;
        let tree = dir.path().join("tree");
        run(tool("dpkg-deb")
            .arg("--raw-extract")
            .arg(&self.file)
            .arg(&tree))?;
        let control = tree.join("DEBIAN/control");
        let lines = fs::read_to_string(&control)?;
        let lines = lines
            .lines()
            .map(|line| match line.strip_prefix("Version: ") {
                Some(_) => format!("Version: {version}\n"),
                None => format!("{line}\n"),
            });
        fs::write(&control, lines.collect::<String>())?;
        let file = dir.path().join("package.deb");
        run(tool("dpkg-deb").args(["--root-owner-group", "--build", text(&tree)?, text(&file)?]))?;
        Package::read(file)
    }

    /// Has dpkg itself install it, or upgrade to it.
    ///
    /// # Errors
    /// Where it doesn't, with what it said.
    pub fn install(&self, machine: &Machine) -> anyhow::Result<()> {
        machine.write("/run/package.deb", &self.bytes)?;
        machine
            .ok("DEBIAN_FRONTEND=noninteractive dpkg -i /run/package.deb && rm /run/package.deb")
            .map(drop)
    }

    /// The file itself.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn in_folder(folder: &Path, name: &str) -> anyhow::Result<Package> {
        let files = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
        let mut found = Vec::new();
        for file in files {
            let file = file?.path();
            let is_it = file
                .file_name()
                .and_then(|file| file.to_str())
                .is_some_and(|file| {
                    file.starts_with(&format!("{name}_")) && file.ends_with("_arm64.deb")
                });
            if is_it {
                found.push(file);
            }
        }
        match <[PathBuf; 1]>::try_from(found) {
            Ok([file]) => Package::read(file),
            Err(files) => bail!(
                "{} packages of {name} for arm64 in {}",
                files.len(),
                folder.display()
            ),
        }
    }

    fn read(file: PathBuf) -> anyhow::Result<Package> {
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Package { file, bytes })
    }
}
