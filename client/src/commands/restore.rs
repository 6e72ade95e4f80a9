//! `raspbox restore`: sync what is here, bring back on the appliance, sync what came back.
//!
//! Nothing is restored over an edit that isn't safe on the appliance yet, so it syncs first, with all
//! brakes on. Each operation says what it replaces; what somebody saves meanwhile stays.

use crate::cli::{Exit, Restore, exit_of_sync};
use crate::commands::history::clocks;
use crate::commands::status::record;
use crate::commands::{Unusable, locate};
use crate::display::{Display, conclusion};
use crate::engine::{Engine, Options, Scope, SyncError};
use crate::pairs::{Pair, Pairs};
use crate::remote::{RemoteError, RemoteTree};
use crate::times::{Clocks, When};
use jiff::Zoned;
use jiff::tz::TimeZone;
use raspbox_core::guard::Allowances;
use raspbox_core::restore::{Now, Then, bring_back, plan};
use raspbox_protocol::commit::{Op, Outcome, Refusal};
use raspbox_protocol::history::Past;
use raspbox_protocol::special::Clock;
use raspbox_protocol::{Entry, Mtime, RelPath};
use std::path::Path;

/// The most operations and bytes that the appliance is asked to restore at once: it replies when all
/// is copied.
const BATCH_OPS: usize = 1_000;
const BATCH_BYTES: u64 = 64 << 20;

/// More lines than this are counted instead.
const LINES_MAX: usize = 50;

pub(crate) fn run(pairs: &Pairs, args: &Restore) -> anyhow::Result<Exit> {
    let now = Zoned::now();
    let at = args.at.as_deref().map(|text| When::parse(text, &now));
    let at = at
        .transpose()
        .map_err(|error| Unusable(error.to_string()))?;
    let (pair, path) = place(pairs, args)?;
    let _lock = pairs.lock(&pair)?;
    let mut engine = super::engine(pairs, &pair)?;
    // Refused before anything is synced for nothing.
    let (_, _) = clocks(&pair, &mut *engine.remote)?;
    if !args.dry_run
        && let Err(error) = sync(pairs, &pair, &mut engine, Options::default())
    {
        if matches!(error, SyncError::Halt(_)) {
            eprintln!("{}: {error}", pair.folder.display());
            eprintln!(
                "Nothing was restored: what changed in this folder isn't on the appliance yet. Decide \
                 about that first, then restore again"
            );
            return Ok(Exit::Halted);
        }
        return Err(error.into());
    }
    let (clock, clocks) = clocks(&pair, &mut *engine.remote)?;
    let job = Job {
        path: path.as_ref(),
        at: at.map(|when| clocks.there(&when)),
        version: args.version,
        clock,
        clocks,
    };
    let ops = job.plan(&mut engine)?;
    if args.dry_run {
        return Ok(show(&pair, &ops));
    }
    job.carry_out(pairs, &pair, &mut engine, &ops)
}

/// Which pairing, and where in it.
fn place(pairs: &Pairs, args: &Restore) -> anyhow::Result<(Pair, Option<RelPath>)> {
    let (pair, path) = match &args.path {
        Some(path) => locate(pairs, path)?,
        None => {
            let mut all = pairs.chosen(None)?;
            if all.len() == 1 {
                (all.remove(0), None)
            } else {
                locate(pairs, Path::new(".")).map_err(|_| {
                    Unusable("several folders are paired: name the one to restore".into())
                })?
            }
        }
    };
    if args.all {
        return Ok((pair, None));
    }
    if path.is_none() && args.at.is_none() {
        let what = "that is the whole folder: say as of when, with --at TIME";
        return Err(Unusable(what.into()).into());
    }
    Ok((pair, path))
}

/// What was asked for, by the appliance's clock.
struct Job<'a> {
    /// `None`: everything.
    path: Option<&'a RelPath>,
    at: Option<Mtime>,
    version: Option<u64>,
    /// The appliance's clock before anything was restored.
    clock: Clock,
    clocks: Clocks,
}

impl Job<'_> {
    /// What to do on the appliance.
    fn plan(&self, engine: &mut Engine) -> anyhow::Result<Vec<Op>> {
        match (self.path, self.at) {
            (path, Some(at)) => self.plan_at(engine, path, at),
            (Some(path), None) => self.plan_version(engine, path),
            (None, None) => unreachable!("the whole folder is asked for with a time"),
        }
    }

    fn plan_at(
        &self,
        engine: &mut Engine,
        path: Option<&RelPath>,
        at: Mtime,
    ) -> anyhow::Result<Vec<Op>> {
        let zone = TimeZone::system();
        if at > self.clock.now {
            return Err(Unusable("that is in the future".into()).into());
        }
        let then = match engine.remote.tree_at(at)? {
            Some(look) if at >= self.clock.begun => look,
            Some(_) | None => {
                return Err(Unusable(format!(
                    "the appliance knows nothing of that time: what it knows begins at {}",
                    self.clocks.here(self.clock.begun, &zone)
                ))
                .into());
            }
        };
        let then: Then = (then.changes.into_iter())
            .filter_map(|(path, entry, _)| Some((path, entry?)))
            .collect();
        if let Some(path) = path.filter(|path| !then.contains_key(*path)) {
            return Err(self.was_not_there(engine, path)?.into());
        }
        Ok(plan(&now(engine)?, &then, path))
    }

    /// The error for a path that wasn't there at that time, with a time at which it was.
    fn was_not_there(&self, engine: &mut Engine, path: &RelPath) -> Result<Unusable, RemoteError> {
        let zone = TimeZone::system();
        let stood: Vec<String> = (engine.remote.history(path)?.iter())
            .map(|past| {
                let until = past.ended.as_ref();
                let until = until.map_or("now".into(), |ended| self.clocks.here(ended.at, &zone));
                format!("from {} until {until}", self.clocks.here(past.since, &zone))
            })
            .take(3)
            .collect();
        Ok(Unusable(if stood.is_empty() {
            format!("{path}: nothing is known of it. Is the name right?")
        } else {
            format!(
                "{path} wasn't there at that time. It was there {}",
                stood.join(", ")
            )
        }))
    }

    fn plan_version(&self, engine: &mut Engine, path: &RelPath) -> anyhow::Result<Vec<Op>> {
        let history = engine.remote.history(path)?;
        let past = self.choose(path, &history)?;
        let now = now(engine)?;
        if matches!(now.get(path), Some((Entry::Folder, _))) {
            let what = format!("{path} is a folder now: move it away first, or use --at TIME");
            return Err(Unusable(what).into());
        }
        let mut ops = Vec::new();
        let mut above = path.parent();
        while let Some(folder) = above {
            if !now.contains_key(&folder) {
                ops.push(Op::MakeFolder {
                    path: folder.clone(),
                });
            }
            above = folder.parent();
        }
        ops.reverse();
        ops.extend(bring_back(path, now.get(path), &past.entry));
        Ok(ops)
    }

    /// The version that is asked for, else the newest that differs from what is there.
    fn choose<'h>(&self, path: &RelPath, history: &'h [Past]) -> Result<&'h Past, Unusable> {
        let see = "'raspbox history' shows what there is";
        let is_other = |past: &&Past| past.number.is_some();
        let found = match self.version {
            Some(number) => history
                .iter()
                .find(|past| past.number == Some(number))
                .ok_or_else(|| Unusable(format!("{path} has no version {number}; {see}")))?,
            None => history
                .iter()
                .find(|past| is_other(past) && past.kept && past.entry != Entry::Folder)
                .or_else(|| history.iter().find(is_other))
                .ok_or_else(|| Unusable(format!("no other version of {path} is kept; {see}")))?,
        };
        match (&found.entry, &found.ended) {
            (Entry::Folder, Some(ended)) => {
                let before = self.clocks.exact(Mtime(ended.at.0 - 1));
                Err(Unusable(format!(
                    "{path} was a folder. Say as of when; just before it went: --at {before}"
                )))
            }
            (_, _) if !found.kept => Err(Unusable(format!(
                "that version of {path} isn't kept any more; {see}"
            ))),
            (_, _) => Ok(found),
        }
    }

    fn carry_out(
        &self,
        pairs: &Pairs,
        pair: &Pair,
        engine: &mut Engine,
        ops: &[Op],
    ) -> anyhow::Result<Exit> {
        if ops.is_empty() {
            println!("{}: it is as it was, nothing to do", pair.folder.display());
            return Ok(Exit::InSync);
        }
        let outcomes = push(engine, ops)?;
        let mut done = Tally::default();
        let mut refused = Vec::new();
        for (op, outcome) in ops.iter().zip(outcomes) {
            match outcome {
                Outcome::Done(_) => done.count(op),
                Outcome::Refused(refusal) => refused.push((path_of(op), refusal)),
            }
        }
        // They were asked for: no brake for so many.
        let allow = Allowances {
            deletions: done.deleted,
            changes: done.restored,
        };
        let options = Options {
            allow,
            ..Options::default()
        };
        let synced = sync(pairs, pair, engine, options);
        println!(
            "{}: {}",
            pair.folder.display(),
            done.text("nothing was restored")
        );
        for (path, refusal) in refused.iter().take(LINES_MAX) {
            eprintln!("{path} stays as it is: {}", why(refusal));
        }
        if refused.len() > LINES_MAX {
            eprintln!("and {} more", refused.len() - LINES_MAX);
        }
        if done != Tally::default() {
            println!("undo with: {}", self.undo(pair));
        }
        let exit = match synced {
            Ok(exit) => exit,
            Err(error) => {
                eprintln!(
                    "It is restored on the appliance, but not here yet: {error}\nGo on with: raspbox sync"
                );
                exit_of_sync(&error)
            }
        };
        Ok(if refused.is_empty() {
            exit
        } else {
            exit.max(Exit::Attention)
        })
    }

    /// The command that makes it what it was before.
    fn undo(&self, pair: &Pair) -> String {
        let before = self.clocks.exact(self.clock.now);
        match self.path {
            None => format!(
                "raspbox restore --all --at {before} {}",
                quoted(&pair.folder.to_string_lossy())
            ),
            Some(path) => {
                let path = pair.folder.join(path);
                let path = quoted(&path.to_string_lossy());
                format!("raspbox restore --at {before} {path}  (if it wasn't there: delete it)")
            }
        }
    }
}

/// One round, as `sync` shows it.
fn sync(
    pairs: &Pairs,
    pair: &Pair,
    engine: &mut Engine,
    options: Options,
) -> Result<Exit, SyncError> {
    let mut display = Display::new("", false);
    let result = engine.round(&Scope::All, options, &mut |event| display.event(&event));
    display.round_over();
    record(pairs, pair, &result);
    let summary = result?;
    if summary.needs_attention() {
        println!("{}", conclusion(&pair.folder, &summary));
        return Ok(Exit::Attention);
    }
    Ok(Exit::InSync)
}

/// What is on the appliance now, what this computer ignores included.
fn now(engine: &mut Engine) -> Result<Now, RemoteError> {
    let look = engine
        .remote
        .look(None, &RemoteTree::default(), &|_| None)?;
    let entries = look.changes.into_iter();
    Ok(entries
        .filter_map(|(path, entry, version)| Some((path, (entry?, version))))
        .collect())
}

fn push(engine: &mut Engine, ops: &[Op]) -> Result<Vec<Outcome>, RemoteError> {
    let mut outcomes = Vec::with_capacity(ops.len());
    let mut rest = ops;
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(batch_len(rest));
        let mut open = |_| Err(std::io::ErrorKind::Unsupported.into());
        let pushed = engine.remote.push(batch, &mut open, &mut |_| {})?;
        outcomes.extend(pushed.outcomes);
        rest = later;
        if ops.len() > BATCH_OPS {
            println!("{} of {} done on the appliance", outcomes.len(), ops.len());
        }
    }
    Ok(outcomes)
}

fn batch_len(ops: &[Op]) -> usize {
    let mut bytes = 0;
    let fits = |op: &&Op| {
        if let Op::Restore { file, .. } = op {
            bytes += file.size;
        }
        bytes <= BATCH_BYTES
    };
    ops.iter().take(BATCH_OPS).take_while(fits).count().max(1)
}

/// How much of what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    restored: usize,
    deleted: usize,
    made: usize,
}

impl Tally {
    fn count(&mut self, op: &Op) {
        match op {
            Op::Restore { .. } | Op::Symlink { .. } | Op::SetMeta { .. } => self.restored += 1,
            Op::Delete { .. } => self.deleted += 1,
            Op::MakeFolder { .. } => self.made += 1,
            Op::Put { .. } | Op::Patch { .. } | Op::Move { .. } | Op::Keep { .. } => {
                unreachable!("a restore has none of these")
            }
        }
    }

    fn text(self, nothing: &str) -> String {
        let parts = [
            (self.restored, "restored"),
            (self.deleted, "deleted (kept as versions)"),
            (self.made, "folders made"),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if parts.is_empty() {
            nothing.to_owned()
        } else {
            parts.join(", ")
        }
    }
}

fn show(pair: &Pair, ops: &[Op]) -> Exit {
    let mut would = Tally::default();
    for (n, op) in ops.iter().enumerate() {
        would.count(op);
        if n < LINES_MAX {
            let (what, folder) = match op {
                Op::Restore { .. } | Op::Symlink { .. } | Op::SetMeta { .. } => ("restore", ""),
                Op::Delete { .. } => ("delete", ""),
                Op::MakeFolder { .. } => ("make", "/"),
                Op::Put { .. } | Op::Patch { .. } | Op::Move { .. } | Op::Keep { .. } => {
                    unreachable!("a restore has none of these")
                }
            };
            println!("{what:<8} {}{folder}", path_of(op));
        }
    }
    if ops.len() > LINES_MAX {
        println!("and {} more", ops.len() - LINES_MAX);
    }
    let text = would.text("it is as it was");
    println!(
        "{}: {text}; nothing was done (dry run)",
        pair.folder.display()
    );
    Exit::InSync
}

fn path_of(op: &Op) -> &RelPath {
    match op {
        Op::Put { path, .. }
        | Op::Patch { path, .. }
        | Op::Restore { path, .. }
        | Op::Symlink { path, .. }
        | Op::MakeFolder { path }
        | Op::Delete { path, .. }
        | Op::SetMeta { path, .. }
        | Op::Keep { path, .. } => path,
        Op::Move { to, .. } => to,
    }
}

fn why(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Changed | Refusal::NotEmpty | Refusal::NoParent => {
            format!("{refusal}. Look at it, and restore it again")
        }
        Refusal::NoSpace => {
            "the drive is full; no version is let go of for a restore. Make room, then \
                             restore it again"
                .into()
        }
        Refusal::BadContent
        | Refusal::Name(_)
        | Refusal::Denied
        | Refusal::NotNow
        | Refusal::Damaged
        | Refusal::Failed(_) => refusal.to_string(),
    }
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    if path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}
