//! A machine in a test.

use crate::kernel::Kernel;
use crate::qemu::{Qemu, Start};
use crate::qmp::Qmp;
use crate::shell::{Output, Shell};
use crate::snapshot::{Snapshot, overlay};
use crate::stick::Stick;
use crate::wait::wait_until;
use anyhow::{Context, bail, ensure};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// Up to a root shell, from a cold start: more than a minute of processor time, beside other work many.
const BOOT_DEADLINE: Duration = Duration::from_secs(1800);

/// The processor time of QEMU after which a machine that has no shell yet hangs: many times what it takes, whatever
/// else runs here.
const BOOT_CPU_MAX: Duration = Duration::from_secs(600);

/// One machine. All of it can be called from several threads: the power can be cut while a command runs,
/// which then is an error.
#[derive(Debug)]
pub struct Machine {
    /// None while the power is off.
    running: Mutex<Option<Running>>,
    shell: Mutex<Option<Shell>>,
    /// Plugged in, by port. They stay there when the power goes.
    sticks: Mutex<BTreeMap<u8, Plugged>>,
    /// Forwarded: the port here, and which one of the guest at which address.
    forwards: Mutex<BTreeMap<u16, (Option<Ipv4Addr>, u16)>>,
    card: PathBuf,
    kernel: Kernel,
    dir: TempDir,
}

#[derive(Debug)]
struct Running {
    qemu: Qemu,
    qmp: Qmp,
}

/// A stick in a port.
#[derive(Debug)]
struct Plugged {
    image: PathBuf,
    /// Of 512 bytes, from the start of the image; it can't be read.
    bad_sector: Option<u64>,
}

/// What went from and to a drive since QEMU was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that were read.
    pub read: u64,
    /// Bytes that were written.
    pub written: u64,
}

impl Machine {
    /// A fresh copy of [`Snapshot::booted`].
    ///
    /// # Errors
    /// Where there is no such snapshot yet and it can't be made, or QEMU doesn't come up.
    pub fn booted() -> anyhow::Result<Machine> {
        Snapshot::booted()?.start()
    }

    /// Runs commands of `sh` as root, in `/`.
    ///
    /// # Errors
    /// Where the machine doesn't answer. A command that fails is an [`Output`].
    pub fn run(&self, commands: &str) -> anyhow::Result<Output> {
        self.run_with(commands, &[])
    }

    /// The same with this as its stdin.
    ///
    /// # Errors
    /// Where the machine doesn't answer.
    pub fn run_with(&self, commands: &str, stdin: &[u8]) -> anyhow::Result<Output> {
        let mut shell = lock(&self.shell);
        let shell = shell.as_mut().context("the machine is off")?;
        shell
            .run(commands, stdin)
            .with_context(|| format!("no result of: {commands}"))
    }

    /// Runs what must succeed: its stdout as text, without the last line's end.
    ///
    /// # Errors
    /// Where it fails, with all that it said.
    pub fn ok(&self, commands: &str) -> anyhow::Result<String> {
        let output = self.run(commands)?;
        if output.status != 0 {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "in the machine, {commands:?} failed with {}: {}{said}",
                output.status,
                output.text()
            );
        }
        Ok(output.text())
    }

    /// Runs it again and again until it succeeds: its stdout.
    ///
    /// # Errors
    /// When the deadline is over, with what it said last.
    pub fn wait_for(&self, deadline: Duration, commands: &str) -> anyhow::Result<String> {
        let mut last = None;
        let found = wait_until(deadline, &format!("{commands:?} to succeed"), || {
            let output = self.run(commands)?;
            let text = (output.status == 0).then(|| output.text());
            last = Some(output);
            Ok(text)
        });
        found.with_context(|| {
            last.map_or_else(String::new, |last| {
                format!(
                    "it said: {}{}",
                    last.text(),
                    String::from_utf8_lossy(&last.stderr)
                )
            })
        })
    }

    /// Copies a file of this computer into it.
    ///
    /// # Errors
    /// Where it can't be read here or written there.
    pub fn put(&self, file: &Path, to: &str) -> anyhow::Result<()> {
        let content =
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        self.write(to, &content)
    }

    /// Writes a file in it, and the folders above.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write(&self, to: &str, content: &[u8]) -> anyhow::Result<()> {
        let to = quoted(to);
        let output = self.run_with(
            &format!("mkdir -p \"$(dirname {to})\" && cat >{to}"),
            content,
        )?;
        ensure!(
            output.status == 0,
            "cannot write {to} in the machine: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Reads a file in it.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn read(&self, from: &str) -> anyhow::Result<Vec<u8>> {
        let output = self.run(&format!("cat {}", quoted(from)))?;
        ensure!(
            output.status == 0,
            "cannot read {from} in the machine: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output.stdout)
    }

    /// Plugs a stick into the USB port of this number, 1 to 8.
    ///
    /// # Errors
    /// Where the port isn't free, or the power is off.
    pub fn plug(&self, stick: &Stick, port: u8) -> anyhow::Result<()> {
        self.plug_in(stick, port, None)
    }

    /// The same with a stick that fails where this sector is read, as it is counted by
    /// [`Stick::sector_of`].
    ///
    /// # Errors
    /// Where the port isn't free, or the power is off.
    pub fn plug_failing(&self, stick: &Stick, port: u8, bad_sector: u64) -> anyhow::Result<()> {
        self.plug_in(stick, port, Some(bad_sector))
    }

    fn plug_in(&self, stick: &Stick, port: u8, bad_sector: Option<u64>) -> anyhow::Result<()> {
        let mut sticks = lock(&self.sticks);
        ensure!(
            !sticks.contains_key(&port),
            "there is a stick in port {port}"
        );
        let plugged = Plugged {
            image: stick.image().to_owned(),
            bad_sector,
        };
        self.with(|running| attach(&mut running.qmp, port, &plugged))?;
        sticks.insert(port, plugged);
        Ok(())
    }

    /// Pulls the stick out of this port, whatever it is doing.
    ///
    /// # Errors
    /// Where there is none, or the power is off.
    pub fn unplug(&self, port: u8) -> anyhow::Result<()> {
        let mut sticks = lock(&self.sticks);
        ensure!(
            sticks.contains_key(&port),
            "there is no stick in port {port}"
        );
        self.with(|running| {
            let device = format!("usb-{port}");
            running.qmp.execute("device_del", json!({ "id": device }))?;
            running
                .qmp
                .event("DEVICE_DELETED", |data| data["device"] == *device)?;
            // What it was doing has an end first.
            let node = json!({ "node-name": format!("stick-{port}") });
            wait_until(crate::DEADLINE, "the stick to be at rest", || {
                Ok(running.qmp.execute("blockdev-del", node.clone()).ok())
            })
        })?;
        sticks.remove(&port);
        Ok(())
    }

    /// Cuts the power: QEMU is killed. Card and sticks are as they were at that moment.
    ///
    /// # Errors
    /// Where it is off already.
    pub fn power_cut(&self) -> anyhow::Result<()> {
        let running = lock(&self.running).take().context("the power is off")?;
        running.qemu.kill()?;
        // Only now: a command that is running holds it, and ends by what was done.
        lock(&self.shell).take();
        Ok(())
    }

    /// Shuts it down as one should, and waits until it is off.
    ///
    /// # Errors
    /// Where it doesn't go off.
    pub fn shut_down(&self) -> anyhow::Result<()> {
        self.ok("systemctl poweroff --no-block")?;
        let running = lock(&self.running).take().context("the power is off")?;
        running
            .qemu
            .wait(BOOT_DEADLINE)
            .with_context(|| running.qemu.logs())?;
        lock(&self.shell).take();
        Ok(())
    }

    /// Power on after [`Machine::power_cut`] or [`Machine::shut_down`], with the same card, sticks and forwarded
    /// ports: it boots, which takes minutes, and is waited for until the root shell is there. Services may
    /// still be starting.
    ///
    /// # Errors
    /// Where it is on, or doesn't come up.
    pub fn boot_again(&self) -> anyhow::Result<()> {
        ensure!(lock(&self.running).is_none(), "the power is on");
        self.boot()
    }

    /// Forwards a TCP port of the machine: where it is reached on this computer. The machine has an address of its
    /// own here, [`Machine::address`], with the same number there, as FTP's passive mode needs.
    /// Ports below 1024, which not everybody may use, are 10,000 higher.
    ///
    /// # Errors
    /// Where the port is taken, or the power is off.
    pub fn host_forward(&self, port: u16) -> anyhow::Result<SocketAddrV4> {
        let here = if port < 1024 { port + 10_000 } else { port };
        self.forward_from(here, port, None)
    }

    /// The same at one of the machine's addresses, where it has others than the one that DHCP gave it; on any
    /// port here.
    ///
    /// # Errors
    /// Where the power is off.
    pub fn host_forward_to(&self, address: Ipv4Addr, port: u16) -> anyhow::Result<SocketAddrV4> {
        // Free now, and nobody else looks for one at this address.
        let here = TcpListener::bind((self.address(), 0))?.local_addr()?.port();
        self.forward_from(here, port, Some(address))
    }

    fn forward_from(
        &self,
        here: u16,
        port: u16,
        to: Option<Ipv4Addr>,
    ) -> anyhow::Result<SocketAddrV4> {
        self.with(|running| forward(&mut running.qmp, self.address(), here, (to, port)))?;
        lock(&self.forwards).insert(here, (to, port));
        Ok(SocketAddrV4::new(self.address(), here))
    }

    /// Where its forwarded ports are on this computer: one of the loopback addresses, by the process and the
    /// machine.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        own_address(self.dir.path())
    }

    /// What went from and to the drives: `card`, and `usb-1` for the stick in port 1.
    ///
    /// # Errors
    /// Where the power is off.
    pub fn blockstats(&self) -> anyhow::Result<BTreeMap<String, Traffic>> {
        let found = self.with(|running| running.qmp.execute("query-blockstats", json!({})))?;
        let drives = found
            .as_array()
            .context("no list of drives")?
            .iter()
            .filter_map(|drive| {
                let name = [&drive["device"], &drive["qdev"]]
                    .into_iter()
                    .filter_map(|name| name.as_str())
                    .find(|name| !name.is_empty())?;
                // A stick is named by the path of its device.
                let name = name
                    .split('/')
                    .find(|piece| piece.starts_with("usb-"))
                    .unwrap_or(name);
                let count = |what: &str| drive["stats"][what].as_u64();
                Some((
                    name.to_owned(),
                    Traffic {
                        read: count("rd_bytes")?,
                        written: count("wr_bytes")?,
                    },
                ))
            });
        Ok(drives.collect())
    }

    /// Pulls the network cable, or puts it back.
    ///
    /// # Errors
    /// Where the power is off.
    pub fn cable(&self, is_in: bool) -> anyhow::Result<()> {
        self.with(|running| {
            running
                .qmp
                .execute("set_link", json!({ "name": "ethernet", "up": is_in }))
        })?;
        Ok(())
    }

    /// The process that it is.
    ///
    /// # Errors
    /// Where the power is off.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.with(|running| Ok(running.qemu.pid()))
    }

    /// Seconds of processor time that its QEMU has used since the power is on.
    ///
    /// # Errors
    /// Where the power is off.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        self.with(|running| running.qemu.cpu())
    }

    /// What its kernel and its QEMU have said, the end of it: for the message of a test that fails.
    #[must_use]
    pub fn logs(&self) -> String {
        lock(&self.running).as_ref().map_or_else(
            || "the power is off".to_owned(),
            |running| running.qemu.logs(),
        )
    }

    /// Boots from this card.
    pub(crate) fn cold(card: PathBuf, kernel: Kernel) -> anyhow::Result<Machine> {
        Machine::cold_in(tempfile::tempdir()?, card, kernel)
    }

    /// The same with a card that goes with the machine.
    pub(crate) fn cold_in(dir: TempDir, card: PathBuf, kernel: Kernel) -> anyhow::Result<Machine> {
        let machine = Machine::off(card, kernel, dir);
        machine.boot()?;
        Ok(machine)
    }

    /// Goes on from the snapshot, with a card that lies over the snapshot's.
    pub(crate) fn resumed(card: PathBuf, from: &Snapshot) -> anyhow::Result<Machine> {
        let machine = Machine::off(card, from.kernel().clone(), tempfile::tempdir()?);
        machine.resume(from)?;
        Ok(machine)
    }

    /// Goes on from the snapshot, with a card that goes with the machine.
    pub(crate) fn copy_of(from: &Snapshot) -> anyhow::Result<Machine> {
        let dir = tempfile::tempdir()?;
        let machine = Machine::off(
            overlay(dir.path(), &from.card())?,
            from.kernel().clone(),
            dir,
        );
        machine.resume(from)?;
        Ok(machine)
    }

    /// Stops it, writes its state, and ends it.
    pub(crate) fn freeze(self, state: &Path) -> anyhow::Result<()> {
        ensure!(
            lock(&self.sticks).is_empty(),
            "a snapshot has no stick in it"
        );
        let mut running = lock(&self.running).take().context("the power is off")?;
        let qmp = &mut running.qmp;
        qmp.execute("stop", json!({}))?;
        let write = format!("exec:zstd -q -3 > {}", quoted(crate::tool::text(state)?));
        qmp.execute("migrate", json!({ "uri": write }))?;
        wait_until(crate::DEADLINE, "the state to be written", || {
            let status = qmp.execute("query-migrate", json!({}))?;
            ensure!(
                status["status"] != "failed",
                "the state can't be written: {status}"
            );
            Ok((status["status"] == "completed").then_some(()))
        })?;
        // Its work is done; one that is gone already takes no more.
        let _ = qmp.execute("quit", json!({}));
        running.qemu.wait(crate::DEADLINE)
    }

    fn off(card: PathBuf, kernel: Kernel, dir: TempDir) -> Machine {
        Machine {
            running: Mutex::default(),
            shell: Mutex::default(),
            sticks: Mutex::default(),
            forwards: Mutex::default(),
            card,
            kernel,
            dir,
        }
    }

    fn boot(&self) -> anyhow::Result<()> {
        let (qemu, mut lines) =
            Qemu::start(self.dir.path(), &self.card, &self.kernel, Start::Cold)?;
        for (port, plugged) in &*lock(&self.sticks) {
            attach(&mut lines.qmp, *port, plugged)?;
        }
        for (here, to) in &*lock(&self.forwards) {
            forward(&mut lines.qmp, self.address(), *here, *to)?;
        }
        lines.qmp.execute("cont", json!({}))?;
        let patience = || {
            let cpu = qemu.cpu()?;
            ensure!(
                cpu < BOOT_CPU_MAX,
                "it hangs: no shell after {} s of processor time",
                cpu.as_secs()
            );
            Ok(())
        };
        let shell = Shell::begin(&mut lines.console, lines.shell, BOOT_DEADLINE, patience)
            .with_context(|| format!("{}\n{}", qemu.logs(), whereabouts(&mut lines.qmp)))?;
        *lock(&self.shell) = Some(shell);
        *lock(&self.running) = Some(Running {
            qemu,
            qmp: lines.qmp,
        });
        Ok(())
    }

    fn resume(&self, from: &Snapshot) -> anyhow::Result<()> {
        let (qemu, mut lines) = Qemu::start(
            self.dir.path(),
            &self.card,
            &self.kernel,
            Start::From(&from.state()),
        )?;
        wait_until(crate::DEADLINE, "the state to be read", || {
            let status = lines.qmp.execute("query-status", json!({}))?;
            Ok((status["status"] != "inmigrate").then_some(()))
        })
        .with_context(|| qemu.logs())?;
        lines
            .qmp
            .execute("cont", json!({}))
            .with_context(|| qemu.logs())?;
        *lock(&self.shell) = Some(Shell::resume(lines.shell)?);
        *lock(&self.running) = Some(Running {
            qemu,
            qmp: lines.qmp,
        });
        Ok(())
    }

    fn with<T>(&self, what: impl FnOnce(&mut Running) -> anyhow::Result<T>) -> anyhow::Result<T> {
        what(lock(&self.running).as_mut().context("the power is off")?)
    }
}

/// Where its processors are, twice: what a machine that hangs does can be told from it.
fn whereabouts(qmp: &mut Qmp) -> String {
    let mut look = || match qmp.monitor("info registers -a") {
        Ok(registers) => registers
            .lines()
            .filter(|line| line.contains("PC="))
            .map(|line| line.trim().to_owned() + "\n")
            .collect(),
        Err(error) => format!("{error:#}\n"),
    };
    let (first, second): (String, String) = (look(), look());
    format!("its processors:\n{first}{second}")
}

fn attach(qmp: &mut Qmp, port: u8, plugged: &Plugged) -> anyhow::Result<()> {
    let node = format!("stick-{port}");
    let file = json!({ "driver": "file", "filename": crate::tool::text(&plugged.image)? });
    let file = match plugged.bad_sector {
        None => file,
        // 5 is EIO.
        Some(sector) => json!({ "driver": "blkdebug", "image": file, "inject-error": [
            { "event": "none", "iotype": "read", "errno": 5, "sector": sector }
        ] }),
    };
    qmp.execute(
        "blockdev-add",
        json!({ "node-name": node, "driver": "raw", "file": file }),
    )?;
    let device = json!({ "driver": "usb-storage", "id": format!("usb-{port}"), "drive": node, "bus": "usb.0", "port": port.to_string(), "removable": true });
    if let Err(error) = qmp.execute("device_add", device) {
        qmp.execute("blockdev-del", json!({ "node-name": node }))?;
        return Err(error);
    }
    Ok(())
}

/// A loopback address that no other machine has which is there now, by the folder of this one.
pub(crate) fn own_address(dir: &Path) -> Ipv4Addr {
    let hash = blake3::hash(dir.as_os_str().as_encoded_bytes());
    let [a, b, c, ..] = *hash.as_bytes();
    // Not 127.0.0.1 and its neighbours, and no .0 or .255.
    Ipv4Addr::new(127, a | 1, b, c.clamp(1, 254))
}

pub(crate) fn forward(
    qmp: &mut Qmp,
    address: Ipv4Addr,
    here: u16,
    (to, port): (Option<Ipv4Addr>, u16),
) -> anyhow::Result<()> {
    let to = to.map(|to| to.to_string()).unwrap_or_default();
    let said = qmp.monitor(&format!(
        "hostfwd_add network tcp:{address}:{here}-{to}:{port}"
    ))?;
    ensure!(said.trim().is_empty(), "cannot forward port {port}: {said}");
    Ok(())
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A test that failed has left nothing half done in these.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
