//! The machines themselves: what tests of the appliance rely on.

use anyhow::ensure;
use raspbox_vm::{DEADLINE, Filesystem, Machine, Snapshot, Stick, wait_until};
use std::io::{Read, Write};
use std::net::TcpStream;

#[test]
fn it_comes_up_and_nothing_has_failed() -> anyhow::Result<()> {
    let machine = Machine::booted()?;
    assert_eq!(machine.ok("systemctl is-system-running")?, "running");
    assert_eq!(machine.ok("systemctl --failed --no-legend")?, "");
    assert_eq!(machine.ok("uname -m")?, "aarch64");
    assert!(
        machine
            .ok("findmnt -no OPTIONS /boot/firmware")?
            .contains("rw")
    );
    assert!(
        machine
            .ok("ip -4 -br addr show eth0")?
            .contains(" 192.168.50.100/24")
    );
    Ok(())
}

#[test]
fn the_shell_gives_all_bytes_and_the_status() -> anyhow::Result<()> {
    let machine = Machine::booted()?;
    let all: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
    let output = machine.run_with("cat; printf 'no\\r\\n\\001' >&2; exit 7", &all)?;
    // Not assert_eq!, which would print a MiB.
    assert!(output.stderr == b"no\r\n\x01", "its stderr, apart");
    assert_eq!(output.status, 7);
    assert!(output.stdout == all, "1 MiB there and back, byte for byte");
    assert_eq!(machine.run("kill -9 $$")?.status, 137);
    // What stays in the background holds nothing up.
    machine.ok("(while :; do echo still here; sleep 0.1; done) &")?;
    machine.write("/run/a file's name/deep", b"content")?;
    assert_eq!(machine.read("/run/a file's name/deep")?, b"content");
    assert!(machine.ok("false").is_err());
    Ok(())
}

#[test]
fn each_is_a_fresh_copy() -> anyhow::Result<()> {
    let (one, other) = (Machine::booted()?, Machine::booted()?);
    one.ok("echo one >/root/mark; echo one >/run/mark; sync")?;
    assert_eq!(other.run("cat /root/mark /run/mark")?.text(), "");
    drop(one);
    assert_eq!(
        Machine::booted()?.run("cat /root/mark /run/mark")?.text(),
        ""
    );
    Ok(())
}

#[test]
fn a_snapshot_goes_on_from_another() -> anyhow::Result<()> {
    let marked = |inputs: &[u8]| {
        Snapshot::booted()?.then("machine-test", &[inputs], |machine| {
            machine.ok("echo disk >/root/mark; echo memory >/run/mark; dd if=/dev/urandom of=/root/big bs=1M count=8 status=none; sha256sum /root/big >/root/big.sum").map(drop)
        })
    };
    let machine = marked(b"1")?.start()?;
    assert_eq!(machine.ok("cat /root/mark /run/mark")?, "disk\nmemory");
    machine.ok("echo 3 >/proc/sys/vm/drop_caches; sha256sum --check /root/big.sum; rm /root/*")?;
    // The copy's changes are its own.
    assert_eq!(marked(b"1")?.start()?.ok("cat /root/mark")?, "disk");
    Ok(())
}

#[test]
fn a_stick_is_seen_and_gone() -> anyhow::Result<()> {
    let machine = Machine::booted()?;
    for (port, filesystem) in (1..).zip(Filesystem::ALL) {
        let stick = Stick::new(64, filesystem, "RASPBOX")?;
        machine.plug(&stick, port)?;
        assert!(machine.plug(&stick, port).is_err(), "the port is taken");
        let device = machine.wait_for(DEADLINE, "readlink -e /dev/disk/by-label/RASPBOX")?;
        machine.ok(&format!(
            "mount {device} /mnt && echo hello >/mnt/greeting && umount /mnt"
        ))?;
        assert!(machine.blockstats()?[&format!("usb-{port}")].written > 0);
        machine.unplug(port)?;
        machine.wait_for(
            DEADLINE,
            &format!("test ! -e {device} && test ! -e /dev/disk/by-label/RASPBOX"),
        )?;
        let check = stick.check()?;
        assert!(check.clean, "{filesystem:?}: {}", check.said);
        if filesystem != Filesystem::Exfat {
            assert_eq!(stick.read("greeting")?, b"hello\n");
            assert!(stick.read("nothing").is_err());
        }
    }
    assert_eq!(machine.ok("systemctl --failed --no-legend")?, "");
    Ok(())
}

#[test]
fn a_stick_is_pulled_out_while_it_is_written() -> anyhow::Result<()> {
    let machine = Machine::booted()?;
    let stick = Stick::new(64, Filesystem::Ext4, "RASPBOX")?;
    machine.plug(&stick, 2)?;
    let device = machine.wait_for(DEADLINE, "readlink -e /dev/disk/by-label/RASPBOX")?;
    machine.ok(&format!(
        "mount {device} /mnt && echo synced >/mnt/first && sync"
    ))?;
    machine.ok(
        "(i=0; while echo $i >/mnt/$i && sync /mnt/$i; do i=$((i+1)); done; echo $i >/run/end) &",
    )?;
    machine.wait_for(DEADLINE, "test -e /mnt/5")?;
    machine.unplug(2)?;
    machine.wait_for(DEADLINE, "test -s /run/end")?;
    machine.ok("umount -l /mnt")?;
    assert!(stick.check()?.clean);
    assert_eq!(stick.read("first")?, b"synced\n");
    assert_eq!(stick.read("5")?, b"5\n");
    machine.plug(&stick, 3)?;
    machine.wait_for(DEADLINE, "test -e /dev/disk/by-label/RASPBOX")?;
    Ok(())
}

#[test]
fn after_a_power_cut_it_boots_again() -> anyhow::Result<()> {
    let machine = Machine::booted()?;
    let stick = Stick::new(64, Filesystem::Ext4, "RASPBOX")?;
    machine.plug(&stick, 1)?;
    let device = machine.wait_for(DEADLINE, "readlink -e /dev/disk/by-label/RASPBOX")?;
    machine.ok(&format!(
        "mount {device} /mnt && echo synced >/mnt/first && sync"
    ))?;
    machine.ok("echo kept >/root/kept; sync; echo gone >/run/gone")?;
    std::thread::scope(|scope| {
        // Begun or not: a command ends with the machine.
        let command = scope.spawn(|| machine.run("sleep 100000"));
        machine.power_cut()?;
        assert!(command.join().expect("no panic").is_err());
        anyhow::Ok(())
    })?;
    assert!(machine.run("true").is_err());
    assert!(stick.check()?.clean, "its journal is played");
    assert_eq!(stick.read("first")?, b"synced\n");

    machine.boot_again()?;
    assert_eq!(machine.ok("systemctl is-system-running --wait")?, "running");
    assert_eq!(
        machine.ok("cat /root/kept; ls /run/gone 2>/dev/null || :")?,
        "kept"
    );
    machine.wait_for(
        DEADLINE,
        "mount /dev/disk/by-label/RASPBOX /mnt && cat /mnt/first",
    )?;
    machine.shut_down()?;
    Ok(())
}

#[test]
fn its_ports_can_be_reached_from_here() -> anyhow::Result<()> {
    let machine = Machine::booted()?;
    machine.write(
        "/run/systemd/system/echo.socket",
        b"[Socket]\nListenStream=2121\nAccept=yes\n",
    )?;
    machine.write(
        "/run/systemd/system/echo@.service",
        b"[Service]\nExecStart=cat\nStandardInput=socket\n",
    )?;
    machine.ok("systemctl daemon-reload && systemctl start echo.socket")?;
    let address = machine.host_forward(2121)?;
    let answer = || -> anyhow::Result<[u8; 5]> {
        let mut connection = TcpStream::connect(address)?;
        connection.set_read_timeout(Some(DEADLINE))?;
        connection.write_all(b"hello")?;
        let mut answer = [0; 5];
        connection.read_exact(&mut answer)?;
        Ok(answer)
    };
    assert_eq!(&answer()?, b"hello");
    assert!(machine.host_forward(2121).is_err(), "it is taken");

    machine.cable(false)?;
    machine.wait_for(DEADLINE, "test \"$(cat /sys/class/net/eth0/carrier)\" = 0")?;
    machine.cable(true)?;
    wait_until(DEADLINE, "an answer after the cable is back", || {
        Ok(answer().ok())
    })?;
    Ok(())
}

#[test]
fn none_is_left_behind() -> anyhow::Result<()> {
    let (tell, told) = std::sync::mpsc::channel();
    let panicked = std::thread::spawn(move || {
        let machine = Machine::booted().expect("a machine");
        tell.send(machine.pid().expect("it runs")).expect("heard");
        panic!("on purpose");
    });
    let process = std::path::Path::new("/proc").join(told.recv()?.to_string());
    assert!(panicked.join().is_err());
    ensure!(!process.exists(), "{} is there", process.display());
    Ok(())
}

#[test]
fn a_broken_stick_is_found_and_mended() -> anyhow::Result<()> {
    for filesystem in Filesystem::ALL {
        let stick = Stick::new(64, filesystem, "RASPBOX")?;
        assert!(stick.check()?.clean, "{filesystem:?}");
        match filesystem {
            // The inode table's block bitmap; the first FAT, not the second; the boot region's checksum.
            Filesystem::Ext4 => {
                stick.write("letter", b"dear")?;
                stick.overwrite(1024 + 12, &[9, 9])?; // free blocks, in the superblock
            }
            Filesystem::Fat => {
                stick.write("letter", b"dear")?;
                stick.mark_dirty()?;
            }
            Filesystem::Exfat => stick.overwrite(0x80, &[1; 8])?,
        }
        let check = stick.check()?;
        assert!(!check.clean, "{filesystem:?}: {}", check.said);
        stick.mend()?;
        let check = stick.check()?;
        assert!(check.clean, "{filesystem:?}: {}", check.said);
        if filesystem != Filesystem::Exfat {
            assert_eq!(stick.read("letter")?, b"dear");
        }
    }
    Ok(())
}
