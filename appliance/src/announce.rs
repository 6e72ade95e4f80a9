//! mDNS: how `raspbox discover` finds the appliance in the network.

use crate::config::Announce;
use anyhow::Context;
use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The service type of RFC 6763.
pub(crate) const SERVICE: &str = "_raspbox._tcp.local.";

/// An announcement; it ends, with a goodbye, when it is dropped.
pub(crate) struct Announcement {
    daemon: ServiceDaemon,
    name: String,
}

impl Announcement {
    /// Begins to announce, where that is wanted.
    ///
    /// TXT: `fingerprint` (the certificate's SHA-256) and `drive` (the drive's id). Both are hints
    /// for a list to choose from: anybody in the network can announce anything.
    pub(crate) fn begin(
        announce: Announce,
        address: SocketAddr,
        fingerprint: &str,
        drive: &str,
    ) -> anyhow::Result<Option<Announcement>> {
        if announce == Announce::Off {
            return Ok(None);
        }
        let daemon = ServiceDaemon::new().context("cannot use multicast DNS")?;
        if announce == Announce::Loopback {
            daemon.disable_interface(IfKind::All)?;
            daemon.enable_interface(IfKind::LoopbackV4)?;
        }
        let host = nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .unwrap_or_else(|| "raspbox".into());
        let instance = format!("raspbox on {host} ({})", &fingerprint[..6]);
        let properties = [("fingerprint", fingerprint), ("drive", drive)];
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let given = [address.ip()];
        let addresses: &[IpAddr] = match announce {
            Announce::Loopback => &loopback,
            Announce::On | Announce::Off if address.ip().is_unspecified() => &[],
            Announce::On | Announce::Off => &given,
        };
        let host = format!("{host}.local.");
        let mut service = ServiceInfo::new(
            SERVICE,
            &instance,
            &host,
            addresses,
            address.port(),
            &properties[..],
        )?;
        if addresses.is_empty() {
            service = service.enable_addr_auto();
        }
        let name = service.get_fullname().to_owned();
        daemon.register(service)?;
        tracing::info!(name, "announced");
        Ok(Some(Announcement { daemon, name }))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Others forget us sooner by it; nothing is lost where it fails.
        if let Ok(gone) = self.daemon.unregister(&self.name) {
            let _ = gone.recv_timeout(std::time::Duration::from_millis(500));
        }
        let _ = self.daemon.shutdown();
    }
}
