//! Real computers that sync the same drive: `raspbox watch`, killed now and then while somebody saves files.

use crate::chance::Chance;
use crate::tally::Tally;
use crate::visitor::FOLDER;
use anyhow::{Context, ensure};
use raspbox_try::bed::{Appliance, Workstation};
use raspbox_try::tree;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Where their files are.
const OWN: &str = "computers";

/// How long between two saves.
const BETWEEN: Duration = Duration::from_millis(400);

/// A computer, and what was saved there.
pub(crate) struct Computer {
    workstation: Workstation,
    chance: Chance,
    saved: BTreeMap<String, Vec<u8>>,
}

/// Pairs some. What the visitors do concerns them as little as it can: the appliance tells them of it.
pub(crate) fn pair(
    program: &Path,
    dir: &Path,
    appliance: &Appliance,
    count: usize,
) -> anyhow::Result<Vec<Computer>> {
    let mut computers = Vec::new();
    for number in 0..count {
        let workstation = Workstation::new(program, dir, &format!("computer{number}"));
        fs::create_dir_all(workstation.folder.join(OWN).join(number.to_string()))?;
        fs::write(
            workstation.folder.join(".raspboxignore"),
            format!("/{FOLDER}\n/watched.txt\n"),
        )?;
        workstation.pair(appliance)?;
        workstation.sync()?;
        computers.push(Computer {
            workstation,
            chance: Chance::new(number as u64, 0),
            saved: BTreeMap::new(),
        });
    }
    Ok(computers)
}

impl Computer {
    /// Saves files while `watch` runs and is killed, until it is told to stop.
    pub(crate) fn live(&mut self, stop: &AtomicBool, tally: &Tally) -> anyhow::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let mut watch = self.workstation.watch_silently()?;
            for _ in 0..=self.chance.below(20) {
                self.save()?;
                thread::sleep(BETWEEN);
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            watch.kill()?;
            tally.count("computers killed");
        }
        Ok(())
    }

    /// Saves a file: a new one mostly, or a brake would ask whether so much is meant to change.
    fn save(&mut self) -> anyhow::Result<()> {
        let names = self.saved.len() as u64;
        let name = if names > 0 && self.chance.percent(20) {
            self.chance.below(names)
        } else {
            names
        };
        let own = self.workstation.name.trim_start_matches("computer");
        let path = format!("{OWN}/{own}/{name}.txt");
        let mut content = self.chance.content();
        content.truncate(16 << 10);
        fs::write(self.workstation.folder.join(&path), &content)?;
        self.saved.insert(path, content);
        Ok(())
    }
}

/// How it ended.
pub(crate) struct Synced {
    /// How many files of theirs are there with what was saved last.
    pub(crate) files: usize,
    /// How many of them as conflict copies: of a file that was saved again while its content was on the way,
    /// and of which the client, killed just then, didn't know that it had arrived.
    pub(crate) copies: usize,
}

/// Has all of them sync to the end; then they and the drive are the same, and what was saved is there.
pub(crate) fn converge(computers: &mut [Computer], drive: &Path) -> anyhow::Result<Synced> {
    // A round that keeps an edit as a conflict copy says so by its exit code; they are counted below.
    for Computer { workstation, .. } in computers.iter() {
        let output = workstation.run(&["sync"])?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            matches!(output.status.code(), Some(0 | 1)),
            "{}: sync {}\n{said}",
            workstation.name,
            output.status
        );
    }
    // What one sends last, those before it fetch in the second round.
    for computer in computers.iter() {
        computer.workstation.sync()?;
    }
    let mut synced = Synced {
        files: 0,
        copies: 0,
    };
    for computer in computers.iter() {
        let folder = computer.workstation.folder.join(OWN);
        tree::compare(&folder, &drive.join(OWN))?;
        for (path, content) in &computer.saved {
            let at = drive.join(path);
            let found = fs::read(&at).with_context(|| path.clone())?;
            if found != *content {
                ensure!(is_beside(&at, content)?, "{path} isn't what was saved");
                synced.copies += 1;
            }
            synced.files += 1;
        }
    }
    Ok(synced)
}

/// Whether a conflict copy of a file has this content.
fn is_beside(file: &Path, content: &[u8]) -> anyhow::Result<bool> {
    let name = file.file_stem().and_then(|name| name.to_str());
    let begin = format!("{} (conflict ", name.context("a plain name")?);
    for entry in fs::read_dir(file.parent().context("it is in a folder")?)? {
        let entry = entry?;
        let is_copy = entry.file_name().to_string_lossy().starts_with(&begin);
        if is_copy && fs::read(entry.path())? == content {
            return Ok(true);
        }
    }
    Ok(false)
}
