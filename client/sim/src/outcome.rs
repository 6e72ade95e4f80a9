//! What a run came to, simulated or real.

use crate::place::{Tree, describe, digest};
use std::collections::BTreeMap;

/// What a run came to.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    /// What was wrong, if anything.
    pub failure: Option<String>,
    /// What happened, line by line, where that was asked for.
    pub trace: Vec<String>,
    /// A hash of all that happened, asked for or not.
    pub fingerprint: u64,
    /// Steps of the scenario that were carried out.
    pub steps: u64,
    /// Calls on the disks.
    pub calls: u64,
    /// Faults that took effect, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// What the real world can't do, by kind, and how often it was asked to.
    pub skipped: BTreeMap<&'static str, u64>,
    /// What everybody had after each step and at the end, where a trace was asked for.
    pub seen: Vec<Seen>,
}

/// What stood where, in words: each path begins with whose it is.
pub type Seen = BTreeMap<String, String>;

/// Adds what one side has.
pub(crate) fn add_to(seen: &mut Seen, whose: &str, tree: &Tree) {
    for (path, node) in tree {
        let what = match digest(node) {
            Some(digest) => format!("{} ({digest})", describe(Some(node))),
            None => describe(Some(node)),
        };
        seen.insert(format!("{whose}: {}", undated(path)), what);
    }
}

/// A path without the date of a conflict copy: the simulated year is another one.
fn undated(path: &str) -> String {
    let is_date = |part: &[u8]| {
        let shape = part.iter().zip(b"0000-00-00");
        shape.into_iter().all(|(byte, like)| match like {
            b'0' => byte.is_ascii_digit(),
            _ => byte == like,
        })
    };
    let found = path.as_bytes().windows(10).position(is_date);
    found.map_or_else(
        || path.to_owned(),
        |at| format!("{}DATE{}", &path[..at], &path[at + 10..]),
    )
}

#[cfg(test)]
mod tests {
    use super::undated;

    #[test]
    fn a_conflict_copy_is_the_same_on_any_day() {
        for (path, expect) in [
            ("x/a", "x/a"),
            ("\u{e9} 2026-11-2", "\u{e9} 2026-11-2"),
            ("x/a (conflict b 2026-11-22).c", "x/a (conflict b DATE).c"),
            (
                "\u{e9} (conflict b 2026-01-01 2)",
                "\u{e9} (conflict b DATE 2)",
            ),
        ] {
            assert_eq!(undated(path), expect);
        }
    }
}
