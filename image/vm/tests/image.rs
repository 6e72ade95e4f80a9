//! The SD card as it is flashed, with its owner's file, started on the emulated computer.
//!
//! Each start costs minutes of a computer's time, so a test does much with one; `RASPBOX_POWER_CUTS` says how often
//! the power goes, `RASPBOX_USE_MINUTES` how long it is used before that.

use anyhow::{Context, ensure};
use raspbox_vm::{DEADLINE, Filesystem, Ftp, Image, Machine, Stick, wait_until};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What its owner writes. As few ports as can be forwarded one by one.
const OWNERS: &str = "password = \"correct horse\"\r\nname = \"attic\"\r\naddress = \"192.168.50.10/24\"\r\n\
                      gateway = \"192.168.50.2\"\r\npassive_ports = \"61000-61009\"\r\n";

/// QEMU's Raspberry Pi 3 is slow.
const PI3_DEADLINE: Duration = Duration::from_secs(3600);

/// How it listens, and nothing else does: FTP by systemd's socket, mDNS by IPv4 and IPv6.
const LISTENS: [&str; 3] = ["tcp 0.0.0.0:21", "udp *:5353", "udp 0.0.0.0:5353"];

fn at_rest(machine: &Machine) -> anyhow::Result<()> {
    let state = machine.run("systemctl is-system-running --wait")?.text();
    let failed = machine.ok("systemctl --failed --no-legend --plain")?;
    ensure!(state == "running" && failed.is_empty(), "{state}: {failed}");
    Ok(())
}

/// Bytes that were written to the card's three partitions since the start.
fn written(machine: &Machine) -> anyhow::Result<[u64; 3]> {
    let stats = machine.ok("sync; cat /proc/diskstats")?;
    let of = |name: &str| -> anyhow::Result<u64> {
        let line = stats
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|fields| fields[2] == name);
        // Documentation/admin-guide/iostats.rst: sectors written, of 512 bytes.
        Ok(line.with_context(|| format!("no {name}"))?[9].parse::<u64>()? * 512)
    };
    Ok([of("vda1")?, of("vda2")?, of("vda3")?])
}

fn only_memory_is_written_to(machine: &Machine) -> anyhow::Result<()> {
    ensure!(machine.ok("findmnt -no FSTYPE /")? == "overlay");
    let said = machine.ok("cat /run/raspbox-root")?;
    ensure!(said == "memory", "{said}");
    machine.ok("echo x >/root/mark; echo x >/etc/mark; sync")?;
    // By QEMU's count as well, and that first: more may be written at any time.
    let card = machine.blockstats()?["card"].written;
    let [boot, root, state] = written(machine)?;
    println!("written to the card: {boot} B boot, {root} B root, {state} B state");
    ensure!(root == 0, "{root} bytes were written to the card's root");
    ensure!(
        card <= boot + state,
        "{card} bytes to the card, {boot} and {state} by the kernel"
    );
    Ok(())
}

/// A file is saved and synced each minute.
fn use_writes_to_the_state_only(
    machine: &Machine,
    workstation: &Workstation,
    minutes: u64,
) -> anyhow::Result<()> {
    let before = written(machine)?;
    let up_s: u64 = machine.ok("cut -d. -f1 /proc/uptime")?.parse()?;
    for minute in 1..=minutes {
        std::fs::write(workstation.folder().join("minute"), minute.to_string())?;
        workstation.run(&["sync"], "")?;
        let over = format!(
            "test $(cut -d. -f1 /proc/uptime) -ge {}",
            up_s + minute * 60
        );
        machine.wait_for(DEADLINE, &over)?;
    }
    let after = written(machine)?;
    let [boot, root, state] = std::array::from_fn(|n| after[n] - before[n]);
    println!(
        "written to the card in {minutes} minutes of use: {boot} B boot, {root} B root, {state} B state"
    );
    ensure!((boot, root) == (0, 0), "written outside the state");
    Ok(())
}

/// A number that whoever runs the tests may set.
fn wanted(variable: &str, default: u64) -> anyhow::Result<u64> {
    std::env::var(variable).map_or(Ok(default), |value| {
        value.parse().with_context(|| format!("{variable}={value}"))
    })
}

fn nobody_else_listens(machine: &Machine) -> anyhow::Result<()> {
    let listed = machine.ok("ss -Hltun | awk '{ print $1, $5 }'")?;
    let listens: BTreeSet<_> = listed.lines().collect();
    println!("listens: {listens:?}");
    ensure!(
        listens == BTreeSet::from(LISTENS),
        "{}",
        machine.ok("ss -ltunp")?
    );
    Ok(())
}

/// The client, run here.
struct Workstation {
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Workstation {
    fn new() -> anyhow::Result<Workstation> {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "-p", "raspbox"])
            .status()?;
        ensure!(built.success(), "the client can't be built");
        // This program is in target/debug/deps.
        let here = std::env::current_exe()?;
        let target = here
            .parent()
            .and_then(Path::parent)
            .context("a target folder")?;
        Ok(Workstation {
            dir: tempfile::tempdir()?,
            program: target.join("raspbox"),
        })
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("folder")
    }

    fn run(&self, arguments: &[&str], stdin: &str) -> anyhow::Result<String> {
        let input = self.dir.path().join("stdin");
        std::fs::write(&input, stdin)?;
        let output = Command::new(&self.program)
            .args(arguments)
            .arg("--state-dir")
            .arg(self.dir.path().join("state"))
            .stdin(Stdio::from(std::fs::File::open(&input)?))
            .output()?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        ensure!(output.status.success(), "{arguments:?}: {said}");
        Ok(said)
    }
}

#[test]
fn it_is_small_and_says_what_is_in_it() -> anyhow::Result<()> {
    let image = Image::built()?;
    let download_mib = image.download_len()? >> 20;
    println!("the image, compressed: {download_mib} MiB");
    assert!(download_mib < 300);
    let bill = image.bill()?;
    for package in ["raspboxd", "network-manager", "libunftp", "cloud-init"] {
        let is_in = bill.contains(&format!("PackageName: {package}\n"));
        assert_eq!(is_in, package != "cloud-init", "{package}");
    }
    Ok(())
}

#[test]
fn flashed_edited_and_plugged_in_it_serves_and_comes_back_after_power_cuts() -> anyhow::Result<()> {
    let machine = Image::built()?.booted(&[("raspbox.toml", OWNERS)])?;
    at_rest(&machine)?;
    println!("{}", machine.ok("systemd-analyze time")?);
    println!(
        "{}",
        machine.ok("free -m; ps -C raspboxd -o rss=,args= --sort=-rss")?
    );
    only_memory_is_written_to(&machine)?;
    machine.wait_for(
        DEADLINE,
        "ip -4 -br addr show eth0 | grep -F 192.168.50.10/24",
    )?;
    let page = machine.wait_for(
        DEADLINE,
        "grep -F '192.168.50.10 static' /boot/firmware/raspbox-status.txt && \
         cat /boot/firmware/raspbox-status.txt",
    )?;
    assert!(page.contains("No problems."), "{page}");
    assert_eq!(machine.ok("hostname")?, "attic");
    let owners = String::from_utf8(machine.read("/boot/firmware/raspbox.toml")?)?;
    assert_eq!(
        owners,
        OWNERS.replace("correct horse", ""),
        "taken in and blanked"
    );

    assert!(machine.run("touch /srv/raspbox/stray")?.status != 0);

    let stick = Stick::new(256, Filesystem::Ext4, "RASPBOX")?;
    machine.plug(&stick, 1)?;
    machine.wait_for(
        DEADLINE,
        "systemctl show -P StatusText raspbox | grep '^OK: '",
    )?;
    println!("{}", machine.ok("systemctl status --no-pager raspbox")?);
    assert_eq!(machine.ok("systemctl is-active raspbox")?, "active");
    nobody_else_listens(&machine)?;

    let workstation = Workstation::new()?;
    let folder = workstation.folder();
    let appliance = machine.host_forward(21)?.to_string();
    for port in 61000..=61009 {
        machine.host_forward(port)?;
    }
    let status = machine.ok("raspboxd status")?;
    let fingerprint = status
        .lines()
        .find_map(|line| line.strip_prefix("fingerprint "))
        .context("no fingerprint")?;
    workstation.run(
        &[
            "pair",
            &appliance,
            "--folder",
            folder.to_str().context("text")?,
            "--device",
            "laptop",
            "--password-stdin",
            "--fingerprint",
            fingerprint,
        ],
        "correct horse\n",
    )?;
    std::fs::write(folder.join("from-here"), "hello")?;
    workstation.run(&["sync"], "")?;
    assert_eq!(machine.ok("cat /srv/raspbox/from-here")?, "hello");

    use_writes_to_the_state_only(&machine, &workstation, wanted("RASPBOX_USE_MINUTES", 1)?)?;

    let kept = |machine: &Machine| {
        machine.ok("cat /etc/machine-id; raspboxd status | grep fingerprint; raspboxd device list --state /var/lib/raspbox")
    };
    let before = kept(&machine)?;
    for cut in 1..=wanted("RASPBOX_POWER_CUTS", 1)? {
        let name = format!("cut-{cut}");
        std::fs::write(folder.join(&name), &name)?;
        workstation.run(&["sync"], "")?;
        machine.power_cut()?;
        machine.boot_again()?;
        at_rest(&machine)?;
        only_memory_is_written_to(&machine)?;
        machine.wait_for(
            DEADLINE,
            "systemctl show -P StatusText raspbox | grep '^OK: '",
        )?;
        assert_eq!(kept(&machine)?, before);
        assert_eq!(machine.ok(&format!("cat /srv/raspbox/{name}"))?, name);
        assert!(machine.run("ls /root/cut")?.status != 0);
        machine.ok("touch /root/cut")?;
        machine.wait_for(
            DEADLINE,
            "ip -4 -br addr show eth0 | grep -F 192.168.50.10/24",
        )?;
        println!("back after power cut {cut}");
    }
    workstation.run(&["sync"], "")?;
    Ok(())
}

#[test]
fn without_a_password_it_serves_nobody_and_in_maintenance_it_is_changed() -> anyhow::Result<()> {
    let machine = Image::built()?.booted(&[])?;
    at_rest(&machine)?;
    only_memory_is_written_to(&machine)?;
    nobody_else_listens(&machine)?;
    let status = machine.ok("systemctl show -P StatusText raspbox")?;
    assert!(
        status.starts_with("NO PASSWORD: nobody can come in; write password"),
        "{status}"
    );
    let page = machine.ok("cat /boot/firmware/raspbox-status.txt")?;
    assert!(page.contains("password = \"...\""), "{page}");
    assert_eq!(
        machine.ok("awk -F: '$2 !~ /^[*!]/' /etc/shadow; getent passwd builder || :")?,
        "",
        "nobody has a password, and pi-gen's user is gone"
    );

    machine.ok("raspboxd maintenance on")?;
    machine.ok("echo x >/etc/gone")?;
    machine.shut_down()?;
    machine.boot_again()?;
    at_rest(&machine)?;
    assert_eq!(machine.ok("findmnt -no FSTYPE /")?, "ext4");
    assert!(
        machine
            .ok("systemctl show -P StatusText raspbox")?
            .contains("MAINTENANCE")
    );
    machine.ok("test ! -e /etc/gone && echo x >/etc/stays && raspboxd maintenance off")?;
    machine.shut_down()?;
    machine.boot_again()?;
    at_rest(&machine)?;
    only_memory_is_written_to(&machine)?;
    assert_eq!(machine.ok("cat /etc/stays")?, "x");
    Ok(())
}

#[test]
fn on_a_raspberry_pi_3_it_comes_up_and_serves_its_stick() -> anyhow::Result<()> {
    let owners =
        "password = \"correct horse\"\ntls = \"optional\"\npassive_ports = \"61000-61009\"\n";
    let stick = Stick::new(256, Filesystem::Fat, "RASPBOX")?;
    let pi = Image::built()?.in_a_pi3(&[("raspbox.toml", owners)], &stick, 61000..=61009)?;
    let letter: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
    let served = wait_until(PI3_DEADLINE, "a Raspberry Pi 3 to take a file", || {
        // Until it is up nobody answers, and until the stick is served it answers 450.
        let stored = Ftp::login(pi.ftp(), "raspbox", "correct horse")
            .and_then(|mut ftp| Ok((ftp.store("letter", &letter)?.code == 226).then_some(ftp)));
        Ok(stored.unwrap_or_default())
    });
    let mut ftp = served.with_context(|| pi.logs())?;
    let came = ftp.retrieve("letter")?;
    assert!(came == Ok(letter.clone()), "it comes back as it was");
    drop(pi);
    assert!(stick.read("letter")? == letter, "it is on the stick");
    Ok(())
}
