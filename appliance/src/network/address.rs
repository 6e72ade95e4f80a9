//! IPv4 addresses as an owner writes them: text → something that can work in a home network, or what to
//! write instead.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// A fixed address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fixed {
    /// The machine's own.
    pub(crate) address: Ipv4Addr,
    /// How many bits of it are the network's.
    pub(crate) prefix: u8,
    /// The router.
    pub(crate) gateway: Option<Ipv4Addr>,
}

/// Larger ones than /8 hold no network of anybody's; in /31 and /32 there is nobody else.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=30;

impl Fixed {
    /// Reads `192.168.1.50/24`.
    pub(crate) fn parse(text: &str) -> Result<Fixed, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address.trim(), Some(prefix.trim())),
            None => (text.trim(), None),
        };
        let address = parse(address)?;
        can_be_a_machine(address)?;
        let Some(prefix) = prefix else {
            return Err(format!(
                "{address} lacks the size of its network; in most homes that is /24: write {address}/24"
            ));
        };
        let Ok(prefix) = prefix.parse() else {
            let hint = match prefix.parse().ok().and_then(of_mask) {
                Some(bits) => format!("write it as a number of bits: {address}/{bits}"),
                None => format!("in most homes it is /24: write {address}/24"),
            };
            return Err(format!("/{prefix} is no size of a network; {hint}"));
        };
        if !PREFIXES.contains(&prefix) {
            return Err(format!(
                "/{prefix} is no size of a home's network: choose /{} to /{}; in most homes it is /24",
                PREFIXES.start(),
                PREFIXES.end()
            ));
        }
        let fixed = Fixed {
            address,
            prefix,
            gateway: None,
        };
        let choose = format!("choose one from {}", fixed.machines());
        if address == fixed.network() {
            return Err(format!("{address} is the network's own address; {choose}"));
        }
        if address == fixed.broadcast() {
            return Err(format!(
                "{address} is the network's address for all at once; {choose}"
            ));
        }
        Ok(fixed)
    }

    /// The router's address; in this network, and somebody else's.
    pub(crate) fn gateway(&self, text: &str) -> Result<Ipv4Addr, String> {
        let gateway = parse(text.trim())?;
        if gateway == self.address {
            return Err(format!(
                "{gateway} is the address of this machine itself; write the router's"
            ));
        }
        if !self.contains(gateway) {
            return Err(format!(
                "{gateway} is in another network than {}/{}; the router's address is one from {}",
                self.address,
                self.prefix,
                self.machines()
            ));
        }
        if gateway == self.network() || gateway == self.broadcast() {
            return Err(format!(
                "{gateway} is no machine's address; the router's is one from {}",
                self.machines()
            ));
        }
        Ok(gateway)
    }

    /// Whether an address is in the same network.
    pub(crate) fn contains(&self, other: Ipv4Addr) -> bool {
        other.to_bits() & self.mask() == self.network().to_bits()
    }

    fn mask(&self) -> u32 {
        u32::MAX << (32 - self.prefix)
    }

    fn network(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() & self.mask())
    }

    fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.mask())
    }

    fn machines(&self) -> String {
        let (first, last) = (self.network().to_bits() + 1, self.broadcast().to_bits() - 1);
        format!(
            "{} to {}",
            Ipv4Addr::from_bits(first),
            Ipv4Addr::from_bits(last)
        )
    }
}

/// The address of a name server; it may be in any network.
pub(crate) fn name_server(text: &str) -> Result<Ipv4Addr, String> {
    let address = parse(text.trim())?;
    can_be_a_machine(address)?;
    Ok(address)
}

fn parse(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| {
        let hint = if text.contains(':') {
            "only IPv4 addresses can be set here, like 192.168.1.50"
        } else if text
            .split('.')
            .any(|part| part.len() > 1 && part.starts_with('0'))
        {
            "leave out zeros at the front of its numbers, like 192.168.1.50"
        } else {
            "it has four numbers from 0 to 255, like 192.168.1.50"
        };
        format!("{text:?} is no address; {hint}")
    })
}

fn can_be_a_machine(address: Ipv4Addr) -> Result<(), String> {
    let what = if address.is_loopback() {
        "always means the machine itself"
    } else if address.is_link_local() {
        "is of those that machines give themselves (link-local)"
    } else if address.is_multicast() {
        "is a group's address (multicast)"
    } else if address.is_broadcast() {
        "is the address for all at once (broadcast)"
    } else if address.octets()[0] == 0 || address.octets()[0] >= 240 {
        "is reserved"
    } else {
        return Ok(());
    };
    Err(format!(
        "{address} {what}; write one of your network, like 192.168.1.50"
    ))
}

fn of_mask(mask: Ipv4Addr) -> Option<u32> {
    let bits = mask.to_bits().leading_ones();
    (mask.to_bits().count_ones() == bits).then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::{Fixed, name_server};

    #[test]
    fn only_what_can_work_is_an_address() {
        let check = |text: &str, expect: &str| match Fixed::parse(text) {
            Ok(fixed) => assert_eq!(expect, format!("{}/{}", fixed.address, fixed.prefix)),
            Err(said) => assert!(
                !expect.is_empty() && said.contains(expect),
                "{text}: {said}"
            ),
        };
        check("192.168.1.50/24", "192.168.1.50/24");
        check(" 10.0.0.1 / 8 ", "10.0.0.1/8");
        check("192.168.1.1/30", "192.168.1.1/30");
        check(
            "192.168.2.0/23",
            "is the network's own address; choose one from 192.168.2.1 to 192.168.3.254",
        );
        check(
            "192.168.1.255/23",
            "address for all at once; choose one from 192.168.0.1",
        );
        check("192.168.2.255/23", "192.168.2.255/23");
        check(
            "192.168.1.0/24",
            "192.168.1.0 is the network's own address; choose one from 192.168.1.1 to 192.168.1.254",
        );
        check(
            "192.168.1.255/24",
            "192.168.1.255 is the network's address for all at once",
        );
        check(
            "192.168.1.3/30",
            "for all at once; choose one from 192.168.1.1 to 192.168.1.2",
        );
        check("192.168.1.50", "write 192.168.1.50/24");
        check("192.168.1.50/", "in most homes it is /24");
        check(
            "192.168.1.50/255.255.254.0",
            "write it as a number of bits: 192.168.1.50/23",
        );
        check(
            "192.168.1.50/255.0.255.0",
            "/255.0.255.0 is no size of a network; in most homes",
        );
        check(
            "192.168.1.50/7",
            "/7 is no size of a home's network: choose /8 to /30",
        );
        check("192.168.1.50/31", "/31 is no size");
        check("192.168.1.50/240", "/240 is no size");
        check("192.168.1.50/999", "/999 is no size of a network");
        check("127.0.0.1/8", "always means the machine itself");
        check("169.254.1.1/16", "link-local");
        check("224.0.0.1/24", "multicast");
        check("255.255.255.255/24", "broadcast");
        check("0.0.0.0/24", "reserved");
        check("250.1.1.1/24", "reserved");
        check("192.168.1/24", "is no address; it has four numbers");
        check("192.168.1.256/24", "is no address");
        check("192.168.001.050/24", "leave out zeros at the front");
        check("fe80::1/64", "only IPv4");
        check("raspbox/24", "is no address");
        check("", "is no address");
    }

    #[test]
    fn a_gateway_is_another_machine_of_the_same_network() {
        let check = |text: &str, expect: &str| {
            let fixed = Fixed::parse("192.168.1.50/24").unwrap();
            match fixed.gateway(text) {
                Ok(gateway) => assert_eq!(gateway.to_string(), expect),
                Err(said) => assert!(said.contains(expect), "{text}: {said}"),
            }
        };
        check("192.168.1.1", "192.168.1.1");
        check("192.168.1.254", "192.168.1.254");
        check("192.168.1.50", "is the address of this machine itself");
        check(
            "192.168.2.1",
            "192.168.2.1 is in another network than 192.168.1.50/24; the router's address is one from 192.168.1.1 to 192.168.1.254",
        );
        check("192.168.1.0", "is no machine's address");
        check("192.168.1.255", "is no machine's address");
        check("192.168.1.1/24", "is no address");
        check("0.0.0.0", "another network");
    }

    #[test]
    fn a_name_server_is_any_machine() {
        for good in ["9.9.9.9", "192.168.1.1", " 1.1.1.1 "] {
            assert!(name_server(good).is_ok(), "{good}");
        }
        for bad in [
            "127.0.0.53",
            "0.0.0.0",
            "255.255.255.255",
            "239.1.1.1",
            "dns.quad9.net",
            "::1",
        ] {
            assert!(name_server(bad).is_err(), "{bad}");
        }
    }
}
