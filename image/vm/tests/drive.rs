//! Drives that come and go, on a kernel that really has them.

use anyhow::{Context, ensure};
use raspbox_try::bed::Workstation;
use raspbox_vm::{Appliance, DEADLINE, Filesystem, Ftp, Stick, wait_until};
use std::fs;
use std::path::Path;

/// Enough for FAT32, and small enough to be filled.
const STICK_MIB: u64 = 64;

const MIB: usize = 1 << 20;

fn stick(filesystem: Filesystem) -> anyhow::Result<Stick> {
    Stick::new(STICK_MIB, filesystem, "RASPBOX")
}

/// As the status calls it.
fn name(filesystem: Filesystem) -> &'static str {
    match filesystem {
        Filesystem::Ext4 => "ext4",
        Filesystem::Exfat => "exFAT",
        Filesystem::Fat => "FAT",
    }
}

/// A content that no other has, and no part of which is like another.
fn content(seed: &str, len: usize) -> Vec<u8> {
    let mut content = vec![0; len];
    blake3::Hasher::new()
        .update(seed.as_bytes())
        .finalize_xof()
        .fill(&mut content);
    content
}

fn stored(ftp: &mut Ftp, path: &str, content: &[u8]) -> anyhow::Result<()> {
    let reply = ftp.store(path, content)?;
    ensure!(reply.code == 226, "STOR {path}: {reply:?}");
    Ok(())
}

/// Not assert_eq!, which would print it all.
fn stands(ftp: &mut Ftp, path: &str, content: &[u8]) -> anyhow::Result<()> {
    match ftp.retrieve(path)? {
        Ok(found) => ensure!(found == content, "{path} has another content"),
        Err(reply) => anyhow::bail!("RETR {path}: {reply:?}"),
    }
    Ok(())
}

/// A computer that is paired with it, with a folder in `dir`.
fn paired(appliance: &Appliance, dir: &Path, name: &str) -> anyhow::Result<Workstation> {
    let program = Path::new(env!("CARGO_BIN_EXE_raspbox-vm-workstation"));
    let workstation = Workstation::new(program, dir, name);
    let fingerprint = appliance
        .machine
        .ok("raspboxd status | sed -n 's/^fingerprint //p'")?;
    workstation.pair_with(
        &appliance.address().to_string(),
        Appliance::PASSWORD,
        &["--fingerprint", &fingerprint],
    )?;
    Ok(workstation)
}

#[test]
fn a_stick_with_the_label_is_served_and_gone_and_served_by_another_name() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    let machine = &appliance.machine;
    for filesystem in Filesystem::ALL {
        let stick = stick(filesystem)?;
        let status = appliance.plug(&stick, 1)?;
        let expected = format!("OK: drive RASPBOX {}, ", name(filesystem));
        assert!(status.starts_with(&expected), "{status}");
        let options = machine.ok("findmnt -no OPTIONS /srv/raspbox")?;
        for option in ["nosuid", "nodev", "noexec", "noatime", "rw"] {
            assert!(options.split(',').any(|o| o == option), "{options}");
        }
        let greeting = content("greeting", MIB);
        stored(&mut appliance.ftp()?, "greeting", &greeting)?;

        // While nothing is going on. Nobody writes to the card instead, or finds anything there.
        let mut before = appliance.ftp()?;
        appliance.unplug(1)?;
        assert!(before.command("NOOP").is_err(), "no session outlives it");
        let mut ftp = appliance.ftp()?;
        let reply = ftp.store("greeting", b"another")?;
        assert_eq!(reply.code, 450, "{reply:?}");
        let reply = ftp.retrieve("greeting")?.expect_err("there is no drive");
        assert_eq!(reply.code, 450, "{reply:?}");
        assert!(machine.run("touch /srv/raspbox/stray")?.status != 0);
        assert_eq!(machine.ok("ls -A /srv/raspbox")?, "");

        // Somebody else's has its name now.
        let other = Stick::new(STICK_MIB, Filesystem::Fat, "HOLIDAYS")?;
        machine.plug(&other, 3)?;
        appliance.says("label \"HOLIDAYS\"")?;
        appliance.plug(&stick, 2)?;
        assert_eq!(machine.ok("findmnt -no SOURCE /srv/raspbox")?, "/dev/sdb1");
        stands(&mut appliance.ftp()?, "greeting", &greeting)?;
        machine.unplug(3)?;
        appliance.unplug(2)?;
        let check = stick.check()?;
        ensure!(
            check.clean || filesystem == Filesystem::Fat,
            "{filesystem:?}: {}",
            check.said
        );
    }
    appliance.nothing_has_failed()
}

#[test]
fn unplugged_in_the_middle_of_an_upload_it_has_all_or_nothing_of_it() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    for filesystem in Filesystem::ALL {
        let stick = stick(filesystem)?;
        appliance.plug(&stick, 1)?;
        let (kept, half) = (content("kept", MIB), content("half", 8 * MIB));
        let mut ftp = appliance.ftp()?;
        stored(&mut ftp, "kept", &kept)?;
        stored(&mut ftp, "half", b"as it was")?;
        let mut upload = ftp.upload("half")?.expect("it begins");
        upload.send(&half[..4 * MIB])?;
        let written = || -> anyhow::Result<bool> {
            let staged = "find /srv/raspbox/.raspbox/staging -type f -size +1M";
            Ok(!appliance.machine.ok(staged)?.is_empty())
        };
        wait_until(DEADLINE, "half of it to be there", || {
            Ok(written()?.then_some(()))
        })?;
        appliance.machine.unplug(1)?;
        let _ = upload.send(&half[4 * MIB..]);
        // Or it is hung up on, as all who had to do with the drive.
        if let Ok(reply) = upload.end() {
            assert!(reply.code >= 400, "{filesystem:?}: {reply:?}");
        }
        appliance.says("DEGRADED: no drive")?;

        appliance.plug(&stick, 2)?;
        let mut ftp = appliance.ftp()?;
        stands(&mut ftp, "kept", &kept)?;
        stands(&mut ftp, "half", b"as it was")?;
        stored(&mut ftp, "half", &half)?;
        stands(&mut ftp, "half", &half)?;
        appliance.unplug(2)?;
    }
    appliance.nothing_has_failed()
}

#[test]
fn a_computer_syncs_and_waits_and_halts_at_another_drive() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    let machine = &appliance.machine;
    let dir = tempfile::tempdir()?;
    let (ours, other) = (stick(Filesystem::Ext4)?, stick(Filesystem::Exfat)?);
    appliance.plug(&ours, 1)?;
    let laptop = paired(&appliance, dir.path(), "laptop")?;
    let desktop = paired(&appliance, dir.path(), "desktop")?;
    let photo = content("photo", 3 * MIB);
    fs::create_dir(laptop.folder.join("photos"))?;
    fs::write(laptop.folder.join("photos/photo"), &photo)?;
    fs::write(laptop.folder.join("letter"), "dear")?;
    laptop.sync()?;
    desktop.sync()?;
    assert!(fs::read(desktop.folder.join("photos/photo"))? == photo);
    assert_eq!(fs::read(desktop.folder.join("letter"))?, b"dear");
    assert!(machine.read("/srv/raspbox/photos/photo")? == photo);
    let status = appliance.says("2 devices")?;
    assert!(status.starts_with("OK: drive RASPBOX ext4"), "{status}");

    // Without a drive, it waits. (3: the other side can't be reached, as Exit has it.)
    let all_is_there = || -> anyhow::Result<()> {
        ensure!(fs::read(laptop.folder.join("photos/photo"))? == photo);
        ensure!(fs::read(laptop.folder.join("letter"))? == b"dear");
        Ok(())
    };
    appliance.unplug(1)?;
    let round = laptop.run(&["sync"])?;
    let said = String::from_utf8_lossy(&round.stderr).into_owned();
    assert_eq!(round.status.code(), Some(3), "{said}");
    all_is_there().context("without a drive")?;

    // With another one, it halts.
    appliance.plug(&other, 1)?;
    let round = laptop.run(&["sync"])?;
    let said = String::from_utf8_lossy(&round.stderr).into_owned();
    assert_eq!(round.status.code(), Some(5), "{said}");
    assert!(said.contains("another drive"), "{said}");
    all_is_there().context("with another drive")?;
    assert_eq!(
        machine.ok("cd /srv/raspbox && ls -A")?,
        ".raspbox",
        "nothing was sent to it"
    );

    // And goes on with its own, which has lost nothing either.
    appliance.unplug(1)?;
    appliance.plug(&ours, 2)?;
    fs::write(desktop.folder.join("letter"), "dear all")?;
    desktop.sync()?;
    laptop.sync()?;
    assert_eq!(fs::read(laptop.folder.join("letter"))?, b"dear all");
    assert!(machine.read("/srv/raspbox/photos/photo")? == photo);
    appliance.nothing_has_failed()
}

#[test]
fn a_second_drive_waits_for_the_place_of_the_first() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    let (first, second) = (stick(Filesystem::Ext4)?, stick(Filesystem::Fat)?);
    appliance.plug(&first, 1)?;
    appliance.machine.plug(&second, 2)?;
    appliance
        .machine
        .wait_for(DEADLINE, "grep -q 'is in use' /run/raspbox/sticks/*.json")?;
    assert!(appliance.status()?.contains("RASPBOX ext4"));
    appliance.machine.unplug(1)?;
    appliance.says("OK: drive RASPBOX FAT")?;
    appliance.nothing_has_failed()
}

#[test]
fn a_stick_without_the_label_is_left_alone_until_it_is_adopted() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    let machine = &appliance.machine;
    for filesystem in Filesystem::ALL {
        let stick = Stick::new(STICK_MIB, filesystem, "")?;
        machine.plug(&stick, 1)?;
        let command = "raspboxd drive adopt /dev/sda1";
        let status = appliance.says(command)?;
        assert!(status.contains("no label"), "{status}");
        assert_ne!(machine.run("findmnt /srv/raspbox")?.status, 0);
        machine.ok(command)?;
        appliance.says("OK: drive /dev/sda1 ")?;
        stored(&mut appliance.ftp()?, "greeting", b"hello")?;
        appliance.unplug(1)?;
        // It is known from now on.
        appliance.plug(&stick, 1)?;
        stands(&mut appliance.ftp()?, "greeting", b"hello")?;
        appliance.unplug(1)?;
    }
    // What can't be served is said, and stays as it is.
    let blank = Stick::unformatted(STICK_MIB)?;
    machine.plug(&blank, 1)?;
    appliance.says("'sudo raspboxd drive format /dev/sda1' says how to make one")?;
    // Without the words it only says what is on it.
    machine.ok("raspboxd drive format /dev/sda1")?;
    assert_ne!(machine.run("blkid /dev/sda1 | grep TYPE=")?.status, 0);
    machine.ok("raspboxd drive format --i-understand-this-erases /dev/sda1")?;
    appliance.says("OK: drive RASPBOX ext4")?;
    appliance.nothing_has_failed()
}

#[test]
fn a_broken_ext4_is_only_read() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    let stick = stick(Filesystem::Ext4)?;
    appliance.plug(&stick, 1)?;
    stored(&mut appliance.ftp()?, "letter", b"dear")?;
    appliance.unplug(1)?;
    stick.link_a_folder()?;
    appliance.machine.plug(&stick, 1)?;
    let status = appliance.says("DEGRADED: the drive can only be read")?;
    assert!(status.contains("broken"), "{status}");
    let options = appliance.machine.ok("findmnt -no OPTIONS /srv/raspbox")?;
    assert!(options.starts_with("ro,"), "{options}");
    let mut ftp = appliance.ftp()?;
    stands(&mut ftp, "letter", b"dear")?;
    let reply = ftp.store("letter", b"another")?;
    assert_eq!(reply.code, 450, "{reply:?}");
    // Mended elsewhere, it is a drive again.
    appliance.unplug(1)?;
    stick.mend()?;
    appliance.plug(&stick, 1)?;
    stored(&mut appliance.ftp()?, "letter", b"another")?;
    appliance.nothing_has_failed()
}

#[test]
fn what_can_be_repaired_is_and_is_said() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    for filesystem in Filesystem::ALL {
        let stick = stick(filesystem)?;
        appliance.plug(&stick, 1)?;
        let letter = content("letter", MIB);
        stored(&mut appliance.ftp()?, "letter", &letter)?;
        appliance.unplug(1)?;
        stick.mark_dirty()?;
        let status = appliance.plug(&stick, 1)?;
        assert!(
            status.contains("repaired when it was plugged in"),
            "{filesystem:?}: {status}"
        );
        stands(&mut appliance.ftp()?, "letter", &letter)?;
        appliance.unplug(1)?;
    }
    appliance.nothing_has_failed()
}

#[test]
fn what_nobody_can_repair_or_read_costs_nothing_else() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    for filesystem in Filesystem::ALL {
        let stick = stick(filesystem)?;
        stick.overwrite(512, &vec![0xAA; MIB])?;
        appliance.machine.plug(&stick, 1)?;
        let told = wait_until(DEADLINE, "the status to say what is wrong", || {
            let status = appliance.status()?;
            Ok((!status.contains("no drive. Plug")).then_some(()))
        });
        told.with_context(|| {
            let journal = appliance.machine.run("journalctl -b --no-pager -n 60");
            format!(
                "{filesystem:?}: {}",
                journal.map_or_else(|e| e.to_string(), |j| j.text())
            )
        })?;
        appliance.machine.unplug(1)?;
        appliance.says("DEGRADED: no drive. Plug")?;
    }
    appliance.nothing_has_failed()
}

#[test]
fn a_full_drive_takes_no_more_and_lets_old_versions_go_first() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    for filesystem in Filesystem::ALL {
        let stick = stick(filesystem)?;
        appliance.plug(&stick, 1)?;
        let mut ftp = appliance.ftp()?;
        let free_mib = || -> anyhow::Result<u64> {
            let kib: u64 = appliance
                .machine
                .ok("df --output=avail -k /srv/raspbox | tail -1")?
                .trim()
                .parse()?;
            Ok(kib / 1024)
        };
        // Each replaces the one before, which is kept as long as there is room: more of them than fit.
        let piece = 6 * MIB;
        for round in 0..14 {
            stored(
                &mut ftp,
                "diary",
                &content(&format!("diary {round}"), piece),
            )?;
        }
        let versions = "find /srv/raspbox/.raspbox/versions -type f -size +1M | wc -l";
        let kept: u32 = appliance.machine.ok(versions)?.parse()?;
        assert!((1..13).contains(&kept), "{filesystem:?}: {kept} versions");

        // Files that are there are nobody's to let go.
        let mut stored_files = Vec::new();
        let refused = loop {
            let name = format!("file {}", stored_files.len());
            let reply = ftp.store(&name, &content(&name, piece))?;
            if reply.code != 226 {
                break reply;
            }
            stored_files.push(name);
            ensure!(stored_files.len() < 14, "more than the drive can hold");
        };
        assert_eq!(refused.code, 452, "{filesystem:?}: {refused:?}");
        assert!(stored_files.len() > 3, "{filesystem:?}: {stored_files:?}");
        // Small pieces fill what the large ones left.
        for n in 0.. {
            ensure!(n < 14, "more than the drive can hold");
            if ftp
                .store(&format!("small {n}"), &content("small", MIB / 2))?
                .code
                != 226
            {
                break;
            }
        }
        appliance.says("FULL: nothing more can be saved")?;
        let free = free_mib()?;
        assert!(
            free + 1 >= Appliance::KEEP_FREE_MIB,
            "{filesystem:?}: {free} MiB free"
        );
        let mut ftp = appliance.ftp()?;
        for name in &stored_files {
            stands(&mut ftp, name, &content(name, piece))?;
        }
        stands(&mut ftp, "diary", &content("diary 13", piece))?;
        // Room is made by whoever wants it.
        let reply = ftp.command("DELE file 0")?;
        assert_eq!(reply.code, 250, "{reply:?}");
        stored(&mut ftp, "another", &content("another", piece))?;
        appliance.unplug(1)?;
    }
    appliance.nothing_has_failed()
}

#[test]
fn a_drive_that_the_kernel_gives_up_on_is_said_and_served_again_after_its_check()
-> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    let stick = stick(Filesystem::Ext4)?;
    appliance.plug(&stick, 1)?;
    let letter = content("letter", MIB);
    stored(&mut appliance.ftp()?, "letter", &letter)?;
    // As an error in what it reads does (errors=remount-ro).
    appliance
        .machine
        .ok("echo on purpose >/sys/fs/ext4/sda1/trigger_fs_error")?;
    // Linux 6.12 shuts it down, and nothing can be read any more; others only write no more.
    let status = appliance.says("DEGRADED: the drive can")?;
    assert!(status.contains("unplug it"), "{status}");
    let mut ftp = appliance.ftp()?;
    if status.contains("can only be read") {
        stands(&mut ftp, "letter", &letter)?;
    }
    let reply = ftp.store("letter", b"another")?;
    assert_eq!(reply.code, 450, "{reply:?}");
    // Its check repairs what was marked as an error, and it is a drive again.
    appliance.unplug(1)?;
    appliance.plug(&stick, 1)?;
    let mut ftp = appliance.ftp()?;
    stands(&mut ftp, "letter", &letter)?;
    stored(&mut ftp, "letter", b"another")?;
    appliance.nothing_has_failed()
}

#[test]
fn a_drive_that_fails_is_said_and_what_can_be_read_is_served() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    let stick = stick(Filesystem::Ext4)?;
    let (good, bad) = (content("good", MIB), content("bad", MIB));
    appliance.plug(&stick, 1)?;
    let mut ftp = appliance.ftp()?;
    stored(&mut ftp, "good", &good)?;
    stored(&mut ftp, "bad", &bad)?;
    appliance.unplug(1)?;
    let sector = stick.sector_of("bad")?;
    appliance.machine.plug_failing(&stick, 1, sector)?;
    appliance.says(" drive RASPBOX ext4")?;
    let mut ftp = appliance.ftp()?;
    let reply = ftp.retrieve("bad")?.expect_err("it can't be read");
    assert!(reply.code >= 400, "{reply:?}");
    appliance.says("DRIVE FAILING: ")?;
    let mut ftp = appliance.ftp()?;
    stands(&mut ftp, "good", &good)?;
    stored(&mut ftp, "another", b"hello")?;
    appliance.nothing_has_failed()
}
