//! What we know of one connection, and how it is ended from outside.
//!
//! libunftp tells its backend little and can't be told to end a session; so the session keeps a
//! duplicate of the control socket, and everything that happens in our code leaves its mark here.

use crate::accounts::Account;
use crate::datachan::{DataChannel, Refused};
use crate::drive::slot::Bound;
use crate::pairing::{Attempt, Pairing};
use crate::received::received_bytes;
use crate::reply::Trouble;
use raspbox_protocol::special::RequestId;
use raspbox_protocol::want::Want;
use raspbox_protocol::{Digest, RelPath};
use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::sync::watch;

/// How many lists of wants a session keeps.
pub(crate) const WANT_LISTS_MAX: usize = 4;

/// How many failed logins end a session.
pub(crate) const FAILED_LOGINS_MAX: u32 = 3;

/// How much a peer may have sent on its control connection: in all until it has logged in, and then beyond
/// what it had sent when its last command began.
///
/// libunftp keeps a line in memory for as long as it doesn't end. The longest that anybody needs is a path of
/// 4 KiB; TLS, whose bytes these are, at most takes 22 for one.
pub(crate) const CONTROL_MAX_BYTES: u64 = 64 << 10;

/// The size of a buffer of the data path.
///
/// Uploads and downloads of 256 KiB a piece were as fast as anything (DESIGN.md, "Traps"), and four
/// of them fit into the second-level cache of a Pi 4.
pub(crate) const PIECE_BYTES: usize = 256 << 10;

/// How often a control connection on which something comes is looked at: at a gigabit per second, what comes
/// in between is 2.5 MB.
const FLOOD_INTERVAL: Duration = Duration::from_millis(20);

/// Why nobody need wait for more of a control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abandoned {
    /// The peer sends more than anybody needs.
    Flooding,
    /// It has closed its side.
    Gone,
}

/// How far a session has come; it only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Everything is served.
    Open,
    /// Nothing new is begun, streams that never end do end, transfers in flight go on.
    Draining,
    /// Over: the control socket is shut down.
    Closed,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its number, for the log.
    pub(crate) id: u64,
    /// Who connected.
    pub(crate) peer: SocketAddr,
    /// When.
    pub(crate) since: Instant,
    tls_required: bool,
    idle_timeout: Duration,
    control: TcpStream,
    /// The drive that it belongs to.
    pub(crate) drive: Bound,
    phase: watch::Sender<Phase>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    account: Option<Arc<Account>>,
    failed_logins: u32,
    pairing: Pairing,
    cwd: String,
    channel: DataChannel,
    transfers: usize,
    /// How many of them are streams that stay open.
    standing: usize,
    last_active: Instant,
    /// Received on the control connection when the last command of somebody who is logged in began.
    accounted_bytes: u64,
    look_failed: Option<RelPath>,
    wants: VecDeque<(RequestId, Arc<Vec<Want>>)>,
    holds: Option<(RequestId, Arc<Vec<Digest>>)>,
    buffers: Vec<Vec<u8>>,
}

impl Session {
    /// Takes a duplicate of the control socket.
    pub(crate) fn new(
        id: u64,
        peer: SocketAddr,
        control: TcpStream,
        tls_required: bool,
        idle_timeout: Duration,
    ) -> Session {
        let now = Instant::now();
        Session {
            id,
            peer,
            since: now,
            tls_required,
            idle_timeout,
            control,
            drive: Bound::default(),
            phase: watch::Sender::new(Phase::Open),
            state: Mutex::new(State {
                account: None,
                failed_logins: 0,
                pairing: Pairing::Not,
                cwd: "/".into(),
                channel: DataChannel::default(),
                transfers: 0,
                standing: 0,
                last_active: now,
                accounted_bytes: 0,
                look_failed: None,
                wants: VecDeque::new(),
                holds: None,
                buffers: Vec::new(),
            }),
        }
    }

    /// Notes a login.
    pub(crate) fn log_in(&self, account: Arc<Account>) {
        let mut state = self.state();
        state.last_active = Instant::now();
        state.account = Some(account);
    }

    /// Notes a failed login and returns how many there were.
    pub(crate) fn login_failed(&self) -> u32 {
        let mut state = self.state();
        state.failed_logins += 1;
        state.failed_logins
    }

    /// Lets a session that is nobody's pair, once.
    pub(crate) fn begin_pairing(&self) -> bool {
        let mut state = self.state();
        let may = state.account.is_none() && matches!(state.pairing, Pairing::Not);
        if may {
            state.pairing = Pairing::Begun;
        }
        may
    }

    /// Notes an invitation.
    pub(crate) fn invited(&self, attempt: Attempt) {
        self.state().pairing = Pairing::Invited(Box::new(attempt));
    }

    /// How far pairing has come; whatever that was, it is used up.
    pub(crate) fn next_of_pairing(&self) -> Pairing {
        let mut state = self.state();
        match state.pairing {
            Pairing::Not => Pairing::Not,
            Pairing::Begun | Pairing::Invited(_) | Pairing::Over => {
                std::mem::replace(&mut state.pairing, Pairing::Over)
            }
        }
    }

    /// Whether it logged in to pair.
    pub(crate) fn is_pairing(&self) -> bool {
        !matches!(self.state().pairing, Pairing::Not)
    }

    /// Who is logged in. Nobody is who only pairs.
    pub(crate) fn account(&self) -> Option<Arc<Account>> {
        self.state().account.clone()
    }

    /// The working directory as libunftp has it: absolute, and with `..` still in it.
    pub(crate) fn cwd(&self) -> String {
        self.state().cwd.clone()
    }

    /// Notes a successful CWD.
    pub(crate) fn set_cwd(&self, cwd: String) {
        self.state().cwd = cwd;
    }

    /// Notes a CDUP: the last name goes, whatever it is, as in libunftp.
    pub(crate) fn on_cdup(&self) {
        let mut state = self.state();
        let above = std::path::Path::new(&state.cwd).parent();
        state.cwd = above
            .and_then(|above| above.to_str())
            .unwrap_or("/")
            .to_owned();
    }

    /// A TLS handshake began.
    pub(crate) fn on_handshake(&self) {
        self.state().channel.on_handshake();
    }

    /// Whether a handshake after the control connection's began.
    pub(crate) fn has_data_handshakes(&self) -> bool {
        self.state().channel.has_data_handshakes()
    }

    /// A PASV or EPSV came; `false` where there is no port for it, and the session ends.
    pub(crate) fn on_passive(&self) -> bool {
        let may = self.state().channel.on_passive(Instant::now());
        if !may {
            self.drain();
        }
        may
    }

    /// Something happened.
    pub(crate) fn touch(&self) {
        self.state().last_active = Instant::now();
    }

    /// A command begins.
    pub(crate) fn on_command(&self) {
        let received = received_bytes(&self.control);
        let mut state = self.state();
        state.last_active = Instant::now();
        if let (Some(_), Some(received)) = (&state.account, received) {
            state.accounted_bytes = received;
        }
    }

    /// Whether the peer has sent too much ([`CONTROL_MAX_BYTES`]), or may have.
    fn is_flooding(&self) -> bool {
        let accounted = self.state().accounted_bytes;
        is_too_much(received_bytes(&self.control), accounted)
    }

    /// Returns when the peer has sent too much or has gone. Needs a runtime that isn't the session's own,
    /// which may be busy with just that; and libunftp, which waits in a command, doesn't notice.
    pub(crate) async fn abandoned(&self) -> io::Result<Abandoned> {
        // One descriptor for good: where they run out, a session isn't to end for it.
        let mut socket = self.control.try_clone()?;
        loop {
            // Watched anew each time: whoever sends many small files would wake this thread with each command
            // otherwise, also while it waits for the time to look again.
            let watched = tokio::net::TcpStream::from_std(socket)?;
            let gone = watched.ready(Interest::READABLE).await?.is_read_closed();
            socket = watched.into_std()?;
            if self.is_flooding() {
                return Ok(Abandoned::Flooding);
            }
            if gone {
                return Ok(Abandoned::Gone);
            }
            tokio::time::sleep(FLOOD_INTERVAL).await;
        }
    }

    /// How long nothing happened that we can see; nothing is quiet while a transfer runs, which
    /// has its own limit.
    pub(crate) fn quiet(&self, now: Instant) -> Duration {
        let state = self.state();
        if state.transfers > 0 {
            return Duration::ZERO;
        }
        now.saturating_duration_since(state.last_active)
    }

    /// How long nobody has worked here: no time at all while a transfer runs that isn't a stream which
    /// stays open.
    pub(crate) fn idle(&self, now: Instant) -> Duration {
        let state = self.state();
        if state.transfers > state.standing {
            return Duration::ZERO;
        }
        match state.account {
            Some(_) => now.saturating_duration_since(state.last_active),
            // Who isn't logged in, a port scanner or our own probe, is nobody to stand back for.
            None => Duration::MAX,
        }
    }

    /// Whether a data connection hangs inside libunftp.
    pub(crate) fn is_stuck(&self, now: Instant) -> bool {
        self.state().channel.is_stuck(now)
    }

    /// Begins a transfer from this position, or refuses it; before a byte is read or written.
    pub(crate) fn begin(self: &Arc<Session>, position: u64) -> Result<Transfer, Trouble> {
        if self.phase() != Phase::Open {
            return Err(Trouble::not_now("the appliance is stopping"));
        }
        let mut state = self.state();
        if state.account.is_none() {
            return Err(Trouble::denied());
        }
        state.last_active = Instant::now();
        let encrypted = match state.channel.on_transfer(self.tls_required, position) {
            Ok(encrypted) => encrypted,
            Err(refused @ Refused::Plain) => {
                tracing::warn!(session = self.id, peer = %self.peer, "plain data connection refused");
                return Err(Trouble::not_now(refused.to_string()));
            }
            Err(refused @ Refused::Stale) => {
                drop(state);
                self.drain();
                return Err(Trouble::cut(refused.to_string()));
            }
        };
        state.transfers += 1;
        Ok(Transfer {
            session: Arc::clone(self),
            idle_timeout: self.idle_timeout,
            position,
            encrypted,
            standing: AtomicBool::new(false),
            succeeded: false,
        })
    }

    /// How many transfers run.
    pub(crate) fn transfers(&self) -> usize {
        self.state().transfers
    }

    /// Notes that a path couldn't be looked at, for the APPE that may follow.
    pub(crate) fn look_failed(&self, path: Option<RelPath>) {
        self.state().look_failed = path;
    }

    /// Whether the last look was at this path and failed; forgets it.
    pub(crate) fn take_look_failed(&self, path: &RelPath) -> bool {
        self.state().look_failed.take().as_ref() == Some(path)
    }

    /// Keeps a list of wants, and forgets the oldest where there are too many.
    pub(crate) fn keep_wants(&self, id: RequestId, wants: Vec<Want>) {
        let mut state = self.state();
        state.wants.retain(|(known, _)| *known != id);
        if state.wants.len() == WANT_LISTS_MAX {
            state.wants.pop_front();
        }
        state.wants.push_back((id, Arc::new(wants)));
    }

    /// A list of wants that was kept.
    pub(crate) fn wants(&self, id: RequestId) -> Option<Arc<Vec<Want>>> {
        let state = self.state();
        let (_, wants) = state.wants.iter().find(|(known, _)| *known == id)?;
        Some(Arc::clone(wants))
    }

    /// Keeps a list of contents, in place of the last one.
    pub(crate) fn keep_holds(&self, id: RequestId, digests: Vec<Digest>) {
        self.state().holds = Some((id, Arc::new(digests)));
    }

    /// The list of contents that was kept.
    pub(crate) fn holds(&self, id: RequestId) -> Option<Arc<Vec<Digest>>> {
        let state = self.state();
        let (known, digests) = state.holds.as_ref()?;
        (*known == id).then(|| Arc::clone(digests))
    }

    /// A buffer of [`PIECE_BYTES`], used before where there is one.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        self.state()
            .buffers
            .pop()
            .unwrap_or_else(|| vec![0; PIECE_BYTES])
    }

    /// Gives a buffer back.
    pub(crate) fn give_back(&self, buffer: Vec<u8>) {
        let mut state = self.state();
        if state.buffers.len() < 2 && buffer.len() == PIECE_BYTES {
            state.buffers.push(buffer);
        }
    }

    /// Frees the buffers that were given back.
    pub(crate) fn free_buffers(&self) {
        self.state().buffers = Vec::new();
    }

    /// Whether the peer has closed the control connection already: then what looks like the end of
    /// an upload on a plain data connection is a cut.
    fn control_gone(&self) -> bool {
        // The duplicate shares O_NONBLOCK with libunftp's socket.
        match self.control.peek(&mut [0]) {
            Ok(len) => len == 0,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ),
        }
    }

    /// How far it has come.
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// To wait for the next phase.
    pub(crate) fn watch_phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Returns when the session has come this far.
    pub(crate) async fn reached(&self, phase: Phase) {
        let mut phases = self.watch_phase();
        // The sender lives in self, so this can't fail before the phase is reached.
        let _ = phases.wait_for(|now| *now >= phase).await;
    }

    /// Lets transfers in flight end, begins nothing new.
    pub(crate) fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Ends it now.
    pub(crate) fn close(&self, why: &str) {
        if self.advance(Phase::Closed) {
            if self.account().is_some() {
                tracing::info!(session = self.id, peer = %self.peer, why, "session ended");
            } else {
                // Probes of our own and of others would fill the log.
                tracing::debug!(session = self.id, peer = %self.peer, why, "session ended");
            }
            // Fails only where the peer has gone first.
            let _ = self.control.shutdown(Shutdown::Both);
        }
    }

    fn advance(&self, to: Phase) -> bool {
        self.phase.send_if_modified(|phase| {
            let forward = *phase < to;
            *phase = to.max(*phase);
            forward
        })
    }

    /// The state; a panic elsewhere leaves nothing half-done in it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether more has come in than may; where nobody knows how much, it is too much.
fn is_too_much(received: Option<u64>, accounted: u64) -> bool {
    received.is_none_or(|received| received.saturating_sub(accounted) > CONTROL_MAX_BYTES)
}

/// A transfer that runs. One that is dropped without [`Transfer::succeeded`] has failed.
#[derive(Debug)]
pub(crate) struct Transfer {
    session: Arc<Session>,
    idle_timeout: Duration,
    position: u64,
    encrypted: bool,
    standing: AtomicBool,
    succeeded: bool,
}

impl Transfer {
    /// It is a stream that stays open: idle work need not wait for its end.
    pub(crate) fn stands(&self) {
        if !self.standing.swap(true, Ordering::Relaxed) {
            let mut state = self.session.state();
            state.standing += 1;
            state.last_active = Instant::now();
        }
    }

    /// Does I/O with the peer, which must get on within the idle time-out.
    pub(crate) async fn io<T>(
        &self,
        io: impl Future<Output = io::Result<T>>,
    ) -> Result<T, Trouble> {
        match tokio::time::timeout(self.idle_timeout, io).await {
            Ok(result) => result.map_err(|error| Trouble::cut(error.to_string())),
            Err(_) => Err(Trouble::cut("nothing moved for too long")),
        }
    }

    /// Fails where an upload that seems to have ended was cut.
    ///
    /// On TLS the end is certain: it came with a close_notify. On a plain data connection a cut
    /// looks the same, but then the control connection has gone as well.
    pub(crate) fn check_end(&self) -> Result<(), Trouble> {
        if self.encrypted || !self.session.control_gone() {
            return Ok(());
        }
        Err(Trouble::cut("the connection was closed during the upload"))
    }

    /// The transfer is whole.
    pub(crate) fn succeeded(mut self) {
        self.succeeded = true;
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let mut state = self.session.state();
        state.transfers -= 1;
        state.standing -= usize::from(*self.standing.get_mut());
        state.last_active = Instant::now();
        let useless = !self.succeeded && state.channel.on_failure(self.position);
        drop(state);
        if useless {
            self.session.drain();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        CONTROL_MAX_BYTES, Duration, Session, WANT_LISTS_MAX, is_too_much, received_bytes,
    };
    use raspbox_protocol::special::RequestId;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    /// A session of somebody who is logged in.
    fn session() -> (Arc<Session>, TcpStream) {
        let (session, client) = connected();
        session.log_in(Arc::new(crate::accounts::Account::stranger()));
        (session, client)
    }

    fn connected() -> (Arc<Session>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (control, peer) = listener.accept().unwrap();
        control.set_nonblocking(true).unwrap();
        (
            Arc::new(Session::new(1, peer, control, false, Duration::MAX)),
            client,
        )
    }

    #[test]
    fn only_the_last_lists_of_wants_are_kept() {
        let (session, _client) = session();
        let id = |n: usize| RequestId([u8::try_from(n).unwrap(); 16]);
        for n in 0..=WANT_LISTS_MAX {
            session.keep_wants(id(n), Vec::new());
        }
        assert!(session.wants(id(0)).is_none());
        assert!((1..=WANT_LISTS_MAX).all(|n| session.wants(id(n)).is_some()));
        session.keep_wants(id(1), Vec::new());
        assert!(
            session.wants(id(2)).is_some(),
            "the same list again takes no place"
        );
    }

    #[test]
    fn buffers_are_used_again_until_they_are_freed() {
        let (session, _client) = session();
        let buffer = session.buffer();
        let at = buffer.as_ptr();
        session.give_back(buffer);
        let buffer = session.buffer();
        assert_eq!(buffer.as_ptr(), at);
        session.give_back(buffer);
        session.free_buffers();
        assert!(session.state().buffers.is_empty());
    }

    #[test]
    fn a_peer_that_has_gone_is_noticed_also_after_its_end_was_read() {
        let (session, client) = session();
        assert!(!session.control_gone());
        drop(client);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while !session.control_gone() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert!(session.control_gone());
    }

    #[test]
    fn what_is_not_known_is_too_much() {
        assert!(is_too_much(None, 0));
        assert!(is_too_much(None, u64::MAX));
        assert!(!is_too_much(Some(CONTROL_MAX_BYTES + 7), 7));
        assert!(is_too_much(Some(CONTROL_MAX_BYTES + 8), 7));
    }

    #[test]
    fn what_comes_is_counted_from_the_last_command_on_of_who_is_logged_in() {
        let (session, mut client) = connected();
        let received = |bytes: u64| {
            let deadline = std::time::Instant::now() + Duration::from_secs(180);
            while received_bytes(&session.control).expect("a kernel tells") < bytes {
                assert!(std::time::Instant::now() < deadline);
                std::thread::yield_now();
            }
        };
        let half = vec![0; usize::try_from(CONTROL_MAX_BYTES).unwrap() / 2];
        client.write_all(&half).unwrap();
        received(CONTROL_MAX_BYTES / 2);
        session.on_command();
        client.write_all(&half).unwrap();
        received(CONTROL_MAX_BYTES);
        assert!(!session.is_flooding());
        client.write_all(&[0]).unwrap();
        received(CONTROL_MAX_BYTES + 1);
        assert!(session.is_flooding(), "commands don't count for strangers");
        session.log_in(Arc::new(crate::accounts::Account::stranger()));
        session.on_command();
        assert!(!session.is_flooding());
    }

    #[test]
    fn nothing_begins_in_a_session_that_ends_or_is_nobodys() {
        let (nobodys, _client) = connected();
        assert!(nobodys.begin(0).is_err());
        let (session, _client) = session();
        let transfer = session.begin(0).unwrap();
        session.drain();
        assert!(session.begin(0).is_err());
        assert_eq!(session.transfers(), 1);
        transfer.succeeded();
        assert_eq!(session.transfers(), 0);
    }

    #[test]
    fn a_failed_transfer_with_a_position_drains_the_session() {
        let (session, _client) = session();
        drop(session.begin(0).unwrap());
        session.begin(7).unwrap().succeeded();
        assert!(session.begin(0).is_ok());
        drop(session.begin(7).unwrap());
        assert!(session.begin(0).is_err());
    }
}
