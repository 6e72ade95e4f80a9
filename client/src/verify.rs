//! Reading every file again, to find what the disk has let rot, and putting it right on either side.
//!
//! A sync believes a file's looks and reads nothing twice; so it never sees that a content changed
//! under them. What is found here is remembered with its looks, and from then on no sync decides
//! anything about such a file: neither is it sent over a good copy, nor is it replaced unasked.
//!
//! Reading takes as long as it takes and holds up no sync; what is found is judged again when the
//! round's lock is held, since each finding says what the file looked like.

use crate::engine::{Engine, Scope, SyncError, set};
use crate::local::{Done, Expected, Workspace};
use crate::report::{Event, Report, Summary};
use crate::scan::{Seen, is_settled, read_medium};
use crate::state::{Hashed, Print};
use raspbox_beneath::{Kind, absent, now, unreadable};
use raspbox_core::tree::Node;
use raspbox_protocol::commit::{Expect, Op, Outcome};
use raspbox_protocol::damage::{Damage, Place};
use raspbox_protocol::want::Want;
use raspbox_protocol::{Digest, Entry, File, Mtime, RelPath, Version};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;

/// What reading everything here again came to.
#[derive(Debug, Default)]
pub struct Reread {
    /// How many files were read.
    pub files: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// What could not be read, and why.
    pub unread: Vec<(RelPath, String)>,
    /// Where each content is that is as it should be.
    good: HashMap<Digest, RelPath>,
    /// What isn't.
    damaged: Vec<Rotten>,
    /// What was remembered as damaged, and is good.
    healed: Vec<RelPath>,
}

/// A local file whose content changed under its looks.
#[derive(Debug, Clone)]
struct Rotten {
    path: RelPath,
    print: Print,
    expected: Digest,
}

/// One damaged file, on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub path: RelPath,
    /// On which side.
    pub side: Side,
    /// Where a good content is to be had.
    pub cure: Cure,
    /// Whether it was put right.
    pub repaired: bool,
}

/// A side, as seen from this computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This computer.
    Here,
    /// The remote.
    There,
}

/// Where a good content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cure {
    /// The other side has it.
    Other,
    /// The other side has a newer one, which would have replaced it anyway.
    Newer,
    /// Neither of the two sides has it.
    Nobody,
}

/// What is damaged on both sides.
#[derive(Debug, Default)]
pub struct Findings {
    /// Files.
    pub files: Vec<Finding>,
    /// How many versions of former times are, on the remote side.
    pub versions: usize,
}

/// How to put one file right.
struct Repair {
    from: RelPath,
    file: File,
    version: Version,
}

impl Engine {
    /// Reads every local file whose hash is recorded and may be believed.
    ///
    /// # Errors
    /// Where the folder isn't the paired one, or the state can't be read.
    pub fn reread(&self, report: &mut Report<'_>) -> Result<Reread, SyncError> {
        let workspace = self.workspace()?;
        let mut all: Vec<(RelPath, Hashed)> = self.state.all_hashed()?.into_iter().collect();
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut reread = Reread::default();
        for (path, known) in all {
            // One that is young is read by the next sync, whatever it looks like.
            if known.settled {
                report(Event::Reading(&path, known.print.size));
                let was_damaged = self.damaged.contains_key(&path);
                if reread.take(&workspace, &path, &known) && was_damaged {
                    reread.healed.push(path);
                }
            }
        }
        Ok(reread)
    }

    /// Remembers what was found damaged here, and forgets what isn't any more.
    ///
    /// # Errors
    /// Where the state can't be written.
    pub fn remember(&mut self, reread: &Reread) -> Result<(), SyncError> {
        self.state.write(|w| {
            for path in &reread.healed {
                w.forget_damaged(path)?;
            }
            for rotten in &reread.damaged {
                w.set_damaged(&rotten.path, &rotten.print)?;
            }
            Ok(())
        })?;
        self.damaged = self.state.damaged()?;
        self.local = None;
        Ok(())
    }

    /// Asks the remote what is damaged there, and finds out who has what is good; with `repair`, puts
    /// it right.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn compare(
        &mut self,
        reread: &Reread,
        repair: bool,
        report: &mut Report<'_>,
    ) -> Result<Findings, SyncError> {
        let workspace = self.workspace()?;
        self.recover(&workspace, report)?;
        self.load_rules(&workspace)?;
        self.check_remote(report)?;
        self.scan(&workspace, &Scope::All, &mut Summary::default(), report)?;
        self.look()?;
        let there = self.remote.damaged()?;
        let bad_there: HashSet<&RelPath> = there.iter().filter_map(path_of).collect();
        let mut findings = Findings {
            versions: there.iter().filter(|d| d.place == Place::Kept).count(),
            files: Vec::new(),
        };
        for rotten in &reread.damaged {
            // What looks different by now was replaced or removed meanwhile.
            if self.damaged.get(&rotten.path) != Some(&rotten.print)
                || workspace
                    .top()
                    .stat(&rotten.path)
                    .ok()
                    .flatten()
                    .map(|s| Print::from(&s))
                    != Some(rotten.print)
            {
                continue;
            }
            let (cure, from) = self.cure_here(rotten, &bad_there);
            let repaired = match &from {
                Some(from) if repair => self.repair_here(&workspace, rotten, from, report)?,
                Some(_) | None => false,
            };
            findings.files.push(Finding {
                path: rotten.path.clone(),
                side: Side::Here,
                cure,
                repaired,
            });
        }
        for damage in &there {
            let Some(path) = path_of(damage) else {
                continue;
            };
            let from = reread.good.get(&damage.expected);
            let repaired = match from {
                Some(from) if repair => self.repair_there(&workspace, damage, path, from)?,
                Some(_) | None => false,
            };
            findings.files.push(Finding {
                path: path.clone(),
                side: Side::There,
                cure: from.map_or(Cure::Nobody, |_| Cure::Other),
                repaired,
            });
        }
        Ok(findings)
    }

    /// Where the remote has a good content for a local file.
    fn cure_here(&self, rotten: &Rotten, bad: &HashSet<&RelPath>) -> (Cure, Option<Repair>) {
        let repair = |from: &RelPath, file: &File, version: &Version| Repair {
            from: from.clone(),
            file: *file,
            version: *version,
        };
        let there = match self.remote_tree.get(&rotten.path) {
            Some(Node::File(file, version)) if !bad.contains(&rotten.path) => Some((file, version)),
            Some(Node::File(..) | Node::Folder(..) | Node::Symlink(..) | Node::Unknown(_))
            | None => None,
        };
        if let Some((file, version)) = there {
            if file.digest == rotten.expected {
                return (Cure::Other, Some(repair(&rotten.path, file, version)));
            }
            let was_in_sync = matches!(
                self.baseline.get(&rotten.path),
                Some(Node::File(file, ())) if file.digest == rotten.expected
            );
            if was_in_sync {
                return (Cure::Newer, Some(repair(&rotten.path, file, version)));
            }
        }
        // Under another name, perhaps.
        let mut found = None;
        self.remote_tree.walk(&mut |path, node| {
            if let Node::File(file, version) = node
                && file.digest == rotten.expected
                && !bad.contains(path)
            {
                found.get_or_insert_with(|| repair(path, file, version));
            }
        });
        match found {
            Some(found) => (Cure::Other, Some(found)),
            None => (Cure::Nobody, None),
        }
    }

    /// Replaces a local file by the remote's content. What is there now goes away only once that is
    /// here, has the right hash and has the name; were it an edit by now, it would be kept beside it.
    fn repair_here(
        &mut self,
        workspace: &Workspace,
        rotten: &Rotten,
        from: &Repair,
        report: &mut Report<'_>,
    ) -> Result<bool, SyncError> {
        let path = &rotten.path;
        let want = Want {
            path: from.from.clone(),
            version: from.version,
            offset: 0,
        };
        let digest = from.file.digest;
        let Some(staged) = self.fetch_one(workspace, want, &digest, report)? else {
            return Ok(false);
        };
        let is_newer = digest != rotten.expected;
        let old = workspace.top().stat(path).ok().flatten();
        let file = match old {
            Some(old) if !is_newer => File {
                mtime: Mtime(rotten.print.mtime),
                executable: old.executable,
                ..from.file
            },
            Some(_) | None => from.file,
        };
        self.state.write(|w| {
            w.set_placing(&staged.new_name(), path)?;
            w.set_placing(&staged.old_name(), path)
        })?;
        let assumed = Entry::File(File {
            digest: rotten.expected,
            size: rotten.print.size,
            mtime: Mtime(rotten.print.mtime),
            executable: file.executable,
        });
        let expected = Expected {
            entry: &assumed,
            seen: Seen {
                print: rotten.print,
                settled: true,
            },
        };
        let done = workspace
            .place_file(&staged, path, &file, Some(expected))
            .and_then(|done| workspace.sync_names(&[path]).map(|()| done))
            .map_err(|source| self.local_error(source))?;
        let print = match done {
            Done::AsPlanned(print) | Done::KeptEdit(print, _) => print,
            Done::Changed => return Ok(false),
        };
        let entry = Entry::File(file);
        self.state.write(|w| {
            w.set_hashed(
                path,
                &Hashed {
                    print,
                    digest,
                    settled: is_settled(&print, now()),
                },
            )?;
            w.forget_damaged(path)?;
            if is_newer {
                w.set_baseline(path, Some(&entry))?;
            }
            w.clear_placing()
        })?;
        if is_newer {
            set(&mut self.baseline, path, &entry, ());
        }
        self.damaged.remove(path);
        self.local = None;
        Ok(true)
    }

    /// Puts the content of a good local file where the remote's is damaged.
    fn repair_there(
        &mut self,
        workspace: &Workspace,
        damage: &Damage,
        path: &RelPath,
        from: &RelPath,
    ) -> Result<bool, SyncError> {
        let Some(Node::File(file, version)) = self.remote_tree.get(path) else {
            return Ok(false);
        };
        let (file, version) = (*file, *version);
        if file.digest != damage.expected {
            // Somebody has replaced it since.
            return Ok(false);
        }
        let op = Op::Put {
            path: path.clone(),
            expect: Expect::Version(version),
            file,
        };
        let top = workspace.top();
        let pushed = self.remote.push(
            &[op],
            &mut |_| top.parent_of(from)?.open_file(from.name()),
            &mut |_| {},
        )?;
        let Some(Outcome::Done(version)) = pushed.outcomes.first() else {
            return Ok(false);
        };
        let entry = Entry::File(file);
        self.state
            .write(|w| w.set_remote(path, Some((&entry, *version))))?;
        set(&mut self.remote_tree, path, &entry, *version);
        Ok(true)
    }
}

impl Reread {
    /// Reads one file and takes note of what it is; whether it is good.
    fn take(&mut self, workspace: &Workspace, path: &RelPath, known: &Hashed) -> bool {
        let looks_so = |stat: Option<raspbox_beneath::Stat>| {
            stat.is_some_and(|s| s.kind == Kind::File && Print::from(&s) == known.print)
        };
        let read = || -> io::Result<Option<Digest>> {
            let parent = workspace.top().parent_of(path)?;
            if !looks_so(parent.stat(path.name())?) {
                return Ok(None);
            }
            let read = read_medium(&parent, OsStr::new(path.name()))?;
            Ok(read
                .filter(|(stat, _)| looks_so(Some(*stat)))
                .map(|(_, digest)| digest))
        };
        let rotten = || Rotten {
            path: path.clone(),
            print: known.print,
            expected: known.digest,
        };
        match read() {
            Ok(Some(digest)) => {
                self.files += 1;
                self.bytes += known.print.size;
                if digest == known.digest {
                    self.good.entry(digest).or_insert_with(|| path.clone());
                    return true;
                }
                self.damaged.push(rotten());
            }
            // Changed since: the next sync reads it.
            Ok(None) => {}
            Err(error) if absent(&error) => {}
            Err(error) if unreadable(&error) => self.damaged.push(rotten()),
            Err(error) => self.unread.push((path.clone(), error.to_string())),
        }
        false
    }

    /// What is damaged here, when nobody can be asked who has it good.
    #[must_use]
    pub fn findings(&self) -> Findings {
        let files = self.damaged.iter().map(|rotten| Finding {
            path: rotten.path.clone(),
            side: Side::Here,
            cure: Cure::Nobody,
            repaired: false,
        });
        Findings {
            files: files.collect(),
            versions: 0,
        }
    }
}

fn path_of(damage: &Damage) -> Option<&RelPath> {
    match &damage.place {
        Place::File { path, .. } => Some(path),
        Place::Kept => None,
    }
}
