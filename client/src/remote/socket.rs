//! TCP as this program wants it.

use super::RemoteError;
use super::connection::{CONNECT_TIMEOUT, Endpoint};
use super::discover::{self, Where};
use super::peer::Peer;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long unanswered data or keep-alives may stay so before the peer counts as gone.
const PEER_GONE: Duration = Duration::from_secs(45);

/// How long a host in the local network may take to say where it is. It is asked at once, and after one and
/// after three seconds again, since Wi-Fi loses what goes to all.
const LOCAL_NAME_TIMEOUT: Duration = Duration::from_secs(4);

/// Connects to the first of the host's addresses that answers.
pub(super) fn connect(endpoint: &Endpoint, who: &Peer) -> Result<TcpStream, RemoteError> {
    let mut failed = None;
    for address in addresses(&endpoint.host, endpoint.port) {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(socket) => {
                prepare(&socket)?;
                return Ok(socket);
            }
            Err(error) => failed = Some(error),
        }
    }
    Err(match failed {
        Some(error) => who.io(&error),
        None => RemoteError::NoSuchHost(endpoint.host.clone()),
    })
}

/// The host's addresses; none where it isn't known.
fn addresses(host: &str, port: u16) -> Vec<SocketAddr> {
    match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) if is_local(host) => {
            tracing::debug!(host, %error, "asking the network itself");
            discover::resolve(Where::Network, host, port, LOCAL_NAME_TIMEOUT).unwrap_or_default()
        }
        Err(_) => Vec::new(),
    }
}

/// Whether a name is one that hosts answer for themselves (RFC 6762, section 3).
fn is_local(host: &str) -> bool {
    let name = host.trim_end_matches('.').rsplit_once('.');
    name.is_some_and(|(name, top)| !name.is_empty() && top.eq_ignore_ascii_case("local"))
}

/// Sends at once, and notices when the peer lost its power.
pub(super) fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let gone_ms = u32::try_from(PEER_GONE.as_millis()).expect("less than 49 days");
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &15)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &10)?;
    setsockopt(socket, sockopt::TcpKeepCount, &3)?;
    setsockopt(socket, sockopt::TcpUserTimeout, &gone_ms)?;
    Ok(())
}

/// The name for TLS's SNI. The certificate is pinned, so it decides nothing; some names and
/// addresses (those with a zone) aren't allowed there.
pub(super) fn server_name(host: &str) -> String {
    if rustls::pki_types::ServerName::try_from(host).is_ok() {
        host.to_owned()
    } else {
        "raspbox.invalid".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn names_of_the_local_network_are_told_from_others() {
        for local in ["raspbox.local", "raspbox.LOCAL.", "a.b.local"] {
            assert!(is_local(local), "{local}");
        }
        for other in [
            "",
            "local",
            ".local",
            "raspbox",
            "raspbox.local.example",
            "notlocal",
            "192.168.1.5",
            "fe80::1",
        ] {
            assert!(!is_local(other), "{other}");
        }
    }
}
