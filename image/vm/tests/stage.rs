//! What the SD card's stage does, `systemd/` has and the packages install must fit together.

use anyhow::Context;
use raspbox_vm::{Stage, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn stage() -> Stage {
    Stage::read(&workspace().join("image/stage-raspbox")).unwrap()
}

/// All files below a folder, by their paths from there.
fn files_below(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir)
        .with_context(|| format!("{}", dir.display()))
        .unwrap()
    {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let below = files_below(&path).into_iter();
            found.extend(below.map(|file| Path::new(path.file_name().unwrap()).join(file)));
        } else {
            found.insert(path.file_name().unwrap().into());
        }
    }
    found
}

/// Each script of the stage, by its path.
fn scripts() -> BTreeMap<PathBuf, String> {
    let steps = stage().sub_stages.into_iter().flat_map(|sub| sub.steps);
    let scripts = steps.filter_map(|step| match step {
        Step::Run(file) | Step::RunInRoot(file) => Some(file),
        Step::Debconf(_) | Step::Packages(_) | Step::PackagesAlone(_) => None,
    });
    scripts
        .map(|file| (file.clone(), fs::read_to_string(&file).unwrap()))
        .collect()
}

/// The units that a script gives to `systemctl WHAT`, over continued lines.
fn units(script: &str, what: &str) -> Vec<String> {
    let joined = script.replace("\\\n", " ");
    let lines = joined.lines().filter_map(|line| {
        let words = line.trim().strip_prefix("systemctl ")?;
        words.strip_prefix(what)?.strip_prefix(' ')
    });
    lines
        .flat_map(|line| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// A line of a script that installs a file from `files/`: its name there, and where it gets to.
fn installed(script: &str) -> Vec<(String, String)> {
    let lines = script
        .lines()
        .filter_map(|line| line.trim().strip_prefix("install -m "));
    let lines = lines.filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let from = words.next()?.strip_prefix("files/")?.to_owned();
        let to = words.next()?.trim_matches('"');
        let to = to.strip_prefix("${ROOTFS_DIR}/")?;
        let to = if to.ends_with('/') {
            format!("{to}{from}")
        } else {
            to.to_owned()
        };
        Some((from, to))
    });
    lines.collect()
}

#[test]
fn pi_gen_would_run_all_of_it() {
    let stage = stage();
    assert!(stage.has_prerun && stage.dir.join("EXPORT_IMAGE").is_file());
    let names: Vec<_> = stage
        .sub_stages
        .iter()
        .map(|sub| sub.dir.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "00-base",
            "01-raspbox",
            "02-network",
            "03-readonly",
            "04-hardening"
        ]
    );
    assert!(stage.sub_stages.iter().all(|sub| !sub.steps.is_empty()));
}

#[test]
fn what_is_enabled_is_there() {
    let packaged = workspace().join("systemd/usr/lib/systemd/system");
    // By the packages of 00-base, and by systemd itself.
    let debians = [
        "NetworkManager.service",
        "systemd-timesyncd.service",
        "ssh.service",
    ];
    for (file, script) in scripts() {
        for unit in units(&script, "enable")
            .into_iter()
            .chain(units(&script, "disable"))
        {
            let of_stage = file.parent().unwrap().join("files").join(&unit);
            assert!(
                of_stage.is_file() || debians.contains(&unit.as_str()),
                "{}: there is no {unit}",
                file.display()
            );
            // The package enables its own when it is installed; a second place would come to say otherwise.
            assert!(!packaged.join(&unit).exists(), "{unit} is the package's");
        }
        for unit in units(&script, "mask") {
            assert!(
                !unit.starts_with("raspbox"),
                "{}: {unit} is ours",
                file.display()
            );
        }
    }
}

#[test]
fn nothing_is_installed_twice_and_nothing_is_left_over() {
    let mut places = files_below(&workspace().join("systemd"));
    for (file, script) in scripts() {
        let files = file.parent().unwrap().join("files");
        let mut used = BTreeSet::new();
        for (from, to) in installed(&script) {
            assert!(files.join(&from).is_file(), "{}: no {from}", file.display());
            assert!(places.insert(PathBuf::from(&to)), "{to} is installed twice");
            used.insert(from);
        }
        if file.to_str().unwrap().ends_with("-run.sh") && files.is_dir() {
            for left_over in files_below(&files) {
                let name = left_over.to_str().unwrap();
                assert!(
                    used.contains(name) || script.contains(&format!("cat files/{name} ")),
                    "{name} gets nowhere"
                );
            }
        }
    }
}

#[test]
fn all_that_the_units_keep_is_on_the_state_partition() {
    let init = workspace().join("image/stage-raspbox/03-readonly/files/init");
    let init = fs::read_to_string(init).unwrap();
    let kept = init
        .lines()
        .find_map(|line| line.trim().strip_prefix("for folder in "))
        .unwrap();
    let kept: BTreeSet<_> = kept
        .trim_end_matches("; do")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let mut needed = BTreeSet::new();
    let mut look = |text: &str| {
        let names = text
            .split("/var/lib/")
            .skip(1)
            .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-'));
        let names = names.filter_map(|mut words| words.next());
        let directories = text
            .lines()
            .filter_map(|line| line.strip_prefix("StateDirectory="));
        for name in names.chain(directories) {
            if name.starts_with("raspbox") && name != "raspbox-state" {
                needed.insert(name.to_owned());
            }
        }
    };
    for tree in ["systemd", "image/stage-raspbox", "appliance/src"] {
        let tree = workspace().join(tree);
        for file in files_below(&tree) {
            let text = fs::read_to_string(tree.join(file)).unwrap();
            look(&text);
        }
    }
    assert_eq!(kept, needed);
}

/// `image/build.sh` with this as `PI_GEN_DIR`: that it ends before it begins, and what it complained of.
fn complaint(pi_gen_dir: &str, architecture: &str) -> String {
    let output = Command::new(workspace().join("image/build.sh"))
        .arg(architecture)
        .env("PI_GEN_DIR", pi_gen_dir)
        .env_remove("RASPBOX_PACKAGE")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_build_says_first_what_is_missing() {
    let config = fs::read_to_string(workspace().join("image/config")).unwrap();
    for architecture in ["arm64", "armhf"] {
        let pinned = config
            .split(&format!("RASPBOX_PI_GEN_{architecture}="))
            .nth(1)
            .and_then(|rest| rest.lines().next())
            .unwrap();
        assert_eq!(pinned.len(), 40, "a whole commit");
        let said = complaint("", architecture);
        let command = format!("git -C pi-gen-{architecture} checkout {pinned}");
        assert!(said.contains(&command), "{said}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    assert!(complaint(path, "arm64").contains("there is no build.sh"));
    // A checkout of something else.
    fs::write(dir.path().join("build.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(
        dir.path().join("build.sh"),
        PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    for arguments in [
        &["init", "-q"][..],
        &["add", "."],
        &[
            "-c",
            "user.name=x",
            "-c",
            "user.email=x",
            "commit",
            "-qm",
            "x",
        ],
    ] {
        let git = Command::new("git")
            .arg("-C")
            .arg(path)
            .args(arguments)
            .status();
        assert!(git.unwrap().success());
    }
    let said = complaint(path, "arm64");
    assert!(said.contains(&format!("{path} is at ")), "{said}");
}

#[test]
fn what_asks_for_the_read_only_root_is_what_is_installed() {
    let scripts = scripts();
    let (_, script) = scripts
        .iter()
        .find(|(file, _)| file.ends_with("03-readonly/00-run.sh"))
        .unwrap();
    let asked = script
        .split("init=/")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    assert!(
        installed(script)
            .iter()
            .any(|(from, to)| from == "init" && to == asked)
    );
}

#[test]
fn the_kernel_is_asked_for_the_limit_on_memory_that_the_daemon_has() {
    let unit = workspace().join("systemd/usr/lib/systemd/system/raspbox.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    assert!(unit.contains("\nMemoryMax="));
    let scripts = scripts();
    let asked = |script: &String| script.contains(" cgroup_enable=memory init=");
    assert_eq!(scripts.values().filter(|script| asked(script)).count(), 1);
}
