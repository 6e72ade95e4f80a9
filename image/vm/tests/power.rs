//! The power goes, at any moment: what was acknowledged is there.

use anyhow::{Context, ensure};
use raspbox_vm::{Appliance, DEADLINE, Filesystem, Ftp, OWNERS_FILE, Stick, wait_until};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often it is cut.
const CUTS: u64 = 25;

/// Each computer that sends sends one file after another.
const SENDERS: u64 = 3;

/// At most, of a file.
const FILE_LEN_MAX: u64 = 200 << 10;

/// After at most so many files it is cut…
const FILES_MAX: u64 = 24;

/// …and at most so much later.
const LATER_MAX_MS: u64 = 300;

/// What a path may hold: what was acknowledged last, or what was sent and not answered any more. `None` is no file.
type Allowed = BTreeMap<String, BTreeSet<Option<Digest>>>;

type Digest = [u8; 32];

fn digest(content: &[u8]) -> Digest {
    *blake3::hash(content).as_bytes()
}

/// Numbers that follow from a seed.
struct Numbers(blake3::OutputReader);

impl Numbers {
    fn of(seed: &str) -> Numbers {
        Numbers(blake3::Hasher::new().update(seed.as_bytes()).finalize_xof())
    }

    fn below(&mut self, end: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) % end
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(len).expect("a small file")];
        self.0.fill(&mut bytes);
        bytes
    }
}

/// One computer that sends new files, and again and again the same ones, until it is hung up on.
fn send(
    appliance: &Appliance,
    seed: &str,
    sender: u64,
    acknowledged: &AtomicU64,
    mut allowed: Allowed,
) -> Allowed {
    let mut numbers = Numbers::of(&format!("{seed} {sender}"));
    let Ok(mut ftp) = appliance.ftp() else {
        return allowed;
    };
    loop {
        let path = match numbers.below(3) {
            0 => format!("diary {sender} {}", numbers.below(3)),
            _ => format!("{seed} {sender} {}", numbers.below(1 << 32)),
        };
        let len = numbers.below(FILE_LEN_MAX);
        let content = numbers.bytes(len);
        let hash = digest(&content);
        let states = allowed.entry(path.clone()).or_insert_with(|| [None].into());
        states.insert(Some(hash));
        match ftp.store(&path, &content) {
            Ok(reply) if reply.code == 226 => {
                *states = [Some(hash)].into();
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            Ok(_) | Err(_) => return allowed,
        }
    }
}

/// Reads all that is on the drive, and it must be what may be there: that is all that is known now.
fn check(appliance: &Appliance, allowed: &Allowed) -> anyhow::Result<Allowed> {
    let mut known = Allowed::new();
    // What a check finds of unfinished uploads has its own folder, and is shown: it might be somebody's.
    let names = appliance.machine.ok(
        "cd /srv/raspbox && find . \\( -name .raspbox -o -iname lost+found -o -name 'FSCK*.REC' \\) -prune \
         -o -type f -printf '%P\\n'",
    )?;
    let mut found: BTreeMap<&str, Digest> = BTreeMap::new();
    let mut ftp = appliance.ftp()?;
    for name in names.lines() {
        match ftp.retrieve(name)? {
            Ok(content) => found.insert(name, digest(&content)),
            Err(reply) => anyhow::bail!("{name:?} can't be read: {reply:?}"),
        };
    }
    for name in found.keys() {
        ensure!(allowed.contains_key(*name), "nobody sent {name:?}");
    }
    for (name, states) in allowed {
        let now = found.get(name.as_str()).copied();
        let acknowledged = match states.len() {
            1 => "acknowledged",
            _ => "sent and not answered",
        };
        ensure!(
            states.contains(&now),
            "{name:?}, {acknowledged}, is {}: {}",
            if now.is_some() { "another" } else { "gone" },
            appliance.machine.ok(&format!(
                "journalctl -b --no-pager -o cat | tail -n 60; ls -la '/srv/raspbox/{name}' /srv/raspbox /srv/raspbox/.raspbox/staging 2>&1"
            ))?
        );
        known.insert(name.clone(), [now].into());
    }
    Ok(known)
}

/// Lets computers send, and cuts the power.
fn cut_under_load(appliance: &Appliance, seed: &str, allowed: &Allowed) -> anyhow::Result<Allowed> {
    let mut numbers = Numbers::of(seed);
    let (files, later) = (1 + numbers.below(FILES_MAX), numbers.below(LATER_MAX_MS));
    let acknowledged = AtomicU64::new(0);
    let mut after = allowed.clone();
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (acknowledged, allowed) = (&acknowledged, allowed.clone());
                scope.spawn(move || send(appliance, seed, sender, acknowledged, allowed))
            })
            .collect();
        let enough = wait_until(DEADLINE, "files to be acknowledged", || {
            Ok((acknowledged.load(Ordering::SeqCst) >= files).then_some(()))
        });
        // The moment is what is random here.
        std::thread::sleep(Duration::from_millis(later));
        appliance.machine.power_cut()?;
        for sender in senders {
            // No path is sent by two.
            for (path, states) in sender.join().expect("it doesn't panic") {
                if allowed.get(&path) != Some(&states) {
                    after.insert(path, states);
                }
            }
        }
        enough
    })?;
    Ok(after)
}

#[test]
fn what_was_acknowledged_before_a_power_cut_is_there_after_it() -> anyhow::Result<()> {
    let seed = RandomState::new().hash_one(0);
    eprintln!("seed {seed}");
    let mut sticks = Vec::new();
    for filesystem in Filesystem::ALL {
        let stick = Stick::new(96, filesystem, "RASPBOX")?;
        sticks.push((filesystem, stick, Allowed::new()));
    }
    let kinds = sticks.len();
    for round in 0..CUTS {
        let (filesystem, stick, allowed) =
            &mut sticks[usize::try_from(round).expect("small") % kinds];
        let context = format!("cut {round}, {filesystem:?}, seed {seed}");
        let appliance = Appliance::start()?;
        appliance.plug(stick, 1).context(context.clone())?;
        *allowed = check(&appliance, allowed).context(context.clone())?;
        *allowed = cut_under_load(&appliance, &format!("{seed} {round}"), allowed)
            .context(context.clone())?;
        // It needs no mending: its journal is for that.
        let checked = stick.check()?;
        ensure!(
            checked.clean || *filesystem != Filesystem::Ext4,
            "{context}: {}",
            checked.said
        );
    }
    for (filesystem, stick, allowed) in &sticks {
        let appliance = Appliance::start()?;
        appliance.plug(stick, 1)?;
        check(&appliance, allowed)
            .with_context(|| format!("{filesystem:?} at last, seed {seed}"))?;
        appliance.nothing_has_failed()?;
    }
    Ok(())
}

#[test]
fn after_a_power_cut_it_comes_up_whatever_the_owner_has_written_meanwhile() -> anyhow::Result<()> {
    let appliance = Appliance::start()?;
    let machine = &appliance.machine;
    let stick = Stick::new(96, Filesystem::Ext4, "RASPBOX")?;
    appliance.plug(&stick, 1)?;
    // Its third line is nothing, its last one is a fixed address.
    let file = "# mine\r\ntls = \"optional\"\r\nport = \"twenty-one\"\r\n\
                passive_ports = \"61000-61031\"\r\naddress = \"192.168.50.50/24\"\r\n";
    machine.write(OWNERS_FILE, file.as_bytes())?;
    machine.ok("sync")?;
    let seed = format!("{}", RandomState::new().hash_one(0));
    let allowed = cut_under_load(&appliance, &seed, &Allowed::new())
        .with_context(|| format!("seed {seed}"))?;

    machine.boot_again()?;
    assert_eq!(machine.ok("systemctl is-system-running --wait")?, "running");
    appliance.says("OK: drive RASPBOX ext4")?;
    let status = appliance.says("192.168.50.50 static | 1 problem in raspbox.toml")?;
    assert!(!status.contains("NO PASSWORD"), "{status}");
    let page = String::from_utf8(machine.read("/boot/firmware/raspbox-status.txt")?)?;
    assert!(page.contains("raspbox.toml line 3: port"), "{page}");
    // With the password that was taken in before.
    check(&appliance, &allowed).with_context(|| format!("seed {seed}"))?;
    let mut at = Ftp::connect(machine.host_forward_to("192.168.50.50".parse()?, 21)?)?;
    assert_eq!(at.command("PWD")?.code, 530, "before a login");
    appliance.nothing_has_failed()
}
