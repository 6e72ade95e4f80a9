//! What systemd makes of it: up by itself, without rights, watched, restarted without refusing anybody.

use anyhow::ensure;
use raspbox_vm::{Appliance, DEADLINE, Filesystem, Ftp, OWNERS_FILE, Stick, wait_until};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::ScopedJoinHandle;

/// As `systemd-analyze security` has it, times ten: the best of comparable services have 22.
const EXPOSURE_MAX: u32 = 12;

/// The watchdog's 30 s, the time that systemd then gives for an end, and a start.
const RESTART_DEADLINE: std::time::Duration = std::time::Duration::from_secs(600);

#[test]
fn booted_it_runs_and_says_so() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    let machine = &appliance.machine;
    assert_eq!(machine.ok("systemctl is-active raspbox")?, "active");
    assert_eq!(machine.ok("systemctl is-system-running")?, "running");
    let status = appliance.says("192.168.50.100")?;
    assert!(
        status.starts_with(
            "DEGRADED: no drive. Plug in the stick labelled RASPBOX (until then uploads are answered \
             with 450) | 0 devices, 0 online | 192.168.50.100 from DHCP"
        ),
        "{status}"
    );
    // The password was taken in, and all else is as it was written.
    let file = String::from_utf8(machine.read(OWNERS_FILE)?)?;
    assert_eq!(
        file,
        Appliance::owners_file().replace(Appliance::PASSWORD, "")
    );
    let page = machine.wait_for(
        DEADLINE,
        "grep -q 192.168.50.100 /boot/firmware/raspbox-status.txt && cat /boot/firmware/raspbox-status.txt",
    )?;
    assert!(page.contains("No problems."), "{page}");
    let logs = machine.ok("journalctl -b --no-pager")?;
    assert!(!logs.contains(Appliance::PASSWORD));
    appliance.nothing_has_failed()
}

#[test]
fn it_has_no_rights() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    let machine = &appliance.machine;
    let analysed = machine.run(&format!(
        "systemd-analyze security --no-pager --threshold={EXPOSURE_MAX} raspbox.service"
    ))?;
    assert_eq!(analysed.status, 0, "{}", analysed.text());
    let status = machine.ok("cat /proc/$(systemctl show -P MainPID raspbox)/status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).unwrap_or_default().to_owned()
    };
    for capabilities in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(capabilities), "0000000000000000", "{capabilities}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Uid:"), "878\t878\t878\t878");
    // The second wall, where the kernel has it.
    let limits = machine.ok(
        "cd /sys/fs/cgroup/system.slice/raspbox.service && cat memory.max pids.max && \
         grep 'open files' /proc/$(systemctl show -P MainPID raspbox)/limits",
    )?;
    let limits: Vec<&str> = limits.split_whitespace().collect();
    let memory = (192 << 20).to_string();
    assert_eq!(
        limits,
        [
            &memory, "256", "Max", "open", "files", "1024", "1024", "files"
        ]
    );
    appliance.nothing_has_failed()
}

#[test]
fn one_that_hangs_is_replaced_and_serves_again() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    let machine = &appliance.machine;
    let stick = Stick::new(64, Filesystem::Ext4, "RASPBOX")?;
    appliance.plug(&stick, 1)?;
    let stored = appliance.ftp()?.store("greeting", b"hello")?;
    assert_eq!(stored.code, 226, "{stored:?}");
    let pid = "systemctl show -P MainPID raspbox";
    let replaced = |before: &str| {
        machine.wait_for(
            RESTART_DEADLINE,
            &format!("test $({pid}) != {before} && systemctl is-active raspbox"),
        )?;
        appliance.says("OK: drive ")?;
        let found = appliance.ftp()?.retrieve("greeting")?;
        ensure!(found.as_deref() == Ok(b"hello"), "{found:?}");
        anyhow::Ok(())
    };
    // As it would be in an endless loop.
    let before = machine.ok(pid)?;
    machine.ok(&format!("kill -STOP {before}"))?;
    replaced(&before)?;
    let said = machine.ok("journalctl -b --no-pager -u raspbox | grep -i watchdog")?;
    assert!(said.contains("timeout"), "{said}");
    // As it would be for want of memory.
    let before = machine.ok(pid)?;
    machine.ok(&format!("kill -KILL {before}"))?;
    replaced(&before)?;
    appliance.nothing_has_failed()
}

#[test]
fn a_restart_refuses_nobody() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    let stick = Stick::new(64, Filesystem::Ext4, "RASPBOX")?;
    appliance.plug(&stick, 1)?;
    let (over, greeted) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        // One computer after another, each of which goes on as soon as it was greeted.
        let comers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        Ftp::connect(appliance.address())?;
                        greeted.fetch_add(1, Ordering::SeqCst);
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for _ in 0..3 {
            let before = greeted.load(Ordering::SeqCst);
            let restarted = appliance.machine.ok("systemctl restart raspbox");
            if restarted.is_err() {
                over.store(true, Ordering::SeqCst);
            }
            restarted?;
            let came = wait_until(DEADLINE, "the next to be greeted", || {
                let more = greeted.load(Ordering::SeqCst) > before;
                let has_gone = comers.iter().any(ScopedJoinHandle::is_finished);
                Ok((more || has_gone).then_some(()))
            });
            if came.is_err() {
                over.store(true, Ordering::SeqCst);
            }
            came?;
        }
        over.store(true, Ordering::SeqCst);
        for comer in comers {
            comer.join().expect("it doesn't panic")?;
        }
        anyhow::Ok(())
    })?;
    appliance.says("OK: drive ")?;
    appliance.nothing_has_failed()
}
