//! Scenarios that once failed, each made as small as it gets, and what a run must always be.

use raspbox_sim::scenario::Scenario;
use raspbox_sim::{generate, world};
use std::path::Path;

#[test]
fn what_once_failed_does_not_fail_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the scenarios") {
        let path = entry.expect("the scenarios").path();
        let text = std::fs::read_to_string(&path).expect("a scenario");
        let scenario: Scenario = serde_json::from_str(&text).expect("a scenario");
        let outcome = world::run(&scenario, true);
        assert_eq!(
            outcome.failure,
            None,
            "{}:\n{}",
            path.display(),
            outcome.trace.join("\n")
        );
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        let scenario = generate::scenario(seed);
        assert_eq!(scenario, generate::scenario(seed));
        let (one, two) = (world::run(&scenario, true), world::run(&scenario, true));
        assert_eq!(one.trace, two.trace, "seed {seed}");
    }
}
