//! The ports of data connections.

use crate::session::Session;
use async_trait::async_trait;
use libunftp::options::Binder;
use nix::sys::socket::{Backlog, listen};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::TcpSocket;

/// Connections that wait in the kernel: one comes for each port, and libunftp says so again with a number of its own.
const BACKLOG: i32 = 1;

/// Hands out ports, each in its turn, to all sessions.
///
/// libunftp's own choice is random, and it listens only later: two sessions could bind the same port
/// before either does, and the second is ended for it.
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
        for _ in 0..len {
            let offset = self.next.fetch_add(1, Ordering::Relaxed) % len;
            let offset = u16::try_from(offset).expect("an offset within a range of ports");
            result = listening(SocketAddr::new(ip, ports.start() + offset));
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

/// A socket that listens at a port, unless another one does.
fn listening(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Also where the last connection to it is in TIME_WAIT, which keeps the port for a minute: after a thousand
    // downloads in that minute all are so.
    socket.set_reuseaddr(true)?;
    // Connections inherit both from the socket that they come in by.
    socket.set_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    // With that option two can have a port, but never listen at it.
    listen(&socket, Backlog::new(BACKLOG)?)?;
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
    async fn every_port_is_handed_out_once_and_then_none_whether_or_not_the_others_listen_yet() {
        // Nobody listens on 127.8.8.8 otherwise.
        let ip = IpAddr::V4(Ipv4Addr::new(127, 8, 8, 8));
        let (ports, range) = (Ports::new(), 62_000..=62_019);
        let listeners: Vec<_> = range
            .clone()
            .map(|_| ports.bind(ip, &range).unwrap())
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
