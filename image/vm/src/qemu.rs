//! One QEMU process: how it is started, and that it ends.

use crate::kernel::Kernel;
use crate::qmp::Qmp;
use crate::tool::{shown, text, tool};
use crate::wait::DEADLINE;
use anyhow::{Context, bail};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// As much as the smallest Raspberry Pi that runs arm64.
const MEMORY_MIB: u32 = 512;

/// The network that the guest sees: QEMU is its router, its DHCP and its name server.
const NETWORK: &str =
    "net=192.168.50.0/24,host=192.168.50.2,dns=192.168.50.3,dhcpstart=192.168.50.100";

/// For the kernel. systemd's deadlines are of real time, and this computer is emulated and slow.
/// The shell is asked for here, so that the image needs nothing of ours.
const COMMAND_LINE: &str = "console=ttyAMA0,115200 net.ifnames=0 \
    systemd.default_device_timeout_sec=600 systemd.default_timeout_start_sec=600 \
    systemd.debug_shell=hvc0 systemd.mask=serial-getty@hvc0.service systemd.mask=serial-getty@ttyAMA0.service";

/// The same on a Raspberry Pi 3, whose console is its second serial port. QEMU's model of the watchdog resets the machine
/// as soon as it is armed.
const COMMAND_LINE_PI3: &str = "console=ttyS1,115200 net.ifnames=0 \
    systemd.default_device_timeout_sec=1800 systemd.default_timeout_start_sec=1800 \
    module_blacklist=bcm2835_wdt";

/// How the machine comes up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Its kernel is started.
    Cold,
    /// It goes on from this state.
    From(&'a Path),
}

/// A running QEMU; killed when dropped. It stands still until it is told to `cont`.
#[derive(Debug)]
pub(crate) struct Qemu {
    child: Mutex<Child>,
    /// In which the sockets and logs are.
    dir: PathBuf,
}

/// What a new QEMU is talked to through.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) qmp: Qmp,
    pub(crate) console: UnixStream,
    pub(crate) shell: UnixStream,
}

impl Qemu {
    /// Starts one with its SD card and with `dir` for its sockets and logs.
    pub(crate) fn start(
        dir: &Path,
        card: &Path,
        kernel: &Kernel,
        start: Start<'_>,
    ) -> anyhow::Result<(Qemu, Lines)> {
        let [qmp, console, shell] = listeners(dir, ["qmp", "console", "shell"])?;
        let qemu = Qemu::of(command(dir, card, kernel, start)?, dir)?;
        let lines = Lines {
            console: qemu.accept(&console)?,
            shell: qemu.accept(&shell)?,
            qmp: Qmp::greet(qemu.accept(&qmp)?)?,
        };
        Ok((qemu, lines))
    }

    /// Starts a Raspberry Pi 3 with its card and with this stick plugged in.
    pub(crate) fn start_pi3(
        dir: &Path,
        card: &Path,
        kernel: &Kernel,
        stick: &Path,
    ) -> anyhow::Result<(Qemu, Qmp)> {
        let [qmp] = listeners(dir, ["qmp"])?;
        let qemu = Qemu::of(command_pi3(dir, card, kernel, stick)?, dir)?;
        let qmp = Qmp::greet(qemu.accept(&qmp)?)?;
        Ok((qemu, qmp))
    }

    fn of(mut command: Command, dir: &Path) -> anyhow::Result<Qemu> {
        let log = File::create(dir.join("qemu.log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child =
            spawn(command).context("cannot start QEMU: is it there? image/vm/install gets it")?;
        Ok(Qemu {
            child: Mutex::new(child),
            dir: dir.to_owned(),
        })
    }

    /// Ends it at once, as a cut of the power does. It may have ended before.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&self, deadline: Duration) -> anyhow::Result<()> {
        crate::wait_until(deadline, "QEMU to end", || {
            Ok(self.has_ended()?.then_some(()))
        })
    }

    /// Its process. (setpriv has become it.)
    pub(crate) fn pid(&self) -> u32 {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.id()
    }

    /// Seconds of processor time that it has used.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let pid = self.pid();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // proc_pid_stat(5): utime and stime are the 12th and 13th after the name, in hundredths.
        let ticks = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(11)
            .take(2);
        let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// The end of what the kernel and QEMU itself have said.
    pub(crate) fn logs(&self) -> String {
        let log = |name: &str| shown(&fs::read(self.dir.join(name)).unwrap_or_default());
        format!(
            "the kernel's console:\n{}\nQEMU:\n{}",
            log("serial.log"),
            log("qemu.log")
        )
    }

    fn has_ended(&self) -> anyhow::Result<bool> {
        Ok(self
            .child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_wait()?
            .is_some())
    }

    fn accept(&self, listener: &UnixListener) -> anyhow::Result<UnixStream> {
        listener.set_nonblocking(true)?;
        let end = Instant::now() + DEADLINE;
        loop {
            match listener.accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(false)?;
                    return Ok(socket);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if self.has_ended()? || Instant::now() > end {
                bail!("QEMU doesn't come up: {}", self.logs());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Where QEMU connects to us: then there is no time at which it doesn't listen yet.
fn listeners<const N: usize>(dir: &Path, names: [&str; N]) -> anyhow::Result<[UnixListener; N]> {
    let mut listeners = Vec::new();
    for name in names {
        let socket = dir.join(name);
        let _ = fs::remove_file(&socket);
        listeners.push(UnixListener::bind(socket)?);
    }
    Ok(listeners.try_into().expect("one for each"))
}

/// What all of them have: no hardware that isn't named, and our own line to it.
fn bare(dir: &Path) -> anyhow::Result<Command> {
    // The kernel kills it with us, however we end.
    let mut command = tool("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "qemu-system-aarch64",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-S",
    ]);
    command.args([
        "-chardev",
        &socket(dir, "qmp")?,
        "-mon",
        "chardev=qmp,mode=control",
    ]);
    Ok(command)
}

fn socket(dir: &Path, name: &str) -> anyhow::Result<String> {
    Ok(format!("socket,id={name},path={}", text(&dir.join(name))?))
}

fn command(dir: &Path, card: &Path, kernel: &Kernel, start: Start<'_>) -> anyhow::Result<Command> {
    let mut command = bare(dir)?;
    command.args([
        "-machine",
        "virt",
        "-cpu",
        "cortex-a72",
        "-accel",
        "tcg,thread=multi",
        "-smp",
        "2",
    ]);
    command.args(["-m", &MEMORY_MIB.to_string()]);
    command
        .arg("-kernel")
        .arg(kernel.dir.join("vmlinuz"))
        .arg("-initrd")
        .arg(kernel.dir.join("initrd"));
    command.args(["-append", COMMAND_LINE]);
    command.args([
        "-serial",
        &format!("file:{}", text(&dir.join("serial.log"))?),
    ]);
    command.args(["-device", "virtio-serial-pci"]);
    command.args([
        "-chardev",
        &socket(dir, "console")?,
        "-device",
        "virtconsole,chardev=console",
    ]);
    command.args([
        "-chardev",
        &socket(dir, "shell")?,
        "-device",
        "virtserialport,chardev=shell,name=test-shell",
    ]);
    command.args([
        "-drive",
        &format!("if=none,id=card,format=qcow2,file={}", text(card)?),
    ]);
    command.args(["-device", "virtio-blk-pci,drive=card"]);
    command.args([
        "-netdev",
        &format!("user,id=network,{NETWORK}"),
        "-device",
        "virtio-net-pci,id=ethernet,netdev=network,romfile=",
    ]);
    command.args([
        "-device",
        "virtio-rng-pci",
        "-device",
        "qemu-xhci,id=usb,p2=8,p3=8",
    ]);
    if let Start::From(state) = start {
        command.args(["-incoming", &format!("exec:zstd -qdc {}", text(state)?)]);
    }
    Ok(command)
}

/// Its reader of SD cards takes sizes that are a power of two only.
fn command_pi3(dir: &Path, card: &Path, kernel: &Kernel, stick: &Path) -> anyhow::Result<Command> {
    let mut command = bare(dir)?;
    // The board has 1 GiB and four processors, and can't have others.
    command.args(["-machine", "raspi3b"]);
    command
        .arg("-kernel")
        .arg(kernel.dir.join("vmlinuz"))
        .arg("-initrd")
        .arg(kernel.dir.join("initrd-pi3"))
        .arg("-dtb")
        .arg(kernel.dir.join("pi3.dtb"));
    command.args(["-append", COMMAND_LINE_PI3]);
    // The first port is Bluetooth's.
    command.args(["-serial", "null", "-serial"]);
    command.arg(format!("file:{}", text(&dir.join("serial.log"))?));
    command.args([
        "-drive",
        &format!("if=sd,format=qcow2,file={}", text(card)?),
    ]);
    command.args(["-netdev", &format!("user,id=network,{NETWORK}")]);
    command.args(["-device", "usb-net,netdev=network"]);
    let stick = format!("if=none,id=stick,format=raw,file={}", text(stick)?);
    command.args(["-drive", &stick]);
    command.args(["-device", "usb-storage,drive=stick"]);
    Ok(command)
}

/// Starts it from a thread that never ends. The kernel's signal at the parent's death is sent when the
/// *thread* that started the process ends, and a test's thread may give its machine to another.
fn spawn(command: Command) -> anyhow::Result<Child> {
    type Request = (Command, Sender<std::io::Result<Child>>);
    static THREAD: LazyLock<Mutex<Sender<Request>>> = LazyLock::new(|| {
        let (to, from) = channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, reply) in from {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(to)
    });
    let (reply, child) = channel();
    THREAD
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, reply))
        .context("no thread to start it")?;
    Ok(child.recv().context("no thread to start it")??)
}
