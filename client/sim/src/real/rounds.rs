//! Rounds of a workstation.

use super::{Shared, World};
use crate::place::{Place, digest, files_of, visible};
use crate::scenario::{Look, Sync};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::process::{Output, Stdio};

/// How a Rust program ends that panicked.
const PANICKED: i32 = 101;

/// What a round came to, as the client says it to scripts.
#[derive(Debug)]
pub(super) struct Report {
    code: i32,
    json: Value,
    stderr: String,
}

/// A round of a workstation with what goes wrong in it; what it came to, if its process lived.
pub(super) fn round(shared: &Shared, sync: &Sync) -> anyhow::Result<Option<Report>> {
    let mut command = {
        let mut world = shared.lock();
        if sync.look != Look::Everywhere {
            world.skip("a round that looks only where it was told");
        }
        for _ in &sync.faults {
            world.skip("a fault in a round");
        }
        world.stations[sync.station]
            .workstation
            .command(&["sync", "--json"])
    };
    if sync.confirmed {
        command.args(["--confirm-deletions", "--confirm-changes"]);
    }
    let output = command.stdin(Stdio::null()).output()?;
    let report = Report::of(&output).context("what sync says")?;
    shared.lock().hear(sync, &report)?;
    Ok(Some(report))
}

impl World {
    fn hear(&mut self, sync: &Sync, report: &Report) -> anyhow::Result<()> {
        let number = sync.station;
        self.say(|| format!("  station {number}: {} {}", report.code, report.words()));
        ensure!(
            report.code != PANICKED,
            "panic: station {number}: {}",
            report.stderr
        );
        if sync.faults.is_empty() {
            self.check_conflicts(number, report);
        }
        Ok(())
    }

    fn check_conflicts(&mut self, number: usize, report: &Report) {
        let Some(drive) = self.drive() else { return };
        let here = self.station(number).tree();
        let there = files_of(visible(drive.tree()));
        for line in report.list("conflicts") {
            let path = line.strip_prefix("conflict ");
            let Some((path, copy)) = path.and_then(|line| line.split_once(": yours is ")) else {
                self.judge(Err(format!("nonsense: {line}")));
                continue;
            };
            let copy = here.get(copy).and_then(digest);
            if let (Some(copy), Some(there)) = (copy, there.get(path)) {
                let verdict = self.oracle.no_spurious_conflict(path, &copy, there);
                self.judge(verdict);
            }
        }
    }
}

impl Report {
    fn of(output: &Output) -> Option<Report> {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code()?;
        let all: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        Some(Report {
            code,
            json: all[0].clone(),
            stderr,
        })
    }

    /// Whether it was a whole round.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.json["result"].as_str(), Some("in-sync" | "attention"))
    }

    /// Whether it stopped since another drive is there.
    pub(super) fn is_other_drive(&self) -> bool {
        self.json["result"] == "halted" && self.message().contains("has another drive")
    }

    /// Whether nothing went in any direction.
    pub(super) fn is_quiet(&self) -> bool {
        let counts = [
            "sent",
            "received",
            "moved",
            "deleted",
            "sent_bytes",
            "received_bytes",
        ];
        counts.iter().all(|count| self.json[*count] == 0) && self.list("conflicts").is_empty()
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let list = self.json[name].as_array().map_or(&[][..], Vec::as_slice);
        let words = list.iter().filter_map(Value::as_str);
        words.map(str::to_owned).collect()
    }

    pub(super) fn words(&self) -> String {
        let lists = ["conflicts", "problems"].map(|name| self.list(name).join("; "));
        let [conflicts, problems] = lists;
        let stderr = self.stderr.trim();
        format!("{} [{conflicts}] [{problems}] {stderr}", self.message())
    }

    fn message(&self) -> &str {
        self.json["message"].as_str().unwrap_or_default()
    }
}
