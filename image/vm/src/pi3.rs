//! A Raspberry Pi 3 as far as QEMU has one: its own processor, card reader, serial port and USB controller, at which
//! the network hangs as well. No firmware, no Wi-Fi, no LED, and its watchdog resets it at once.

use crate::kernel::Kernel;
use crate::machine::{forward, own_address};
use crate::qemu::Qemu;
use crate::stick::Stick;
use serde_json::json;
use std::net::SocketAddrV4;
use std::ops::RangeInclusive;
use std::path::Path;
use tempfile::TempDir;

/// FTP is at a port here that everybody may use.
const FTP_PORT: u16 = 10_021;

/// A running one. The power goes when it is dropped.
#[derive(Debug)]
pub struct Pi3 {
    qemu: Qemu,
    dir: TempDir,
}

impl Pi3 {
    /// Power on, with this stick plugged in and the appliance's ports forwarded.
    pub(crate) fn boot(
        dir: TempDir,
        card: &Path,
        kernel: &Kernel,
        stick: &Stick,
        passive_ports: RangeInclusive<u16>,
    ) -> anyhow::Result<Pi3> {
        let (qemu, mut qmp) = Qemu::start_pi3(dir.path(), card, kernel, stick.image())?;
        let address = own_address(dir.path());
        forward(&mut qmp, address, FTP_PORT, (None, 21))?;
        for port in passive_ports {
            forward(&mut qmp, address, port, (None, port))?;
        }
        qmp.execute("cont", json!({}))?;
        Ok(Pi3 { qemu, dir })
    }

    /// Where its FTP is reached on this computer, once it is up.
    #[must_use]
    pub fn ftp(&self) -> SocketAddrV4 {
        SocketAddrV4::new(own_address(self.dir.path()), FTP_PORT)
    }

    /// What it and QEMU have said, the end of it: for the message of a test that fails.
    #[must_use]
    pub fn logs(&self) -> String {
        self.qemu.logs()
    }
}
