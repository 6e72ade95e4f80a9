//! When old versions are let go: [`raspbox_store::Store::thin`] does it.
//!
//! Every hour, while nobody is served, in small pieces. Where the drive is full the store makes room
//! by itself, at once.

use crate::idle::Leave;
use raspbox_store::{Policy, Store};
use std::time::{Duration, Instant};

/// How soon after its start the daemon looks for the first time, so that a Pi that is on for an
/// evening does so too.
pub(crate) const FIRST: Duration = Duration::from_secs(600);

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Lets go of old versions until the daemon stops.
pub(crate) fn run(leave: &Leave, store: &Store, policy: Policy, first: Duration) {
    let mut looked_at = Instant::now();
    let mut wait = first;
    while leave.pause(wait) && leave.to_work() {
        let running = looked_at.elapsed();
        looked_at = Instant::now();
        match store.thin(&policy, running, &mut || leave.to_work()) {
            Ok(thinned) if thinned.versions > 0 => tracing::info!(
                versions = thinned.versions,
                bytes = thinned.bytes,
                "old versions were let go"
            ),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "old versions stay for now"),
        }
        wait = INTERVAL;
    }
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::idle::Idle;
    use crate::registry::{Caps, Registry};
    use raspbox_protocol::RelPath;
    use raspbox_store::{By, Faults, Options, Policy, Store};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::{Duration, Instant};

    #[test]
    fn what_is_old_is_let_go_while_nobody_is_served() {
        let day = Duration::from_secs(86_400);
        let clock = Arc::new(AtomicI64::new(5_000_000_000_000_000_000));
        let temp = tempfile::tempdir().unwrap();
        let faults = Faults {
            clock: Some(Arc::clone(&clock)),
            ..Faults::default()
        };
        let store = Store::open_with(temp.path(), Options { floor_bytes: 0 }, faults).unwrap();
        let path = RelPath::parse("a").unwrap();
        for _ in 0..4 {
            let mut staged = store.stage().unwrap();
            std::io::Write::write_all(&mut staged, b"x").unwrap();
            store.put(staged, &path, &By("me".into())).unwrap();
        }
        clock.fetch_add(
            i64::try_from((400 * day).as_nanos()).unwrap(),
            Ordering::Relaxed,
        );
        let policy = Policy::default();
        // Believes the clock, and does nothing else.
        store.thin(&policy, 36_500 * day, &mut || false).unwrap();
        assert_eq!(store.history(&path).unwrap().len(), 4);
        let registry = Arc::new(Registry::new(Caps {
            sessions_max: 1,
            sessions_per_address_max: 1,
        }));
        let idle = Idle::new(&registry);
        let here = store.clone();
        idle.begin("retention", move |leave| {
            run(leave, &here, policy, Duration::ZERO);
        })
        .unwrap();
        let deadline = Instant::now() + Duration::from_secs(180);
        while store.history(&path).unwrap().len() > 2 {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
}
