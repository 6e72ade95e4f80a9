//! The packages, as somebody installs, upgrades and removes them.

use raspbox_vm::{Appliance, DEADLINE};

#[test]
fn installed_it_runs() -> anyhow::Result<()> {
    let machine = Appliance::installed()?.0.start()?;
    assert_eq!(
        machine.ok("systemctl is-active raspbox.service raspbox.socket")?,
        "active\nactive"
    );
    assert_eq!(
        machine.ok("systemctl is-enabled raspbox.service raspbox.socket")?,
        "enabled\nenabled"
    );
    assert_eq!(
        machine.ok("stat -c %U /proc/$(systemctl show -P MainPID raspbox)")?,
        "raspbox"
    );
    assert_ne!(machine.ok("systemctl show -P StatusText raspbox")?, "");
    // The mount point is empty and stays so.
    assert!(machine.run("touch /srv/raspbox/stray")?.status != 0);
    assert_eq!(machine.ok("systemctl --failed --no-legend")?, "");

    // Somebody who comes by the network is greeted.
    let address = machine.host_forward(21)?;
    let connection = std::net::TcpStream::connect(address)?;
    connection.set_read_timeout(Some(DEADLINE))?;
    let mut greeting = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(connection), &mut greeting)?;
    assert!(greeting.starts_with("220 "), "{greeting:?}");
    Ok(())
}

#[test]
fn upgraded_it_keeps_what_was_set_and_runs_the_new_one() -> anyhow::Result<()> {
    let (snapshot, package) = Appliance::installed()?;
    let machine = snapshot.start()?;
    machine.ok("echo secret-word | raspboxd user --state /var/lib/raspbox set ada --password-stdin && systemctl disable raspbox.service")?;
    let before = machine.ok("systemctl show -P MainPID raspbox")?;
    package.with_version("99")?.install(&machine)?;
    assert_eq!(
        machine.ok("dpkg-query -W -f '${Version} ${Status}' raspboxd")?,
        "99 install ok installed"
    );
    let after = machine.wait_for(
        DEADLINE,
        "systemctl is-active --quiet raspbox && systemctl show -P MainPID raspbox",
    )?;
    assert_ne!(before, after, "the new program runs");
    assert!(
        machine
            .ok("raspboxd user --state /var/lib/raspbox list")?
            .contains("ada")
    );
    assert_eq!(
        machine.run("systemctl is-enabled raspbox.service")?.text(),
        "disabled",
        "the owner's word"
    );
    assert_eq!(machine.ok("systemctl --failed --no-legend")?, "");
    Ok(())
}

#[test]
fn removed_it_keeps_its_state_and_purged_it_leaves_nothing() -> anyhow::Result<()> {
    let machine = Appliance::installed()?.0.start()?;
    machine.ok("dpkg --remove raspboxd")?;
    assert_eq!(
        machine.ok("systemctl list-units --no-legend 'raspbox*'")?,
        ""
    );
    machine.ok("test -d /var/lib/raspbox")?;
    machine.ok("dpkg --purge raspboxd")?;
    let left = machine.ok("find /usr /etc /var/lib /srv -xdev -iname '*raspbox*'")?;
    assert_eq!(left, "");
    assert_eq!(machine.ok("systemctl --failed --no-legend")?, "");
    Ok(())
}
