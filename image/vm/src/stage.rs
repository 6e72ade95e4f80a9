//! A stage in the format of pi-gen, read and run as pi-gen does it, without pi-gen.
//!
//! A stage is a folder of sub-stages, which are folders of numbered steps. Where pi-gen passes over what it
//! doesn't know, or a script that isn't executable, without a word, this is an error.

use crate::tool::{output, run, shown, text, tool};
use anyhow::{Context, bail, ensure};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a script of a stage may call, as pi-gen offers it: bash gets functions by variables of these names.
const FUNCTIONS: &[(&str, &str)] = &[
    ("BASH_FUNC_log%%", "() { echo \"$*\"; }"),
    (
        "BASH_FUNC_copy_previous%%",
        "() { [ -d \"$PREV_ROOTFS_DIR\" ] && mkdir -p \"$ROOTFS_DIR\" && cp -a \"$PREV_ROOTFS_DIR/.\" \"$ROOTFS_DIR/\"; }",
    ),
    (
        "BASH_FUNC_on_chroot%%",
        "() { unshare --mount --propagation private bash -ec \"$RASPBOX_VM_CHROOT\" -- \"$@\"; }",
    ),
];

/// In a mount namespace of its own: what was mounted goes with it.
const CHROOT: &str = r#"
mount -t proc proc "$ROOTFS_DIR/proc"
mount -t sysfs sys "$ROOTFS_DIR/sys"
mount --rbind /dev "$ROOTFS_DIR/dev"
mount -t tmpfs tmpfs "$ROOTFS_DIR/run"
mount -t tmpfs tmpfs "$ROOTFS_DIR/tmp"
exec chroot "$ROOTFS_DIR" /bin/bash -e "$@""#;

/// A stage as its folder has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Where it is.
    pub dir: PathBuf,
    /// Whether it begins with a script of its own.
    pub has_prerun: bool,
    /// In the order in which they are run.
    pub sub_stages: Vec<SubStage>,
}

/// A folder of steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubStage {
    /// Where it is.
    pub dir: PathBuf,
    /// In the order in which they are run.
    pub steps: Vec<Step>,
}

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Answers for debconf, before packages ask.
    Debconf(PathBuf),
    /// These packages, without those that they recommend.
    PackagesAlone(Vec<String>),
    /// These packages.
    Packages(Vec<String>),
    /// A script, run on the computer that builds.
    Run(PathBuf),
    /// A script, run in the root that is built.
    RunInRoot(PathBuf),
}

/// Where a stage is run: the variables that pi-gen gives to scripts.
#[derive(Debug, Clone)]
pub(crate) struct Build {
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) log: PathBuf,
}

impl Stage {
    /// Reads it.
    ///
    /// # Errors
    /// Where something in it would do nothing: a script that can't be executed, a name that means nothing.
    pub fn read(dir: &Path) -> anyhow::Result<Stage> {
        let mut stage = Stage {
            dir: dir.to_owned(),
            has_prerun: false,
            sub_stages: Vec::new(),
        };
        for (name, path) in sorted(dir)? {
            match name.as_str() {
                "prerun.sh" => {
                    executable(&path)?;
                    stage.has_prerun = true;
                }
                "EXPORT_IMAGE" => {}
                _ if path.is_dir() => stage.sub_stages.push(SubStage::read(&path)?),
                _ => bail!("{}: pi-gen does nothing with it", path.display()),
            }
        }
        ensure!(
            !stage.sub_stages.is_empty(),
            "{}: nothing to do",
            dir.display()
        );
        Ok(stage)
    }

    /// Begins it, on the root that `PREV_ROOTFS_DIR` names, in the one that `ROOTFS_DIR` names, and runs the first
    /// of its sub-stages.
    pub(crate) fn begin(&self, build: &Build) -> anyhow::Result<()> {
        if self.has_prerun {
            build.script(&self.dir, "./prerun.sh")?;
        }
        self.sub_stages[..1]
            .iter()
            .try_for_each(|sub| sub.run(build))
    }

    /// Runs the others.
    pub(crate) fn go_on(&self, build: &Build) -> anyhow::Result<()> {
        self.sub_stages[1..]
            .iter()
            .try_for_each(|sub| sub.run(build))
    }
}

impl SubStage {
    fn read(dir: &Path) -> anyhow::Result<SubStage> {
        let files = sorted(dir)?;
        let mut steps = Vec::new();
        let mut known = 0;
        for number in 0..=99 {
            // In this order, whatever the alphabet says.
            for kind in [
                "debconf",
                "packages-nr",
                "packages",
                "run.sh",
                "run-chroot.sh",
            ] {
                let wanted = format!("{number:02}-{kind}");
                let Some((_, path)) = files.iter().find(|(name, _)| *name == wanted) else {
                    continue;
                };
                known += 1;
                steps.push(match kind {
                    "debconf" => Step::Debconf(path.clone()),
                    "packages-nr" => Step::PackagesAlone(packages(path)?),
                    "packages" => Step::Packages(packages(path)?),
                    "run.sh" => {
                        executable(path)?;
                        Step::Run(path.clone())
                    }
                    _ => Step::RunInRoot(path.clone()),
                });
            }
        }
        known += files.iter().filter(|(name, _)| name == "files").count();
        // Patches as well: this can't apply them.
        ensure!(
            known == files.len(),
            "{}: of {:?} only {known} are steps, or the folder 'files'",
            dir.display(),
            files.iter().map(|(name, _)| name).collect::<Vec<_>>()
        );
        Ok(SubStage {
            dir: dir.to_owned(),
            steps,
        })
    }
}

impl SubStage {
    fn run(&self, build: &Build) -> anyhow::Result<()> {
        for step in &self.steps {
            build
                .step(&self.dir, step)
                .with_context(|| format!("{step:?} in {}", self.dir.display()))?;
        }
        Ok(())
    }
}

impl Build {
    /// Commands of bash in the root that is built.
    pub(crate) fn in_root(&self, commands: &str) -> anyhow::Result<()> {
        let script = tempfile::NamedTempFile::new()?;
        fs::write(script.path(), commands)?;
        let mut bash = self.bash("on_chroot");
        bash.stdin(File::open(script.path())?);
        self.finish(&mut bash)
    }

    fn step(&self, dir: &Path, step: &Step) -> anyhow::Result<()> {
        match step {
            Step::Debconf(file) => self.in_root(&format!(
                "debconf-set-selections <<SELEOF\n{}\nSELEOF\n",
                fs::read_to_string(file)?
            )),
            Step::PackagesAlone(names) => self.install(&["--no-install-recommends"], names),
            Step::Packages(names) => self.install(&[], names),
            Step::Run(file) => {
                let name = file.file_name().context("a script has a name")?;
                self.script(dir, &format!("./{}", name.display()))
            }
            Step::RunInRoot(file) => self.in_root(&fs::read_to_string(file)?),
        }
    }

    fn install(&self, options: &[&str], names: &[String]) -> anyhow::Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        self.in_root(&format!(
            "apt-get install {} -y {}",
            options.join(" "),
            names.join(" ")
        ))
    }

    fn script(&self, dir: &Path, command: &str) -> anyhow::Result<()> {
        let mut bash = self.bash(command);
        bash.current_dir(dir);
        self.finish(&mut bash)
    }

    fn bash(&self, command: &str) -> Command {
        let mut bash = tool("bash");
        bash.args(["-ec", command])
            .envs(FUNCTIONS.iter().copied())
            .env("RASPBOX_VM_CHROOT", CHROOT)
            .envs(&self.variables)
            // As of a computer that is set to no language, so that none has to be in the root.
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        bash
    }

    fn finish(&self, bash: &mut Command) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        bash.stdout(log.try_clone()?).stderr(log);
        let output = output(bash)?;
        ensure!(
            output.status.success(),
            "it fails ({}): {}",
            output.status,
            shown(&fs::read(&self.log)?)
        );
        Ok(())
    }
}

/// The variables that `image/config` sets, by bash, as pi-gen reads it.
pub(crate) fn config(file: &Path, stage: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let printed = run(tool("bash")
        .args(["-ec", "set -a; . \"$1\"; env -0", "--", text(file)?])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("RASPBOX_STAGE", stage))?;
    let pairs = printed
        .split('\0')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| !matches!(*name, "_" | "PATH" | "PWD" | "SHLVL" | "OLDPWD"));
    Ok(pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

/// Names of packages, as pi-gen finds them: words, and comments from `#` on.
fn packages(file: &Path) -> anyhow::Result<Vec<String>> {
    let lines =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let words = lines
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or(line).split_whitespace());
    Ok(words.map(str::to_owned).collect())
}

fn executable(script: &Path) -> anyhow::Result<()> {
    let mode = fs::metadata(script)?.permissions().mode();
    ensure!(
        mode & 0o111 == 0o111,
        "{} can't be executed, and pi-gen would pass over it",
        script.display()
    );
    Ok(())
}

fn sorted(dir: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for file in fs::read_dir(dir).with_context(|| format!("no {}", dir.display()))? {
        let file = file?;
        let name = file.file_name().into_string();
        let name = name.map_err(|name| anyhow::anyhow!("{} is no text", name.display()))?;
        found.push((name, file.path()));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Stage, Step};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn made(files: &[(&str, &str, u32)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content, mode) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        dir
    }

    fn steps(dir: &Path) -> anyhow::Result<Vec<Step>> {
        let stage = Stage::read(dir)?;
        Ok(stage
            .sub_stages
            .into_iter()
            .flat_map(|sub| sub.steps)
            .collect())
    }

    #[test]
    fn steps_go_by_number_and_then_in_pi_gens_order() {
        let dir = made(&[
            ("01-b/00-run-chroot.sh", "", 0o644),
            ("00-a/10-run.sh", "", 0o755),
            ("00-a/02-packages", "tar\n", 0o644),
            (
                "00-a/02-packages-nr",
                "# two\nfirst second # and third\n\n",
                0o644,
            ),
            ("00-a/02-debconf", "", 0o644),
            ("00-a/files/anything", "", 0o644),
        ]);
        let at = |name: &str| dir.path().join(name);
        assert_eq!(
            steps(dir.path()).unwrap(),
            [
                Step::Debconf(at("00-a/02-debconf")),
                Step::PackagesAlone(vec!["first".into(), "second".into()]),
                Step::Packages(vec!["tar".into()]),
                Step::Run(at("00-a/10-run.sh")),
                Step::RunInRoot(at("01-b/00-run-chroot.sh")),
            ]
        );
    }

    #[test]
    fn what_pi_gen_would_pass_over_is_an_error() {
        let good = ("00-a/00-run.sh", "", 0o755);
        for bad in [
            ("00-a/01-run.sh", "", 0o644),
            ("prerun.sh", "", 0o644),
            ("00-a/1-run.sh", "", 0o755),
            ("00-a/01-run-chroot", "", 0o755),
            ("00-a/01-patches/series", "", 0o644),
            ("README", "", 0o644),
        ] {
            assert!(steps(made(&[good, bad]).path()).is_err(), "{bad:?}");
        }
        assert!(steps(made(&[good]).path()).is_ok());
        assert!(steps(made(&[("EXPORT_IMAGE", "", 0o644)]).path()).is_err());
    }
}
