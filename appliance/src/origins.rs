//! From where somebody may connect: the networks of a home, unless the configuration says otherwise. Pure.
//!
//! The second wall is the unit's (`IPAddressAllow=`); this one holds where there is no unit, and where
//! somebody has opened that one.

use std::net::IpAddr;
use std::str::FromStr;

/// What "lan" stands for: private and link-local addresses (RFC 1918, 3927, 4193, 4291).
const LAN: [&str; 6] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
];

/// Ranges of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origins(Vec<Range>);

/// Addresses that begin with the same bits. IPv4 is the part of IPv6 that stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    base: u128,
    len_bits: u32,
}

impl Origins {
    /// Takes "lan", "anywhere", and ranges such as "100.64.0.0/10".
    pub(crate) fn parse<S: AsRef<str>>(words: &[S]) -> Result<Origins, String> {
        let mut ranges = Vec::new();
        for word in words {
            match word.as_ref() {
                "lan" => ranges.extend(lan()),
                // All of IPv6, and IPv4 in it.
                "anywhere" => ranges.push(Range {
                    base: 0,
                    len_bits: 0,
                }),
                range => ranges.push(range.parse()?),
            }
        }
        Ok(Origins(ranges))
    }

    /// The default.
    pub(crate) fn lan() -> Origins {
        Origins(lan().collect())
    }

    /// Whether somebody at this address may connect. This machine itself always may.
    pub(crate) fn allow(&self, ip: IpAddr) -> bool {
        ip.to_canonical().is_loopback() || self.0.iter().any(|range| range.contains(ip))
    }
}

impl Range {
    fn contains(self, ip: IpAddr) -> bool {
        // A shift by all of its bits is none.
        let differ = bits(ip) ^ self.base;
        differ.checked_shr(128 - self.len_bits).unwrap_or(0) == 0
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Range, String> {
        let wrong = || {
            format!(
                "\"{text}\" is neither \"lan\" nor \"anywhere\" nor a range of addresses such as \
                 \"100.64.0.0/10\""
            )
        };
        let (ip, len) = match text.split_once('/') {
            Some((ip, len)) => (ip, Some(len)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let (before, len_max) = if ip.is_ipv4() { (96, 32) } else { (0, 128) };
        let len: u32 = match len {
            Some(len) => len.parse().map_err(|_| wrong())?,
            None => len_max,
        };
        if len > len_max {
            return Err(wrong());
        }
        Ok(Range {
            base: bits(ip),
            len_bits: before + len,
        })
    }
}

fn lan() -> impl Iterator<Item = Range> {
    LAN.iter().map(|range| range.parse().expect("our own"))
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::Origins;

    #[track_caller]
    fn check(origins: &Origins, ip: &str, allowed: bool) {
        assert_eq!(origins.allow(ip.parse().unwrap()), allowed, "{ip}");
    }

    #[test]
    fn a_home_is_private_and_link_local() {
        let lan = Origins::lan();
        for ip in [
            "127.0.0.1",
            "127.8.8.8",
            "::1",
            "10.0.0.0",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.178.20",
            "169.254.3.4",
            "fe80::1",
            "febf::1",
            "fd12:3456::1",
            "::ffff:192.168.1.2",
            "::ffff:127.0.0.1",
        ] {
            check(&lan, ip, true);
        }
        for ip in [
            "9.255.255.255",
            "11.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "169.255.0.0",
            "100.64.0.1",
            "8.8.8.8",
            "0.0.0.0",
            "2001:db8::1",
            "fec0::1",
            "::ffff:8.8.8.8",
            "::2",
        ] {
            check(&lan, ip, false);
        }
        assert_eq!(Origins::parse(&["lan"]), Ok(lan));
    }

    #[test]
    fn ranges_can_be_said() {
        let some = Origins::parse(&["100.64.0.0/10", "203.0.113.7", "2001:db8::/32"]).unwrap();
        for (ip, allowed) in [
            ("100.127.255.255", true),
            ("100.128.0.0", false),
            ("203.0.113.7", true),
            ("203.0.113.8", false),
            ("2001:db8:ffff::", true),
            ("2001:db9::", false),
            ("192.168.1.1", false),
            ("127.0.0.1", true),
        ] {
            check(&some, ip, allowed);
        }
        let anywhere = Origins::parse(&["anywhere"]).unwrap();
        check(&anywhere, "8.8.8.8", true);
        check(&anywhere, "2001:db8::1", true);
        check(&Origins::parse(&["0.0.0.0/0"]).unwrap(), "8.8.8.8", true);
        check(&Origins::parse(&["0.0.0.0/0"]).unwrap(), "2001::1", false);
    }

    #[test]
    fn other_words_are_refused() {
        for word in [
            "",
            "LAN",
            "1.2.3.4/33",
            "::/129",
            "1.2.3/8",
            "1.2.3.4/",
            "1.2.3.4/-1",
        ] {
            assert!(Origins::parse(&[word]).is_err(), "{word:?}");
        }
    }
}
