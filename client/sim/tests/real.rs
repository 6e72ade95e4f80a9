//! The same scenarios on real folders, with a real `raspboxd` and real `raspbox` processes.
//!
//! `RASPBOX_REAL_SEEDS` is the number of seeds, for more than there is time for in every run.

use raspbox_sim::outcome::Outcome;
use raspbox_sim::scenario::Scenario;
use raspbox_sim::{agree, generate, real};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A seed takes a second or two, most of which is waiting for the disk.
const SEEDS: u64 = 20;
const THREADS: usize = 6;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_raspbox-sim"))
}

fn seeds(scenario: impl Fn(u64) -> Scenario) -> Vec<(String, Scenario)> {
    let count = std::env::var("RASPBOX_REAL_SEEDS");
    let count = count.map_or(SEEDS, |count| count.parse().expect("a number"));
    let named = |seed| (format!("seed {seed}"), scenario(seed));
    (0..count).map(named).collect()
}

fn regressions() -> Vec<(String, Scenario)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let scenarios = std::fs::read_dir(folder)
        .expect("the scenarios")
        .map(|entry| {
            let path = entry.expect("the scenarios").path();
            let text = std::fs::read_to_string(&path).expect("a scenario");
            let scenario = serde_json::from_str(&text).expect("a scenario");
            (path.display().to_string(), scenario)
        });
    scenarios.collect()
}

/// Runs all, and says what was done; every run must be without a failure.
#[track_caller]
fn check(scenarios: &[(String, Scenario)], run: impl Fn(&Scenario) -> Outcome + Sync) {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((name, scenario)) =
                    scenarios.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let outcome = run(scenario);
                    outcomes.lock().expect("whole").push((name, outcome));
                }
            });
        }
    });
    let (mut faults, mut skipped) = (BTreeMap::new(), BTreeMap::new());
    let (mut steps, mut failures) = (0, Vec::new());
    for (name, outcome) in outcomes.into_inner().expect("whole") {
        steps += outcome.steps;
        let counts = [
            (&mut faults, outcome.faults),
            (&mut skipped, outcome.skipped),
        ];
        for (all, counts) in counts {
            for (kind, count) in counts {
                *all.entry(kind).or_insert(0) += count;
            }
        }
        if let Some(failure) = outcome.failure {
            failures.push(format!("{name}: {failure}\n{}", outcome.trace.join("\n")));
        }
    }
    println!("{} scenarios, {steps} steps", scenarios.len());
    println!("faults {faults:?}, left out {skipped:?}");
    assert!(steps > 0);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn simulation_and_reality_come_to_the_same_where_nothing_goes_wrong() {
    let scenarios = [seeds(generate::peaceful), regressions()].concat();
    check(&scenarios, |scenario| agree::agree(program(), scenario));
}

#[test]
fn what_must_hold_holds_in_reality_where_things_go_wrong() {
    let scenarios = [seeds(generate::scenario), regressions()].concat();
    check(&scenarios, |scenario| real::run(program(), scenario, true));
}
