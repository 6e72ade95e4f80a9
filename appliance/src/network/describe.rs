//! What was wanted of the network and what is there → one line for people (pure).

use super::Report;
use super::address::Fixed;
use super::files::Way;
use std::net::Ipv4Addr;

/// A link as it is, other than the loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Whether there is anything at its other end.
    pub(super) runs: bool,
    /// Which of our profiles it follows; `None` where it isn't ours, or NetworkManager doesn't say.
    pub(super) way: Option<Way>,
    /// Its IPv4 addresses.
    pub(super) addresses: Vec<Ipv4Addr>,
}

/// How the machine can be reached.
pub(super) fn describe(fixed: Option<Fixed>, links: &[Link]) -> Report {
    let is_others = |address: &Ipv4Addr| {
        !address.is_link_local() && fixed.is_none_or(|fixed| fixed.address != *address)
    };
    let others = |links: &[Link]| -> Vec<Ipv4Addr> {
        let all = links.iter().flat_map(|link| link.addresses.iter().copied());
        all.filter(is_others).collect()
    };
    let own = links
        .iter()
        .flat_map(|link| &link.addresses)
        .find(|address| address.is_link_local());
    if let Some(fixed) = fixed {
        let has = |link: &&Link| link.addresses.contains(&fixed.address);
        if let Some(link) = links.iter().find(has) {
            let beside = others(std::slice::from_ref(link));
            let elsewhere = beside.iter().find(|other| !fixed.contains(**other));
            return match elsewhere {
                Some(other) => not_as_wanted(format!(
                    "{other} from DHCP (this is another network than that of {})",
                    fixed.address
                )),
                None => as_wanted(format!("{} static", fixed.address)),
            };
        }
    }
    let reached = others(links);
    let ways = |way| links.iter().any(|link| link.way == Some(way));
    // The profile with the address fails only because somebody else has that.
    let why = match fixed {
        None => String::new(),
        Some(fixed) if ways(Way::Fixed) => format!(" ({} isn't there yet)", fixed.address),
        Some(fixed) if ways(Way::Dhcp) || ways(Way::Alone) => {
            format!(" ({} is taken by another machine)", fixed.address)
        }
        Some(fixed) => format!(
            " (not {}: no profile of raspbox's is in use)",
            fixed.address
        ),
    };
    let is_ours = links.iter().any(|link| link.way.is_some());
    let list: Vec<String> = reached.iter().map(ToString::to_string).collect();
    let list = list.join(" and ");
    match (reached.is_empty(), own) {
        (false, _) if fixed.is_none() && is_ours => as_wanted(format!("{list} from DHCP")),
        (false, _) if fixed.is_none() => as_wanted(list),
        (false, _) if is_ours => not_as_wanted(format!("{list} from DHCP{why}")),
        (false, _) => not_as_wanted(format!("{list}{why}")),
        (true, Some(own)) => not_as_wanted(format!("{own} link-local: no DHCP server{why}")),
        (true, None) if links.iter().any(|link| link.runs) => {
            not_as_wanted("no address yet".to_owned() + &why)
        }
        (true, None) => not_as_wanted("no network: no cable, and no Wi-Fi".into()),
    }
}

fn as_wanted(line: String) -> Report {
    Report { line, ok: true }
}

fn not_as_wanted(line: String) -> Report {
    Report { line, ok: false }
}

#[cfg(test)]
mod tests {
    use super::{Link, describe};
    use crate::network::address::Fixed;
    use crate::network::files::Way::{self, Alone, Dhcp, Fixed as Static};

    /// A link that runs, by its way and its addresses.
    fn link(way: impl Into<Option<Way>>, addresses: &str) -> Link {
        Link {
            runs: true,
            way: way.into(),
            addresses: addresses
                .split_whitespace()
                .map(|address| address.parse().unwrap())
                .collect(),
        }
    }

    fn unplugged() -> Link {
        Link {
            runs: false,
            ..link(None, "")
        }
    }

    #[test]
    fn what_was_wanted_and_what_is_there() {
        let check = |fixed: &str, links: &[Link], expect: &str| {
            let report = describe(Fixed::parse(fixed).ok(), links);
            let ok = if report.ok { "ok: " } else { "" };
            assert_eq!(format!("{ok}{}", report.line), expect, "{fixed} {links:?}");
        };
        let none = "no network: no cable, and no Wi-Fi";
        check("", &[], none);
        check("", &[unplugged()], none);
        check("", &[link(None, "")], "no address yet");
        check(
            "",
            &[link(Dhcp, "192.168.1.77")],
            "ok: 192.168.1.77 from DHCP",
        );
        check("", &[link(None, "192.168.1.77")], "ok: 192.168.1.77");
        check(
            "",
            &[link(Dhcp, "192.168.1.77"), unplugged()],
            "ok: 192.168.1.77 from DHCP",
        );
        check(
            "",
            &[link(Dhcp, "192.168.1.77"), link(Dhcp, "192.168.1.78")],
            "ok: 192.168.1.77 and 192.168.1.78 from DHCP",
        );
        check(
            "",
            &[link(Alone, "169.254.7.9")],
            "169.254.7.9 link-local: no DHCP server",
        );
        // The router came up after all.
        check(
            "",
            &[link(Alone, "169.254.7.9 192.168.1.77")],
            "ok: 192.168.1.77 from DHCP",
        );

        let fixed = "192.168.1.50/24";
        check(fixed, &[unplugged()], none);
        check(
            fixed,
            &[link(Static, "192.168.1.50")],
            "ok: 192.168.1.50 static",
        );
        check(
            fixed,
            &[link(Static, "169.254.7.9 192.168.1.50 192.168.1.77")],
            "ok: 192.168.1.50 static",
        );
        check(
            fixed,
            &[link(Static, "192.168.1.50 10.0.0.7")],
            "10.0.0.7 from DHCP (this is another network than that of 192.168.1.50)",
        );
        // A Wi-Fi in another network than the cable is nothing wrong.
        check(
            fixed,
            &[link(Static, "192.168.1.50"), link(Dhcp, "10.0.0.7")],
            "ok: 192.168.1.50 static",
        );
        check(
            fixed,
            &[link(Dhcp, "192.168.1.77")],
            "192.168.1.77 from DHCP (192.168.1.50 is taken by another machine)",
        );
        check(
            fixed,
            &[link(Alone, "169.254.7.9")],
            "169.254.7.9 link-local: no DHCP server (192.168.1.50 is taken by another machine)",
        );
        check(
            fixed,
            &[link(Dhcp, "")],
            "no address yet (192.168.1.50 is taken by another machine)",
        );
        check(
            fixed,
            &[link(Static, "192.168.1.77")],
            "192.168.1.77 from DHCP (192.168.1.50 isn't there yet)",
        );
        check(
            fixed,
            &[link(None, "192.168.1.77")],
            "192.168.1.77 (not 192.168.1.50: no profile of raspbox's is in use)",
        );
    }
}
