//! Rounds of a workstation.

use super::tracer::{Next, Tracer, Whose};
use super::{Shared, World};
use crate::place::{Place, digest, files_of, visible};
use crate::scenario::{Call, Edit, Fault, Look, Sync, Who};
use anyhow::ensure;
use serde_json::Value;
use std::io::{Read, Seek};
use std::process::{Command, Output, Stdio};

/// How a Rust program ends that panicked.
const PANICKED: i32 = 101;

/// What a round came to, as the client says it to scripts.
#[derive(Debug)]
pub(super) struct Report {
    code: i32,
    json: Value,
    stderr: String,
}

/// What a process does at its n-th call.
#[derive(Debug)]
enum Point {
    Die,
    Edit(Who, Edit),
}

/// A round of a workstation with what goes wrong in it; what it came to, if its process lived.
pub(super) fn round(shared: &Shared, sync: &Sync) -> anyhow::Result<Option<Report>> {
    let (mut command, points) = {
        let mut world = shared.lock();
        if sync.look != Look::Everywhere {
            world.skip("a round that looks only where it was told");
        }
        let points = world.points(sync);
        let workstation = &world.stations[sync.station].workstation;
        (workstation.command(&["sync", "--json"]), points)
    };
    if sync.confirmed {
        command.args(["--confirm-deletions", "--confirm-changes"]);
    }
    let report = if points.is_empty() {
        Report::of(&command.stdin(Stdio::null()).output()?)
    } else {
        traced(shared, command, points)?
    };
    if let Some(report) = &report {
        shared.lock().hear(sync, report)?;
    }
    Ok(report)
}

/// A round in which processes stop at calls.
fn traced(
    shared: &Shared,
    mut command: Command,
    mut points: Vec<(Whose, u32, Point)>,
) -> anyhow::Result<Option<Report>> {
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.env(HELD, "1").stdin(Stdio::piped());
    command
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?);
    let mut client = command.spawn()?;
    let mut tracer = Tracer::default();
    let mut allowed = tracer.begin(Whose::Client, client.id())?;
    let daemon = points.iter().any(|(whose, ..)| *whose == Whose::Daemon);
    if allowed && daemon {
        let world = shared.lock();
        allowed = !world.up || tracer.begin(Whose::Daemon, world.appliance.pid())?;
    }
    // It has waited for that; see `hold`.
    drop(client.stdin.take());
    if !allowed {
        shared.lock().skip("tracing, which isn't allowed here");
        client.wait()?;
        return Ok(None);
    }
    let code = loop {
        match tracer.next()? {
            Next::Ended(Whose::Client, code) => break code,
            Next::Ended(Whose::Daemon, _) => shared.lock().appliance_died(),
            Next::Call(whose, call, pid) => {
                let here = |(of, at, _): &(Whose, u32, Point)| *of == whose && *at == call;
                while let Some(index) = points.iter().position(here) {
                    match points.swap_remove(index).2 {
                        Point::Die => tracer.kill(whose)?,
                        Point::Edit(who, edit) => {
                            let mut world = shared.lock();
                            world.fault("edit under the hands");
                            world.edit(who, &edit)?;
                        }
                    }
                }
                tracer.go_on(pid)?;
            }
        }
    };
    if tracer.end()?.contains(&Whose::Daemon) {
        shared.lock().appliance_died();
    }
    let Some(code) = code else {
        let mut world = shared.lock();
        world.fault("client killed");
        world.oracle.forgetful = true;
        return Ok(None);
    };
    let mut said = [Vec::new(), Vec::new()];
    for (file, said) in [&mut stdout, &mut stderr].into_iter().zip(&mut said) {
        file.rewind()?;
        file.read_to_end(said)?;
    }
    Ok(Some(Report::new(code, &said[0], &said[1])))
}

/// Set for a client that has to wait until it is traced.
const HELD: &str = "RASPBOX_SIM_HELD";

/// Waits for the end of the input where a process was started to be traced. To be called before it
/// does anything.
pub fn hold() {
    if std::env::var_os(HELD).is_some() {
        // Nothing comes; that it ends is all that matters.
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    }
}

impl World {
    /// What of a round's faults can be made to happen.
    fn points(&mut self, sync: &Sync) -> Vec<(Whose, u32, Point)> {
        let mut points = Vec::new();
        for fault in &sync.faults {
            let (whose, at, call) = match fault {
                Fault::Disk(at, call) => (Whose::Client, at, call),
                Fault::Drive(at, call) => (Whose::Daemon, at, call),
                Fault::Net(..) => {
                    self.skip("a fault of the network");
                    continue;
                }
            };
            match call {
                Call::Die(_) => points.push((whose, *at, Point::Die)),
                // FTP would need the daemon, which may stand still.
                Call::Edit(who, edit) if *who != Who::Ftp => {
                    points.push((whose, *at, Point::Edit(*who, edit.clone())));
                }
                Call::Edit(..) => self.skip("an edit by FTP in the middle of a call"),
                Call::Full | Call::Fail | Call::TooMany | Call::Deny => {
                    self.skip("an error of a disk");
                }
            }
        }
        points
    }

    /// The daemon was killed, and was waited for.
    fn appliance_died(&mut self) {
        self.fault("appliance killed");
        self.oracle.forgetful = true;
        self.ftp = None;
        self.up = false;
    }

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
    /// What a process said; nothing where it was killed.
    fn of(output: &Output) -> Option<Report> {
        let code = output.status.code()?;
        Some(Report::new(code, &output.stdout, &output.stderr))
    }

    fn new(code: i32, stdout: &[u8], stderr: &[u8]) -> Report {
        let all: Value = serde_json::from_slice(stdout).unwrap_or_default();
        Report {
            code,
            json: all[0].clone(),
            stderr: String::from_utf8_lossy(stderr).into_owned(),
        }
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
