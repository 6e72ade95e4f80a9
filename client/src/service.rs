//! Running the client with the user's session: a systemd user unit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

const UNIT: &str = "raspbox.service";

/// Writes the unit, and starts it where a systemd user session is running. Returns where it is and
/// whether it was started.
///
/// # Errors
/// Where it can't be written.
pub fn install(program: &Path, state_dir: Option<&Path>) -> io::Result<(PathBuf, bool)> {
    let path = unit_path()?;
    fs::create_dir_all(path.parent().expect("the unit is in a folder"))?;
    fs::write(&path, unit(program, state_dir))?;
    let started = systemctl(&["daemon-reload"]) && systemctl(&["enable", "--now", UNIT]);
    Ok((path, started))
}

/// Stops and removes the unit; `None` where there was none.
///
/// # Errors
/// Where it can't be removed.
pub fn remove() -> io::Result<Option<PathBuf>> {
    let path = unit_path()?;
    systemctl(&["disable", "--now", UNIT]);
    let removed = match fs::remove_file(&path) {
        Ok(()) => Some(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    systemctl(&["daemon-reload"]);
    Ok(removed)
}

fn unit(program: &Path, state_dir: Option<&Path>) -> String {
    let state = state_dir.map_or_else(String::new, |dir| {
        format!(" --state-dir {}", quoted(&dir.display().to_string()))
    });
    format!(
        "[Unit]\n\
         Description=raspbox: keeps folders in sync\n\
         \n\
         [Service]\n\
         ExecStart={program} watch{state}\n\
         # 2, 4: something a person has to mend first; trying again doesn't help.\n\
         RestartPreventExitStatus=2 4\n\
         Restart=on-failure\n\
         RestartSec=30\n\
         # Syncing is never more urgent than what the user is doing.\n\
         Nice=10\n\
         IOSchedulingClass=idle\n\
         # It writes into the user's folders and nothing else of the system.\n\
         NoNewPrivileges=yes\n\
         ProtectSystem=full\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        program = quoted(&program.display().to_string()),
    )
}

/// A word of a unit file's command line: systemd.service(5), "Quoting".
fn quoted(word: &str) -> String {
    let escaped = word
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%");
    format!("\"{}\"", escaped.replace('$', "$$"))
}

fn unit_path() -> io::Result<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".config")))
        .ok_or_else(|| io::Error::other("no home directory"))?;
    Ok(config.join("systemd/user").join(UNIT))
}

fn systemctl(arguments: &[&str]) -> bool {
    Command::new("systemctl")
        .arg("--user")
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::unit;
    use std::path::Path;

    #[test]
    fn odd_paths_survive_systemds_quoting() {
        let unit = unit(
            Path::new("/opt/my $apps/100%/raspbox"),
            Some(Path::new("/s \"x\"")),
        );
        let line = unit
            .lines()
            .find(|line| line.starts_with("ExecStart="))
            .expect("a command");
        assert_eq!(
            line,
            r#"ExecStart="/opt/my $$apps/100%%/raspbox" watch --state-dir "/s \"x\"""#
        );
    }
}
