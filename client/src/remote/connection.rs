//! One FTP control connection and the data connections that belong to it.
//!
//! Every socket has time-outs, so that no call hangs and none needs cancelling. A connection on
//! which a transfer broke off is *lost*: what would still come on it can't be told apart any more,
//! so it is thrown away and a new one made. What a reply's code means is said in `peer` and nowhere
//! else.
//!
//! suppaftp logs commands, passwords included, to the `log` crate at trace level. Nothing in this
//! program listens to `log` (tracing-subscriber is built without `tracing-log`); keep it so.

use super::control::{Control, Data};
pub use super::peer::{Peer, Reply};
use super::socket::{connect, prepare, server_name};
use super::tls::{Offer, Pin};
use super::{Digest256, RemoteError};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use suppaftp::types::FileType;
use suppaftp::{FtpError, Mode, RustlsConnector, RustlsFtpStream, TlsConnector, TransferStream};

/// How long a connection may take to be made. A Pi in the same house answers in milliseconds; a
/// sleeping Wi-Fi needs some seconds.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for a reply once logged in. A commit of 10,000 small files is applied, each one
/// fsynced to a slow stick, before its reply comes. A dead peer is noticed much sooner, by the
/// keep-alives.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(300);

/// How long to wait for a reply until logged in, when nothing can take long.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a data connection may stand still. A drive that has to spin up takes 10 s, a stick that
/// tidies up its flash may take a minute.
pub const DATA_TIMEOUT: Duration = Duration::from_secs(120);

/// How long to wait for the reply that says why a transfer broke. There is none where the TLS
/// handshake of a data connection was cut: libunftp's task for it is gone, and its reply with it.
const REASON_TIMEOUT: Duration = Duration::from_secs(10);

/// How much may come after the end of what was asked for, before a transfer's end is given up on.
const DRAIN_MAX_BYTES: u64 = 64 << 10;

/// Where to connect, as whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// Port of the control connection.
    pub port: u16,
    /// The login's name.
    pub user: String,
    /// The password or token. Never printed.
    pub secret: String,
    /// Whether and how to encrypt.
    pub tls: Tls,
}

/// Whether and how to encrypt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Not at all; everything, the password included, is readable on the way.
    Off,
    /// Explicit TLS on both channels, with exactly this certificate.
    Pinned(Digest256),
    /// Explicit TLS on both channels, with whatever certificate is shown first.
    FirstUse,
}

/// One FTP control connection, logged in.
pub struct Connection {
    ftp: RustlsFtpStream,
    control: TcpStream,
    who: Peer,
    pin: Option<Arc<Pin>>,
    lost: Arc<AtomicBool>,
}

/// One transfer on a data connection. Dropping it unfinished gives the whole connection up.
pub struct Transfer {
    // `None` only inside `end`.
    stream: Option<TransferStream<<RustlsConnector as TlsConnector>::Stream>>,
    control: TcpStream,
    who: Peer,
    lost: Arc<AtomicBool>,
}

impl Endpoint {
    /// Host and port as in messages and URLs.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("secret", &"…")
            .field("tls", &self.tls)
            .finish()
    }
}

impl Connection {
    /// Connects, starts TLS, logs in and asks for binary transfers.
    ///
    /// # Errors
    /// Where any of that doesn't work; on [`RemoteError::OtherCertificate`] neither name nor
    /// password was sent.
    pub fn open(endpoint: &Endpoint) -> Result<Connection, RemoteError> {
        Connection::greet(endpoint, Offer::Both)?.login(endpoint)
    }

    /// As [`Connection::open`], for servers that may ask for TLS sessions to be resumed.
    ///
    /// # Errors
    /// As there.
    pub fn open_foreign(endpoint: &Endpoint) -> Result<Connection, RemoteError> {
        let greeted = match Connection::greet(endpoint, Offer::Tls12) {
            // A server that speaks 1.3 only ends the handshake.
            Err(RemoteError::NotUnderstood { .. }) if endpoint.tls != Tls::Off => {
                Connection::greet(endpoint, Offer::Both)
            }
            other => other,
        };
        greeted?.login(endpoint)
    }

    /// The certificate that the server at this address shows, without logging in; to be shown and
    /// pinned before a password is sent.
    ///
    /// # Errors
    /// Where nobody answers there, or not with TLS.
    pub fn fingerprint_at(endpoint: &Endpoint) -> Result<Digest256, RemoteError> {
        let endpoint = Endpoint {
            tls: Tls::FirstUse,
            ..endpoint.clone()
        };
        let connection = Connection::greet(&endpoint, Offer::Both)?;
        Ok(connection.fingerprint().expect("a handshake was made"))
    }

    /// The server's certificate; `None` without TLS.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Digest256> {
        self.pin.as_ref()?.fingerprint()
    }

    fn greet(endpoint: &Endpoint, offer: Offer) -> Result<Connection, RemoteError> {
        let address = endpoint.address();
        let who = Peer {
            address: address.clone(),
            user: endpoint.user.clone(),
        };
        let socket = connect(endpoint, &who)?;
        socket.set_read_timeout(Some(LOGIN_TIMEOUT))?;
        socket.set_write_timeout(Some(DATA_TIMEOUT))?;
        let control = socket.try_clone()?;
        let over_ipv6 = matches!(socket.peer_addr()?, SocketAddr::V6(peer)
            if peer.ip().to_ipv4_mapped().is_none());
        let greeted = RustlsFtpStream::connect_with_stream(socket);
        let mut ftp = greeted
            .map_err(|error| match error {
                FtpError::BadResponse if has_ended(&control) => {
                    who.unreachable("the connection was cut before it had said what it is")
                }
                error => who.ftp(error),
            })?
            .passive_stream_builder(|address| {
                let socket = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT);
                socket
                    .and_then(|socket| {
                        prepare(&socket)?;
                        socket.set_read_timeout(Some(DATA_TIMEOUT))?;
                        socket.set_write_timeout(Some(DATA_TIMEOUT))?;
                        Ok(socket)
                    })
                    .map_err(FtpError::ConnectionError)
            });
        // PASV can't name an IPv6 address; on IPv4 every server knows it. The address that it
        // names is ignored: behind a router it is wrong, and a hostile one could point elsewhere.
        ftp.set_mode(if over_ipv6 {
            Mode::ExtendedPassive
        } else {
            Mode::Passive
        });
        ftp.set_passive_nat_workaround(true);
        let pin = match endpoint.tls {
            Tls::Off => None,
            Tls::Pinned(pinned) => Some(Pin::new(Some(pinned))),
            Tls::FirstUse => Some(Pin::new(None)),
        };
        if let Some(pin) = &pin {
            let connector = RustlsConnector::from(pin.config(offer));
            ftp = ftp
                .into_secure(connector, &server_name(&endpoint.host))
                .map_err(|error| who.tls(error, pin))?;
        }
        let lost = Arc::new(AtomicBool::new(false));
        Ok(Connection {
            ftp,
            control,
            who,
            pin,
            lost,
        })
    }

    fn login(mut self, endpoint: &Endpoint) -> Result<Connection, RemoteError> {
        match self.ftp.login(&endpoint.user, &endpoint.secret) {
            Ok(()) => {}
            Err(FtpError::UnexpectedResponse(response)) => {
                let reply = Reply::new(&response);
                return Err(self.who.login(&reply, endpoint.tls));
            }
            Err(error) => return Err(self.lost(error)),
        }
        let binary = self.ftp.transfer_type(FileType::Binary);
        if let Err(reply) = self.answer(binary)? {
            return Err(self.trouble(&reply));
        }
        self.control.set_read_timeout(Some(REPLY_TIMEOUT))?;
        Ok(self)
    }

    fn answer<T>(&mut self, answer: Result<T, FtpError>) -> Result<Result<T, Reply>, RemoteError> {
        match answer {
            Ok(value) => Ok(Ok(value)),
            Err(FtpError::UnexpectedResponse(response)) => {
                let reply = Reply::new(&response);
                if reply.code == 421 {
                    self.lost.store(true, Ordering::Relaxed);
                    return Err(self.trouble(&reply));
                }
                Ok(Err(reply))
            }
            Err(error) => Err(self.lost(error)),
        }
    }

    fn lost(&mut self, error: FtpError) -> RemoteError {
        self.lost.store(true, Ordering::Relaxed);
        match &self.pin {
            Some(pin) => self.who.tls(error, pin),
            None => self.who.ftp(error),
        }
    }
}

impl Control for Connection {
    type Endpoint = Endpoint;
    type Data = Transfer;

    fn open(endpoint: &Endpoint) -> Result<Connection, RemoteError> {
        Connection::open(endpoint)
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    fn command(&mut self, line: &str) -> Result<Reply, RemoteError> {
        let answer = self.ftp.custom_command(line, &[]);
        match self.answer(answer.map(drop))? {
            Ok(()) => unreachable!("no reply was expected, so every reply is an unexpected one"),
            Err(reply) => Ok(reply),
        }
    }

    fn transfer(
        &mut self,
        line: &str,
        offset: u64,
    ) -> Result<Result<Transfer, Reply>, RemoteError> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        // Only stored; it is sent directly before the command.
        let restart = self.ftp.resume_transfer(offset);
        debug_assert!(restart.is_ok(), "nothing is sent yet");
        let expected = [suppaftp::Status::AlreadyOpen, suppaftp::Status::AboutToSend];
        let answer = self.ftp.custom_data_command(line, &expected);
        let opened = self.answer(answer)?;
        let control = self.control.try_clone()?;
        Ok(opened.map(|(_, stream)| Transfer {
            stream: Some(stream),
            control,
            who: self.who.clone(),
            lost: self.lost.clone(),
        }))
    }

    fn peer(&self) -> &Peer {
        &self.who
    }
}

/// Whether the peer has sent all that it ever will, and it was read.
fn has_ended(socket: &TcpStream) -> bool {
    socket.set_nonblocking(true).is_ok() && matches!(socket.peek(&mut [0]), Ok(0))
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.who.address)
            .field("lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}

impl Data for Transfer {
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match &self.stream {
            Some(stream) => stream.get_ref().get_ref().set_read_timeout(Some(timeout)),
            None => Ok(()),
        }
    }

    fn finish_download(mut self) -> Result<Reply, RemoteError> {
        let who = self.who.clone();
        let rest = io::copy(&mut (&mut self).take(DRAIN_MAX_BYTES), &mut io::sink());
        match rest.map_err(|error| who.io(&error))? {
            DRAIN_MAX_BYTES => Err(who.nonsense("more came than was asked for")),
            _ => self.end(),
        }
    }

    fn finish_upload(mut self) -> Result<Reply, RemoteError> {
        let who = self.who.clone();
        // A file without bytes has had no reason for a handshake yet; this makes it. (Not an empty
        // write: rustls then waits for something to read.)
        let ended = self.flush();
        match ended {
            Ok(()) => self.end(),
            Err(error) => self.why_broken(&error).map_err(|_| who.io(&error)),
        }
    }

    fn finish_upload_within(self, longer: Duration) -> Result<Reply, RemoteError> {
        let control = self.control.try_clone()?;
        control.set_read_timeout(Some(REPLY_TIMEOUT.saturating_add(longer)))?;
        let reply = self.finish_upload();
        control.set_read_timeout(Some(REPLY_TIMEOUT))?;
        reply
    }

    fn why_broken(mut self, error: &io::Error) -> Result<Reply, RemoteError> {
        let who = self.who.clone();
        if error.kind() == io::ErrorKind::WouldBlock || error.kind() == io::ErrorKind::TimedOut {
            return Err(who.io(error));
        }
        self.control.set_read_timeout(Some(REASON_TIMEOUT))?;
        let reply = self.end();
        self.control.set_read_timeout(Some(REPLY_TIMEOUT))?;
        match reply {
            // Half an upload, and the server is content? Not with us.
            Ok(reply) if reply.is_done() => {
                self.lost.store(true, Ordering::Relaxed);
                Err(who.io(error))
            }
            Ok(reply) => Ok(reply),
            Err(_) => Err(who.io(error)),
        }
    }
}

impl Transfer {
    fn end(&mut self) -> Result<Reply, RemoteError> {
        let stream = self.stream.take().expect("ended once");
        match stream.finish() {
            Ok(()) => Ok(Reply {
                code: 226,
                text: String::new(),
            }),
            Err(FtpError::UnexpectedResponse(response)) => {
                let reply = Reply::new(&response);
                if reply.code == 421 {
                    self.lost.store(true, Ordering::Relaxed);
                    return Err(self.who.trouble(&reply));
                }
                Ok(reply)
            }
            Err(error) => {
                self.lost.store(true, Ordering::Relaxed);
                Err(self.who.ftp(error))
            }
        }
    }
}

impl Read for Transfer {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Some(stream) => stream.read(piece),
            None => Ok(0),
        }
    }
}

impl Write for Transfer {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Some(stream) => stream.write(piece),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            // suppaftp would wait for a reply. Closed sockets make it stop at once; that they
            // can't be closed because they are closed is fine.
            self.lost.store(true, Ordering::Relaxed);
            let _ = stream.get_ref().get_ref().shutdown(Shutdown::Both);
            let _ = self.control.shutdown(Shutdown::Both);
        }
    }
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Tls};

    #[test]
    fn secrets_are_not_printed() {
        let endpoint = Endpoint {
            host: "::1".into(),
            port: 21,
            user: "me".into(),
            secret: "hunter2".into(),
            tls: Tls::Off,
        };
        assert!(!format!("{endpoint:?}").contains("hunter2"));
        assert_eq!(endpoint.address(), "[::1]:21");
    }
}
