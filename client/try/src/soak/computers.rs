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

/// Has all of them sync to the end; then they, the drive and what was saved are the same. Returns how many
/// files that are.
pub(crate) fn converge(computers: &mut [Computer], drive: &Path) -> anyhow::Result<usize> {
    // What one sends last, those before it fetch in the second round.
    for computer in computers.iter().chain(computers.iter()) {
        computer.workstation.sync()?;
    }
    let mut count = 0;
    for computer in computers.iter() {
        let folder = computer.workstation.folder.join(OWN);
        tree::compare(&folder, &drive.join(OWN))?;
        for (path, content) in &computer.saved {
            let found = fs::read(drive.join(path)).with_context(|| path.clone())?;
            ensure!(found == *content, "{path} isn't what was saved");
        }
        count += computer.saved.len();
    }
    Ok(count)
}
