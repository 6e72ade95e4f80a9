//! Whether simulation and reality are the same, where nothing goes wrong.

use crate::outcome::{Outcome, Seen};
use crate::scenario::{Disk, Look, Scenario, Step, Sync, Who};
use crate::{real, world};
use std::path::Path;

/// How long people wait before they sync: a moment more than a file needs to be quiet. Without that
/// it would depend on this computer's speed what a round sees.
const PAUSE_MS: u64 = 150;
const PAUSE: Step = Step::Wait(PAUSE_MS);

/// Longer than a tick of any kernel's clock.
const TICK_MS: u64 = 20;
const TICK: Step = Step::Wait(TICK_MS);

/// A scenario without what goes wrong, and without what only one of the two worlds has.
#[must_use]
pub fn calm(scenario: &Scenario) -> Scenario {
    let mut steps = Vec::new();
    for step in &scenario.steps {
        match step {
            Step::Sync(sync) => {
                if steps.last() != Some(&PAUSE) {
                    steps.push(PAUSE);
                }
                steps.push(Step::Sync(Sync {
                    look: Look::Everywhere,
                    faults: Vec::new(),
                    ..sync.clone()
                }));
            }
            // A simulated edit takes no time; what two of them do to a file that raspboxd has looked
            // at in between would depend on the clock's tick.
            Step::Edit(Who::Drive, _) => {
                if steps.last() != Some(&TICK) {
                    steps.push(TICK);
                }
                steps.push(step.clone());
            }
            Step::Edit(..)
            | Step::Restart(_)
            | Step::ApplianceRestart
            | Step::LoseJournal
            | Step::SaveJournal
            | Step::RollBackJournal
            | Step::LoseState(_)
            | Step::SaveState(_)
            | Step::RollBackState(_)
            | Step::Settle => steps.push(step.clone()),
            Step::Wait(PAUSE_MS | TICK_MS) => steps.push(step.clone()),
            Step::Wait(_)
            | Step::PowerCut(..)
            | Step::AppliancePowerCut(_)
            | Step::Unplug
            | Step::Plug
            | Step::Swap
            | Step::Backup
            | Step::RestoreBackup
            | Step::Deny(..)
            | Step::Clock(..)
            | Step::Restore(..)
            | Step::Rot(_)
            | Step::Idle => {}
        }
    }
    Scenario {
        drive: Disk::Ext4,
        stations: vec![Disk::Ext4; scenario.stations.len()],
        steps,
        ..scenario.clone()
    }
}

/// Runs a scenario's calm form in both worlds: after each step, every path of every side must be the
/// same in both. Returns the real run, with the first difference as its failure.
#[must_use]
pub fn agree(program: &Path, scenario: &Scenario) -> Outcome {
    let scenario = calm(scenario);
    let simulated = world::run(&scenario, true);
    let mut outcome = real::run(program, &scenario, true);
    let failure = match (&simulated.failure, &outcome.failure) {
        (Some(failure), _) => Some(format!("in the simulation: {failure}")),
        (None, Some(failure)) => Some(failure.clone()),
        (None, None) => difference(&scenario, &simulated.seen, &outcome.seen),
    };
    if let Some(failure) = failure {
        let both = (["simulated:".to_owned()].into_iter().chain(simulated.trace))
            .chain(["real:".to_owned()])
            .chain(std::mem::take(&mut outcome.trace));
        outcome.trace = both.collect();
        outcome.failure = Some(failure);
    }
    outcome
}

fn difference(scenario: &Scenario, simulated: &[Seen], real: &[Seen]) -> Option<String> {
    for (number, (here, there)) in simulated.iter().zip(real).enumerate() {
        let path =
            (here.keys().chain(there.keys())).find(|path| here.get(*path) != there.get(*path));
        if let Some(path) = path {
            let after = match scenario.steps.get(number) {
                Some(step) => format!("after step {number}, {step:?}"),
                None => "at the end".into(),
            };
            let nothing = "nothing".to_owned();
            return Some(format!(
                "agreement: {after}, {path} is {} in the simulation and {} in reality",
                here.get(path).unwrap_or(&nothing),
                there.get(path).unwrap_or(&nothing),
            ));
        }
    }
    (simulated.len() != real.len()).then(|| "agreement: one of them took more steps".into())
}
