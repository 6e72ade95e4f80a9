//! One round of sync: look, scan, plan, guard, apply, record.
//!
//! The engine holds the three trees in memory, as the state has them on disk. It decides nothing
//! itself (that is `raspbox-core`) and knows nothing of FTP (that is [`crate::remote`]).
//!
//! Invariants:
//! - Nothing is recorded before it is durable on the side that the record speaks of.
//! - The cursor moves together with the remote tree that it stands for, in one transaction.
//! - A round that fails halfway leaves a state from which the next one finishes the job.

use crate::disk;
use crate::ignores::{FILE_NAME as IGNORE_FILE, Rules};
use crate::local::{Signature, Workspace, today};
use crate::remote::{Remote, RemoteError, RemoteTree};
use crate::report::{Event, Report, Summary};
use crate::scan::{ByNumber, Doubt, LocalTree, Moved, QUIET, Scanner, Seen, is_quiet};
use crate::seal;
use crate::state::{Hashed, Print, State, StateError};
use raspbox_beneath::{Stat, now};
use raspbox_core::guard::{Allowances, Halt, counts_later, guard};
use raspbox_core::names::{Disk, Disks, check_plan};
use raspbox_core::plan::{Plan, Trouble};
use raspbox_core::reconcile::reconcile;
use raspbox_core::renames::find_moves;
use raspbox_core::tree::{Folder, Node, Unknown};
use raspbox_protocol::info::Info;
use raspbox_protocol::{Cursor, Entry, Mtime, RelPath, Version};
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// How often a round looks again because something changed under its hands, before it leaves the
/// rest to the next one.
const LAPS_MAX: usize = 5;

/// How often a scan waits for files that were written just now to become quiet, before it leaves
/// them to the next one: a program that saves in two steps is done by then, one that writes a log
/// never is.
const QUIET_WAITS_MAX: usize = 3;

/// Keeps one folder in sync with one remote.
pub struct Engine {
    folder: PathBuf,
    pair: String,
    device: String,
    pub(crate) state: State,
    pub(crate) remote: Box<dyn Remote>,
    pub(crate) rules: Rules,
    /// Whether the baseline and the remote tree are those of the state. They are read for the first scan, since a
    /// round may do without.
    trees_read: bool,
    /// Whether they are read by each round.
    stays: bool,
    pub(crate) baseline: Folder<()>,
    pub(crate) remote_tree: RemoteTree,
    /// `None` until the first scan, and after an error left it in doubt.
    pub(crate) local: Option<LocalTree>,
    /// The clock when the last scan began.
    scanned: Option<Mtime>,
    /// Local files that are known to be damaged, with what they look like.
    pub(crate) damaged: HashMap<RelPath, Print>,
    /// Local files whose content was refused as not the one that was stated; the next scan reads them.
    suspects: BTreeSet<RelPath>,
    /// How often a remote content came as another one than was stated.
    pub(crate) mismatches: HashMap<RelPath, (Version, u32)>,
    /// Names that can't be synced, as of the last scan.
    unsyncable: Vec<(String, String)>,
    /// Whether the remote tree has unknown nodes in place of what the state remembers.
    pub(crate) remote_unseen: bool,
    pub(crate) cursor: Option<Cursor>,
}

/// Where to look on the local side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    All,
    /// Only at these paths and below: the rest is as it was at the last round.
    Paths(BTreeSet<RelPath>),
}

/// What `.raspboxignore` says.
struct RulesFound {
    text: String,
    /// Whether nobody is just saving it.
    at_rest: bool,
}

/// How a round goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Plan, and do nothing.
    pub dry_run: bool,
    /// Which brakes are off.
    pub allow: Allowances,
}

/// Why a round stopped. What was done before is recorded, nothing is lost.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The remote side.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A brake.
    #[error("{0}")]
    Halt(Halt),
    /// What is remembered of the pairing.
    #[error(transparent)]
    State(#[from] StateError),
    /// What is remembered of the pairing, in the middle of a round.
    #[error("cannot write the sync state: {0}")]
    Record(#[from] rusqlite::Error),
    /// The local folder.
    #[error("{}: {source}", path.display())]
    Local {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What a lap of a round works with.
pub(crate) struct Lap<'a, 'r> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) summary: &'a mut Summary,
    pub(crate) report: &'a mut Report<'r>,
    /// Whether the remote takes contents to keep.
    pub(crate) keeps: bool,
    /// Whether another look is due: something was made that the plan didn't know of.
    pub(crate) again: bool,
    /// Where something else was found than the plan assumed; another look is due as well.
    pub(crate) moving: Vec<RelPath>,
    /// Local files whose content isn't what it was taken for.
    pub(crate) suspects: BTreeSet<RelPath>,
}

impl Engine {
    /// Opens the state of a pairing.
    ///
    /// # Errors
    /// Where the state can't be read.
    pub fn open(
        folder: &Path,
        pair: &str,
        device: &str,
        database: &Path,
        remote: Box<dyn Remote>,
    ) -> Result<Engine, SyncError> {
        let state = State::open(database)?;
        let rules = Rules::parse("");
        Ok(Engine {
            folder: folder.to_owned(),
            pair: pair.to_owned(),
            device: device.to_owned(),
            cursor: state.cursor()?,
            damaged: state.damaged()?,
            state,
            remote,
            rules,
            trees_read: false,
            stays: false,
            baseline: Folder::default(),
            remote_tree: Folder::default(),
            scanned: None,
            suspects: BTreeSet::new(),
            mismatches: HashMap::new(),
            unsyncable: Vec::new(),
            remote_unseen: false,
            local: None,
        })
    }

    /// From now on each round reads what is remembered, and not the first one in which something changed: for who waits
    /// for that.
    pub fn stay(&mut self) {
        self.stays = true;
    }

    fn read_trees(&mut self) -> Result<(), SyncError> {
        if !self.trees_read {
            let skip = |path: &RelPath, folder| self.rules.skip(path, folder);
            self.baseline = self.state.baseline(&skip)?;
            self.remote_tree = self.state.remote(&skip)?;
            self.trees_read = true;
        }
        Ok(())
    }

    /// The remote's position that the last round knew.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// The remote side, for a stream of its events.
    #[must_use]
    pub fn remote(&self) -> &dyn Remote {
        &*self.remote
    }

    /// Whether this path is none of the sync's business.
    #[must_use]
    pub fn ignores(&self, path: &RelPath) -> bool {
        // Whether it is a folder isn't known here; a pattern for folders only is seen by the scan.
        self.rules.skip(path, false)
    }

    /// One round.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn round(
        &mut self,
        scope: &Scope,
        options: Options,
        report: &mut Report<'_>,
    ) -> Result<Summary, SyncError> {
        if self.state.changed_elsewhere()? {
            self.forget_trees()?;
            self.cursor = self.state.cursor()?;
        }
        let workspace = self.workspace()?;
        self.recover(&workspace, report)?;
        self.load_rules(&workspace)?;
        let info = self.check_remote(report)?;
        let mut summary = Summary::default();
        if self.stays {
            self.read_trees()?;
        }
        // A yes to what a brake asks is heard, whether or not anything is left to ask about.
        let asked = options.allow != Allowances::default();
        if *scope == Scope::All
            && !self.trees_read
            && !asked
            && self.is_as_sealed(&workspace, &info)?
        {
            report(Event::Planned(&Plan::default()));
            return Ok(summary);
        }
        let mut scope = scope.clone();
        let mut allow = options.allow;
        for lap_number in 1..=LAPS_MAX {
            self.scan(&workspace, &scope, &mut summary, report)?;
            self.look()?;
            self.note_arrived(&workspace)?;
            let mut plan = self.plan(&workspace, &info);
            plan.problems.extend(self.rules.problems());
            self.guard(&plan, options, &allow)?;
            report(Event::Planned(&plan));
            summary.problems.clone_from(&plan.problems);
            for problem in &plan.problems {
                report(Event::Trouble(problem));
            }
            if options.dry_run {
                break;
            }
            if plan.is_empty() {
                if scope == Scope::All && !summary.needs_attention() {
                    self.seal(&workspace)?;
                }
                break;
            }
            let mut lap = Lap {
                workspace: &workspace,
                summary: &mut summary,
                report,
                keeps: info.keeps,
                again: false,
                moving: Vec::new(),
                suspects: BTreeSet::new(),
            };
            let before = (lap.summary.deleted, lap.summary.pushed + lap.summary.pulled);
            let applied = self.apply(plan, &mut lap);
            // What was confirmed was confirmed for all laps together.
            let (deleted, put) = (lap.summary.deleted, lap.summary.pushed + lap.summary.pulled);
            allow.deletions = less(allow.deletions, deleted - before.0);
            allow.changes = less(allow.changes, put - before.1);
            self.suspects.append(&mut lap.suspects);
            if let Err(error) = applied {
                // Some of what was done may not be in the trees.
                self.local = None;
                return Err(error);
            }
            if !lap.again && lap.moving.is_empty() {
                break;
            }
            if lap_number == LAPS_MAX {
                // It doesn't hold still; it is left to the next round, and said.
                for path in std::mem::take(&mut lap.moving) {
                    lap.problem(&path, Trouble::Local(Unknown::Busy));
                }
            }
            scope = Scope::All;
        }
        Ok(summary)
    }

    /// Puts the brakes on, or lets a plan through and remembers what counts with later ones.
    fn guard(
        &mut self,
        plan: &Plan<Seen, Version>,
        options: Options,
        allow: &Allowances,
    ) -> Result<(), SyncError> {
        let recent = self.state.lately(now())?;
        let judge = |allow| {
            guard(
                plan,
                &self.baseline,
                self.local_tree(),
                &self.remote_tree,
                self.remote.displaced(),
                &recent,
                allow,
            )
        };
        let judged = judge(allow);
        if options.dry_run {
            return judged.map_err(SyncError::Halt);
        }
        if let Err(halt) = judged {
            // It is asked until somebody answers, and doesn't go on by itself after a while. A yes to less
            // than that is no answer.
            self.state.keep_lately(now())?;
            return Err(SyncError::Halt(halt));
        }
        let mut later = counts_later(plan, now());
        if options.allow.deletions > 0 {
            // Somebody has looked at them: they are no part of a mishap.
            self.state.forget_lately_deleted()?;
            for side in [&mut later.local, &mut later.remote] {
                side.deleted.clear();
                side.lost.clear();
            }
        }
        if options.allow.changes > 0 {
            self.state.forget_lately_changed()?;
            for side in [&mut later.local, &mut later.remote] {
                side.changed.clear();
            }
        }
        Ok(self.state.note_lately(&later, now())?)
    }

    /// The tree of the last scan.
    pub(crate) fn local_tree(&self) -> &LocalTree {
        self.local
            .as_ref()
            .expect("scanned at the beginning of every lap")
    }

    pub(crate) fn workspace(&self) -> Result<Workspace, SyncError> {
        let signature = Signature {
            device: self.device.clone(),
            date: today(),
        };
        Workspace::open(&self.folder, &self.pair, signature)
            .map_err(|source| self.local_error(source))?
            .ok_or(SyncError::Halt(Halt::LocalRootGone))
    }

    pub(crate) fn recover(
        &mut self,
        workspace: &Workspace,
        report: &mut Report<'_>,
    ) -> Result<(), SyncError> {
        let recovered = workspace
            .recover(&self.state)
            .map_err(|error| self.local_error(io::Error::other(error)))?;
        for path in &recovered {
            report(Event::Recovered(path));
        }
        self.state.clear_placing()?;
        Ok(())
    }

    /// What the trees were made of is another now: the next scan makes them anew.
    pub(crate) fn forget_trees(&mut self) -> Result<(), SyncError> {
        self.local = None;
        self.trees_read = false;
        self.damaged = self.state.damaged()?;
        Ok(())
    }

    /// Whether nothing changed on either side since a round found nothing to do.
    fn is_as_sealed(&self, workspace: &Workspace, info: &Info) -> Result<bool, SyncError> {
        if !self.has_journal() || self.cursor != Some(info.cursor) {
            return Ok(false);
        }
        let Some(sealed) = self.state.seal()? else {
            return Ok(false);
        };
        let about = self.about(workspace, info.cursor);
        // What can't be read is said by a scan.
        Ok(matches!(seal::of_folder(about), Ok(Some(found)) if found == sealed))
    }

    /// Nothing is to be done: remembers how that looks.
    fn seal(&mut self, workspace: &Workspace) -> Result<(), SyncError> {
        let scanned = self.scanned.expect("a lap begins with a scan");
        let Some(cursor) = self.cursor.filter(|_| self.has_journal()) else {
            return Ok(());
        };
        let about = self.about(workspace, cursor);
        let seal = seal::of_tree(self.local_tree(), about, scanned);
        // A program that stays finds nothing to do again and again.
        if let Some(seal) = seal
            && self.state.seal()? != Some(seal)
        {
            self.state.write(|w| w.set_seal(seal))?;
        }
        Ok(())
    }

    /// Whether the remote's cursor tells of all that changes there. One that knows no hashes has none to tell.
    fn has_journal(&self) -> bool {
        self.remote.knows_hashes()
    }

    fn about<'a>(&'a self, workspace: &'a Workspace, cursor: Cursor) -> seal::About<'a> {
        seal::About {
            workspace,
            rules: &self.rules,
            cursor,
        }
    }

    /// Reads `.raspboxignore`. Where the patterns changed, all trees are made anew without what is
    /// ignored now.
    pub(crate) fn load_rules(&mut self, workspace: &Workspace) -> Result<(), SyncError> {
        let mut found = self.read_rules(workspace)?;
        for _ in 0..QUIET_WAITS_MAX {
            if found.at_rest {
                break;
            }
            raspbox_beneath::pause(QUIET);
            found = self.read_rules(workspace)?;
        }
        let rules = Rules::parse(&found.text);
        if !rules.same_as(&self.rules) {
            self.rules = rules;
            self.forget_trees()?;
        }
        Ok(())
    }

    /// Reads `.raspboxignore` as it is now. Without its patterns, what was ignored would look new: so it
    /// minds whether somebody is just saving it, who may have emptied or removed it first.
    fn read_rules(&self, workspace: &Workspace) -> Result<RulesFound, SyncError> {
        let read = || {
            let mut file = workspace.top().folder(None)?.open_file(IGNORE_FILE)?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            let at_rest = is_quiet(Stat::of(&file)?.ctime, now());
            Ok(RulesFound { text, at_rest })
        };
        match read() {
            Ok(found) => Ok(found),
            Err(error) if raspbox_beneath::absent(&error) => {
                let path = RelPath::parse(IGNORE_FILE).expect("a good name");
                Ok(RulesFound {
                    text: String::new(),
                    at_rest: !self.state.had(&path)?,
                })
            }
            Err(error) => Err(self.local_error(error)),
        }
    }

    pub(crate) fn scan(
        &mut self,
        workspace: &Workspace,
        scope: &Scope,
        summary: &mut Summary,
        report: &mut Report<'_>,
    ) -> Result<(), SyncError> {
        self.read_trees()?;
        let last = self.local.take();
        // The first scan has the cache of the state, a later one its own last tree.
        let cached = RefCell::new(self.state.hashes());
        let failed = RefCell::new(None);
        let fails = |error| {
            failed.replace(Some(error));
            io::Error::other("cannot read the sync state")
        };
        let known = |path: &RelPath| match &last {
            None => cached.borrow_mut().get(path).map_err(fails),
            Some(tree) => Ok(match tree.get(path) {
                Some(Node::File(file, seen)) => Some(Hashed {
                    print: seen.print,
                    digest: file.digest,
                    settled: seen.settled,
                }),
                Some(Node::Folder(..) | Node::Symlink(..) | Node::Unknown(_)) | None => None,
            }),
        };
        let scanned_before = self.scanned.replace(now());
        let by_number = OnceCell::<ByNumber>::new();
        let moved = |print: &Print| {
            // What was touched since then wasn't known in that state.
            if scanned_before.is_some_and(|before| print.ctime > before.0) {
                return Ok(None);
            }
            if by_number.get().is_none() {
                let all = match &last {
                    None => self.state.settled().map_err(fails)?,
                    Some(tree) => ByNumber::of_tree(tree),
                };
                by_number.get_or_init(|| all);
            }
            let digest = by_number.get().and_then(|all| all.get(print));
            Ok(digest.map(|digest| Moved {
                digest,
                damaged: self.damaged.values().any(|damaged| damaged == print),
            }))
        };
        let doubt = |path: &RelPath| match self.damaged.get(path) {
            Some(print) => Doubt::Damaged(*print),
            None if self.suspects.contains(path) => Doubt::Suspect,
            None => Doubt::No,
        };
        let recorded = |path: &RelPath| match self.baseline.get(path) {
            Some(Node::File(file, ())) => file.executable,
            _ => false,
        };
        let mut scanner = Scanner {
            top: workspace.top(),
            disk: workspace.disk(),
            rules: &self.rules,
            known: &known,
            moved: &moved,
            executable: (!workspace.keeps_modes()).then_some(&recorded),
            doubt: &doubt,
            now: now(),
            reading: &mut |path, size| report(Event::Reading(path, size)),
            fresh: Vec::new(),
            chunks: self.remote.patches().then(Vec::new),
            damaged: Vec::new(),
            unsyncable: Vec::new(),
            young: Vec::new(),
        };
        let mut nodes = Vec::new();
        let whole = match (scope, &last) {
            (Scope::Paths(paths), Some(_)) => {
                for path in paths {
                    let path = disk::known_path(workspace.disk(), path);
                    let node = scanner.at(&path);
                    nodes.push((path, node));
                }
                None
            }
            (Scope::All, _) | (Scope::Paths(_), None) => {
                let all = scanner.all();
                if let Some(error) = failed.take() {
                    return Err(error.into());
                }
                Some(all.map_err(|source| SyncError::Local {
                    path: self.folder.clone(),
                    source,
                })?)
            }
        };
        for _ in 0..QUIET_WAITS_MAX {
            let young = std::mem::take(&mut scanner.young);
            if young.is_empty() {
                break;
            }
            raspbox_beneath::pause(QUIET);
            for path in young {
                let node = scanner.at(&path);
                nodes.push((path, node));
            }
        }
        if let Some(error) = failed.take() {
            return Err(error.into());
        }
        let (fresh, unsyncable) = (scanner.fresh, scanner.unsyncable);
        let damaged = scanner.damaged;
        let chunks = scanner.chunks.unwrap_or_default();
        let chunks = chunks.iter().map(|(digest, chunks)| (digest, chunks));
        let chunks: Vec<_> = chunks.collect();
        if whole.is_some() {
            self.unsyncable = unsyncable;
        } else {
            // What is gone is noticed by the next whole scan.
            for found in unsyncable {
                if !self.unsyncable.contains(&found) {
                    self.unsyncable.push(found);
                }
            }
        }
        summary.unsyncable.clone_from(&self.unsyncable);
        let mut tree = whole.or(last).unwrap_or_default();
        for (path, node) in nodes {
            match node {
                Some(node) => drop(tree.insert(&path, node)),
                None => drop(tree.remove(&path)),
            }
        }
        self.local = Some(tree);
        self.suspects.clear();
        if fresh.is_empty() && chunks.is_empty() && damaged.is_empty() {
            return Ok(());
        }
        self.state.write(|w| {
            fresh
                .iter()
                .try_for_each(|(path, hashed)| w.set_hashed(path, hashed))?;
            w.set_chunks(&chunks)?;
            damaged
                .iter()
                .try_for_each(|(path, print)| w.set_damaged(path, print))
        })?;
        self.damaged.extend(damaged);
        Ok(())
    }

    fn plan(&self, workspace: &Workspace, info: &Info) -> Plan<Seen, Version> {
        let disks = Disks {
            local: *workspace.disk(),
            remote: Disk::drive(info.holds),
        };
        let local = self.local_tree();
        let plan = reconcile(&self.baseline, local, &self.remote_tree);
        check_plan(find_moves(plan, &disks), local, &self.remote_tree, &disks)
    }

    fn apply(
        &mut self,
        mut plan: Plan<Seen, Version>,
        lap: &mut Lap<'_, '_>,
    ) -> Result<(), SyncError> {
        self.adopt(&plan.adopt, lap.workspace)?;
        let followed = self.push(plan.push, lap)?;
        if !followed && self.remote.knows_hashes() {
            self.remember_reached()?;
        }
        self.move_aside(&plan.asides, lap)?;
        self.keep(&mut plan.pull, lap)?;
        self.pull(plan.pull, lap)
    }

    pub(crate) fn local_error(&self, source: io::Error) -> SyncError {
        SyncError::Local {
            path: self.folder.clone(),
            source,
        }
    }
}

/// What is left of what was confirmed.
fn less(allowed: usize, done: u64) -> usize {
    allowed.saturating_sub(usize::try_from(done).unwrap_or(usize::MAX))
}

/// Puts an entry into a tree; a folder keeps what is in it.
pub(crate) fn set<T>(tree: &mut Folder<T>, path: &RelPath, entry: &Entry, tag: T) {
    if let (Entry::Folder, Some(Node::Folder(_, old))) = (entry, tree.get_mut(path)) {
        *old = tag;
        return;
    }
    // Where the parent isn't there, the entry is below something ignored.
    drop(tree.insert(path, Node::new(entry.clone(), tag)));
}
