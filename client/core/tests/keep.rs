//! What a plan takes away here, and what is done where that must stay.

use raspbox_core::keep::{displaced, hold_back};
use raspbox_core::names::{Accents, Disk, Disks};
use raspbox_core::plan::Action;
use raspbox_core::reconcile::reconcile;
use raspbox_core::renames::find_moves;
use raspbox_core::tree::{Folder, Node};
use raspbox_protocol::info::Holds;
use raspbox_protocol::{Digest, Entry, File, LinkTarget, Mtime, RelPath};
use std::collections::BTreeSet;
use std::time::Duration;

const DISK: Disk = Disk {
    called: "the drive",
    holds: Holds {
        case_sensitive: true,
        symlinks: true,
        dos_names: false,
        file_max_bytes: u64::MAX,
        granularity: Duration::from_nanos(1),
    },
    accents: Accents::Alike,
};

fn path(text: &str) -> RelPath {
    RelPath::parse(text).expect("a good path")
}

/// A tree from a text such as `a=x b=x* d/ d/l>t`; `*` is the executable bit.
fn tree(text: &str) -> Folder<()> {
    let mut tree = Folder::default();
    for word in text.split_whitespace() {
        let (name, entry) = if let Some(name) = word.strip_suffix('/') {
            (name, Entry::Folder)
        } else if let Some((name, target)) = word.split_once('>') {
            let target = LinkTarget::parse(target).expect("a good target");
            (name, Entry::Symlink(target))
        } else {
            let (name, content) = word.split_once('=').expect("a file");
            let (content, executable) = match content.strip_suffix('*') {
                Some(content) => (content, true),
                None => (content, false),
            };
            let file = File {
                digest: Digest::of(content.as_bytes()),
                size: content.len() as u64,
                mtime: Mtime(0),
                executable,
            };
            (name, Entry::File(file))
        };
        let inserted = tree.insert(&path(name), Node::new(entry, ()));
        inserted.expect("folders come first");
    }
    tree
}

/// What is done here when the other side became `remote` and nothing changed here since `base`.
fn pulls(base: &str, remote: &str) -> (Folder<()>, Vec<Action<(), ()>>) {
    let (base, remote) = (tree(base), tree(remote));
    let disks = Disks {
        local: DISK,
        remote: DISK,
    };
    let plan = find_moves(reconcile(&base, &base, &remote), &disks);
    assert!(plan.push.is_empty() && plan.asides.is_empty());
    (base, plan.pull)
}

#[test]
fn what_is_taken_away() {
    let check = |name: &str, base: &str, remote: &str, expected: &str| {
        let (local, pull) = pulls(base, remote);
        let found = displaced(&pull, &local);
        let mut words: Vec<String> = (found.iter())
            .map(|(path, file)| {
                let all = ["x", "y", ""];
                let content = all.iter().find(|c| Digest::of(c.as_bytes()) == file.digest);
                format!("{path}={}", content.expect("a known content"))
            })
            .collect();
        words.sort();
        assert_eq!(words.join(" "), expected, "{name}");
    };
    check("nothing", "a=x", "a=x", "");
    check("something new", "a=x", "a=x b=y", "");
    check("replaced", "a=x b=y", "a=y b=y", "a=x");
    check("replaced by nothing at all", "a=x", "a=", "a=x");
    check("an empty one", "a=", "a=x", "a=");
    check("deleted", "a=x b=y", "b=y", "a=x");
    check("deleted with its folder", "d/ d/a=x", "", "d/a=x");
    check("only the bit", "a=x", "a=x*", "");
    check("moved", "a=x", "b=x", "");
    check("moved with its folder", "d/ d/a=x", "e/ e/a=x", "");
    check("one of two is moved", "a=x b=x", "c=x", "b=x");
    check("a symlink takes its place", "a=x", "a>t", "a=x");
    check("a folder takes its place", "a=x", "a/ a/b=y", "a=x");
    check(
        "a file takes a folder's place",
        "d/ d/a=x d/l>t",
        "d=y",
        "d/a=x",
    );
    check("symlinks and folders", "l>t d/", "l>u", "");
}

#[test]
fn what_waits_for_what_stays() {
    let check = |name: &str, base: &str, remote: &str, staying: &str, expected: &str| {
        let (_, mut pull) = pulls(base, remote);
        let staying: BTreeSet<RelPath> = staying.split_whitespace().map(path).collect();
        hold_back(&mut pull, &staying);
        let words = pull.iter().map(|action| match action {
            Action::Move { from, to, .. } => format!("{from}>{to}"),
            Action::Delete { path, .. } => format!("-{path}"),
            Action::Put {
                path,
                replaces: None,
                ..
            } => format!("+{path}"),
            Action::Put { path, .. } | Action::SetMeta { path, .. } => format!("~{path}"),
        });
        let left: Vec<String> = words.collect();
        assert_eq!(left.join(" "), expected, "{name}");
    };
    check("nothing stays", "a=x b=y", "a=y", "", "-b ~a");
    check("what replaces it", "a=x b=y", "a=y", "a", "-b");
    check("what deletes it", "a=x b=y", "a=y", "b", "~a");
    check(
        "the folder that it is in",
        "d/ d/a=x d/b=y",
        "",
        "d/a",
        "-d/b",
    );
    check("all that it is in", "d/ d/e/ d/e/a=x f/", "", "d/e/a", "-f");
    check(
        "what comes in its folder's place",
        "d/ d/a=x d/b=y",
        "d=y",
        "d/a",
        "-d/b",
    );
    check("what comes below it", "a=x", "a/ a/b=y c/", "a", "+c");
    check(
        "no others of the same beginning",
        "a=x ab=y",
        "",
        "a",
        "-ab",
    );
    check("moves go on", "a=x b=x", "c=x", "b", "a>c");
    check(
        "new things in its folder come",
        "d/ d/a=x",
        "d/ d/b=y",
        "d/a",
        "+d/b",
    );
}
