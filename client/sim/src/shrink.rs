//! Makes a failing scenario small: what isn't needed for the failure is left out.

use crate::scenario::{Scenario, Step};
use crate::world;

/// How often a smaller scenario is tried.
const TRIES_MAX: usize = 2_000;

/// The same with real processes, of which one run takes seconds.
const REAL_TRIES_MAX: usize = 100;

/// The same kind of failure with as few steps and faults as are found.
#[must_use]
pub fn shrink(scenario: &Scenario) -> Scenario {
    by(scenario, TRIES_MAX, |scenario| {
        world::run(scenario, false).failure
    })
}

/// The same for a failure of real processes, which `run` finds.
pub fn shrink_real(scenario: &Scenario, run: impl Fn(&Scenario) -> Option<String>) -> Scenario {
    by(scenario, REAL_TRIES_MAX, run)
}

fn by(
    scenario: &Scenario,
    tries_max: usize,
    run: impl Fn(&Scenario) -> Option<String>,
) -> Scenario {
    let Some(failure) = run(scenario) else {
        return scenario.clone();
    };
    let kind = kind(&failure).to_owned();
    let mut tries = 0;
    let mut fails = |candidate: &Scenario| {
        tries += 1;
        tries < tries_max && run(candidate).is_some_and(|failure| self::kind(&failure) == kind)
    };
    let mut best = scenario.clone();
    // Whole runs of steps first, then ever shorter ones, as delta debugging does (Zeller, 1999).
    let mut len = best.steps.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < best.steps.len() {
            let mut candidate = best.clone();
            let end = (at + len).min(candidate.steps.len());
            candidate.steps.drain(at..end);
            if fails(&candidate) {
                best = candidate;
            } else {
                at += len;
            }
        }
        if len == 1 {
            break;
        }
        len = len.div_ceil(2);
    }
    for at in 0..best.steps.len() {
        while let Some(candidate) = simpler(&best, at) {
            if !fails(&candidate) {
                break;
            }
            best = candidate;
        }
    }
    while best.stations.len() > 1 && !mentions(&best, best.stations.len() - 1) {
        let mut candidate = best.clone();
        candidate.stations.pop();
        if !fails(&candidate) {
            break;
        }
        best = candidate;
    }
    best
}

/// The scenario with one fault less in this step.
fn simpler(scenario: &Scenario, at: usize) -> Option<Scenario> {
    let mut candidate = scenario.clone();
    match candidate.steps.get_mut(at)? {
        Step::Sync(sync) => {
            sync.faults.pop()?;
            Some(candidate)
        }
        _ => None,
    }
}

fn mentions(scenario: &Scenario, station: usize) -> bool {
    let text = serde_json::to_string(&scenario.steps).expect("steps print");
    [
        format!("\"Station\":{station}"),
        format!("\"station\":{station}"),
        format!("\"Sync\":{station}"),
        format!("\"Restart\":{station}"),
        format!("\"PowerCut\":[{station}"),
        format!("State\":{station}"),
        format!("\"Deny\":[{station}"),
        format!("\"Clock\":[{}", station + 1),
    ]
    .iter()
    .any(|mention| text.contains(mention))
}

/// What comes before the first colon: the invariant.
fn kind(failure: &str) -> &str {
    failure.split(':').next().unwrap_or(failure)
}
