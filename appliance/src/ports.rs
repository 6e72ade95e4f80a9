//! The ports of data connections.

use crate::session::Session;
use async_trait::async_trait;
use libunftp::options::Binder;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::TcpSocket;

/// How many ports are tried alone before one is shared with connections that are ending.
const EXCLUSIVE_TRIES: u32 = 16;

/// Hands out ports, each in its turn, to all sessions.
///
/// libunftp's own choice is random and with SO_REUSEADDR: two sessions could bind the same port
/// before either listens, and the second is ended for it.
#[derive(Debug)]
pub(crate) struct Ports {
    next: AtomicU32,
}

impl Ports {
    /// Begins anywhere: other programs take ports of the same range in the same order.
    pub(crate) fn new() -> Ports {
        let mut random = [0; 4];
        getrandom::fill(&mut random).expect("the kernel gives random bytes");
        Ports {
            next: AtomicU32::new(u32::from_ne_bytes(random)),
        }
    }

    fn bind(&self, ip: IpAddr, ports: &RangeInclusive<u16>) -> io::Result<TcpSocket> {
        let len = u32::from(ports.end() - ports.start()) + 1;
        let mut result = Err(io::ErrorKind::AddrInUse.into());
        let exclusive_tries = EXCLUSIVE_TRIES.min(len);
        for attempt in 0..exclusive_tries + len {
            let offset = self.next.fetch_add(1, Ordering::Relaxed) % len;
            let offset = u16::try_from(offset).expect("an offset within a range of ports");
            // A port whose last connection is in TIME_WAIT can't be had alone. After a minute of
            // small files that is true of all of them; then what `bind` allows afterwards counts.
            let shared = attempt >= exclusive_tries;
            result = bind(SocketAddr::new(ip, ports.start() + offset), shared);
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(shared)?;
    // Connections inherit both from the socket that they come in by.
    socket.set_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    // Also of a port that was had alone: in TIME_WAIT the connection would keep it for a minute, from
    // everybody, and a thousand downloads in that minute would leave no port. Two can't listen at one
    // port whatever they allow.
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

/// What libunftp calls for each PASV and EPSV of a session.
#[derive(Debug)]
pub(crate) struct SessionPorts {
    /// Which session.
    pub(crate) session: Arc<Session>,
    /// All ports.
    pub(crate) ports: Arc<Ports>,
}

#[async_trait]
impl Binder for SessionPorts {
    async fn bind(&mut self, ip: IpAddr, ports: RangeInclusive<u16>) -> io::Result<TcpSocket> {
        if self.session.account().is_none() || !self.session.on_passive() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.ports.bind(ip, &ports).inspect_err(|error| {
            tracing::warn!(session = self.session.id, %error, "no port for a data connection");
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Ports;
    use std::collections::HashSet;
    use std::io;
    use std::net::{IpAddr, Ipv4Addr};

    #[tokio::test]
    async fn every_port_is_handed_out_once_and_then_none() {
        // Nobody listens on 127.8.8.8 otherwise.
        let ip = IpAddr::V4(Ipv4Addr::new(127, 8, 8, 8));
        let (ports, range) = (Ports::new(), 62_000..=62_019);
        let listeners: Vec<_> = range
            .clone()
            .map(|_| ports.bind(ip, &range).unwrap().listen(1).unwrap())
            .collect();
        let taken: HashSet<_> = listeners
            .iter()
            .map(|l| l.local_addr().unwrap().port())
            .collect();
        assert_eq!(taken, range.clone().collect());
        assert!(ports.bind(ip, &range).is_err());
    }

    #[tokio::test]
    async fn a_port_can_be_had_again_after_a_connection_that_was_closed_here() {
        let ip = IpAddr::V4(Ipv4Addr::new(127, 8, 8, 9));
        let (ports, range) = (Ports::new(), 62_020..=62_021);
        for _ in 0..6 {
            let listener = ports.bind(ip, &range).unwrap().listen(1).unwrap();
            let mut there = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (here, _) = listener.accept().await.unwrap();
            // Closed here first: the port is in TIME_WAIT from now on.
            drop(here);
            assert_eq!(io::Read::read(&mut there, &mut [0]).unwrap(), 0);
        }
    }
}
