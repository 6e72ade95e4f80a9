//! FTP over TLS as a client that may do anything: from an address of its own, and in whatever order.

use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use raspbox::remote::Digest256;
use raspbox::remote::tls::{Offer, Pin};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

/// How long any answer may take. The appliance has two hundred others, and shares its processors with them.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Where everybody connects, and as whom they may log in.
pub(crate) struct Door {
    port: u16,
    tls: Arc<ClientConfig>,
    /// The password's first, then those of devices.
    pub(crate) logins: Vec<(String, String)>,
}

/// A control connection.
pub(crate) struct Session {
    control: BufReader<Wire>,
    from: Ipv4Addr,
    tls: Arc<ClientConfig>,
}

/// A connection, encrypted or not yet.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A reply.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) code: u32,
    pub(crate) text: String,
}

impl Reply {
    /// Whether it is a yes to the whole command.
    pub(crate) fn is_done(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

impl Door {
    pub(crate) fn new(port: u16, fingerprint: Digest256, logins: Vec<(String, String)>) -> Door {
        let tls = Pin::new(Some(fingerprint)).config(Offer::Both);
        Door { port, tls, logins }
    }

    /// Connects, and takes the greeting.
    pub(crate) fn connect(&self, from: Ipv4Addr) -> io::Result<(Session, Reply)> {
        let mut session = Session {
            control: BufReader::new(Wire::Plain(tcp(from, self.port)?)),
            from,
            tls: Arc::clone(&self.tls),
        };
        let greeting = session.reply()?;
        Ok((session, greeting))
    }

    /// Connects, encrypts and logs in; the reply to the last of that that was refused, or to the login.
    pub(crate) fn enter(
        &self,
        from: Ipv4Addr,
        (user, secret): (&str, &str),
    ) -> io::Result<(Session, Reply)> {
        let (mut session, greeting) = self.connect(from)?;
        if greeting.code != 220 {
            return Ok((session, greeting));
        }
        let begun = session.command("AUTH TLS")?;
        if begun.code != 234 {
            return Ok((session, begun));
        }
        session.shake_hands()?;
        session.command(&format!("USER {user}"))?;
        let reply = session.command(&format!("PASS {secret}"))?;
        if reply.code == 230 {
            session.command("PBSZ 0")?;
            session.command("PROT P")?;
            session.command("TYPE I")?;
        }
        Ok((session, reply))
    }
}

impl Session {
    pub(crate) fn shake_hands(&mut self) -> io::Result<()> {
        let socket = self.socket().try_clone()?;
        let mut tls = StreamOwned::new(self.client()?, socket);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        self.control = BufReader::new(Wire::Tls(Box::new(tls)));
        Ok(())
    }

    fn client(&self) -> io::Result<ClientConnection> {
        let name = ServerName::try_from("raspbox.local").expect("a name");
        ClientConnection::new(Arc::clone(&self.tls), name).map_err(io::Error::other)
    }

    fn socket(&self) -> &TcpStream {
        self.control.get_ref().socket()
    }

    pub(crate) fn command(&mut self, line: &str) -> io::Result<Reply> {
        self.send(line)?;
        self.reply()
    }

    pub(crate) fn send(&mut self, line: &str) -> io::Result<()> {
        self.raw(format!("{line}\r\n").as_bytes())
    }

    /// Sends these bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let control = self.control.get_mut();
        control.write_all(bytes)?;
        control.flush()
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

    /// Asks for a port.
    pub(crate) fn port(&mut self) -> io::Result<u16> {
        let reply = self.command("EPSV")?;
        let port = reply.text.rsplit('|').nth(1).map(str::parse);
        match port {
            Some(Ok(port)) if reply.code == 229 => Ok(port),
            _ => Err(io::Error::other(reply.text)),
        }
    }

    /// Opens a data connection that isn't encrypted.
    pub(crate) fn open_plain(&mut self) -> io::Result<Wire> {
        let port = self.port()?;
        Ok(Wire::Plain(tcp(self.from, port)?))
    }

    /// Opens a data connection; its handshake comes with the first byte.
    pub(crate) fn open(&mut self) -> io::Result<Wire> {
        let Wire::Plain(socket) = self.open_plain()? else {
            unreachable!("it was just made");
        };
        Ok(Wire::Tls(Box::new(StreamOwned::new(
            self.client()?,
            socket,
        ))))
    }

    /// Begins a transfer; the reply where it is refused at once.
    pub(crate) fn begin(&mut self, command: &str) -> io::Result<Result<Wire, Reply>> {
        let data = self.open()?;
        let reply = self.command(command)?;
        Ok(if reply.code == 150 {
            Ok(data)
        } else {
            Err(reply)
        })
    }

    /// Stores a content, and returns the last reply.
    pub(crate) fn store(&mut self, path: &str, content: &[u8]) -> io::Result<Reply> {
        let mut data = match self.begin(&format!("STOR {path}"))? {
            Ok(data) => data,
            Err(refused) => return Ok(refused),
        };
        // It may refuse without reading all of it.
        let _ = data.write_all(content).and_then(|()| data.flush());
        data.end();
        self.reply()
    }

    /// Takes what a command sends.
    pub(crate) fn take(&mut self, command: &str) -> io::Result<Result<Vec<u8>, Reply>> {
        let mut data = match self.begin(command)? {
            Ok(data) => data,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut content = Vec::new();
        let end = data.read_to_end(&mut content);
        let reply = self.reply()?;
        Ok(if reply.is_done() && end.is_ok() {
            Ok(content)
        } else {
            Err(reply)
        })
    }

    /// Ends without a word, as a process that is killed; or with a reset, as one whose machine is.
    pub(crate) fn vanish(self, reset: bool) {
        self.control.get_ref().vanish(reset);
    }
}

impl Wire {
    fn socket(&self) -> &TcpStream {
        match self {
            Wire::Plain(socket) => socket,
            Wire::Tls(tls) => &tls.sock,
        }
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
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Cuts it: without a close_notify.
    pub(crate) fn vanish(&self, reset: bool) {
        if reset {
            let linger = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            let _ = setsockopt(self.socket(), sockopt::Linger, &linger);
        } else {
            let _ = self.socket().shutdown(Shutdown::Both);
        }
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

/// Connects from an address of this machine.
fn tcp(from: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let unbound = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let here = SockaddrIn::from(SocketAddrV4::new(from, 0));
    bind(unbound.as_raw_fd(), &here)?;
    let there = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    connect(unbound.as_raw_fd(), &there)?;
    let socket = TcpStream::from(unbound);
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
