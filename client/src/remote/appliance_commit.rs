//! One commit on its way to an appliance: what it says of its parts, the stream, and what became of it.

use super::RemoteError;
use super::appliance::{read_trouble, retrieve};
use super::connection::Reply;
use super::control::{Control, Data};
use super::streams::{self, Draft};
use raspbox_beneath::File;
use raspbox_protocol::Version;
use raspbox_protocol::commit::{Op, Outcome, PART_MIN_BYTES, Refusal};
use raspbox_protocol::compressed::CompressedWriter;
use raspbox_protocol::special::{CommitSummary, Form, Receipt, RequestId, SITE, Special, Stretch};
use std::io::{self, BufReader};
use std::time::Duration;

/// How fast the appliance copies what it restores, at least. The slowest sticks write 3 MB/s.
const COPIED_BYTES_PER_SECOND: u64 = 1 << 20;

/// What became of a commit.
pub(super) struct Settled {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) alone: Option<Stretch>,
}

pub(super) fn send_commit<C: Control>(
    connection: &mut C,
    (id, form): (RequestId, Form),
    ops: &[Op],
    draft: &mut Draft,
    open: &mut dyn FnMut(usize) -> io::Result<File>,
    progress: &mut dyn FnMut(u64),
) -> Result<Settled, RemoteError> {
    let mut stream = match connection.transfer(&format!("STOR {}", Special::Commit(id, form)), 0)? {
        Ok(stream) => stream,
        Err(reply) => return refused_whole(connection, &reply, draft.sent()),
    };
    let sent = match form {
        Form::Plain => streams::write_commit(&mut stream, ops, draft, open, progress),
        Form::Zstd => CompressedWriter::new(&mut stream)
            .and_then(|mut to| streams::write_commit(&mut to, ops, draft, open, progress)),
    };
    let reply = match sent {
        Ok(()) => stream.finish_upload_within(work(ops, draft, form))?,
        Err(error) => stream.why_broken(&error)?,
    };
    if !reply.is_done() {
        return refused_whole(connection, &reply, draft.sent());
    }
    outcomes(connection, id, draft.sent())?
        .ok_or_else(|| connection.nonsense("it took the changes and doesn't know of them"))
}

/// How long the appliance may take for what it copies by itself, or reads again to hash it, on a slow stick; and, where
/// it travelled compressed, for all that comes out of it: a disk image of zeros has gone in a moment.
fn work(ops: &[Op], draft: &Draft, form: Form) -> Duration {
    let copied: u64 = ops.iter().map(Op::copied_bytes).sum();
    let written: u64 = match form {
        Form::Zstd => ops
            .iter()
            .filter_map(Op::coming)
            .map(|(_, bytes)| bytes)
            .sum(),
        Form::Plain if draft.come_bytes() > 0 => whole_bytes(ops),
        Form::Plain => 0,
    };
    Duration::from_secs((copied + written) / COPIED_BYTES_PER_SECOND)
}

fn whole_bytes(ops: &[Op]) -> u64 {
    ops.iter().filter_map(whole).map(|file| file.size).sum()
}

/// The content that is sent as a whole for an operation.
fn whole(op: &Op) -> Option<&raspbox_protocol::File> {
    match op {
        Op::Put { file, .. } | Op::Keep { file, .. } => Some(file),
        Op::Patch { .. }
        | Op::Restore { .. }
        | Op::Symlink { .. }
        | Op::MakeFolder { .. }
        | Op::Delete { .. }
        | Op::Move { .. }
        | Op::SetMeta { .. } => None,
    }
}

/// Asks how much of each large content came before, in a commit that was cut.
pub(super) fn ask_parts<C: Control>(
    connection: &mut C,
    ops: &[Op],
    draft: &mut Draft,
) -> Result<(), RemoteError> {
    for (index, op) in ops.iter().enumerate() {
        let Some(file) = whole(op).filter(|file| file.size > PART_MIN_BYTES) else {
            continue;
        };
        let reply = connection.command(&format!("SITE {SITE} PART {}", file.digest))?;
        // Who may not write is told at each operation, and one that is older keeps nothing.
        let bytes = match reply.code {
            501 | 550 => 0,
            _ if !reply.is_done() => return Err(connection.trouble(&reply)),
            _ => reply.text.parse().map_err(|_| {
                let odd = super::peer::one_line(&reply.text);
                connection.nonsense(format!("how much came of a file isn't understood: {odd}"))
            })?,
        };
        draft.go_on_from(index, if bytes <= file.size { bytes } else { 0 });
    }
    Ok(())
}

/// A commit that wasn't taken at all: where it is about its content, each operation is refused.
fn refused_whole<C: Control>(
    connection: &C,
    reply: &Reply,
    sent: usize,
) -> Result<Settled, RemoteError> {
    match reply.code {
        452 | 552 => Ok(Settled {
            outcomes: vec![Outcome::Refused(Refusal::NoSpace); sent],
            alone: None,
        }),
        _ => Err(connection.trouble(reply)),
    }
}

/// What became of a commit; `None` where it isn't known.
pub(super) fn outcomes<C: Control>(
    connection: &mut C,
    id: RequestId,
    sent: usize,
) -> Result<Option<Settled>, RemoteError> {
    let reply = connection.command(&format!("SITE {SITE} RESULT {id}"))?;
    if reply.code == 550 {
        return Ok(None);
    }
    if !reply.is_done() {
        return Err(connection.trouble(&reply));
    }
    let odd = |what: &str| format!("what became of the changes isn't understood: {what}");
    let Receipt { summary, alone } = (reply.text.parse())
        .map_err(|_| connection.nonsense(odd(&super::peer::one_line(&reply.text))))?;
    let (ops, first) = match summary {
        CommitSummary::All { ops, first } => (ops, Some(first)),
        CommitSummary::Mixed { ops } => (ops, None),
    };
    if ops as usize != sent {
        return Err(connection.nonsense(odd(&format!("{ops} outcomes for {sent} changes"))));
    }
    if let Some(first) = first {
        let versions = (0..u64::from(ops)).map(|n| first.0.checked_add(n));
        let done = versions.map(|version| version.map(|v| Outcome::Done(Version(v))));
        let done: Option<Vec<Outcome>> = done.collect();
        return match done {
            Some(outcomes) => Ok(Some(Settled { outcomes, alone })),
            None => Err(connection.nonsense(odd("versions out of range"))),
        };
    }
    let mut stream = match connection.transfer(&retrieve(&Special::Result(id)), 0)? {
        Ok(stream) => stream,
        Err(reply) => return Err(connection.trouble(&reply)),
    };
    let outcomes = streams::read_outcomes(BufReader::new(&mut stream), sent)
        .map_err(|error| read_trouble(connection, "result", &error))?;
    stream.finish_download()?;
    Ok(Some(Settled { outcomes, alone }))
}
