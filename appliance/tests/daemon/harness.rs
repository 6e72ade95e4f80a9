//! Starts `raspboxd` over a temporary folder.

use crate::client::{Client, Reply};
use raspbox_protocol::{Digest, pairing};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take before a test fails. Only a hang takes so long: on a busy machine with a
/// slow disk, a script of some hundred uploads, each of them fsynced, took more than 20 s.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) fingerprint: String,
    pub(crate) password: String,
    temp: TempDir,
}

impl Daemon {
    /// With no configuration at all.
    pub(crate) fn start() -> Daemon {
        Daemon::with("")
    }

    /// With these lines of configuration.
    pub(crate) fn with(config: &str) -> Daemon {
        Daemon::spawn(config, |_, _| {})
    }

    /// With these lines of configuration, and what `prepare` does to the command.
    pub(crate) fn spawn(config: &str, prepare: impl FnOnce(&mut Command, &Path)) -> Daemon {
        let temp = TempDir::new().unwrap();
        fs::create_dir(temp.path().join("drive")).unwrap();
        fs::write(temp.path().join("raspbox.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_raspboxd"));
        prepare(&mut command, temp.path());
        Daemon::over(temp, "--folder", command)
    }

    /// On a mount point at which nothing is mounted.
    pub(crate) fn without_a_drive() -> Daemon {
        let temp = TempDir::new().unwrap();
        fs::create_dir(temp.path().join("drive")).unwrap();
        fs::create_dir(temp.path().join("run")).unwrap();
        fs::write(temp.path().join("raspbox.toml"), "keep_free_mib = 0").unwrap();
        let command = Command::new(env!("CARGO_BIN_EXE_raspboxd"));
        Daemon::over(temp, "--drive", command)
    }

    fn over(temp: TempDir, source: &str, mut command: Command) -> Daemon {
        let log = File::options()
            .create(true)
            .append(true)
            .open(temp.path().join("log"))
            .unwrap();
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .arg("--config")
            .arg(temp.path().join("raspbox.toml"))
            .arg(source)
            .arg(temp.path().join("drive"))
            .arg("--run")
            .arg(temp.path().join("run"))
            .arg("--state")
            .arg(temp.path().join("state"))
            .env("RUST_LOG", "debug")
            // A backtrace reads debug information of hundreds of megabytes, which no appliance has.
            .env_remove("RUST_BACKTRACE")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = |begin: &str| {
            let line = lines.next().and_then(Result::ok);
            let Some(rest) = line.as_deref().and_then(|line| line.strip_prefix(begin)) else {
                let log = fs::read_to_string(temp.path().join("log")).unwrap();
                panic!("no line '{begin}' but {line:?}; log:\n{log}");
            };
            rest.to_owned()
        };
        let address = line("listening on ").parse().unwrap();
        let fingerprint = line("fingerprint ");
        let state = temp.path().join("password");
        let password = match fs::read_to_string(&state) {
            // A second start makes no user.
            Ok(password) => password,
            Err(_) => line("user raspbox password "),
        };
        fs::write(state, &password).unwrap();
        Daemon {
            child,
            address,
            fingerprint,
            password,
            temp,
        }
    }

    /// Ends it and starts it again on the same folder.
    pub(crate) fn restart(mut self) -> Daemon {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(self.wait().success());
        let temp = std::mem::replace(&mut self.temp, TempDir::new().unwrap());
        Daemon::over(
            temp,
            "--folder",
            Command::new(env!("CARGO_BIN_EXE_raspboxd")),
        )
    }

    /// The drive.
    pub(crate) fn folder(&self) -> PathBuf {
        self.temp.path().join("drive")
    }

    /// Where root's commands would say what they did.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.temp.path().join("run")
    }

    /// The first line of `raspboxd status`.
    pub(crate) fn status(&self) -> String {
        let output = self.control(&["status"]);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().next().unwrap_or_default().to_owned()
    }

    /// How many sessions the status tells of.
    pub(crate) fn sessions(&self) -> u64 {
        let status = self.control(&["status", "--json"]).stdout;
        let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
        status["sessions"].as_u64().unwrap()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.temp.path().join("state")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.temp.path().join("log")).unwrap()
    }

    /// What stands in a file of the drive.
    pub(crate) fn content(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.folder().join(path)).ok()
    }

    /// A client over TLS that has not logged in.
    pub(crate) fn secure(&self) -> Client {
        let mut client = Client::connect(self.address);
        client.auth_tls();
        client
    }

    /// A client over TLS that has logged in as the first user.
    pub(crate) fn client(&self) -> Client {
        self.client_as("raspbox", &self.password)
    }

    pub(crate) fn client_as(&self, user: &str, password: &str) -> Client {
        let mut client = self.secure();
        client.log_in(user, password).expect(230);
        client.protect();
        client
    }

    /// Pairs a device for a user, and returns what it logs in with.
    pub(crate) fn pair(&self, user: &str, password: &str, name: &str) -> (String, String) {
        let reply = self.try_to_pair(user, password, name).expect(200);
        let words: Vec<&str> = reply.text.split_whitespace().collect();
        assert_eq!((words[1].len(), words[2].len()), (8, 64), "{}", reply.text);
        (format!("device:{}", words[1]), words[2].to_owned())
    }

    /// The reply to the last command of pairing.
    pub(crate) fn try_to_pair(&self, user: &str, password: &str, name: &str) -> Reply {
        let mut client = self.secure();
        client.log_in(pairing::LOGIN, "anything").expect(230);
        let reply = client
            .command(&format!("SITE RBX INVITE {user}"))
            .expect(200);
        let invitation: pairing::Invitation = reply.text[4..].trim_end().parse().unwrap();
        let fingerprint: Digest = self.fingerprint.parse().unwrap();
        let terms = pairing::Terms {
            user,
            fingerprint: fingerprint.as_bytes(),
        };
        let secret = invitation.recipe.hash(password).unwrap();
        let (_, answer) = invitation.answer(terms, &secret, name).unwrap();
        client.command(&format!("SITE RBX PAIR {answer} {name}"))
    }

    /// Makes a user.
    pub(crate) fn add_user(&self, name: &str, permissions: &str) {
        let output = self.control_with(
            &[
                "user",
                "set",
                name,
                "--password-stdin",
                "--permissions",
                permissions,
            ],
            b"secret\n",
        );
        assert!(output.status.success(), "{output:?}");
        // The daemon looks every second. Each try is from another address: until then it is a wrong guess.
        let mut tries = 0_u16;
        eventually("the new user can log in", || {
            tries += 1;
            let [high, low] = tries.to_be_bytes();
            let mut client = Client::connect_from([127, 1, high, low].into(), self.address);
            client.reply().unwrap().expect(220);
            client.auth_tls();
            client.log_in(name, "secret").code == 230
        });
    }

    /// Runs another subcommand on the same state.
    pub(crate) fn control(&self, arguments: &[&str]) -> Output {
        self.control_with(arguments, b"")
    }

    fn control_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_raspboxd"))
            .args(arguments)
            .arg("--state")
            .arg(self.state())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = i32::try_from(self.pid()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the daemon ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
