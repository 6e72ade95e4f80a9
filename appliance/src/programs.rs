//! The other programs that root's commands run: all of them, each by its absolute path.
//!
//! Never through a shell, never found by `PATH`, and in no language but C's, since what some of them
//! say is read.

use anyhow::{Context, bail};
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// How much of what a program says is passed on.
const SAID_MAX_BYTES: usize = 400;

/// blkid(8), of util-linux.
pub(crate) const BLKID: &str = "/usr/sbin/blkid";
/// lsblk(8), of util-linux.
pub(crate) const LSBLK: &str = "/usr/bin/lsblk";
/// sfdisk(8), of fdisk.
pub(crate) const SFDISK: &str = "/usr/sbin/sfdisk";
/// iw(8), of iw.
pub(crate) const IW: &str = "/usr/sbin/iw";
/// nmcli(1), of network-manager.
pub(crate) const NMCLI: &str = "/usr/bin/nmcli";
/// systemctl(1), of systemd.
pub(crate) const SYSTEMCTL: &str = "/usr/bin/systemctl";
/// systemd-escape(1), of systemd.
pub(crate) const SYSTEMD_ESCAPE: &str = "/usr/bin/systemd-escape";
/// udevadm(8), of udev.
pub(crate) const UDEVADM: &str = "/usr/bin/udevadm";
/// e2fsck(8), of e2fsprogs; for all of ext2, ext3 and ext4.
pub(crate) const FSCK_EXT4: &str = "/usr/sbin/fsck.ext4";
/// fsck.exfat(8), of exfatprogs.
pub(crate) const FSCK_EXFAT: &str = "/usr/sbin/fsck.exfat";
/// fsck.fat(8), of dosfstools.
pub(crate) const FSCK_FAT: &str = "/usr/sbin/fsck.vfat";
/// mke2fs(8), of e2fsprogs.
pub(crate) const MKFS_EXT4: &str = "/usr/sbin/mkfs.ext4";
/// mkfs.exfat(8), of exfatprogs.
pub(crate) const MKFS_EXFAT: &str = "/usr/sbin/mkfs.exfat";
/// mkfs.fat(8), of dosfstools.
pub(crate) const MKFS_FAT: &str = "/usr/sbin/mkfs.vfat";

/// What a program answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its exit code; `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it wrote to standard output.
    pub(crate) out: String,
    /// The end of all that it wrote, for people, in one line.
    pub(crate) said: String,
}

/// Runs a program to its end; whatever it returns is an answer.
///
/// # Errors
/// It can't be run at all.
pub(crate) fn ask(program: &str, arguments: &[&str]) -> anyhow::Result<Answer> {
    answer(command(program, arguments).output(), program)
}

/// Runs a program that must succeed, with this on its standard input.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> anyhow::Result<()> {
    let mut child = command(program, arguments)
        .stdin(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let mut to = child.stdin.take().expect("it was asked for");
    // One that ends without reading says by its code why.
    let _ = to.write_all(input.as_bytes());
    drop(to);
    let answer = answer(child.wait_with_output(), program)?;
    if answer.code != Some(0) {
        bail!("{program} {}: {}", arguments.join(" "), answer.said);
    }
    Ok(())
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .env("PATH", "/usr/sbin:/usr/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn answer(output: std::io::Result<Output>, program: &str) -> anyhow::Result<Answer> {
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = format!("{out}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(Answer {
        code: output.status.code(),
        said: last_words(&all),
        out,
    })
}

/// The end of a text as one line.
fn last_words(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    let from = line.len().saturating_sub(SAID_MAX_BYTES);
    let from = (from..line.len()).find(|at| line.is_char_boundary(*at));
    line[from.unwrap_or(0)..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::{SAID_MAX_BYTES, ask, last_words, run};

    #[test]
    fn what_a_program_says_is_passed_on_in_one_line() {
        let answer = ask("/bin/sh", &["-c", "echo out; echo '  err  or' >&2; exit 3"]).unwrap();
        assert_eq!(answer.code, Some(3));
        assert_eq!(answer.out, "out\n");
        assert_eq!(answer.said, "out err or");
        let killed = ask("/bin/sh", &["-c", "kill -9 $$"]).unwrap();
        assert_eq!(killed.code, None);
        let error = run("/bin/sh", &["-c", "cat >&2; exit 1"], "why").unwrap_err();
        assert_eq!(error.to_string(), "/bin/sh -c cat >&2; exit 1: why");
        let error = ask("/nowhere/x", &[]).unwrap_err();
        assert_eq!(error.to_string(), "cannot run /nowhere/x");
        let long = "ü".repeat(SAID_MAX_BYTES);
        assert_eq!(last_words(&long).len(), SAID_MAX_BYTES);
        assert_eq!(last_words(""), "");
    }
}
