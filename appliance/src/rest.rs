//! What is kept to be quicker for the next one, freed once nobody has come for a while.
//!
//! After a crowd the daemon would hold, for years perhaps, tens of MiB that nobody uses: the buffers of sessions
//! that stay, the caches of the journal's connections, and what the C library keeps between what is in use.

use crate::drive::slot::Serving;
use crate::idle::{Idle, Leave};
use crate::shared::Shared;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long nobody must have asked for anything: who works through a folder, or syncs every second, is not
/// made to wait for caches to fill again.
const AFTER: Duration = Duration::from_secs(5);

/// How often it is looked whether somebody has.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Begins to free it, each time it has become quiet, until the jobs are dropped.
pub(crate) fn begin(shared: &Arc<Shared>) -> std::io::Result<Idle> {
    let idle = Idle::new(&shared.registry);
    let shared = Arc::clone(shared);
    idle.begin("rest", move |leave| run(leave, &shared))?;
    Ok(idle)
}

fn run(leave: &Leave, shared: &Shared) {
    let registry = &shared.registry;
    let mut last = (registry.admitted(), Instant::now());
    // How many there were when it was freed, until somebody asks for something again.
    let mut freed: Option<usize> = None;
    while leave.pause(LOOK_INTERVAL) {
        let now = Instant::now();
        // Who came and has gone again is in no session that could be asked.
        let admitted = registry.admitted();
        if admitted != last.0 {
            last = (admitted, now);
        }
        let quiet = registry.idle(now).min(now - last.1);
        let there = registry.len();
        if quiet < AFTER {
            freed = None;
        } else if freed.is_none_or(|then| there < then) {
            // Once more for those who had gone without a word, and whose sessions have ended since.
            empty(shared);
            freed = Some(there);
        }
    }
}

fn empty(shared: &Shared) {
    for session in shared.registry.all() {
        session.free_buffers();
    }
    if let Serving::All { store, .. } = &*shared.slot.now() {
        store.empty_caches();
    }
    let given = raspbox_heap::give_back();
    let in_use_kib = raspbox_heap::in_use_bytes().map(|bytes| bytes >> 10);
    tracing::debug!(given, in_use_kib, "nobody is there: caches emptied");
}
