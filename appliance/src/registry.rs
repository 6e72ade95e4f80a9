//! All sessions: who may have one more, and how all are ended.

use crate::session::Session;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many sessions there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caps {
    /// In all.
    pub(crate) sessions_max: usize,
    /// From one address.
    pub(crate) sessions_per_address_max: usize,
}

/// Why there can't be one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// All places are taken.
    #[error("too many connections")]
    Total,
    /// The address has all that it may have.
    #[error("too many connections from your address")]
    Address,
}

/// The sessions that are open.
#[derive(Debug)]
pub(crate) struct Registry {
    caps: Caps,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    admitted: u64,
    sessions: HashMap<u64, Arc<Session>>,
    /// Where probes of our own will come from.
    probes: HashSet<SocketAddr>,
    /// Those that came in. They take nobody's place.
    probing: HashSet<u64>,
}

impl Registry {
    /// No sessions yet.
    pub(crate) fn new(caps: Caps) -> Registry {
        Registry {
            caps,
            state: Mutex::default(),
        }
    }

    /// Makes a session for a peer, where there is room.
    ///
    /// The watchdog's own probes come in always: a full house is not a dead one.
    pub(crate) fn admit(
        &self,
        peer: SocketAddr,
        make: impl FnOnce(u64) -> std::io::Result<Session>,
    ) -> Result<std::io::Result<Arc<Session>>, Full> {
        let mut state = self.state();
        let is_probe = state.probes.remove(&peer);
        if !is_probe {
            let from = |ip: IpAddr| {
                let sessions = state.sessions.values();
                sessions
                    .filter(|s| s.peer.ip() == ip && !state.probing.contains(&s.id))
                    .count()
            };
            if state.sessions.len() - state.probing.len() >= self.caps.sessions_max {
                return Err(Full::Total);
            }
            if from(peer.ip()) >= self.caps.sessions_per_address_max {
                return Err(Full::Address);
            }
        }
        state.last_id += 1;
        let session = match make(state.last_id) {
            Ok(session) => Arc::new(session),
            Err(error) => return Ok(Err(error)),
        };
        if is_probe {
            state.probing.insert(session.id);
        } else {
            state.admitted += 1;
        }
        state.sessions.insert(session.id, Arc::clone(&session));
        Ok(Ok(session))
    }

    /// A session has ended.
    pub(crate) fn remove(&self, id: u64) {
        let mut state = self.state();
        state.sessions.remove(&id);
        state.probing.remove(&id);
    }

    /// All sessions.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.state().sessions.values().cloned().collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.state().sessions.len()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.state().sessions.is_empty()
    }

    /// How many sessions of others than ourselves there ever were.
    pub(crate) fn admitted(&self) -> u64 {
        self.state().admitted
    }

    /// How long nobody has worked in any session.
    pub(crate) fn idle(&self, now: Instant) -> Duration {
        let sessions = self.all();
        let idle = sessions.iter().map(|session| session.idle(now));
        idle.min().unwrap_or(Duration::MAX)
    }

    /// Announces a probe of our own from this address.
    pub(crate) fn expect_probe(&self, from: SocketAddr) {
        self.state().probes.insert(from);
    }

    /// The probe is over, whether it came in or not.
    pub(crate) fn forget_probe(&self, from: SocketAddr) {
        self.state().probes.remove(&from);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
