//! Whether the other side's filesystem can hold a name or an entry.

use crate::plan::{Action, Plan, Problem, Trouble};
use crate::tree::Folder;
use raspbox_protocol::info::Holds;
use raspbox_protocol::{Entry, RelPath};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use unicode_normalization::UnicodeNormalization;

/// What can't be in a name on FAT, exFAT or NTFS, besides `/` and control characters.
pub(super) const DOS_FORBIDDEN: &str = "\"*:<>?\\|";

/// Names that are devices to Windows, with any extension.
const DOS_DEVICES: [&str; 22] = [
    "CON", "PRN", "AUX", "NUL", "COM1", "COM2", "COM3", "COM4", "COM5", "COM6", "COM7", "COM8",
    "COM9", "LPT1", "LPT2", "LPT3", "LPT4", "LPT5", "LPT6", "LPT7", "LPT8", "LPT9",
];

/// Whether the other side can hold this entry at this path.
///
/// # Errors
/// Why not, for a person.
pub fn check(path: &RelPath, entry: &Entry, holds: &Holds) -> Result<(), String> {
    if holds.dos_names {
        path.names().try_for_each(check_dos_name)?;
    }
    match entry {
        Entry::Symlink(_) if !holds.symlinks => Err("the drive can't hold symlinks".to_owned()),
        Entry::File(file) if file.size > holds.file_max_bytes => Err(format!(
            "it has {} bytes, and the drive can't hold files of more than {}",
            file.size, holds.file_max_bytes
        )),
        Entry::File(_) | Entry::Folder | Entry::Symlink(_) => Ok(()),
    }
}

/// The names within one folder that would be one name on the other side, in groups of two or more:
/// those that differ in case only (unless the other side tells them apart), or in how their
/// characters are put together (NFC and NFD, which look the same).
pub fn clashes<'a>(
    names: impl IntoIterator<Item = &'a str>,
    case_sensitive: bool,
) -> Vec<Vec<&'a str>> {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in names {
        groups
            .entry(folded(name, case_sensitive))
            .or_default()
            .push(name);
    }
    groups
        .into_values()
        .filter(|group| group.len() > 1)
        .collect()
}

/// Takes out of a plan what the remote side can't hold, and says it as problems.
///
/// A folder goes with everything below it, as one problem. What would have made way for it stays:
/// nothing is deleted on the remote side for the sake of something that can't come.
#[must_use]
pub fn check_plan<L, R>(
    mut plan: Plan<L, R>,
    local: &Folder<L>,
    remote: &Folder<R>,
    holds: &Holds,
) -> Plan<L, R> {
    let mut refused: BTreeMap<RelPath, String> = BTreeMap::new();
    for action in &plan.push {
        let what = match action {
            Action::Put { path, entry, .. } => Some((path, entry)),
            Action::Move { to, entry, .. } => Some((to, entry)),
            Action::SetMeta { .. } | Action::Delete { .. } => None,
        };
        if let Some((path, entry)) = what
            && let Err(why) = check(path, entry, holds)
        {
            refused.insert(path.clone(), why);
        }
    }
    for (path, why) in clashing(&plan, local, remote, holds) {
        refused.entry(path).or_insert(why);
    }
    let mut stays = BTreeSet::new();
    // What stays may be in the way of something else, which then can't come either.
    while !refused.is_empty() {
        let before = plan.push.len();
        plan.push
            .retain(|action| is_possible(action, &mut refused, &mut stays));
        if plan.push.len() == before {
            break;
        }
    }
    let mut told: Option<RelPath> = None;
    for (path, why) in refused {
        // In the order of paths a folder comes directly before what is in it.
        if told.as_ref().is_some_and(|folder| path.is_in(folder)) {
            continue;
        }
        told = Some(path.clone());
        plan.problems.push(Problem {
            path,
            what: Trouble::CannotHold(why),
        });
    }
    plan
}

/// Whether an action doesn't depend on what was refused; if it does, what follows from that.
///
/// `stays` are remote paths that must not be deleted, for what is at or below them stays.
fn is_possible<L, R>(
    action: &Action<L, R>,
    refused: &mut BTreeMap<RelPath, String>,
    stays: &mut BTreeSet<RelPath>,
) -> bool {
    match action {
        Action::Put {
            path,
            replaces: None,
            ..
        } if stays.contains(path) => {
            refused
                .entry(path.clone())
                .or_insert_with(|| "what is there on the drive can't go away yet".to_owned());
            false
        }
        Action::Put { path, .. } => !is_refused(path, refused),
        Action::SetMeta { .. } => true,
        Action::Delete { path, .. } => {
            let needed = stays.contains(path) || is_refused(path, refused);
            if needed {
                stay(path, stays);
            }
            !needed
        }
        Action::Move { from, to, .. } => {
            let refused = is_refused(to, refused);
            if refused {
                stay(from, stays);
            }
            !refused
        }
    }
}

/// Whether a path, or a folder that it is in, was refused.
fn is_refused(path: &RelPath, refused: &BTreeMap<RelPath, String>) -> bool {
    let mut at = Some(path.clone());
    while let Some(path) = at {
        if refused.contains_key(&path) {
            return true;
        }
        at = path.parent();
    }
    false
}

/// A path stays, and with it every folder that it is in.
fn stay(path: &RelPath, stays: &mut BTreeSet<RelPath>) {
    let mut at = Some(path.clone());
    while let Some(path) = at {
        at = path.parent();
        stays.insert(path);
    }
}

/// The new names that would be one with another, and why.
///
/// A name counts that either side has, or that comes with the plan. What the plan takes away
/// doesn't count, except for moves, which are made before deletes: such a move goes through the
/// next time.
fn clashing<L, R>(
    plan: &Plan<L, R>,
    local: &Folder<L>,
    remote: &Folder<R>,
    holds: &Holds,
) -> Vec<(RelPath, String)> {
    let mut clashing = Vec::new();
    let leaving_local = leaving(&plan.pull);
    let leaving_remote = leaving(&plan.push);
    for (parent, new) in coming(&plan.push) {
        let child = |name: &str| RelPath::child(parent.as_ref(), name).ok();
        let leaves = |name, of: &BTreeSet<RelPath>| child(name).is_some_and(|p| of.contains(&p));
        // By what is one name on the other side: the names, and whether each of them goes away.
        let mut alike: HashMap<String, BTreeMap<&str, bool>> = HashMap::new();
        let mut count = |name, leaves| {
            let key = folded(name, holds.case_sensitive);
            *alike.entry(key).or_default().entry(name).or_insert(leaves) &= leaves;
        };
        for name in names_in(remote, parent.as_ref()) {
            count(name, leaves(name, &leaving_remote));
        }
        for name in names_in(local, parent.as_ref()) {
            if !leaves(name, &leaving_local) {
                count(name, false);
            }
        }
        for (path, _) in &new {
            count(path.name(), false);
        }
        for (path, from) in new {
            let others = &alike[&folded(path.name(), holds.case_sensitive)];
            let other = others.iter().find(|&(&name, &leaves)| {
                name != path.name()
                    && match from {
                        None => !leaves,
                        // A move from `a` to `A` doesn't clash with itself.
                        Some(from) => child(name).as_ref() != Some(from),
                    }
            });
            if let Some((other, _)) = other {
                clashing.push((path.clone(), clash_message(path.name(), other)));
            }
        }
    }
    clashing
}

/// What an action list takes away from its place.
fn leaving<Here, There>(actions: &[Action<Here, There>]) -> BTreeSet<RelPath> {
    let leaving = actions.iter().filter_map(|action| match action {
        Action::Delete { path, .. } => Some(path.clone()),
        Action::Move { from, .. } => Some(from.clone()),
        Action::Put { .. } | Action::SetMeta { .. } => None,
    });
    leaving.collect()
}

/// The new names of an action list by folder, each with where it moves from, if it moves.
type Coming<'a> = BTreeMap<Option<RelPath>, Vec<(&'a RelPath, Option<&'a RelPath>)>>;

fn coming<Here, There>(actions: &[Action<Here, There>]) -> Coming<'_> {
    let mut coming = Coming::new();
    for action in actions {
        let new = match action {
            Action::Put {
                path,
                replaces: None,
                ..
            } => (path, None),
            Action::Move { from, to, .. } => (to, Some(from)),
            Action::Put {
                replaces: Some(_), ..
            }
            | Action::SetMeta { .. }
            | Action::Delete { .. } => continue,
        };
        coming.entry(new.0.parent()).or_default().push(new);
    }
    coming
}

fn clash_message(name: &str, other: &str) -> String {
    let how = if name.nfc().eq(other.nfc()) {
        "that looks the same and is written with other characters"
    } else {
        "that differs in upper and lower case only"
    };
    format!("beside it is '{other}', {how}; rename one of them")
}

fn names_in<'a, T>(
    top: &'a Folder<T>,
    path: Option<&RelPath>,
) -> impl Iterator<Item = &'a str> + use<'a, T> {
    let folder = match path {
        None => Some(top),
        Some(path) => top.get(path).and_then(|node| node.folder()),
    };
    folder
        .into_iter()
        .flat_map(|folder| folder.children.keys().map(|name| &**name))
}

fn check_dos_name(name: &str) -> Result<(), String> {
    let of = |text: String| Err(format!("the drive can't hold the name '{name}': {text}"));
    if let Some(c) = name.chars().find(|&c| DOS_FORBIDDEN.contains(c)) {
        return of(format!("it contains '{c}'"));
    }
    if name.ends_with('.') {
        return of("it ends with a dot".to_owned());
    }
    if name.ends_with(' ') {
        return of("it ends with a space".to_owned());
    }
    let stem = name.split('.').next().unwrap_or(name).trim_end();
    let device = DOS_DEVICES.iter().find(|d| d.eq_ignore_ascii_case(stem));
    match device {
        Some(device) => of(format!("{device} is a device to Windows")),
        None => Ok(()),
    }
}

/// A text that is the same for names that the other side takes for one.
fn folded(name: &str, case_sensitive: bool) -> String {
    if case_sensitive {
        name.nfc().collect()
    } else {
        // Decomposed first, so that case is folded letter by letter, accents apart.
        name.nfd().map(fold).collect::<String>().nfc().collect()
    }
}

/// Up and down again, character by character, as exFAT and NTFS do with their table: `ς` and `σ`
/// are one, `ß` and `ss` are not.
fn fold(c: char) -> char {
    let mut upper = c.to_uppercase();
    let up = match (upper.next(), upper.next()) {
        (Some(up), None) => up,
        (Some(_), Some(_)) | (None, _) => c,
    };
    let mut lower = up.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(low), None) => low,
        (Some(_), Some(_)) | (None, _) => up,
    }
}
