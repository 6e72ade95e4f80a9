//! Rounds of a workstation, what goes wrong in them, and what they tell.

use super::edits::carry_out;
use super::{PAIR, Round, with};
use crate::scenario::{Edit, Fault, Look, Net, Sync, Who};
use crate::server::{Endpoint, Session};
use raspbox::engine::{Engine, Options, Scope, SyncError};
use raspbox::remote::appliance::ApplianceOver;
use raspbox::report::{Deed, Event, Summary};
use raspbox_core::guard::Allowances;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A round of a workstation; what it came to, where it came to an end.
pub(super) fn round(sync: &Sync, strict: bool) -> Option<Result<Summary, SyncError>> {
    let number = sync.station;
    let (machine, disk_at) = with(|world| {
        let station = &world.stations[number];
        (station.machine.clone(), station.disk.at(""))
    });
    arm(sync);
    let engine = with(|world| world.stations[number].engine.take());
    let opened = match engine {
        Some(engine) => Ok(engine),
        None => machine.on(|| open_engine(number, &disk_at)),
    };
    let mut engine = match opened {
        Ok(engine) => engine,
        Err(error) => {
            disarm(number);
            with(|world| world.say(|| format!("  station {number} can't start: {error}")));
            return Some(Err(error));
        }
    };
    let scope = scope(number, sync.look);
    let options = Options {
        dry_run: false,
        allow: Allowances {
            deletions: if sync.confirmed { usize::MAX } else { 0 },
            changes: if sync.confirmed { usize::MAX } else { 0 },
        },
    };
    let result = machine.on(|| engine.round(&scope, options, &mut |event| heard(number, &event)));
    disarm(number);
    with(|world| {
        world.say(|| match &result {
            Ok(summary) => format!(
                "  station {number}: {} up, {} down, {} moved, {} deleted, {} conflicts, \
                 problems {:?}",
                summary.pushed,
                summary.pulled,
                summary.moved,
                summary.deleted,
                summary.conflicts.len(),
                summary.problems
            ),
            Err(error) => format!("  station {number}: {error}"),
        });
        let station = &mut world.stations[number];
        if !station.disk.is_dead() {
            station.engine = Some(engine);
            if strict || sync.look != Look::Lost {
                station.dirty.clear();
            }
        }
    });
    Some(result)
}

fn open_engine(number: usize, at: &Path) -> Result<Engine, SyncError> {
    let remote = ApplianceOver::<Session>::new(Endpoint { station: number });
    Engine::open(
        &at.join("folder"),
        PAIR,
        &format!("station{number}"),
        &database(at),
        Box::new(remote),
    )
}

fn database(at: &Path) -> PathBuf {
    at.join("state").join("state.db")
}

fn scope(number: usize, look: Look) -> Scope {
    with(|world| match look {
        Look::Everywhere => Scope::All,
        Look::Watched => Scope::Paths(world.stations[number].dirty.clone()),
        Look::Lost => {
            world.fault("events lost");
            Scope::Paths(BTreeSet::new())
        }
    })
}

/// Sets up what goes wrong in a round.
fn arm(sync: &Sync) {
    with(|world| {
        let mut net = Vec::new();
        for fault in &sync.faults {
            match fault {
                Fault::Net(at, what) => net.push((*at, what.clone())),
                Fault::Disk(at, call) => world.stations[sync.station].disk.arm(*at, call),
                Fault::Drive(at, call) => {
                    if let Some(drive) = world.drive() {
                        drive.arm(*at, call);
                    }
                }
            }
        }
        world.rounds.push(Round {
            station: sync.station,
            events: 0,
            net,
        });
    });
}

fn disarm(number: usize) {
    with(|world| {
        world.rounds.pop();
        let mut hit = world.stations[number].disk.disarm();
        if world.rounds.is_empty()
            && let Some(drive) = world.drive()
        {
            hit.extend(drive.disarm());
        }
        for kind in hit {
            world.fault(kind);
        }
    });
}

/// The hand of somebody at the n-th call on a disk.
pub(crate) fn edit_at_call(who: Who, edit: &Edit) {
    with(|world| world.fault("edit under the hands"));
    carry_out(who, edit);
}

fn heard(number: usize, event: &Event<'_>) {
    with(|world| match event {
        Event::Did(deed, path) => {
            world.say(|| format!("    station {number} {deed:?} {path}"));
            let denied = world.stations[number].denied.iter().any(|denied| {
                path.as_str() != denied && path.as_str().starts_with(&format!("{denied}/"))
            });
            if denied && matches!(deed, Deed::PushedDelete) {
                world.judge(Err(format!(
                    "no deletion from an unread folder: {path} of station {number}"
                )));
            }
        }
        Event::Conflict(path, copy) => {
            world.say(|| format!("    station {number}: {path} is also {copy}"));
            let here = world.stations[number].disk.files("folder", false);
            let there = world.drive().map(|drive| drive.files("", false));
            let there = there.and_then(|files| files.get(path.as_str()).copied());
            if let (Some(copy), Some(there)) = (here.get(copy.as_str()), there) {
                let verdict = world
                    .oracle
                    .no_spurious_conflict(path.as_str(), copy, &there);
                world.judge(verdict);
            }
        }
        Event::NewJournal => {
            world.oracle.forgetful = true;
            world.say(|| format!("    station {number}: another journal"));
        }
        Event::Recovered(path) => world.say(|| format!("    station {number} recovered {path}")),
        Event::Trouble(problem) => {
            world.say(|| format!("    station {number}: {}: {:?}", problem.path, problem.what));
        }
        Event::Reading(..)
        | Event::Planned(_)
        | Event::Sent(_)
        | Event::Spared(_)
        | Event::Received(_) => {}
    });
}

/// What happens to the next thing that goes over the network.
pub(crate) fn net_event() -> Option<Net> {
    let fate = with(|world| {
        let round = world.rounds.last_mut()?;
        let at = round.events;
        round.events += 1;
        let index = round.net.iter().position(|(n, _)| *n == at)?;
        let (_, fate) = round.net.swap_remove(index);
        let kind = match &fate {
            Net::Cut(_) => "connection cut",
            Net::LoseReply => "reply lost",
            Net::Late => "request late",
            Net::Double => "request doubled",
            Net::Busy => "server busy",
            Net::Edit(..) => "edit meanwhile",
            Net::Sync(_) => "sync meanwhile",
        };
        world.fault(kind);
        Some(fate)
    })?;
    match &fate {
        Net::Edit(who, edit) => carry_out(*who, edit),
        Net::Sync(station) => {
            let free = with(|world| {
                let depth = world.rounds.len();
                depth < 3 && !world.rounds.iter().any(|round| round.station == *station)
            });
            if free {
                round(
                    &Sync {
                        station: *station,
                        look: Look::Everywhere,
                        confirmed: false,
                        faults: Vec::new(),
                    },
                    false,
                );
            }
        }
        _ => return Some(fate),
    }
    None
}
