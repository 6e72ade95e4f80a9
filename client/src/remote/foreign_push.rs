//! Changing an ordinary FTP server's files so that nothing is lost.
//!
//! A file is uploaded to a temporary name beside its place, checked, given its time, and then
//! renamed over what it replaces: at no moment is there half a file under a real name, nor a name
//! without one. Its version is known before the rename, so that another's write just after it isn't
//! taken for ours.

use super::RemoteError;
use super::appliance::RETRIES_MAX;
use super::connection::Reply;
use super::control::Data;
use super::foreign::Foreign;
use super::foreign_session::{ABSENT_VERSION, FOLDER_VERSION, Session, Stand};
use super::foreign_temporary::{is_abandoned, new_name};
use super::listing::{Item, Kind};
use super::streams::read_full;
use raspbox_beneath::File;
use raspbox_protocol::commit::{Expect, Op, Outcome, Refusal};
use raspbox_protocol::digest::Hasher;
use raspbox_protocol::{File as FileEntry, Mtime, RelPath, Version};
use std::io::{self, Write};
use std::time::SystemTime;

/// How much is read and sent at once.
const PIECE_BYTES: usize = 256 << 10;

/// How much later than it is a file is dated where it would look like the one that it replaces, so
/// that others see that it is another, and we ourselves which of the two stands there: a step of the
/// coarsest filesystem, FAT.
const TELLING_APART_NS: i64 = 2_000_000_000;

/// What a try at an operation leaves for the next one, after the connection was lost in it.
#[derive(Debug, Default)]
struct Memory {
    /// The version that stands at the target if the deciding command did get through.
    deciding: Option<Version>,
}

/// Carries out operations one by one; see [`super::Remote::push`].
pub(super) fn push(
    foreign: &mut Foreign,
    ops: &[Op],
    open: &mut dyn FnMut(usize) -> io::Result<File>,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Outcome>, RemoteError> {
    let mut outcomes = Vec::with_capacity(ops.len());
    for (index, op) in ops.iter().enumerate() {
        let mut memory = Memory::default();
        let mut tries = 0;
        let outcome = loop {
            let done = foreign.session().and_then(|session| {
                let mut open = || open(index);
                apply(session, op, &mut open, progress, &mut memory)
            });
            match done {
                Err(RemoteError::Unreachable { address, why }) if tries < RETRIES_MAX => {
                    tracing::warn!(address, why, "connection lost, trying again");
                    foreign.hang_up();
                    tries += 1;
                }
                other => break other,
            }
        };
        match outcome {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) if outcomes.is_empty() => return Err(error),
            Err(error) => {
                // What was done must be told, so the rest is refused instead of failing all.
                let rest = Outcome::Refused(Refusal::Failed(error.to_string()));
                outcomes.resize(ops.len(), rest);
                break;
            }
        }
    }
    Ok(outcomes)
}

fn apply(
    session: &mut Session,
    op: &Op,
    open: &mut dyn FnMut() -> io::Result<File>,
    progress: &mut dyn FnMut(u64),
    memory: &mut Memory,
) -> Result<Outcome, RemoteError> {
    let done = match op {
        Op::Put { path, expect, file } => {
            put(session, path, *expect, file, open, progress, memory)?
        }
        Op::Symlink { .. } => Err(Refusal::Name(
            "an ordinary FTP server holds no symlinks".into(),
        )),
        Op::MakeFolder { path } => make_folder(session, path)?,
        Op::Delete { path, expect } => delete(session, path, *expect)?,
        Op::Move { from, expect, to } => move_to(session, from, *expect, to, memory)?,
        Op::SetMeta {
            path,
            expect,
            mtime,
            executable: _,
        } => set_meta(session, path, *expect, *mtime, memory)?,
        Op::Restore { .. } | Op::Keep { .. } | Op::Patch { .. } => Err(Refusal::Failed(
            "an ordinary FTP server keeps no versions".into(),
        )),
    };
    Ok(match done {
        Ok(version) => Outcome::Done(version),
        Err(refusal) => Outcome::Refused(refusal),
    })
}

/// A step's result: done, refused, or the connection is lost.
type Step = Result<Result<Version, Refusal>, RemoteError>;

fn put(
    session: &mut Session,
    path: &RelPath,
    expect: Expect,
    file: &FileEntry,
    open: &mut dyn FnMut() -> io::Result<File>,
    progress: &mut dyn FnMut(u64),
    memory: &mut Memory,
) -> Step {
    if let Err(refusal) = check_name(session, path)? {
        return Ok(Err(refusal));
    }
    let parent = path.parent();
    let temporary = match RelPath::child(parent.as_ref(), &new_name()) {
        Ok(temporary) => temporary,
        Err(error) => return Ok(Err(Refusal::Name(error.to_string()))),
    };
    // Before the upload, since it is cheap; and again after it, since it took its time.
    let stand = session.stand(path)?;
    if let Some(version) = memory.deciding
        && stand.version() == Some(version)
    {
        return Ok(Ok(version));
    }
    if !meets(stand, expect) {
        return Ok(Err(Refusal::Changed));
    }
    let mut content = match open() {
        Ok(content) => content,
        Err(error) => return Ok(Err(Refusal::Failed(error.to_string()))),
    };
    let temporary_at = session.at(Some(&temporary));
    let uploaded = upload(session, &temporary_at, &mut content, file, progress)?;
    let checked = match uploaded {
        Ok(()) => finish_put(session, path, expect, file, &temporary, memory)?,
        Err(Refused::Reply(reply)) => Err(why_not_stored(session, parent.as_ref(), &reply)?),
        Err(Refused::Here(refusal)) => Err(refusal),
    };
    if checked.is_err() {
        // Usually there; where it isn't, the refusal of this doesn't matter.
        session.act("DELE", &temporary_at)?;
    }
    Ok(checked)
}

/// Checks what was uploaded, and puts it in its place.
fn finish_put(
    session: &mut Session,
    path: &RelPath,
    expect: Expect,
    file: &FileEntry,
    temporary: &RelPath,
    memory: &mut Memory,
) -> Step {
    let temporary_at = session.at(Some(temporary));
    let Some(mut version) = dated(session, temporary, file.size, file.mtime)? else {
        return Ok(Err(Refusal::BadContent));
    };
    if expect == Expect::Version(version) {
        let later = Mtime(file.mtime.0.saturating_add(TELLING_APART_NS));
        match dated(session, temporary, file.size, later)? {
            // It can't be dated, and was uploaded too soon after the other.
            Some(same) if same == version => return Ok(Err(Refusal::Changed)),
            Some(other) => version = other,
            None => return Ok(Err(Refusal::BadContent)),
        }
    }
    let stand = session.stand(path)?;
    if !meets(stand, expect) {
        return Ok(Err(Refusal::Changed));
    }
    memory.deciding = Some(version);
    let at = session.at(Some(path));
    let reply = session.rename(&temporary_at, &at)?;
    if reply.is_done() {
        return Ok(Ok(version));
    }
    match stand {
        Stand::Absent => Ok(Err(refused(&reply))),
        Stand::File(_) | Stand::Folder | Stand::Other => {
            exchange(session, path, expect, &temporary_at, version)
        }
    }
}

/// Gives what was uploaded a time; its version then, or `None` where it isn't whole.
fn dated(
    session: &mut Session,
    temporary: &RelPath,
    size: u64,
    mtime: Mtime,
) -> Result<Option<Version>, RemoteError> {
    let at = session.at(Some(temporary));
    session.set_time(&at, mtime)?;
    Ok(match session.stand(temporary)? {
        Stand::File(stamp) if stamp.size == size => Some(stamp.version()),
        Stand::File(_) | Stand::Absent | Stand::Folder | Stand::Other => None,
    })
}

/// For servers that don't rename onto a name that is taken: what stands there moves aside first.
///
/// If everything stops in the middle, the old content stands under a name that people understand,
/// and is synced as a file of its own: nothing is lost.
fn exchange(
    session: &mut Session,
    path: &RelPath,
    expect: Expect,
    temporary_at: &str,
    version: Version,
) -> Step {
    let random = raspbox_beneath::random_name();
    // At most 200 bytes of it, so that all of it stays a name.
    let kept: String = path.name().chars().take(50).collect();
    let aside = format!("{kept} (replaced by raspbox {})", &random[..8]);
    let aside = match RelPath::child(path.parent().as_ref(), &aside) {
        Ok(aside) => aside,
        Err(error) => return Ok(Err(Refusal::Name(error.to_string()))),
    };
    let (at, aside_at) = (session.at(Some(path)), session.at(Some(&aside)));
    let reply = session.rename(&at, &aside_at)?;
    if !reply.is_done() {
        return Ok(Err(refused(&reply)));
    }
    let displaced = session.stand(&aside)?;
    let reply = if meets(displaced, expect) {
        session.rename(temporary_at, &at)?
    } else {
        Reply {
            code: 0,
            text: String::new(),
        }
    };
    if reply.is_done() {
        session.act("DELE", &aside_at)?;
        return Ok(Ok(version));
    }
    let back = session.rename(&aside_at, &at)?;
    if !back.is_done() {
        tracing::error!(path = aside_at, reply = %back, "what was moved aside stays there");
    }
    Ok(Err(if reply.code == 0 {
        Refusal::Changed
    } else {
        refused(&reply)
    }))
}

/// Why an upload didn't come about.
enum Refused {
    /// The server said so.
    Reply(Reply),
    /// It was found here.
    Here(Refusal),
}

fn upload(
    session: &mut Session,
    at: &str,
    content: &mut File,
    file: &FileEntry,
    progress: &mut dyn FnMut(u64),
) -> Result<Result<(), Refused>, RemoteError> {
    let mut stream = match session.store(at)? {
        Ok(stream) => stream,
        Err(reply) => return Ok(Err(Refused::Reply(reply))),
    };
    let mut hasher = Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut failed = None;
    while hasher.len_bytes() < file.size {
        let left = usize::try_from(file.size - hasher.len_bytes()).unwrap_or(PIECE_BYTES);
        let len = match read_full(content, &mut piece[..left.min(PIECE_BYTES)]) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) => {
                failed = Some(Refusal::Failed(format!("reading it failed: {error}")));
                break;
            }
        };
        hasher.update(&piece[..len]);
        if let Err(error) = stream.write_all(&piece[..len]) {
            return stream
                .why_broken(&error)
                .map(|reply| Err(Refused::Reply(reply)));
        }
        progress(len as u64);
    }
    let reply = stream.finish_upload()?;
    if !reply.is_done() {
        return Ok(Err(Refused::Reply(reply)));
    }
    let good = hasher.len_bytes() == file.size && hasher.digest() == file.digest;
    Ok(match failed {
        Some(refusal) => Err(Refused::Here(refusal)),
        None if good => Ok(()),
        None => Err(Refused::Here(Refusal::BadContent)),
    })
}

fn make_folder(session: &mut Session, path: &RelPath) -> Step {
    if let Err(refusal) = check_name(session, path)? {
        return Ok(Err(refusal));
    }
    match session.stand(path)? {
        Stand::Folder => return Ok(Ok(FOLDER_VERSION)),
        Stand::File(_) | Stand::Other => return Ok(Err(Refusal::Changed)),
        Stand::Absent => {}
    }
    let at = session.at(Some(path));
    let reply = session.act("MKD", &at)?;
    // Somebody else may have made it in the meantime.
    if reply.is_done() || session.stand(path)? == Stand::Folder {
        return Ok(Ok(FOLDER_VERSION));
    }
    why_not_stored(session, path.parent().as_ref(), &reply).map(Err)
}

fn delete(session: &mut Session, path: &RelPath, expect: Version) -> Step {
    let stand = session.stand(path)?;
    let at = session.at(Some(path));
    let reply = match stand {
        Stand::Absent => return Ok(Ok(ABSENT_VERSION)),
        _ if stand.version() != Some(expect) => return Ok(Err(Refusal::Changed)),
        Stand::Folder => match empty(session, path)? {
            Ok(()) => session.act("RMD", &at)?,
            Err(refusal) => return Ok(Err(refusal)),
        },
        Stand::File(_) => session.act("DELE", &at)?,
        Stand::Other => return Ok(Err(Refusal::Changed)),
    };
    Ok(if reply.is_done() {
        Ok(ABSENT_VERSION)
    } else {
        Err(refused(&reply))
    })
}

/// Makes sure that nothing is in a folder, but for abandoned uploads of ours, which go. Some servers
/// take whatever is in a folder along with it.
fn empty(session: &mut Session, path: &RelPath) -> Result<Result<(), Refusal>, RemoteError> {
    let items = match session.list(Some(path))? {
        Ok(items) => items,
        Err(why) => return Ok(Err(Refusal::Failed(why))),
    };
    let now = SystemTime::now();
    let is_ours =
        |item: &Item| matches!(item.kind, Kind::File { .. }) && is_abandoned(&item.name, now);
    if !items.iter().all(is_ours) {
        return Ok(Err(Refusal::NotEmpty));
    }
    let at = session.at(Some(path));
    for item in &items {
        session.act("DELE", &format!("{at}/{}", item.name))?;
    }
    Ok(Ok(()))
}

fn move_to(
    session: &mut Session,
    from: &RelPath,
    expect: Version,
    to: &RelPath,
    memory: &mut Memory,
) -> Step {
    if let Err(refusal) = check_name(session, to)? {
        return Ok(Err(refusal));
    }
    let (here, there) = (session.stand(from)?, session.stand(to)?);
    if memory.deciding.is_some() && here == Stand::Absent && there.version() == Some(expect) {
        return Ok(Ok(expect));
    }
    if here.version() != Some(expect) || there != Stand::Absent {
        return Ok(Err(Refusal::Changed));
    }
    memory.deciding = Some(expect);
    let (from_at, to_at) = (session.at(Some(from)), session.at(Some(to)));
    let reply = session.rename(&from_at, &to_at)?;
    if reply.is_done() {
        return Ok(Ok(expect));
    }
    why_not_stored(session, to.parent().as_ref(), &reply).map(Err)
}

/// Only the time: FTP knows no executable bit, so whoever records this keeps theirs.
fn set_meta(
    session: &mut Session,
    path: &RelPath,
    expect: Version,
    mtime: Mtime,
    memory: &mut Memory,
) -> Step {
    let stand = session.stand(path)?;
    let set_before = match stand {
        Stand::File(stamp) => memory.deciding.is_some() && stamp.mtime == mtime.parts().0,
        Stand::Absent | Stand::Folder | Stand::Other => false,
    };
    if !set_before && stand.version() != Some(expect) {
        return Ok(Err(Refusal::Changed));
    }
    let Stand::File(before) = stand else {
        return Ok(Err(Refusal::Changed));
    };
    memory.deciding = Some(expect);
    let at = session.at(Some(path));
    session.set_time(&at, mtime)?;
    // A server that can't set times leaves it as it is, and that is all right: times are hints.
    Ok(match session.stand(path)? {
        Stand::File(after) if after.size == before.size => Ok(after.version()),
        Stand::File(_) | Stand::Absent | Stand::Folder | Stand::Other => Err(Refusal::Changed),
    })
}

fn meets(stand: Stand, expect: Expect) -> bool {
    match (stand, expect) {
        (Stand::Absent, Expect::Absent) => true,
        (Stand::File(stamp), Expect::Version(version)) => stamp.version() == version,
        (Stand::Absent, Expect::Version(_)) => false,
        (Stand::File(_), Expect::Absent) => false,
        (Stand::Folder | Stand::Other, Expect::Absent | Expect::Version(_)) => false,
    }
}

/// Names that FTP's one-line commands and listings don't carry safely.
fn check_name(session: &mut Session, path: &RelPath) -> Result<Result<(), Refusal>, RemoteError> {
    if path.names().any(|name| name.ends_with(' ')) {
        let why = "an FTP server may cut off the space at its end";
        return Ok(Err(Refusal::Name(why.into())));
    }
    if path.names().any(|name| name.starts_with('.')) && !session.shows_dots()? {
        let why = "this server's listings hide names that begin with a dot";
        return Ok(Err(Refusal::Name(why.into())));
    }
    Ok(Ok(()))
}

/// What a refusal to make something in a folder means.
fn why_not_stored(
    session: &mut Session,
    parent: Option<&RelPath>,
    reply: &Reply,
) -> Result<Refusal, RemoteError> {
    if let Some(parent) = parent
        && !matches!(reply.code, 452 | 552)
        && session.stand(parent)? == Stand::Absent
    {
        return Ok(Refusal::NoParent);
    }
    Ok(refused(reply))
}

fn refused(reply: &Reply) -> Refusal {
    match reply.code {
        452 | 552 => Refusal::NoSpace,
        532 => Refusal::Denied,
        _ => Refusal::Failed(format!("the server refused it: {reply}")),
    }
}
