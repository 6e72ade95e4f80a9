//! Any FTP server: the same work as with an appliance, with what such a server offers.
//!
//! It has no hashes, no versions and no compare-and-swap. So:
//! - **Version** of a file is a hash of its size and its time in whole seconds; all folders have
//!   the same one. A change of the same length within the same second is not seen.
//! - **Content** that was never here has a made-up hash ([`super::made_up_digest`]); where a local
//!   file has the same size it is fetched and hashed, so that the same content on both sides is
//!   found to be the same.
//! - **Replacing** ([`super::foreign_push`]) is: upload to a temporary name, look again at what is
//!   to be replaced, rename over it. Between the look and the rename is a round trip in which
//!   another's write goes unseen; FTP has nothing better.
//! - **Executable bits** don't exist: a file keeps the one that is on record, a new one has none.
//!   So none is stripped from a local file, and nothing changes back and forth.
//! - **Symlinks** and whatever is neither file nor folder are left alone and named as unknown.

use super::connection::Endpoint;
use super::control::{Control, Data};
pub use super::foreign_features::Features;
use super::foreign_session::{FOLDER_VERSION, Session, Stamp, Stand};
pub use super::foreign_url::{UrlError, parse_url};
use super::listing::{Item, Kind};
use super::{
    Events, Look, Progress, Pushed, Remote, RemoteError, RemoteTree, Sink, made_up_digest,
};
use super::{foreign_push, foreign_temporary};
use raspbox_beneath::File;
use raspbox_core::guard::Displaced;
use raspbox_core::tree::{Folder, Node};
use raspbox_protocol::commit::{Op, Refusal};
use raspbox_protocol::digest::Hasher;
use raspbox_protocol::info::{DriveId, Holds, Info};
use raspbox_protocol::want::Want;
use raspbox_protocol::{Cursor, Digest, Entry, Epoch, Mtime, RelPath, Version};
use std::io::{self, Read};
use std::time::{Duration, SystemTime};

/// The most entries of a whole tree; see [`super::streams::FEED_ENTRIES_MAX`].
const ENTRIES_MAX: usize = super::streams::FEED_ENTRIES_MAX;

/// How much is read at once.
const PIECE_BYTES: usize = 256 << 10;

/// A [`Remote`] that is an ordinary FTP server. It connects when it is first needed.
#[derive(Debug)]
pub struct Foreign {
    endpoint: Endpoint,
    folder: String,
    session: Option<Session>,
}

impl Foreign {
    /// A folder on a server, as [`parse_url`] gives it.
    #[must_use]
    pub fn new(endpoint: Endpoint, folder: &str) -> Foreign {
        Foreign {
            endpoint,
            folder: folder.to_owned(),
            session: None,
        }
    }

    /// The server's certificate, once connected; to be pinned after the first use.
    #[must_use]
    pub fn fingerprint(&self) -> Option<super::Digest256> {
        self.session.as_ref()?.connection.fingerprint()
    }

    /// A session that is not known to be lost.
    pub(super) fn session(&mut self) -> Result<&mut Session, RemoteError> {
        let usable = |session: &Session| !session.connection.is_lost();
        if !self.session.as_ref().is_some_and(usable) {
            self.session = None;
            self.session = Some(Session::open(&self.endpoint, &self.folder)?);
        }
        Ok(self.session.as_mut().expect("made above"))
    }

    /// Forgets the session, since it is lost.
    pub(super) fn hang_up(&mut self) {
        self.session = None;
    }

    /// Does what may be done twice, once more on a new connection where the old one is lost.
    fn twice<T>(
        &mut self,
        mut act: impl FnMut(&mut Session) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        match act(self.session()?) {
            Err(RemoteError::Unreachable { address, why }) => {
                tracing::debug!(address, why, "connecting again");
                self.hang_up();
                act(self.session()?)
            }
            other => other,
        }
    }

    /// The same for the same login and folder, and for no other.
    fn identity(&self) -> [u8; 16] {
        let endpoint = &self.endpoint;
        let name = format!(
            "raspbox foreign\0{}\0{}\0{}",
            endpoint.address(),
            endpoint.user,
            self.folder
        );
        let digest = Digest::of(name.as_bytes());
        digest.as_bytes()[..16].try_into().expect("sixteen bytes")
    }

    fn cursor(&self) -> Cursor {
        let epoch = Epoch(self.identity());
        Cursor { epoch, seq: 0 }
    }
}

impl Remote for Foreign {
    /// Free space isn't told by FTP; it counts as endless, and a full server refuses.
    fn info(&mut self) -> Result<Info, RemoteError> {
        self.twice(|session| session.connection.command("NOOP").map(drop))?;
        Ok(Info {
            protocol: raspbox_protocol::PROTOCOL_VERSION,
            drive: DriveId(self.identity()),
            cursor: self.cursor(),
            free_bytes: u64::MAX,
            size_bytes: u64::MAX,
            holds: Holds {
                case_sensitive: true,
                symlinks: false,
                dos_names: false,
                file_max_bytes: u64::MAX,
                granularity: Duration::from_secs(1),
            },
            now: Mtime::from(SystemTime::now()),
            writable: true,
            keeps: false,
            zstd: false,
        })
    }

    /// Its epoch is where it is; another one is another place.
    fn knows(&mut self, _cursor: Cursor) -> Result<bool, RemoteError> {
        Ok(false)
    }

    fn look(
        &mut self,
        _since: Option<Cursor>,
        known: &RemoteTree,
        local_file: &dyn Fn(&RelPath) -> Option<(u64, bool)>,
    ) -> Result<Look, RemoteError> {
        let (changes, unknown) = self.twice(|session| {
            let mut walk = Walk {
                session,
                local_file,
                changes: Vec::new(),
                unknown: Vec::new(),
                above: Vec::new(),
            };
            walk.top(known)?;
            Ok((walk.changes, walk.unknown))
        })?;
        Ok(Look {
            whole: true,
            changes,
            unknown,
            cursor: self.cursor(),
        })
    }

    /// One by one. Where the connection is lost after some were done, the others are refused.
    fn push(
        &mut self,
        ops: &[Op],
        open: &mut dyn FnMut(usize) -> io::Result<File>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pushed, RemoteError> {
        let done = foreign_push::push(self, ops, open, &mut |bytes| {
            progress(Progress::Sent(bytes));
        })?;
        Ok(done.into_iter().collect())
    }

    fn pull(&mut self, wants: &[Want], sink: &mut dyn Sink) -> Result<(), RemoteError> {
        for (index, want) in wants.iter().enumerate() {
            self.twice(|session| fetch(session, index, want, sink))?;
        }
        Ok(())
    }

    fn knows_hashes(&self) -> bool {
        false
    }

    fn displaced(&self) -> Displaced {
        Displaced::Gone
    }

    fn events(&self, _since: Cursor) -> Result<Option<Box<dyn Events>>, RemoteError> {
        Ok(None)
    }
}

/// One walk through the server's tree.
struct Walk<'a> {
    session: &'a mut Session,
    local_file: &'a dyn Fn(&RelPath) -> Option<(u64, bool)>,
    changes: Vec<(RelPath, Option<Entry>, Version)>,
    unknown: Vec<(RelPath, String)>,
    /// The `unique` facts of the folders above.
    above: Vec<String>,
}

impl Walk<'_> {
    fn top(&mut self, known: &RemoteTree) -> Result<(), RemoteError> {
        match self.session.list(None)? {
            Ok(items) => self.items(None, items, Some(known)),
            Err(why) => Err(self.session.cannot_list(why)),
        }
    }

    /// What a listed folder holds, in the order of names.
    fn items(
        &mut self,
        parent: Option<&RelPath>,
        mut items: Vec<Item>,
        known: Option<&Folder<Version>>,
    ) -> Result<(), RemoteError> {
        items.sort_by(|a, b| a.name.cmp(&b.name));
        for pair in 0..items.len() {
            let item = &items[pair];
            if foreign_temporary::is_temporary(&item.name) {
                self.leftover(parent, item)?;
                continue;
            }
            let path = item.checked_name();
            let path = path.and_then(|name| RelPath::child(parent, name));
            let path = match path {
                Ok(path) => path,
                Err(error) => {
                    self.odd_name(parent, item, &error.to_string());
                    continue;
                }
            };
            if pair > 0 && items[pair - 1].name == item.name {
                self.changes.retain(|(other, ..)| !other.is_in(&path));
                self.unknown(path, "the server lists it twice");
                continue;
            }
            if self.changes.len() >= ENTRIES_MAX {
                let why = format!("more than {ENTRIES_MAX} entries");
                return Err(self.session.connection.nonsense(why));
            }
            let known = known.and_then(|folder| folder.children.get(item.name.as_str()));
            match &item.kind {
                Kind::File { size, mtime } => self.file(path, *size, *mtime, known)?,
                Kind::Folder => self.folder(path, item.unique.as_ref(), known)?,
                Kind::Symlink => self.unknown(
                    path,
                    "a symlink on an ordinary FTP server, which can't tell what it points to",
                ),
                Kind::Other => self.unknown(path, "neither a file nor a folder"),
            }
        }
        Ok(())
    }

    fn folder(
        &mut self,
        path: RelPath,
        unique: Option<&String>,
        known: Option<&Node<Version>>,
    ) -> Result<(), RemoteError> {
        if let Some(unique) = unique {
            if self.above.contains(unique) {
                self.unknown(path, "a link back to a folder that it is in");
                return Ok(());
            }
            self.above.push(unique.clone());
        }
        match self.session.list(Some(&path))? {
            Ok(items) => {
                self.changes
                    .push((path.clone(), Some(Entry::Folder), FOLDER_VERSION));
                let known = known.and_then(Node::folder);
                self.items(Some(&path), items, known)?;
            }
            Err(why) => self.unknown(path, &format!("it can't be listed: {why}")),
        }
        if unique.is_some() {
            self.above.pop();
        }
        Ok(())
    }

    fn file(
        &mut self,
        path: RelPath,
        size: Option<u64>,
        mtime: Option<i64>,
        known: Option<&Node<Version>>,
    ) -> Result<(), RemoteError> {
        let Some(stamp) = self.session.stamp(&path, size, mtime)? else {
            self.unknown(path, "the server doesn't tell its size and time");
            return Ok(());
        };
        let version = stamp.version();
        let known = match known {
            Some(Node::File(file, version)) => Some((file, *version)),
            Some(Node::Folder(..) | Node::Symlink(..) | Node::Unknown(_)) | None => None,
        };
        let made_up = made_up_digest(&path, version);
        let here = (self.local_file)(&path);
        let same_size_here = here.is_some_and(|(size, _)| size == stamp.size);
        let file = match known {
            Some((file, at))
                if at == version
                    && file.size == stamp.size
                    && !(file.digest == made_up && same_size_here) =>
            {
                *file
            }
            _ => {
                let fetched = if same_size_here {
                    match hash(self.session, &path, stamp)? {
                        Some(digest) => Some(digest),
                        None => {
                            self.unknown(path, "it changed while it was looked at");
                            return Ok(());
                        }
                    }
                } else {
                    None
                };
                raspbox_protocol::File {
                    digest: fetched.unwrap_or(made_up),
                    size: stamp.size,
                    mtime: Mtime::from_parts(stamp.mtime, 0),
                    // FTP tells nothing of it: what was known of it holds, or else the local one.
                    executable: match (known, here) {
                        (Some((file, _)), _) => file.executable,
                        (None, Some((_, executable))) => executable,
                        (None, None) => false,
                    },
                }
            }
        };
        self.changes.push((path, Some(Entry::File(file)), version));
        Ok(())
    }

    /// A temporary name of a raspbox: invisible, and removed when nobody can be using it any more.
    fn leftover(&mut self, parent: Option<&RelPath>, item: &Item) -> Result<(), RemoteError> {
        let abandoned = foreign_temporary::is_abandoned(&item.name, SystemTime::now());
        if abandoned && matches!(item.kind, Kind::File { .. }) {
            let folder = self.session.at(parent);
            let at = format!("{}/{}", folder.trim_end_matches('/'), item.name);
            let reply = self.session.act("DELE", &at)?;
            tracing::info!(path = at, reply = %reply, "removed what a cut upload left");
        }
        Ok(())
    }

    /// A name that can't be synced, shown as well as it can be.
    fn odd_name(&mut self, parent: Option<&RelPath>, item: &Item, why: &str) {
        match RelPath::child(parent, &item.shown_name()) {
            Ok(shown) => self.unknown(shown, why),
            Err(_) => tracing::warn!(name = item.shown_name(), why, "passed over on the server"),
        }
    }

    fn unknown(&mut self, path: RelPath, why: &str) {
        self.unknown.push((path, why.to_owned()));
    }
}

/// The hash of a file on the server; `None` where it isn't what the stamp says, before and after.
fn hash(
    session: &mut Session,
    path: &RelPath,
    stamp: Stamp,
) -> Result<Option<Digest>, RemoteError> {
    let at = session.at(Some(path));
    let Ok(mut stream) = session.retrieve(&at, 0)? else {
        return Ok(None);
    };
    let mut hasher = Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    while hasher.len_bytes() <= stamp.size {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(len) => hasher.update(&piece[..len]),
            Err(error) => return Err(session.connection.broken(&error)),
        }
    }
    if hasher.len_bytes() > stamp.size {
        return Ok(None);
    }
    let whole = stream.finish_download()?.is_done() && hasher.len_bytes() == stamp.size;
    let same = whole && session.stand(path)? == Stand::File(stamp);
    Ok(same.then(|| hasher.digest()))
}

/// Fetches one file, if it is the version wanted before and after.
fn fetch(
    session: &mut Session,
    index: usize,
    want: &Want,
    sink: &mut dyn Sink,
) -> Result<(), RemoteError> {
    let before = match session.stand(&want.path)? {
        Stand::File(stamp) if stamp.version() == want.version && want.offset <= stamp.size => stamp,
        Stand::Absent | Stand::File(_) | Stand::Folder | Stand::Other => {
            sink.refused(index, Refusal::Changed);
            return Ok(());
        }
    };
    let at = session.at(Some(&want.path));
    let mut stream = match session.retrieve(&at, want.offset)? {
        Ok(stream) => stream,
        Err(reply) => {
            let why = format!("the server doesn't give it: {reply}");
            sink.refused(index, Refusal::Failed(why));
            return Ok(());
        }
    };
    let len_bytes = before.size - want.offset;
    let mut taken = sink.begin(index, want.offset, len_bytes).is_ok();
    let mut left = len_bytes;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let len = match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) => return Err(session.connection.broken(&error)),
        };
        let Some(rest) = left.checked_sub(len as u64) else {
            // Longer than it was: dropping the stream drops the connection, and with it the rest.
            sink.refused(index, Refusal::Changed);
            return Ok(());
        };
        left = rest;
        taken = taken && sink.data(index, &piece[..len]).is_ok();
    }
    let reply = stream.finish_download()?;
    let after = session.stand(&want.path)?;
    if after != Stand::File(before) {
        sink.refused(index, Refusal::Changed);
    } else if !reply.is_done() || left > 0 {
        let why = format!("the server broke off: {reply}");
        sink.refused(index, Refusal::Failed(why));
    } else if taken {
        sink.done(index);
    }
    Ok(())
}
