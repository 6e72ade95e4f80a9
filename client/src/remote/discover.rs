//! Finding appliances in the local network by mDNS (RFC 6762, 6763).
//!
//! What is found is a hint for a person: anybody in the network can announce anything. Trust comes
//! from the certificate alone, so the announced fingerprint is for comparing, never for pinning
//! unseen.

use super::Digest256;
use mdns_sd::{IfKind, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent};
use raspbox_protocol::info::DriveId;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What appliances announce themselves as.
pub const SERVICE_TYPE: &str = "_raspbox._tcp.local.";

/// The most appliances that are listed; more is somebody's joke.
pub const FOUND_MAX: usize = 256;

/// Where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// On every interface but loopback.
    Network,
    /// On the loopback interface only; nothing leaves this machine.
    Loopback,
}

/// An appliance that announced itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name, such as `raspbox`.
    pub name: String,
    /// Its addresses, IPv4 first; link-local IPv6 ones with their zone.
    pub addresses: Vec<String>,
    /// The port of its control connection.
    pub port: u16,
    /// The certificate that it says it has.
    pub fingerprint: Option<Digest256>,
    /// The drive that it says is in it.
    pub drive: Option<DriveId>,
}

/// Listens for this long and lists who announced themselves, by name.
///
/// # Errors
/// Where mDNS can't be used on this machine.
pub fn browse(place: Where, duration: Duration) -> io::Result<Vec<Found>> {
    let daemon = ServiceDaemon::new().map_err(io::Error::other)?;
    let found = browse_with(&daemon, place, Instant::now() + duration);
    // It ends by itself when it is told; nothing depends on when.
    let _ = daemon.shutdown();
    found
}

fn browse_with(daemon: &ServiceDaemon, place: Where, until: Instant) -> io::Result<Vec<Found>> {
    match place {
        Where::Network => {}
        Where::Loopback => {
            daemon
                .disable_interface(IfKind::All)
                .map_err(io::Error::other)?;
            daemon
                .enable_interface(IfKind::LoopbackV4)
                .map_err(io::Error::other)?;
        }
    }
    let events = daemon.browse(SERVICE_TYPE).map_err(io::Error::other)?;
    let mut found = BTreeMap::new();
    while let Ok(event) = events.recv_timeout(until.saturating_duration_since(Instant::now())) {
        match event {
            ServiceEvent::ServiceResolved(service) if found.len() < FOUND_MAX => {
                found.insert(service.get_fullname().to_owned(), describe(&service));
            }
            ServiceEvent::ServiceRemoved(_, name) => {
                found.remove(&name);
            }
            _ => {}
        }
    }
    Ok(found.into_values().collect())
}

fn describe(service: &ResolvedService) -> Found {
    let name = service.get_fullname();
    let name = name.split(&format!(".{SERVICE_TYPE}")).next();
    let property = |key| service.get_property_val_str(key);
    let mut addresses: Vec<&ScopedIp> = service.get_addresses().iter().collect();
    addresses.sort_by_key(|address| {
        let ip = address.to_ip_addr();
        (matches!(ip, IpAddr::V6(_)), ip)
    });
    Found {
        name: super::peer::one_line(name.unwrap_or_default()),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        port: service.get_port(),
        fingerprint: property("fingerprint").and_then(|text| text.parse().ok()),
        drive: property("drive").and_then(|text| text.parse().ok()),
    }
}
