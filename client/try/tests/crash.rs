//! Killed in the middle of anything, nothing is lost.

mod common;

use common::{Home, Round, contents, home, names, noise, put, users_names, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use raspbox_protocol::Digest;
use raspbox_try::bed::Workstation;
use raspbox_try::tree;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Client,
    Daemon,
    /// The daemon, which is there again at once, so that the client finds it.
    DaemonForAMoment,
}

const ALL: [Victim; 3] = [Victim::Client, Victim::Daemon, Victim::DaemonForAMoment];

/// A sync that is under way.
struct UnderWay {
    child: Child,
}

impl UnderWay {
    fn begin(station: &Workstation) -> UnderWay {
        let mut command = station.command(&["sync", "--json", "--confirm-deletions"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        UnderWay {
            child: command.spawn().expect("a client"),
        }
    }

    fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_some()
    }

    fn end(self) -> Round {
        Round::of(&self.child.wait_with_output().expect("its output"))
    }
}

/// Begins a sync, kills when `reached` says so, starts again what was killed. Returns whether the
/// sync had not ended before.
fn interrupt(
    home: &mut Home,
    station: &Workstation,
    victim: Victim,
    reached: &dyn Fn(&Home) -> bool,
) -> bool {
    let mut sync = UnderWay::begin(station);
    let mut over = false;
    wait("the moment to kill", || {
        over = sync.is_over();
        over || reached(home)
    });
    let in_the_middle = !over;
    match victim {
        Victim::Client => {
            drop(sync.child.kill());
            sync.end();
        }
        Victim::Daemon => {
            home.appliance.kill().expect("killed");
            let round = sync.end();
            if in_the_middle {
                assert_ne!(round.code, 101, "the client panicked: {}", round.stderr);
            }
            home.appliance.restart().expect("started");
        }
        Victim::DaemonForAMoment => {
            home.appliance.kill().expect("killed");
            home.appliance.restart().expect("started");
            let round = sync.end();
            assert_ne!(round.code, 101, "the client panicked: {}", round.stderr);
        }
    }
    in_the_middle
}

/// Looks while the appliance stands still: it goes on for a while with what a killed client had
/// sent whole.
fn frozen<T>(home: &Home, look: impl FnOnce() -> T) -> T {
    let pid = Pid::from_raw(home.appliance.pid().try_into().expect("a process id"));
    kill(pid, Signal::SIGSTOP).expect("frozen");
    let seen = look();
    kill(pid, Signal::SIGCONT).expect("going on");
    seen
}

/// Everything with a content anywhere in the home: both trees, and what the appliance keeps of
/// former times, or has in its hands just now.
fn everything(home: &Home, stations: [&Workstation; 2]) -> BTreeSet<Digest> {
    frozen(home, || {
        let folders = stations.map(|station| station.folder.clone());
        let own = ["versions", "staging"].map(|name| home.own(name));
        let all = folders
            .iter()
            .chain(&own)
            .chain([&home.drive()])
            .map(|root| contents(root))
            .collect::<Vec<_>>();
        all.into_iter().flatten().collect()
    })
}

/// What users see below a folder is all whole.
#[track_caller]
fn only_whole(home: &Home, root: &Path, known: &BTreeSet<Digest>) {
    for (path, entry) in frozen(home, || tree::read(root).expect("a tree")) {
        if let tree::Entry::File(size, _, _, digest) = entry {
            assert!(
                known.contains(&digest),
                "{} is truncated or mixed: {size} bytes",
                path.display()
            );
        }
    }
}

fn digests<'a>(all: impl IntoIterator<Item = &'a Vec<u8>>) -> BTreeSet<Digest> {
    all.into_iter().map(|content| Digest::of(content)).collect()
}

/// How many entries there are in two folders, staging included: what has come so far.
fn come(root: &Path, folder: &str) -> usize {
    users_names(&root.join(folder)).len()
}

fn small_files(count: usize) -> BTreeMap<PathBuf, Vec<u8>> {
    let name = |n: usize| PathBuf::from(format!("many/{n:04}.txt"));
    (0..count)
        .map(|n| (name(n), format!("the content of file {n}").into_bytes()))
        .collect()
}

fn write_all(root: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    for (path, content) in files {
        put(root, path.to_str().expect("UTF-8"), content);
    }
}

/// What a scenario made of the moments that it was interrupted at.
#[derive(Default)]
struct Moments {
    middle: usize,
    all: usize,
}

impl Moments {
    fn note(&mut self, in_the_middle: bool) {
        self.all += 1;
        self.middle += usize::from(in_the_middle);
    }

    /// A test that never kills in the middle tests nothing.
    #[track_caller]
    fn check(&self) {
        assert!(
            self.middle * 2 >= self.all,
            "only {} of {} kills were in time",
            self.middle,
            self.all
        );
    }
}

const SMALL: usize = 2_000;

#[test]
fn a_first_upload_of_two_thousand_files_is_finished_later() {
    let files = small_files(SMALL);
    let known = digests(files.values());
    let mut moments = Moments::default();
    for (victim, after) in ALL
        .into_iter()
        .zip([1, 700, 1_300])
        .chain([(Victim::Client, 1_001)])
    {
        let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
        write_all(&laptop.folder, &files);
        moments.note(interrupt(&mut home, &laptop, victim, &|home| {
            come(&home.drive(), "many") + names(&home.own("staging")).len() >= after
        }));
        only_whole(&home, &home.drive(), &known);
        home.settle(&[&laptop, &desktop]);
        // Not one more: no conflict was made, nothing came twice.
        assert_eq!(
            users_names(&desktop.folder),
            ["many"],
            "{victim:?} after {after}"
        );
        assert_eq!(
            come(&desktop.folder, "many"),
            SMALL,
            "{victim:?} after {after}"
        );
        only_whole(&home, &desktop.folder, &known);
    }
    moments.check();
}

#[test]
fn a_download_of_two_thousand_files_is_finished_later() {
    const PLACING: Victim = Victim::Client;
    let files = small_files(SMALL);
    let known = digests(files.values());
    let mut moments = Moments::default();
    let (mut home, [laptop, first]) = home(["laptop", "first"]);
    write_all(&laptop.folder, &files);
    home.settle(&[&laptop, &first]);
    for (round, (victim, after)) in ALL
        .into_iter()
        .zip([500, 1, 1_200])
        // Those have come and have no name yet; these get theirs just now.
        .chain([(Victim::Client, 1_001), (PLACING, 1), (PLACING, 300)])
        .enumerate()
    {
        let desktop = home.paired(&format!("desktop {round}"));
        let folder = desktop.folder.clone();
        let placing = round >= 4;
        moments.note(interrupt(&mut home, &desktop, victim, &|_| {
            let staged = || names(&folder.join(".raspbox/staging")).len();
            come(&folder, "many") + if placing { 0 } else { staged() } >= after
        }));
        only_whole(&home, &desktop.folder, &known);
        home.settle(&[&desktop, &laptop]);
        assert_eq!(
            users_names(&desktop.folder),
            ["many"],
            "{victim:?} after {after}"
        );
        assert_eq!(
            come(&desktop.folder, "many"),
            SMALL,
            "{victim:?} after {after}"
        );
    }
    moments.check();
}

#[test]
fn what_a_crash_left_out_of_sight_is_found_where_nobody_else_has_it() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "a", "known");
    home.settle(&[&laptop, &desktop]);
    // As if killed between giving a new content its name and looking at what it displaced.
    let staging = desktop.folder.join(".raspbox/staging");
    put(&staging, "0.old", "an edit that nobody else has");
    put(&staging, "1.new", "another");
    put(&staging, "2.old", "known");
    put(&staging, "3.part", "half of somet");
    let round = common::round(&desktop);
    assert!(round.code <= 1, "{round:#?}");
    home.settle(&[&desktop, &laptop]);
    let found: Vec<String> = users_names(&laptop.folder);
    assert_eq!(found.len(), 3, "{found:?}");
    let all = contents(&laptop.folder);
    for content in ["an edit that nobody else has", "another", "known"] {
        assert!(all.contains(&Digest::of(content.as_bytes())), "{content}");
    }
}

/// The largest file in a folder, in bytes.
fn largest(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .max()
        .unwrap_or(0)
}

#[test]
fn a_large_file_up_and_down_is_there_whole_or_not_at_all() {
    const LEN: usize = 200 << 20;
    let (old, new) = (noise(1, 1 << 20), noise(2, LEN));
    let known = digests([&old, &new]);
    let mut moments = Moments::default();
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "large", &old);
    home.settle(&[&laptop, &desktop]);
    put(&laptop.folder, "large", &new);
    for (victim, percent) in [
        (Victim::Client, 10),
        (Victim::Daemon, 50),
        (Victim::Client, 90),
    ] {
        let enough = (LEN / 100 * percent) as u64;
        moments.note(interrupt(&mut home, &laptop, victim, &|home| {
            largest(&home.own("staging")) >= enough
        }));
        only_whole(&home, &home.drive(), &known);
    }
    for (victim, percent) in [
        (Victim::Client, 10),
        (Victim::Daemon, 50),
        (Victim::DaemonForAMoment, 80),
    ] {
        common::synced(&laptop);
        let enough = (LEN / 100 * percent) as u64;
        let staging = desktop.folder.join(".raspbox/staging");
        moments.note(interrupt(&mut home, &desktop, victim, &|_| {
            largest(&staging) >= enough
        }));
        only_whole(&home, &desktop.folder, &known);
    }
    home.settle(&[&desktop, &laptop]);
    assert!(fs::read(desktop.folder.join("large")).expect("there") == new);
    assert_eq!(users_names(&desktop.folder), ["large"]);
    assert!(
        contents(&home.own("versions")).contains(&Digest::of(&old)),
        "what was replaced is kept"
    );
    moments.check();
}

#[test]
fn a_mass_rename_ends_with_everything_under_its_new_name() {
    let files = small_files(SMALL);
    let known = digests(files.values());
    let mut moments = Moments::default();
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    write_all(&laptop.folder, &files);
    home.settle(&[&laptop, &desktop]);
    let mut from = "many".to_owned();
    for (round, (victim, after)) in ALL.into_iter().zip([300, 1, 1_200]).enumerate() {
        // File by file, to other names in another folder: no folder moves as a whole.
        let to = format!("other {round}");
        fs::create_dir(laptop.folder.join(&to)).expect("folder");
        for name in names(&laptop.folder.join(&from)) {
            let new = laptop.folder.join(&to).join(format!("{round}{name}"));
            fs::rename(laptop.folder.join(&from).join(&name), new).expect("rename");
        }
        moments.note(interrupt(&mut home, &laptop, victim, &|home| {
            come(&home.drive(), &to) >= after
        }));
        assert_eq!(everything(&home, [&laptop, &desktop]), known);
        common::synced(&laptop);
        moments.note(interrupt(&mut home, &desktop, victim, &|_| {
            come(&desktop.folder, &to) >= after
        }));
        assert_eq!(everything(&home, [&laptop, &desktop]), known);
        home.settle(&[&laptop, &desktop]);
        assert_eq!(
            come(&desktop.folder, &to),
            SMALL,
            "{victim:?} after {after}"
        );
        fs::remove_dir(laptop.folder.join(&from)).expect("it is empty");
        home.settle(&[&laptop, &desktop]);
        assert_eq!(
            users_names(&desktop.folder),
            [&*to],
            "{victim:?} after {after}"
        );
        from = to;
    }
    moments.check();
}

#[test]
fn a_mass_delete_deletes_what_was_deleted_and_nothing_else() {
    let files = small_files(SMALL);
    let known = digests(files.values());
    let mut moments = Moments::default();
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "many/kept", "kept");
    put(&laptop.folder, "kept", "kept");
    for (victim, left) in ALL.into_iter().zip([1_900, 1_000, 500]) {
        write_all(&laptop.folder, &files);
        home.settle(&[&laptop, &desktop]);
        for path in files.keys() {
            fs::remove_file(laptop.folder.join(path)).expect("remove");
        }
        moments.note(interrupt(&mut home, &laptop, victim, &|home| {
            come(&home.drive(), "many") <= left
        }));
        let left_now = everything(&home, [&laptop, &desktop]);
        assert!(
            known.is_subset(&left_now),
            "{victim:?}: deleted files are kept as versions"
        );
        assert_eq!(
            common::round_with(&laptop, &["--confirm-deletions"]).code,
            0
        );
        moments.note(interrupt(&mut home, &desktop, victim, &|_| {
            come(&desktop.folder, "many") <= left
        }));
        assert_eq!(
            common::round_with(&desktop, &["--confirm-deletions"]).code,
            0
        );
        home.settle(&[&laptop, &desktop]);
        assert_eq!(
            users_names(&desktop.folder),
            ["kept", "many"],
            "{victim:?} with {left} left"
        );
        assert_eq!(
            names(&desktop.folder.join("many")),
            ["kept"],
            "{victim:?} with {left} left"
        );
        assert!(known.is_subset(&contents(&home.own("versions"))));
    }
    moments.check();
}

#[test]
fn a_round_of_conflicts_keeps_both_sides_of_each() {
    const COUNT: usize = 300;
    let mut moments = Moments::default();
    let edit =
        |by: &str, round: usize, n: usize| format!("{by}'s edit {round} of {n}").into_bytes();
    for (round, (victim, after)) in ALL
        .into_iter()
        .zip([100, 1, 250])
        .chain([(Victim::Client, 1)])
        .enumerate()
    {
        let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
        write_all(&laptop.folder, &small_files(COUNT));
        home.settle(&[&laptop, &desktop]);
        let mut edits = BTreeSet::new();
        for n in 0..COUNT {
            for station in [&laptop, &desktop] {
                let content = edit(&station.name, round, n);
                edits.insert(Digest::of(&content));
                put(&station.folder, &format!("many/{n:04}.txt"), content);
            }
        }
        assert_eq!(common::round_with(&laptop, &["--confirm-changes"]).code, 0);
        let folder = desktop.folder.join("many");
        // Moved aside so far, and coming down.
        let so_far = || {
            let aside = names(&folder)
                .iter()
                .filter(|name| name.contains("(conflict "))
                .count();
            let staged = names(&desktop.folder.join(".raspbox/staging")).len();
            if round == 3 { staged } else { aside }
        };
        moments.note(interrupt(&mut home, &desktop, victim, &|_| {
            so_far() >= after
        }));
        let left = everything(&home, [&laptop, &desktop]);
        assert!(edits.is_subset(&left), "{victim:?} after {after}");
        // Whatever was moved aside is not taken for a deletion.
        home.settle(&[&desktop, &laptop]);
        let end = contents(&laptop.folder);
        assert!(
            edits.is_subset(&end),
            "{victim:?} after {after}: {} of {}",
            end.len(),
            edits.len()
        );
        assert_eq!(
            come(&laptop.folder, "many"),
            2 * COUNT,
            "{victim:?} after {after}: each once"
        );
    }
    moments.check();
}
