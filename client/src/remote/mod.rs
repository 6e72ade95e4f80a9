//! The other side of a pairing, whatever it is.
//!
//! [`Remote`] has two implementations: [`appliance`] speaks raspbox's own protocol (one transfer
//! for many files, compare-and-swap, a live stream of events), [`foreign`] does the same work on any
//! FTP server with what that server offers. Both sit on [`connection`], which is one control
//! connection with time-outs on its sockets, so that no call hangs and none needs cancelling.

pub mod appliance;
mod appliance_commit;
pub mod connection;
pub mod control;
pub mod discover;
pub mod foreign;
mod foreign_features;
mod foreign_push;
mod foreign_session;
mod foreign_temporary;
mod foreign_url;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod listing;
pub mod pairing;
mod peer;
mod socket;
mod streams;
pub mod tls;

use raspbox_beneath::File;
use raspbox_core::guard::Displaced;
use raspbox_core::tree::Folder;
use raspbox_protocol::commit::{Op, Outcome, Refusal};
use raspbox_protocol::damage::Damage;
use raspbox_protocol::history::Past;
use raspbox_protocol::info::Info;
use raspbox_protocol::special::{Clock, Stretch};
use raspbox_protocol::want::Want;
use raspbox_protocol::{Cursor, Digest, Entry, Mtime, RelPath, Version};
use std::io;

/// What is known of the remote side: each entry with its version.
pub type RemoteTree = Folder<Version>;

/// What became of operations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushed {
    /// One for each, in their order.
    pub outcomes: Vec<Outcome>,
    /// Where the remote's journal has them, as far as it says so and nothing else is there.
    pub alone: Vec<Stretch>,
}

/// The other side of a pairing.
pub trait Remote: Send {
    /// What the remote is and where its journal stands.
    ///
    /// For a foreign server the drive's id is made of its address and path, and the cursor's
    /// sequence number is always 0.
    ///
    /// # Errors
    /// See [`RemoteError`]; so for all methods.
    fn info(&mut self) -> Result<Info, RemoteError>;

    /// Whether the remote's journal has been at this position, which isn't of its newest epoch.
    fn knows(&mut self, cursor: Cursor) -> Result<bool, RemoteError>;

    /// Looks at the remote tree: what changed after `since` where that can be told, else all of it.
    ///
    /// `known` is what was recorded at the last look, and `local_file` the size and the executable bit
    /// of the local file at a path, if there is one: a server that knows no hashes needs both to tell what is new (see
    /// [`foreign`]).
    fn look(
        &mut self,
        since: Option<Cursor>,
        known: &RemoteTree,
        local_file: &dyn Fn(&RelPath) -> Option<(u64, bool)>,
    ) -> Result<Look, RemoteError>;

    /// Carries out operations, in order, each atomically or not at all.
    ///
    /// `open` opens the content of the n-th operation, an [`Op::Put`], [`Op::Patch`] or [`Op::Keep`]; if that fails, or what is
    /// read doesn't have the size and hash of the operation, that one is refused
    /// ([`Refusal::BadContent`] or [`Refusal::Failed`]) and the others go on. After a lost
    /// connection it connects again and finds out what was done, before it gives up.
    fn push(
        &mut self,
        ops: &[Op],
        open: &mut dyn FnMut(usize) -> io::Result<File>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pushed, RemoteError>;

    /// Fetches contents into the sink, in order.
    fn pull(&mut self, wants: &[Want], sink: &mut dyn Sink) -> Result<(), RemoteError>;

    /// Which of these contents the remote keeps as versions, one answer for each. Asked only where
    /// [`Info::keeps`] says so.
    fn holds(&mut self, digests: &[Digest]) -> Result<Vec<bool>, RemoteError> {
        Ok(vec![false; digests.len()])
    }

    /// Whether the hashes that [`Remote::look`] gives are the contents' own. A foreign server's are
    /// made up from size and time until the content has been here.
    fn knows_hashes(&self) -> bool;

    /// Whether it puts a content together of one that it has ([`Op::Patch`]).
    fn patches(&self) -> bool {
        false
    }

    /// What becomes of what is deleted or replaced there, or here after the remote's example.
    fn displaced(&self) -> Displaced;

    /// What the remote knows to be damaged on its side. A foreign server knows nothing of that.
    fn damaged(&mut self) -> Result<Vec<Damage>, RemoteError> {
        Ok(Vec::new())
    }

    /// The clock of what the remote knows of the past; `None` for an ordinary FTP server, which keeps
    /// no versions.
    fn clock(&mut self) -> Result<Option<Clock>, RemoteError> {
        Ok(None)
    }

    /// What stands at a path and what stood there, the newest first.
    fn history(&mut self, _path: &RelPath) -> Result<Vec<Past>, RemoteError> {
        Ok(Vec::new())
    }

    /// The whole tree as it was at a time of [`Remote::clock`]; `None` where that isn't known.
    fn tree_at(&mut self, _at: Mtime) -> Result<Option<Look>, RemoteError> {
        Ok(None)
    }

    /// Opens a stream that tells of changes after `since`, on a connection of its own; `None` where
    /// there is no such thing and one has to look from time to time.
    fn events(&self, since: Cursor) -> Result<Option<Box<dyn Events>>, RemoteError>;
}

/// One look at the remote tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Whether a path that isn't in `changes` does not exist.
    pub whole: bool,
    /// What stands at a path now, or that nothing does; a folder before what is in it.
    pub changes: Vec<(RelPath, Option<Entry>, Version)>,
    /// Paths and whole folders of which nothing is known for now (a folder that could not be
    /// listed), and why. Nothing at or below them is absent.
    pub unknown: Vec<(RelPath, String)>,
    /// The position to look on from.
    pub cursor: Cursor,
}

impl Look {
    /// Whether all is as it was at this position, which is still the newest.
    #[must_use]
    pub fn says_nothing_since(&self, cursor: Option<Cursor>) -> bool {
        let nothing = self.changes.is_empty() && self.unknown.is_empty();
        nothing && !self.whole && cursor == Some(self.cursor)
    }
}

/// On a remote that says nothing of its journal.
impl FromIterator<Outcome> for Pushed {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Pushed {
        Pushed {
            outcomes: outcomes.into_iter().collect(),
            alone: Vec::new(),
        }
    }
}

/// What is told of contents while they are sent, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many more were sent.
    Sent(u64),
    /// So many need not be: they came in a commit that was cut.
    Spared(u64),
}

/// Takes contents as they come.
pub trait Sink {
    /// How much of the n-th content has come before, in bytes: it may be asked for from there.
    fn come(&self, _index: usize) -> u64 {
        0
    }

    /// The content of the n-th want begins: `len_bytes`, from an offset on that is the want's, or what [`Sink::come`] said.
    ///
    /// # Errors
    /// Where it can't be taken; the transfer goes on without it, and [`Sink::done`] isn't called.
    fn begin(&mut self, index: usize, offset: u64, len_bytes: u64) -> io::Result<()>;

    /// The next piece.
    ///
    /// # Errors
    /// As for [`Sink::begin`].
    fn data(&mut self, index: usize, piece: &[u8]) -> io::Result<()>;

    /// The content is whole.
    fn done(&mut self, index: usize);

    /// It can't be had; why.
    fn refused(&mut self, index: usize, refusal: Refusal);
}

/// A live stream of "something changed".
pub trait Events: Send {
    /// Waits for the next change; returns the position up to which the remote has journalled.
    /// Silence longer than the heartbeat is an error.
    ///
    /// # Errors
    /// Where the connection is lost.
    fn next(&mut self) -> Result<Cursor, RemoteError>;
}

/// Why the remote side could not do it. The message is for a person and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Nobody answers there, or the connection was lost. It may be tried again later.
    #[error("{address}: {why}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What happened.
        why: String,
    },
    /// The host name isn't known.
    #[error("{0}: no such host. Check the name, or give the address")]
    NoSuchHost(String),
    /// The user, password or device isn't accepted.
    #[error("{address} refused the login of {user}: {why}")]
    LoginRefused {
        /// Host and port.
        address: String,
        /// Who.
        user: String,
        /// What the server said, and what to do.
        why: String,
    },
    /// In pairing, the password or the certificate isn't the same at both ends.
    #[error(
        "{address} and this computer don't have the same password of {user}: it is mistyped, or there is \
         no such user, or something in between pretends to be the appliance. It wasn't sent, and can't \
         be guessed from what was. Type it again"
    )]
    NotProven {
        /// Host and port.
        address: String,
        /// Whose password.
        user: String,
    },
    /// Another certificate than the pinned one.
    #[error(
        "{address} shows another certificate than when it was paired. Nothing was sent.\n  \
         paired: {pinned}\n  now:    {found}\nIf the appliance was set up anew, compare the \
         fingerprint with the one it prints at its start, then `raspbox unpair` and `raspbox pair` \
         again. If not, somebody may be in between."
    )]
    OtherCertificate {
        /// Host and port.
        address: String,
        /// SHA-256 of the pinned certificate, in hex.
        pinned: Digest256,
        /// SHA-256 of the one shown, in hex.
        found: Digest256,
    },
    /// The remote speaks another version of the protocol, or isn't what it was paired as.
    #[error("{address}: {why}")]
    NotUnderstood {
        /// Host and port.
        address: String,
        /// What came.
        why: String,
    },
    /// The remote is there, but its drive isn't.
    #[error(
        "{address}: its drive is missing or not ready. Plug it in; nothing is lost, and syncing goes on then"
    )]
    NoDrive {
        /// Host and port.
        address: String,
    },
    /// The remote side may not or can't do it at all.
    #[error("{address}: {why}")]
    Refused {
        /// Host and port.
        address: String,
        /// What it said.
        why: String,
    },
    /// This machine failed, not the remote.
    #[error("{0}")]
    Local(#[from] io::Error),
}

/// The SHA-256 of a certificate, printed as 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest256(pub [u8; 32]);

/// The hash that stands for a content that never was here: unlike that of any content, and the same
/// for the same `version` at the same path.
#[must_use]
pub fn made_up_digest(path: &RelPath, version: Version) -> Digest {
    Digest::of(format!("raspbox: not fetched yet\0{path}\0{version}").as_bytes())
}

impl std::fmt::Display for Digest256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for Digest256 {
    type Err = &'static str;

    /// Takes 64 hex digits of either case, with or without colons (as `openssl` prints them).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: String = text.chars().filter(|&c| c != ':').collect();
        let digest: Digest = digits
            .parse()
            .map_err(|_| "a fingerprint is 64 hex digits")?;
        Ok(Digest256(*digest.as_bytes()))
    }
}
