//! TCP as this program wants it.

use super::RemoteError;
use super::connection::{CONNECT_TIMEOUT, Endpoint};
use super::peer::Peer;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long unanswered data or keep-alives may stay so before the peer counts as gone.
const PEER_GONE: Duration = Duration::from_secs(45);

/// Connects to the first of the host's addresses that answers.
pub(super) fn connect(endpoint: &Endpoint, who: &Peer) -> Result<TcpStream, RemoteError> {
    let addresses = (endpoint.host.as_str(), endpoint.port).to_socket_addrs();
    let addresses = addresses.map_err(|_| RemoteError::NoSuchHost(endpoint.host.clone()))?;
    let mut failed = None;
    for address in addresses {
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
