//! Programs of this computer, and what they say when they fail.

use anyhow::{Context, bail};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Shown of what a program said: the end of it, where the reason is.
const SHOWN_LEN_MAX: usize = 4000;

/// A program by its name, found in the system's directories even where the user's PATH lacks them.
pub(crate) fn tool(name: &str) -> Command {
    let mut path: OsString = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
    let mut command = Command::new(name);
    // Messages and lists of versions are read; no cover for what a test has set.
    command
        .env("PATH", path)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null());
    command
}

/// Runs it to its end, whatever that is.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .output()
        .with_context(|| format!("cannot run {name}: is it there? image/vm/install gets it"))
}

/// Runs it, and it must succeed: its stdout.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        bail!(
            "{command:?} failed ({}):\n{}{}",
            output.status,
            shown(&output.stdout),
            shown(&output.stderr)
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} printed no UTF-8"))
}

/// The end of what was said.
pub(crate) fn shown(said: &[u8]) -> String {
    String::from_utf8_lossy(&said[said.len().saturating_sub(SHOWN_LEN_MAX)..]).into_owned()
}

/// A path as a piece of an argument.
///
/// # Errors
/// Where it is no text.
pub(crate) fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}
