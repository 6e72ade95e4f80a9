//! What the other end says and what it means: replies and errors become a [`RemoteError`] here,
//! with what to do about it, and nowhere else.

use super::RemoteError;
use super::connection::Tls;
use super::tls::Pin;
use std::{fmt, io};
use suppaftp::FtpError;
use suppaftp::types::Response;

/// An answer on the control connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u32,
    /// What follows them, all lines of it.
    pub text: String,
}

/// Who is at the other end, for messages.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Host and port.
    pub address: String,
    /// The login's name.
    pub user: String,
}

impl Reply {
    /// Whether it was done (2xx).
    #[must_use]
    pub fn is_done(&self) -> bool {
        (200..300).contains(&self.code)
    }

    pub(super) fn new(response: &Response) -> Reply {
        let body = String::from_utf8_lossy(&response.body);
        let body = body.trim_end();
        let last = body.lines().next_back().unwrap_or_default();
        // The last line's code counts; suppaftp's own status knows only some of them.
        let code = last.get(..3).and_then(|code| code.parse().ok());
        let text = if body.lines().count() == 1 {
            body.get(4..).unwrap_or_default()
        } else {
            body
        };
        Reply {
            code: code.unwrap_or(0),
            text: text.trim().to_owned(),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, one_line(&self.text))
    }
}

impl Peer {
    pub(super) fn unreachable(&self, why: impl Into<String>) -> RemoteError {
        RemoteError::Unreachable {
            address: self.address.clone(),
            why: why.into(),
        }
    }

    pub(super) fn nonsense(&self, why: impl fmt::Display) -> RemoteError {
        RemoteError::NotUnderstood {
            address: self.address.clone(),
            why: why.to_string(),
        }
    }

    fn refused(&self, why: String) -> RemoteError {
        let address = self.address.clone();
        RemoteError::Refused { address, why }
    }

    pub(super) fn io(&self, error: &io::Error) -> RemoteError {
        use io::ErrorKind as Kind;
        self.unreachable(match error.kind() {
            Kind::ConnectionRefused => {
                "nobody listens there. Is it switched on, and is the port right?".to_owned()
            }
            Kind::TimedOut | Kind::WouldBlock => {
                "no answer in time. Is it switched on and in the same network?".to_owned()
            }
            Kind::HostUnreachable | Kind::NetworkUnreachable => {
                format!("no way there ({error}). Is this machine in the same network?")
            }
            Kind::UnexpectedEof | Kind::ConnectionReset | Kind::BrokenPipe => {
                "the connection was cut".to_owned()
            }
            _ => format!("the connection was lost: {error}"),
        })
    }

    pub(super) fn ftp(&self, error: FtpError) -> RemoteError {
        match error {
            FtpError::ConnectionError(error)
                if error.get_ref().is_some_and(
                    <dyn std::error::Error + Send + Sync>::is::<suppaftp::ReplyTooLarge>,
                ) =>
            {
                self.nonsense(error)
            }
            FtpError::ConnectionError(error) => self.io(&error),
            FtpError::UnexpectedResponse(response) => self.trouble(&Reply::new(&response)),
            FtpError::SecureError(why) => self.nonsense(why),
            FtpError::BadResponse | FtpError::InvalidAddress(_) => {
                self.nonsense("what answers there is no FTP server. Is the port right?")
            }
            FtpError::DataConnectionAlreadyOpen => self.unreachable("a transfer was left open"),
        }
    }

    pub(super) fn tls(&self, error: FtpError, pin: &Pin) -> RemoteError {
        if let Some((pinned, found)) = pin.mismatch() {
            let address = self.address.clone();
            return RemoteError::OtherCertificate {
                address,
                pinned,
                found,
            };
        }
        match error {
            FtpError::UnexpectedResponse(response)
                if matches!(Reply::new(&response).code, 500..=504 | 530 | 534) =>
            {
                self.nonsense(format!(
                    "the server offers no TLS ({}). If it is an FTP server that has none, pair it \
                     as ftp://…; everything then travels readably",
                    Reply::new(&response)
                ))
            }
            FtpError::ConnectionError(error)
                if error
                    .get_ref()
                    .is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>) =>
            {
                self.nonsense(format!("TLS did not come about: {error}"))
            }
            error => self.ftp(error),
        }
    }

    pub(super) fn login(&self, reply: &Reply, tls: Tls) -> RemoteError {
        let advice = match (reply.code, tls) {
            (421, _) => return self.trouble(reply),
            (450, _) => return self.trouble(reply),
            (_, Tls::Off) if reply.text.to_ascii_uppercase().contains("TLS") => {
                "It wants TLS: pair it as ftps://…"
            }
            (530, _) if self.user.starts_with("device:") => {
                "This device was revoked, or the appliance was set up anew. `raspbox pair` again"
            }
            (530, _) => "Check the name and the password",
            _ => "",
        };
        RemoteError::LoginRefused {
            address: self.address.clone(),
            user: self.user.clone(),
            why: format!("{reply}. {advice}").trim_end().to_owned(),
        }
    }

    pub(super) fn trouble(&self, reply: &Reply) -> RemoteError {
        match reply.code {
            421 => self.unreachable(format!("it ended the session ({reply})")),
            425 | 426 => self.unreachable(format!("the transfer was cut ({reply})")),
            450 => RemoteError::NoDrive {
                address: self.address.clone(),
            },
            452 | 552 => self.refused(format!("its drive is full ({reply})")),
            522 => self.refused(format!("it wants another kind of TLS session ({reply})")),
            530 => RemoteError::LoginRefused {
                address: self.address.clone(),
                user: self.user.clone(),
                why: format!("{reply}. `raspbox pair` again"),
            },
            _ => self.refused(format!("it said '{reply}'")),
        }
    }
}

/// Text from a peer as one line without control characters, and not endless.
pub(super) fn one_line(text: &str) -> String {
    const SHOWN_MAX_CHARS: usize = 300;
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SHOWN_MAX_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::Reply;
    use suppaftp::Status;
    use suppaftp::types::Response;

    #[test]
    fn replies_are_taken_apart() {
        let check = |body: &str, code, text: &str| {
            let reply = Reply::new(&Response::new(Status::Unknown, body.into()));
            assert_eq!((reply.code, reply.text.as_str()), (code, text), "{body:?}");
        };
        check("200 all 3 from 7\r\n", 200, "all 3 from 7");
        check("522 no\r\n", 522, "no");
        check("250\r\n", 250, "");
        check(
            "211-Features:\r\n MLST\r\n211 End\r\n",
            211,
            "211-Features:\r\n MLST\r\n211 End",
        );
        check("", 0, "");
        check("ü", 0, "");
    }
}
