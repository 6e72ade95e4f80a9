//! Wrong passwords: how long each waits for its answer, and when an address may guess no more.
//!
//! Pure: it is told the time. What is counted are guesses at passwords, in logins and in pairing, of
//! users that exist or don't. Devices' tokens are 256 random bits, at which nobody guesses: paired
//! computers come in whatever happens here, also from an address that may not guess.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How many wrong guesses an address has until it is banned.
pub(crate) const PER_ADDRESS_MAX: u32 = 10;

/// How long an address may not guess then. With a good password's 80 bits that is for ever; with a
/// bad one's 20 it is a year.
pub(crate) const BAN: Duration = Duration::from_secs(15 * 60);

/// For how long a wrong guess counts.
const MEMORY: Duration = Duration::from_secs(60 * 60);

/// What the first wrong guess waits; each further one twice as long.
const DELAY_FIRST: Duration = Duration::from_millis(500);

/// The longest that a guess waits. A login has 20 s, three guesses and some for the network.
const DELAY_MAX: Duration = Duration::from_secs(4);

/// From how many wrong guesses on, from wherever, everybody's wrong guess waits for the longest.
const IN_ALL_MAX: u32 = 100;

/// How many addresses are remembered; of more, those that guessed least recently are forgotten. IPv6 has
/// plenty of addresses even in one network; they still count in all.
const ADDRESSES_MAX: usize = 1024;

/// What is known of who guessed.
#[derive(Debug, Default)]
pub(crate) struct Guesses {
    addresses: HashMap<IpAddr, Address>,
    in_all: Count,
}

#[derive(Debug, Default)]
struct Address {
    count: Count,
    banned_at: Option<Instant>,
}

/// Wrong guesses that count, and when the last one was. All of them are forgotten at once.
#[derive(Debug, Default)]
struct Count {
    wrong: u32,
    last: Option<Instant>,
}

impl Guesses {
    /// Whether an address may guess now.
    ///
    /// It may have as many guesses at work as it has sessions, since a program that comes in ten times at once
    /// with the right password is no burglar; so a ban comes some guesses late at most.
    pub(crate) fn may(&self, ip: IpAddr, now: Instant) -> bool {
        let address = self.addresses.get(&network(ip));
        !address.is_some_and(|address| address.is_banned(now))
    }

    /// A guess was wrong. Right ones forgive nothing: an account of one's own is no licence to guess at
    /// others.
    pub(crate) fn wrong(&mut self, ip: IpAddr, now: Instant) {
        let ip = network(ip);
        if !self.addresses.contains_key(&ip) && self.addresses.len() >= ADDRESSES_MAX {
            self.forget_one();
        }
        let address = self.addresses.entry(ip).or_default();
        if !address.is_banned(now) && address.banned_at.take().is_some() {
            address.count = Count::default();
        }
        address.count.add(now);
        if address.banned_at.is_none() && address.count.wrong >= PER_ADDRESS_MAX {
            address.banned_at = Some(now);
        }
        self.in_all.add(now);
    }

    /// How long after it came a wrong guess is answered, so that the answer tells neither whether there
    /// is such a user nor whether anybody looked.
    pub(crate) fn delay(&self, ip: IpAddr) -> Duration {
        if self.in_all.wrong >= IN_ALL_MAX {
            return DELAY_MAX;
        }
        let address = self.addresses.get(&network(ip));
        let wrong = address.map_or(0, |address| address.count.wrong);
        let doubled = wrong.saturating_sub(1).min(8);
        (DELAY_FIRST * (1 << doubled)).min(DELAY_MAX)
    }

    fn forget_one(&mut self) {
        let oldest = self
            .addresses
            .iter()
            .min_by_key(|(_, address)| address.count.last)
            .map(|(ip, _)| *ip);
        if let Some(ip) = oldest {
            self.addresses.remove(&ip);
        }
    }
}

impl Address {
    fn is_banned(&self, now: Instant) -> bool {
        self.banned_at
            .is_some_and(|at| now.saturating_duration_since(at) < BAN)
    }
}

impl Count {
    fn add(&mut self, now: Instant) {
        if self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) > MEMORY)
        {
            self.wrong = 0;
        }
        self.wrong = self.wrong.saturating_add(1);
        self.last = Some(now);
    }
}

/// Whom an address belongs to: a host of IPv4, a network of IPv6, in which a host has as many as it likes.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        ADDRESSES_MAX, BAN, DELAY_FIRST, DELAY_MAX, Guesses, IN_ALL_MAX, MEMORY, PER_ADDRESS_MAX,
    };
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    fn ip(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    #[test]
    fn an_address_is_banned_for_a_time() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        for _ in 0..PER_ADDRESS_MAX {
            assert!(guesses.may(ip(1), now));
            guesses.wrong(ip(1), now);
        }
        assert!(!guesses.may(ip(1), now));
        assert!(guesses.may(ip(2), now), "nobody else");
        // What was at work when the ban began makes it no longer.
        guesses.wrong(ip(1), now + BAN / 2);
        let end = now + BAN;
        assert!(!guesses.may(ip(1), end.checked_sub(Duration::from_millis(1)).unwrap()));
        for _ in 0..PER_ADDRESS_MAX {
            assert!(guesses.may(ip(1), end), "it begins anew");
            guesses.wrong(ip(1), end);
        }
        assert!(!guesses.may(ip(1), end));
    }

    #[test]
    fn an_hour_without_one_forgives_all() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        let later = now + MEMORY + Duration::from_secs(1);
        for time in [now, later] {
            for _ in 0..PER_ADDRESS_MAX - 1 {
                guesses.wrong(ip(1), time);
            }
        }
        assert!(guesses.may(ip(1), later));
    }

    #[test]
    fn each_wrong_one_waits_longer() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        let mut last = Duration::ZERO;
        for n in 0..PER_ADDRESS_MAX {
            guesses.wrong(ip(1), now);
            let delay = guesses.delay(ip(1));
            assert!(delay > last || delay == DELAY_MAX, "{n}");
            last = delay;
        }
        assert_eq!(last, DELAY_MAX);
        guesses.wrong(ip(2), now);
        assert_eq!(guesses.delay(ip(2)), DELAY_FIRST);
    }

    #[test]
    fn many_addresses_together_make_everybody_wait() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        for n in 0..IN_ALL_MAX {
            guesses.wrong(ip(n), now);
        }
        assert_eq!(guesses.delay(ip(5_000)), DELAY_MAX);
    }

    #[test]
    fn only_so_many_addresses_are_remembered() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        for n in 0..2 * u32::try_from(ADDRESSES_MAX).unwrap() {
            guesses.wrong(ip(n), now + Duration::from_millis(n.into()));
        }
        assert_eq!(guesses.addresses.len(), ADDRESSES_MAX);
        assert!(!guesses.addresses.contains_key(&ip(0)), "the oldest go");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        for n in 0..PER_ADDRESS_MAX {
            guesses.wrong(format!("fd00::{n:x}").parse().unwrap(), now);
        }
        assert!(!guesses.may("fd00::ffff".parse().unwrap(), now));
        assert!(guesses.may("fd00:0:0:1::".parse().unwrap(), now));
    }
}
