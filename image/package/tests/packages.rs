//! The packages as `image/package/build` has made them: what is in them, and their programs run as by the
//! computer that they are for, emulated, with this computer's own programs on the other side.
//!
//! They are looked for in `target/deb/`, or in the folder that `RASPBOX_PACKAGES` names; one that isn't there
//! fails its tests. `cargo package-test armhf` are the tests of one architecture.

use raspbox_try::bed::{AS_RASPBOX, AS_RASPBOXD, Appliance, Workstation, wait_for};
use raspbox_try::tree;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// What a package is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Arm64,
    /// Every 32-bit Pi, from the first one on.
    Armhf,
    /// A Pi 2 or newer with a 32-bit system.
    Armv7,
    Amd64,
}

impl For {
    /// As dpkg names it.
    fn debian(self) -> &'static str {
        match self {
            For::Arm64 => "arm64",
            For::Armhf | For::Armv7 => "armhf",
            For::Amd64 => "amd64",
        }
    }

    /// Below the folder with all packages.
    fn folder(self) -> &'static str {
        match self {
            For::Armv7 => "armv7",
            For::Arm64 | For::Armhf | For::Amd64 => ".",
        }
    }

    /// The oldest processor that has to do, emulated; and where its C library is, if it needs one.
    fn emulator(self) -> Option<(&'static str, &'static str, Option<&'static str>)> {
        match self {
            // Pi 3, Zero 2.
            For::Arm64 => Some(("qemu-aarch64", "cortex-a53", Some("/usr/aarch64-linux-gnu"))),
            // Pi 1, Zero.
            For::Armhf => Some(("qemu-arm", "arm1176", None)),
            // Pi 2.
            For::Armv7 => Some(("qemu-arm", "cortex-a7", Some("/usr/arm-linux-gnueabihf"))),
            For::Amd64 => None,
        }
    }

    /// What `readelf` says of a program for it: class and machine.
    fn elf(self) -> [&'static str; 2] {
        match self {
            For::Arm64 => ["ELF64", "AArch64"],
            For::Armhf | For::Armv7 => ["ELF32", "ARM"],
            For::Amd64 => ["ELF64", "X86-64"],
        }
    }
}

/// A package that is unpacked.
struct Package {
    built_for: For,
    file: PathBuf,
    dir: TempDir,
}

impl Package {
    fn of(name: &str, built_for: For) -> Package {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let packages = std::env::var_os("RASPBOX_PACKAGES")
            .map_or_else(built, |folder| workspace.join(folder));
        let file = packages.join(built_for.folder()).join(format!(
            "{name}_{}-1_{}.deb",
            env!("CARGO_PKG_VERSION"),
            built_for.debian()
        ));
        assert!(
            file.exists(),
            "no {}: image/package/build makes it",
            file.display()
        );
        let dir = TempDir::new().expect("a folder");
        ok(Command::new("dpkg-deb")
            .arg("-x")
            .arg(&file)
            .arg(dir.path()));
        Package {
            built_for,
            file,
            dir,
        }
    }

    /// A file that it installs.
    fn installed(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn control(&self, field: &str) -> String {
        let output = ok(Command::new("dpkg-deb")
            .arg("-f")
            .arg(&self.file)
            .arg(field));
        output.trim().to_owned()
    }

    /// How its program is started here, as words of a shell.
    fn program(&self, name: &str) -> String {
        let program = self.installed("usr/bin").join(name);
        let program = program.to_str().expect("a plain name");
        match self.built_for.emulator() {
            None => format!("'{program}'"),
            Some((emulator, processor, library)) => {
                let library = library.map_or_else(String::new, |dir| format!("-L {dir}"));
                let emulator = found(emulator);
                format!("{emulator} -cpu {processor} {library} '{program}'")
            }
        }
    }

    /// A program that plays its part in [`raspbox_try::bed`].
    fn player(&self, part: &str, name: &str) -> PathBuf {
        let script = self.dir.path().join("player");
        let program = self.program(name);
        let text =
            format!("#!/bin/sh\n[ \"$1\" = {part} ] || exit 9\nshift\nexec {program} \"$@\"\n");
        fs::write(&script, text).expect("a script");
        fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("a script");
        script
    }
}

/// Where `image/package/build` puts them.
fn built() -> PathBuf {
    let target = own().parent().and_then(Path::parent);
    target.expect("it is in target/debug").join("deb")
}

/// This computer's own raspbox and raspboxd.
fn own() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_raspbox-package"))
}

/// QEMU's emulator under the name that it has here.
fn found(emulator: &str) -> String {
    let names = [emulator.to_owned(), format!("{emulator}-static")];
    let dirs = std::env::var_os("PATH").expect("a PATH");
    names
        .into_iter()
        .find(|name| std::env::split_paths(&dirs).any(|dir| dir.join(name).exists()))
        .unwrap_or_else(|| panic!("no {emulator}: image/package/install gets it"))
}

#[track_caller]
fn ok(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("text")
}

fn said(output: &Output) -> String {
    let bytes = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The package is complete, and its program asks for nothing that the computer may not have.
fn is_whole(name: &str, built_for: For) {
    let package = Package::of(name, built_for);
    assert_eq!(package.control("Architecture"), built_for.debian());
    let section = if name == "raspboxd" { 8 } else { 1 };
    let mut files = vec![
        format!("usr/bin/{name}"),
        format!("usr/share/man/man{section}/{name}.{section}.gz"),
        format!("usr/share/man/man{section}/{name}-status.{section}.gz"),
        format!("usr/share/bash-completion/completions/{name}"),
        format!("usr/share/zsh/vendor-completions/_{name}"),
        format!("usr/share/fish/vendor_completions.d/{name}.fish"),
        format!("usr/share/doc/{name}/copyright"),
        format!("usr/share/doc/{name}/sbom.cdx.json"),
    ];
    if name == "raspboxd" {
        files.push("usr/share/man/man5/raspbox.toml.5.gz".to_owned());
        // The tree as it is installed, nothing left out.
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../systemd");
        let units = tree::read(&tree).expect("the units");
        files.extend(
            units
                .iter()
                .filter(|(_, entry)| matches!(entry, tree::Entry::File(..)))
                .map(|(path, _)| path.to_str().expect("a plain name").to_owned()),
        );
        assert!(files.contains(&"usr/lib/systemd/system/raspbox.service".to_owned()));
    }
    for file in files {
        assert!(package.installed(&file).exists(), "{name} has no {file}");
    }
    if name == "raspboxd" {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("raspboxd");
        for script in ["postinst", "prerm", "postrm"] {
            let ours = fs::read_to_string(scripts.join(script)).expect("a script");
            let run = ok(Command::new("dpkg-deb")
                .arg("-I")
                .arg(&package.file)
                .arg(script));
            assert_eq!(run, ours, "{script}");
        }
    }

    let program = package.installed("usr/bin").join(name);
    let header = ok(Command::new("readelf").arg("-hlSA").arg(&program));
    for word in built_for.elf() {
        assert!(header.contains(word), "no {word}:\n{header}");
    }
    // What it was made of, for those who look for known holes in it (cargo-auditable).
    assert!(header.contains(".dep-v0"), "{header}");
    let depends = package.control("Depends");
    // A dynamic program names its loader, and the package the C library.
    assert_eq!(header.contains("INTERP"), built_for != For::Armhf);
    let needed = depends
        .split_once("libc6 (>= ")
        .and_then(|(_, rest)| rest.split_once(')'))
        .map(|(version, _)| number(version));
    assert_eq!(needed.is_some(), built_for != For::Armhf, "{depends}");
    // Nor a newer C library than the package asks for, whatever it was built with.
    assert!(newest_of_libc(&program) <= needed, "{depends}");
    if built_for == For::Armhf {
        // Where any object in it was made for a newer processor, the linker writes so.
        let processor = header
            .lines()
            .find_map(|line| line.trim().strip_prefix("Tag_CPU_arch: "))
            .expect("it says for which processor it is");
        assert!(processor.starts_with("v6"), "{processor}");
    }
    let version = ok(Command::new("sh")
        .arg("-c")
        .arg(format!("{} --version", package.program(name))));
    assert_eq!(
        version.trim(),
        format!("{name} {}", env!("CARGO_PKG_VERSION"))
    );
}

/// The newest version of the C library that a program has symbols of.
fn newest_of_libc(program: &Path) -> Option<(u32, u32)> {
    let versions = ok(Command::new("readelf").arg("-VW").arg(program));
    let names = versions.split("GLIBC_").skip(1);
    names
        .map(|name| {
            let end = name.find(|c: char| c != '.' && !c.is_ascii_digit());
            number(&name[..end.unwrap_or(name.len())])
        })
        .max()
}

/// A version of the C library.
fn number(version: &str) -> (u32, u32) {
    let (major, minor) = version.split_once('.').expect("two numbers");
    let minor = minor.split('.').next().expect("at least one piece");
    let read = |number: &str| number.parse().expect("a number");
    (read(major), read(minor))
}

/// Two workstations of this computer's kind sync through the package's daemon.
fn its_daemon_serves(built_for: For) {
    let package = Package::of("raspboxd", built_for);
    let dir = TempDir::new().expect("a folder");
    let player = package.player(AS_RASPBOXD, "raspboxd");
    let appliance = Appliance::start(&player, dir.path()).expect("an appliance");
    syncs_both_ways(appliance, own(), own(), dir.path());
}

/// The package's client and this computer's sync through this computer's daemon.
fn its_client_syncs(built_for: For) {
    let package = Package::of("raspbox", built_for);
    let dir = TempDir::new().expect("a folder");
    let appliance = Appliance::start(own(), dir.path()).expect("an appliance");
    let player = package.player(AS_RASPBOX, "raspbox");
    syncs_both_ways(appliance, &player, own(), dir.path());
}

/// Everything that a sync does once: pairing, a tree there, edits back, live, a version back.
fn syncs_both_ways(mut appliance: Appliance, one: &Path, other: &Path, dir: &Path) {
    let one = Workstation::new(one, dir, "one");
    let other = Workstation::new(other, dir, "other");
    for station in [&one, &other] {
        station.pair(&appliance).expect("paired");
    }
    let same = |what: &str| {
        tree::compare(&one.folder, &other.folder).expect(what);
        tree::compare(&one.folder, &appliance.drive()).expect(what);
    };

    tree::make_sample(&one.folder).expect("a tree");
    // Several pieces of a transfer, and of a hash.
    fs::write(one.folder.join("large"), noise(3_000_000)).expect("a file");
    // Where a number of 32 bits ends.
    let late = SystemTime::UNIX_EPOCH + Duration::from_secs(2_500_000_000);
    let file = File::create(one.folder.join("from 2049")).expect("a file");
    file.set_modified(late).expect("a time");
    one.sync().expect("there");
    other.sync().expect("from there");
    same("a tree");

    fs::write(other.folder.join("large"), "no longer").expect("an edit");
    fs::rename(other.folder.join("from 2049"), other.folder.join("moved")).expect("a move");
    fs::create_dir_all(other.folder.join("new/folder")).expect("a folder");
    other.sync().expect("there");
    one.sync().expect("from there");
    same("edits");
    assert!(one.folder.join("moved").exists());

    let large = one.folder.join("large");
    let restored = one
        .run(&["restore", large.to_str().expect("a plain name")])
        .expect("a version");
    assert!(restored.status.success(), "{}", said(&restored));
    assert_eq!(
        fs::read(one.folder.join("large")).expect("it is back"),
        noise(3_000_000)
    );
    other.sync().expect("from there");
    same("a version");

    // Live, in both directions.
    let (mut here, mut there) = (one.watch().expect("watch"), other.watch().expect("watch"));
    here.ready().expect("in sync");
    there.ready().expect("in sync");
    for (from, to) in [(&one, &other), (&other, &one)] {
        let name = format!("live from {}", from.name);
        fs::write(from.folder.join(&name), &name).expect("a file");
        wait_for(&name, || {
            (fs::read_to_string(to.folder.join(&name)).ok()? == name).then_some(())
        })
        .expect("it arrives");
    }
    for mut watch in [here, there] {
        assert!(watch.stop().expect("it ends").success());
    }

    // What was paired is known again after a start.
    assert!(appliance.stop().expect("it ends").success());
    appliance.restart().expect("it starts");
    one.sync().expect("in sync");
    other.sync().expect("in sync");
}

/// Bytes that don't compress.
fn noise(len_bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()[7]
    };
    (0..len_bytes).map(|_| byte()).collect()
}

#[test]
fn raspboxd_for_arm64_is_whole() {
    is_whole("raspboxd", For::Arm64);
}

#[test]
fn raspboxd_for_armhf_is_whole_and_needs_only_the_first_pi() {
    is_whole("raspboxd", For::Armhf);
}

#[test]
fn raspboxd_for_armv7_is_whole() {
    is_whole("raspboxd", For::Armv7);
}

#[test]
fn raspboxd_for_amd64_is_whole() {
    is_whole("raspboxd", For::Amd64);
}

#[test]
fn raspbox_for_arm64_is_whole() {
    is_whole("raspbox", For::Arm64);
}

#[test]
fn raspbox_for_armhf_is_whole_and_needs_only_the_first_pi() {
    is_whole("raspbox", For::Armhf);
}

#[test]
fn raspbox_for_armv7_is_whole() {
    is_whole("raspbox", For::Armv7);
}

#[test]
fn raspbox_for_amd64_is_whole() {
    is_whole("raspbox", For::Amd64);
}

#[test]
fn raspboxd_for_arm64_serves() {
    its_daemon_serves(For::Arm64);
}

#[test]
fn raspboxd_for_armhf_serves_on_the_first_pis_processor() {
    its_daemon_serves(For::Armhf);
}

#[test]
fn raspboxd_for_armv7_serves() {
    its_daemon_serves(For::Armv7);
}

#[test]
fn raspboxd_for_amd64_serves() {
    its_daemon_serves(For::Amd64);
}

#[test]
fn raspbox_for_arm64_syncs() {
    its_client_syncs(For::Arm64);
}

#[test]
fn raspbox_for_armhf_syncs_on_the_first_pis_processor() {
    its_client_syncs(For::Armhf);
}

#[test]
fn raspbox_for_armv7_syncs() {
    its_client_syncs(For::Armv7);
}

#[test]
fn raspbox_for_amd64_syncs() {
    its_client_syncs(For::Amd64);
}
