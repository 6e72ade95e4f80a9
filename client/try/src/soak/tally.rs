//! What everybody did, in numbers.

use anyhow::ensure;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How often what happened, and what should not have.
#[derive(Default)]
pub(crate) struct Tally {
    counts: Mutex<BTreeMap<&'static str, u64>>,
    wrong: Mutex<Vec<String>>,
}

/// The most that is kept of what should not have happened.
const WRONG_MAX: usize = 20;

impl Tally {
    pub(crate) fn count(&self, what: &'static str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what).or_default() += 1;
    }

    /// Something was otherwise than it must be.
    pub(crate) fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.len() < WRONG_MAX {
            wrong.push(what);
        }
    }

    pub(crate) fn print(&self) {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (what, count) in &*counts {
            println!("{count:>10}  {what}");
        }
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }
}
