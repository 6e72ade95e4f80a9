//! A small FTP client that can also misbehave.

use crate::harness::DEADLINE;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme,
    StreamOwned, SupportedProtocolVersion,
};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// A connection, encrypted or not.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

pub(crate) struct Client {
    control: BufReader<Wire>,
    address: SocketAddr,
    /// One for all connections, so that data connections resume where they may.
    config: Arc<ClientConfig>,
    protected: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u32,
    pub(crate) text: String,
}

impl Reply {
    #[track_caller]
    pub(crate) fn expect(self, code: u32) -> Reply {
        assert_eq!(self.code, code, "{}", self.text);
        self
    }
}

impl Client {
    /// Connects and takes the greeting.
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let mut client = Client::connect_silently(address);
        client.reply().unwrap().expect(220);
        client
    }

    pub(crate) fn connect_silently(address: SocketAddr) -> Client {
        Client::over(connect(address), address)
    }

    /// The same from another address of this machine.
    pub(crate) fn connect_from(ip: Ipv4Addr, address: SocketAddr) -> Client {
        let unbound = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::empty(),
            None,
        );
        let socket = unbound.unwrap();
        bind(
            socket.as_raw_fd(),
            &SockaddrIn::from(SocketAddrV4::new(ip, 0)),
        )
        .unwrap();
        let SocketAddr::V4(to) = address else {
            panic!("IPv4 only");
        };
        nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrIn::from(to)).unwrap();
        let socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Client::over(socket, address)
    }

    fn over(socket: TcpStream, address: SocketAddr) -> Client {
        Client {
            control: BufReader::new(Wire::Plain(socket)),
            address,
            config: config(rustls::ALL_VERSIONS),
            protected: false,
        }
    }

    /// Speaks these versions of TLS only.
    pub(crate) fn speak(&mut self, versions: &[&'static SupportedProtocolVersion]) {
        self.config = config(versions);
    }

    /// Takes up what another client has of the server, its tickets included.
    pub(crate) fn know_what(&mut self, other: &Client) {
        self.config = Arc::clone(&other.config);
    }

    pub(crate) fn auth_tls(&mut self) {
        self.command("AUTH TLS").expect(234);
        self.shake_hands().unwrap();
    }

    /// The handshake, whatever was said before.
    pub(crate) fn shake_hands(&mut self) -> io::Result<()> {
        let Wire::Plain(socket) = self.control.get_ref() else {
            panic!("TLS already");
        };
        let socket = socket.try_clone().unwrap();
        let mut tls = tls(socket, &self.config);
        tls.conn.complete_io(&mut tls.sock)?;
        self.control = BufReader::new(Wire::Tls(Box::new(tls)));
        Ok(())
    }

    /// The connection beneath TLS.
    pub(crate) fn socket(&self) -> TcpStream {
        let socket = match self.control.get_ref() {
            Wire::Plain(socket) => socket,
            Wire::Tls(tls) => &tls.sock,
        };
        socket.try_clone().unwrap()
    }

    /// The certificate that the server showed.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        match self.control.get_ref() {
            Wire::Plain(_) => panic!("no TLS"),
            Wire::Tls(tls) => tls.conn.peer_certificates().unwrap()[0].to_vec(),
        }
    }

    /// Whether the control connection resumed a session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.control.get_ref().is_resumed()
    }

    pub(crate) fn log_in(&mut self, user: &str, password: &str) -> Reply {
        let reply = self.command(&format!("USER {user}"));
        if reply.code != 331 {
            return reply;
        }
        self.command(&format!("PASS {password}"))
    }

    /// Encrypts data connections from now on.
    pub(crate) fn protect(&mut self) {
        self.command("PBSZ 0").expect(200);
        self.command("PROT P").expect(200);
        self.protected = true;
    }

    /// Opens data connections in plain, whatever the server believes.
    pub(crate) fn unprotect(&mut self) {
        self.protected = false;
    }

    #[track_caller]
    pub(crate) fn command(&mut self, line: &str) -> Reply {
        self.send(line);
        match self.reply() {
            Ok(reply) => reply,
            Err(error) => panic!("no reply to {line}: {error}"),
        }
    }

    pub(crate) fn send(&mut self, line: &str) {
        self.raw(format!("{line}\r\n").as_bytes()).unwrap();
    }

    /// Sends these bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let control = self.control.get_mut();
        control.write_all(bytes)?;
        control.flush()
    }

    /// A command that may find the session ended.
    pub(crate) fn try_command(&mut self, line: &str) -> io::Result<Reply> {
        self.raw(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    pub(crate) fn reply(&mut self) -> io::Result<Reply> {
        let mut text = String::new();
        loop {
            let begin = text.len();
            if self.control.read_line(&mut text)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = &text[begin..];
            let code = line.get(..3).and_then(|code| code.parse().ok());
            if let (Some(code), Some(" ")) = (code, line.get(3..4)) {
                return Ok(Reply { code, text });
            }
        }
    }

    /// Whether the server has ended the session.
    pub(crate) fn is_gone(&mut self) -> bool {
        loop {
            match self.reply() {
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    /// Whether the server still answers.
    pub(crate) fn is_served(&mut self) -> bool {
        let control = self.control.get_mut();
        let sent = control
            .write_all(b"NOOP\r\n")
            .and_then(|()| control.flush());
        sent.is_ok() && self.reply().is_ok_and(|reply| reply.code == 200)
    }

    /// Asks for a data connection with EPSV and opens it; TLS begins with the first byte.
    pub(crate) fn open(&mut self) -> Wire {
        let reply = self.command("EPSV").expect(229);
        self.open_answered(&reply)
    }

    /// Opens the data connection that EPSV was answered with.
    pub(crate) fn open_answered(&mut self, reply: &Reply) -> Wire {
        let port = reply.text.rsplit('|').nth(1).unwrap().parse().unwrap();
        self.open_port(port)
    }

    /// The same with PASV.
    pub(crate) fn open_passive(&mut self) -> Wire {
        let reply = self.command("PASV").expect(227);
        let numbers = reply.text.split(['(', ')']).nth(1).unwrap();
        let numbers: Vec<u16> = numbers.split(',').map(|n| n.parse().unwrap()).collect();
        self.open_port(numbers[4] * 256 + numbers[5])
    }

    fn open_port(&mut self, port: u16) -> Wire {
        let socket = connect(SocketAddr::new(self.address.ip(), port));
        if self.protected {
            Wire::Tls(Box::new(tls(socket, &self.config)))
        } else {
            Wire::Plain(socket)
        }
    }

    /// Retrieves what a command sends.
    #[track_caller]
    pub(crate) fn take(&mut self, command: &str) -> Result<Vec<u8>, Reply> {
        let mut data = self.open();
        let begun = self.command(command);
        if begun.code != 150 {
            return Err(begun);
        }
        let mut content = Vec::new();
        let end = data.read_to_end(&mut content);
        let reply = self.reply().unwrap();
        if reply.code != 226 {
            return Err(reply);
        }
        end.unwrap();
        Ok(content)
    }

    /// The same as text.
    #[track_caller]
    pub(crate) fn take_text(&mut self, command: &str) -> String {
        String::from_utf8(self.take(command).unwrap()).unwrap()
    }

    /// Sends a content.
    #[track_caller]
    pub(crate) fn give(&mut self, command: &str, content: &[u8]) -> Reply {
        let mut data = self.open();
        let begun = self.command(command);
        if begun.code != 150 {
            return begun;
        }
        // The server may refuse without reading all of it.
        let _ = data.write_all(content).and_then(|()| data.flush());
        data.end();
        self.reply().unwrap()
    }

    pub(crate) fn store(&mut self, path: &str, content: &[u8]) -> Reply {
        self.give(&format!("STOR {path}"), content)
    }

    pub(crate) fn retrieve(&mut self, path: &str) -> Result<Vec<u8>, Reply> {
        self.take(&format!("RETR {path}"))
    }

    /// Closes the control connection without a word.
    pub(crate) fn vanish(self) {
        let socket = match self.control.into_inner() {
            Wire::Plain(socket) => socket,
            Wire::Tls(tls) => tls.sock,
        };
        socket.shutdown(Shutdown::Both).unwrap();
    }
}

impl Wire {
    /// Whether it resumed a session.
    pub(crate) fn is_resumed(&self) -> bool {
        let Wire::Tls(tls) = self else {
            return false;
        };
        tls.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Ends a data connection as it should be ended.
    pub(crate) fn end(mut self) {
        if let Wire::Tls(tls) = &mut self {
            // An upload of nothing hasn't shaken hands yet.
            while tls.conn.is_handshaking() {
                if tls.conn.complete_io(&mut tls.sock).is_err() {
                    return;
                }
            }
            tls.conn.send_close_notify();
            while tls.conn.wants_write() {
                if tls.conn.write_tls(&mut tls.sock).is_err() {
                    return;
                }
            }
        }
        self.cut();
    }

    /// Cuts it: on TLS, without a close_notify.
    pub(crate) fn cut(self) {
        self.half_close();
    }

    /// Sends nothing more, without a close_notify, and goes on reading.
    pub(crate) fn half_close(&self) {
        let socket = match self {
            Wire::Plain(socket) => socket,
            Wire::Tls(tls) => &tls.sock,
        };
        let _ = socket.shutdown(Shutdown::Write);
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.read(buffer),
            Wire::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.write(bytes),
            Wire::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(socket) => socket.flush(),
            Wire::Tls(tls) => tls.flush(),
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

fn config(versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    Arc::new(config)
}

fn tls(socket: TcpStream, config: &Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("raspbox.local").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    StreamOwned::new(connection, socket)
}

/// Believes every certificate. For tests.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
