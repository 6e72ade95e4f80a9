//! `raspbox history`.

use crate::cli::{Exit, History};
use crate::commands::{Unusable, locate, remote};
use crate::display::human_bytes;
use crate::pairs::{Pair, Pairs, With};
use crate::remote::Remote;
use crate::times::Clocks;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use raspbox_protocol::history::{How, Past};
use raspbox_protocol::special::Clock;
use raspbox_protocol::{Entry, RelPath};
use serde_json::{Value, json};

pub(crate) fn run(pairs: &Pairs, args: &History) -> anyhow::Result<Exit> {
    let (pair, path) = locate(pairs, &args.path)?;
    let mut remote = remote(&pair);
    let (_, clocks) = clocks(&pair, &mut *remote)?;
    let Some(path) = path else {
        return Err(Unusable(format!(
            "{} is the whole folder. Name a file or folder in it",
            pair.folder.display()
        ))
        .into());
    };
    let history = remote.history(&path)?;
    if args.json {
        let all: Vec<Value> = history.iter().map(as_json).collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(Exit::InSync);
    }
    print(&path, &history, clocks);
    Ok(Exit::InSync)
}

/// The appliance's clock, and how it differs from ours.
///
/// # Errors
/// Where the other side keeps no versions.
pub(crate) fn clocks(pair: &Pair, remote: &mut dyn Remote) -> anyhow::Result<(Clock, Clocks)> {
    let none = || {
        Unusable(format!(
            "{} is an ordinary FTP server: it keeps no versions, so there is nothing to look at or to \
             bring back. An appliance does",
            pair.with.name()
        ))
    };
    if matches!(pair.with, With::Server { .. }) {
        return Err(none().into());
    }
    let clock = remote.clock()?.ok_or_else(none)?;
    Ok((clock, Clocks::compare(&clock, Timestamp::now())))
}

fn print(path: &RelPath, history: &[Past], clocks: Clocks) {
    let zone = TimeZone::system();
    if let Some(note) = clocks.note() {
        println!("({note})");
    }
    if history.is_empty() {
        println!("{path}: nothing is known of it. Is the name right?");
        return;
    }
    println!("{path}");
    println!(
        "{:>8}  {:<19}  {:<19}  {:>10}  made by",
        "N", "from", "until", "size"
    );
    for past in history {
        let number = past
            .number
            .map_or_else(|| "now".to_owned(), |number| number.to_string());
        let until = past
            .ended
            .as_ref()
            .map(|ended| clocks.here(ended.at, &zone));
        let what = match &past.entry {
            Entry::File(file) => human_bytes(file.size),
            Entry::Folder => "folder".into(),
            Entry::Symlink(_) => "symlink".into(),
        };
        println!(
            "{number:>8}  {:<19}  {:<19}  {what:>10}  {}{}",
            clocks.here(past.since, &zone),
            until.unwrap_or_default(),
            name(&past.by),
            what_became(past)
        );
    }
    let is_file = |past: &&Past| past.number.is_some() && matches!(past.entry, Entry::File(_));
    match history.iter().find(|past| is_file(past) && past.kept) {
        Some(past) => println!(
            "bring one back with: raspbox restore PATH --version {}",
            past.number.unwrap_or_default()
        ),
        None if history.iter().any(|past| past.entry == Entry::Folder) => {
            println!("bring a folder back with: raspbox restore PATH --at TIME");
        }
        None => {}
    }
}

fn what_became(past: &Past) -> String {
    let ended = past.ended.as_ref().map(|ended| {
        let by = name(&ended.by);
        match &ended.how {
            How::Replaced => format!(", replaced by {by}"),
            How::Deleted => format!(", deleted by {by}"),
            How::Moved(to) => format!(", moved to {to} by {by}"),
        }
    });
    let lost = if past.kept { "" } else { " (not kept)" };
    format!("{}{lost}", ended.unwrap_or_default())
}

fn name(by: &str) -> &str {
    if by.is_empty() {
        "somebody on the drive itself"
    } else {
        by
    }
}

/// Times are the appliance's own, in nanoseconds since 1970.
fn as_json(past: &Past) -> Value {
    let (kind, size) = match &past.entry {
        Entry::File(file) => ("file", file.size),
        Entry::Folder => ("folder", 0),
        Entry::Symlink(_) => ("symlink", 0),
    };
    let mut value = json!({
        "number": past.number,
        "kind": kind,
        "size": size,
        "by": past.by,
        "since_ns": past.since.0,
        "kept": past.kept,
    });
    if let (Some(ended), Value::Object(value)) = (&past.ended, &mut value) {
        value.insert("until_ns".into(), ended.at.0.into());
        value.insert("ended_by".into(), ended.by.clone().into());
        let (how, to) = match &ended.how {
            How::Replaced => ("replaced", None),
            How::Deleted => ("deleted", None),
            How::Moved(to) => ("moved", Some(to)),
        };
        value.insert("how".into(), how.into());
        if let Some(to) = to {
            value.insert("moved_to".into(), to.as_str().into());
        }
    }
    value
}
