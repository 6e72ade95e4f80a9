//! `raspbox status`, and what it is made of.

use crate::cli::Exit;
use crate::display::{conclusion, describe};
use crate::engine::SyncError;
use crate::pairs::{Pair, Pairs, write_whole};
use crate::report::Summary;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) fn run(pairs: &Pairs, as_json: bool) -> anyhow::Result<Exit> {
    let all = pairs.all()?;
    let statuses: Vec<Value> = all.iter().map(|pair| read(pairs, pair)).collect();
    if as_json {
        println!("{}", serde_json::to_string_pretty(&statuses)?);
        return Ok(worst(&statuses));
    }
    if all.is_empty() {
        println!("nothing is paired yet. Begin with: raspbox pair HOST");
    }
    for (pair, status) in all.iter().zip(&statuses) {
        println!(
            "{} with {} as '{}'",
            pair.folder.display(),
            pair.with.name(),
            pair.device
        );
        match status["at"]
            .as_i64()
            .and_then(|at| jiff::Timestamp::from_second(at).ok())
        {
            Some(at) => {
                let at = at.to_zoned(jiff::tz::TimeZone::system());
                let message = status["message"].as_str().unwrap_or_default();
                println!("  {}: {message}", at.strftime("%Y-%m-%d %H:%M:%S"));
            }
            None => println!("  never synced yet"),
        }
        for list in ["conflicts", "problems"] {
            for line in status[list].as_array().into_iter().flatten() {
                println!("  {}", line.as_str().unwrap_or_default());
            }
        }
    }
    Ok(worst(&statuses))
}

/// Keeps what a round came to, for `status` to show.
pub(crate) fn record(pairs: &Pairs, pair: &Pair, result: &Result<Summary, SyncError>) {
    let text = as_json(pair, result).to_string();
    // Only what is shown depends on it.
    if let Err(error) = write_whole(&pairs.status_file(pair), text.as_bytes()) {
        tracing::warn!(%error, "cannot write the status");
    }
}

/// A round's result as scripts read it.
pub(crate) fn as_json(pair: &Pair, result: &Result<Summary, SyncError>) -> Value {
    let at = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs());
    let mut value = json!({
        "folder": pair.folder,
        "with": pair.with.name(),
        "device": pair.device,
        "at": at,
    });
    let more = match result {
        Ok(summary) => json!({
            "result": if summary.needs_attention() { "attention" } else { "in-sync" },
            "message": conclusion(&pair.folder, summary),
            "sent": summary.pushed,
            "received": summary.pulled,
            "moved": summary.moved,
            "deleted": summary.deleted,
            "sent_bytes": summary.sent_bytes,
            "spared_bytes": summary.spared_bytes,
            "received_bytes": summary.received_bytes,
            "conflicts": summary.conflicts.iter()
                .map(|(path, copy)| format!("conflict {path}: yours is {copy}"))
                .collect::<Vec<_>>(),
            "problems": summary.problems.iter().map(describe)
                .chain(summary.unsyncable.iter().map(|(name, why)| {
                    format!("{name} can't be synced: {why}")
                }))
                .collect::<Vec<_>>(),
        }),
        Err(error) => json!({
            "result": match error {
                SyncError::Halt(_) => "halted",
                SyncError::Remote(_) | SyncError::State(_) | SyncError::Record(_)
                | SyncError::Local { .. } => "failed",
            },
            "message": error.to_string(),
        }),
    };
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

fn read(pairs: &Pairs, pair: &Pair) -> Value {
    let status = std::fs::read_to_string(pairs.status_file(pair)).ok();
    status
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_else(
            || json!({ "folder": pair.folder, "with": pair.with.name(), "device": pair.device }),
        )
}

fn worst(statuses: &[Value]) -> Exit {
    statuses
        .iter()
        .map(|status| match status["result"].as_str() {
            Some("in-sync") | None => Exit::InSync,
            Some("halted") => Exit::Halted,
            Some(_) => Exit::Attention,
        })
        .max()
        .unwrap_or(Exit::InSync)
}
