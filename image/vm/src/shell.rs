//! The root shell of a machine, from the test's side; `guest/shell` is the other end, and says how a request
//! and a reply look.

use anyhow::{Context, bail, ensure};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Longer than any command of a test takes.
const REPLY_AFTER_MAX: Duration = Duration::from_secs(900);

/// More than a test should print.
const OUTPUT_LEN_MAX: u64 = 1 << 30;

const GUEST: &str = include_str!("../guest/shell");

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status, as a shell has it: 128 and more where a signal ended it.
    pub status: u8,
    /// All that it printed.
    pub stdout: Vec<u8>,
    /// All that it complained of.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Stdout as text, without the last line's end.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout)
            .trim_end_matches('\n')
            .to_owned()
    }
}

/// The connection to a shell that waits for requests.
#[derive(Debug)]
pub(crate) struct Shell<R = BufReader<UnixStream>, W = UnixStream> {
    from: R,
    to: W,
    number: u64,
}

impl Shell {
    /// Asks for it on the console of a machine that is booting, where the kernel's command line has systemd
    /// start a plain shell. So nothing in the image needs to be ours. `patience` is asked again and again whether
    /// to wait on, and is an error once it isn't worth it.
    pub(crate) fn begin(
        console: &mut UnixStream,
        port: UnixStream,
        deadline: Duration,
        patience: impl Fn() -> anyhow::Result<()>,
    ) -> anyhow::Result<Shell> {
        let end = Instant::now() + deadline;
        console.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut seen = Vec::new();
        // What is typed before somebody reads is lost.
        while !String::from_utf8_lossy(&seen).contains("shell-is-there") {
            ensure!(
                Instant::now() < end,
                "no shell on the console after {} s",
                deadline.as_secs()
            );
            patience()?;
            console.write_all(b"\necho shell-is-''there\n")?;
            let mut piece = [0; 4096];
            match console.read(&mut piece) {
                Ok(0) => bail!("QEMU has ended"),
                Ok(len) => seen.extend(&piece[..len]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let quoted = GUEST.replace('\'', "'\\''");
        console.write_all(format!("exec sh -c '{quoted}'\n").as_bytes())?;
        let mut shell = Shell::resume(port)?;
        // udev makes the port, when it comes to it.
        shell.from.get_ref().set_read_timeout(Some(deadline))?;
        let mut ready = String::new();
        shell
            .from
            .read_line(&mut ready)
            .context("the shell doesn't come to its port")?;
        ensure!(ready == "ready\n", "the shell says {ready:?}");
        shell
            .from
            .get_ref()
            .set_read_timeout(Some(REPLY_AFTER_MAX))?;
        Ok(shell)
    }

    /// That of a machine which was begun before its snapshot was taken.
    pub(crate) fn resume(port: UnixStream) -> anyhow::Result<Shell> {
        port.set_read_timeout(Some(REPLY_AFTER_MAX))?;
        Ok(Shell {
            from: BufReader::new(port.try_clone()?),
            to: port,
            number: 0,
        })
    }
}

impl<R: BufRead, W: Write> Shell<R, W> {
    /// Runs commands of `sh` with this as their stdin.
    pub(crate) fn run(&mut self, commands: &str, stdin: &[u8]) -> anyhow::Result<Output> {
        self.number += 1;
        let header = format!("{} {} {}\n", self.number, commands.len(), stdin.len());
        for piece in [header.as_bytes(), commands.as_bytes(), stdin] {
            self.to.write_all(piece)?;
        }
        self.to.flush()?;
        let mut line = String::new();
        self.from.by_ref().take(100).read_line(&mut line)?;
        if line.is_empty() {
            bail!("the machine has ended");
        }
        let [number, status, out_len, err_len] =
            numbers(&line).with_context(|| format!("not a reply: {line:?}"))?;
        ensure!(
            number == self.number,
            "reply {number} to request {}",
            self.number
        );
        ensure!(
            out_len.max(err_len) <= OUTPUT_LEN_MAX,
            "{out_len} and {err_len} bytes of output"
        );
        Ok(Output {
            status: u8::try_from(status)?,
            stdout: self.exactly(out_len)?,
            stderr: self.exactly(err_len)?,
        })
    }

    fn exactly(&mut self, len: u64) -> anyhow::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len)?];
        self.from.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn numbers(line: &str) -> Option<[u64; 4]> {
    let numbers = line.strip_suffix('\n')?.split(' ').map(str::parse);
    numbers
        .collect::<Result<Vec<u64>, _>>()
        .ok()?
        .try_into()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::{Output, Shell};

    fn reply(bytes: &[u8]) -> (anyhow::Result<Output>, Vec<u8>) {
        let mut sent = Vec::new();
        let output = Shell {
            from: bytes,
            to: &mut sent,
            number: 6,
        }
        .run("cat", b"in");
        (output, sent)
    }

    #[test]
    fn a_request_and_its_reply_are_counted_bytes() {
        let (output, sent) = reply(b"7 3 4 1\n1 2\n!");
        assert_eq!(sent, b"7 3 2\ncatin");
        let output = output.unwrap();
        assert_eq!(
            (output.status, &*output.stdout, &*output.stderr),
            (3, b"1 2\n".as_slice(), b"!".as_slice())
        );
        assert_eq!(output.text(), "1 2");
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for bytes in [
            "",
            "7 0 1",
            "7 0 0\n",
            "8 0 0 0\n",
            "7 0 -1 0\n",
            "7 0 3 0\nab",
            "7 300 0 0\n",
            "7 0 9999999999 0\n",
        ] {
            assert!(reply(bytes.as_bytes()).0.is_err(), "{bytes:?}");
        }
    }
}
