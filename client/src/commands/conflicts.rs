//! `raspbox conflicts`.

use crate::cli::Exit;
use crate::display::human_bytes;
use crate::pairs::Pairs;
use crate::times::show;
use anyhow::Context;
use jiff::tz::TimeZone;
use raspbox_beneath::{Folder, Kind, Stat, Top};
use raspbox_core::names::original_name;
use raspbox_protocol::RelPath;
use raspbox_protocol::path::RESERVED_NAME;
use serde_json::json;
use std::io;
use std::path::{Path, PathBuf};

/// A conflict copy, and what it stands beside.
struct Conflict {
    folder: PathBuf,
    copy: RelPath,
    original: RelPath,
    copy_stat: Stat,
    original_stat: Option<Stat>,
}

pub(crate) fn run(pairs: &Pairs, folder: Option<&Path>, as_json: bool) -> anyhow::Result<Exit> {
    let mut conflicts = Vec::new();
    for pair in pairs.chosen(folder)? {
        let top = Top::open(&pair.folder)
            .with_context(|| format!("cannot look into {}", pair.folder.display()))?;
        // Only what is below the folder that was asked for.
        let below = folder.and_then(|folder| {
            let absolute = crate::pairs::absolute(folder).ok()?;
            let below = absolute.strip_prefix(&pair.folder).ok()?;
            RelPath::parse(below.to_str()?).ok()
        });
        let first = top.folder(below.as_ref())?;
        walk(&first, below.as_ref(), &mut |within, at, name, stat| {
            let Some(original) = original_name(name) else {
                return;
            };
            let paths = (RelPath::child(at, name), RelPath::child(at, &original));
            if let (Ok(copy), Ok(path)) = paths {
                conflicts.push(Conflict {
                    folder: pair.folder.clone(),
                    copy,
                    original: path,
                    copy_stat: stat,
                    original_stat: within.stat(&original).ok().flatten(),
                });
            }
        })?;
    }
    if as_json {
        let all: Vec<_> = conflicts
            .iter()
            .map(|conflict| {
                json!({
                    "folder": conflict.folder,
                    "copy": conflict.copy.as_str(),
                    "original": conflict.original.as_str(),
                    "original_exists": conflict.original_stat.is_some(),
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        print(&conflicts);
    }
    Ok(if conflicts.is_empty() {
        Exit::InSync
    } else {
        Exit::Attention
    })
}

fn print(conflicts: &[Conflict]) {
    if conflicts.is_empty() {
        println!("no conflict copies");
        return;
    }
    for conflict in conflicts {
        println!("{}", conflict.folder.join(&conflict.copy).display());
        println!("    the copy: {}", describe(&conflict.copy_stat));
        match &conflict.original_stat {
            Some(stat) => println!("    {}: {}", conflict.original.name(), describe(stat)),
            None => println!(
                "    {} isn't there any more: give the copy its name, or delete it",
                conflict.original.name()
            ),
        }
    }
    println!(
        "Two people, or two computers, changed the same file without knowing of each other. Compare the \
         two, keep what you want under the plain name, and delete the copy. Nothing gets lost by that: \
         what you delete or replace is kept as a version ('raspbox history')"
    );
}

fn describe(stat: &Stat) -> String {
    let what = match stat.kind {
        Kind::File => human_bytes(stat.size),
        Kind::Folder => "folder".into(),
        Kind::Symlink => "symlink".into(),
        Kind::Special => "special file".into(),
    };
    format!("{what}, {}", show(stat.mtime, &TimeZone::system()))
}

/// What is told of each entry: the folder that it is in, that one's path, its name, what it is.
type Visit<'a> = dyn FnMut(&Folder, Option<&RelPath>, &str, Stat) + 'a;

/// Visits everything in a folder and below, in order; our own folder is left out.
fn walk(folder: &Folder, at: Option<&RelPath>, visit: &mut Visit<'_>) -> io::Result<()> {
    let mut names = folder.names()?;
    names.sort();
    for name in names {
        let Some(name) = name.to_str() else { continue };
        if at.is_none() && name == RESERVED_NAME {
            continue;
        }
        let Some(stat) = folder.stat(name)? else {
            continue;
        };
        if stat.kind == Kind::Folder
            && let Ok(path) = RelPath::child(at, name)
            && let Ok(inside) = folder.folder_at(Path::new(name))
        {
            walk(&inside, Some(&path), visit)?;
        }
        visit(folder, at, name, stat);
    }
    Ok(())
}
