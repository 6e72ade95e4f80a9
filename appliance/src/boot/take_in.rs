//! What is taken out of the owner's file: first it is kept, durably, and then it is blanked there. Switched
//! off at any moment, it is in at least one of the two places, and what is done a second time comes to
//! the same.

use super::remembered::Remembered;
use super::{STATE, remove};
use crate::devices::DEVICES_FILE;
use crate::network::wanted::Key;
use crate::owner::file::File;
use crate::owner::settings::{Password, Settings};
use crate::root::Root;
use crate::users::{FIRST_USER, USERS_FILE};
use crate::whole::{self, Between};
use anyhow::{Context, bail};
use nix::unistd::{User, chown};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The system's user as which the daemon runs, and who owns its state.
const DAEMON_USER: &str = "raspbox";

/// Takes in passwords and a reset, and returns what went wrong.
pub(super) fn take_in(
    root: &Root,
    path: &Path,
    file: &File,
    settings: &Settings,
    remembered: &mut Remembered,
    between: Between<'_>,
) -> Vec<anyhow::Error> {
    let mut problems = Vec::new();
    let mut edits: Vec<(Range<usize>, &str)> = Vec::new();
    let hash = blake3::hash(&file.with(Vec::new())).to_hex().to_string();
    let before = remembered.clone();

    if let Some(reset) = &settings.reset {
        match forget(root, remembered, &hash) {
            Ok(()) => edits.push((reset.at.clone(), "false")),
            Err(problem) => problems.push(problem),
        }
    }
    if let Some(password) = &settings.password {
        match set_password(root, &password.value) {
            Ok(()) => {
                remembered.has_password = true;
                edits.push((password.at.clone(), "\"\""));
            }
            Err(problem) => problems.push(problem.context("the password can't be taken in")),
        }
    }
    if let Some(wifi) = &settings.wifi
        && let (Some(Key::Password(password)), Some(at)) = (&wifi.key, &wifi.at)
    {
        remembered.set_password_of(&wifi.ssid, password);
        edits.push((at.clone(), "\"\""));
    }
    if *remembered != before
        && let Err(problem) = remembered.write(root)
    {
        problems.push(problem);
        // What isn't kept stays in the file.
        return problems;
    }
    if edits.is_empty() {
        return problems;
    }
    if let Err(error) = blank(path, &file.with(edits), between) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        problems.push(anyhow::Error::new(error).context(format!(
            "cannot write {name}, so passwords stay readable in it"
        )));
        return problems;
    }
    if remembered.reset_of.take().is_some()
        && let Err(problem) = remembered.write(root)
    {
        problems.push(problem);
    }
    problems
}

/// Forgets people, devices and the Wi-Fi, once for each file that says so: one that can't be written to
/// would otherwise unpair all computers at each start.
fn forget(root: &Root, remembered: &mut Remembered, hash: &str) -> anyhow::Result<()> {
    if remembered.reset_of.as_deref() == Some(hash) {
        return Ok(());
    }
    for name in [USERS_FILE, DEVICES_FILE] {
        let path = root.at(STATE).join(name);
        remove(&path).with_context(|| format!("cannot reset: {}", path.display()))?;
    }
    *remembered = Remembered::default();
    remembered.reset_of = Some(hash.into());
    remembered.write(root)
}

/// Sets the password as the daemon's user, by the program's own command: what root would write into that
/// user's folder could be led elsewhere by it.
fn set_password(root: &Root, password: &Password) -> anyhow::Result<()> {
    let state = root.at(STATE);
    let mut command = Command::new(std::env::current_exe().context("cannot find raspboxd")?);
    command
        .args(["user", "set", FIRST_USER, "--password-stdin", "--state"])
        .arg(&state)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let owner = match root.is_real() {
        true => Some(
            User::from_name(DAEMON_USER)?
                .with_context(|| format!("the system has no user {DAEMON_USER}"))?,
        ),
        false => None,
    };
    if !state.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&state)?;
        if let Some(owner) = &owner {
            chown(&state, Some(owner.uid), Some(owner.gid))?;
        }
    }
    if let Some(owner) = &owner {
        command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
    }
    let mut child = command.spawn().context("cannot start raspboxd")?;
    let mut stdin = child.stdin.take().expect("it is piped");
    // It says itself why it did not read.
    let _ = writeln!(stdin, "{}", password.reveal());
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Puts a new content in place of the file, and then overwrites where the old one lay: a freed block of a
/// card can be read for years. (A card that moves blocks by itself keeps more than anybody can overwrite.)
fn blank(path: &Path, content: &[u8], between: Between<'_>) -> io::Result<()> {
    let mut old = OpenOptions::new().write(true).open(path)?;
    let metadata = old.metadata()?;
    whole::write_between(
        path,
        content,
        metadata.permissions().mode() & 0o777,
        between,
    )?;
    let len = usize::try_from(metadata.len()).unwrap_or(0);
    old.write_all(&vec![0; len])?;
    old.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::remembered::Remembered;
    use super::take_in;
    use crate::network::wanted::Ssid;
    use crate::owner::file::File;
    use crate::owner::settings::read;
    use crate::root::Root;
    use crate::whole::Step;
    use std::fs;
    use std::io;
    use tempfile::TempDir;

    const TEXT: &str = "\u{feff}# mine\r\nreset = true\r\n[wifi]\r\nssid = 'x' # \u{e9}\r\n\
                        password = '12345678'\r\n";
    const BLANKED: &str = "\u{feff}# mine\r\nreset = false\r\n[wifi]\r\nssid = 'x' # \u{e9}\r\n\
                           password = \"\"\r\n";

    struct Card {
        temp: TempDir,
    }

    impl Card {
        fn with(text: &str) -> Card {
            let temp = tempfile::tempdir().unwrap();
            fs::write(temp.path().join("raspbox.toml"), text).unwrap();
            Card { temp }
        }

        fn root(&self) -> Root {
            Root::new(self.temp.path().into())
        }

        fn text(&self) -> String {
            fs::read_to_string(self.temp.path().join("raspbox.toml")).unwrap()
        }

        /// One start, cut at a step or not.
        fn start(&self, cut: Option<Step>) -> Vec<String> {
            let path = self.temp.path().join("raspbox.toml");
            let file = File::parse(fs::read(&path).unwrap());
            let (settings, problems) = read(&file, None);
            assert_eq!(problems, []);
            let mut remembered = Remembered::read(&self.root()).unwrap();
            let between = |step| match cut {
                Some(cut) if cut == step => Err(io::Error::other("cut")),
                Some(_) | None => Ok(()),
            };
            take_in(
                &self.root(),
                &path,
                &file,
                &settings,
                &mut remembered,
                &between,
            )
            .iter()
            .map(|problem| format!("{problem:#}"))
            .collect()
        }

        fn knows_the_wifi(&self) -> bool {
            let remembered = Remembered::read(&self.root()).unwrap();
            remembered.password_of(&Ssid::parse("x").unwrap()).is_some()
        }

        fn pair(&self) {
            let state = self.root().at("/var/lib/raspbox");
            fs::create_dir_all(&state).unwrap();
            fs::write(state.join("devices.toml"), "").unwrap();
        }

        fn is_paired(&self) -> bool {
            self.root().at("/var/lib/raspbox/devices.toml").exists()
        }
    }

    #[test]
    fn a_password_is_in_at_least_one_place_at_any_moment() {
        for cut in [
            None,
            Some(Step::Begun),
            Some(Step::Synced),
            Some(Step::Renamed),
        ] {
            let card = Card::with(TEXT);
            card.pair();
            card.start(cut);
            assert!(
                card.text().contains("12345678") || card.knows_the_wifi(),
                "{cut:?}"
            );
            assert!([TEXT, BLANKED].contains(&card.text().as_str()), "{cut:?}");
            assert_eq!(card.start(None), [""; 0]);
            assert!(card.knows_the_wifi(), "{cut:?}");
            assert_eq!(card.text(), BLANKED, "{cut:?}");
            assert!(!card.is_paired());
            let names = fs::read_dir(card.temp.path()).unwrap();
            assert_eq!(names.count(), 2, "the file and var, {cut:?}");
        }
    }

    #[test]
    fn what_cannot_be_kept_is_not_blanked() {
        let card = Card::with("[wifi]\nssid = 'x'\npassword = '12345678'\n");
        fs::write(card.temp.path().join("var"), "in the way").unwrap();
        let path = card.temp.path().join("raspbox.toml");
        let file = File::parse(fs::read(&path).unwrap());
        let (settings, _) = read(&file, None);
        let mut remembered = Remembered::default();
        let problems = take_in(
            &card.root(),
            &path,
            &file,
            &settings,
            &mut remembered,
            &|_| Ok(()),
        );
        assert!(format!("{:#}", problems[0]).contains("cannot write /var/lib/raspbox-boot"));
        assert!(card.text().contains("12345678"));
    }

    #[test]
    fn a_reset_is_done_once() {
        let card = Card::with("reset = true\n");
        card.pair();
        // A card that can't be written to: said at each start, done at the first.
        let said = card.start(Some(Step::Begun));
        assert!(said[0].contains("cannot write raspbox.toml"), "{said:?}");
        assert!(!card.is_paired());
        card.pair();
        assert_eq!(card.start(Some(Step::Begun)).len(), 1);
        assert!(card.is_paired(), "only once");
        assert_eq!(card.start(None), [""; 0]);
        assert_eq!(card.text(), "reset = false\n");
        assert!(card.is_paired());
        // And the very same words again, later.
        fs::write(card.temp.path().join("raspbox.toml"), "reset = true\n").unwrap();
        assert_eq!(card.start(None), [""; 0]);
        assert!(!card.is_paired());
    }
}
