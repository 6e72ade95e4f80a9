//! `raspboxd boot`: once at each start, as root, before the network and the daemon.
//!
//! Takes what the owner's file says to whom it concerns. Each step is by itself, and none fails the boot:
//! what is wrong is told, and everything else still comes up.
//!
//! - `remembered` what was taken out of the file and root keeps, `take_in` how it gets there,
//!   `apply` what the running system is told, `told` what is told of it all.

mod apply;
mod remembered;
mod take_in;
pub(crate) mod told;

use crate::clock;
use crate::network;
use crate::network::files::create_files;
use crate::network::wanted::{Key, Wanted};
use crate::owner::file::{File, Problem};
use crate::owner::settings::{self, PORT_DEFAULT, Settings};
use crate::owner::{NAMES, ZONES};
use crate::root::Root;
use crate::whole;
use anyhow::Context;
use apply::Effect;
use remembered::Remembered;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use told::Told;

/// The first partition of the card, where Raspberry Pi OS has it mounted.
const CARD: &str = "/boot/firmware";

/// What the parts tell each other; root writes, all read.
pub(crate) const RUN: &str = "/run/raspbox";

/// The daemon's state directory.
const STATE: &str = "/var/lib/raspbox";

/// The daemon's configuration, for `raspboxd serve --config`.
const DAEMON_FILE: &str = "/run/raspbox/daemon.toml";

/// What the owner's file said last, without what was taken out of it.
const COPY: &str = "/var/lib/raspbox-boot/raspbox.toml";

/// The largest file that is looked at, and one byte.
const OWNERS_MAX_BYTES: u64 = (64 << 10) + 1;

/// The owner's file as it was found.
struct Found {
    path: PathBuf,
    name: &'static str,
    bytes: Vec<u8>,
    /// Whether the card can be read, and so can have a page.
    has_card: bool,
}

/// Does it all, and tells of it.
pub(crate) fn boot(root: &Root) -> Told {
    let mut problems = Vec::new();
    let mut note = |result: anyhow::Result<()>| {
        if let Err(error) = result {
            problems.push(format!("{error:#}"));
        }
    };
    note(make_folder(root, RUN));
    // First of all, so that the daemon starts whatever comes.
    note(write(
        root,
        DAEMON_FILE,
        &Settings::default().for_daemon(),
        0o644,
    ));
    note(set_clock(root));
    let (found, mut wrong) = find(root);
    let mut told = match found {
        Some(found) => heed(root, &found, &mut wrong),
        None => Told::default(),
    };
    problems.append(&mut wrong);
    told.problems = problems;
    if let Err(error) = told.write(root) {
        tracing::error!(error = format!("{error:#}"), "cannot tell what was done");
    }
    told
}

/// Does what the file says.
fn heed(root: &Root, found: &Found, problems: &mut Vec<String>) -> Told {
    let zones = Some(root.at(ZONES)).filter(|zones| zones.is_dir());
    let understand = |bytes: &[u8]| {
        let file = File::parse(bytes.to_vec());
        let (settings, wrong) = settings::read(&file, zones.as_deref());
        (file, settings, wrong)
    };
    let understood = std::panic::catch_unwind(|| understand(&found.bytes));
    let (file, settings, wrong) = understood.unwrap_or_else(|_| {
        let (file, settings, _) = understand(&[]);
        let what = "nothing of it counts, by a mistake in raspboxd".into();
        (file, settings, vec![Problem { line: None, what }])
    });
    problems.extend(wrong.iter().map(|problem| problem.after(&found.name)));
    let mut note = |result: anyhow::Result<()>| {
        if let Err(error) = result {
            problems.push(format!("{error:#}"));
        }
    };
    note(write(root, DAEMON_FILE, &settings.for_daemon(), 0o644));
    let mut remembered = match Remembered::read(root) {
        Ok(remembered) => remembered,
        Err(error) => {
            note(Err(error));
            Remembered::default()
        }
    };
    let taken = take_in::take_in(
        root,
        &found.path,
        &file,
        &settings,
        &mut remembered,
        &|_| Ok(()),
    );
    for problem in taken {
        note(Err(problem));
    }
    note(keep_copy(root, &found.path));
    let (wanted, wrong) = wanted(&settings, &remembered);
    note(match wrong {
        Some(problem) => Err(anyhow::anyhow!(problem.after(&found.name))),
        None => Ok(()),
    });
    let files = create_files(&wanted, &settings.name);
    note(remove_others(root, &files));
    for file in files {
        note(write(root, &file.path, &file.content, 0o600));
    }
    for effect in effects(&settings, &wanted) {
        note(effect.perform(root));
    }
    let mut told = Told::of(found.name, &settings, &wanted, &remembered);
    if !found.has_card {
        told.page = None;
    }
    told
}

/// What the network shall be, with what is remembered of it.
fn wanted(settings: &Settings, remembered: &Remembered) -> (Wanted, Option<Problem>) {
    let mut wanted = Wanted {
        fixed: settings.fixed,
        dns: settings.dns.clone(),
        wifi: None,
    };
    let Some(said) = &settings.wifi else {
        return (wanted, None);
    };
    let known = remembered.password_of(&said.ssid).map(Key::Password);
    match said.key.clone().or(known) {
        Some(key) => {
            wanted.wifi = Some(crate::network::wanted::Wifi {
                ssid: said.ssid.clone(),
                key,
                country: said.country,
                hidden: said.hidden,
            });
            (wanted, None)
        }
        None if said.is_wrong => (wanted, None),
        None => {
            let what = format!(
                "the password of the Wi-Fi {:?} isn't known here: write it below as password = \"...\" \
                 (or open = true, if it has none)",
                said.ssid.as_str()
            );
            let line = Some(said.line);
            (wanted, Some(Problem { line, what }))
        }
    }
}

/// The same with nothing remembered.
#[cfg(feature = "fuzz")]
pub(crate) fn wanted_alone(settings: &Settings) -> Wanted {
    wanted(settings, &Remembered::default()).0
}

fn effects(settings: &Settings, wanted: &Wanted) -> Vec<Effect> {
    let mut effects = vec![
        Effect::Name(settings.name.clone()),
        Effect::TimeZone(settings.timezone.clone()),
    ];
    if settings.port != PORT_DEFAULT {
        effects.push(Effect::Port(settings.port));
    }
    if let Some(wifi) = &wanted.wifi {
        effects.extend(wifi.country.map(Effect::Country));
        effects.push(Effect::RadioOn);
    }
    effects
}

/// The owner's file, by whichever name it has, and what is wrong with that; `None` on a machine that never
/// had one.
fn find(root: &Root) -> (Option<Found>, Vec<String>) {
    let mut problems = Vec::new();
    let mut found: Option<Found> = None;
    for name in NAMES {
        let path = root.at(CARD).join(name);
        match whole::read(&path, OWNERS_MAX_BYTES) {
            Ok(None) => {}
            Ok(Some(_)) if found.is_some() => problems.push(format!(
                "{name} lies beside {}, which counts; put what you want into that, and delete {name}",
                NAMES[0]
            )),
            Ok(Some(bytes)) => {
                found = Some(Found {
                    path,
                    name,
                    bytes,
                    has_card: true,
                });
            }
            Err(error) => problems.push(format!("cannot read {name}: {error}")),
        }
    }
    if found.is_some() {
        return (found, problems);
    }
    let copy = whole::read(&root.at(COPY), OWNERS_MAX_BYTES).ok().flatten();
    let can_read_card = problems.is_empty() && root.at(CARD).join(told::PAGE).exists();
    let bytes = match copy {
        // Its owner has taken it away, or it never had one.
        Some(_) | None if can_read_card => {
            problems.push(format!("there is no {}, so the defaults count", NAMES[0]));
            Vec::new()
        }
        // The address that everybody knows, and the Wi-Fi, shall not depend on an old card's FAT.
        Some(copy) => {
            problems.push(format!(
                "{} can't be read, so what it said last counts",
                NAMES[0]
            ));
            copy
        }
        None if problems.is_empty() => return (None, problems),
        None => Vec::new(),
    };
    let (path, name) = (root.at(COPY), NAMES[0]);
    let found = Found {
        path,
        name,
        bytes,
        // Else the page would lie where the card is to be mounted.
        has_card: can_read_card,
    };
    (Some(found), problems)
}

/// Keeps what the file says, for when it can't be read.
fn keep_copy(root: &Root, path: &Path) -> anyhow::Result<()> {
    let keep = || -> std::io::Result<()> {
        match whole::read(path, OWNERS_MAX_BYTES)? {
            Some(bytes) if path != root.at(COPY) => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(root.at(remembered::FOLDER))?;
                whole::write_changed(&root.at(COPY), &bytes, 0o600)
            }
            Some(_) | None => Ok(()),
        }
    };
    keep().with_context(|| format!("cannot write {COPY}"))
}

/// Removes profiles of an earlier run in the same boot.
fn remove_others(root: &Root, files: &[network::files::File]) -> anyhow::Result<()> {
    let is_made = |path: &Path| files.iter().any(|file| root.at(&file.path) == path);
    let Ok(entries) = fs::read_dir(root.at(network::files::PROFILES)) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        let is_ours = entry.file_name().to_string_lossy().starts_with("raspbox-");
        if is_ours && !is_made(&entry.path()) {
            fs::remove_file(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

fn set_clock(root: &Root) -> anyhow::Result<()> {
    let path = root.at(STATE).join(clock::CLOCK_FILE);
    // A time that can't be read must not keep the clock in 1970.
    let (seen, problem) = match clock::seen(&path) {
        Ok(seen) => (seen, Ok(())),
        Err(error) => {
            let problem = Err(error).with_context(|| format!("cannot read {}", path.display()));
            (None, problem)
        }
    };
    if let Some(time) = clock::at_boot(SystemTime::now(), seen, clock::built()) {
        Effect::Clock(time).perform(root)?;
    }
    problem
}

fn write(root: &Root, path: &str, content: &str, mode: u32) -> anyhow::Result<()> {
    let (folder, _) = path.rsplit_once('/').expect("an absolute path");
    make_folder(root, folder)?;
    whole::write(&root.at(path), content.as_bytes(), mode)
        .with_context(|| format!("cannot write {path}"))
}

fn make_folder(root: &Root, path: &str) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(root.at(path))
        .with_context(|| format!("cannot make {path}"))
}

/// Removes a file, if it is there; durably.
fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => fs::File::open(path.parent().expect("a file is in a folder"))?.sync_all(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{Remembered, wanted};
    use crate::network::files::create_files;
    use crate::owner::file::File;
    use crate::owner::settings::read;
    use std::fmt::Write;
    use std::fs;
    use std::path::Path;

    /// Owners' files, and beside each what becomes of it: problems and NetworkManager's files. With
    /// RASPBOX_GOLDEN=write they are written, to be read by somebody.
    #[test]
    fn golden_networks() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/network/golden");
        let mut count = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            count += 1;
            let file = File::parse(fs::read(&path).unwrap());
            let (settings, mut problems) = read(&file, None);
            let (wanted, problem) = wanted(&settings, &Remembered::default());
            problems.extend(problem);
            let mut text = String::new();
            for problem in problems {
                let _ = writeln!(text, "{}", problem.after(&"raspbox.toml"));
            }
            for file in create_files(&wanted, &settings.name) {
                let _ = write!(text, "== {}\n{}", file.path, file.content);
            }
            let golden = path.with_extension("files");
            if std::env::var_os("RASPBOX_GOLDEN").is_some() {
                fs::write(&golden, &text).unwrap();
            }
            let expect = fs::read_to_string(&golden).unwrap_or_default();
            assert_eq!(text, expect, "{}", path.display());
        }
        assert_eq!(count, 7);
    }
}
