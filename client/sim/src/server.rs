//! The appliance's end of the network, in the same thread: a store, and FTP sessions that break
//! wherever the scenario says.
//!
//! The client's side is raspbox's own code down to the commands and the bytes of each transfer. The
//! server's side answers as `raspboxd` does, without TLS, logins and tokio; that both agree is shown
//! by running the same calm scenarios on both (see `agree`).

use crate::scenario::Net;
use crate::world;
use raspbox::remote::RemoteError;
use raspbox::remote::connection::{Peer, Reply};
use raspbox::remote::control::{Control, Data};
use raspbox_protocol::Digest;
use raspbox_protocol::commit::{DATA, Refusal, ResultFrame};
use raspbox_protocol::holds::{self, HoldsFrame};
use raspbox_protocol::info::Info;
use raspbox_protocol::special::{Form, KNOWN, RequestId, Special, UNKNOWN};
use raspbox_protocol::want::{ContentFrame, Want, WantFrame};
use raspbox_protocol::wire::{Frame, FrameReader, FrameWriter, to_bytes};
use raspbox_store::{By, FeedError, Store, StoreError};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How much of a content goes into one frame.
const PIECE_BYTES: usize = 16 << 10;

/// Which workstation's connection this is.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) station: usize,
}

/// Which contents were asked for in one list.
type Asked = (RequestId, Vec<Digest>);

/// A session.
pub(crate) struct Session {
    endpoint: Endpoint,
    peer: Peer,
    lost: Arc<AtomicBool>,
    wants: Arc<std::sync::Mutex<HashMap<RequestId, Vec<Want>>>>,
    holds: Arc<std::sync::Mutex<Option<Asked>>>,
    /// The life of the server that it was made with.
    server: u64,
}

/// A transfer.
pub(crate) struct Transfer {
    kind: Kind,
    /// After how many bytes the connection is cut.
    cut_after: Option<usize>,
    /// What else happens to it.
    fate: Option<Net>,
    moved: usize,
    session: Session,
}

enum Kind {
    Download { bytes: Vec<u8>, reply: Reply },
    Upload { special: Special, bytes: Vec<u8> },
}

/// The server, as the sessions see it.
#[derive(Default)]
pub(crate) struct Server {
    /// `None` while the drive isn't there.
    pub(crate) store: Option<Store>,
    /// Whether the process runs.
    pub(crate) up: bool,
    /// Which process it is.
    pub(crate) life: u64,
    /// Commits that are still on their way.
    pub(crate) late: Vec<(RequestId, usize, Vec<u8>)>,
}

thread_local! {
    pub(crate) static SERVER: RefCell<Server> = RefCell::default();
}

fn reply(code: u32, text: impl Into<String>) -> Reply {
    let text = text.into();
    Reply { code, text }
}

/// Does what an upload asks for, as `raspboxd` does.
pub(crate) fn take_commit(id: RequestId, station: usize, bytes: &[u8]) -> Reply {
    let Some(store) = SERVER.with_borrow(|server| server.store.clone()) else {
        return reply(450, "no drive");
    };
    let done = world::on_appliance(|| store.commit(id, &by(station), &|_| true, &mut &bytes[..]));
    match done {
        Ok(_) => reply(226, ""),
        Err(error) => refusal_reply(&error),
    }
}

fn by(station: usize) -> By {
    By(format!("station {station}"))
}

/// As `raspboxd` says it.
fn refusal_reply(error: &StoreError) -> Reply {
    use raspbox_protocol::wire::ReadError;
    let code = match error {
        StoreError::NoSpace => 452,
        StoreError::NotNow(_) => 450,
        StoreError::Io { .. } | StoreError::Journal(_) => 451,
        StoreError::Request(ReadError::Io(_)) => 426,
        StoreError::CannotHold { .. } => 553,
        _ => 550,
    };
    reply(code, error.to_string())
}

impl Session {
    fn cut(&self) -> RemoteError {
        self.lost.store(true, Ordering::Relaxed);
        RemoteError::Unreachable {
            address: self.peer.address.clone(),
            why: "the connection was cut".into(),
        }
    }

    /// What happens to the next thing that goes over the network; the commands in between are
    /// carried out here.
    fn event(&self) -> Option<Net> {
        world::net_event()
    }

    fn again(&self) -> Session {
        Session {
            endpoint: self.endpoint.clone(),
            peer: self.peer.clone(),
            lost: Arc::clone(&self.lost),
            wants: Arc::clone(&self.wants),
            holds: Arc::clone(&self.holds),
            server: self.server,
        }
    }

    fn is_served(&self) -> bool {
        let lost = self.lost.load(Ordering::Relaxed);
        !lost && SERVER.with_borrow(|server| server.up && server.life == self.server)
    }

    fn retrieve(&self, special: Special) -> Result<Vec<u8>, Reply> {
        let Some(store) = SERVER.with_borrow(|server| server.store.clone()) else {
            return Err(reply(450, "no drive"));
        };
        world::on_appliance(|| match special {
            Special::Info => {
                let info = store.info(raspbox_beneath::now(), true);
                Ok(info
                    .map_err(|e| refusal_reply(&e))?
                    .to_string()
                    .into_bytes())
            }
            Special::Tree => feed(&store, None),
            Special::Changes(cursor) => feed(&store, Some(cursor)),
            Special::Result(id) => {
                let outcomes = store.outcome(id).map_err(|e| refusal_reply(&e))?;
                let outcomes = outcomes.ok_or_else(|| reply(550, "no such commit"))?;
                let frames = outcomes.into_iter().map(ResultFrame::Outcome);
                Ok(to_bytes(
                    &frames.chain([ResultFrame::End]).collect::<Vec<_>>(),
                ))
            }
            Special::Want(id, Form::Plain) => {
                let wants = self.wants.lock().expect("one thread").get(&id).cloned();
                let wants = wants.ok_or_else(|| reply(550, "no such list"))?;
                Ok(contents(&store, &wants))
            }
            Special::Holds(id) => {
                let kept = self.holds.lock().expect("one thread").clone();
                let kept = kept.filter(|(known, _)| *known == id);
                let (_, digests) = kept.ok_or_else(|| reply(550, "no such list"))?;
                let held = store.holds(&digests).map_err(|e| refusal_reply(&e))?;
                Ok(held.to_string().into_bytes())
            }
            _ => Err(reply(550, "not here")),
        })
    }

    fn take(&self, special: &Special, bytes: &[u8]) -> Reply {
        match special {
            Special::Commit(id, Form::Plain) => take_commit(*id, self.endpoint.station, bytes),
            Special::Want(id, Form::Plain) => match read_wants(bytes) {
                Ok(wants) => {
                    let mut kept = self.wants.lock().expect("one thread");
                    kept.clear();
                    kept.insert(*id, wants);
                    reply(226, "")
                }
                Err(refused) => refused,
            },
            Special::Holds(id) => match read_digests(bytes) {
                Ok(digests) => {
                    *self.holds.lock().expect("one thread") = Some((*id, digests));
                    reply(226, "")
                }
                Err(refused) => refused,
            },
            _ => reply(550, "not here"),
        }
    }
}

impl Control for Session {
    type Endpoint = Endpoint;
    type Data = Transfer;

    fn open(endpoint: &Endpoint) -> Result<Session, RemoteError> {
        let (up, life) = SERVER.with_borrow(|server| (server.up, server.life));
        let session = Session {
            endpoint: endpoint.clone(),
            peer: Peer {
                address: "appliance:2121".into(),
                user: "station".into(),
            },
            lost: Arc::default(),
            wants: Arc::default(),
            holds: Arc::default(),
            server: life,
        };
        if !up {
            return Err(session.cut());
        }
        match session.event() {
            Some(Net::Busy) => {
                session.lost.store(true, Ordering::Relaxed);
                Err(session.trouble(&reply(421, "too many sessions")))
            }
            Some(Net::Cut(_) | Net::LoseReply | Net::Late) => Err(session.cut()),
            Some(Net::Double | Net::Edit(..) | Net::Sync(_)) | None => Ok(session),
        }
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    fn command(&mut self, line: &str) -> Result<Reply, RemoteError> {
        let fate = self.event();
        if !self.is_served() || matches!(fate, Some(Net::Cut(_))) {
            return Err(self.cut());
        }
        let id = line
            .strip_prefix("SITE RBX RESULT ")
            .and_then(|id| id.parse().ok());
        let cursor = line
            .strip_prefix("SITE RBX KNOWS ")
            .and_then(|cursor| cursor.parse().ok());
        let digests = line
            .strip_prefix("SITE RBX HOLDS ")
            .and_then(holds::parse_line);
        let info = line == "SITE RBX INFO";
        if let (true, Some(store)) = (
            info || cursor.is_some() || digests.is_some(),
            SERVER.with_borrow(|s| s.store.clone()),
        ) {
            let answer = world::on_appliance(|| match (cursor, &digests) {
                _ if info => {
                    // How much it compresses depends on how long things take.
                    let info = store.info(raspbox_beneath::now(), true)?;
                    Ok(Info {
                        zstd: false,
                        ..info
                    }
                    .to_line())
                }
                (Some(cursor), _) => store.knows(cursor).map(|known| {
                    let known = if known { KNOWN } else { UNKNOWN };
                    known.to_owned()
                }),
                (None, digests) => {
                    let digests = digests.as_deref().unwrap_or_default();
                    store.holds(digests).map(|held| held.to_string())
                }
            });
            if fate.is_some() || !self.is_served() {
                return Err(self.cut());
            }
            return Ok(match answer {
                Ok(text) => reply(200, text),
                Err(error) => refusal_reply(&error),
            });
        }
        let answer = match (id, SERVER.with_borrow(|server| server.store.clone())) {
            (None, Some(_)) => reply(500, "not here"),
            (_, None) => reply(450, "no drive"),
            (Some(id), Some(store)) => match world::on_appliance(|| store.receipt(id)) {
                Ok(Some(receipt)) => reply(200, receipt.to_string()),
                Ok(None) => reply(550, "no such commit"),
                Err(error) => refusal_reply(&error),
            },
        };
        let ended = matches!(fate, Some(Net::LoseReply | Net::Late | Net::Busy));
        if ended || !self.is_served() {
            return Err(self.cut());
        }
        Ok(answer)
    }

    fn transfer(
        &mut self,
        line: &str,
        offset: u64,
    ) -> Result<Result<Transfer, Reply>, RemoteError> {
        assert_eq!(offset, 0, "the protocol has no offsets");
        let fate = self.event();
        if !self.is_served() || matches!(fate, Some(Net::Busy)) {
            return Err(self.cut());
        }
        let (verb, path) = line.split_once(' ').expect("a verb and a path");
        let special = Special::parse(path).ok().flatten().expect("our own files");
        let kind = match verb {
            "RETR" => match self.retrieve(special) {
                Ok(bytes) => Kind::Download {
                    bytes,
                    reply: reply(226, ""),
                },
                Err(refused) => {
                    return if self.is_served() {
                        Ok(Err(refused))
                    } else {
                        Err(self.cut())
                    };
                }
            },
            "STOR" => Kind::Upload {
                special,
                bytes: Vec::new(),
            },
            other => panic!("{other} is not simulated"),
        };
        let cut_after = match (&kind, &fate) {
            (Kind::Download { bytes, .. }, Some(Net::Cut(part))) => {
                Some(bytes.len() * usize::from(*part) / 256)
            }
            // How long it gets isn't known yet; the first bytes are where most is decided.
            (Kind::Upload { .. }, Some(Net::Cut(part))) => Some(usize::from(*part).pow(2)),
            _ => None,
        };
        Ok(Ok(Transfer {
            kind,
            cut_after,
            fate,
            moved: 0,
            session: self.again(),
        }))
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl Transfer {
    /// How many of these bytes still come through.
    fn passes(&self, len: usize) -> io::Result<usize> {
        let left = self.cut_after.map(|cut| cut.saturating_sub(self.moved));
        if !self.session.is_served() || left == Some(0) {
            self.session.lost.store(true, Ordering::Relaxed);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(left.map_or(len, |left| left.min(len)))
    }
}

impl Read for Transfer {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let len = self.passes(piece.len())?;
        let Kind::Download { bytes, .. } = &self.kind else {
            panic!("an upload is not read");
        };
        let len = len.min(bytes.len() - self.moved);
        piece[..len].copy_from_slice(&bytes[self.moved..self.moved + len]);
        self.moved += len;
        Ok(len)
    }
}

impl Write for Transfer {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let len = self.passes(piece.len())?;
        let Kind::Upload { bytes, .. } = &mut self.kind else {
            panic!("a download is not written");
        };
        bytes.extend_from_slice(&piece[..len]);
        self.moved += len;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Data for Transfer {
    fn set_read_timeout(&self, _timeout: Duration) -> io::Result<()> {
        Ok(())
    }

    fn finish_download(self) -> Result<Reply, RemoteError> {
        let Kind::Download { bytes, reply } = &self.kind else {
            panic!("an upload is finished as one");
        };
        assert!(self.moved <= bytes.len());
        let whole = self.cut_after.is_none_or(|cut| cut > bytes.len());
        if !whole || !self.session.is_served() {
            return Err(self.session.cut());
        }
        match self.fate {
            Some(Net::LoseReply | Net::Late) => Err(self.session.cut()),
            _ => Ok(reply.clone()),
        }
    }

    fn finish_upload(self) -> Result<Reply, RemoteError> {
        let Kind::Upload { special, bytes } = &self.kind else {
            panic!("a download is finished as one");
        };
        if self.cut_after.is_some() || !self.session.is_served() {
            // Its end is missing, which a server on TLS sees.
            return Err(self.session.cut());
        }
        if let (Some(Net::Late), Special::Commit(id, Form::Plain)) = (&self.fate, special) {
            let late = (*id, self.session.endpoint.station, bytes.clone());
            SERVER.with_borrow_mut(|server| server.late.push(late));
            return Err(self.session.cut());
        }
        let mut answer = self.session.take(special, bytes);
        if matches!(self.fate, Some(Net::Double)) && self.session.is_served() {
            answer = self.session.take(special, bytes);
        }
        let lost = matches!(self.fate, Some(Net::LoseReply | Net::Late));
        if lost || !self.session.is_served() {
            return Err(self.session.cut());
        }
        Ok(answer)
    }

    fn why_broken(self, _error: &io::Error) -> Result<Reply, RemoteError> {
        if let (Kind::Upload { special, bytes }, true) = (&self.kind, self.cut_after.is_some()) {
            // What came reaches the store as a stream that breaks off.
            if let (Special::Commit(id, Form::Plain), Some(store)) =
                (special, SERVER.with_borrow(|server| server.store.clone()))
            {
                let mut input = bytes.as_slice().chain(Broken);
                let station = self.session.endpoint.station;
                let applied =
                    world::on_appliance(|| store.commit(*id, &by(station), &|_| true, &mut input));
                assert!(applied.is_err(), "half a commit was applied");
            }
        }
        Err(self.session.cut())
    }
}

/// A stream that was cut.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _piece: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn feed(store: &Store, since: Option<raspbox_protocol::Cursor>) -> Result<Vec<u8>, Reply> {
    let mut bytes = Vec::new();
    let fed = store.feed(since, &mut |frame| {
        put(&mut bytes, &frame);
        Ok(())
    });
    match fed {
        Ok(_) => Ok(bytes),
        Err(FeedError::Expired) => Err(reply(550, "cursor expired")),
        Err(FeedError::Sink(error)) => panic!("memory failed: {error}"),
        Err(FeedError::Store(error)) => Err(refusal_reply(&error)),
    }
}

fn put(out: &mut Vec<u8>, frame: &impl Frame) {
    FrameWriter::new(out)
        .write(frame)
        .expect("writing to memory doesn't fail");
}

fn contents(store: &Store, wants: &[Want]) -> Vec<u8> {
    let mut out = Vec::new();
    for want in wants {
        content(store, want, &mut out);
    }
    put(&mut out, &ContentFrame::End);
    out
}

fn content(store: &Store, want: &Want, out: &mut Vec<u8>) {
    let mut refuse = |error: &StoreError| put(out, &ContentFrame::Refused(refusal(error)));
    let mut reader = match store.read_version(want) {
        Ok(reader) => reader,
        Err(error) => return refuse(&error),
    };
    let len_bytes = reader.left_bytes();
    put(out, &ContentFrame::Begin { len_bytes });
    let mut piece = vec![0; PIECE_BYTES];
    while reader.left_bytes() > 0 {
        let refusal = match reader.read(&mut piece) {
            Ok(0) => Refusal::Changed,
            Ok(len) => {
                FrameWriter::new(&mut *out)
                    .write_raw(DATA, &piece[..len])
                    .expect("writing to memory doesn't fail");
                continue;
            }
            Err(error) => refusal(&reader.failed(error)),
        };
        return put(out, &ContentFrame::Refused(refusal));
    }
    match reader.finish() {
        Ok(()) => put(out, &ContentFrame::Done),
        Err(error) => put(out, &ContentFrame::Refused(refusal(&error))),
    }
}

/// As `raspboxd` says it.
fn refusal(error: &StoreError) -> Refusal {
    match error {
        StoreError::CannotHold { why, .. } => Refusal::Name(why.clone()),
        StoreError::NoSpace => Refusal::NoSpace,
        StoreError::NotNow(_) => Refusal::NotNow,
        StoreError::Damaged(_) => Refusal::Damaged,
        StoreError::Request(_)
        | StoreError::BadRequest(_)
        | StoreError::Io { .. }
        | StoreError::Journal(_) => Refusal::Failed(error.to_string()),
        _ => Refusal::Changed,
    }
}

fn read_wants(bytes: &[u8]) -> Result<Vec<Want>, Reply> {
    let mut frames = FrameReader::new(bytes);
    let mut wants = Vec::new();
    loop {
        match frames.read::<WantFrame>() {
            Ok(WantFrame::Want(want)) => wants.push(want),
            Ok(WantFrame::End) => return Ok(wants),
            Err(error) => return Err(reply(550, error.to_string())),
        }
    }
}

fn read_digests(bytes: &[u8]) -> Result<Vec<Digest>, Reply> {
    let mut frames = FrameReader::new(bytes);
    let mut digests = Vec::new();
    loop {
        match frames.read::<HoldsFrame>() {
            Ok(HoldsFrame::Digest(digest)) => digests.push(digest),
            Ok(HoldsFrame::End) => return Ok(digests),
            Err(error) => return Err(reply(550, error.to_string())),
        }
    }
}
