//! Two Syncthings that know each other alone, and are asked by their REST interface
//! (<https://docs.syncthing.net/dev/rest.html>), on sockets that no network counts.

use crate::programs::Between;
use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use raspbox_try::bed::wait_for;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The only folder of both.
const FOLDER: &str = "folder";

/// What the REST interface is asked with.
const API_KEY: &str = "benchmark";

/// How long a large tree may take.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// How often it is asked whether it has done it; each answer costs it a millisecond or so.
const ASK_INTERVAL: Duration = Duration::from_millis(10);

/// One at each side.
pub(crate) struct Two {
    near: Instance,
    far: Instance,
}

impl Two {
    /// Starts both over these folders, connected.
    pub(crate) fn start(
        dir: &Path,
        between: Between<'_>,
        here: &Path,
        there: &Path,
    ) -> anyhow::Result<Two> {
        let homes = ["syncthing here", "syncthing there"].map(|name| dir.join(name));
        let ids = [identity(&homes[0])?, identity(&homes[1])?];
        let host = between.host();
        let far = between.far().within(|| {
            let port = TcpListener::bind((host, 0))?.local_addr()?.port();
            let address = format!("tcp://{host}:{port}");
            configure(&homes[1], there, (&ids[1], &address), (&ids[0], "dynamic"))?;
            Ok((Instance::start(&homes[1], &ids[1])?, address))
        });
        let (far, address) = far?;
        let near = between.near().within(|| {
            let listens = "tcp://127.0.0.1:0";
            configure(&homes[0], here, (&ids[0], listens), (&ids[1], &address))?;
            Instance::start(&homes[0], &ids[0])
        })?;
        let two = Two { near, far };
        wait_for("the two Syncthings to meet", || {
            let all = two.near.ask("GET", "system/connections", None);
            let connection = &all.ok()?["connections"][&two.far.id];
            connection["connected"].as_bool()?.then_some(())
        })?;
        // Whoever has never announced anything is taken for having everything.
        fs::create_dir(here.join("first"))?;
        two.sync()?;
        Ok(two)
    }

    /// The process here, and the one there.
    pub(crate) fn pids(&self) -> [u32; 2] {
        [self.near.child.id(), self.far.child.id()]
    }

    /// Has the one here look at all of its folder, and waits until it knows that the other has everything.
    pub(crate) fn sync(&self) -> anyhow::Result<()> {
        self.near.scan()?;
        let path = format!("db/completion?folder={FOLDER}&device={}", self.far.id);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let needed = self.near.ask("GET", &path, None)?;
            let has_announced = needed["sequence"] != 0;
            if has_announced && needed["needItems"] == 0 && needed["needDeletes"] == 0 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "Syncthing still needs {needed}");
            std::thread::sleep(ASK_INTERVAL);
        }
    }

    /// Whether the one here is to look out for changes by itself, and as soon after them as it can be told.
    pub(crate) fn watch(&self, watches: bool) -> anyhow::Result<()> {
        let how = json!({"fsWatcherEnabled": watches, "fsWatcherDelayS": 1});
        let path = format!("config/folders/{FOLDER}");
        self.near.ask("PATCH", &path, Some(&how))?;
        // That starts the folder anew; it answers to this when it has.
        self.near.scan()
    }
}

struct Instance {
    child: Child,
    socket: PathBuf,
    id: String,
}

impl Instance {
    fn start(home: &Path, id: &str) -> anyhow::Result<Instance> {
        let child = Command::new("syncthing")
            .arg("serve")
            .arg(format!("--home={}", home.display()))
            .args(["--no-browser", "--no-restart", "--no-upgrade"])
            .stdin(Stdio::null())
            .stdout(fs::File::create(home.join("said"))?)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("syncthing")?;
        let instance = Instance {
            child,
            socket: socket(home),
            id: id.to_owned(),
        };
        wait_for("Syncthing's start", || {
            instance.ask("GET", "system/ping", None).ok()
        })?;
        Ok(instance)
    }

    fn scan(&self) -> anyhow::Result<()> {
        let path = format!("db/scan?folder={FOLDER}");
        self.ask("POST", &path, None).map(drop)
    }

    fn ask(&self, method: &str, path: &str, what: Option<&Value>) -> anyhow::Result<Value> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let what = what.map(Value::to_string).unwrap_or_default();
        let question = format!(
            "{method} /rest/{path} HTTP/1.0\r\nX-API-Key: {API_KEY}\r\nContent-Length: {}\r\n\r\n{what}",
            what.len()
        );
        stream.write_all(question.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let parts = answer.split_once("\r\n\r\n");
        let (head, content) = parts.with_context(|| format!("{path}: {answer}"))?;
        let is_ok = head.split(' ').nth(1) == Some("200");
        ensure!(is_ok, "{path}: {answer}");
        Ok(serde_json::from_str(content).unwrap_or_default())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // What is started here watches over the one that does the work, and ends without it. It may have ended already.
        let group = i32::try_from(self.child.id()).map(Pid::from_raw);
        let _ = group.map(|group| killpg(group, Signal::SIGKILL));
        drop(self.child.wait());
    }
}

fn socket(home: &Path) -> PathBuf {
    home.join("asked")
}

/// Makes a home for one and says who it is.
fn identity(home: &Path) -> anyhow::Result<String> {
    let home = format!("--home={}", home.display());
    let made = Command::new("syncthing")
        .args(["generate", &home, "--no-default-folder"])
        .output()
        .context("syncthing")?;
    ensure!(made.status.success(), "syncthing generate: {made:?}");
    let id = Command::new("syncthing")
        .args([&home, "--device-id"])
        .output()?;
    ensure!(id.status.success(), "syncthing --device-id: {id:?}");
    Ok(String::from_utf8(id.stdout)?.trim().to_owned())
}

/// Says who it is, where it listens, and who else has the folder; and that it does nothing unasked, and
/// talks to nobody else. What isn't said is as it is at first.
fn configure(
    home: &Path,
    folder: &Path,
    (own, listens): (&str, &str),
    (other, address): (&str, &str),
) -> anyhow::Result<()> {
    let config = format!(
        r#"<configuration version="36">
    <folder id="{FOLDER}" path="{}" type="sendreceive" rescanIntervalS="0" fsWatcherEnabled="false">
        <device id="{own}"/>
        <device id="{other}"/>
        <minDiskFree unit="%">0</minDiskFree>
    </folder>
    <device id="{own}"><address>dynamic</address></device>
    <device id="{other}"><address>{address}</address></device>
    <gui enabled="true" tls="false">
        <address>{}</address>
        <apikey>{API_KEY}</apikey>
    </gui>
    <options>
        <listenAddress>{listens}</listenAddress>
        <globalAnnounceEnabled>false</globalAnnounceEnabled>
        <localAnnounceEnabled>false</localAnnounceEnabled>
        <relaysEnabled>false</relaysEnabled>
        <natEnabled>false</natEnabled>
        <urAccepted>-1</urAccepted>
        <autoUpgradeIntervalH>0</autoUpgradeIntervalH>
        <crashReportingEnabled>false</crashReportingEnabled>
        <setLowPriority>false</setLowPriority>
        <reconnectionIntervalS>1</reconnectionIntervalS>
    </options>
</configuration>
"#,
        folder.display(),
        socket(home).display(),
    );
    fs::write(home.join("config.xml"), config)?;
    Ok(())
}
