//! How it is reached: whatever the owner wrote and whatever the network is like, there is a way in, and it
//! is said.

use anyhow::{Context, ensure};
use raspbox_vm::{Appliance, DEADLINE, Ftp, OWNERS_FILE, wait_until};
use std::net::Ipv4Addr;
use std::time::Duration;

/// A router is waited for, and an address is asked for first; beside other work all of it takes longer.
const ADDRESS_DEADLINE: Duration = Duration::from_secs(600);

/// What QEMU's router gives.
const GIVEN: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 100);

/// Nobody's.
const FREE: &str = "192.168.50.50";

/// That of QEMU's name server, which answers who asks for it.
const TAKEN: &str = "192.168.50.3";

/// Of another network than the one that the cable leads to.
const ELSEWHERE: &str = "10.1.2.3";

/// As a start with this address in the owner's file, but for the minutes that a start takes.
fn starts_with(appliance: &Appliance, address: &str) -> anyhow::Result<()> {
    let mut file = Appliance::owners_file().replace(Appliance::PASSWORD, "");
    if !address.is_empty() {
        let net = address.rsplit_once('.').map_or("", |(net, _)| net);
        file += &format!("address = \"{address}/24\"\r\ngateway = \"{net}.2\"\r\n");
    }
    appliance.machine.write(OWNERS_FILE, file.as_bytes())?;
    appliance.machine.ok(
        "systemctl stop raspbox-network NetworkManager && ip address flush dev eth0 && \
         rm -rf /run/NetworkManager/devices && systemctl restart raspbox-boot && \
         systemctl start NetworkManager raspbox-network",
    )?;
    Ok(())
}

/// Waits until `raspbox-status.txt` says this of the network, and the daemon's status as well.
fn says(appliance: &Appliance, line: &str) -> anyhow::Result<()> {
    let page = "/boot/firmware/raspbox-status.txt";
    let looked = appliance.machine.wait_for(
        ADDRESS_DEADLINE,
        &format!("grep -qxF '  {line}\r' {page} || ! cat {page} /run/raspbox/network.json"),
    );
    let addresses = appliance.machine.ok("ip -4 -br address; nmcli device")?;
    looked.with_context(|| format!("{line:?}: {addresses}"))?;
    let status = appliance.says(line)?;
    ensure!(status.ends_with(line), "{status}");
    Ok(())
}

/// Somebody who comes to it at this address is greeted.
fn is_reached(appliance: &Appliance, address: Ipv4Addr) -> anyhow::Result<()> {
    let here = appliance.machine.host_forward_to(address, 21)?;
    wait_until(DEADLINE, "somebody to be greeted", || {
        Ok(Ftp::connect(here).ok().map(drop))
    })
    .with_context(|| format!("at {address}"))
}

fn has(appliance: &Appliance, network: &str) -> anyhow::Result<()> {
    let found = appliance.machine.ok("ip -4 -br address show eth0")?;
    ensure!(found.contains(network), "{network}… isn't there: {found}");
    Ok(())
}

#[test]
fn with_a_router_there_is_always_its_address() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    says(&appliance, "192.168.50.100 from DHCP")?;

    starts_with(&appliance, FREE)?;
    says(&appliance, "192.168.50.50 static")?;
    is_reached(&appliance, FREE.parse()?)?;

    starts_with(&appliance, TAKEN)?;
    says(
        &appliance,
        "192.168.50.100 from DHCP (192.168.50.3 is taken by another machine)",
    )?;
    is_reached(&appliance, GIVEN)?;

    starts_with(&appliance, ELSEWHERE)?;
    says(
        &appliance,
        "192.168.50.100 from DHCP (this is another network than that of 10.1.2.3)",
    )?;
    is_reached(&appliance, GIVEN)?;

    appliance.machine.cable(false)?;
    says(&appliance, "no network: no cable, and no Wi-Fi")?;
    appliance.machine.cable(true)?;
    is_reached(&appliance, GIVEN)?;
    appliance.nothing_has_failed()
}

#[test]
fn without_a_router_there_is_at_least_an_address_of_its_own() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    // The router's answers don't come any more.
    appliance.machine.ok(
        "tc qdisc add dev eth0 clsact && tc filter add dev eth0 ingress protocol ip u32 \
         match ip protocol 17 0xff match ip dport 68 0xffff action drop",
    )?;
    starts_with(&appliance, FREE)?;
    says(&appliance, "192.168.50.50 static")?;
    is_reached(&appliance, FREE.parse()?)?;

    starts_with(&appliance, ELSEWHERE)?;
    says(&appliance, "10.1.2.3 static")?;
    has(&appliance, " 169.254.")?;

    starts_with(&appliance, TAKEN)?;
    appliance.machine.wait_for(
        ADDRESS_DEADLINE,
        "grep 'link-local: no DHCP server (192.168.50.3 is taken by another machine)' \
         /boot/firmware/raspbox-status.txt",
    )?;
    has(&appliance, " 169.254.")?;
    appliance.says("link-local: no DHCP server (192.168.50.3 is taken")?;

    // It is asked on and on: the router was only slower than we are.
    appliance.machine.ok("tc qdisc del dev eth0 clsact")?;
    says(
        &appliance,
        "192.168.50.100 from DHCP (192.168.50.3 is taken by another machine)",
    )?;
    is_reached(&appliance, GIVEN)?;
    appliance.nothing_has_failed()
}
