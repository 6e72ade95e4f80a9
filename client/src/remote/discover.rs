//! Finding appliances in the local network by mDNS (RFC 6762, 6763).
//!
//! What is found is a hint for a person: anybody in the network can announce anything. Trust comes
//! from the certificate alone, so the announced fingerprint is for comparing, never for pinning
//! unseen.

use super::Digest256;
use mdns_sd::{
    HostnameResolutionEvent, IfKind, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent,
};
use raspbox_protocol::info::DriveId;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
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
    asking(place, |daemon| {
        browse_with(daemon, Instant::now() + duration)
    })
}

/// The addresses that a host `NAME.local` says it has, IPv4 first; none where nobody answers in time.
///
/// Not every system's resolver asks the network about such names: musl's asks DNS servers alone.
///
/// # Errors
/// Where mDNS can't be used on this machine, or that is no such name.
pub fn resolve(
    place: Where,
    host: &str,
    port: u16,
    duration: Duration,
) -> io::Result<Vec<SocketAddr>> {
    asking(place, |daemon| {
        resolve_with(daemon, host, port, Instant::now() + duration)
    })
}

/// Does something with mDNS, and ends it.
fn asking<T>(
    place: Where,
    ask: impl FnOnce(&ServiceDaemon) -> mdns_sd::Result<T>,
) -> io::Result<T> {
    let daemon = ServiceDaemon::new().map_err(io::Error::other)?;
    let narrowed = match place {
        Where::Network => Ok(()),
        Where::Loopback => daemon
            .disable_interface(IfKind::All)
            .and_then(|()| daemon.enable_interface(IfKind::LoopbackV4)),
    };
    let answer = narrowed.and_then(|()| ask(&daemon));
    // It ends by itself when it is told; nothing depends on when.
    let _ = daemon.shutdown();
    answer.map_err(io::Error::other)
}

fn browse_with(daemon: &ServiceDaemon, until: Instant) -> mdns_sd::Result<Vec<Found>> {
    let events = daemon.browse(SERVICE_TYPE)?;
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

fn resolve_with(
    daemon: &ServiceDaemon,
    host: &str,
    port: u16,
    until: Instant,
) -> mdns_sd::Result<Vec<SocketAddr>> {
    let name = format!("{}.", host.trim_end_matches('.'));
    let left = |until: Instant| until.saturating_duration_since(Instant::now());
    let left_ms = u64::try_from(left(until).as_millis()).unwrap_or(u64::MAX);
    let events = daemon.resolve_hostname(&name, Some(left_ms))?;
    let mut addresses = Vec::new();
    while let Ok(event) = events.recv_timeout(left(until)) {
        match event {
            HostnameResolutionEvent::AddressesFound(_, found) => {
                addresses.extend(
                    found
                        .iter()
                        .take(FOUND_MAX)
                        .map(|found| at_port(found, port)),
                );
                // They come in one answer mostly; an IPv4 one is the best that there is.
                if addresses.iter().any(SocketAddr::is_ipv4) || addresses.len() >= FOUND_MAX {
                    break;
                }
            }
            HostnameResolutionEvent::SearchTimeout(_)
            | HostnameResolutionEvent::SearchStopped(_) => break,
            _ => {}
        }
    }
    addresses.sort_by_key(|address| (address.is_ipv6(), *address));
    addresses.dedup();
    Ok(addresses)
}

/// A link-local IPv6 address means nothing without its zone.
fn at_port(address: &ScopedIp, port: u16) -> SocketAddr {
    match address {
        ScopedIp::V6(address) => {
            let zone = address.scope_id().index;
            SocketAddrV6::new(*address.addr(), port, 0, zone).into()
        }
        address => SocketAddr::new(address.to_ip_addr(), port),
    }
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
