//! What somebody does to files, on a disk or through FTP, and what the oracle is told of it.

use super::idle::restore;
use super::{World, on_appliance, with};
use crate::disks::{Access, Drive, Machine};
use crate::place::{self, Files, Place, TICK, content_of, files_of, touched, visible};
use crate::scenario::{Edit, How, Who};
use crate::server::SERVER;
use raspbox_beneath::sim::Node;
use raspbox_protocol::{Digest, RelPath};
use raspbox_store::{By, Store};
use std::collections::BTreeSet;
use std::io::Write;

/// Somebody changes something.
pub(super) fn carry_out(who: Who, edit: &Edit) {
    match who {
        Who::Station(number) => by_hand(who, edit, Some(number)),
        Who::Drive => by_hand(who, edit, None),
        Who::Ftp => by_ftp(edit),
    }
}

/// The place where somebody works directly.
fn access(world: &World, station: Option<usize>) -> Option<(Machine, Access)> {
    match station {
        Some(number) => {
            let station = &world.stations[number];
            let access = match station.unsynced.careless {
                true => station.disk.careless_access("folder"),
                false => station.disk.access("folder"),
            };
            (!station.disk.is_dead()).then(|| (station.machine.clone(), access))
        }
        None => {
            let drive = world.drive()?;
            (!drive.is_dead()).then(|| (world.appliance.clone(), drive.access("")))
        }
    }
}

fn by_hand(who: Who, edit: &Edit, station: Option<usize>) {
    let done = with(|world| {
        let (machine, access) = access(world, station)?;
        let tree = visible(access.tree());
        let before = files_of(tree.clone());
        world.oracle.sees(who, &before);
        if let Edit::Write {
            how: How::KeepTime, ..
        } = edit
        {
            machine.wait(TICK);
        }
        let done = machine.on(|| place::carry_out(&access, edit));
        let after = files_of(visible(access.tree()));
        world.say(|| {
            format!(
                "  {who:?} {edit:?}: {}",
                if done { "done" } else { "can't" }
            )
        });
        note(world, who, edit, &before, &after);
        if who == Who::Drive
            && let Edit::Write {
                path,
                size,
                how: How::KeepTime,
                ..
            } = edit
            && world.drive().is_some_and(Drive::is_coarse)
            && matches!(tree.get(path), Some(Node::File { content, .. }) if content.len() == *size)
            && let Some(digest) = after.get(path)
        {
            // Of the same size and without a ctime it looks like what rotted, and the good content takes its place.
            world.oracle.destroyed(digest);
        }
        if let Some(number) = station {
            let unsynced = &mut world.stations[number].unsynced;
            if unsynced.careless {
                let new = after
                    .iter()
                    .filter(|(path, now)| before.get(*path) != Some(now));
                unsynced.contents.extend(new.map(|(_, now)| *now));
                if let Edit::Write { path, .. } = edit {
                    match before.get(path) == after.get(path) {
                        true => unsynced.again.insert(path.clone()),
                        false => unsynced.again.remove(path),
                    };
                }
                unsynced
                    .paths
                    .extend(touched(edit).into_iter().map(str::to_owned));
            }
        }
        Some(())
    });
    if done.is_some()
        && let Some(number) = station
    {
        with(|world| {
            for path in touched(edit) {
                if let Ok(path) = RelPath::parse(path) {
                    world.stations[number].dirty.insert(path);
                }
                // What was moved or removed is another folder than the one that can't be read.
                let touched = path.to_owned();
                let denied = &mut world.stations[number].denied;
                denied.retain(|path| *path != touched && !path.starts_with(&format!("{touched}/")));
            }
        });
    }
}

/// Tells the oracle what an edit came to.
fn note(world: &mut World, who: Who, edit: &Edit, before: &Files, after: &Files) {
    if who == Who::Drive {
        world.kept.wrote_by_hand(touched(edit));
    }
    // What rotted is nothing that anybody wrote, wherever it is moved.
    let written = |files: &Files| {
        let mut files = files.clone();
        files.retain(|_, digest| !world.kept.is_rotten(digest));
        files
    };
    let (before, after) = (&written(before), &written(after));
    let gone = world.oracle.edited(who, edit, before, after);
    if !gone.is_empty() {
        world.excuse(&gone);
    }
}

/// The same through the store, as an ordinary FTP client's commands end there.
fn by_ftp(edit: &Edit) {
    let Some(store) = SERVER.with_borrow(|server| server.store.clone().filter(|_| server.up))
    else {
        return;
    };
    let Some(before) = with(|world| {
        let files = world.drive()?.files("", false);
        world.oracle.sees(Who::Ftp, &files);
        Some(files)
    }) else {
        return;
    };
    let by = By("ftp".into());
    let done = on_appliance(|| ftp_edit(&store, edit, &by));
    with(|world| {
        world.say(|| format!("  Ftp {edit:?}: {}", done.is_some()));
        let Some(after) = world.drive().map(|drive| drive.files("", false)) else {
            return;
        };
        note(world, Who::Ftp, edit, &before, &after);
        if done.is_none() {
            // Nobody was told that it is there, though it may be.
            let known: BTreeSet<&Digest> = before.values().collect();
            let new = after.values().filter(|digest| !known.contains(digest));
            new.for_each(|digest| world.oracle.destroyed(digest));
        }
    });
}

fn ftp_edit(store: &Store, edit: &Edit, by: &By) -> Option<()> {
    let parse = |path: &str| RelPath::parse(path).ok();
    let with_parents = |path: &RelPath| {
        let mut above = Vec::new();
        let mut at = path.parent();
        while let Some(folder) = at {
            at = folder.parent();
            above.push(folder);
        }
        for folder in above.iter().rev() {
            // There already, or in the way; the write will tell.
            drop(store.make_folder(folder, by));
        }
    };
    match edit {
        Edit::Write {
            path,
            content,
            size,
            how,
        } => {
            let path = parse(path)?;
            with_parents(&path);
            let bytes = content_of(*content, *size);
            let mut staged = match how {
                How::Append => {
                    let len = match store.stat(Some(&path)) {
                        Ok(raspbox_store::Stat::File { size_bytes, .. }) => size_bytes,
                        _ => 0,
                    };
                    store.stage_from(&path, len).ok()?
                }
                _ => store.stage().ok()?,
            };
            staged.write_all(&bytes).ok()?;
            store.put(staged, &path, by).ok()?;
        }
        Edit::Remove(path) => ftp_remove(store, &parse(path)?, by)?,
        Edit::Rename(from, to) => {
            let (from, to) = (parse(from)?, parse(to)?);
            with_parents(&to);
            // RNFR looks first; where there is nothing, RNTO is never sent.
            store.stat(Some(&from)).ok()?;
            store.rename(&from, &to, by).ok()?;
        }
        Edit::MakeFolder(path) => {
            let path = parse(path)?;
            with_parents(&path);
            store.make_folder(&path, by).ok()?;
        }
        Edit::Age(path, seconds) => {
            let path = parse(path)?;
            let now = raspbox_beneath::now();
            let then = raspbox_protocol::Mtime(now.0 - seconds * 1_000_000_000);
            store.set_mtime(&path, then, by).ok()?;
        }
        Edit::Executable(path, on) => {
            store.set_executable(&parse(path)?, *on, by).ok()?;
        }
        // There is no such command.
        Edit::Symlink(..) => return None,
        Edit::Restore(path, number) => {
            let path = parse(path)?;
            with_parents(&path);
            restore(store, &path, *number, by)?;
        }
    }
    Some(())
}

/// In the order of an FTP client's commands, since the store notices what it is asked for.
fn ftp_remove(store: &Store, path: &RelPath, by: &By) -> Option<()> {
    if store.delete_file(path, by).is_ok() {
        return Some(());
    }
    for listed in store.list(Some(path)).ok()? {
        let below = RelPath::child(Some(path), &listed.name).ok()?;
        ftp_remove(store, &below, by)?;
    }
    store.delete_folder(path, by).ok()?;
    Some(())
}
