//! What happens on the appliance while nobody is served, and what must be had of its history.

use super::edits::carry_out;
use super::{on_appliance, with};
use crate::scenario::{Edit, Who};
use crate::server::SERVER;
use raspbox_protocol::commit::{CommitFrame, Expect, Op};
use raspbox_protocol::damage::Place;
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::special::{CommitSummary, RequestId};
use raspbox_protocol::wire::to_bytes;
use raspbox_protocol::{Digest, Entry, File, RelPath};
use raspbox_store::{By, Policy, Step, Store, StoreError};
use std::collections::BTreeSet;
use std::time::Duration;

/// For how long the appliance seems to have been running since it looked the last time. Time goes at most
/// ten times as fast for what is let go by age, so that a clock that jumped lets nothing go.
const RUNNING: Duration = Duration::from_secs(600);

/// A file on the drive rots, or a version.
pub(super) fn rot(number: u32) {
    with(|world| {
        let Some(drive) = world.drive().filter(|drive| !drive.is_dead()) else {
            return;
        };
        let mut files = drive.files("", false);
        files.extend(drive.files_from(".raspbox/versions/"));
        files.retain(|_, digest| *digest != Digest::of(b"") && !world.kept.is_rotten(digest));
        let at = number as usize % files.len().max(1);
        let Some((path, was)) = files.into_iter().nth(at) else {
            return;
        };
        drive.rot(&path);
        let Some(is) = drive
            .files_from(&path)
            .remove(&path)
            .filter(|is| *is != was)
        else {
            return;
        };
        world.fault("file rotted");
        world.say(|| format!("    {path} rots"));
        world.kept.rotted(was, is);
        world.oracle.let_go();
        // Until somebody notices, it is taken for what it was: as a version of it, too, on the strength of
        // which others give theirs up.
        world.oracle.destroyed(&was);
    });
}

/// The appliance lets go of old versions and reads everything again. Invariant: what rotted is known then.
pub(super) fn idle() {
    let Some(store) = SERVER.with_borrow(|server| server.store.clone().filter(|_| server.up))
    else {
        return;
    };
    let known = on_appliance(|| -> Result<BTreeSet<String>, StoreError> {
        store.thin(&Policy::default(), RUNNING, &mut || true)?;
        let mut pass = store.scrub()?;
        while let Step::More = pass.next(&mut |_| true)? {}
        let damages = store.damages()?.into_iter();
        let paths = damages.filter_map(|damage| match damage.place {
            Place::File { path, .. } => Some(path.to_string()),
            Place::Kept => None,
        });
        Ok(paths.collect())
    });
    with(|world| match known {
        Ok(known) => {
            let files = world.drive().map(|drive| drive.files("", false));
            let files = files.unwrap_or_default();
            let mut rotten = files
                .iter()
                .filter(|(_, digest)| world.kept.is_rotten(digest));
            let missed = rotten.find(|(path, _)| !known.contains(*path));
            if let Some((path, _)) = missed {
                let verdict = Err(format!("scrub: {path} rotted, and nobody noticed"));
                world.judge(verdict);
            }
        }
        Err(error) => world.say(|| format!("  it could not be read again: {error}")),
    });
}

/// Somebody brings back what was displaced somewhere.
pub(super) fn restore_any(number: u32, version: u32) {
    let path = with(|world| {
        let paths: BTreeSet<&str> = world.kept.wanted().map(|(path, _)| path).collect();
        let at = number as usize % paths.len().max(1);
        paths.into_iter().nth(at).map(str::to_owned)
    });
    if let Some(path) = path {
        carry_out(Who::Ftp, &Edit::Restore(path, version));
    }
}

/// Brings a version back. Invariant: what stands there then is that version's content.
pub(super) fn restore(store: &Store, path: &RelPath, number: u32, by: &By) -> Option<()> {
    let history = store.history(path).ok()?;
    let had = history
        .iter()
        .filter(|past| past.ended.is_some() && past.kept);
    let had: Vec<File> = had
        .filter_map(|past| match &past.entry {
            Entry::File(file) => Some(*file),
            Entry::Folder | Entry::Symlink(_) => None,
        })
        .collect();
    let file = *had.get(number as usize % had.len().max(1))?;
    let mut expect = Expect::Absent;
    let mut find = |frame| {
        if let FeedFrame::Entry {
            path: at, version, ..
        } = frame
            && at == *path
        {
            expect = Expect::Version(version);
        }
        Ok(())
    };
    store.feed(None, &mut find).ok()?;
    let op = Op::Restore {
        path: path.clone(),
        expect,
        file,
    };
    let frames = to_bytes(&[CommitFrame::Op(op), CommitFrame::End { ops: 1 }]);
    let id = RequestId(raspbox_beneath::random());
    match store.commit(id, by, &|_| true, &mut &frames[..]).ok()? {
        CommitSummary::All { .. } => {}
        CommitSummary::Mixed { .. } => return None,
    }
    with(|world| {
        let there = world.drive().map(|drive| drive.files("", false));
        let there = there.and_then(|files| files.get(path.as_str()).copied());
        world.fault("version restored");
        // Where the same stood there already it is done, unless it is known to have rotted.
        let unnoticed = there.and_then(|there| world.kept.was(&there).copied());
        if there != Some(file.digest) && unnoticed != Some(file.digest) {
            let wanted = world.oracle.name(&file.digest);
            world.judge(Err(format!(
                "restore: {path} should be {wanted}, and is not"
            )));
        }
    });
    Some(())
}

/// Invariant: whatever was displaced can be had back, as it was and under the path where it stood. All of it
/// is of the last day, and there is room.
pub(super) fn check_kept() -> Result<(), String> {
    with(super::World::watch);
    let store = SERVER.with_borrow(|server| server.store.clone());
    let store = store.ok_or("no store after all was put right")?;
    let wanted: Vec<(String, Digest)> = with(|world| {
        let wanted = world.kept.wanted();
        wanted
            .map(|(path, digest)| (path.to_owned(), *digest))
            .collect()
    });
    for (path, digest) in wanted {
        let Ok(at) = RelPath::parse(&path) else {
            continue;
        };
        if !on_appliance(|| can_be_had(&store, &at, &digest)) {
            let name = with(|world| world.oracle.name(&digest));
            return Err(format!(
                "versions: {name} stood at {path}, and can't be had back"
            ));
        }
    }
    Ok(())
}

fn can_be_had(store: &Store, path: &RelPath, digest: &Digest) -> bool {
    let history = store.history(path).unwrap_or_default();
    history.iter().any(|past| match &past.entry {
        Entry::File(file) if file.digest == *digest && past.kept => {
            let open = store.read_kept(file).ok().flatten();
            open.is_some_and(|mut open| {
                let mut bytes = Vec::new();
                let read = std::io::Read::read_to_end(&mut open, &mut bytes);
                read.is_ok() && Digest::of(&bytes) == *digest
            })
        }
        Entry::File(_) | Entry::Folder | Entry::Symlink(_) => false,
    })
}
