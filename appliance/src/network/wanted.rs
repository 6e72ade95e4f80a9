//! What the owner wants of the network.

use super::address::Fixed;
use std::fmt;
use std::net::Ipv4Addr;

/// The whole wish; the default is an address from the router by cable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The address that it shall always have.
    pub(crate) fixed: Option<Fixed>,
    /// Name servers, instead of the router's; three at most (resolv.conf(5)).
    pub(crate) dns: Vec<Ipv4Addr>,
    /// A wireless network, besides the cable.
    pub(crate) wifi: Option<Wifi>,
}

/// One wireless network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wifi {
    /// Its name.
    pub(crate) ssid: Ssid,
    /// What lets us in.
    pub(crate) key: Key,
    /// Where the radio is: what it may send is the law of that country.
    pub(crate) country: Option<Country>,
    /// Whether it doesn't tell its name.
    pub(crate) hidden: bool,
}

/// The name of a wireless network: 1 to 32 bytes (IEEE 802.11), by custom UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ssid(String);

/// How a wireless network is entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// WPA2 or WPA3 with a password.
    Password(Passphrase),
    /// By anybody.
    Open,
}

/// 8 to 63 printable characters of ASCII, or the 64 hex digits that are made of them (IEEE 802.11i).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Passphrase(String);

/// Two capital letters of ISO 3166.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Country([u8; 2]);

impl Ssid {
    /// Reads a name.
    pub(crate) fn parse(text: &str) -> Result<Ssid, String> {
        match text.len() {
            1..=32 => Ok(Ssid(text.into())),
            len => Err(format!(
                "the name of a Wi-Fi has 1 to 32 bytes, this one has {len}"
            )),
        }
    }

    /// As it is written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Passphrase {
    /// Reads a password.
    pub(crate) fn parse(text: &str) -> Result<Passphrase, String> {
        let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if is_hex || ((8..=63).contains(&text.len()) && is_printable) {
            return Ok(Passphrase(text.into()));
        }
        let what = if is_printable {
            format!("this one has {}", text.len())
        } else {
            "this one has letters with accents, or others that a Wi-Fi password can't have".into()
        };
        Err(format!(
            "the password of a Wi-Fi has 8 to 63 characters; {what}"
        ))
    }

    /// The password itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

impl Country {
    /// Reads a country.
    pub(crate) fn parse(text: &str) -> Result<Country, String> {
        match text.as_bytes() {
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Ok(Country([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
            }
            _ => Err(format!(
                "{text:?} is no country: write two letters, like DE, GB or US"
            )),
        }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).expect("two letters"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Country, Passphrase, Ssid};

    #[test]
    fn limits_are_those_of_the_standard() {
        for (len, good) in [(0, false), (1, true), (32, true), (33, false)] {
            assert_eq!(Ssid::parse(&"x".repeat(len)).is_ok(), good, "{len}");
        }
        for (len, good) in [(7, false), (8, true), (63, true), (65, false)] {
            assert_eq!(Passphrase::parse(&"x".repeat(len)).is_ok(), good, "{len}");
        }
        assert!(Passphrase::parse(&"0aF9".repeat(16)).is_ok());
        assert!(Passphrase::parse(&"x".repeat(64)).is_err());
        assert!(Passphrase::parse("pässwörter").is_err());
        assert!(Passphrase::parse("tab\ttab\ttab").is_err());
        assert_eq!(Country::parse("de").unwrap().to_string(), "DE");
        for bad in ["", "D", "DEU", "1A", "\u{e4}"] {
            assert!(Country::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let shown = format!("{:?}", Passphrase::parse("secret secret").unwrap());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
