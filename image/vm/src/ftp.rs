//! An FTP client of the plainest kind: what any program does that knows nothing of raspbox. It says what it
//! was answered, and sends half a file where that is wanted.

use crate::wait::DEADLINE;
use anyhow::{Context, bail, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};

/// A connection that is logged in.
#[derive(Debug)]
pub struct Ftp {
    control: BufReader<TcpStream>,
    host: Ipv4Addr,
}

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits (RFC 959, 4.2).
    pub code: u16,
    /// All lines of it.
    pub text: String,
}

/// A file that is being sent.
#[derive(Debug)]
pub struct Upload<'a> {
    ftp: &'a mut Ftp,
    data: TcpStream,
}

impl Ftp {
    /// Connects and waits for the greeting.
    ///
    /// # Errors
    /// Where nobody greets.
    pub fn connect(to: SocketAddrV4) -> anyhow::Result<Ftp> {
        let mut ftp = Ftp {
            control: BufReader::new(connect(to)?),
            host: *to.ip(),
        };
        let greeting = ftp.reply().context("no greeting")?;
        ensure!(greeting.code == 220, "greeted with {greeting:?}");
        Ok(ftp)
    }

    /// The same, and logs in.
    ///
    /// # Errors
    /// Where that is refused.
    pub fn login(to: SocketAddrV4, user: &str, password: &str) -> anyhow::Result<Ftp> {
        let mut ftp = Ftp::connect(to)?;
        ftp.command(&format!("USER {user}"))?;
        let reply = ftp.command(&format!("PASS {password}"))?;
        ensure!(reply.code == 230, "not let in: {reply:?}");
        ftp.command("TYPE I")?;
        Ok(ftp)
    }

    /// Says something and hears the answer.
    ///
    /// # Errors
    /// Where the connection ends.
    pub fn command(&mut self, line: &str) -> anyhow::Result<Reply> {
        self.control
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())?;
        self.reply().with_context(|| format!("no answer to {line}"))
    }

    /// Stores a file: what was answered at last.
    ///
    /// # Errors
    /// Where the connection ends.
    pub fn store(&mut self, path: &str, content: &[u8]) -> anyhow::Result<Reply> {
        let mut upload = match self.upload(path)? {
            Ok(upload) => upload,
            Err(refused) => return Ok(refused),
        };
        // Refused while it was sent: the answer says so.
        let _ = upload.send(content);
        upload.end()
    }

    /// Begins to store a file, or what was answered instead.
    ///
    /// # Errors
    /// Where the connection ends.
    pub fn upload(&mut self, path: &str) -> anyhow::Result<Result<Upload<'_>, Reply>> {
        let data = self.data()?;
        let reply = self.command(&format!("STOR {path}"))?;
        if reply.code != 150 {
            return Ok(Err(reply));
        }
        Ok(Ok(Upload { ftp: self, data }))
    }

    /// A file's content, or what was answered instead.
    ///
    /// # Errors
    /// Where the connection ends.
    pub fn retrieve(&mut self, path: &str) -> anyhow::Result<Result<Vec<u8>, Reply>> {
        let mut data = self.data()?;
        let reply = self.command(&format!("RETR {path}"))?;
        if reply.code != 150 {
            return Ok(Err(reply));
        }
        let mut content = Vec::new();
        data.read_to_end(&mut content)?;
        let reply = self.reply()?;
        Ok(if reply.code == 226 {
            Ok(content)
        } else {
            Err(reply)
        })
    }

    fn data(&mut self) -> anyhow::Result<TcpStream> {
        // RFC 2428: 229 Entering Extended Passive Mode (|||PORT|)
        let reply = self.command("EPSV")?;
        let port = reply
            .text
            .split('|')
            .nth(3)
            .and_then(|port| port.parse().ok());
        let port = port.with_context(|| format!("no port in {reply:?}"))?;
        connect(SocketAddrV4::new(self.host, port))
    }

    fn reply(&mut self) -> anyhow::Result<Reply> {
        let mut text = String::new();
        loop {
            let begin = text.len();
            ensure!(self.control.read_line(&mut text)? > 0, "hung up: {text}");
            let line = &text[begin..];
            // The last line of several has a space after the code.
            if let (Some(code), Some(" ")) = (line.get(..3), line.get(3..4)) {
                let Ok(code) = code.parse() else {
                    bail!("no reply: {line}");
                };
                return Ok(Reply { code, text });
            }
        }
    }
}

impl Upload<'_> {
    /// Sends a piece.
    ///
    /// # Errors
    /// Where nobody takes it any more.
    pub fn send(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        Ok(self.data.write_all(piece)?)
    }

    /// That was all of it: the answer.
    ///
    /// # Errors
    /// Where there is none.
    pub fn end(self) -> anyhow::Result<Reply> {
        // The other side may have ended it already.
        let _ = self.data.shutdown(Shutdown::Write);
        self.ftp.reply()
    }
}

fn connect(to: SocketAddrV4) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}
