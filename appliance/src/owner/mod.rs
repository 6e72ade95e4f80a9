//! The owner's file `raspbox.toml`, which lies on the card where any laptop can edit it.
//!
//! `file` what stands where, `settings` what it means, `shipped` the explained one that is installed. What is
//! done about it is [`crate::boot`].

pub(crate) mod file;
pub(crate) mod settings;
#[cfg(test)]
mod shipped;

use crate::boot::told::Told;
use crate::root::Root;
use anyhow::Context;
use file::File;
use std::path::Path;

/// Where Linux keeps the time zones.
pub(crate) const ZONES: &str = "/usr/share/zoneinfo";

/// What the file may be called: Windows hides endings, and then people make the second of the first.
pub(crate) const NAMES: [&str; 2] = ["raspbox.toml", "raspbox.toml.txt"];

/// What came of the file at the last boot: what was wrong with it and with what was done about it, each with its
/// line where it has one. Nothing where there was no boot of ours.
pub(crate) fn told() -> Told {
    Told::read(&Root::new("/".into())).unwrap_or_default()
}

/// What a file is, and what is wrong with it.
#[derive(Debug)]
pub(crate) enum Checked {
    /// An owner's, with its problems as they are told.
    Owners(Vec<String>),
    /// The daemon's own configuration, which [`crate::config`] checks.
    Daemons,
}

/// Looks at a file on any machine.
pub(crate) fn check(path: &Path) -> anyhow::Result<Checked> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = File::parse(bytes);
    if settings::is_the_daemons(&file) {
        return Ok(Checked::Daemons);
    }
    let zones = Some(Path::new(ZONES)).filter(|zones| zones.is_dir());
    let (_, problems) = settings::read(&file, zones);
    let name = path.display();
    let told = problems.iter().map(|problem| problem.after(&name));
    Ok(Checked::Owners(told.collect()))
}
