//! The servers, each a process of its own over a folder in memory.

use crate::peers::{Kind, Peer, start};
use crate::usage;
use anyhow::{Context, ensure};
use raspbox::remote::connection::{Connection, Endpoint, Tls};
use raspbox_try::bed::Appliance;
use tempfile::TempDir;

/// A running server. Ends when it is dropped.
pub(crate) struct Server {
    /// What people call it.
    pub(crate) name: &'static str,
    endpoint: Endpoint,
    /// The folder as its clients see it.
    base: &'static str,
    process: Process,
}

enum Process {
    Ours(
        Appliance,
        #[expect(dead_code, reason = "it goes with the server")] TempDir,
    ),
    Others(Peer),
}

impl Server {
    /// All that are installed, ours first.
    pub(crate) fn start_all(encrypted: bool) -> anyhow::Result<Vec<Server>> {
        let others = match encrypted {
            true => [
                Kind::VsftpdTls,
                Kind::PureFtpdTls,
                Kind::ProftpdTls,
                Kind::PyftpdlibTls,
            ],
            false => [Kind::Vsftpd, Kind::PureFtpd, Kind::Proftpd, Kind::Pyftpdlib],
        };
        let mut all = vec![Server::ours(encrypted)?];
        let others = others.into_iter().filter_map(start);
        all.extend(others.map(Server::other));
        ensure!(
            all.len() > 1,
            "there is nothing to compare with: run client/bench/install as root"
        );
        Ok(all)
    }

    fn ours(encrypted: bool) -> anyhow::Result<Server> {
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("raspboxd.toml");
        let tls = if encrypted { "required" } else { "optional" };
        std::fs::write(
            &config,
            format!(
                "tls = '{tls}'\nannounce = 'off'\n[limits]\nmax_sessions = 250\nmax_sessions_per_address = 250\n"
            ),
        )?;
        let config = config.to_str().context("a plain path")?;
        let program = std::env::current_exe()?;
        let appliance = Appliance::start_with(&program, dir.path(), &["--config", config])?;
        Ok(Server {
            name: "raspboxd",
            endpoint: Endpoint {
                host: "127.0.0.1".into(),
                port: appliance.port,
                user: "raspbox".into(),
                secret: appliance.password.clone(),
                tls: if encrypted { Tls::FirstUse } else { Tls::Off },
            },
            base: "",
            process: Process::Ours(appliance, dir),
        })
    }

    fn other(peer: Peer) -> Server {
        let name = match peer.kind {
            Kind::Vsftpd | Kind::VsftpdTls => "vsftpd",
            Kind::PureFtpd | Kind::PureFtpdTls => "pure-ftpd",
            Kind::Proftpd | Kind::ProftpdTls => "proftpd",
            Kind::Pyftpdlib
            | Kind::PyftpdlibTls
            | Kind::PyftpdlibOld
            | Kind::PyftpdlibNoOverwrite => "pyftpdlib",
        };
        Server {
            name,
            endpoint: peer.endpoint.clone(),
            base: "data/",
            process: Process::Others(peer),
        }
    }

    /// A session, logged in.
    pub(crate) fn open(&self) -> anyhow::Result<Connection> {
        let open = || Connection::open_foreign(&self.endpoint).with_context(|| self.name);
        match (&self.process, open()) {
            // vsftpd has been seen to break off one handshake of TLS among thousands, which is no measure of it.
            (Process::Others(_), Err(error)) => {
                eprintln!("{error:#}; and once more");
                open()
            }
            (Process::Ours(..) | Process::Others(_), opened) => opened,
        }
    }

    /// How it calls a path in its folder.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Processor time that it has used, in seconds.
    pub(crate) fn cpu_s(&self) -> anyhow::Result<f64> {
        usage::cpu_s(self.pid())
    }

    /// Memory that it has now, in MiB.
    pub(crate) fn memory_mib(&self) -> anyhow::Result<f64> {
        usage::memory_mib(self.pid())
    }

    /// The same while so many are logged in.
    pub(crate) fn memory_of_sessions_mib(&self, sessions: usize) -> anyhow::Result<f64> {
        let sessions: Vec<Connection> = (0..sessions)
            .map(|_| self.open())
            .collect::<Result<_, _>>()?;
        let memory_mib = self.memory_mib();
        drop(sessions);
        memory_mib
    }

    fn pid(&self) -> u32 {
        match &self.process {
            Process::Ours(appliance, _) => appliance.pid(),
            Process::Others(peer) => peer.pid(),
        }
    }
}
