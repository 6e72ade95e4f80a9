//! What is there: addresses by the kernel, profiles by NetworkManager.

use super::describe::Link;
use super::files::{Way, way};
use crate::programs::{self, NMCLI};
use crate::root::Root;
use anyhow::{Context, bail};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use std::collections::BTreeMap;

/// All links but the loopback, by their names.
pub(super) fn links(root: &Root) -> anyhow::Result<Vec<Link>> {
    let ways = ways(root).unwrap_or_else(|error| {
        // The addresses count.
        tracing::warn!(
            error = format!("{error:#}"),
            "NetworkManager doesn't say what it does"
        );
        BTreeMap::new()
    });
    let mut links: BTreeMap<String, Link> = BTreeMap::new();
    for found in getifaddrs().context("cannot list the addresses")? {
        if found.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            continue;
        }
        let link = links
            .entry(found.interface_name.clone())
            .or_insert_with(|| Link {
                runs: found.flags.contains(InterfaceFlags::IFF_RUNNING),
                way: ways.get(&found.interface_name).copied(),
                addresses: Vec::new(),
            });
        if let Some(address) = found
            .address
            .as_ref()
            .and_then(|address| address.as_sockaddr_in())
        {
            link.addresses.push(address.ip());
        }
    }
    Ok(links.into_values().collect())
}

/// Which of our profiles each device follows, those that are only about to included.
fn ways(root: &Root) -> anyhow::Result<BTreeMap<String, Way>> {
    let nmcli = root.at(NMCLI);
    let fields = ["--terse", "--fields", "UUID,DEVICE"];
    let arguments = [&fields[..], &["connection", "show", "--active"]].concat();
    let answer = programs::ask(&nmcli.to_string_lossy(), &arguments)?;
    if answer.code != Some(0) {
        bail!("{NMCLI}: {}", answer.said);
    }
    Ok(parse(&answer.out))
}

/// Lines of "UUID:DEVICE".
fn parse(text: &str) -> BTreeMap<String, Way> {
    text.lines()
        .filter_map(|line| {
            let (uuid, device) = line.split_once(':')?;
            Some((device.to_owned(), way(uuid)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Way, parse};

    #[test]
    fn only_our_profiles_are_ways() {
        let ways = parse(
            "6f1c0d5e-8b0e-4c3a-9d57-2e61b4a7f0a1:end0\nbb0d8b83-5f0c-3c7e-8a43-6d4b7d3d7b4e:lo\n\
             6f1c0d5e-8b0e-4c3a-9d57-2e61b4a7f0b2:wlan0\nnonsense\n",
        );
        let ways: Vec<_> = ways
            .iter()
            .map(|(device, way)| (device.as_str(), *way))
            .collect();
        assert_eq!(ways, [("end0", Way::Dhcp), ("wlan0", Way::Alone)]);
    }
}
