//! An appliance: the special files of `raspbox-protocol` over one connection.
//!
//! A commit's id makes it safe to send again, so a cut connection costs a new one and nothing else:
//! first the outcome is asked for, and only if the appliance doesn't know the id, the whole commit
//! goes again under it.

use super::appliance_commit::{Settled, ask_parts, outcomes, send_commit};
use super::connection::Connection;
use super::control::{Control, Data};
use super::streams::{self, Draft, FEED_ENTRIES_MAX, Feed, HISTORY_MAX};
use super::{Events, Look, Progress, Pushed, Remote, RemoteError, RemoteTree, Sink};
use raspbox_beneath::File;
use raspbox_core::guard::Displaced;
use raspbox_protocol::commit::{OPS_MAX, Op};
use raspbox_protocol::compressed;
use raspbox_protocol::damage::{self, DAMAGED_MAX_BYTES, Damage};
use raspbox_protocol::feed::BEAT_INTERVAL;
use raspbox_protocol::history::Past;
use raspbox_protocol::holds::{self, Held, HoldsFrame};
use raspbox_protocol::info::{self, Info};
use raspbox_protocol::special::{Clock, Form, KNOWN, RequestId, SITE, Special, UNKNOWN};
use raspbox_protocol::want::{WANTS_MAX, Want};
use raspbox_protocol::wire::{FrameReader, ReadError, to_bytes};
use raspbox_protocol::{Cursor, Digest, Mtime, PROTOCOL_VERSION, RelPath};
use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write};
use std::time::Duration;

/// How often a commit or a list of wants is taken up again on a new connection.
pub const RETRIES_MAX: u32 = 2;

/// How long an event stream may be silent: three heartbeats, since one may be late on a busy Pi.
const EVENTS_TIMEOUT: Duration = BEAT_INTERVAL.saturating_mul(3);

/// How much is read from the network at once: one piece of content with its head.
const READ_BYTES: usize = 256 << 10;

/// A [`Remote`] that is an appliance, over FTP.
pub type Appliance = ApplianceOver<Connection>;

/// A [`Remote`] that is an appliance. It connects when it is first needed.
pub struct ApplianceOver<C: Control> {
    endpoint: C::Endpoint,
    connection: Option<C>,
    /// How contents travel: compressed once it has said that it understands that.
    form: Form,
}

struct EventStream<C: Control> {
    frames: FrameReader<BufReader<C::Data>>,
    connection: C,
}

impl<C: Control> ApplianceOver<C> {
    /// The appliance at this address.
    #[must_use]
    pub fn new(endpoint: C::Endpoint) -> ApplianceOver<C> {
        ApplianceOver {
            endpoint,
            connection: None,
            form: Form::Plain,
        }
    }

    /// A connection that is not known to be lost.
    fn connection(&mut self) -> Result<&mut C, RemoteError> {
        if self.connection.as_ref().is_none_or(C::is_lost) {
            self.connection = None;
            self.connection = Some(C::open(&self.endpoint)?);
        }
        Ok(self.connection.as_mut().expect("made above"))
    }

    /// Does what may be done twice, once more on a new connection where the old one is lost.
    fn twice<T>(
        &mut self,
        mut act: impl FnMut(&mut C) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        match act(self.connection()?) {
            Err(RemoteError::Unreachable { address, why }) => {
                tracing::debug!(address, why, "connecting again");
                self.connection = None;
                act(self.connection()?)
            }
            other => other,
        }
    }

    fn commit(
        &mut self,
        ops: &[Op],
        open: &mut dyn FnMut(usize) -> io::Result<File>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Settled, RemoteError> {
        let id = request_id();
        let mut draft = Draft::new(ops.len());
        let mut tries = 0;
        let form = self.form;
        loop {
            let known = if tries == 0 {
                Ok(None)
            } else {
                self.connection()
                    .and_then(|connection| outcomes(connection, id, draft.sent()))
            };
            let done = match known {
                Ok(Some(settled)) => Ok(settled),
                Ok(None) => self.connection().and_then(|connection| {
                    ask_parts(connection, ops, &mut draft)?;
                    if tries == 0 {
                        progress(Progress::Spared(draft.come_bytes()));
                    }
                    let mut sent = |bytes| progress(Progress::Sent(bytes));
                    send_commit(connection, (id, form), ops, &mut draft, open, &mut sent)
                }),
                Err(error) => Err(error),
            };
            match done {
                Ok(Settled { outcomes, alone }) => {
                    let outcomes = draft.merge(outcomes);
                    return Ok(Settled { outcomes, alone });
                }
                Err(RemoteError::Unreachable { address, why }) if tries < RETRIES_MAX => {
                    tracing::warn!(address, why, commit = %id, "connection lost, trying again");
                    self.connection = None;
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl<C: Control> Remote for ApplianceOver<C> {
    fn info(&mut self) -> Result<Info, RemoteError> {
        let info = self.twice(info)?;
        self.form = if info.zstd { Form::Zstd } else { Form::Plain };
        Ok(info)
    }

    fn knows(&mut self, cursor: Cursor) -> Result<bool, RemoteError> {
        let reply = self.twice(|connection| {
            let reply = connection.command(&format!("SITE {SITE} KNOWS {cursor}"))?;
            if reply.is_done() {
                Ok(reply)
            } else {
                Err(connection.trouble(&reply))
            }
        })?;
        match reply.text.as_str() {
            KNOWN => Ok(true),
            UNKNOWN => Ok(false),
            other => {
                let what = format!("whether it knows a position isn't understood: {other}");
                Err(self.connection()?.nonsense(what))
            }
        }
    }

    fn look(
        &mut self,
        since: Option<Cursor>,
        _known: &RemoteTree,
        _local_file: &dyn Fn(&RelPath) -> Option<(u64, bool)>,
    ) -> Result<Look, RemoteError> {
        let feed = self.twice(|connection| {
            if let Some(cursor) = since {
                // Mostly so, and then it is one round trip in place of a transfer's five.
                if info(connection)?.cursor == cursor {
                    return Ok(Feed::nothing_since(cursor));
                }
                if let Some(feed) = feed(connection, Special::Changes(cursor))? {
                    return Ok(feed);
                }
            }
            feed(connection, Special::Tree)?
                .ok_or_else(|| connection.nonsense("it has no list of its files"))
        })?;
        Ok(look(feed))
    }

    fn push(
        &mut self,
        ops: &[Op],
        open: &mut dyn FnMut(usize) -> io::Result<File>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pushed, RemoteError> {
        let mut pushed = Pushed::default();
        for (chunk, first) in ops.chunks(OPS_MAX).zip((0..).step_by(OPS_MAX)) {
            let mut open = |index| open(first + index);
            let Settled { outcomes, alone } = self.commit(chunk, &mut open, progress)?;
            pushed.outcomes.extend(outcomes);
            pushed.alone.extend(alone);
        }
        Ok(pushed)
    }

    /// After a lost connection it asks once more for what isn't settled, and of the one that was cut for the rest;
    /// [`Sink::begin`] is called again for that.
    fn pull(&mut self, wants: &[Want], sink: &mut dyn Sink) -> Result<(), RemoteError> {
        let indexes: Vec<usize> = (0..wants.len()).collect();
        for chunk in indexes.chunks(WANTS_MAX) {
            let mut open: VecDeque<(usize, u64)> = chunk.iter().map(|&index| (index, 0)).collect();
            let form = self.form;
            self.twice(|connection| fetch(connection, (wants, form), &mut open, sink))?;
        }
        Ok(())
    }

    /// A few are asked for in one line, many in a transfer each way.
    fn holds(&mut self, digests: &[Digest]) -> Result<Vec<bool>, RemoteError> {
        let mut held = Vec::with_capacity(digests.len());
        for chunk in digests.chunks(holds::LIST_MAX) {
            held.extend(self.twice(|connection| {
                let answer = if chunk.len() <= holds::LINE_MAX {
                    ask_line(connection, chunk)?
                } else {
                    ask_list(connection, chunk)?
                };
                match answer.parse() {
                    Ok(Held(held)) if held.len() == chunk.len() => Ok(held),
                    Ok(_) | Err(_) => {
                        let odd = super::peer::one_line(&answer);
                        Err(connection.nonsense(format!("what it keeps isn't understood: {odd}")))
                    }
                }
            })?);
        }
        Ok(held)
    }

    fn knows_hashes(&self) -> bool {
        true
    }

    fn patches(&self) -> bool {
        true
    }

    fn displaced(&self) -> Displaced {
        Displaced::Kept
    }

    fn damaged(&mut self) -> Result<Vec<Damage>, RemoteError> {
        self.twice(damaged)
    }

    fn clock(&mut self) -> Result<Option<Clock>, RemoteError> {
        self.twice(clock).map(Some)
    }

    fn history(&mut self, path: &RelPath) -> Result<Vec<Past>, RemoteError> {
        self.twice(|connection| history(connection, path))
    }

    fn tree_at(&mut self, at: Mtime) -> Result<Option<Look>, RemoteError> {
        let feed = self.twice(|connection| feed(connection, Special::At(at)))?;
        Ok(feed.map(look))
    }

    fn events(&self, since: Cursor) -> Result<Option<Box<dyn Events>>, RemoteError> {
        let mut connection = C::open(&self.endpoint)?;
        match connection.transfer(&retrieve(&Special::Events(since)), 0)? {
            Ok(stream) => {
                stream.set_read_timeout(EVENTS_TIMEOUT)?;
                let frames = FrameReader::new(BufReader::with_capacity(16 << 10, stream));
                Ok(Some(Box::new(EventStream { frames, connection })))
            }
            Err(reply) => Err(connection.trouble(&reply)),
        }
    }
}

impl<C: Control> Events for EventStream<C> {
    fn next(&mut self) -> Result<Cursor, RemoteError> {
        streams::next_mark(&mut self.frames, FEED_ENTRIES_MAX)
            .map_err(|error| read_trouble(&self.connection, "events", &error))
    }
}

fn ask_line<C: Control>(connection: &mut C, digests: &[Digest]) -> Result<String, RemoteError> {
    let words = holds::print_line(digests);
    let reply = connection.command(&format!("SITE {SITE} HOLDS {words}"))?;
    if reply.is_done() {
        Ok(reply.text)
    } else {
        Err(connection.trouble(&reply))
    }
}

fn ask_list<C: Control>(connection: &mut C, digests: &[Digest]) -> Result<String, RemoteError> {
    let special = Special::Holds(request_id());
    let frames = digests.iter().map(|digest| HoldsFrame::Digest(*digest));
    let list = to_bytes(&frames.chain([HoldsFrame::End]).collect::<Vec<_>>());
    store(connection, &special, |stream| stream.write_all(&list))?;
    // More than that is no answer to this.
    text(connection, special, digests.len())?.map_err(|reply| connection.trouble(&reply))
}

/// Stores a list that is retrieved as something else.
fn store<C: Control>(
    connection: &mut C,
    special: &Special,
    write: impl FnOnce(&mut C::Data) -> io::Result<()>,
) -> Result<(), RemoteError> {
    let mut stream = match connection.transfer(&format!("STOR {special}"), 0)? {
        Ok(stream) => stream,
        Err(reply) => return Err(connection.trouble(&reply)),
    };
    let reply = match write(&mut stream) {
        Ok(()) => stream.finish_upload()?,
        Err(error) => stream.why_broken(&error)?,
    };
    if reply.is_done() {
        Ok(())
    } else {
        Err(connection.trouble(&reply))
    }
}

/// What the appliance knows to be damaged; one that is older knows of nothing.
fn damaged<C: Control>(connection: &mut C) -> Result<Vec<Damage>, RemoteError> {
    match text(connection, Special::Damaged, DAMAGED_MAX_BYTES)? {
        Ok(text) => damage::parse(&text).map_err(|error| {
            connection.nonsense(format!("its list of damages isn't understood: {error}"))
        }),
        Err(reply) if reply.code == 550 => Ok(Vec::new()),
        Err(reply) => Err(connection.trouble(&reply)),
    }
}

/// The clock of the history.
fn clock<C: Control>(connection: &mut C) -> Result<Clock, RemoteError> {
    let reply = connection.command(&format!("SITE {SITE} CLOCK"))?;
    if !reply.is_done() {
        return Err(connection.trouble(&reply));
    }
    let odd = |_| connection.nonsense(format!("its clock: {}", super::peer::one_line(&reply.text)));
    reply.text.parse().map_err(odd)
}

fn history<C: Control>(connection: &mut C, path: &RelPath) -> Result<Vec<Past>, RemoteError> {
    let special = Special::History(path.clone());
    let mut stream = match connection.transfer(&retrieve(&special), 0)? {
        Ok(stream) => stream,
        Err(reply) => return Err(connection.trouble(&reply)),
    };
    let bytes = BufReader::with_capacity(READ_BYTES, &mut stream);
    let history = match streams::read_history(bytes, HISTORY_MAX) {
        Ok(history) => history,
        // Cut short; where the server still says why, that is the better answer.
        Err(ReadError::Io(error)) => {
            let reply = stream.why_broken(&error)?;
            return Err(connection.trouble(&reply));
        }
        Err(error) => return Err(read_trouble(connection, "history", &error)),
    };
    let reply = stream.finish_download()?;
    if reply.is_done() {
        Ok(history)
    } else {
        Err(connection.trouble(&reply))
    }
}

fn look(feed: Feed) -> Look {
    Look {
        whole: feed.whole,
        changes: feed.changes,
        unknown: Vec::new(),
        cursor: feed.cursor,
    }
}

/// A special file that is text, or why it isn't given.
fn text<C: Control>(
    connection: &mut C,
    special: Special,
    max_bytes: usize,
) -> Result<Result<String, super::connection::Reply>, RemoteError> {
    let mut stream = match connection.transfer(&retrieve(&special), 0)? {
        Ok(stream) => stream,
        Err(reply) => return Ok(Err(reply)),
    };
    let mut text = Vec::new();
    let limit = max_bytes as u64 + 1;
    if let Err(error) = (&mut stream).take(limit).read_to_end(&mut text) {
        // Cut short; where the server still says why, that is the better answer.
        return Ok(Err(stream.why_broken(&error)?));
    }
    if text.len() > max_bytes {
        return Err(connection.nonsense(format!("its {special} is too long")));
    }
    let reply = stream.finish_download()?;
    if !reply.is_done() {
        return Ok(Err(reply));
    }
    Ok(Ok(String::from_utf8_lossy(&text).into_owned()))
}

/// What the appliance says of itself, if it speaks our version.
pub(super) fn info<C: Control>(connection: &mut C) -> Result<Info, RemoteError> {
    let reply = connection.command(&format!("SITE {SITE} INFO"))?;
    if !reply.is_done() {
        return Err(connection.trouble(&reply));
    }
    let text = info::lines(&reply.text);
    // The version comes first: another one may have other lines.
    let version = text.lines().find_map(|line| line.strip_prefix("protocol "));
    if let Some(Ok(version)) = version.map(|version| version.trim().parse()) {
        same_version(connection, version)?;
    }
    text.parse()
        .map_err(|error| connection.nonsense(format!("its info isn't understood: {error}")))
}

/// Checks the protocol's version and says which side to update.
pub(super) fn same_version<C: Control>(connection: &C, version: u32) -> Result<(), RemoteError> {
    let update = match version.cmp(&PROTOCOL_VERSION) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Less => "update the appliance",
        std::cmp::Ordering::Greater => "update raspbox on this machine",
    };
    Err(connection.nonsense(format!(
        "it speaks version {version} of the protocol and this program version \
         {PROTOCOL_VERSION}: {update}"
    )))
}

pub(super) fn retrieve(special: &Special) -> String {
    format!("RETR {special}")
}

fn request_id() -> RequestId {
    RequestId(raspbox_beneath::random())
}

/// `None` where the appliance doesn't know the file (any more).
fn feed<C: Control>(connection: &mut C, special: Special) -> Result<Option<Feed>, RemoteError> {
    let mut stream = match connection.transfer(&retrieve(&special), 0)? {
        Ok(stream) => stream,
        Err(reply) if reply.code == 550 => return Ok(None),
        Err(reply) => return Err(connection.trouble(&reply)),
    };
    let feed = streams::read_feed(
        BufReader::with_capacity(READ_BYTES, &mut stream),
        FEED_ENTRIES_MAX,
    );
    let feed = match feed {
        Ok(feed) => feed,
        // Cut short; where the server still says why, that is the better answer.
        Err(ReadError::Io(error)) => {
            let reply = stream.why_broken(&error)?;
            return if reply.code == 550 {
                Ok(None)
            } else {
                Err(connection.trouble(&reply))
            };
        }
        Err(error) => return Err(read_trouble(connection, "list of files", &error)),
    };
    let reply = stream.finish_download()?;
    if reply.is_done() {
        Ok(Some(feed))
    } else {
        Err(connection.trouble(&reply))
    }
}

fn fetch<C: Control>(
    connection: &mut C,
    (wants, form): (&[Want], Form),
    open: &mut VecDeque<(usize, u64)>,
    sink: &mut dyn Sink,
) -> Result<(), RemoteError> {
    if open.is_empty() {
        return Ok(());
    }
    let id = request_id();
    for (index, offset) in open.iter_mut() {
        *offset = wants[*index].offset.max(sink.come(*index));
    }
    let list = open.iter().map(|&(index, offset)| Want {
        offset,
        ..wants[index].clone()
    });
    store(connection, &Special::Want(id, Form::Plain), |stream| {
        streams::write_wants(stream, list)
    })?;
    let special = Special::Want(id, form);
    let mut stream = match connection.transfer(&retrieve(&special), 0)? {
        Ok(stream) => stream,
        Err(reply) => return Err(connection.trouble(&reply)),
    };
    let bytes = BufReader::with_capacity(READ_BYTES, &mut stream);
    let read = match form {
        Form::Plain => streams::read_contents(bytes, open, sink),
        Form::Zstd => compressed::read(bytes)
            .map_err(ReadError::Io)
            .and_then(|plain| {
                let plain = BufReader::with_capacity(READ_BYTES, plain);
                streams::read_contents(plain, open, sink)
            }),
    };
    match read {
        Ok(()) => {}
        Err(ReadError::Io(error)) => {
            let reply = stream.why_broken(&error)?;
            return Err(connection.trouble(&reply));
        }
        Err(error) => return Err(read_trouble(connection, "contents", &error)),
    }
    let reply = stream.finish_download()?;
    if reply.is_done() {
        Ok(())
    } else {
        Err(connection.trouble(&reply))
    }
}

pub(super) fn read_trouble<C: Control>(
    connection: &C,
    what: &str,
    error: &ReadError,
) -> RemoteError {
    match error {
        ReadError::Io(error) => connection.broken(error),
        ReadError::Wire(error) => connection.nonsense(format!("its {what}: {error}")),
    }
}
