//! The programs that keep a folder on another computer as it is here, each with a server of its own.

use crate::link::Link;
use crate::meter::{Cost, Meter};
use crate::peers::{Kind, Peer, start_at};
use crate::syncthing;
use crate::wire::Network;
use anyhow::{Context, ensure};
use raspbox_try::bed::{Appliance, Workstation, wait_for};
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// With raspboxd, over TLS.
    Raspbox,
    /// Its `sync`, with pure-ftpd over TLS.
    Rclone,
    /// Its `mirror -R` over so many connections, with pure-ftpd over TLS.
    Lftp(usize),
    /// With another Unison, over a socket: not encrypted.
    Unison,
    /// With another Syncthing, over TLS.
    Syncthing,
}

impl Program {
    /// All that can be measured here, ours first.
    pub(crate) fn all(between: Between<'_>) -> Vec<Program> {
        let mut all = vec![Program::Raspbox, Program::Rclone, Program::Lftp(4)];
        match between {
            Between::Loopback(_) => all.push(Program::Lftp(16)),
            // Where answers take longer it never ends: it has done all and waits for an answer that it had.
            Between::Ends(_) => {}
        }
        all.extend([Program::Unison, Program::Syncthing]);
        all.retain(|program| program.is_installed());
        all
    }

    /// What people call it.
    pub(crate) fn name(self) -> String {
        match self {
            Program::Raspbox => "raspbox".into(),
            Program::Rclone => "rclone sync".into(),
            Program::Lftp(connections) => format!("lftp, {connections}"),
            Program::Unison => "Unison".into(),
            Program::Syncthing => "Syncthing".into(),
        }
    }

    /// Whether it can be measured here.
    fn is_installed(self) -> bool {
        let (program, version) = match self {
            Program::Raspbox => return true,
            Program::Rclone => ("rclone", "--version"),
            Program::Lftp(_) => ("lftp", "--version"),
            Program::Unison => ("unison", "-version"),
            Program::Syncthing => ("syncthing", "--version"),
        };
        let asked = Command::new(program)
            .arg(version)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let is_there = asked.is_ok_and(|status| status.success());
        if !is_there {
            eprintln!("{program} is not installed: run client/bench/install as root");
        }
        is_there
    }
}

/// Where a workstation and its server are.
#[derive(Clone, Copy)]
pub(crate) enum Between<'a> {
    /// Both on one machine.
    Loopback(&'a Network),
    /// At the ends of a link.
    Ends(&'a Link),
}

impl<'a> Between<'a> {
    /// Where the workstation is.
    pub(crate) fn near(self) -> &'a Network {
        match self {
            Between::Loopback(network) => network,
            Between::Ends(link) => &link.near,
        }
    }

    /// Where the server is.
    pub(crate) fn far(self) -> &'a Network {
        match self {
            Between::Loopback(network) => network,
            Between::Ends(link) => &link.far,
        }
    }

    /// What the server listens on.
    pub(crate) fn host(self) -> &'static str {
        match self {
            Between::Loopback(_) => "127.0.0.1",
            Between::Ends(_) => Link::host(),
        }
    }
}

/// A folder here, one there, and who keeps them the same. Everything goes with it.
pub(crate) struct Pair<'a> {
    program: Program,
    between: Between<'a>,
    server: Server,
    /// The folder of the workstation.
    pub(crate) here: PathBuf,
    /// The folder at the other side, as this machine sees it.
    pub(crate) there: PathBuf,
    dir: TempDir,
}

enum Server {
    Ours(Appliance, Workstation),
    Rclone(Peer),
    Lftp(Peer, usize),
    Unison(Child, u16),
    Syncthing(syncthing::Two),
}

impl<'a> Pair<'a> {
    /// Two empty folders, and a server that runs.
    pub(crate) fn start(program: Program, between: Between<'a>) -> anyhow::Result<Pair<'a>> {
        let dir = tempfile::tempdir()?;
        let mut here = dir.path().join("here");
        fs::create_dir(&here)?;
        let (server, there) = match program {
            Program::Raspbox => {
                let config = dir.path().join("raspboxd.toml");
                fs::write(&config, "announce = 'off'\n")?;
                let config = config.to_str().context("a plain path")?;
                let (own, host) = (std::env::current_exe()?, between.host());
                let start = || Appliance::start_at(&own, dir.path(), host, &["--config", config]);
                let appliance = between.far().within(start)?;
                let workstation = Workstation::new(&own, dir.path(), "here");
                between.near().within(|| workstation.pair(&appliance))?;
                here.clone_from(&workstation.folder);
                let there = appliance.drive();
                (Server::Ours(appliance, workstation), there)
            }
            Program::Rclone => {
                let peer = ftp_server(between)?;
                let there = peer.folder.clone();
                (Server::Rclone(peer), there)
            }
            Program::Lftp(connections) => {
                let peer = ftp_server(between)?;
                let there = peer.folder.clone();
                (Server::Lftp(peer, connections), there)
            }
            Program::Unison => {
                let there = dir.path().join("there");
                fs::create_dir(&there)?;
                let start = || unison_server(dir.path(), between.host());
                let (child, port) = between.far().within(start)?;
                (Server::Unison(child, port), there)
            }
            Program::Syncthing => {
                let there = dir.path().join("there");
                fs::create_dir(&there)?;
                let two = syncthing::Two::start(dir.path(), between, &here, &there)?;
                (Server::Syncthing(two), there)
            }
        };
        Ok(Pair {
            program,
            between,
            server,
            here,
            there,
            dir,
        })
    }

    /// Has it make both folders the same.
    pub(crate) fn sync(&self) -> anyhow::Result<Cost> {
        match &self.server {
            Server::Ours(_, workstation) => self.run(workstation.command(&["sync"])),
            Server::Rclone(peer) => self.run(self.rclone(peer)?),
            Server::Lftp(peer, connections) => self.run(self.lftp(peer, *connections)),
            Server::Unison(_, port) => self.run(self.unison(*port)),
            Server::Syncthing(two) => self.between.near().within(|| {
                let ((), cost) = Meter::start()?.until(two.pids(), || two.sync())?;
                Ok(cost)
            }),
        }
    }

    /// Gives the other side the same files by a copy on this machine, where that is of use; then a sync
    /// finds what there is to know.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        match &self.server {
            // These take what they find on both sides for a meeting of strangers.
            Server::Ours(..) | Server::Syncthing(_) => {}
            Server::Rclone(_) | Server::Lftp(..) | Server::Unison(..) => {
                let owner = fs::metadata(&self.there)?.uid();
                let copied = Command::new("cp")
                    .arg("-a")
                    .arg(self.here.join("."))
                    .arg(&self.there)
                    .status()?;
                ensure!(copied.success(), "cp {copied}");
                give(&self.there, owner)?;
            }
        }
        self.sync()?;
        // What it saw for the first time it may want to see again.
        self.sync()?;
        Ok(())
    }

    /// From saving a file until the other side has it, while the program looks out for changes by itself;
    /// nothing for those that don't.
    pub(crate) fn watched(&self, path: &str, edits: usize) -> anyhow::Result<Vec<f64>> {
        match &self.server {
            Server::Ours(_, workstation) => {
                let mut watch = self.between.near().within(|| workstation.watch())?;
                watch.ready()?;
                self.edited(path, edits)
            }
            Server::Syncthing(two) => {
                two.watch(true)?;
                let seconds = self.edited(path, edits)?;
                two.watch(false)?;
                Ok(seconds)
            }
            Server::Rclone(_) | Server::Lftp(..) | Server::Unison(..) => Ok(Vec::new()),
        }
    }

    /// Saves a file again and again, each time when it is known there what was saved before.
    fn edited(&self, path: &str, edits: usize) -> anyhow::Result<Vec<f64>> {
        let mut seconds = Vec::new();
        for edit in 0..edits {
            let content = format!("edit {edit}\n");
            let begin = Instant::now();
            fs::write(self.here.join(path), &content)?;
            wait_for("the edit to arrive", || {
                let found = fs::read_to_string(self.there.join(path));
                (found.ok()? == content).then_some(())
            })?;
            seconds.push(begin.elapsed().as_secs_f64());
        }
        Ok(seconds)
    }

    /// Runs a command to its end and says what it cost.
    fn run(&self, mut command: Command) -> anyhow::Result<Cost> {
        let name = self.program.name();
        let log = self.dir.path().join("said");
        command
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?);
        let (status, cost) = self.between.near().within(|| {
            let meter = Meter::start()?;
            let mut child = command.spawn().with_context(|| name.clone())?;
            meter.until([child.id(), self.server_pid()], || Ok(child.wait()?))
        })?;
        let said = || fs::read_to_string(&log).unwrap_or_default();
        ensure!(status.success(), "{name}: {status}\n{}", said());
        Ok(cost)
    }

    /// The process of the server.
    pub(crate) fn server_pid(&self) -> u32 {
        match &self.server {
            Server::Ours(appliance, _) => appliance.pid(),
            Server::Rclone(peer) | Server::Lftp(peer, _) => peer.pid(),
            Server::Unison(child, _) => child.id(),
            Server::Syncthing(two) => two.pids()[1],
        }
    }

    fn rclone(&self, peer: &Peer) -> anyhow::Result<Command> {
        let obscured = Command::new("rclone")
            .args(["obscure", &peer.endpoint.secret])
            .output()?;
        let secret = String::from_utf8(obscured.stdout)?;
        let mut command = Command::new("rclone");
        command
            .args(["--config", "", "--cache-dir"])
            .arg(self.dir.path().join("cache"))
            // Its best: sixteen files go at once, and what moved is found by its name and time.
            .args(["sync", "--transfers", "16", "--checkers", "16"])
            .args([
                "--track-renames",
                "--track-renames-strategy",
                "modtime,leaf",
            ])
            .arg(&self.here)
            .arg(format!("there:{}", peer.base))
            .env("RCLONE_CONFIG_THERE_TYPE", "ftp")
            .env("RCLONE_CONFIG_THERE_HOST", &peer.endpoint.host)
            .env("RCLONE_CONFIG_THERE_PORT", peer.endpoint.port.to_string())
            .env("RCLONE_CONFIG_THERE_USER", &peer.endpoint.user)
            .env("RCLONE_CONFIG_THERE_PASS", secret.trim())
            .env("RCLONE_CONFIG_THERE_EXPLICIT_TLS", "true")
            .env("RCLONE_CONFIG_THERE_NO_CHECK_CERTIFICATE", "true");
        Ok(command)
    }

    /// Where a connection fails it is to try again soon, and not after half a minute.
    fn lftp(&self, peer: &Peer, connections: usize) -> Command {
        let to = &peer.endpoint;
        let script = format!(
            "set cmd:fail-exit true; set net:reconnect-interval-base 1; \
             set ssl:verify-certificate false; set ftp:ssl-force true; \
             set ftp:ssl-protect-data true; open -u {},{} -p {} {}; \
             mirror -R --delete --parallel={connections} {} {}; quit",
            to.user,
            to.secret,
            to.port,
            to.host,
            self.here.display(),
            peer.base,
        );
        let mut command = Command::new("lftp");
        command.args(["--norc", "-c", &script]);
        command
    }

    fn unison(&self, port: u16) -> Command {
        let mut command = Command::new("unison");
        command
            .arg(&self.here)
            .arg(format!(
                "socket://{}:{port}/{}",
                self.between.host(),
                self.there.display()
            ))
            .args(["-ui", "text", "-batch", "-auto", "-times"])
            .args(["-confirmbigdel=false", "-watch=false"])
            .env("UNISON", self.dir.path().join("unison"));
        command
    }
}

impl Drop for Pair<'_> {
    fn drop(&mut self) {
        if let Server::Unison(child, _) = &mut self.server {
            // It may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// What serves the FTP clients.
fn ftp_server(between: Between<'_>) -> anyhow::Result<Peer> {
    let start = || Ok(start_at(Kind::PureFtpdTls, between.host()));
    let peer = between.far().within(start)?;
    peer.context("no pure-ftpd: run client/bench/install as root")
}

/// Has a tree belong to somebody.
fn give(folder: &Path, owner: u32) -> anyhow::Result<()> {
    chown(folder, Some(owner), Some(owner))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            give(&entry.path(), owner)?;
        } else {
            chown(entry.path(), Some(owner), Some(owner))?;
        }
    }
    Ok(())
}

/// Unison's other half, on a free port.
fn unison_server(dir: &Path, host: &str) -> anyhow::Result<(Child, u16)> {
    let port = TcpListener::bind((host, 0))?.local_addr()?.port();
    let child = Command::new("unison")
        .args(["-socket", &port.to_string()])
        .env("UNISON", dir.join("unison there"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("unison")?;
    wait_for("Unison's start", || TcpStream::connect((host, port)).ok())?;
    Ok((child, port))
}
