//! Showing a person, or a script, what happens.

use crate::report::{Deed, Event, Summary};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use raspbox_core::plan::{Action, Plan, Problem, Trouble};
use raspbox_core::tree::Unknown;
use raspbox_protocol::{Entry, RelPath, Version};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

/// More than this many changes are not shown one by one.
const LINES_MAX: usize = 50;

/// Where there is no terminal to draw a bar on, a line this often.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Shows the rounds of one folder on a terminal, or as plain lines elsewhere.
#[derive(Debug)]
pub struct Display {
    /// Put before each line, where several folders are shown at once.
    label: String,
    bar: Option<ProgressBar>,
    terminal: bool,
    one_by_one: bool,
    total_bytes: u64,
    moved_bytes: u64,
    files: usize,
    last_line: Instant,
    /// Whether to show anything but troubles.
    quiet: bool,
    /// What was in trouble in the last round, and what is in this one: neither is said twice.
    troubles: [BTreeSet<String>; 2],
}

impl Display {
    /// A display for one folder.
    #[must_use]
    pub fn new(label: &str, quiet: bool) -> Display {
        Display {
            label: if label.is_empty() {
                String::new()
            } else {
                format!("{label}: ")
            },
            bar: None,
            terminal: std::io::stdout().is_terminal() && !quiet,
            one_by_one: true,
            total_bytes: 0,
            moved_bytes: 0,
            files: 0,
            last_line: Instant::now(),
            quiet,
            troubles: Default::default(),
        }
    }

    /// Shows one fact.
    pub fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Reading(path, size) => self.reading(path, *size),
            Event::Planned(plan) => self.planned(&plan.push, &plan.pull),
            Event::Sent(bytes) | Event::Spared(bytes) | Event::Received(bytes) => {
                self.advance(*bytes);
            }
            Event::Did(deed, path) if self.one_by_one => {
                let verb = match deed {
                    Deed::Pushed => "sent",
                    Deed::PushedDelete => "deleted there",
                    Deed::PushedMove => "moved there",
                    Deed::Kept => "kept there as a version",
                    Deed::Pulled => "received",
                    Deed::PulledDelete => "deleted here",
                    Deed::PulledMove => "moved here",
                };
                self.line(&format!("{verb} {path}"));
            }
            Event::Did(..) => {}
            Event::Conflict(path, copy) => {
                self.line(&format!(
                    "conflict {path}: both sides changed it. Yours is now {copy}"
                ));
            }
            Event::Trouble(problem) => self.trouble(describe(problem)),
            Event::NewJournal => {
                self.line("the appliance's journal is new: comparing everything, deleting nothing");
            }
            Event::Recovered(path) => {
                self.line(&format!("found after a crash: {path}"));
            }
        }
    }

    /// Ends what is shown of a round.
    pub fn round_over(&mut self) {
        self.end_bar();
        let [last, this] = &mut self.troubles;
        *last = std::mem::take(this);
    }

    fn end_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Prints a line, above the bar where there is one.
    pub fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        match &self.bar {
            Some(bar) => bar.println(format!("{}{text}", self.label)),
            None => println!("{}{text}", self.label),
        }
    }

    fn trouble(&mut self, text: String) {
        let [last, this] = &mut self.troubles;
        if this.contains(&text) {
            return;
        }
        if !last.contains(&text) {
            match &self.bar {
                Some(bar) => bar.suspend(|| eprintln!("{}{text}", self.label)),
                None => eprintln!("{}{text}", self.label),
            }
        }
        this.insert(text);
    }

    fn reading(&mut self, path: &RelPath, size: u64) {
        self.files += 1;
        if self.terminal && size > 0 {
            let (files, bar) = (self.files, self.bar.get_or_insert_with(spinner));
            bar.set_message(format!("{}reading, {files} files: {path}", self.label));
            bar.tick();
        }
    }

    fn planned<L, R>(&mut self, push: &[Action<L, R>], pull: &[Action<R, L>]) {
        self.end_bar();
        self.files = 0;
        self.moved_bytes = 0;
        self.total_bytes = content_bytes(push) + content_bytes(pull);
        self.one_by_one = push.len() + pull.len() <= LINES_MAX;
        if self.one_by_one {
            return;
        }
        self.line(&format!(
            "{} changes to send, {} to receive, {}",
            push.len(),
            pull.len(),
            human_bytes(self.total_bytes)
        ));
        if self.terminal && self.total_bytes > 0 {
            let bar = ProgressBar::with_draw_target(
                Some(self.total_bytes),
                ProgressDrawTarget::stdout_with_hz(8),
            );
            let style = "{prefix}{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            bar.set_style(ProgressStyle::with_template(style).expect("a good template"));
            bar.set_prefix(self.label.clone());
            self.bar = Some(bar);
        }
        self.last_line = Instant::now();
    }

    fn advance(&mut self, bytes: u64) {
        self.moved_bytes += bytes;
        if let Some(bar) = &self.bar {
            bar.set_position(self.moved_bytes);
        } else if !self.one_by_one && self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            let (moved, total) = (self.moved_bytes, self.total_bytes);
            let percent = (moved * 100).checked_div(total).unwrap_or(100);
            self.line(&format!("{percent} % of {}", human_bytes(total)));
        }
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_draw_target(ProgressDrawTarget::stdout_with_hz(8));
    bar
}

/// What a round came to, in a line.
#[must_use]
pub fn conclusion(folder: &Path, summary: &Summary) -> String {
    let mut parts = Vec::new();
    let mut part = |count: u64, what: &str| {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    };
    if summary.spared_bytes > 0 {
        let spared = human_bytes(summary.spared_bytes);
        part(
            summary.pushed,
            &format!("sent but for {spared} that were there"),
        );
    } else {
        part(summary.pushed, "sent");
    }
    part(summary.pulled, "received");
    part(summary.moved, "moved");
    part(summary.deleted, "deleted");
    part(summary.conflicts.len() as u64, "in conflict");
    let done = if parts.is_empty() {
        "nothing to do".to_owned()
    } else {
        parts.join(", ")
    };
    let left = summary.problems.len() + summary.unsyncable.len();
    match left {
        0 if summary.conflicts.is_empty() => format!("{}: in sync ({done})", folder.display()),
        0 => format!("{}: in sync but for conflicts ({done})", folder.display()),
        _ => format!("{}: {left} left with problems ({done})", folder.display()),
    }
}

/// A problem as a person should read it: which path, what, what to do.
#[must_use]
pub fn describe(problem: &Problem) -> String {
    let path = &problem.path;
    let unknown = |unknown: &Unknown| match unknown {
        Unknown::Unreadable(why) => format!("cannot be read ({why}). Left as it is on both sides"),
        Unknown::Busy => "is being written. It follows when it is quiet".to_owned(),
        Unknown::Damaged => "is damaged: its content changed though nobody wrote to it. It goes \
             nowhere. Run: raspbox verify --repair"
            .to_owned(),
        Unknown::Special => "is a socket, pipe or device, and stays here".to_owned(),
        Unknown::Unsyncable(why) => format!("can't be synced: {why}"),
    };
    match &problem.what {
        Trouble::Local(what) => format!("{path} {}", unknown(what)),
        Trouble::Remote(what) => format!("{path} on the other side {}", unknown(what)),
        Trouble::HoldsUnsynced => format!(
            "{path} was deleted on the other side, but holds ignored files here. Delete it when you \
             don't need them"
        ),
        Trouble::CannotHold(why) => format!("{path} can't be synced: {why}"),
        Trouble::Failed(why) => format!("{path}: {why}"),
    }
}

/// Prints what would be done, a line each.
pub fn print_plan<L>(plan: &Plan<L, Version>) {
    for aside in &plan.asides {
        println!("conflict      {}", aside.path);
    }
    print_actions("send", "there", &plan.push);
    print_actions("receive", "here", &plan.pull);
}

fn print_actions<H, T>(put: &str, place: &str, actions: &[Action<H, T>]) {
    for action in actions {
        match action {
            Action::Put {
                path,
                entry: Entry::Folder,
                ..
            } => {
                println!("{:<13} {path}/", format!("make {place}"));
            }
            Action::Put { path, .. } | Action::SetMeta { path, .. } => println!("{put:<13} {path}"),
            Action::Delete { path, .. } => println!("{:<13} {path}", format!("delete {place}")),
            Action::Move { from, to, .. } => {
                println!("{:<13} {from} -> {to}", format!("move {place}"));
            }
        }
    }
}

/// A number of bytes as people read it.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

fn content_bytes<H, T>(actions: &[Action<H, T>]) -> u64 {
    actions
        .iter()
        .map(|action| match action {
            Action::Put {
                entry: Entry::File(file),
                ..
            } => file.size,
            Action::Put { .. } | Action::SetMeta { .. } | Action::Delete { .. } => 0,
            Action::Move { .. } => 0,
        })
        .sum()
}
