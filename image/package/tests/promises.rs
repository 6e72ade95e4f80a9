//! What `.github/SECURITY.md` promises is shown by tests that exist.

use std::fs;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Each test that a promise names, with the file that it is said to be in: `file.rs` `test` `test`.
fn named(promise: &str) -> Vec<(&str, &str)> {
    let mut file = None;
    let mut tests = Vec::new();
    // Every second piece stands between two backticks.
    for word in promise.split('`').skip(1).step_by(2) {
        if Path::new(word).extension().is_some_and(|end| end == "rs") {
            file = Some(word);
        } else if word.contains('_') && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            tests.extend(file.map(|file| (file, word)));
        }
    }
    tests
}

#[test]
fn every_test_that_shows_a_promise_is_there() {
    let text = fs::read_to_string(workspace().join(".github/SECURITY.md")).expect("the promises");
    let (_, promises) = text.split_once("## What is promised").expect("promises");
    let (promises, _) = promises
        .split_once("## What is not promised")
        .expect("an end to them");
    let mut all = Vec::new();
    for promise in promises.split("\n- ").skip(1) {
        let named = named(promise);
        assert!(!named.is_empty(), "shown by nothing: {promise}");
        all.extend(named);
    }
    assert!(all.len() > 50, "{}", all.len());
    for (file, test) in all {
        let code = fs::read_to_string(workspace().join(file))
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        let place = code.find(&format!("fn {test}()"));
        let before = place.map(|place| {
            code[..place]
                .trim_end()
                .trim_end_matches("async")
                .trim_end()
        });
        let attribute = before.and_then(|before| before.lines().next_back());
        assert!(
            attribute.is_some_and(|it| it.trim().starts_with("#[") && it.contains("test")),
            "{file} has no test {test}"
        );
    }
}
