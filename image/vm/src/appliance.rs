//! The appliance as its owner has it: the package installed, set up by the file on the card, booted.

use crate::ftp::Ftp;
use crate::machine::Machine;
use crate::package::Package;
use crate::snapshot::Snapshot;
use crate::stick::{Filesystem, Stick};
use crate::wait::{DEADLINE, wait_until};
use anyhow::ensure;
use std::net::SocketAddrV4;

/// One of them.
#[derive(Debug)]
pub struct Appliance {
    /// The machine that it is.
    pub machine: Machine,
    ftp: SocketAddrV4,
}

/// Of the transfers, each a port that is forwarded.
const PASSIVE_PORTS: std::ops::RangeInclusive<u16> = 61000..=61031;

/// Where the owner's file is.
pub const OWNERS_FILE: &str = "/boot/firmware/raspbox.toml";

impl Appliance {
    /// Who may come in, with [`Appliance::PASSWORD`].
    pub const USER: &'static str = "raspbox";

    /// What the owner wrote into the file.
    pub const PASSWORD: &'static str = "correct horse";

    /// What stays free on a drive: little, as the sticks are small.
    pub const KEEP_FREE_MIB: u64 = 8;

    /// A fresh copy of one that has booted, in which there is no drive.
    ///
    /// # Errors
    /// Where it can't be made, which takes minutes at the first time, or doesn't come up.
    pub fn start() -> anyhow::Result<Appliance> {
        Appliance::over(Appliance::snapshot()?.start()?)
    }

    /// The package, installed in Debian, and running.
    ///
    /// # Errors
    /// Where it can't be built or installed.
    pub fn installed() -> anyhow::Result<(Snapshot, Package)> {
        let package = Package::built("raspboxd")?;
        let snapshot = Snapshot::booted()?.then("installed", &[package.bytes()], |machine| {
            package.install(machine)
        })?;
        Ok((snapshot, package))
    }

    /// What an owner writes who wants nothing special, as an editor of another system saves it.
    #[must_use]
    pub fn owners_file() -> String {
        // Not "required", so that the plainest FTP program gets in as well.
        let lines = [
            format!("\u{feff}password = \"{}\"", Appliance::PASSWORD),
            "tls = \"optional\"".into(),
            format!(
                "passive_ports = \"{}-{}\"",
                PASSIVE_PORTS.start(),
                PASSIVE_PORTS.end()
            ),
            format!("keep_free_mib = {}", Appliance::KEEP_FREE_MIB),
            String::new(),
        ];
        lines.join("\r\n")
    }

    /// What `systemctl status` shows.
    ///
    /// # Errors
    /// Where the machine doesn't answer.
    pub fn status(&self) -> anyhow::Result<String> {
        self.machine.ok("systemctl show -P StatusText raspbox")
    }

    /// Waits until the status says this: all of it.
    ///
    /// # Errors
    /// Where it doesn't.
    pub fn says(&self, part: &str) -> anyhow::Result<String> {
        let mut last = String::new();
        let said = wait_until(DEADLINE, &format!("the status to say {part:?}"), || {
            last = self.status()?;
            Ok(last.contains(part).then(|| last.clone()))
        });
        said.map_err(|error| {
            let units =
                "journalctl -b --no-pager -n 60 -o short-monotonic; systemctl --failed --no-legend";
            let journal = self.machine.run(units).map(|output| output.text());
            error.context(format!("it says {last:?}; {}", journal.unwrap_or_default()))
        })
    }

    /// Plugs a drive in and waits until it is served: the status.
    ///
    /// # Errors
    /// Where it isn't.
    pub fn plug(&self, stick: &Stick, port: u8) -> anyhow::Result<String> {
        self.machine.plug(stick, port)?;
        self.says("OK: drive ")
    }

    /// Pulls it out and waits until that is noticed.
    ///
    /// # Errors
    /// Where it isn't.
    pub fn unplug(&self, port: u8) -> anyhow::Result<String> {
        self.machine.unplug(port)?;
        self.says("DEGRADED: no drive")
    }

    /// A connection of a plain FTP program, logged in.
    ///
    /// # Errors
    /// Where it is refused.
    pub fn ftp(&self) -> anyhow::Result<Ftp> {
        Ftp::login(self.ftp, Appliance::USER, Appliance::PASSWORD)
    }

    /// Where FTP is reached on this computer.
    #[must_use]
    pub fn address(&self) -> SocketAddrV4 {
        self.ftp
    }

    /// Looks that no unit has failed, as each test does at its end.
    ///
    /// # Errors
    /// Where one has, with what it said.
    pub fn nothing_has_failed(&self) -> anyhow::Result<()> {
        let failed = self.machine.ok("systemctl --failed --no-legend --plain")?;
        let unit = failed.split(' ').next().unwrap_or_default();
        ensure!(
            failed.is_empty(),
            "{failed}\n{}",
            self.machine
                .ok(&format!("journalctl -b --no-pager -n 60 -u '{unit}'"))?
        );
        Ok(())
    }

    /// That which each test starts from.
    fn snapshot() -> anyhow::Result<Snapshot> {
        let (installed, _) = Appliance::installed()?;
        let file = Appliance::owners_file();
        let recipe = [include_bytes!("appliance.rs").as_slice(), file.as_bytes()];
        installed.then("appliance", &recipe, |machine| {
            machine.write(OWNERS_FILE, file.as_bytes())?;
            machine.shut_down()?;
            machine.boot_again()?;
            machine.wait_for(DEADLINE, "systemctl is-active raspbox")?;
            has_seen_a_stick(machine)
        })
    }

    fn over(machine: Machine) -> anyhow::Result<Appliance> {
        let ftp = machine.host_forward(21)?;
        for port in PASSIVE_PORTS {
            machine.host_forward(port)?;
        }
        Ok(Appliance { machine, ftp })
    }
}

/// The first stick since a boot takes the kernel's modules for it, and the emulated processor takes half a minute for
/// these. Each copy would have to; what they all have is one that was plugged in and wasn't ours.
fn has_seen_a_stick(machine: &Machine) -> anyhow::Result<()> {
    machine
        .ok("modprobe -a usb-storage uas sd_mod ext4 exfat vfat nls_utf8 nls_ascii nls_cp437")?;
    machine.plug(&Stick::new(40, Filesystem::Fat, "HOLIDAYS")?, 1)?;
    machine.wait_for(DEADLINE, "grep -q HOLIDAYS /run/raspbox/sticks/*.json")?;
    machine.unplug(1)?;
    machine.wait_for(DEADLINE, "! ls /run/raspbox/sticks/*.json")?;
    Ok(())
}
