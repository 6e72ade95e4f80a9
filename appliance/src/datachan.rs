//! What a session knows of its data connections: the part of libunftp's policy that we add.
//!
//! Pure: handshakes, PASVs and transfers are told to it, and it says whether a transfer may go on.
//! Two gaps of libunftp are closed with it:
//! - Only PASV is refused where the data channel must be encrypted; EPSV isn't, nor PROT C after
//!   PASV. Here a transfer needs a TLS handshake that was done after its own PASV or EPSV.
//! - The position given with REST is kept when a transfer fails, and would be used for the next
//!   one, whatever that is. Here a session whose position is doubtful does no more transfers.

use std::time::{Duration, Instant};

/// How long a PASV may stay without a transfer before the session is ended.
///
/// libunftp waits without limit for the handshake of a data connection, holding the session's lock;
/// clients send the transfer directly after PASV.
pub(crate) const PASSIVE_DEADLINE: Duration = Duration::from_secs(60);

/// How many ports a session may ask for one after the other without a transfer. libunftp listens on each for
/// 15 s, and 64 sessions with so many leave half of the 1,000 to others.
pub(crate) const UNUSED_PORTS_MAX: u32 = 8;

/// Why a transfer may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The data connection isn't encrypted, and must be.
    #[error("the data connection must be encrypted: send PBSZ 0 and PROT P")]
    Plain,
    /// The position of an earlier transfer may still be set in libunftp.
    #[error("an earlier transfer failed with its position set: connect again")]
    Stale,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct DataChannel {
    handshakes: u64,
    handshakes_before: u64,
    passive_since: Option<Instant>,
    unused: u32,
    position_doubtful: bool,
    stale: bool,
}

impl DataChannel {
    /// A TLS handshake began, on the control or on a data connection.
    pub(crate) fn on_handshake(&mut self) {
        self.handshakes += 1;
    }

    /// Whether one after the first began, which is the control connection's.
    pub(crate) fn has_data_handshakes(&self) -> bool {
        self.handshakes > 1
    }

    /// A PASV or EPSV came: only handshakes from now on count for the next transfer. `false` where it has
    /// asked for too many ports that it doesn't use.
    pub(crate) fn on_passive(&mut self, now: Instant) -> bool {
        self.unused += 1;
        if self.passive_since.is_some() && self.handshakes > self.handshakes_before {
            // A data connection shook hands and no transfer came of it: it failed inside libunftp,
            // perhaps with a position set.
            self.position_doubtful = true;
        }
        self.handshakes_before = self.handshakes;
        self.passive_since = Some(now);
        self.unused <= UNUSED_PORTS_MAX
    }

    /// A transfer wants to go on, from this position; returns whether it is encrypted.
    pub(crate) fn on_transfer(&mut self, tls: bool, position: u64) -> Result<bool, Refused> {
        self.passive_since = None;
        self.unused = 0;
        let encrypted = self.handshakes > self.handshakes_before;
        if tls && !encrypted {
            return Err(Refused::Plain);
        }
        self.handshakes_before = self.handshakes;
        if self.stale || (self.position_doubtful && position > 0) {
            self.stale = true;
            return Err(Refused::Stale);
        }
        Ok(encrypted)
    }

    /// A transfer failed; returns whether the session is of no more use.
    pub(crate) fn on_failure(&mut self, position: u64) -> bool {
        self.stale |= position > 0;
        self.stale
    }

    /// Whether a PASV has waited too long for its transfer.
    pub(crate) fn is_stuck(&self, now: Instant) -> bool {
        self.passive_since
            .is_some_and(|since| now.duration_since(since) > PASSIVE_DEADLINE)
    }
}

#[cfg(test)]
mod tests {
    use super::{DataChannel, PASSIVE_DEADLINE, Refused, UNUSED_PORTS_MAX};
    use std::time::{Duration, Instant};

    fn logged_in() -> DataChannel {
        let mut channel = DataChannel::default();
        channel.on_handshake();
        channel
    }

    #[test]
    fn each_transfer_needs_its_own_handshake() {
        let (mut channel, now) = (logged_in(), Instant::now());
        channel.on_passive(now);
        assert_eq!(
            channel.on_transfer(true, 0),
            Err(Refused::Plain),
            "the control's doesn't count"
        );
        channel.on_passive(now);
        channel.on_handshake();
        assert_eq!(channel.on_transfer(true, 0), Ok(true));
        assert_eq!(channel.on_transfer(true, 0), Err(Refused::Plain));
        channel.on_passive(now);
        assert_eq!(
            channel.on_transfer(false, 0),
            Ok(false),
            "unless plain is allowed"
        );
    }

    #[test]
    fn a_handshake_before_the_passive_does_not_count() {
        let (mut channel, now) = (logged_in(), Instant::now());
        channel.on_passive(now);
        channel.on_handshake();
        channel.on_passive(now);
        assert_eq!(channel.on_transfer(true, 0), Err(Refused::Plain));
    }

    #[test]
    fn a_position_that_may_be_left_over_is_not_used() {
        let (mut channel, now) = (logged_in(), Instant::now());
        channel.on_passive(now);
        channel.on_handshake();
        channel.on_passive(now);
        channel.on_handshake();
        assert_eq!(channel.on_transfer(true, 0), Ok(true), "none is set");
        channel.on_passive(now);
        channel.on_handshake();
        assert_eq!(channel.on_transfer(true, 7), Err(Refused::Stale));
        channel.on_passive(now);
        channel.on_handshake();
        assert_eq!(
            channel.on_transfer(true, 0),
            Err(Refused::Stale),
            "for good"
        );
    }

    #[test]
    fn a_failure_with_a_position_ends_the_session() {
        let (mut channel, now) = (logged_in(), Instant::now());
        assert!(!channel.on_failure(0));
        assert!(channel.on_failure(1));
        channel.on_passive(now);
        channel.on_handshake();
        assert_eq!(channel.on_transfer(true, 0), Err(Refused::Stale));
    }

    #[test]
    fn only_so_many_ports_go_unused() {
        let (mut channel, now) = (logged_in(), Instant::now());
        for _ in 0..UNUSED_PORTS_MAX {
            assert!(channel.on_passive(now));
        }
        assert_eq!(channel.on_transfer(false, 0), Ok(false));
        for _ in 0..UNUSED_PORTS_MAX {
            assert!(channel.on_passive(now));
        }
        assert!(!channel.on_passive(now));
    }

    #[test]
    fn a_passive_without_a_transfer_is_stuck_after_its_deadline() {
        let (mut channel, now) = (logged_in(), Instant::now());
        assert!(!channel.is_stuck(now));
        channel.on_passive(now);
        assert!(!channel.is_stuck(now + PASSIVE_DEADLINE));
        assert!(channel.is_stuck(now + PASSIVE_DEADLINE + Duration::from_millis(1)));
    }
}
