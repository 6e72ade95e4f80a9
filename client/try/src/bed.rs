//! The processes: one appliance, any number of workstations.

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// The first argument that makes the program be the daemon.
pub const AS_RASPBOXD: &str = "as-raspboxd";

/// The first argument that makes it be the client.
pub const AS_RASPBOX: &str = "as-raspbox";

const LOOPBACK: &str = "127.0.0.1";

/// How long a process may take to start or to stop, on a machine that does other things as well.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// Plays the part that the first argument names, if it names one.
#[must_use]
pub fn play() -> Option<ExitCode> {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1)?.to_str()? {
        AS_RASPBOXD => {
            args.splice(..2, ["raspboxd".into()]);
            Some(raspboxd::cli::run(args))
        }
        AS_RASPBOX => {
            args.splice(..2, ["raspbox".into()]);
            Some(raspbox::cli::run(args))
        }
        _ => None,
    }
}

/// A running appliance; killed when dropped.
#[derive(Debug)]
pub struct Appliance {
    program: PathBuf,
    dir: PathBuf,
    extra: Vec<OsString>,
    log: Log,
    child: Child,
    _stdout: BufReader<ChildStdout>,
    host: &'static str,
    /// Where it listens.
    pub port: u16,
    /// Its certificate's SHA-256.
    pub fingerprint: String,
    /// The password of the user `raspbox`.
    pub password: String,
}

impl Appliance {
    /// Starts one over `dir/drive`, with its state in `dir/appliance`.
    ///
    /// # Errors
    /// Where it doesn't start.
    pub fn start(program: &Path, dir: &Path) -> anyhow::Result<Appliance> {
        Appliance::start_with(program, dir, &[])
    }

    /// The same with more arguments to `serve`.
    ///
    /// # Errors
    /// Where it doesn't start.
    pub fn start_with(program: &Path, dir: &Path, extra: &[&str]) -> anyhow::Result<Appliance> {
        Appliance::start_saying(program, dir, LOOPBACK, extra, Log::Shown)
    }

    /// The same; what it says goes to `dir/log`.
    ///
    /// # Errors
    /// Where it doesn't start.
    pub fn start_silently(program: &Path, dir: &Path, extra: &[&str]) -> anyhow::Result<Appliance> {
        Appliance::start_saying(program, dir, LOOPBACK, extra, Log::Kept)
    }

    /// The same on another address of this machine.
    ///
    /// # Errors
    /// Where it doesn't start.
    pub fn start_at(
        program: &Path,
        dir: &Path,
        host: &'static str,
        extra: &[&str],
    ) -> anyhow::Result<Appliance> {
        Appliance::start_saying(program, dir, host, extra, Log::Kept)
    }

    fn start_saying(
        program: &Path,
        dir: &Path,
        host: &'static str,
        extra: &[&str],
        log: Log,
    ) -> anyhow::Result<Appliance> {
        std::fs::create_dir_all(dir.join("drive"))?;
        let extra: Vec<OsString> = extra.iter().map(Into::into).collect();
        let (child, stdout, said) = spawn(program, dir, (host, 0), &extra, log, true)?;
        let password = said.password.context("raspboxd printed no password")?;
        Ok(Appliance {
            program: program.to_owned(),
            dir: dir.to_owned(),
            extra,
            log,
            child,
            _stdout: stdout,
            host,
            port: said.port,
            fingerprint: said.fingerprint,
            password,
        })
    }

    /// The folder that stands for the drive.
    #[must_use]
    pub fn drive(&self) -> PathBuf {
        self.dir.join("drive")
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as a power cut would (but for what the kernel still holds).
    ///
    /// # Errors
    /// Where there is no such process.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop, and waits for it.
    ///
    /// # Errors
    /// Where it doesn't within [`DEADLINE`].
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        terminate(&mut self.child)
    }

    /// Starts it again on the same port, after [`Appliance::kill`] or [`Appliance::stop`].
    ///
    /// # Errors
    /// Where it doesn't start.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        let (program, dir) = (&self.program, &self.dir);
        let (child, stdout, _) = spawn(
            program,
            dir,
            (self.host, self.port),
            &self.extra,
            self.log,
            false,
        )?;
        self.child = child;
        self._stdout = stdout;
        Ok(())
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.kill());
    }
}

/// The log of a daemon that was started silently, in the folder that it was given.
pub const LOG: &str = "log";

/// Where a daemon's log goes.
#[derive(Debug, Clone, Copy)]
enum Log {
    /// To whoever started the program.
    Shown,
    /// Into a file.
    Kept,
}

/// How many sessions the daemon in `dir` has, as it says itself.
///
/// # Errors
/// Where it says nothing.
pub fn sessions(program: &Path, dir: &Path) -> anyhow::Result<u64> {
    let output = Command::new(program)
        .args([AS_RASPBOXD, "status", "--json", "--state"])
        .arg(dir.join("appliance"))
        .stdin(Stdio::null())
        .output()?;
    let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    status["sessions"].as_u64().context("no number of sessions")
}

/// What a daemon prints at its start.
struct Said {
    port: u16,
    fingerprint: String,
    /// Printed at the first start alone, then last.
    password: Option<String>,
}

fn spawn(
    program: &Path,
    dir: &Path,
    (host, port): (&str, u16),
    extra: &[OsString],
    log: Log,
    first: bool,
) -> anyhow::Result<(Child, BufReader<ChildStdout>, Said)> {
    // Every login is a line otherwise.
    let told = match log {
        Log::Shown => "warn",
        Log::Kept => "warn,raspboxd::rest=debug",
    };
    let log = match log {
        Log::Shown => Stdio::inherit(),
        Log::Kept => {
            let file = std::fs::File::options()
                .create(true)
                .append(true)
                .open(dir.join(LOG))?;
            file.into()
        }
    };
    let mut child = Command::new(program)
        .args([AS_RASPBOXD, "serve", "--folder"])
        .arg(dir.join("drive"))
        .arg("--state")
        .arg(dir.join("appliance"))
        .args(["--listen", &format!("{host}:{port}")])
        .args(extra)
        .env(
            "RUST_LOG",
            std::env::var_os("RUST_LOG").unwrap_or(told.into()),
        )
        // A backtrace reads debug information of hundreds of megabytes, which no appliance has.
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let (mut address, mut fingerprint, mut password) = (None, None, None);
    let mut line = String::new();
    while address.is_none() || fingerprint.is_none() || (first && password.is_none()) {
        line.clear();
        if stdout.read_line(&mut line)? == 0 {
            bail!("raspboxd did not start: {}", child.wait()?);
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["listening", "on", found] => address = Some(found.to_owned()),
            ["fingerprint", found] => fingerprint = Some(found.to_owned()),
            ["user", _, "password", found] => password = Some(found.to_owned()),
            _ => {}
        }
    }
    let address = address.expect("the loop ends with it");
    let port = address
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok());
    let said = Said {
        port: port.context("raspboxd printed no port")?,
        fingerprint: fingerprint.expect("the loop ends with it"),
        password,
    };
    Ok((child, stdout, said))
}

/// A workstation: a folder and what its client knows of it.
#[derive(Debug, Clone)]
pub struct Workstation {
    program: PathBuf,
    /// Its device name.
    pub name: String,
    /// Its synced folder.
    pub folder: PathBuf,
    /// Where its pairings are kept.
    pub state_dir: PathBuf,
}

impl Workstation {
    /// A workstation in `dir`, not yet paired.
    #[must_use]
    pub fn new(program: &Path, dir: &Path, name: &str) -> Workstation {
        Workstation {
            program: program.to_owned(),
            name: name.to_owned(),
            folder: dir.join(name),
            state_dir: dir.join(format!("{name}.state")),
        }
    }

    /// Pairs it with an appliance.
    ///
    /// # Errors
    /// Where that doesn't work.
    pub fn pair(&self, appliance: &Appliance) -> anyhow::Result<()> {
        let target = format!("{}:{}", appliance.host, appliance.port);
        self.pair_with(
            &target,
            &appliance.password,
            &["--fingerprint", &appliance.fingerprint],
        )
    }

    /// Pairs it with anything.
    ///
    /// # Errors
    /// Where that doesn't work.
    pub fn pair_with(&self, target: &str, password: &str, extra: &[&str]) -> anyhow::Result<()> {
        let mut child = self
            .command(&[
                "pair",
                target,
                "--device",
                &self.name,
                "--password-stdin",
                "--folder",
            ])
            .arg(&self.folder)
            .args(extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // It may end before it asks for one; what it says then is what matters.
        drop(writeln!(
            child.stdin.take().expect("it is piped"),
            "{password}"
        ));
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "pair: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// A command of the client for this workstation.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg(AS_RASPBOX)
            .arg("--state-dir")
            .arg(&self.state_dir)
            .args(args);
        command
    }

    /// Runs a command of the client and returns what it said.
    ///
    /// # Errors
    /// Where it can't be started.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command(args).stdin(Stdio::null()).output()?)
    }

    /// One round, that must end in sync.
    ///
    /// # Errors
    /// Where it doesn't, with everything that it said.
    pub fn sync(&self) -> anyhow::Result<()> {
        let output = self.run(&["sync"])?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(
            output.status.success(),
            "{}: sync {}\n{said}",
            self.name,
            output.status
        );
        Ok(())
    }

    /// Starts `watch`; its lines come out of the child's standard output.
    ///
    /// # Errors
    /// Where it can't be started.
    pub fn watch(&self) -> anyhow::Result<Watch> {
        self.watch_saying(Stdio::piped(), Stdio::inherit())
    }

    /// The same; what it says goes nowhere.
    ///
    /// # Errors
    /// Where it can't be started.
    pub fn watch_silently(&self) -> anyhow::Result<Watch> {
        self.watch_saying(Stdio::null(), Stdio::null())
    }

    fn watch_saying(&self, stdout: Stdio, stderr: Stdio) -> anyhow::Result<Watch> {
        let mut command = self.command(&["watch"]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()?;
        let stdout = child.stdout.take();
        Ok(Watch { child, stdout })
    }
}

/// A running `raspbox watch`; killed when dropped.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    /// What it prints, until somebody takes it.
    pub stdout: Option<ChildStdout>,
}

impl Watch {
    /// Waits until it has done its first round.
    ///
    /// # Errors
    /// Where it ends before.
    pub fn ready(&mut self) -> anyhow::Result<()> {
        let mut lines = BufReader::new(self.stdout.take().context("its output is taken")?);
        let mut line = String::new();
        while !line.contains(": in sync") {
            line.clear();
            ensure!(
                lines.read_line(&mut line)? > 0,
                "watch ended: {}",
                self.child.wait()?
            );
        }
        // Nobody reads on; its pipe must not fill up.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Ok(())
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// Where there is no such process.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop, and waits for it.
    ///
    /// # Errors
    /// Where it doesn't within [`DEADLINE`].
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        terminate(&mut self.child)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.kill());
    }
}

fn terminate(child: &mut Child) -> anyhow::Result<ExitStatus> {
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    wait_for("the process to end", || child.try_wait().ok().flatten())
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// Where there is none within [`DEADLINE`].
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        ensure!(
            Instant::now() < deadline,
            "waited {} s for {what}",
            DEADLINE.as_secs()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}
