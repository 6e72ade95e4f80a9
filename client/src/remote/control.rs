//! What the protocol needs of an FTP session, and no more: commands, replies and transfers.
//!
//! [`Connection`](super::connection::Connection) is the real one. The simulation has one of its own,
//! which ends in the same process and breaks wherever it likes, so that everything above (what is
//! asked again, what is sent twice, what a half reply means) is the code that runs at home.

use super::RemoteError;
use super::peer::{Peer, Reply};
use std::fmt;
use std::io::{self, Read, Write};
use std::time::Duration;

/// A control connection, logged in.
pub trait Control: Send + Sized + 'static {
    /// Where it leads and how to log in there.
    type Endpoint: Clone + Send + 'static;
    /// A data connection of its.
    type Data: Data + 'static;

    /// Connects and logs in.
    ///
    /// # Errors
    /// Where that doesn't work.
    fn open(endpoint: &Self::Endpoint) -> Result<Self, RemoteError>;

    /// Whether it can't be used any more.
    fn is_lost(&self) -> bool;

    /// Sends one command and reads its reply, whatever it is.
    ///
    /// # Errors
    /// Where the connection is lost; so for all methods.
    fn command(&mut self, line: &str) -> Result<Reply, RemoteError>;

    /// Opens a data connection for `RETR`, `STOR`, `MLSD` or the like. `offset` goes before it as
    /// `REST`.
    ///
    /// # Errors
    /// `Err(reply)` inside where the server refuses it.
    fn transfer(
        &mut self,
        line: &str,
        offset: u64,
    ) -> Result<Result<Self::Data, Reply>, RemoteError>;

    /// Who is at the other end.
    fn peer(&self) -> &Peer;

    /// What a refusal means where it isn't about one file.
    #[must_use]
    fn trouble(&self, reply: &Reply) -> RemoteError {
        self.peer().trouble(reply)
    }

    /// The peer said something that makes no sense.
    #[must_use]
    fn nonsense(&self, why: impl fmt::Display) -> RemoteError {
        self.peer().nonsense(why)
    }

    /// An error of reading from or writing to a data connection.
    #[must_use]
    fn broken(&self, error: &io::Error) -> RemoteError {
        self.peer().io(error)
    }
}

/// One transfer on a data connection. Dropping it unfinished gives the whole connection up.
pub trait Data: Read + Write + Send {
    /// Another time-out for its reads, such as for a stream that is silent most of the time.
    ///
    /// # Errors
    /// Where the system refuses it.
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()>;

    /// Ends a download: reads on to the end of the data, which on TLS must be a proper one, and
    /// then the server's reply.
    ///
    /// # Errors
    /// Where the connection broke, or more than a little comes after what was asked for.
    fn finish_download(self) -> Result<Reply, RemoteError>;

    /// Ends an upload: tells TLS that it is whole, closes, and reads the server's reply.
    ///
    /// # Errors
    /// Where the connection broke.
    fn finish_upload(self) -> Result<Reply, RemoteError>;

    /// The same where the server may take so much longer than usual before it replies.
    ///
    /// # Errors
    /// Where the connection broke.
    fn finish_upload_within(self, _longer: Duration) -> Result<Reply, RemoteError>
    where
        Self: Sized,
    {
        self.finish_upload()
    }

    /// After a transfer broke: the reply in which the server says why, if it still does.
    ///
    /// # Errors
    /// The error of the transfer, where the server doesn't say.
    fn why_broken(self, error: &io::Error) -> Result<Reply, RemoteError>;
}
